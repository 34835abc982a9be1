"""The audit log under rights: who sees which acts, by tokens of every role (faults 71, 152)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from city import DOCUMENT, id_number
from databases import Databases
from provider import Provider
from running import Running
from test_accountability_accesses import told

Json = dict[str, Any]
#: The policy of the project: outside results open by consent to one encounter.
SHIPPED = Path(__file__).parents[2] / "profiles" / "access" / "policy.toml"

EVER = "date=ge2020-01-01&date=le2199-01-01&_count=100"


class Town:
    """Two hospitals, one patient of the first, and everybody's tokens."""

    def __init__(self, database: Databases, folder: Path) -> None:
        provider = Provider(folder)
        self.running = Running(database.url("rights"), policy=str(SHIPPED), **provider.settings())
        for id in ("north", "south"):
            self.running.institution(id)
        self.north, self.south = (
            provider.token(role="institution", institution=id, client=f"his-{id}")
            for id in ("north", "south")
        )
        self.doctor = provider.token(
            role="clinician", institution="north", user="Practitioner/d1", purpose="TREAT"
        )
        self.regulator = provider.token(role="regulator", user="Practitioner/r1")
        for id, headers in (("p1", self.north), ("p2", self.south)):  # one person, two records
            body = {
                "resourceType": "Patient", "id": id, "name": [{"text": "测试甲"}],
                "identifier": [{"system": DOCUMENT, "value": id_number(71)}],
            }  # fmt: skip
            answer = self.running.put(f"/fhir/Patient/{id}", body, headers=headers)
            assert answer.status_code == 201, answer.text
        self.patient = provider.token(role="patient", patient="p1", user="Patient/p1")
        self.running.get("/fhir/Patient/p1", headers=self.doctor)
        self.running.get("/fhir/Patient/p2", headers=self.south)

    def accesses(self, headers: Json) -> list[Json]:
        answer = self.running.get("/fhir/Patient/p1/$accesses", headers=headers)
        assert answer.status_code == 200, answer.text
        return told(answer.json())


@pytest.fixture(scope="module")
def town(shared_database: Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    one = Town(shared_database, tmp_path_factory.mktemp("provider"))
    yield one
    one.running.close()


def _institutions(found: list[Json]) -> set[str]:
    return {one.get("institution", {}).get("reference", "") for one in found}


def test_071_a_patient_sees_every_access_and_by_whom(town: Town) -> None:
    found = town.accesses(town.patient)
    assert {"Organization/north", "Organization/south"} <= _institutions(found)
    (doctor,) = [one for one in found if one["who"] == "Practitioner/d1"]
    assert (doctor["kind"], doctor["purpose"]["code"]) == ("read", "TREAT")
    assert town.running.get("/fhir/Patient/nobody/$accesses", headers=town.patient).status_code in (
        403,
        404,
    )


def test_071_an_institution_sees_its_own_acts_and_the_regulator_all(town: Town) -> None:
    assert _institutions(town.accesses(town.north)) == {"Organization/north"}
    assert {"Organization/north", "Organization/south"} <= _institutions(
        town.accesses(town.regulator)
    )
    refused = town.running.get("/fhir/Patient/p1/$accesses")
    assert refused.status_code == 401


def _owners(town: Town, headers: Json) -> set[str]:
    answer = town.running.get(f"/fhir/AuditEvent?{EVER}", headers=headers)
    assert answer.status_code == 200, answer.text
    events = [one["resource"] for one in answer.json().get("entry", ())]
    return {event["agent"][0]["who"].get("reference", "") for event in events}


def test_152_each_searches_the_acts_that_concern_it(town: Town) -> None:
    assert _owners(town, town.north) == {"Organization/north"}
    assert _owners(town, town.south) == {"Organization/south"}
    assert {"Organization/north", "Organization/south"} <= _owners(town, town.regulator)
    doctor = town.running.get(f"/fhir/AuditEvent?{EVER}", headers=town.doctor)
    assert doctor.status_code == 403
    mine = town.running.get("/fhir/AuditEvent?patient=Patient/p1", headers=town.patient)
    assert mine.status_code == 200
    named = {
        one["what"]["reference"]
        for entry in mine.json()["entry"]
        for one in entry["resource"]["entity"]
        if one.get("role", {}).get("code") == "1"
    }
    assert named == {"Patient/p1", "Patient/p2"}


def test_152_a_caller_who_may_not_is_on_record(town: Town) -> None:
    headers = {**town.doctor, "x-request-id": "not-allowed"}
    assert town.running.get(f"/fhir/AuditEvent?{EVER}", headers=headers).status_code == 403
    answer = town.running.get(f"/fhir/AuditEvent?{EVER}&outcome=4", headers=town.regulator)
    refusals = [
        one["resource"]
        for one in answer.json()["entry"]
        if "not-allowed" in str(one["resource"]["entity"])
    ]
    assert len(refusals) == 1
    assert refusals[0]["outcomeDesc"].startswith("403")
