"""history of a resource, a type and everything over HTTP (hl7.org/fhir/R4/http.html#history)."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from rest_samples import observation, patient


def lines(answer):
    """Method, status and version of each entry."""
    return [
        (one["request"]["method"], one["response"]["status"], one["response"]["etag"])
        for one in answer.json().get("entry", ())
    ]


def links(answer):
    return {link["relation"]: link["url"] for link in answer.json()["link"]}


def names(answer):
    return [one["fullUrl"].rpartition("/fhir/")[2] for one in answer.json().get("entry", ())]


def follow(client, path):
    """The entries of all pages, as (name, etag)."""
    found = []
    while path:
        answer = client.get(path)
        assert answer.status_code == 200
        found += zip(names(answer), [line[2] for line in lines(answer)], strict=True)
        path = links(answer).get("next")
    return found


@pytest.fixture
def three(client):
    """A Patient with three versions, deleted, and put back."""
    stored = client.post("/fhir/Patient", patient()).json()
    path = f"/fhir/Patient/{stored['id']}"
    for gender in ("male", "female"):
        client.put(path, {**stored, "gender": gender})
    client.delete(path)
    client.put(path, {**stored, "gender": "other"})
    return path


def test_a_history_tells_every_request_newest_first(client, three):
    answer = client.get(f"{three}/_history")
    body = answer.json()
    assert (body["type"], body["total"]) == ("history", 5)
    assert lines(answer) == [
        ("PUT", "201 Created", 'W/"5"'),
        ("DELETE", "204 No Content", 'W/"4"'),
        ("PUT", "200 OK", 'W/"3"'),
        ("PUT", "200 OK", 'W/"2"'),
        ("POST", "201 Created", 'W/"1"'),
    ]
    assert [one["request"]["url"] for one in body["entry"]] == [
        three[6:], three[6:], three[6:], three[6:], "Patient",
    ]  # fmt: skip
    assert [one.get("resource", {}).get("gender") for one in body["entry"]] == [
        "other", None, "female", "male", None,
    ]  # fmt: skip
    assert "resource" not in body["entry"][1]
    assert (
        body["entry"][0]["response"]["lastModified"]
        == (body["entry"][0]["resource"]["meta"]["lastUpdated"])
    )


@pytest.mark.parametrize("size", [1, 2, 4])
def test_pages_of_a_history_hold_each_version_once_while_more_are_made(client, three, size):
    answer = client.get(f"{three}/_history?_count={size}")
    found = lines(answer)
    assert "total" not in answer.json()
    while "next" in links(answer):
        client.put(three, {**patient(gender="male"), "id": three.rpartition("/")[2],
                           "birthDate": f"19{50 + len(found)}-01-01"})  # fmt: skip
        answer = client.get(links(answer)["next"])
        found += lines(answer)
    assert [line[2] for line in found] == [f'W/"{n}"' for n in (5, 4, 3, 2, 1)]


def test_a_type_has_a_history(client):
    created = [client.post("/fhir/Medication", {"resourceType": "Medication"}) for _ in range(5)]
    ids = [answer.json()["id"] for answer in created]
    client.put(
        f"/fhir/Medication/{ids[1]}",
        {"resourceType": "Medication", "id": ids[1], "status": "active"},
    )
    client.delete(f"/fhir/Medication/{ids[0]}")
    answer = client.get("/fhir/Medication/_history")
    assert answer.json()["total"] == 7
    assert links(answer) == {"self": "http://127.0.0.1/fhir/Medication/_history"}
    expected = [(f"Medication/{ids[0]}", 'W/"2"'), (f"Medication/{ids[1]}", 'W/"2"')]
    expected += [(f"Medication/{id}", 'W/"1"') for id in reversed(ids)]
    assert follow(client, "/fhir/Medication/_history?_count=3") == expected


def test_what_changed_since_is_asked_with_since(client):
    """IHE mCSD ITI-91, Request Care Services Updates."""
    old = client.post("/fhir/Location", {"resourceType": "Location", "name": "one"})
    new = client.post("/fhir/Location", {"resourceType": "Location", "name": "two"})
    since = new.json()["meta"]["lastUpdated"]
    answer = client.get("/fhir/Location/_history", params={"_since": since})
    assert names(answer)[0] == f"Location/{new.json()['id']}"
    assert links(answer)["self"] == f"http://127.0.0.1/fhir/Location/_history?_since={since}"
    assert (f"Location/{old.json()['id']}" in names(answer)) == (
        old.json()["meta"]["lastUpdated"] >= since
    )
    ahead = client.get("/fhir/Location/_history?_since=2999-01-01T00:00:00%2B08:00")
    assert (ahead.status_code, ahead.json()["total"], "entry" in ahead.json()) == (200, 0, False)
    bare = client.get("/fhir/Location/_history?_since=2999-01-01T00:00:00+08:00")
    assert bare.json()["total"] == 0


def test_what_was_current_is_asked_with_at(client, three):
    versions = client.get(f"{three}/_history").json()["entry"]
    second = next(one for one in versions if one["response"]["etag"] == 'W/"2"')
    moment = quote(second["response"]["lastModified"])
    answer = client.get(f"{three}/_history?_at={moment}")
    assert 'W/"2"' in [line[2] for line in lines(answer)]
    assert names(client.get(f"{three}/_history?_at=1999")) == []
    assert len(names(client.get(f"{three}/_history?_at=2999"))) == 1


def test_everything_has_a_history_also_what_the_audit_wrote(client):
    stored = client.post("/fhir/Patient", patient()).json()
    client.get(f"/fhir/Patient/{stored['id']}")
    first = client.get("/fhir/_history?_count=4")
    assert names(first)[0].startswith("AuditEvent/")
    assert f"Patient/{stored['id']}" in names(first)
    every = follow(client, "/fhir/_history?_count=97")
    assert len(every) == len(set(every))


def test_histories_of_the_journal_are_told(client):
    first = client.get("/fhir/AuditEvent/_history?_count=1")
    assert lines(first) == [("POST", "201 Created", 'W/"1"')]
    id = first.json()["entry"][0]["resource"]["id"]
    assert client.get(f"/fhir/AuditEvent/{id}/_history").json()["total"] == 1


@pytest.mark.parametrize(
    ("query", "status", "names"),
    [
        ("_since=yesterday", 400, "_since"), ("_at=x", 400, "_at"), ("_count=x", 400, "_count"),
        ("_count=0", 400, "_count"), ("_count=-1", 400, "_count"), ("_since=", 400, "_since"),
        ("_cursor=abc", 400, "_cursor"), ("_since=2024&_since=2025", 400, "_since"),
        ("_sinec=2024", 400, "_sinec"), ("_list=1", 400, "_list"), ("_sort=_id", 400, "_sort"),
        ("_summary=true", 400, "_summary"), ("_elements=name", 400, "_elements"),
        ("name=x", 400, "name"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("path", ["_history", "Patient/_history", "Patient/{id}/_history"])
def test_what_history_does_not_take_is_refused_by_name(client, path, query, status, names):
    id = client.post("/fhir/Patient", patient()).json()["id"]
    answer = client.get(f"/fhir/{path.format(id=id)}?{query}")
    assert (answer.status_code, answer.json()["issue"][0]["expression"]) == (status, [names])


def test_lenient_handling_leaves_out_what_is_unknown_and_says_so(client):
    answer = client.get(
        "/fhir/Patient/_history?name=x&_count=1", headers={"prefer": "handling=lenient"}
    )
    assert answer.status_code == 200
    assert links(answer)["self"] == "http://127.0.0.1/fhir/Patient/_history?_count=1"


def test_a_huge_count_is_cut_to_the_limit_and_said_so(client):
    answer = client.get("/fhir/Patient/_history?_count=999999999")
    assert links(answer)["self"] == "http://127.0.0.1/fhir/Patient/_history?_count=500"


def test_a_page_link_is_good_for_its_history_and_caller_only(start):
    running = start()
    mine, theirs = running.institution("h1"), running.institution("h2")
    for _ in range(3):
        running.post("/fhir/Medication", {"resourceType": "Medication"}, headers=mine)
    first = running.get("/fhir/Medication/_history?_count=1", headers=mine)
    link = links(first)["next"]
    assert running.get(link, headers=mine).status_code == 200
    for url, headers in (
        (link, theirs),
        (link.replace("_count=1", "_count=2"), mine),
        (link.replace("Medication/_history", "Patient/_history"), mine),
        (link.replace("_cursor=", "_cursor=A"), mine),
        (link + "A", mine),
    ):
        answer = running.get(url, headers=headers)
        assert answer.status_code == 400
        assert answer.json()["issue"][0]["details"]["text"] == "cursor"


@pytest.mark.parametrize("path", ["Nothing/_history", "Patient/none/_history"])
def test_no_history_of_what_is_not_there(client, path):
    assert client.get(f"/fhir/{path}").status_code == 404


def test_every_person_that_a_history_discloses_has_an_event(start):
    running = start(open_access=True)
    for name in ("one", "two"):
        person = running.post("/fhir/Patient", patient(birthDate="1990-01-01", name=[
            {"text": name}]))  # fmt: skip
        running.post("/fhir/Observation", observation(f"Patient/{person.json()['id']}"))
    running.get("/fhir/Observation/_history")
    running.get("/fhir/_history?_count=100")
    events = [
        one["resource"]
        for one in running.get("/fhir/AuditEvent?_count=100&_sort=-date").json()["entry"]
    ]
    told = {code: [e for e in events if e["subtype"][0]["code"] == code]
            for code in ("history-type", "history-system")}  # fmt: skip
    assert {code: len(found) for code, found in told.items()} == {
        "history-type": 2, "history-system": 2,
    }  # fmt: skip
    for event in told["history-system"]:
        assert event["action"] == "R"
