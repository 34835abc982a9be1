"""If-None-Exist, conditional update, delete and references: one condition, one resource, however
many ask at once (peers.md: the race that every server examined has lost)."""

from __future__ import annotations

import asyncio

import pytest
from rest_samples import SYSTEM, bundle, entry, identifier, observation, patient

FHIR = {"content-type": "application/fhir+json"}


def _token(number):
    return f"{number['system']}|{number['value']}"


def _create(client, number, body=None):
    headers = {"if-none-exist": f"identifier={_token(number)}"}
    return client.post("/fhir/Patient", body or patient(identifier=[number]), headers=headers)


def test_the_second_create_finds_the_first(client):
    number = identifier()
    first, second = _create(client, number), _create(client, number)
    assert (first.status_code, second.status_code) == (201, 200)
    assert second.json() == first.json()
    assert second.headers["location"] == first.headers["location"]


def test_sixteen_clients_make_one_resource_for_each_key(client):
    numbers = [identifier() for _ in range(8)]

    async def create(number):
        return await client.http.post(
            "/fhir/Patient",
            json=patient(identifier=[number]),
            headers={**FHIR, "if-none-exist": f"identifier={_token(number)}"},
        )

    async def storm():
        return await asyncio.gather(*(create(number) for number in numbers for _ in range(16)))

    answers = client.run(storm())
    for index, number in enumerate(numbers):
        mine = answers[index * 16 : index * 16 + 16]
        assert sorted(answer.status_code for answer in mine) == [200] * 15 + [201]
        assert len({answer.json()["id"] for answer in mine}) == 1
        found = client.get("/fhir/Patient", params={"identifier": _token(number)}).json()
        assert len(found["entry"]) == 1


def test_parallel_transactions_make_one_resource_for_each_key(client):
    number = identifier()
    body = bundle(
        "transaction",
        {
            "fullUrl": "urn:uuid:7c9e6679-7425-40de-944b-e07fc1f90ae7",
            **entry(
                "POST", "Patient", patient(identifier=[number]),
                ifNoneExist=f"identifier={_token(number)}",
            ),
        },
        entry("POST", "Observation", observation("urn:uuid:7c9e6679-7425-40de-944b-e07fc1f90ae7")),
    )  # fmt: skip

    async def storm():
        send = [client.http.post("/fhir", json=body, headers=FHIR) for _ in range(8)]
        return await asyncio.gather(*send)

    answers = [answer.json()["entry"] for answer in client.run(storm())]
    people = {one[0]["response"]["location"].split("/")[1] for one in answers}
    assert len(people) == 1
    statuses = sorted(one[0]["response"]["status"] for one in answers)
    assert statuses == ["200 OK"] * 7 + ["201 Created"]
    found = client.get("/fhir/Observation", params={"patient": people.pop()}).json()
    assert len(found["entry"]) == 8


def test_several_matches_are_412(client):
    number = identifier()
    for _ in range(2):
        client.post("/fhir/Patient", patient(identifier=[number]))
    refused = _create(client, number)
    assert refused.status_code == 412
    assert refused.json()["issue"][0]["code"] == "multiple-matches"


def test_a_deleted_match_does_not_count(client):
    number = identifier()
    first = _create(client, number).json()
    client.delete(f"/fhir/Patient/{first['id']}")
    assert _create(client, number).status_code == 201


@pytest.mark.parametrize(
    "condition",
    [
        "",
        "identifier=",
        "identifier=a|b&name=",
        "nonsense=1",
        "name:nonsense=1",
        "_sort=name",
        "identifier=a|b&_count=1",
        "identifier=a|b&_include=Patient:organization",
        "_summary=count",
        "birthdate=yesterday",
    ],
)
def test_what_is_no_condition_is_refused(client, condition):
    body = patient(identifier=[identifier()])
    answers = [
        client.post("/fhir/Patient", body, headers={"if-none-exist": condition}),
        client.put(f"/fhir/Patient?{condition}", body),
        client.delete(f"/fhir/Patient?{condition}"),
    ]
    assert [answer.status_code for answer in answers] == [400, 400, 400]


def test_conditional_update_creates_updates_and_refuses(client):
    number = identifier()
    path = f"/fhir/Patient?identifier={SYSTEM}%7C{number['value']}"
    created = client.put(path, patient(identifier=[number]))
    updated = client.put(path, patient(identifier=[number], gender="male"))
    assert (created.status_code, updated.status_code) == (201, 200)
    assert updated.json()["id"] == created.json()["id"]
    assert updated.headers["etag"] == 'W/"2"'
    other = client.put(path, patient(id="someone-else", identifier=[number]))
    assert other.status_code == 400
    client.post("/fhir/Patient", patient(identifier=[number]))
    assert client.put(path, patient(identifier=[number])).status_code == 412


def test_conditional_references_are_resolved(client):
    number = identifier()
    person = _create(client, number).json()
    wanted = f"Patient?identifier={_token(number)}"
    answer = client.post("/fhir/Observation", observation(wanted))
    assert answer.status_code == 201
    assert answer.json()["subject"]["reference"] == f"Patient/{person['id']}"


def test_a_conditional_reference_may_name_what_the_bundle_creates(client):
    number = identifier()
    answer = client.post("/fhir", bundle(
        "transaction",
        entry("POST", "Observation", observation(f"Patient?identifier={_token(number)}")),
        entry("POST", "Patient", patient(identifier=[number]),
              ifNoneExist=f"identifier={_token(number)}"),
    ))  # fmt: skip
    result, person = (one["response"]["location"] for one in answer.json()["entry"])
    stored = client.get(f"/fhir/{result}").json()
    assert stored["subject"]["reference"] == person.removesuffix("/_history/1")


def test_conditional_references_that_name_none_or_several_are_refused(client):
    number = identifier()
    wanted = observation(f"Patient?identifier={_token(number)}")
    none = client.post("/fhir/Observation", wanted)
    assert none.status_code == 422
    assert none.json()["issue"][0]["expression"] == ["Observation.subject.reference"]
    for _ in range(2):
        client.post("/fhir/Patient", patient(identifier=[number]))
    assert client.post("/fhir/Observation", wanted).status_code == 412


@pytest.mark.parametrize("suffix", ["", "/_history/1"])
def test_a_conditional_read_answers_304_for_what_is_known(client, suffix):
    stored = client.post("/fhir/Patient", patient()).json()
    path = f"/fhir/Patient/{stored['id']}{suffix}"
    modified = client.get(path).headers["last-modified"]
    known = [
        {"if-none-match": 'W/"1"'}, {"if-none-match": '"1"'}, {"if-none-match": "*"},
        {"if-none-match": 'W/"7", W/"1"'}, {"if-modified-since": modified},
    ]  # fmt: skip
    for headers in known:
        answer = client.get(path, headers=headers)
        assert (answer.status_code, answer.content) == (304, b"")
        assert answer.headers["etag"] == 'W/"1"'
    other = {"if-none-match": 'W/"2"', "if-modified-since": modified}  # the ETag goes first
    assert client.get(path, headers=other).status_code == 200
