"""Searching the audit log: IHE ITI-81, who may, and that it holds no secrets (faults 153, 154)."""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Iterator
from typing import Any

import pytest
from databases import Databases
from recorder import acts_of
from running import Running

from fhir_gateway.accountability.pages import pages_between
from fhir_gateway.audit.events import read_event
from fhir_gateway.interactions.audit import call_of, disclose, entry
from fhir_gateway.security.actor import Actor

Json = dict[str, Any]

#: Planted in what is stored and asked; none of it may be in the audit log.
CANARIES = ("110101199003078515", "金丝雀", "19900307", "13912345678", "77.7731")
DOCTOR = Actor(
    "clinician", "示例医院", "demo-a", user="Practitioner/d1", client="his-a", purpose="TREAT",
    token="jti-9", basis="opt-in-per-encounter",
)  # fmt: skip


@pytest.fixture(scope="module")
def server(shared_database: Databases) -> Iterator[Running]:
    one = Running(shared_database.url("searched"), open_access=True)
    one.put("/fhir/Patient/p1", {
        "resourceType": "Patient", "id": "p1", "birthDate": "1990-03-07",
        "name": [{"text": "金丝雀"}], "telecom": [{"system": "phone", "value": "13912345678"}],
        "identifier": [{"system": "urn:oid:2.16.156.10011.1.3", "value": CANARIES[0]}],
    })  # fmt: skip
    one.put("/fhir/Observation/o1", {
        "resourceType": "Observation", "id": "o1", "status": "final", "code": {"text": "x"},
        "subject": {"reference": "Patient/p1"}, "valueQuantity": {"value": 77.7731},
    })  # fmt: skip
    event = read_event(call_of(one.gateway, DOCTOR), type="Patient", id="p1", patient="p1")
    one.run(disclose(one.gateway, [entry(one.gateway, event, patient="p1")]))
    one.get("/fhir/Patient/nobody")
    yield one
    one.close()


EVER = "date=ge2020-01-01&date=le2199-01-01"


@pytest.mark.parametrize(
    ("query", "finds"),
    [
        (EVER, True),
        ("date=ge2199-01-01", False),
        (f"{EVER}&agent=Practitioner/d1", True),
        (f"{EVER}&agent=Organization/demo-a", True),
        (f"{EVER}&agent=Organization/demo-b", False),
        (f"{EVER}&altid=his-a", True),
        (f"{EVER}&policy=jti-9", True),
        ("patient=Patient/p1", True),
        (f"patient.identifier=urn:oid:2.16.156.10011.1.3|{CANARIES[0]}", True),
        ("patient=Patient/p2", False),
        ("entity=Observation/o1", True),
        (f"{EVER}&type=rest&subtype=read&action=R&outcome=0", True),
        (f"{EVER}&outcome=4", True),
        (f"{EVER}&outcome=8", False),
        (f"{EVER}&entity-role=1&entity-type=1", True),
    ],
)
def test_the_audit_log_is_searched_as_iti_81_says(server: Running, query: str, finds: bool) -> None:
    answer = server.get(f"/fhir/AuditEvent?{query}")
    assert answer.status_code == 200, answer.text
    assert bool(answer.json().get("entry")) is finds


def test_152_a_search_of_the_audit_log_is_on_record_too(server: Running) -> None:
    server.get(f"/fhir/AuditEvent?{EVER}&_count=3", headers={"x-request-id": "looked-up"})
    acts = [act for _, act in acts_of(server) if act.request == "looked-up"]
    assert acts
    assert all(act.query.startswith("AuditEvent?date=ge2020-01-01") for act in acts)


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
def test_154_no_door_changes_a_record(server: Running, method: str) -> None:
    (found, *_) = server.get("/fhir/AuditEvent?patient=Patient/p1").json()["entry"]
    id = found["resource"]["id"]
    answer = server.request(method, f"/fhir/AuditEvent/{id}", json=found["resource"])
    assert answer.status_code == 405
    assert server.get(f"/fhir/AuditEvent/{id}").json() == found["resource"]


def test_153_the_audit_log_holds_no_number_name_or_result(server: Running) -> None:
    number = CANARIES[0]
    for path in (
        f"Patient?identifier={number}", "Patient?name=金丝雀", "Patient?birthdate=1990-03-07",
        "Patient?phone=13912345678", f"Observation?subject:Patient.identifier={number}",
        "Observation?value-quantity=77.7731", f"Patient?_filter={number}", f"Patient?x={number}",
        f"Nonsense?identifier={number}", "Patient/p1/$everything", "Observation/o1",
        f"Patient/$ihe-pix?sourceIdentifier=urn:oid:2.16.156.10011.1.3|{number}",
    ):  # fmt: skip
        server.get(f"/fhir/{path}")
    server.post("/fhir/Patient/_search?", {}, params={"identifier": number})
    server.put("/fhir/Patient/p1", {"resourceType": "Patient", "id": "p2", "birthDate": number})
    texts = server.run(_texts(server))
    assert len(texts) > 15
    told = [(canary, text) for canary in CANARIES for text in texts if canary in text]
    assert told == []


async def _texts(server: Running) -> list[str]:
    """Every AuditEvent as text, its queries spelled out."""
    found = []
    async for page in pages_between(server.gateway, 0, 1 << 62):
        for row in page:
            event = json.loads(row.whole)
            queries = [one["query"] for one in event.get("entity", ()) if "query" in one]
            found.append(" ".join([str(event), *(b64decode(one).decode() for one in queries)]))
    return found
