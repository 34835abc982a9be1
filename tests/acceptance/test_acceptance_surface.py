"""The whole surface of the REST door under random requests (faults.md 30, 60; peers.md 14).

Routes, methods, operations, parameters and modifiers come from the tables that answer, so what is
added later is tried without an edit here. Whatever is sent: never a 5xx, every refusal is an
OperationOutcome with a sentence, and no refusal tells back a value that may name a person.
"""

from __future__ import annotations

from urllib.parse import quote

import pytest
from effort import examples
from hypothesis import HealthCheck, given, settings
from surface import CANARY, Request, requests

from fhir_gateway.fhir.xml_read import read_xml
from fhir_gateway.interactions.table import INTERACTIONS
from fhir_gateway.rest.routes import TABLE

MODEST = settings(
    max_examples=examples(200),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture(scope="module")
def city(client):
    """Some resources whose texts are the canary, one of them deleted."""
    number = [{"system": "http://a.example", "value": CANARY}]
    for resource in (
        {"resourceType": "Practitioner", "id": "d", "name": [{"text": CANARY}]},
        {"resourceType": "Patient", "id": "p", "name": [{"text": CANARY}], "identifier": number},
        {"resourceType": "Patient", "id": "gone", "name": [{"text": CANARY}]},
        {"resourceType": "Observation", "id": "o", "status": "final", "code": {"text": CANARY},
         "subject": {"reference": "Patient/p"}, "performer": [{"reference": "Practitioner/d"}]},
    ):  # fmt: skip
        answer = client.put(f"/fhir/{resource['resourceType']}/{resource['id']}", resource)
        assert answer.status_code == 201
    assert client.delete("/fhir/Patient/gone").status_code == 204
    return client


def answered(client, request: Request):
    query = "&".join(f"{quote(name, safe=':$')}={quote(value)}" for name, value in request.pairs)
    path = quote(request.path, safe="/$%*")
    return client.request(
        request.method,
        f"/fhir/{path}?{query}" if query else f"/fhir/{path}",
        headers={name: value.encode() for name, value in request.headers.items()},
        content=request.body,
    )


@MODEST
@given(request=requests())
def test_every_request_is_answered_or_refused_with_a_reason(city, request):
    answer = answered(city, request)
    assert answer.status_code < 500
    assert answer.headers["x-request-id"]
    if answer.status_code < 400 or request.method == "HEAD":
        return
    assert CANARY not in answer.text
    in_xml = "xml" in answer.headers["content-type"]
    outcome = read_xml(answer.content) if in_xml else answer.json()
    assert outcome["resourceType"] == "OperationOutcome"
    assert all(one["diagnostics"] and one["severity"] == "error" for one in outcome["issue"])


def test_the_surface_has_every_route():
    """What the fuzz draws from is what answers."""
    drawn = {(row.method, row.path) for row in INTERACTIONS}
    routed = {(method, path) for path, methods in TABLE.items() for method in methods}
    assert {one for one in routed - drawn if "{operation}" not in one[1]} == set()
