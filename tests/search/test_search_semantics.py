"""One value, one query, match or not: the tables of the standard, through index, plan and SQL."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from search_loader import Loader

CASES = Path(__file__).parent / "cases"
DATES = json.loads((CASES / "dates.json").read_text(encoding="utf-8"))
NUMBERS = json.loads((CASES / "numbers.json").read_text(encoding="utf-8"))


def observation(**members: Any) -> dict[str, Any]:
    return {
        "resourceType": "Observation",
        "id": "o",
        "status": "final",
        "code": {"text": "x"},
        "subject": {"reference": "Patient/p"},
        **members,
    }


def matches(resource: dict[str, Any], query: str) -> bool:
    """The same answer in the person's home and across all patients."""
    loader = Loader()
    loader.put({"resourceType": "Patient", "id": "p"})
    loader.put(resource)
    type = resource["resourceType"]
    bound = loader.ids(f"{type}?subject=Patient/p&{query}")
    assert loader.ids(f"{type}?{query}") == bound
    return bound == ["o"]


@pytest.mark.parametrize(("value", "query", "expected", "why"), DATES["cases"])
def test_dates(value: str, query: str, expected: bool, why: str) -> None:
    assert matches(observation(effectiveDateTime=value), f"date={query}") is expected, why


@pytest.mark.parametrize(("value", "query", "expected", "why"), DATES["periods"])
def test_periods(value: dict[str, str], query: str, expected: bool, why: str) -> None:
    assert matches(observation(effectivePeriod=value), f"date={query}") is expected, why


@pytest.mark.parametrize(("value", "query", "expected", "why"), NUMBERS["quantities"])
def test_quantities(value: dict[str, Any], query: str, expected: bool, why: str) -> None:
    resource = observation(valueQuantity=value)
    assert matches(resource, f"value-quantity={query}") is expected, why


def test_a_plus_that_a_form_turned_into_a_space_still_is_an_offset() -> None:
    resource = observation(effectiveDateTime="2024-03-05T10:00:00+08:00")
    assert matches(resource, "date=2024-03-05T10:00:00 08:00")


def test_a_timing_covers_all_that_it_spans() -> None:
    resource = observation(effectiveTiming={"event": ["2024-03-05", "2024-03-01", "2024-03-09"]})
    assert matches(resource, "date=2024-03")
    assert not matches(resource, "date=2024-03-05")


def test_a_narrow_bound_of_dates_changes_no_answer() -> None:
    """birthdate is never wider than a year, and its comparisons say so to the index."""
    loader = Loader()
    for id, born in (("a", "1980"), ("b", "1980-06"), ("c", "1980-12-31"), ("d", "1981-01-01")):
        loader.put({"resourceType": "Patient", "id": id, "birthDate": born})
    assert loader.ids("Patient?birthdate=ge1980-12-31") == ["c", "d"]
    assert loader.ids("Patient?birthdate=gt1980-06-01") == ["a", "b", "c", "d"]
    assert loader.ids("Patient?birthdate=ap1980-06-15") == ["a", "b"]
    assert loader.ids("Patient?birthdate=1980") == ["a", "b", "c"]


def risk(**prediction: Any) -> dict[str, Any]:
    return {
        "resourceType": "RiskAssessment",
        "id": "o",
        "status": "final",
        "subject": {"reference": "Patient/p"},
        "prediction": [prediction],
    }


def test_a_number_may_be_a_range() -> None:
    resource = risk(probabilityRange={"low": {"value": 0.2}, "high": {"value": 0.4}})
    assert matches(resource, "probability=gt0.3")
    assert matches(resource, "probability=lt0.3")
    assert not matches(resource, "probability=0.3")
    assert not matches(resource, "probability=sa0.3")
    assert matches(risk(probabilityRange={"low": {"value": 0.2}}), "probability=gt0.9")
    assert matches(risk(probabilityDecimal=0.3), "probability=0.3")


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("718-7", True),
        ("http://loinc.org|718-7", True),
        ("http://loinc.org|", True),
        ("|718-7", False),
        ("|L1", True),
        ("http://other.example|718-7", False),
        ("718-8,718-7", True),
        ("718-8,http://loinc.org|1", False),
        ("Hb", False),
    ],
)
def test_tokens(query: str, expected: bool) -> None:
    coding = [{"system": "http://loinc.org", "code": "718-7", "display": "Hb"}, {"code": "L1"}]
    assert matches(observation(code={"coding": coding}), f"code={query}") is expected


def test_not_also_finds_what_has_no_value() -> None:
    """3.1.1.4.4: with :not, resources without a value match too."""
    assert matches(observation(), "category:not=laboratory")
    lab = observation(category=[{"coding": [{"code": "laboratory"}]}])
    assert not matches(lab, "category:not=laboratory")
    assert matches(lab, "category:not=imaging,vital-signs")


def test_the_system_of_a_bound_code_is_implied() -> None:
    assert matches(observation(), "status=http://hl7.org/fhir/observation-status|final")
    assert not matches(observation(), "status=http://elsewhere.example|final")
    assert matches(observation(), "status=|final")


