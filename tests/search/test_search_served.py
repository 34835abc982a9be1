"""Chains, _has, includes and lists through a whole gateway, on both databases."""

from __future__ import annotations

from typing import Any

import pytest
from running import Running

Resource = dict[str, Any]


def made(client: Running, resource: Resource) -> str:
    """The name of a resource that was just created."""
    answer = client.post(f"/fhir/{resource['resourceType']}", resource)
    assert answer.status_code == 201, answer.text
    return f"{resource['resourceType']}/{answer.json()['id']}"


@pytest.fixture(scope="module")
def ward(client: Running) -> dict[str, str]:
    """A patient with a practitioner, two results of which one is the other's member."""
    doctor = made(client, {"resourceType": "Practitioner", "name": [{"family": "Served"}]})
    patient = made(client, {
        "resourceType": "Patient", "name": [{"family": "Served"}],
        "identifier": [{"system": "http://served", "value": "1"}],
        "generalPractitioner": [{"reference": doctor}],
    })  # fmt: skip
    result = {
        "resourceType": "Observation", "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": "718-7"}]},
        "subject": {"reference": patient},
    }  # fmt: skip
    part = made(client, result)
    panel = made(client, {**result, "code": {"text": "panel"},
                          "hasMember": [{"reference": part}],
                          "performer": [{"reference": doctor}]})  # fmt: skip
    return {"doctor": doctor, "patient": patient, "part": part, "panel": panel}


def names(client: Running, url: str) -> list[str]:
    answer = client.get(f"/fhir/{url}")
    assert answer.status_code == 200, answer.text
    entries = [one["resource"] for one in answer.json().get("entry", [])]
    return [f"{one['resourceType']}/{one['id']}" for one in entries]


def test_chains_and_has(client: Running, ward: dict[str, str]) -> None:
    both = [ward["part"], ward["panel"]]
    assert names(client, "Observation?patient.identifier=http://served|1") == both
    assert names(client, f"Observation?patient={ward['patient']}&performer.family=served") == [
        ward["panel"]
    ]
    chain = "Observation?subject:Patient.general-practitioner:Practitioner.family=served"
    assert names(client, chain) == both
    has = "Patient?identifier=http://served|1&_has:Observation:patient:code"
    assert names(client, f"{has}=718-7") == [ward["patient"]]
    assert names(client, f"{has}=other") == []
    nested = "Practitioner?family=served&_has:Observation:performer:has-member.code=718-7"
    assert names(client, nested) == [ward["doctor"]]


def test_includes(client: Running, ward: dict[str, str]) -> None:
    url = f"Observation?_id={ward['panel'].partition('/')[2]}"
    found = names(client, f"{url}&_include=*&_include:iterate=Patient:general-practitioner")
    assert sorted(found) == sorted(ward.values())
    assert names(client, f"{url}&_include=Observation:has-member") == [ward["panel"], ward["part"]]


def test_5_a_list_of_113_values(client: Running, ward: dict[str, str]) -> None:
    codes = ",".join(["http://loinc.org|718-7", *(f"http://loinc.org|{n}" for n in range(112))])
    url = f"Observation?patient={ward['patient']}&code={codes}&_sort=-date,code"
    assert names(client, url) == [ward["part"]]


def test_what_is_audited_can_be_chained(client: Running, ward: dict[str, str]) -> None:
    """Journal entries are there for a chain as soon as they are told."""
    patient = ward["patient"]
    client.get(f"/fhir/{patient}")
    url = f"Patient?_id={patient.partition('/')[2]}&_has:AuditEvent:patient:action=R"
    assert names(client, url) == [patient]
