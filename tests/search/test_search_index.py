"""From resource to rows: every datatype of the tables, the laws of the global index, all types."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from search_loader import SECRET, Loader

from fhir_gateway.fhir.datatypes import date_range, sortable
from fhir_gateway.fhir.definitions import definitions
from fhir_gateway.fhir.keys import key64, parameter_key, type_key
from fhir_gateway.search.index import Extractor, IndexRows
from fhir_gateway.search.registry import WRITTEN_PER_HOME, searchables
from fhir_gateway.search.types import date, number, quantity, string, token

extractor = Extractor(SECRET)


def key(text: str) -> int:
    return key64(text, SECRET)


def ints(rows: IndexRows, type: str, code: str) -> list[tuple[int, int]]:
    number = parameter_key(type, code)
    return [(v1, v2) for parameter, v1, v2 in rows.ints if parameter == number]


def texts(rows: IndexRows, type: str, code: str) -> list[str]:
    number = parameter_key(type, code)
    return [text for parameter, text in rows.texts if parameter == number]


OBSERVATION: dict[str, Any] = {
    "resourceType": "Observation",
    "id": "o",
    "status": "final",
    "meta": {"tag": [{"code": "t"}], "profile": ["http://p.example/x|2"]},
    "identifier": [{"system": "http://lab", "value": "7"}, {"type": {"text": "no value"}}],
    "code": {"coding": [{"system": "http://loinc.org", "code": "718-7"}, {"display": "Hb"}]},
    "subject": {"reference": "Patient/p/_history/3", "identifier": {"value": "MRN"}},
    "performer": [{"reference": "https://other.example/Organization/9"}, {"reference": "#here"}],
    "effectiveDateTime": "2024-03-05",
    "valueQuantity": {"value": Decimal("5.10"), "unit": "g/L",
                      "system": "http://unitsofmeasure.org", "code": "g/L"},
    "component": [{"code": {"coding": [{"code": "sub"}]}, "valueString": "Trüb"}],
}  # fmt: skip


def test_an_observation() -> None:
    rows = extractor.rows("Observation", OBSERVATION)
    none = key("")
    assert ints(rows, "Observation", "status") == [(key("final"), none)]
    assert ints(rows, "Observation", "_tag") == [(key("t"), none)]
    assert ints(rows, "Observation", "identifier") == [(key("7"), key("http://lab"))]
    assert ints(rows, "Observation", "code") == [(key("718-7"), key("http://loinc.org"))]
    assert ints(rows, "Observation", "component-code") == [(key("sub"), none)]
    assert ints(rows, "Observation", "combo-code") == []  # answered by the rows of its parts
    assert texts(rows, "Observation", "code:text") == ["hb"]
    patient = (key64("Patient/p"), type_key("Patient"))
    assert ints(rows, "Observation", "patient") == [patient]
    assert ints(rows, "Observation", "subject") == [patient]
    assert ints(rows, "Observation", "subject:identifier") == [(key("MRN"), none)]
    assert ints(rows, "Observation", "performer") == [
        (key64("https://other.example/Organization/9"), 0)
    ]
    assert ints(rows, "Observation", "date") == [date_range("2024-03-05")]
    assert ints(rows, "Observation", "value-quantity") == [
        (sortable(5.1), key("http://unitsofmeasure.org|g/L"))
    ]
    assert ints(rows, "Observation", "value-quantity:ucum") == [
        (sortable(5100), key("base|g1.m-3"))
    ]
    assert texts(rows, "Observation", "_profile") == ["http://p.example/x|2", "http://p.example/x"]
    assert ints(rows, "Observation", "_id") == []
    assert ints(rows, "Observation", "_lastUpdated") == []


@pytest.mark.parametrize(
    ("type", "members", "code", "expected"),
    [
        ("Patient", {"active": True}, "active", [("true", "")]),
        ("Patient", {"deceasedBoolean": False}, "deceased", [("false", "")]),
        ("Patient", {"deceasedDateTime": "2024"}, "deceased", [("true", "")]),
        ("Patient", {"telecom": [{"system": "phone", "value": "138"}]}, "telecom",
         [("138", "phone")]),
        ("Patient", {"telecom": [{"system": "phone", "value": "138"}]}, "email", []),
        ("Encounter", {"class": {"system": "http://c", "code": "AMB"}}, "class",
         [("AMB", "http://c")]),
        ("ImagingStudy", {"series": [{"uid": "1.2.3", "modality": {"code": "CT"}}]}, "series",
         [("1.2.3", "")]),
        ("ImagingStudy", {"series": [{"uid": "1.2.3", "modality": {"code": "CT"}}]}, "modality",
         [("CT", "")]),
        ("CodeSystem", {"version": "1.0"}, "version", [("1.0", "")]),
        ("Patient", {}, "deceased", [("false", "")]),
    ],
)  # fmt: skip
def test_tokens(type: str, members: Any, code: str, expected: Any) -> None:
    rows = extractor.rows(type, {"resourceType": type, "id": "x", **members})
    assert ints(rows, type, code) == [(key(value), key(system)) for value, system in expected]


def test_a_canonical_reference_stands_with_and_without_its_version() -> None:
    resource = {"resourceType": "MeasureReport", "id": "x", "measure": "http://m.example/1|2.0"}
    assert ints(extractor.rows("MeasureReport", resource), "MeasureReport", "measure") == [
        (key64("http://m.example/1"), 0),
        (key64("http://m.example/1|2.0"), 0),
    ]


def test_a_uri_may_be_a_reference() -> None:
    resource = {"resourceType": "ConceptMap", "id": "x", "sourceUri": "http://a.example"}
    rows = extractor.rows("ConceptMap", resource)
    assert ints(rows, "ConceptMap", "source-uri") == [(key64("http://a.example"), 0)]


def test_a_value_that_cannot_be_searched_leaves_a_trace_for_missing() -> None:
    resource = {**OBSERVATION, "code": {"text": "Hb"}, "subject": {"display": "somebody"}}
    rows = extractor.rows("Observation", resource)
    assert ints(rows, "Observation", "code:present") == [(0, 0)]
    assert ints(rows, "Observation", "subject:present") == [(0, 0)]
    assert ints(rows, "Observation", "status:present") == []


def test_an_address_is_indexed_by_its_parts() -> None:
    address = {"city": "北京市", "line": ["Xueyuan Road 1"], "postalCode": "100083"}
    rows = extractor.rows("Patient", {"resourceType": "Patient", "id": "x", "address": [address]})
    assert sorted(texts(rows, "Patient", "address")) == ["100083", "xueyuan road 1", "北京市"]
    assert texts(rows, "Patient", "address-city") == ["北京市"]


def test_global_rows_mirror_rows_of_the_home() -> None:
    patient = {
        "resourceType": "Patient",
        "id": "p",
        "gender": "male",
        "birthDate": "1980",
        "identifier": [{"value": "1"}],
        "name": [{"text": "王小明", "family": "王"}],
    }
    for type, resource in (("Patient", patient), ("Observation", OBSERVATION)):
        rows = extractor.rows(type, resource)
        assert set(rows.global_ints) <= set(rows.ints)
        assert set(rows.global_texts) <= set(rows.texts)
        for kind in rows:
            assert len(kind) == len(set(kind))
    rows = extractor.rows("Patient", patient)
    codes = {"identifier", "birthdate", "name:exact", "family:exact"}
    sounds = ["wangxiaoming", "wxm", "xiaoming", "xm", "yuxiaoming", "yxm"]
    assert sorted(texts(rows, "Patient", "name:pinyin")) == sounds
    assert {row[0] for row in rows.global_ints} == {parameter_key("Patient", c) for c in codes}
    assert rows.global_texts == rows.texts


def test_every_type_of_r4_has_its_steps() -> None:
    for type in definitions().resource_types:
        resource = {"resourceType": type, "id": "x", "meta": {"tag": [{"code": "t"}]}}
        assert ints(extractor.rows(type, resource), type, "_tag") == [(key("t"), key(""))]


def test_no_two_parameters_of_a_type_share_a_number() -> None:
    for type in definitions().resource_types:
        numbers = [
            number
            for one in searchables(type).values()
            for number in (
                one.number, one.exact_number, one.identifier_number, one.present_number,
                one.text_number, one.of_type_number, one.pinyin_number, one.canonical_number,
            )
            if number
        ]  # fmt: skip
        assert len(numbers) == len(set(numbers)), type


CONVERTED = {
    "token": set(token.ROWS),
    "date": set(date.ROWS),
    "number": set(number.ROWS),
    "quantity": set(quantity.ROWS),
    "string": set(string.TEXTS),
    "uri": {"uri", "url", "canonical", "oid"},
    "reference": {"Reference", "canonical", "uri"},
}


def test_every_parameter_that_is_offered_can_find_something() -> None:
    """One that no datatype of its expression can fill would answer "none" for ever."""
    for type in definitions().resource_types:
        for one in searchables(type).values():
            converted = CONVERTED.get(one.kind, set())
            assert one.refused or one.components or one.datatypes & converted, (type, one.code)


def test_every_identifier_parameter_is_global() -> None:
    """If-None-Exist looks an identifier up in the global index, whatever the type."""
    for type in definitions().resource_types:
        known = searchables(type)
        assert "identifier" not in known or known["identifier"].is_global


def test_a_person_type_is_bound_by_its_patient_or_found_globally() -> None:
    """No record of a person may be out of reach of a search by patient."""
    for type, parameters in definitions().search_parameters.items():
        if "patient" in parameters and type not in WRITTEN_PER_HOME:
            found = searchables(type)["patient"]
            assert found.binding or found.is_global or type in LONE, type


#: Types whose `patient` names no element that decides the home.
LONE = {"Group"}


def test_rows_are_the_same_for_the_same_values_in_any_order() -> None:
    loader = Loader()
    shuffled = dict(reversed(OBSERVATION.items()))
    assert set(loader.extractor.rows("Observation", shuffled).ints) == set(
        extractor.rows("Observation", OBSERVATION).ints
    )