def test_escaped_signs_are_part_of_the_value() -> None:
    coding = [{"system": "http://s", "code": r"a,b|c$d\e"}]
    resource = observation(code={"coding": coding})
    assert matches(resource, r"code=http://s|a\,b\|c\$d\\e")
    assert not matches(resource, r"code=a\,b")


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("based-on=ServiceRequest/s1", True),
        ("based-on:ServiceRequest=s1", True),
        ("based-on=s1", True),
        ("based-on=ServiceRequest/s1/_history/2", True),
        ("based-on=ServiceRequest/s2", False),
        ("based-on=CarePlan/s1", False),
        ("based-on=https://other.example/ServiceRequest/9", True),
        ("based-on:identifier=http://orders.example|A-1", True),
        ("based-on:identifier=A-1", True),
        ("based-on:identifier=A-2", False),
    ],
)
def test_references(query: str, expected: bool) -> None:
    resource = observation(
        basedOn=[
            {"reference": "ServiceRequest/s1"},
            {"reference": "https://other.example/ServiceRequest/9"},
            {"identifier": {"system": "http://orders.example", "value": "A-1"}},
        ]
    )
    assert matches(resource, query) is expected


def test_a_reference_under_the_own_base_is_local() -> None:
    loader = Loader()
    loader.put({"resourceType": "Patient", "id": "p"})
    loader.put(observation())
    url = "Observation?subject=https://gw.example/fhir/Patient/p"
    assert loader.ids(url, base_url="https://gw.example/fhir") == ["o"]
    assert loader.ids(url, base_url="https://else.example/fhir") == []


NAMES = {
    "resourceType": "Patient",
    "id": "o",
    "name": [
        {"text": "王小明", "family": "王", "given": ["小明"]},
        {"family": "Müller-Lüdenscheidt", "given": ["Anna  Maria", "Élise"], "prefix": ["Dr."]},
        {"family": "欧阳", "given": ["娜娜"]},
    ],
}


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("name=王", True),
        ("name=王小", True),
        ("name=小明", True),
        ("name=明", False),
        ("name:contains=明", True),
        ("name=欧阳娜", True),
        ("family=欧阳", True),
        ("family=欧阳娜", False),
        ("name=MULLER", True),
        ("name=muller-ludenscheidt", True),
        ("name=Anna maria", True),
        ("name=elise", True),
        ("name=dr", True),
        ("name:exact=王小明", True),
        ("name:exact=王小", False),
        ("name:exact=Müller-Lüdenscheidt", True),
        ("name:exact=Muller-Ludenscheidt", False),
        ("family:exact=müller-lüdenscheidt", False),
        ("name=%", False),
        ("name=_", False),
        ("name:contains=%", False),
        ("name=李,王", True),
    ],
)
def test_names(query: str, expected: bool) -> None:
    loader = Loader()
    loader.put(NAMES)
    assert (loader.ids(f"Patient?{query}") == ["o"]) is expected


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("url=http://acme.example/fhir/ValueSet/1", True),
        ("url=http://acme.example/fhir/ValueSet", False),
        ("url=http://ACME.example/fhir/ValueSet/1", False),
        ("url:below=http://acme.example/fhir", True),
        ("url:below=http://acme.example/fhir/", True),
        ("url:below=http://acme.example/fh", False),
        ("url:above=http://acme.example/fhir/ValueSet/1/_history/5", True),
        ("url:above=http://acme.example/fhir/ValueSet", False),
        ("url:above=http://acme.example/fhir/ValueSet/1", True),
    ],
)
def test_uris(query: str, expected: bool) -> None:
    loader = Loader()
    url = "http://acme.example/fhir/ValueSet/1"
    loader.put({"resourceType": "ValueSet", "id": "o", "status": "draft", "url": url})
    assert (loader.ids(f"ValueSet?{query}") == ["o"]) is expected


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("code:missing=false", True),  # a text, which cannot be searched, is a value
        ("code:missing=true", False),
        ("date:missing=true", True),
        ("subject:missing=false", True),
        ("encounter:missing=true", True),
        ("based-on:missing=false", True),
        ("specimen:missing=false", True),
        ("value-string:missing=true", True),
        ("_profile:missing=true", True),
        ("_tag:missing=false", True),
    ],
)
def test_missing(query: str, expected: bool) -> None:
    resource = observation(
        meta={"tag": [{"code": "t"}]},
        basedOn=[{"identifier": {"value": "A-1"}}],
        specimen={"display": "blood"},
    )
    assert matches(resource, query) is expected


def test_columns_of_every_resource() -> None:
    loader = Loader()
    for id in "abc":
        loader.put(
            {
                "resourceType": "Organization",
                "id": id,
                "meta": {
                    "profile": [f"http://p.example/{id}|1.0"],
                    "tag": [{"system": "http://t", "code": id}],
                    "security": [{"code": "R"}],
                    "source": "http://source.example",
                },
            }
        )
    assert loader.ids("Organization?_id=c,a,zz") == ["a", "c"]
    assert loader.ids("Organization?_id=c,a&_id=a") == ["a"]
    assert loader.ids("Organization?_lastUpdated=gt2024-01-01T00:00:01Z") == ["b", "c"]
    assert loader.ids("Organization?_lastUpdated=2024-01-01T00:00:02Z") == ["b"]
    assert loader.ids("Organization?_profile=http://p.example/b") == ["b"]
    assert loader.ids("Organization?_profile=http://p.example/b|1.0") == ["b"]
    assert loader.ids("Organization?_tag=http://t|b") == ["b"]
    assert loader.ids("Organization?_security=R&_id=b") == ["b"]
    assert loader.ids("Organization?_source=http://source.example") == ["a", "b", "c"]
