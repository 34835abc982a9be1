"""Searches by what codes mean, while what they mean changes."""

from __future__ import annotations

from typing import Any

import pytest
from issue_cases import rule_of

ROOT = "http://tests.example.org/paging"

Json = dict[str, Any]


def value_set(id: str, *codes: str, **more: Any) -> Json:
    listed = {"system": f"{ROOT}/cs", "concept": [{"code": code} for code in codes]}
    return {"resourceType": "ValueSet", "id": id, "url": f"{ROOT}/{id}", "status": "active",
            "compose": {"include": [listed]}, **more}  # fmt: skip


def put(client: Any, resource: Json) -> Json:
    answer = client.put(f"/fhir/{resource['resourceType']}/{resource['id']}", resource)
    assert answer.status_code in (200, 201), answer.text
    found: Json = answer.json()
    return found


@pytest.fixture(scope="module", autouse=True)
def observations(client) -> None:
    for number in range(8):
        put(client, {
            "resourceType": "Observation", "id": f"paged-{number}", "status": "final",
            "code": {"coding": [{"system": f"{ROOT}/cs", "code": "AB"[number % 2]}]},
        })  # fmt: skip


def ids(bundle: Json) -> list[str]:
    return [one["resource"]["id"] for one in bundle.get("entry", ())]


def next_of(bundle: Json) -> str:
    return next(one["url"] for one in bundle["link"] if one["relation"] == "next")


@pytest.mark.parametrize(
    "search",
    [
        "Observation?code:in={vs}",
        "Observation?code:not-in={other}&code=http://tests.example.org/paging/cs|",
        "?_type=Observation&code:in={vs}",
    ],
)
def test_a_page_link_ends_when_the_value_set_changes(client, search):
    """The next page left out what the value set no longer holds, and nobody was told."""
    put(client, value_set("moving", "A", "B"))
    put(client, value_set("other", "Z"))
    path = search.format(vs=f"{ROOT}/moving", other=f"{ROOT}/other")
    first = client.get(f"/fhir/{path}&_count=3").json()
    following = next_of(first).partition("/fhir")[2]
    same = client.get(f"/fhir{following}")
    assert (same.status_code, len(ids(same.json()))) == (200, 3)
    put(client, value_set("moving", "A"))
    put(client, value_set("other", "Z", "B"))
    changed = client.get(f"/fhir{following}")
    assert rule_of(changed) == (400, "cursor")
    assert "value set" in changed.json()["issue"][0]["diagnostics"]
    put(client, value_set("moving", "B", "A"))  # the same codes in another order
    put(client, value_set("other", "Z"))
    assert client.get(f"/fhir{following}").status_code == 200


def test_a_version_of_a_value_set_that_is_not_current_is_not_taken_for_it(client):
    """ValueSet/x/_history/1 was searched by what the value set holds now."""
    put(client, value_set("versions", "A"))
    now = put(client, value_set("versions", "A", "B"))["meta"]["versionId"]
    for version, found in (("", 8), (f"/_history/{now}", 8)):
        params = {"code:in": f"ValueSet/versions{version}", "_summary": "count"}
        assert client.get("/fhir/Observation", params=params).json()["total"] == found
    for version in ("1", "99"):
        params = {"code:in": f"ValueSet/versions/_history/{version}"}
        refused = client.get("/fhir/Observation", params=params)
        assert rule_of(refused) == (400, "search-value-set")


def test_a_value_set_that_is_named_by_its_id_is_that_one(client):
    """Of two with the same url the other one was taken, or one with a version."""
    put(client, value_set("twin-a", "A", url=f"{ROOT}/twin"))
    put(client, value_set("twin-b", "nothing", url=f"{ROOT}/twin"))
    put(client, value_set("twin-c", "nothing", url=f"{ROOT}/twin", version="7"))
    for id, found in (("twin-a", 4), ("twin-b", 0), ("twin-c", 0)):
        params = {"code:in": f"ValueSet/{id}", "_summary": "count"}
        assert client.get("/fhir/Observation", params=params).json()["total"] == found
