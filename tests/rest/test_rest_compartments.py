"""Searches in compartments: Patient/123/Observation (R4 compartmentdefinition.html)."""

from __future__ import annotations

import pytest
from rest_samples import observation, patient


def names(answer):
    assert answer.status_code == 200, answer.text
    return {one["fullUrl"].rpartition("/fhir/")[2] for one in answer.json().get("entry", ())
            if one["search"]["mode"] != "outcome"}  # fmt: skip


def link(answer, relation="self"):
    return {one["relation"]: one["url"] for one in answer.json()["link"]}.get(relation)


@pytest.fixture(scope="module")
def stored(client):
    """Two patients with a little of everything; local names of what is stored."""
    found = {}

    def put(name, resource):
        answer = client.post(f"/fhir/{resource['resourceType']}", resource)
        assert answer.status_code == 201, answer.text
        found[name] = f"{resource['resourceType']}/{answer.json()['id']}"

    put("one", patient(birthDate="1980-01-01"))
    put("two", patient(birthDate="1990-01-01", name=[{"text": "other"}]))
    put("doctor", {"resourceType": "Practitioner", "name": [{"family": "王"}]})
    put("device", {"resourceType": "Device"})
    encounter = {
        "resourceType": "Encounter", "status": "finished", "class": {"code": "AMB"},
        "subject": {"reference": found["one"]},
    }  # fmt: skip
    put("visit", encounter)
    put("relative", {"resourceType": "RelatedPerson", "patient": {"reference": found["one"]}})
    put("result", observation(found["one"], encounter={"reference": found["visit"]},
                              device={"reference": found["device"]}))  # fmt: skip
    put("glucose", observation(found["one"], code={"text": "glucose"}, status="preliminary",
                               performer=[{"reference": found["doctor"]}]))  # fmt: skip
    put("theirs", observation(found["two"]))
    put("condition", {
        "resourceType": "Condition", "subject": {"reference": found["one"]},
        "asserter": {"reference": found["relative"]},
    })  # fmt: skip
    return found


def test_the_compartment_of_a_patient_holds_the_patients_own(client, stored):
    answer = client.get(f"/fhir/{stored['one']}/Observation")
    assert names(answer) == {stored["result"], stored["glucose"]}
    assert link(answer) == f"http://127.0.0.1/fhir/{stored['one']}/Observation"
    final = client.get(f"/fhir/{stored['one']}/Observation?status=final")
    assert names(final) == {stored["result"]}
    form = client.request(
        "POST",
        f"/fhir/{stored['one']}/Observation/_search",
        content=b"status=final",
        headers={"content-type": "application/x-www-form-urlencoded"},
    )
    assert names(form) == {stored["result"]}


@pytest.mark.parametrize(
    ("owner", "type", "expected"),
    [
        ("visit", "Observation", {"result"}),
        ("visit", "Encounter", {"visit"}),
        ("relative", "Condition", {"condition"}),
        ("relative", "RelatedPerson", {"relative"}),
        ("doctor", "Observation", {"glucose"}),
        ("device", "Observation", {"result"}),
        ("two", "Condition", set()),
    ],
)
def test_five_compartments_are_searched(client, stored, owner, type, expected):
    answer = client.get(f"/fhir/{stored[owner]}/{type}")
    assert names(answer) == {stored[name] for name in expected}


def test_a_compartment_is_paged_within_itself(client, stored):
    first = client.get(f"/fhir/{stored['one']}/Observation?_count=1")
    following = link(first, "next")
    assert following.startswith(f"http://127.0.0.1/fhir/{stored['one']}/Observation?_count=1")
    second = client.get(following)
    assert names(first) | names(second) == {stored["result"], stored["glucose"]}
    assert link(second, "next") is None
    assert link(second, "first") == link(first)
    elsewhere = following.replace(stored["one"], stored["two"])
    assert client.get(elsewhere).status_code == 400


def test_a_whole_compartment_is_searched_type_by_type(client, stored):
    mine = {"one", "visit", "relative", "result", "glucose", "condition"}
    pages, path = set(), f"/fhir/{stored['one']}/*?_count=2&_type=Patient,Condition,Observation," \
        "Encounter,RelatedPerson"  # fmt: skip
    while path:
        answer = client.get(path)
        assert len(names(answer)) <= 2
        assert pages.isdisjoint(names(answer))
        pages |= names(answer)
        path = link(answer, "next")
    assert pages >= {stored[name] for name in mine - {"one"}}
    assert stored["theirs"] not in pages
    every = names(client.get(f"/fhir/{stored['one']}/*?_count=500"))
    assert pages <= every
    assert {"AuditEvent"} <= {name.partition("/")[0] for name in every}


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("Observation/1/Condition", 404),  # no compartment of that kind
        ("Organization/1/*", 404),
        ("Patient/1/Practitioner", 404),  # never in it
        ("Patient/1/Nonsense", 404),
        ("Patient/1/Parameters", 405),
        ("Patient/x_y/Observation", 400),
        ("Patient/1/Observation?nonsense=1", 400),
        ("Patient/1/*?code=1", 400),  # not every type has it
        ("Patient/1/*?_sort=-_lastUpdated", 400),
        ("Patient/1/*?_include=Observation:subject", 400),
        ("Patient/1/*?_type=Practitioner", 404),
        ("Patient/1/Observation/1", 404),
        ("Patient/1/Observation/_search/x", 404),
    ],
)
def test_what_cannot_be_in_a_compartment_is_refused(client, path, status):
    answer = client.get(f"/fhir/{path}")
    assert (answer.status_code, answer.json()["resourceType"]) == (status, "OperationOutcome")


def test_an_owner_that_is_not_there_has_an_empty_compartment(client):
    answer = client.get("/fhir/Patient/nobody/Observation")
    assert (answer.status_code, names(answer)) == (200, set())


def test_the_owner_of_a_compartment_is_named_in_the_audit(client, stored):
    client.get(f"/fhir/{stored['two']}/Condition")
    answer = client.get(f"/fhir/AuditEvent?patient={stored['two']}&_sort=-date&_count=1")
    event = answer.json()["entry"][0]["resource"]
    assert event["subtype"][0]["code"] == "search-type"
    assert event["entity"][0]["what"] == {"reference": stored["two"]}
