"""Type search over HTTP: GET and POST _search, paging, includes, what was applied."""

from __future__ import annotations

import pytest
from rest_samples import identifier, observation, patient


@pytest.fixture(scope="module")
def person(client):
    stored = client.post("/fhir/Patient", patient(identifier=[identifier()])).json()
    for day in range(1, 8):
        client.post(
            "/fhir/Observation",
            observation(f"Patient/{stored['id']}", effectiveDateTime=f"2026-11-0{day}"),
        )
    return stored


def _dates(answer):
    return [one["resource"]["effectiveDateTime"][-1] for one in answer.json().get("entry", [])]


def test_patient_code_and_date_find_the_results(client, person):
    query = {"patient": person["id"], "code": "http://loinc.org|2951-2", "date": "ge2026-11-05"}
    answer = client.get("/fhir/Observation", params={**query, "_sort": "date"})
    assert _dates(answer) == ["5", "6", "7"]
    one = answer.json()["entry"][0]
    assert one["search"] == {"mode": "match"}
    assert one["fullUrl"] == f"http://127.0.0.1/fhir/Observation/{one['resource']['id']}"


def test_an_empty_result_is_200_without_matches(client, person):
    answer = client.get("/fhir/Observation", params={"patient": person["id"], "code": "nothing"})
    assert answer.status_code == 200
    assert answer.json()["total"] == 0
    (entry,) = answer.json()["entry"]
    assert entry["search"] == {"mode": "outcome"}  # names the sources that were looked through
    answer = client.get("/fhir/Observation", params={"patient": "nobody", "code": "nothing"})
    assert "entry" not in answer.json()


def test_the_self_link_says_what_was_applied(client, person):
    answer = client.get(f"/fhir/Observation?patient={person['id']}&_count=2&_format=json")
    assert answer.json()["link"][0] == {
        "relation": "self",
        "url": f"http://127.0.0.1/fhir/Observation?patient={person['id']}&_count=2&_format=json",
    }


def test_pages_follow_each_other_without_loss_while_others_write(client, person):
    answer = client.get(f"/fhir/Observation?patient={person['id']}&_count=3&_sort=date")
    seen = _dates(answer)
    client.post("/fhir/Observation", observation(f"Patient/{person['id']}",
                                                 effectiveDateTime="2026-10-30"))  # fmt: skip
    while next_link := _link(answer, "next"):
        answer = client.get(next_link)
        assert answer.status_code == 200
        seen += _dates(answer)
    assert seen == ["1", "2", "3", "4", "5", "6", "7"]


def _link(answer, relation):
    links = answer.json().get("link", [])
    return next((link["url"] for link in links if link["relation"] == relation), None)


def test_an_edited_page_link_is_refused(client, person):
    answer = client.get(f"/fhir/Observation?patient={person['id']}&_count=2")
    link = _link(answer, "next")
    assert client.get(link).status_code == 200
    assert client.get(link.replace("_count=2", "_count=3")).status_code == 400
    assert client.get(link[:-4] + "AAAA").status_code == 400


def test_a_page_link_is_bound_to_its_caller(start):
    server = start()
    first, second = server.institution("first"), server.institution("second")
    for _ in range(3):
        server.post("/fhir/Practitioner", {"resourceType": "Practitioner"}, headers=first)
    link = _link(server.get("/fhir/Practitioner?_count=1", headers=first), "next")
    assert server.get(link, headers=first).status_code == 200
    assert server.get(link, headers=second).status_code == 400


def test_post_search_takes_a_form_and_joins_the_query(client, person):
    answer = client.request(
        "POST",
        "/fhir/Observation/_search?_count=2",
        data={"patient": person["id"], "_sort": "date"},
    )
    assert len(_dates(answer)) == 2
    assert _link(answer, "next")


@pytest.mark.parametrize(
    ("content", "type"), [("{}", "application/fhir+json"), ("x", "text/plain")]
)
def test_post_search_takes_nothing_but_a_form(client, content, type):
    answer = client.request(
        "POST", "/fhir/Patient/_search", content=content, headers={"content-type": type}
    )
    assert answer.status_code == 415


def test_post_search_honours_format_in_the_form(client):
    answer = client.request("POST", "/fhir/Patient/_search", data={"_format": "xml"})
    assert (answer.status_code, answer.text[:5]) == (200, "<?xml")
    answer = client.request("POST", "/fhir/Patient/_search", data={"_format": "ttl"})
    assert answer.status_code == 406


def test_includes_come_beside_the_matches(client, person):
    answer = client.get(
        f"/fhir/Observation?patient={person['id']}&_count=1&_include=Observation:subject"
    )
    modes = {one["resource"]["resourceType"]: one["search"]["mode"]
             for one in answer.json()["entry"]}  # fmt: skip
    assert modes == {"Observation": "match", "Patient": "include"}


def test_identifier_finds_a_person_among_all(client, person):
    number = person["identifier"][0]
    answer = client.get(
        "/fhir/Patient", params={"identifier": f"{number['system']}|{number['value']}"}
    )
    assert [one["resource"] for one in answer.json()["entry"]] == [person]


def test_a_search_sees_what_was_just_written(client, person):
    """Aggregators index in the background; a gateway that reminds of results must not."""
    for number in range(5):
        code = f"fresh-{number}"
        fresh = observation(f"Patient/{person['id']}", code={"coding": [{"code": code}]})
        client.post("/fhir/Observation", fresh)
        answer = client.get("/fhir/Observation", params={"patient": person["id"], "code": code})
        assert len(answer.json()["entry"]) == 1


def test_one_wrong_letter_in_a_parameter_is_never_ignored(client):
    """peers.md 5.2: a filter that is dropped returns everyone."""
    from fhir_gateway.fhir.definitions import definitions

    known = set(definitions().search_parameters["Observation"])
    for name in ("patient", "code", "date", "status", "subject", "category"):
        for place in range(len(name)):
            wrong = name[:place] + "q" + name[place + 1 :]
            if wrong not in known:
                assert client.get(f"/fhir/Observation?{wrong}=x").status_code == 400
