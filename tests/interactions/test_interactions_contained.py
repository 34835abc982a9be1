"""A result about a patient whom it contains has no person here: refused, not put where nobody finds
it (docs/divergences.md)."""

from __future__ import annotations

import pytest

CONTAINED = {"resourceType": "Patient", "id": "p", "name": [{"text": "试甲"}]}
INSIDE = {"reference": "#p"}


def _observation(**members):
    return {
        "resourceType": "Observation",
        "status": "final",
        "code": {"text": "钾"},
        "contained": [CONTAINED],
        **members,
    }


@pytest.mark.parametrize(
    ("resource", "expression"),
    [
        (_observation(subject=INSIDE), "Observation.subject.reference"),
        (
            {
                "resourceType": "Appointment",
                "status": "booked",
                "contained": [CONTAINED],
                "participant": [{"actor": INSIDE, "status": "accepted"}],
            },
            "Appointment.participant[0].actor.reference",
        ),
        (
            {
                "resourceType": "DeviceRequest",
                "intent": "order",
                "codeCodeableConcept": {"text": "x"},
                "contained": [CONTAINED],
                "subject": INSIDE,
            },
            "DeviceRequest.subject.reference",
        ),
    ],
)
def test_what_is_about_a_contained_patient_is_refused(client, resource, expression):
    answer = client.post(f"/fhir/{resource['resourceType']}", resource)
    assert answer.status_code == 422
    issue = answer.json()["issue"][0]
    assert issue["details"]["text"] == "subject-contained"
    assert issue["expression"] == [expression]


def test_it_is_placed_in_a_bundle_and_nothing_is_stored(client):
    entries = [
        {"resource": resource, "request": {"method": "POST", "url": resource["resourceType"]}}
        for resource in (
            {"resourceType": "Patient", "name": [{"text": "丁一二三"}]},
            _observation(subject=INSIDE),
        )
    ]
    bundle = {"resourceType": "Bundle", "type": "transaction", "entry": entries}
    answer = client.post("/fhir", bundle)
    assert answer.status_code == 422
    place = "Bundle.entry[1].resource.subject.reference"
    assert answer.json()["issue"][0]["expression"] == [place]
    found = client.get("/fhir/Patient", params={"name": "丁一二三", "_summary": "count"}).json()
    assert found["total"] == 0


def test_a_patch_cannot_bring_it_in(client):
    stored = client.post("/fhir/Observation", _observation(contained=[])).json()
    assert "issue" in stored  # an empty array is none
    plain = _observation()
    del plain["contained"]
    stored = client.post("/fhir/Observation", plain).json()
    answer = client.request(
        "PATCH",
        f"/fhir/Observation/{stored['id']}",
        content=b'[{"op":"add","path":"/contained","value":[{"resourceType":"Patient","id":"p"}]},'
        b'{"op":"add","path":"/subject","value":{"reference":"#p"}}]',
        headers={"content-type": "application/json-patch+json"},
    )
    assert answer.json()["issue"][0]["details"]["text"] == "subject-contained"


def test_a_contained_patient_beside_a_person_of_ours_is_no_harm(client):
    person = client.post("/fhir/Patient", {"resourceType": "Patient"}).json()["id"]
    resource = _observation(
        subject={"reference": f"Patient/{person}"},
        extension=[{"url": "http://x.example/mother", "valueReference": INSIDE}],
    )
    assert client.post("/fhir/Observation", resource).status_code == 201
    nobody = _observation(extension=resource["extension"])
    assert client.post("/fhir/Observation", nobody).status_code == 201
