"""Searches across types: [base]?_type=A,B (hl7.org/fhir/R4/http.html#search)."""

from __future__ import annotations

import pytest
from rest_samples import observation, patient


def names(answer):
    assert answer.status_code == 200, answer.text
    return [one["fullUrl"].rpartition("/fhir/")[2] for one in answer.json().get("entry", ())]


def link(answer, relation="self"):
    return {one["relation"]: one["url"] for one in answer.json()["link"]}.get(relation)


@pytest.fixture(scope="module")
def record(client):
    """One patient's results and conditions: (reference of the patient, of the others)."""
    person = f"Patient/{client.post('/fhir/Patient', patient()).json()['id']}"
    found = []
    for number in range(3):
        condition = {"resourceType": "Condition", "subject": {"reference": person}}
        for one in (observation(person, code={"text": f"{number}"}), condition):
            answer = client.post(f"/fhir/{one['resourceType']}", one)
            found.append(f"{one['resourceType']}/{answer.json()['id']}")
    return person, found


def test_types_follow_one_another(client, record):
    person, found = record
    answer = client.get(f"/fhir?_type=Observation,Condition&patient={person}")
    assert sorted(names(answer)) == sorted(found)
    assert [name.partition("/")[0] for name in names(answer)] == (
        ["Observation"] * 3 + ["Condition"] * 3
    )
    assert answer.json()["total"] == 6
    assert link(answer) == (f"http://127.0.0.1/fhir/?_type=Observation,Condition&patient={person}")
    assert client.get(link(answer)).json()["entry"] == answer.json()["entry"]


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 6])
@pytest.mark.parametrize("types", ["Observation,Condition", "Encounter,Condition,Goal,Observation"])
def test_pages_go_across_types(client, record, size, types):
    person, found = record
    answer = client.get(f"/fhir?_type={types}&patient={person}&_count={size}&_total=accurate")
    seen, pages = names(answer), 1
    while link(answer, "next"):
        assert answer.json()["total"] == 6
        answer = client.get(link(answer, "next"))
        assert link(answer, "first").endswith(f"&_count={size}&_total=accurate")
        seen += names(answer)
        pages += 1
    assert sorted(seen) == sorted(found)
    assert pages == -(-6 // size)


def test_a_form_is_searched_too(client, record):
    answer = client.request(
        "POST",
        "/fhir/_search?_type=Observation",
        content=f"patient={record[0]}".encode(),
        headers={"content-type": "application/x-www-form-urlencoded"},
    )
    assert len(names(answer)) == 3


def test_matches_are_counted_across_types(client, record):
    answer = client.get(f"/fhir?_type=Observation,Condition&patient={record[0]}&_summary=count")
    assert (answer.json()["total"], "entry" in answer.json()) == (6, False)


def test_one_type_may_be_sorted_and_include(client, record):
    answer = client.get(
        f"/fhir?_type=Observation&patient={record[0]}&_sort=-_lastUpdated"
        "&_include=Observation:subject"
    )
    assert names(answer)[-1] == record[0]


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("", "_type"), ("_count=5", "_type"), ("_type=", "_type"), ("_type=Nothing", "_type"),
        ("_type=Observation,", "_type"), ("_type=Patient&_type=Observation", "_type"),
        ("_type=Observation,Condition&_sort=_id", "_sort"),
        ("_type=Observation,Condition&_include=Observation:subject", "_include"),
        ("_type=Observation,Condition&_revinclude=Provenance:target", "_revinclude"),
        ("_type=Observation,Condition&__explain=true", "__explain"),
        ("_type=Observation,Condition&value-quantity=5", "value-quantity"),
        ("_type=Observation&_cursor=x", "_cursor"), ("_type=Observation&_cursor=x~y", "_cursor"),
        ("_type=Observation&_cursor=Observation~y", "_cursor"),
    ],
)  # fmt: skip
def test_what_cannot_be_asked_across_types_is_refused_by_name(client, query, named):
    answer = client.get(f"/fhir?{query}")
    assert (answer.status_code, answer.json()["issue"][0]["expression"]) == (400, [named])


def test_a_page_link_across_types_is_bound_to_its_search(client, record):
    path = f"/fhir?_type=Observation,Condition&patient={record[0]}&_count=2"
    following = link(client.get(path), "next")
    assert client.get(following).status_code == 200
    assert client.get(following.replace("_count=2", "_count=3")).status_code == 400
    assert client.get(following.replace("Observation,Cond", "Goal,Cond")).status_code == 400
    assert client.get(following.replace("~", "~A")).status_code == 400


def test_what_lenient_handling_drops_for_one_type_is_dropped_for_all(client, record):
    answer = client.get(
        f"/fhir?_type=Observation,Condition&patient={record[0]}&status=final",
        headers={"prefer": "handling=lenient"},
    )
    entries = answer.json()["entry"]
    assert [one["search"]["mode"] for one in entries] == ["match"] * 6 + ["outcome"]
    assert entries[-1]["resource"]["issue"][0]["expression"] == ["status"]
    assert "status" not in link(answer)


def test_the_audit_names_the_search_of_the_system(client, record):
    client.get(f"/fhir?_type=Observation,Condition&patient={record[0]}")
    answer = client.get(f"/fhir/AuditEvent?patient={record[0]}&_sort=-date&_count=1")
    event = answer.json()["entry"][0]["resource"]
    assert event["subtype"][0]["code"] == "search-system"
