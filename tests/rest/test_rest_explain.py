"""What a search says of itself: its links, its total, what it dropped, how it would run."""

from __future__ import annotations

import pytest
from rest_samples import observation, patient


def link(answer, relation="self"):
    return {one["relation"]: one["url"] for one in answer.json()["link"]}.get(relation)


@pytest.fixture(scope="module")
def person(client):
    one = f"Patient/{client.post('/fhir/Patient', patient()).json()['id']}"
    for number in range(4):
        client.post("/fhir/Observation", observation(one, code={"text": f"{number}"}))
    return one


def test_pages_lead_to_the_next_and_to_the_first_and_never_back(client, person):
    first = client.get(f"/fhir/Observation?patient={person}&_count=2")
    second = client.get(link(first, "next"))
    assert [one["relation"] for one in first.json()["link"]] == ["self", "first", "next"]
    assert [one["relation"] for one in second.json()["link"]] == ["self", "first"]
    assert link(first, "first") == link(second, "first") == link(first)
    assert link(second) == link(first, "next")
    assert client.get(link(second)).content == second.content


def test_a_search_of_one_page_has_one_link_and_its_total(client, person):
    answer = client.get(f"/fhir/Observation?patient={person}")
    assert [one["relation"] for one in answer.json()["link"]] == ["self"]
    assert answer.json()["total"] == 4


@pytest.mark.parametrize(
    ("query", "total"),
    [("_count=2", None), ("_count=2&_total=none", None), ("_total=none", None),
     ("_count=2&_total=accurate", 4), ("_count=2&_total=estimate", 4), ("_count=0", 4),
     ("status=amended", 0)],
)  # fmt: skip
def test_the_total_counts_matches_where_it_is_known(client, person, query, total):
    body = client.get(f"/fhir/Observation?patient={person}&{query}").json()
    assert body.get("total") == total


def test_what_lenient_handling_left_out_stands_beside_the_matches(client, person):
    answer = client.get(
        f"/fhir/Observation?patient={person}&nonsense=1&cod=x&status=final",
        headers={"prefer": "respond-later; wait=5, handling=lenient, return=minimal"},
    )
    *matches, outcome = answer.json()["entry"]
    assert [one["search"]["mode"] for one in matches] == ["match"] * 4
    assert outcome["search"] == {"mode": "outcome"}
    issues = outcome["resource"]["issue"]
    assert [(one["severity"], one["expression"]) for one in issues] == [
        ("warning", ["nonsense"]), ("warning", ["cod"]),
    ]  # fmt: skip
    assert answer.json()["total"] == 4
    assert "nonsense" not in link(answer)


def test_strict_handling_is_the_default_and_may_be_said(client, person):
    for header in ({}, {"prefer": "handling=strict"}, {"prefer": "handling=strict, lenient"}):
        answer = client.get(f"/fhir/Observation?patient={person}&nonsense=1", headers=header)
        assert answer.status_code == 400


@pytest.mark.parametrize(
    ("query", "cost"),
    [("patient={person}&code=x", "home"), ("identifier=x", "index"), ("note=x", None)],
)
def test_a_search_explains_itself_instead_of_running(client, person, query, cost):
    answer = client.get(f"/fhir/Observation?{query.format(person=person)}&__explain=true")
    if cost is None:
        assert answer.status_code == 400
        return
    assert answer.json()["type"] == "searchset"
    (entry,) = answer.json()["entry"]
    told = {one["name"]: one for one in entry["resource"]["parameter"]}
    assert entry["search"] == {"mode": "outcome"}
    assert told["cost"]["valueCode"] == cost
    assert "total" not in answer.json()
    assert "statement" in told
    assert person[8:] not in told["statement"]["valueString"]
