"""Two people in one record: a patient's token opens neither until somebody has settled it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from city import DOCUMENT, id_number
from provider import Provider

CARD = {"system": DOCUMENT, "value": id_number(7)}


def test_a_record_that_came_apart_is_shown_to_no_patient(start: Any, tmp_path: Path) -> None:
    provider = Provider(tmp_path)
    server = start(**provider.settings())
    here, there = server.institution("here"), server.institution("there")
    person = {"resourceType": "Patient", "name": [{"text": "试甲"}], "identifier": [CARD]}
    made = []
    for headers in (here, there):
        answer = server.post("/fhir/Patient", person, headers=headers)
        assert answer.status_code == 201, answer.text
        made.append(answer.json()["id"])
    one, other = made
    result = {"resourceType": "Observation", "status": "final", "code": {"text": "x"},
              "subject": {"reference": f"Patient/{one}"}}  # fmt: skip
    assert server.post("/fhir/Observation", result, headers=here).status_code == 201
    patient = provider.token(role="patient", patient=other)
    seen = server.get("/fhir/Observation", headers=patient)
    assert len(seen.json()["entry"]) == 1, "both records are one person's"
    bare = {"resourceType": "Patient", "id": other, "name": [{"text": "试乙"}]}
    assert server.put(f"/fhir/Patient/{other}", bare, headers=there).status_code == 200
    again = provider.token(role="patient", patient=other)
    refused = server.get("/fhir/Observation", headers=again)
    assert refused.status_code == 403, refused.text
    assert refused.json()["issue"][0]["details"]["text"] == "identity-contested"
