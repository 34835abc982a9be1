"""_typeFilter agrees with the search that it is: every search of the tables, both ways."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from export_cases import Bulk, Json, names, observation, patient, put
from running import Running

LAB = "http://loinc.org"


def _quantity(value: float, unit: str) -> Json:
    return {"value": value, "unit": unit, "system": "http://unitsofmeasure.org", "code": unit}


def _code(code: str, system: str = LAB) -> Json:
    return {"coding": [{"system": system, "code": code}], "text": f"text of {code}"}


RESOURCES = [
    patient("p1", gender="male", birthDate="1980-02", name=[{"text": "王小明", "family": "王"}],
            identifier=[{"system": "urn:mrn", "value": "1"}], active=True),
    patient("p2", gender="female", birthDate="1991-05-06", name=[{"family": "Müller"}],
            identifier=[{"system": "urn:other", "value": "1"}, {"value": "x|y"}]),
    patient("p3", name=[{"text": "Wang", "given": ["Anna", "Mulle"]}], deceasedBoolean=True),
    observation("o1", "p1", code=_code("A"), effectiveDateTime="2026-01-02T03:04:05+08:00",
                valueQuantity=_quantity(5.1, "mmol/L")),
    observation("o2", "p1", code=_code("B"), effectiveDateTime="2026-01", status="amended",
                valueQuantity=_quantity(5100, "umol/L")),
    observation("o3", "p2", code=_code("A", "urn:own"), valueString="positive",
                effectivePeriod={"start": "2026-01-01", "end": "2026-03-01"}),
    observation("o4", "p3", code=_code("A"), effectiveDateTime="2025",
                valueCodeableConcept=_code("P"), hasMember=[{"reference": "Observation/o1"}]),
    {"resourceType": "ValueSet", "id": "v1", "status": "active", "url": "http://a.test/x/y",
     "name": "One", "version": "1"},
    {"resourceType": "ValueSet", "id": "v2", "status": "draft", "url": "http://a.test/x"},
    {"resourceType": "RiskAssessment", "id": "r1", "status": "final",
     "subject": {"reference": "Patient/p1"}, "prediction": [{"probabilityDecimal": 0.8}]},
    {"resourceType": "RiskAssessment", "id": "r2", "status": "final",
     "subject": {"reference": "Patient/p2"}, "prediction": [{"probabilityDecimal": 0.2}]},
]  # fmt: skip

SEARCHES = [
    "Patient?gender=male", "Patient?gender:not=male", "Patient?gender=male,female",
    "Patient?gender:missing=true", "Patient?gender:missing=false", "Patient?active=true",
    "Patient?birthdate=1980", "Patient?birthdate=ge1980-02-10", "Patient?birthdate=lt1991-05-06",
    "Patient?birthdate=ne1991-05-06", "Patient?birthdate=sa1980-02", "Patient?birthdate=eb1991",
    "Patient?name=王", "Patient?name=mull", "Patient?name:exact=Müller", "Patient?name:contains=ul",
    "Patient?name=wang&gender:missing=true", "Patient?family:missing=true",
    "Patient?identifier=urn:mrn|1", "Patient?identifier=1", "Patient?identifier=urn:other|",
    "Patient?identifier=x\\|y", "Patient?_id=p1,p3", "Patient?_lastUpdated=gt2020",
    "Patient?_lastUpdated=lt2020", "Patient?death-date:missing=true", "Patient?deceased=true",
    "Observation?code=A", f"Observation?code={LAB}|A", "Observation?code=A&status=amended,final",
    "Observation?code:not=A", "Observation?patient=p1", "Observation?subject=Patient/p1,Patient/p2",
    "Observation?patient=p1&code=B", "Observation?date=2026-01", "Observation?date=ge2026-01-02",
    "Observation?date=lt2026", "Observation?date=gt2026-02-01", "Observation?date=sa2026-01-31",
    "Observation?date=eb2026", "Observation?date=ap2026-01-02", "Observation?date=ne2026-01",
    "Observation?value-quantity=5.1", "Observation?value-quantity=gt5|http://unitsofmeasure.org|mmol/L",
    "Observation?value-quantity=le5.1||mmol/L", "Observation?value-string=pos",
    "Observation?value-concept=P", "Observation?has-member=Observation/o1",
    "Observation?has-member:missing=false", "Observation?combo-code=A",
    f"Observation?code-value-quantity={LAB}|A$gt5||mmol/L",
    f"Observation?code-value-quantity={LAB}|A$gt6||mmol/L,{LAB}|B$5100",
    "ValueSet?url=http://a.test/x", "ValueSet?url:below=http://a.test/x", "ValueSet?name=one",
    "ValueSet?status=draft,active&version=1", "RiskAssessment?probability=gt0.5",
    "RiskAssessment?probability=0.2",
    "Patient?gender:in=http://hl7.org/fhir/ValueSet/administrative-gender",
    "Observation?status:not-in=http://hl7.org/fhir/ValueSet/observation-status",
    "Observation?status:not-in=http://hl7.org/fhir/ValueSet/publication-status",
    "Observation?code:below=http://terminology.hl7.org/CodeSystem/v3-ActCode|IMP",
]  # fmt: skip


@pytest.fixture(scope="module")
def bulk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bulk]:
    folder: Path = tmp_path_factory.mktemp("filters")
    running = Running(folder / "gateway.sqlite", open_access=True)
    put(running, *RESOURCES)
    yield Bulk(running)
    running.close()


def mine(found: list[str]) -> list[str]:
    """Without what the gateway brings along."""
    own = {f"{one['resourceType']}/{one['id']}" for one in RESOURCES}
    return [name for name in found if name in own]


def searched(bulk: Bulk, search: str) -> list[str]:
    answer = bulk.get(f"/fhir/{search}&_count=500")
    assert answer.status_code == 200, answer.text
    return mine(names([entry["resource"] for entry in answer.json().get("entry", ())]))


@pytest.mark.parametrize("search", SEARCHES)
def test_a_filter_finds_what_the_search_finds(bulk: Bulk, search: str) -> None:
    type = search.partition("?")[0]
    _, found = bulk.export(f"$export?_type={type}&_typeFilter={quote(search)}")
    assert mine(names(found)) == searched(bulk, search)


def test_the_searches_tell_something(bulk: Bulk) -> None:
    """Most of them find some resources of their type and leave others out."""
    types = [one["resourceType"] for one in RESOURCES]
    telling = [
        search
        for search in SEARCHES
        if 0 < len(searched(bulk, search)) < types.count(search.partition("?")[0])
    ]
    assert len(telling) > 0.8 * len(SEARCHES)


def test_filters_of_a_type_are_alternatives_and_other_types_go_whole(bulk: Bulk) -> None:
    filters = "Patient?gender=male,Patient?_id=p3,ValueSet?status=active,draft"
    _, found = bulk.export(f"$export?_type=Patient,ValueSet,Observation&_typeFilter={filters}")
    assert mine(names(found)) == [
        "Observation/o1", "Observation/o2", "Observation/o3", "Observation/o4", "Patient/p1",
        "Patient/p3", "ValueSet/v1", "ValueSet/v2",
    ]  # fmt: skip


def test_a_filter_judges_the_version_of_the_request(bulk: Bulk) -> None:
    search = "Observation?status=final&_id=o1"
    place = bulk.accepted(f"$export?_type=Observation&_typeFilter={quote(search)}")
    amended = next(one for one in RESOURCES if one["id"] == "o1")
    put(bulk.running, {**amended, "status": "amended"})
    bulk.work()
    found = bulk.lines(bulk.manifest(place))
    put(bulk.running, amended)
    assert [(one["id"], one["status"]) for one in found] == [("o1", "final")]
