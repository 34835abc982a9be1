"""Texts of any length are stored, found and shown, whatever an index holds; NUL is none."""

from __future__ import annotations

import random
from urllib.parse import quote

import pytest

from fhir_gateway.settings import CANONICAL
from fhir_gateway.terminology.catalogue import LAB_SYSTEM

#: Nothing in it repeats, so that no index entry becomes short by packing.
_CHANCE = random.Random(20261122)
LONG = "".join(chr(_CHANCE.randrange(0x4E00, 0x9FA5)) for _ in range(6_000))


def test_a_long_name_is_found_by_its_start_by_what_is_inside_and_as_a_whole(client):
    stored = client.post("/fhir/Patient", {"resourceType": "Patient", "name": [{"text": LONG}]})
    assert stored.status_code == 201
    client.post("/fhir/Patient", {"resourceType": "Patient", "name": [{"text": LONG[:500]}]})
    for query, found in [
        (f"name={quote(LONG[:100])}", 2),
        (f"name={quote(LONG[:600])}", 1),
        (f"name={quote(LONG[1:100])}", 0),
        (f"name:contains={quote(LONG[700:800])}", 1),
        (f"name:exact={quote(LONG[:500])}", 1),
    ]:
        bundle = client.get(f"/fhir/Patient?{query}&_total=accurate").json()
        assert (query[:9], bundle.get("total")) == (query[:9], found)


@pytest.mark.parametrize(
    "said",
    [
        {"valueString": LONG},
        {"valueQuantity": {"value": 1, "unit": LONG}},
        {"method": {"text": LONG}},
        {"specimen": {"display": LONG}},
        {"code": {"coding": [{"system": LAB_SYSTEM, "code": "x" * 6_000}]}},
        {"code": {"coding": [{"system": LAB_SYSTEM, "code": "L001", "display": LONG}]}},
        {"extension": [
            {"url": f"{CANONICAL}/StructureDefinition/recognition-mark", "valueString": LONG}
        ]},
    ],
    ids=lambda said: next(iter(said)),
)  # fmt: skip
def test_a_result_may_say_much(client, said):
    patient = client.post("/fhir/Patient", {"resourceType": "Patient"}).json()["id"]
    observation = {
        "resourceType": "Observation", "status": "final",
        "code": {"coding": [{"system": LAB_SYSTEM, "code": "L001"}]},
        "subject": {"reference": f"Patient/{patient}"}, **said,
    }  # fmt: skip
    stored = client.post("/fhir/Observation", observation)
    assert stored.status_code == 201
    again = client.get(f"/fhir/Observation/{stored.json()['id']}").json()
    assert {name: again[name] for name in said} == said


@pytest.mark.parametrize("text", ["\0", "a\0b"])
def test_nul_is_refused_in_a_body_and_in_a_search(client, text):
    refused = client.post("/fhir/Patient", {"resourceType": "Patient", "name": [{"text": text}]})
    assert refused.status_code == 400
    for query in (f"name={quote(text)}", f"identifier={quote(text)}|x"):
        assert client.get(f"/fhir/Patient?{query}").status_code in (200, 400)
    assert client.get(f"/fhir/Patient/{quote(text)}").status_code in (400, 404)
