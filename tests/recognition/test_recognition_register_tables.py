"""Tables of evaluations as they come: signs nobody sees, names twice, rounds beside each other."""

from __future__ import annotations

from dataclasses import replace

import pytest
from recognition_cases import CATALOGUE
from test_recognition_mark import ENTRY, HEADER, KNOWN, _faults, _imported, _read

from fhir_gateway.errors import Unprocessable
from fhir_gateway.recognition import register_plan
from fhir_gateway.recognition.register import ROUND_URL, entries_of, verification_result
from fhir_gateway.recognition.register_import import Reading
from fhir_gateway.recognition.register_plan import plan_import
from fhir_gateway.security.institution import Institution
from fhir_gateway.terminology.sheet import read_sheet

ROW = "hospital,K,110000,2026-01-01,2026-12-31,true,city-body,1"


def test_signs_that_nobody_sees_and_an_area_left_out_are_one_fault_each() -> None:
    assert _faults(ROW.replace("K", "K\x01")) == [
        "row 2, column B (item): holds characters that cannot be shown",
        "row 2, column B (item): K\x01 is no item and no class of the catalogue",
    ]
    assert _faults(ROW.replace("110000", "")) == ["row 2, column C (area): must not be empty"]


def test_rows_of_a_class_that_are_there_twice_are_told_once() -> None:
    row = ROW.replace("K", "*")
    reading = _read(row, row)
    assert len(reading.entries) == len(CATALOGUE.items) > 1
    assert reading.notices == ["row 3 says the same as row 2"]


def test_a_name_that_two_items_have_is_refused_with_their_codes() -> None:
    first, second = list(CATALOGUE.items.values())[:2]
    same = [replace(one, name_zh="同名项目") for one in (first, second)]
    items = CATALOGUE.items | {one.code: one for one in same}
    known = KNOWN._replace(catalogue=replace(CATALOGUE, items=items))
    text = f"{HEADER}\n{ROW.replace('K', '同名项目')}\n"
    with pytest.raises(Unprocessable) as caught:
        Reading(read_sheet(text.encode(), "table.csv"), known).read()
    assert f"is the name of {first.code}, {second.code}" in caught.value.issues[0].diagnostics


def test_an_institution_without_a_name_is_found_by_its_id() -> None:
    nameless = {"bare": Institution(id="bare", name="")}
    reading = Reading(
        read_sheet(f"{HEADER}\n{ROW.replace('hospital', 'bare')}\n".encode(), "table.csv"),
        KNOWN._replace(institutions=nameless),
    )
    reading.read()
    assert [one.institution for one in reading.entries] == ["bare"]


def test_rounds_that_say_the_same_beside_each_other_are_not_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(register_plan, "_MOST_NOTICES", 1)
    register = _imported(plan_import(_read(ROW), []))
    later = ROW.replace("2026-01-01", "2026-06-01").replace("body,1", "body,2")
    same = _read(later)
    plan_import(same, register)
    assert same.notices == []
    failed = later.replace("true", "false")
    twice = _read(failed, failed.replace("2026-06-01", "2026-07-01").replace("body,2", "body,3"))
    plan_import(twice, register)
    assert twice.notices[-1] == "and 1 more of this kind"
    assert "disagree where they overlap" in twice.notices[0]


def test_a_round_without_a_number_or_a_body_is_read_all_the_same() -> None:
    resource = verification_result("x", [ENTRY._replace(round="")])
    assert ROUND_URL not in {one["url"] for one in resource["extension"]}
    del resource["validator"]
    (entry,) = entries_of(resource)
    assert (entry.round, entry.evaluator, entry.body) == ("", "", "")
