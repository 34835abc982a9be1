"""Concurrency truth: many clients, in one process and in two on one store, on both drivers.

Conditional creates make one resource whatever the condition, no update is lost with or without
If-Match, histories have no gaps, readers see whole transactions (peers.md, complaint 1).
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from uuid import uuid4

import httpx
import pytest
from effort import TORTURE, examples
from rest_samples import SYSTEM, bundle, entry, observation, patient
from rest_server import Served

CLIENTS = 16
ROUNDS = examples(2) if TORTURE else 1
FHIR = {"content-type": "application/fhir+json"}
JSON_PATCH = {"content-type": "application/json-patch+json"}


class Crowd:
    """Clients that ask at once. `ask` takes (method, path, body, headers) for each of them."""

    def __init__(self, loop, doors):
        self.loop, self.doors = loop, doors

    def ask(self, requests):
        return self.loop.run(self._all([self.one(n, *r) for n, r in enumerate(requests)]))

    def play(self, *players):
        """Runs coroutine functions side by side; each gets its number."""
        return self.loop.run(self._all([player(n) for n, player in enumerate(players)]))

    async def _all(self, work):
        return await asyncio.gather(*work)

    async def one(self, number, method, path, body=None, headers=None):
        content = None if body is None else json.dumps(body).encode()
        door = self.doors[number % len(self.doors)]
        return await door.request(
            method, path, content=content, headers={**FHIR, **(headers or {})}
        )

    def get(self, path):
        return self.ask([("GET", path)])[0].json()


@pytest.fixture(scope="module", params=["one process", "two processes"])
def crowd(request, driver, shared_database, tmp_path_factory):
    if request.param == "one process":
        client = request.getfixturevalue("client")
        door = httpx.AsyncClient(
            transport=client.http._transport, base_url="http://127.0.0.1/fhir/"
        )
        yield Crowd(client.loop, [door])
        client.run(door.aclose())
        return
    folder = tmp_path_factory.mktemp("served")
    address = shared_database.url("served")
    servers = [Served(address, folder=folder) for _ in range(2)]
    with asyncio.Runner() as loop:
        doors = [httpx.AsyncClient(base_url=f"{one.fhir}/", timeout=60) for one in servers]
        yield Crowd(loop, doors)
        for door in doors:
            loop.run(door.aclose())
    assert [one.stop() for one in servers] == [0, 0]


@pytest.fixture
def person(crowd):
    return crowd.ask([("POST", "Patient", patient())])[0].json()["id"]


def _by_identifier(crowd, key):
    body = patient(identifier=[{"system": SYSTEM, "value": key}])
    return "Patient", body, f"identifier={SYSTEM}|{key}"


def _by_name_and_birth(crowd, key):
    body = patient(name=[{"family": key}], birthDate="1970-01-01")
    return "Patient", body, f"family={key}&birthdate=1970-01-01"


def _within_a_person(crowd, key):
    id = crowd.ask([("POST", "Patient", patient())])[0].json()["id"]
    body = observation(f"Patient/{id}", code={"coding": [{"system": "urn:x", "code": key}]})
    return "Observation", body, f"patient={id}&code=urn:x|{key}&date=2026-11-01"


def _along_a_chain(crowd, key):
    crowd.ask([("PUT", f"Patient/{key}", patient(id=key, name=[{"family": key}]))])
    return "Observation", observation(f"Patient/{key}"), f"patient.family={key}"


def _of_nobody(crowd, key):
    return "Organization", {"resourceType": "Organization", "name": key}, f"name:exact={key}"


CONDITIONS = (_by_identifier, _by_name_and_birth, _within_a_person, _along_a_chain, _of_nobody)


def _key():
    return f"k{uuid4().hex}"


def _total(crowd, type, query):
    return crowd.get(f"{type}?{query}&_summary=count")["total"]


@pytest.mark.parametrize("condition", CONDITIONS)
def test_conditional_creates_make_one_resource(crowd, condition):
    for _ in range(ROUNDS):
        type, body, query = condition(crowd, _key())
        create = ("POST", type, body, {"if-none-exist": query})
        answers = crowd.ask([create] * CLIENTS)
        assert Counter(one.status_code for one in answers) == {201: 1, 200: CLIENTS - 1}
        assert len({one.json()["id"] for one in answers}) == 1
        assert _total(crowd, type, query) == 1


@pytest.mark.parametrize("condition", CONDITIONS)
def test_conditional_updates_make_one_resource_and_all_land(crowd, condition):
    for _ in range(ROUNDS):
        type, body, query = condition(crowd, _key())
        answers = crowd.ask([("PUT", f"{type}?{query}", body)] * CLIENTS)
        assert Counter(one.status_code for one in answers) == {201: 1, 200: CLIENTS - 1}
        tags = {one.headers["etag"] for one in answers}
        assert tags == {f'W/"{n}"' for n in range(1, CLIENTS + 1)}
        assert _total(crowd, type, query) == 1


def test_conditions_that_overlap_make_one_resource(crowd):
    """Each looks for something else, and each makes what the other looks for."""
    for _ in range(ROUNDS):
        key = _key()
        body = patient(
            identifier=[{"system": SYSTEM, "value": key}],
            name=[{"family": key}],
            birthDate="1970-01-01",
        )
        conditions = [_by_identifier(crowd, key)[2], _by_name_and_birth(crowd, key)[2]]
        answers = crowd.ask([
            ("POST", "Patient", body, {"if-none-exist": conditions[n % 2]}) for n in range(CLIENTS)
        ])  # fmt: skip
        assert Counter(one.status_code for one in answers) == {201: 1, 200: CLIENTS - 1}
        assert _total(crowd, "Patient", conditions[0]) == 1


def test_conditional_deletes_delete_once(crowd):
    for _ in range(ROUNDS):
        _, body, query = _by_identifier(crowd, _key())
        id = crowd.ask([("POST", "Patient", body)])[0].json()["id"]
        answers = crowd.ask([("DELETE", f"Patient?{query}")] * CLIENTS)
        assert {one.status_code for one in answers} == {204}
        history = crowd.get(f"Patient/{id}/_history")
        assert [one["request"]["method"] for one in history["entry"]] == ["DELETE", "POST"]


def test_no_patch_is_lost_without_if_match(crowd, person):
    patches = [
        ("PATCH", f"Patient/{person}",
         [{"op": "add", "path": "/name/-", "value": {"text": f"n{n}"}}], JSON_PATCH)
        for n in range(CLIENTS * ROUNDS)
    ]  # fmt: skip
    answers = []
    for start in range(0, len(patches), CLIENTS):
        answers += crowd.ask(patches[start : start + CLIENTS])
    assert {one.status_code for one in answers} == {200}
    names = [name["text"] for name in crowd.get(f"Patient/{person}")["name"][1:]]
    assert sorted(names) == sorted(f"n{n}" for n in range(len(patches)))
    _check_history(crowd, f"Patient/{person}", len(patches) + 1)


def test_no_count_is_lost_with_if_match(crowd, person):
    """Every client reads, adds one and writes, by PUT or by PATCH, until it was not overtaken."""
    path, url = f"Patient/{person}", "http://x.example/count"
    stored = crowd.get(path)
    zero = {**stored, "extension": [{"url": url, "valueInteger": 0}]}
    assert crowd.ask([("PUT", path, zero)])[0].status_code == 200
    clients, times = 6, ROUNDS

    async def count(number):
        landed = 0
        while landed < times:
            read = await crowd.one(number, "GET", path)
            body, match = read.json(), {"if-match": read.headers["etag"]}
            value = body["extension"][0]["valueInteger"] + 1
            body["extension"][0]["valueInteger"] = value
            if number % 2:
                change = [{"op": "replace", "path": "/extension/0/valueInteger", "value": value}]
                headers = {**match, **JSON_PATCH}
                answer = await crowd.one(number, "PATCH", path, change, headers)
            else:
                answer = await crowd.one(number, "PUT", path, body, match)
            assert answer.status_code in (200, 412)
            landed += answer.status_code == 200

    crowd.play(*[count] * clients)
    assert crowd.get(path)["extension"][0]["valueInteger"] == clients * times
    _check_history(crowd, path, clients * times + 2)


def test_histories_have_no_gaps_whatever_is_written(crowd):
    key = _key()
    path = f"Patient/{key}"
    writes = [
        ("PUT", path, patient(id=key)),
        ("DELETE", path),
        ("PATCH", path, [], JSON_PATCH),
        ("PATCH", path, [{"op": "add", "path": "/active", "value": True}], JSON_PATCH),
        ("PUT", f"Patient?_id={key}", patient(id=key, active=False)),
    ]
    answers = crowd.ask([writes[n % len(writes)] for n in range(CLIENTS * 2)])
    allowed = {200, 201, 204, 404, 409, 410}
    assert {one.status_code for one in answers} <= allowed
    _check_history(crowd, path, None)


def _check_history(crowd, path, count):
    """Newest first, every number once, and time never goes back."""
    entries = crowd.get(f"{path}/_history?_count=500")["entry"]
    numbers = [int(one["response"]["etag"][3:-1]) for one in entries]
    assert numbers == list(range(len(entries), 0, -1))
    assert count in (None, len(entries))
    times = [one["response"]["lastModified"] for one in entries]
    assert times == sorted(times, reverse=True)


def test_readers_see_whole_transactions(crowd):
    """Two resources that are always written together are always read with the same number."""
    one, other = _key(), _key()
    times, writers, readers = 5 * ROUNDS, 2, 6
    done = []

    def both(number):
        return bundle("transaction", *(
            entry("PUT", f"Organization/{id}",
                  {"resourceType": "Organization", "id": id, "name": f"n{number}"})
            for id in (one, other)
        ))  # fmt: skip

    async def write(number):
        for time in range(times):
            answer = await crowd.one(number, "POST", "", both(f"{number}-{time}"))
            assert answer.status_code == 200
        done.append(number)

    async def read(number):
        seen = 0
        while len(done) < writers or not seen:
            answer = await crowd.one(number, "GET", f"Organization?_id={one},{other}")
            names = [hit["resource"]["name"] for hit in answer.json().get("entry", ())]
            assert len(set(names)) <= 1
            assert len(names) in (0, 2)
            seen += 1

    crowd.play(*[write] * writers, *[read] * readers)
    for id in (one, other):
        _check_history(crowd, f"Organization/{id}", writers * times)
