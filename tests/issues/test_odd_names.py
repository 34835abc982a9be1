"""Ids and queries that cannot be: refused as such, by every verb and inside Bundles too."""

from __future__ import annotations

from typing import Any

import pytest
from issue_cases import bundle, rule_of

PATIENT = {"resourceType": "Patient", "id": "odd", "name": [{"text": "试"}]}


@pytest.mark.parametrize("id", ["..%2fx", "%2e%2e%00", "x%0a", "a" * 65, "%E8%AF%95", "%ff"])
def test_what_cannot_be_an_id_cannot_be_deleted(client: Any, id: str) -> None:
    answer = client.delete(f"/fhir/Patient/{id}")
    assert answer.status_code in (400, 404)
    entry = bundle(("DELETE", f"Patient/{id}", None))
    assert rule_of(client.post("/fhir", entry)) == (400, "id")


@pytest.mark.parametrize(
    ("method", "resource"), [("GET", None), ("PUT", PATIENT)], ids=["search", "update"]
)
def test_a_query_of_an_entry_must_be_text(client: Any, method: str, resource: Any) -> None:
    entry = (method, "Patient?identifier=urn:x%7C%ff", resource)
    batch = client.post("/fhir", bundle(entry, type="batch")).json()
    assert batch["entry"][0]["response"]["status"].split()[0] == "400"
    if resource is not None:
        assert rule_of(client.post("/fhir", bundle(entry))) == (400, "encoding")
        assert client.get("/fhir/Patient/odd").status_code == 404


def test_an_id_in_its_place_is_still_deleted(client: Any) -> None:
    assert client.delete("/fhir/Patient/never-stored").status_code == 204
