"""OBX-5 to OBX-8 as Chinese laboratories write them."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from mapping_cases import TABLES, results

from fhir_gateway.fhir.wire import render
from fhir_gateway.mapping.doors import INTAKE_SYSTEM
from fhir_gateway.mapping.tables import table
from fhir_gateway.mapping.v2_value import quantity, read_number, read_range, read_unit

UNITS = table(TABLES, "units")


@pytest.mark.parametrize(
    ("text", "spelled"),
    [
        ("5.10", "5.10"), ("＋５．１０", "5.10"), (".5", "0.5"), ("5.", "5"), ("007", "7"),
        ("-0.50", "-0.50"), ("1,200.5", "1200.5"), ("1e3", "1e3"), ("0", "0"),
    ],
)  # fmt: skip
def test_a_number_keeps_its_spelling(text: str, spelled: str) -> None:
    number = read_number(text)
    assert number is not None
    assert render(number) == spelled.encode()


@pytest.mark.parametrize("text", ["", "-", "--", "+", "1:80", "5,1", "1.2.3", "NaN", "inf", "٣"])
def test_what_is_no_number_is_none(text: str) -> None:
    assert read_number(text) is None


@settings(max_examples=examples(200), deadline=None)
@given(st.from_regex(r"\A-?(0|[1-9][0-9]{0,9})(\.[0-9]{1,9})?\Z"))
def test_every_plain_decimal_comes_out_as_it_went_in(text: str) -> None:
    number = read_number(text)
    assert number is not None
    assert render(number).decode() == text


@pytest.mark.parametrize(
    ("text", "comparator", "value"),
    [
        ("<0.05", "<", "0.05"), ("＜0.05", "<", "0.05"), ("> 1000", ">", "1000"),
        ("≤5", "<=", "5"), ("≥5", ">=", "5"), ("<=5", "<=", "5"), ("小于0.05", "<", "0.05"),
        ("大于1000", ">", "1000"),
    ],
)  # fmt: skip
def test_a_comparator_is_read_in_every_spelling(text: str, comparator: str, value: str) -> None:
    assert quantity(text, {}) == {"value": Decimal(value), "comparator": comparator}


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [
        ("8.5--14.5", "8.5", "14.5"), ("0--5.17", "0", "5.17"), ("3.5-5.3", "3.5", "5.3"),
        ("3.9～6.1", "3.9", "6.1"), ("3.9~6.1", "3.9", "6.1"), ("3.9－6.1", "3.9", "6.1"),
        ("-2~+2", "-2", "2"), ("-3-3", "-3", "3"), ("1.0 - 2.0", "1.0", "2.0"),
        ("120—160", "120", "160"), ("3.5-5.3 mmol/L", "3.5", "5.3"), ("[3.5-5.3]", "3.5", "5.3"),
    ],
)  # fmt: skip
def test_a_range_has_limits_in_the_unit_of_the_value(text: str, low: str, high: str) -> None:
    unit = {"unit": "mmol/L", "system": "http://unitsofmeasure.org", "code": "mmol/L"}
    assert read_range(text, unit) == [
        {"low": {"value": Decimal(low)} | unit, "high": {"value": Decimal(high)} | unit,
         "text": text}
    ]  # fmt: skip


@pytest.mark.parametrize("text", ["阴性", "-2--1", "1-2-3", "男:3-5 女:2-4", "5-3", "<1:40"])
def test_a_range_that_says_more_than_one_thing_stays_text(text: str) -> None:
    assert read_range(text, {}) == [{"text": text}]


@pytest.mark.parametrize(
    ("text", "limit"), [("<5.2", "high"), ("＜5.20", "high"), ("≤40", "high"), (">60", "low")]
)
def test_a_one_sided_range_has_one_limit(text: str, limit: str) -> None:
    (found,) = read_range(text, {})
    assert sorted(found) == sorted([limit, "text"])


@pytest.mark.parametrize(
    ("components", "unit", "code"),
    [
        (["10", "9/L"], "10^9/L", "10*9/L"), (["×10", "9/L"], "×10^9/L", "10*9/L"),
        (["×10⁹/L"], "×10⁹/L", "10*9/L"), (["10E12/L"], "10E12/L", "10*12/L"),
        (["μmol/L"], "μmol/L", "umol/L"), (["µmol/L"], "µmol/L", "umol/L"),
        (["％"], "％", "%"), (["g/l"], "g/l", "g/L"),
        (["mmol/L", "毫摩尔每升", "UCUM"], "毫摩尔每升", "mmol/L"),
    ],
)  # fmt: skip
def test_a_unit_is_ucum_and_keeps_its_spelling(components: list[str], unit: str, code: str) -> None:
    assert read_unit(components, UNITS) == (
        {"unit": unit, "system": "http://unitsofmeasure.org", "code": code},
        True,
    )


def test_a_unit_that_may_be_two_things_has_no_code() -> None:
    assert read_unit(["G/L"], UNITS) == ({"unit": "G/L"}, False)


def value(line: str) -> dict[str, Any]:
    (observation,) = results(line)
    kept = ("value", "interpretation", "dataAbsent", "meta")
    return {key: item for key, item in observation.items() if key.startswith(kept)}


def interpreted(code: str, display: str, text: str | None = None) -> list[dict[str, Any]]:
    system = "http://terminology.hl7.org/CodeSystem/v3-ObservationInterpretation"
    concept: dict[str, Any] = {"coding": [{"system": system, "code": code, "display": display}]}
    return [concept | ({"text": text} if text else {})]


def tagged(code: str) -> dict[str, Any]:
    return {"tag": [{"system": INTAKE_SYSTEM, "code": code}]}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("OBX|1|ST|1||阴性（-）||||||F",
         {"valueString": "阴性（-）", "interpretation": interpreted("NEG", "Negative")}),
        ("OBX|1|ST|1||1:80||||||F", {"valueString": "1:80"}),
        ("OBX|1|ST|1||++||||||F",
         {"valueString": "++", "interpretation": interpreted("POS", "Positive")}),
        ("OBX|1|NM|1||++||||||F", {"valueString": "++", "meta": tagged("unparsed-value")}),
        ("OBX|1|NM|1||5.6↑||||||F",
         {"valueQuantity": {"value": Decimal("5.6")},
          "interpretation": interpreted("H", "High", "↑")}),
        ("OBX|1|NM|1||5.6|||HH|||F",
         {"valueQuantity": {"value": Decimal("5.6")},
          "interpretation": interpreted("HH", "Critical high", "HH")}),
        ("OBX|1|NM|1||5.6|||怪|||F",
         {"valueQuantity": {"value": Decimal("5.6")}, "interpretation": [{"text": "怪"}]}),
        ("OBX|1|NM|1||5.6|foo|||||F",
         {"valueQuantity": {"value": Decimal("5.6"), "unit": "foo"},
          "meta": tagged("unmapped-unit")}),
        ("OBX|1|SN|1||^1^:^80||||||F",
         {"valueRatio": {"numerator": {"value": Decimal(1)},
                         "denominator": {"value": Decimal(80)}}}),
        ("OBX|1|SN|1||>^100||||||F",
         {"valueQuantity": {"value": Decimal(100), "comparator": ">"}}),
        ("OBX|1|DT|1||20261118||||||F", {"valueDateTime": "2026-11-18"}),
        ("OBX|1|TM|1||0830||||||F", {"valueTime": "08:30:00"}),
        ("OBX|1|CE|1||A^A型^L||||||F", {"valueCodeableConcept": {
            "coding": [{"system": results("OBX|1|ST|1||x||||||F")[0]["code"]["coding"][0]["system"],
                        "code": "A", "display": "A型"}], "text": "A型"}}),
        ("OBX|1|ST|1||7.35|||||", None),
        ("OBX|1|NM|1||||||||F", {"dataAbsentReason": {"coding": [{
            "system": "http://terminology.hl7.org/CodeSystem/data-absent-reason",
            "code": "unknown"}]}}),
        ("OBX|1|ST|1||a^b&c||||||F", {"valueString": "a^b&c"}),
        (r"OBX|1|ST|1||a\F\b\.br\c\T\\X41\\E\||||||F", {"valueString": "a|b\nc&A\\"}),
        ("OBX|1|TX|1||一~二||||||F", {"valueString": "一\n二"}),
        ("OBX|1|XX|1||x^y||||||F",
         {"valueString": "x^y", "meta": tagged("unparsed-value")}),
        ("OBX|1|NM|1||27~25||||||F",
         {"valueString": "27\n25", "meta": tagged("unparsed-value")}),
    ],
)  # fmt: skip
def test_a_value_is_what_the_laboratory_wrote(line: str, expected: dict[str, Any] | None) -> None:
    if expected is None:
        with pytest.raises(Exception, match="OBX\\[1\\]-11"):
            value(line)
        return
    assert value(line) == expected


def test_a_number_sent_as_text_is_a_quantity_when_it_has_a_unit_or_a_range() -> None:
    with_unit, with_range, bare = results(
        "OBX|1|ST|1||7.35|mmol/L|||||F", "OBX|2|ST|2||7.35||7.3-7.4||||F",
        "OBX|3|ST|3||7||||||F",
    )  # fmt: skip
    assert with_unit["valueQuantity"]["value"] == Decimal("7.35")
    assert with_range["valueQuantity"] == {"value": Decimal("7.35")}
    assert bare["valueString"] == "7"
