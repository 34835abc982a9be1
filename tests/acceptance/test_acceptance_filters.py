"""No filter is ever ignored (peers.md 2, faults.md 25): what nothing has, nothing is found by."""

from __future__ import annotations

import pytest
from minimal import about, minimal

from fhir_gateway.errors import GatewayError
from fhir_gateway.fhir.home import HOME_RULES
from fhir_gateway.search.planner import plan_search
from fhir_gateway.search.registry import Searchable, searchables

TYPES = (
    "Patient", "Observation", "DiagnosticReport", "ServiceRequest", "ImagingStudy", "Encounter",
    "Condition", "MedicationRequest", "Appointment", "Slot", "Practitioner", "PractitionerRole",
    "Organization", "DocumentReference", "Provenance", "List",
)  # fmt: skip

#: What no resource of this test has, by type of parameter.
NOTHING = {
    "token": "http://none.example|none",
    "reference": "Basic/none",
    "date": "1801",
    "string": "nobodyatall",
    "uri": "http://none.example/none",
    "number": "-987654",
    "quantity": "-987654|http://none.example|none",
}


@pytest.fixture(scope="module")
def one_of_each(client):
    assert client.put("/fhir/Patient/p", {"resourceType": "Patient", "id": "p"}).status_code == 201
    for type in TYPES[1:]:
        rule = HOME_RULES[type]
        resource = about(type, "Patient/p") if rule.person else minimal(type)
        answer = client.put(f"/fhir/{type}/one", {**resource, "id": "one"})
        assert answer.status_code == 201, answer.text
    return client


def value_of(type: str, searchable: Searchable) -> str:
    """A value that the parameter can have, and that no resource has."""
    if searchable.kind == "composite":
        values = [f"{one}${other}" for one in NOTHING.values() for other in NOTHING.values()]
    elif searchable.kind == "reference" and searchable.targets:
        values = [f"{searchable.targets[0]}/none"]
    else:
        values = [NOTHING[searchable.kind]]
    return next((one for one in values if accepts(type, searchable.code, one)), "none")


def accepts(type: str, code: str, value: str) -> bool:
    try:
        plan_search(type, [(code, value)], secret=b"0123456789abcdef")
    except GatewayError:
        return False
    return True


@pytest.mark.parametrize("type", TYPES)
def test_every_filter_filters(one_of_each, type):
    answered = 0
    assert one_of_each.get(f"/fhir/{type}").json()["total"] >= 1
    for code, searchable in searchables(type).items():
        if searchable.refused:
            continue
        answer = one_of_each.get(f"/fhir/{type}", params={code: value_of(type, searchable)})
        body = answer.json()
        if answer.status_code == 400:
            assert body["issue"][0]["expression"] == [code], (code, body)
            continue
        answered += 1
        assert (answer.status_code, body.get("entry"), body["total"]) == (200, None, 0), code
    assert answered > len(searchables(type)) * 0.7
