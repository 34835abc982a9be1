"""What facts say beside their columns: time, zone, quantity, instrument, interval, side, door."""

from __future__ import annotations

import string
from typing import Any

import pytest
from effort import examples
from facts_cases import ACSN, CATALOGUE, MAKERS, derived, lab, read_cases, report, study
from hypothesis import given, settings
from hypothesis import strategies as st

from fhir_gateway.fhir.keys import key64
from fhir_gateway.mapping.doors import through
from fhir_gateway.mapping.tables import Row
from fhir_gateway.recognition.facts_imaging import (
    body_parts,
    contrast_of_words,
    laterality,
    side_of_words,
)
from fhir_gateway.recognition.facts_more import (
    LONGEST,
    NOTHING,
    LinkMore,
    More,
    clean,
    link_more_of,
    more_of,
)
from fhir_gateway.recognition.model import PRINTED_MARK
from fhir_gateway.settings import CANONICAL
from fhir_gateway.store.changes import ReportLink
from fhir_gateway.terminology.catalogue_resource import PANEL_SYSTEM
from fhir_gateway.terminology.quantity import convert

_CASES = read_cases()


@pytest.mark.parametrize("case", _CASES, ids=[case["name"] for case in _CASES])
def test_a_resource_says(case: dict[str, Any]) -> None:
    fields = dict(case.get("with", {}))
    item = {"item": case["item"]} if "item" in case else {}
    rows = derived(MAKERS[case["of"]](**item, **fields)).facts
    said = more_of(rows[0].more)._asdict()
    assert {name: said[name] for name in case["expect"]} == case["expect"]


def test_every_component_has_its_own_quantity_and_interval() -> None:
    part = {
        "code": lab("CRP")["code"],
        "valueQuantity": {"value": 3, "unit": "mg/L"},
        "referenceRange": [{"text": "<5"}],
    }
    whole, component = (more_of(one.more) for one in derived(lab(component=[part])).facts)
    assert (whole.quantity, whole.interval) == ("=", "")
    assert (component.quantity, component.unit, component.interval) == ("=", "=", "text")


def test_a_report_with_a_number_is_also_told_under_no_item() -> None:
    own, beside = derived(report(accession="A7")).facts
    assert (own.item, beside.item) == ("CT-HEAD", "")
    assert more_of(beside.more) == More("performed", accession="A7", item="CT-HEAD")
    assert [one.item for one in derived(study("CT-HEAD", accession="A7")).facts] == ["CT-HEAD", ""]
    assert [one.item for one in derived(study("CT-HEAD")).facts] == ["CT-HEAD"]
    assert [one.item for one in derived(study(accession="A7")).facts] == [""]


@pytest.mark.parametrize(
    ("code", "panel"),
    [
        ({"coding": [{"system": PANEL_SYSTEM, "code": "lipids"}]}, "lipids"),
        ({"text": "血 脂"}, "lipids"),
        ({"coding": [{"system": "urn:h", "code": "1", "display": "lipids"}]}, "lipids"),
        ({"text": "院内套餐"}, ""),
    ],
)
def test_a_panel_report_names_its_panel_and_its_mark(code: dict[str, Any], panel: str) -> None:
    assert "lipids" in CATALOGUE.panels
    mark = {"url": f"{CANONICAL}/StructureDefinition/recognition-mark", "valueString": "全国HR"}
    rows = derived(report(code=code, result=[{"reference": "Observation/o"}], extension=[mark]))
    (link,) = rows.links
    assert (link.result, link.status) == (key64("Observation/o"), "final")
    assert link_more_of(link.more) == LinkMore("全国HR", panel)


def test_a_report_that_says_nothing_for_its_results_has_an_empty_column() -> None:
    (link,) = derived(report(code={"text": "x"}, result=[{"reference": "Observation/o"}])).links
    assert link == ReportLink(link.result, link.status, link.issued, "")
    assert link_more_of("") == LinkMore()
    assert derived(lab()).facts[0].flags & PRINTED_MARK == 0


