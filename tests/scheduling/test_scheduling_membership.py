"""Memberships of consortia: as resources, as a table, what an import changes, who is a partner."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from fhir_gateway.app import profile_resources
from fhir_gateway.cli.profiles_check import context_of, judged
from fhir_gateway.errors import Unprocessable
from fhir_gateway.fhir.profile_known import Known
from fhir_gateway.scheduling.membership import (
    Membership,
    affiliation_of,
    is_membership,
    membership_of,
    memberships_of,
)
from fhir_gateway.scheduling.membership_table import Plan, Reading, plan_import
from fhir_gateway.security.institution import Institution
from fhir_gateway.settings import load_settings
from fhir_gateway.terminology.area import load_areas
from fhir_gateway.terminology.sheet import read_sheet

SETTINGS = load_settings({})
AREAS = load_areas(SETTINGS.terminology)
TODAY = "2026-11-22"
ONE = Membership(
    "east", "东部医联体", "city-group", "first", "garden", "2026-01-01", "2028-12-31", "110105"
)
INSTITUTIONS = {
    "first": Institution(id="first", name="示范市第一医院"),
    "second": Institution(id="second", name="示范市第二医院", institution_code="119900A00002"),
    "garden": Institution(id="garden", name="示范花园社区卫生服务中心"),
    "twin-a": Institution(id="twin-a", name="同名卫生院"),
    "twin-b": Institution(id="twin-b", name="同名卫生院"),
}
HEADER = "consortium,name,kind,core,member,start,end,district,specialty"
ROW = "east,东部医联体,city-group,first,garden,2026-01-01,2028-12-31,110105,"


def read(*rows: str, header: str = HEADER) -> Reading:
    text = "\n".join((header, *rows))
    reading = Reading(read_sheet(text.encode(), "table.csv"), INSTITUTIONS, AREAS)
    reading.read()
    return reading


def planned(*rows: str, stored: tuple[Membership, ...] = ()) -> Plan:
    return plan_import(read(*rows), stored, TODAY)


def test_a_membership_is_the_same_after_it_was_a_resource() -> None:
    open_end = ONE._replace(end="", district="", specialty="卒中", active=False)
    for one in (ONE, open_end):
        assert membership_of(affiliation_of(one)) == one
    assert ONE.id == ONE._replace(end="", name="x").id != ONE._replace(core="second").id


def test_the_resource_conforms_to_its_profile() -> None:
    resources = list(profile_resources(SETTINGS.profiles))
    known = Known([one for one in resources if one["resourceType"] == "StructureDefinition"])
    context = context_of(SETTINGS, resources, known)[1]
    for one in (ONE, ONE._replace(end="", district="", specialty="卒中")):
        found = judged(affiliation_of(one), known, context)
        assert [issue for issue in found if issue.severity != "information"] == []


@pytest.mark.parametrize(
    "change",
    [
        {"network": []},
        {"network": [{"identifier": {"system": "urn:x", "value": "east"}}]},
        {"code": [{"text": "医联体"}]},
        {"period": {"end": "2026-01-01"}},
        {"organization": {"display": "示范市第一医院"}},
        {"participatingOrganization": {"reference": "https://h.example/Organization/1"}},
    ],
)
def test_what_does_not_say_all_of_it_is_no_membership(change: dict[str, Any]) -> None:
    affiliation = affiliation_of(ONE) | change
    assert membership_of(affiliation) is None
    assert is_membership(affiliation)
    assert not is_membership({"resourceType": "OrganizationAffiliation"})


def test_who_is_a_partner_of_whom_on_which_day() -> None:
    late = ONE._replace(consortium="west", core="second", start="2026-06-01", end="")
    gone = ONE._replace(consortium="north", active=False)
    found = memberships_of([late, ONE, gone])
    assert found.between("garden", "first", "2026-01-01") == [ONE]
    assert found.between("garden", "first", "2028-12-31") == [ONE]
    assert found.between("garden", "first", "2029-01-01") == []
    assert found.between("garden", "first", "2025-12-31") == []
    assert found.between("first", "garden", "2026-06-01") == []
    assert found.of("garden", "2026-06-01") == [ONE, late]
    assert found.of("nobody", "2026-06-01") == []


def test_a_table_names_institutions_by_id_name_or_code_and_days_in_chinese_spelling() -> None:
    header = "医联体编号,医联体名称,类别,核心医院,成员单位,起始日期"
    rows = ("e,东部,专科联盟,119900A00002,示范花园社区卫生服务中心,2026年1月5日",
            "e,东部,specialist-alliance,second,first,20260105")  # fmt: skip
    found = read(*rows, header=header).memberships
    assert [(one.core, one.member, one.start, one.kind) for one in found] == [
        ("second", "garden", "2026-01-05", "specialist-alliance"),
        ("second", "first", "2026-01-05", "specialist-alliance"),
    ]


@pytest.mark.parametrize(
    ("row", "column", "says"),
    [
        (ROW.replace("east,", ",", 1), "consortium", "must not be empty"),
        (ROW.replace("east,", "e st,", 1), "consortium", "up to 40 letters"),
        (ROW.replace("city-group", "club"), "kind", "club is none of city-group"),
        (ROW.replace("garden", "nobody"), "member", "fhir-gateway institution add"),
        (ROW.replace("garden", "同名卫生院"), "member", "twin-a, twin-b: say the id"),
        (ROW.replace("garden", "first"), "member", "its own consortium"),
        (ROW.replace("2026-01-01", "soon"), "start", "soon is no day"),
        (ROW.replace("2026-01-01", "2026-02-30"), "start", "2026-02-30 is no day"),
        (ROW.replace("2028-12-31", "2025-12-31"), "end", "lies before the start"),
        (ROW.replace("110105", "999999"), "district", "no area"),
        (ROW.replace("东部医联体", "名" * 101), "name", "more than 100"),
    ],
)
def test_a_fault_is_told_with_its_row_and_column(row: str, column: str, says: str) -> None:
    with pytest.raises(Unprocessable) as caught:
        read(ROW.replace("garden", "second"), row)
    (text,) = [one.diagnostics for one in caught.value.issues if "row 3" in one.diagnostics]
    assert f"({column})" in text
    assert says in text


def test_rows_that_disagree_are_refused_together() -> None:
    with pytest.raises(Unprocessable) as caught:
        read(
            ROW,
            ROW.replace("2028-12-31", ""),  # the same membership, another end
            ROW.replace("东部医联体", "西部医联体").replace("garden", "second"),
            ROW.replace("2026-01-01", "2027-01-01"),  # while the first one holds
        )
    texts = [one.diagnostics for one in caught.value.issues]
    assert len(texts) == 3
    assert "row 2 says something else of this membership" in texts[0]
    assert "row 2 says something else of consortium east" in texts[1]
    assert "holds already by row 2" in texts[2]


@pytest.mark.parametrize(
    ("header", "rows", "says"),
    [
        ("a,b", ("1,2",), "no column for consortium"),
        (f"{HEADER},医联体", (f"{ROW},x",), "two columns are name"),
        (HEADER, (), "no rows"),
    ],
)
def test_a_table_that_says_nothing_is_refused(
    header: str, rows: tuple[str, ...], says: str
) -> None:
    with pytest.raises(Unprocessable, match=says):
        read(*rows, header=header)


def test_the_same_row_twice_is_a_notice() -> None:
    reading = read(ROW, ROW)
    assert (reading.memberships, reading.notices) == (
        [ONE],
        ["row 3 says the same as row 2"],
    )


def test_a_table_twice_changes_nothing() -> None:
    assert planned(ROW).changes[0].what == "joined"
    assert planned(ROW, stored=(ONE,)) == Plan((), 1)


def test_what_a_table_says_anew_and_what_it_leaves_out() -> None:
    second = ONE._replace(member="second")
    future = ONE._replace(member="twin-a", start="2027-01-01")
    past = ONE._replace(member="twin-b", end="2026-06-30")
    other = ONE._replace(consortium="west", member="second")
    stored = (ONE, second, future, past, other)
    plan = planned(ROW.replace("2028-12-31", "2027-12-31"), stored=stored)
    assert {(one.what, one.membership) for one in plan.changes} == {
        ("changed", ONE._replace(end="2027-12-31")),
        ("left", second._replace(end="2026-11-21")),
        ("left", future._replace(active=False)),
    }
    after = tuple(one.membership for one in plan.changes)
    again = planned(ROW.replace("2028-12-31", "2027-12-31"), stored=(*after, past, other))
    assert again == Plan((), 1)


def test_who_was_withdrawn_joins_again() -> None:
    plan = planned(ROW, stored=(ONE._replace(active=False),))
    assert [one.what for one in plan.changes] == ["joined"]
    assert plan.count("left") == 0


def test_an_institution_that_is_renamed_keeps_its_memberships() -> None:
    named = replace(INSTITUTIONS["garden"], name="新名")
    sheet = read_sheet(f"{HEADER}\n{ROW}".encode(), "table.csv")
    reading = Reading(sheet, INSTITUTIONS | {"garden": named}, AREAS)
    reading.read()
    assert reading.memberships == [ONE]
