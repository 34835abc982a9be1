"""Editions: which holds on a day, codes that keep their meaning, differences, joins."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from fhir_gateway.errors import Unprocessable
from fhir_gateway.fhir.validate import issues
from fhir_gateway.settings import CANONICAL
from fhir_gateway.terminology.catalogue import LAB_SYSTEM, Item, Kind, load_catalogue
from fhir_gateway.terminology.catalogue_diff import SORTS, as_csv, as_rows, compare, report
from fhir_gateway.terminology.catalogue_join import (
    items_of_list_coding,
    join_map,
    joins_of,
    list_codes,
    list_of,
    propose,
    read_joins,
    review_table,
)
from fhir_gateway.terminology.catalogue_meaning import other_meaning
from fhir_gateway.terminology.edition import (
    Edition,
    Named,
    as_listed,
    edition_of,
    edition_on,
    edition_resources,
    editions_of,
    reused,
    with_retired,
)
from fhir_gateway.terminology.sheet import read_sheet

CATALOGUE = load_catalogue(Path(__file__).parents[2] / "terminology")


def entry(code: str, name: str = "钾", kind: Kind = "lab", **fields: Any) -> Item:
    usual: dict[str, Any] = {"list_system": f"{CANONICAL}/CodeSystem/hb", "edition": "1"}
    return Item(kind=kind, code=code, name_zh=name, name_en="", **(usual | fields))


def edition(items: Sequence[Item], day: str = "2027-01-01", **fields: Any) -> Edition:
    usual: dict[str, Any] = {
        "name": "hb", "kind": "lab", "edition": day, "effective": day, "publisher": "某局",
        "description": "a list", "title": "某目录", "items": {one.code: one for one in items},
    }  # fmt: skip
    return Edition(**(usual | fields))


@pytest.mark.parametrize(
    ("day", "holds"),
    [
        ("2026-12-31", None),
        ("2027-01-01", "2027-01-01"),
        ("2027-06-30", "2027-01-01"),
        ("2027-07-01", "2027-07-01"),
        ("2027-12-31", "2027-07-01"),
        ("2028-01-01", None),
    ],
)
def test_the_latest_edition_that_has_begun_holds_and_a_gap_is_a_gap(
    day: str, holds: str | None
) -> None:
    editions = [
        edition([], "2027-07-01", until="2027-12-31"),
        edition([], "2027-01-01", until="2027-08-01"),
    ]
    found = edition_on(editions, day)
    assert (found.edition if found else None) == holds


def test_an_edition_is_read_back_from_its_valid_resources() -> None:
    same = {"edition": "2027-01-01"}
    item = entry("A", specimen="血清", validity_days=7, validity_source="published:hb", **same)
    retired = entry("B", "钠", item_class="生化", retired="2027-01-01", **same)
    one = edition([item], retired={"B": retired}, until="2027-12-31", notice="n")
    system, values = edition_resources(one, CATALOGUE)
    assert issues(system) == issues(values) == []
    assert edition_of(system) == one
    assert edition_of({**system, "url": "http://example.org/x"}) is None
    assert edition_of({**system, "extension": []}) is None


# -- meaning ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "columns"),
    [
        ({"name": "C反应蛋白"}, {"name": "Ｃ 反应蛋白"}, []),
        ({"name": "CA15-3"}, {"name": "ca153"}, []),
        ({"name": "甲型肝炎抗体"}, {"name": "乙型肝炎抗体"}, ["name_zh"]),
        ({"specimen": "血清/血浆"}, {"specimen": "血浆/血清"}, []),
        ({"specimen": "血清"}, {"specimen": "尿液"}, ["specimen"]),
        ({"specimen": ""}, {"specimen": "尿液"}, []),
        ({"specimen": "某液"}, {"specimen": "别液"}, ["specimen"]),
        ({"loinc": "2823-3"}, {"loinc": "2951-2"}, ["loinc"]),
        ({"modality": "CT"}, {"modality": "MR"}, ["modality"]),
        ({"body_part_zh": "胸部"}, {"body_part_zh": "腹部"}, ["body_part_zh"]),
        ({"contrast": "none"}, {"contrast": "with"}, ["contrast"]),
        ({"laterality": "R/L"}, {"laterality": "B"}, ["laterality"]),
        ({"validity_days": 7}, {"validity_days": 30}, []),
        ({"ucum_unit": "g/L"}, {"ucum_unit": "mg/L"}, []),
        ({"item_class": "生化"}, {"item_class": "免疫"}, []),
    ],
)
def test_what_a_code_means_is_more_than_spelling_and_less_than_the_row(
    old: Mapping[str, Any], new: Mapping[str, Any], columns: list[str]
) -> None:
    assert [one.column for one in other_meaning(entry("A", **old), entry("A", **new))] == columns


def test_a_code_is_compared_with_the_editions_next_to_it() -> None:
    first = edition([entry("A", "钾")], "2027-01-01")
    second = edition([entry("A", "钾离子")], "2027-07-01")  # somebody confirmed that
    again = [entry("A", "钾离子")]
    assert reused(again, [first, second], "2028-01-01") == []
    assert reused(again, [first], "2028-01-01")[0].edition == "2027-01-01"
    assert reused(again, [first], "2028-01-01", ["A"]) == []
    assert reused([entry("A", "钠")], [first, second], "2026-01-01")[0].edition == "2027-01-01"
    other = [entry("A", "钾", specimen="尿液")]
    serum = edition([entry("A", "钾", specimen="血清")], "2027-01-01")
    assert reused(other, [serum], "2028-01-01", ["A"])[0].differences[0].column == "specimen"


def test_a_code_that_is_left_out_is_retired_and_stays_so() -> None:
    first = edition([entry("A"), entry("B", "钠")], "2027-01-01")
    second = with_retired(edition([entry("B", "钠")], "2027-07-01"), [first])
    assert second.retired["A"].retired == "2027-07-01"
    third = with_retired(edition([], "2028-01-01"), [first, second])
    assert {code: one.retired for code, one in third.retired.items()} == {
        "A": "2027-07-01", "B": "2028-01-01",
    }  # fmt: skip
    assert reused([entry("A", "氯")], [third], "2029-01-01")[0].code == "A"
    fourth = with_retired(edition([entry("A")], "2029-01-01"), [third])
    assert set(fourth.retired) == {"B"}
    earlier = with_retired(edition([], "2026-01-01"), [first])
    assert not earlier.retired


CODES = st.lists(st.sampled_from("ABCDEF"), unique=True, max_size=6)


@settings(max_examples=examples(100))
@given(st.lists(CODES, min_size=1, max_size=5))
def test_no_code_is_ever_lost(history: list[list[str]]) -> None:
    served: set[str] = set()
    editions: list[Edition] = []
    for number, codes in enumerate(history):
        items = [entry(code, f"项目{code}") for code in codes]
        one = with_retired(edition(items, f"2027-01-{number + 1:02d}"), editions)
        served |= set(codes)
        assert set(one.all_items()) == served
        assert set(one.items) == set(codes)
        editions.append(one)


# -- differences -----------------------------------------------------------------------------------


OLD = edition([
    entry("A", "钾", validity_days=7, ucum_unit="mmol/L"), entry("B", "钠"),
    entry("C", "氯", specimen="血清"), entry("D", "钙", item_class="生化"),
    entry("F", "镁", ucum_unit="g/L"),
], retired={"E": replace(entry("E", "锂"), retired="2026-01-01")})  # fmt: skip
NEW = edition([
    entry("A", "钾", validity_days=30, ucum_unit="mg/dL"), entry("C", "氯", specimen="尿液"),
    entry("D", "钙", item_class="免疫"), entry("E", "锂"), entry("G", "=铁"),
    entry("F", "镁", ucum_unit="g/l"),
], "2027-07-01")  # fmt: skip


def test_changes_are_told_in_words_that_a_committee_reads() -> None:
    said = report(compare(OLD, NEW), "zh")
    assert said.splitlines() == [
        "代码改变含义（不予接收）（1）",
        "  C 氯：标本由“血清”改为“尿液”，已用代码不得改作他用，请为新项目另编代码",
        "停用（1）",
        "  B 钠：停用，代码保留，不再分配",
        "新增（1）",
        "  G =铁：新增",
        "恢复（1）",
        "  E 锂：恢复使用",
        "互认时限变更（1）",
        "  A 钾：互认时限由7天改为30天",
        "单位变更（2）",
        "  A 钾：单位由“mmol/L”改为“mg/dL”（警告：数值不可直接比较，旧结果不会按新单位提示）",
        "  F 镁：单位由“g/L”改为“g/l”（数值可直接比较）",
        "其他变更（1）",
        "  D 钙：类别由“生化”改为“免疫”",
    ]
    english = report(compare(OLD, NEW), "en")
    assert "A 钾: window changed from 7 days to 30 days" in english
    assert "B 钠: retired; its code is kept and not reused" in english
    assert report([], "en") == "The editions say the same\n"
    assert report(compare(OLD, OLD), "zh") == "两版内容相同\n"


def test_changes_are_rows_that_a_spreadsheet_may_open() -> None:
    changes = compare(OLD, NEW)
    rows = list(csv.DictReader(io.StringIO(as_csv(changes, "zh"))))
    assert [row["change"] for row in rows] == [one.sort for one in changes]
    assert next(row for row in rows if row["code"] == "G")["name"] == "'=铁"
    assert as_rows(changes, "en")[0]["column"] == "specimen"
    order = list(SORTS)
    assert sorted(changes, key=lambda one: order.index(one.sort)) == changes


def test_another_name_is_a_change_of_meaning_until_somebody_confirms_it() -> None:
    old, new = edition([entry("A", "钾")]), edition([entry("A", "钾离子")], "2027-07-01")
    assert [one.sort for one in compare(old, new)] == ["meaning"]
    assert "--same-meaning" in report(compare(old, new), "zh")
    assert [one.sort for one in compare(old, new, ["A"])] == ["renamed"]
    stored = replace(new, stored="CodeSystem/hb-2/_history/1")
    assert (
        report(compare(old, stored), "zh").splitlines()[1] == "  A 钾离子：名称由“钾”改为“钾离子”"
    )


# -- joins -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("item", "joined", "why"),
    [
        (entry("A", "钾", specimen="血清"), "L001", ""),
        (entry("A", "钾"), "", "does not say the specimen"),
        (entry("A", "钾", specimen="尿液"), "", "尿液 is not 血清/血浆"),
        (entry("A", "钾", specimen="血清", ucum_unit="mg/dL"), "", "cannot be set beside mmol/L"),
        (entry("A", "血清钾测定", specimen="血清", loinc="2823-3"), "L001", ""),
        (entry("A", "血清钾测定", loinc="2823-3"), "", "specimen is not stated"),
        (
            entry("A", "血清钾测定", specimen="血清", loinc="2823-3", loinc_relation="broader"),
            "", "wider than the item",
        ),
        (entry("A", "钾", specimen="血清", loinc="2951-2"), "", "LOINC code that of L002"),
        (entry("A", "没有的项目"), "", "nothing like it was found"),
        (entry("A", "颅脑CT平扫", "imaging", modality="CT", contrast="none"), "I001", ""),
        (entry("A", "颅脑CT平扫", "imaging", contrast="with"), "", "with is not none"),
    ],
)  # fmt: skip
def test_only_what_is_certain_is_joined(item: Item, joined: str, why: str) -> None:
    found = propose([item], CATALOGUE, {})
    assert dict(found.joins) == ({"A": (joined,)} if joined else {})
    assert [why in one.reason for one in found.proposals] == ([] if joined else [True])


def test_two_entries_of_one_name_are_never_joined_by_it() -> None:
    entries = [entry("A", "钾", specimen="血清"), entry("B", "钾", specimen="血浆")]
    assert not propose(entries, CATALOGUE, {}).joins
    given = propose(entries, CATALOGUE, {"A": ("L001",)})
    assert dict(given.joins) == {"A": ("L001",)}
    assert [one.entry.code for one in given.proposals] == ["B"]


def test_a_person_accepts_proposals_in_the_table_of_review() -> None:
    one = edition([entry("A", "钾"), entry("B", "钠"), entry("C", "=氯")])
    table = review_table(propose(list(one.items.values()), CATALOGUE, {}).proposals)
    header, first, second, third = table.splitlines()
    assert "'=氯" in third
    accepted = "\n".join([header, first + "yes", second + "no", third])
    assert read_joins(read_sheet(accepted.encode(), "r.csv"), one, CATALOGUE) == {"A": ("L001",)}
    assert read_joins(read_sheet(b"code,item\nA,\n", "r.csv"), one, CATALOGUE) == {"A": ()}
    with pytest.raises(Unprocessable) as caught:
        wrong = "code,item\nX,L001\nA,L999;I001\nA,L001\n"
        read_joins(read_sheet(wrong.encode(), "r.csv"), one, CATALOGUE)
    assert [issue.diagnostics for issue in caught.value.issues] == [
        "r.csv, row 2, column A: X is no entry of hb 2027-01-01",
        "r.csv, row 3, column B: L999 is no lab item of the catalogue",
        "r.csv, row 3, column B: I001 is no lab item of the catalogue",
        "r.csv, row 4, column A: A is joined in another row already",
    ]
    with pytest.raises(Unprocessable, match="there is no column item"):
        read_joins(read_sheet(b"code,x\n", "r.csv"), one, CATALOGUE)


def test_a_join_is_a_concept_map_that_coders_read() -> None:
    one = edition([entry("A", "钾"), entry("B", "电解质"), entry("C", "钙")])
    joins = {"A": ("L001",), "B": ("L001", "L002")}
    resource = join_map(one, joins, CATALOGUE)
    assert issues(resource) == []
    assert joins_of(resource) == joins
    assert resource["group"][0]["element"][2]["target"] == [{"equivalence": "unmatched"}]
    assert list_of(resource) == one.url
    codes = list_codes([resource], CATALOGUE)
    assert [i.code for i in items_of_list_coding(codes, one.url, "B")] == ["L001", "L002"]
    assert items_of_list_coding(codes, one.url, "C") == ()
    assert items_of_list_coding(codes, "urn:x", "A") == ()
    assert items_of_list_coding(codes, None, None) == ()
    local = {**resource, "useContext": [{}]}
    assert list_of(local) == "" == list_of({**resource, "url": "http://example.org/x"})
    assert list_codes([local], CATALOGUE) == {}


def test_the_join_of_a_later_edition_goes_first() -> None:
    first = join_map(edition([entry("A")]), {"A": ("L001",)}, CATALOGUE)
    second = join_map(edition([entry("A")], "2027-07-01"), {"A": ("L002",)}, CATALOGUE)
    codes = list_codes([second, first], CATALOGUE)
    assert [i.code for i in items_of_list_coding(codes, first["group"][0]["source"], "A")] == [
        "L002"
    ]


# -- what a rule set sees --------------------------------------------------------------------------


def test_a_list_lists_what_is_joined_and_gives_its_window() -> None:
    days = {"validity_days": 3, "validity_source": "published:hb"}
    one = edition([entry("A", "钾", **days), entry("B", "钠"), entry("C", "钾2", validity_days=9)])
    view = as_listed(CATALOGUE, [Named(one, {"A": ("L001",), "B": ("L002",), "C": ("L001",)})])
    assert view.edition == f"{CATALOGUE.edition} hb|2027-01-01"
    potassium, sodium, chloride = (view.items[code] for code in ("L001", "L002", "L003"))
    assert (potassium.listed, potassium.validity_days) == (True, 3)
    assert potassium.window_published
    assert sodium == CATALOGUE.items["L002"]
    assert not chloride.listed
    assert view.items["I001"] == CATALOGUE.items["I001"]
    assert as_listed(CATALOGUE, []) is CATALOGUE


def test_the_first_list_that_has_an_item_gives_its_window() -> None:
    city = edition([entry("A", "钾", validity_days=3)])
    nation = edition([entry("N", "钾", validity_days=9), entry("M", "钠")], name="nation")
    lists = [Named(city, {"A": ("L001",)}), Named(nation, {"N": ("L001",), "M": ("L002",)})]
    view = as_listed(CATALOGUE, lists)
    assert view.items["L001"].validity_days == 3
    assert view.items["L002"].listed
    retired = replace(city, items={}, retired=city.items)
    assert not as_listed(CATALOGUE, [Named(retired, {"A": ("L001",)})]).items["L001"].listed


def test_the_catalogue_is_two_lists_of_its_own() -> None:
    lab, imaging = editions_of(CATALOGUE)
    assert (lab.url, lab.kind, imaging.kind) == (LAB_SYSTEM, "lab", "imaging")
    assert {**lab.items, **imaging.items} == CATALOGUE.items