@pytest.mark.parametrize(
    ("words", "side"),
    [
        ("左膝关节MR平扫", "L"), ("右侧髋关节", "R"), ("双膝关节正侧位", "B"), ("双侧乳腺", "B"),
        ("MR left knee", "L"), ("Bilateral knees", "B"), ("膝关节（左）", "L"), ("右", "R"),
        ("左右手正位", "B"), ("左膝、右膝", "B"), ("7771000", "L"),
        ("双能X线骨密度", ""), ("双源CT胸部", ""), ("左心室造影", ""), ("Right heart", ""),
        ("头颅CT", ""), ("brightness", ""), ("左冠状动脉", ""),
        ("72696002:272741003=24028007", "R"),
        ("72696002 |Knee| : 272741003 |Laterality| = 7771000 |Left|", "L"),
        ("72696002:{272741003=7771000},{272741003=24028007}", "B"),
        ("272741003=77710001", ""),
    ],
)  # fmt: skip
def test_sides_are_read_off_words_and_expressions(words: str, side: str) -> None:
    assert side_of_words([words]) == side
    assert laterality([{"coding": [{"code": words}]}]) == side


def test_names_that_contradict_each_other_say_no_side() -> None:
    assert side_of_words(["左膝", "右膝"]) == ""
    assert contrast_of_words(["平扫", "增强"]) == ""


def test_the_sender_s_words_say_the_side_and_the_catalogue_s_do_not() -> None:
    assert derived(report("KNEE", words="右膝DR")).facts[0].laterality == "R"
    assert derived(report("KNEE")).facts[0].laterality == ""
    site = {"code": "72696002", "display": "Knee"}
    sided = {"series": [{"bodySite": site, "laterality": {"code": "7771000"}}]}
    assert derived(study(**sided)).facts[0].laterality == "L"


@pytest.mark.parametrize(
    ("words", "contrast"),
    [
        ("胸部CT平扫", "none"), ("胸部CT增强", "with"), ("胸部CT平扫+增强", "without-with"),
        ("胸部CT非增强", "none"), ("胸部CT无增强扫描", "none"), ("CT chest w/o contrast", "none"),
        ("CT chest without contrast", "none"), ("CT chest with contrast", "with"),
        ("CT chest without and with contrast", "without-with"), ("MR head C+", "with"),
        ("CT head with IV contrast", "with"), ("CT head without IV contrast", "none"),
        ("unenhanced CT", "none"), ("enhanced CT", "with"), ("胸部CT", ""),
        ("Noncontrast CT", "none"), ("超声造影", ""),
    ],
)  # fmt: skip
def test_contrast_is_read_off_words(words: str, contrast: str) -> None:
    assert contrast_of_words([words]) == contrast


def test_body_parts_are_those_of_the_catalogue_and_of_the_table() -> None:
    table = {"NECK": Row("45048000", "Neck", ""), "neck": Row("45048000", "Neck", "")}
    parts = body_parts(CATALOGUE, table)
    assert parts.terms == {"HEAD", "KNEE", "NECK"} | {
        item.body_part_dicom for item in CATALOGUE.retired.values() if item.body_part_dicom
    }
    assert dict(parts.by_code) == {"45048000": "NECK"}


@pytest.mark.parametrize(
    ("fields", "time_of"),
    [
        ({"effectiveTiming": {"event": ["2026-11-19", "2026-11-18"]}}, "collected"),
        ({"contained": [{"resourceType": "Specimen", "collection": {
            "collectedPeriod": {"start": "2026-11-18"}}}]}, "collected"),
        ({"contained": [{"resourceType": "Device", "id": "d"}]}, "issued"),
        ({"effectivePeriod": {"start": "2026-02-31"}}, "issued"),
    ],
)  # fmt: skip
def test_other_elements_date_a_result_too(fields: dict[str, Any], time_of: str) -> None:
    (one,) = derived(lab(effectiveDateTime=None, **fields)).facts
    assert more_of(one.more).time_of == time_of


def test_what_stands_beside_is_passed_over() -> None:
    other = {"url": "urn:other", "valueString": "x"}
    mark = {"url": f"{CANONICAL}/StructureDefinition/recognition-mark", "valueString": "全国HR"}
    device = {"resourceType": "Device", "id": "d", "deviceName": [{"name": "AU"}]}
    (one,) = derived(
        lab(
            extension=[other, mark],
            device={"reference": "#d"},
            contained=[{"resourceType": "Specimen", "id": "d"}, device],
        )
    ).facts
    assert (one.mark, more_of(one.more).instrument) == ("全国HR", "AU")
    numbers = [{"value": "R1"}, {"value": "A7", "type": ACSN}]
    assert more_of(derived(report(identifier=numbers)).facts[0].more).accession == "A7"


def test_a_study_without_a_start_says_no_time() -> None:
    (one,) = derived(study(started=None)).facts
    assert (one.time, more_of(one.more).time_of) == (0, "")


def test_a_status_that_something_modifies_is_unknown() -> None:
    (one,) = derived(lab(implicitRules="urn:rules")).facts
    (void,) = derived(lab(implicitRules="urn:rules", status="cancelled")).facts
    assert (one.status, void.status) == ("unknown", "cancelled")


def test_a_type_without_facts_names_no_door() -> None:
    patient = {"resourceType": "Patient", "id": "p"}
    assert through("v2", patient) is patient


_words = st.text(st.characters(codec="utf-8"), max_size=120).map(clean)


@given(st.lists(_words, min_size=11, max_size=11), st.sampled_from(["", "collected", "issued"]))
@settings(max_examples=examples(100))
def test_the_column_gives_back_what_was_packed(words: list[str], time_of: str) -> None:
    more = More(time_of, *words)
    assert more_of(more.packed()) == more
    assert all(len(word) <= LONGEST for word in words)


def test_the_column_knows_older_and_newer_rows() -> None:
    assert more_of("") == NOTHING == More()
    assert NOTHING.packed() == ""
    full = More("collected", *string.ascii_lowercase[:11])
    assert more_of(full.packed() + "\x1fof a later version") == full
    assert more_of("c\x1f?") == More("collected", "?")


def test_a_member_from_outside_is_one_clean_line() -> None:
    assert clean(" a\x1fb\nc\t ") == "a b c"
    assert len(clean("x" * 500)) == LONGEST


@pytest.mark.parametrize(
    ("value", "unit", "target", "found"),
    [
        ("5.10", "mmol/L", "mmol/L", "5.10"), ("0.5", "ng/mL", "ug/L", "0.5"),
        ("5.4", "g/dL", "g/L", "54.0"), ("3.3", "mg/dL", "mg/L", "33.0"),
        ("500", "/uL", "10*9/L", "0.500"), ("40", "IU/L", "U/L", "40"),
        ("1", "uIU/mL", "m[IU]/L", "1"), ("100", "mg/24h", "g/(24.h)", "0.100"),
        ("90", "mg/dL", "mmol/L", ""), ("6.5", "%", "mmol/mol", ""), ("40", "U/L", "[IU]/L", ""),
        ("1", "mg/L", "mg/L{FEU}", ""), ("1", "meq/L", "mmol/L", ""), ("5", "G/L", "10*9/L", ""),
        ("", "mg/L", "g/L", ""), ("x", "mg/L", "g/L", ""), ("NaN", "g/L", "g/L", ""),
        ("1e999", "g/L", "g/L", ""), ("１", "g/L", "g/L", ""), ("5", "", "g/L", ""),
        ("5", "g/L", "", ""), ("1" * 30, "g/L", "mg/L", ""), ("7", "", "{INR}", "7"),
        ("5", "m", "s", ""), ("5", "[in_i]", "m", "0.1270"),
        ("5", "m{x}", "cm", ""), ("5", "10*-2", "1{x}", ""), ("5", "[ppm]", "10*-3", ""),
        ("1", "m", "[ft_i]", ""), ("x", "m", "cm", ""),
    ],
)  # fmt: skip
def test_values_are_converted_exactly_or_not_at_all(
    value: str, unit: str, target: str, found: str
) -> None:
    assert convert(value, unit, target) == found


@given(st.decimals(-9999, 9999, places=4), st.sampled_from(["g/L", "mg/dL", "ug/mL", "ng/L"]))
@settings(max_examples=examples(100))
def test_there_and_back_is_the_same_number(value: Any, unit: str) -> None:
    there = convert(format(value, "f"), unit, "mg/L")
    assert there
    back = convert(there, "mg/L", unit)
    assert back == "" or type(value)(back) == value
