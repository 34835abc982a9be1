"""Law 3: nothing is disclosed before it is audited (docs/architecture.md, 5.7)."""

from __future__ import annotations

import asyncio
import json
from base64 import b64decode
from uuid import uuid4

import pytest
from rest_samples import bundle, entry, observation, patient
from running import Running

from fhir_gateway.fhir.walk import issues


@pytest.fixture(scope="module")
def server(shared_database):
    one = Running(shared_database.url("audited"))
    yield one
    one.close()


@pytest.fixture(scope="module")
def mine(server):
    return server.institution("first", name="第一医院")


def _events(server, mine, **query):
    found = server.get(
        "/fhir/AuditEvent", params={"_count": "60", "_sort": "-date", **query}, headers=mine
    )
    return [one["resource"] for one in found.json().get("entry", [])]


def _seen(event):
    """(interaction, outcome, what it names) of an event."""
    names = [one["what"]["reference"] for one in event.get("entity", [])
             if "reference" in one.get("what", {})]  # fmt: skip
    return event["subtype"][0]["code"], event["outcome"], names


@pytest.fixture
def person(server, mine):
    return server.post("/fhir/Patient", patient(), headers=mine).json()["id"]


def _of(server, mine, request_id):
    return [
        event
        for event in _events(server, mine)
        if any(one["what"].get("identifier", {}).get("value") == request_id
               for one in event.get("entity", []) if "what" in one)
    ]  # fmt: skip


ACTS = [
    ("create", "POST", "/fhir/Patient", patient(), "0"),
    ("read", "GET", "/fhir/Patient/{person}", None, "0"),
    ("read", "HEAD", "/fhir/Patient/{person}", None, "0"),
    ("vread", "GET", "/fhir/Patient/{person}/_history/1", None, "0"),
    ("history-instance", "GET", "/fhir/Patient/{person}/_history", None, "0"),
    ("search-type", "GET", "/fhir/Patient?_id={person}", None, "0"),
    ("search-type", "GET", "/fhir/Patient?_id=nobody", None, "0"),
    ("search-type", "GET", "/fhir/Observation?patient={person}", None, "0"),
    ("update", "PUT", "/fhir/Patient/{person}", patient(id="{person}"), "0"),
    ("delete", "DELETE", "/fhir/Patient/{person}", None, "0"),
    ("transaction", "POST", "/fhir", bundle("transaction", entry("POST", "Patient", patient())),
     "0"),
    ("read", "GET", "/fhir/Patient/nobody", None, "4"),
    ("read", "GET", "/fhir/Nonsense/1", None, "4"),
    ("vread", "GET", "/fhir/Patient/{person}/_history/9", None, "4"),
    ("search-type", "GET", "/fhir/Patient?nonsense=1", None, "4"),
    ("create", "POST", "/fhir/Patient", {"resourceType": "Patient", "gender": "x"}, "4"),
    ("create", "POST", "/fhir/Observation", observation("Patient/nobody"), "4"),
    ("create", "POST", "/fhir/CodeSystem", {"resourceType": "CodeSystem"}, "4"),
    ("update", "PUT", "/fhir/Organization/first", {"resourceType": "Organization", "id": "first"},
     "4"),
    ("transaction", "POST", "/fhir",
     bundle("transaction", entry("POST", "Patient", {"resourceType": "Patient", "x": 1})), "4"),
]  # fmt: skip


@pytest.mark.parametrize(("interaction", "method", "path", "body", "outcome"), ACTS)
def test_every_act_leaves_its_event(server, mine, person, interaction, method, path, body, outcome):
    act, options = uuid4().hex, {}
    if body is not None:
        options["json"] = json.loads(json.dumps(body).replace("{person}", person))
    headers = {**mine, "x-request-id": act}
    server.request(method, path.format(person=person), headers=headers, **options)
    events = _of(server, mine, act)
    assert [_seen(event)[:2] for event in events] == [(interaction, outcome)]
    event = events[0]
    assert issues(event) == []
    assert event["agent"][0]["who"] == {
        "reference": "Organization/first", "display": "第一医院",
    }  # fmt: skip


def test_a_304_is_a_disclosure_too(server, mine, person):
    headers = {**mine, "if-none-match": 'W/"1"', "x-request-id": "known"}
    assert server.get(f"/fhir/Patient/{person}", headers=headers).status_code == 304
    events = _of(server, mine, "known")
    assert _seen(events[0]) == ("read", "0", [f"Patient/{person}", f"Patient/{person}"])


def test_an_event_stands_in_the_home_of_its_person(server, mine, person):
    server.get(f"/fhir/Patient/{person}", headers=mine)
    about = [_seen(event)[0] for event in _events(server, mine, patient=f"Patient/{person}")]
    assert "read" in about
    assert "create" in about


def test_a_search_across_persons_leaves_one_event_for_each(server, mine):
    people = [
        server.post("/fhir/Patient", patient(name=[{"family": "同名"}]), headers=mine).json()["id"]
        for _ in range(3)
    ]
    headers = {**mine, "x-request-id": "many"}
    server.get("/fhir/Patient", params={"family": "同名"}, headers=headers)
    named = {name for event in _of(server, mine, "many") for name in _seen(event)[2]}
    assert named == {f"Patient/{id}" for id in people}


def test_names_and_numbers_in_a_query_are_not_kept_in_clear(server, mine):
    headers = {**mine, "x-request-id": "query"}
    server.get("/fhir/Patient", params={"family": "王秘密", "_count": "7"}, headers=headers)
    event = _of(server, mine, "query")[0]
    query = next(one["query"] for one in event["entity"] if "query" in one)
    text = b64decode(query).decode()
    assert text.startswith("Patient?family=~")
    assert text.endswith("&_count=7")


def test_metadata_and_health_are_not_audited(server, mine):
    for path in ("/fhir/metadata", "/healthz", "/readyz", "/metrics"):
        server.get(path, headers={"x-request-id": "quiet"})
    assert _of(server, mine, "quiet") == []


def test_a_wrong_token_discloses_nothing_and_is_not_audited(server, mine):
    headers = {"authorization": "Bearer wrong", "x-request-id": "login"}
    assert server.get("/fhir/Patient/x", headers=headers).status_code == 401
    assert _of(server, mine, "login") == []


def test_a_batch_audits_each_entry(server, mine, person):
    body = bundle(
        "batch",
        entry("GET", f"Patient/{person}"),
        entry("GET", "Patient/nobody"),
        entry("POST", "Patient", patient()),
    )
    server.post("/fhir", body, headers={**mine, "x-request-id": "batch"})
    seen = sorted(_seen(event)[:2] for event in _of(server, mine, "batch"))
    assert seen == [("create", "0"), ("read", "0"), ("read", "4")]


@pytest.mark.parametrize(
    "path",
    ["/fhir/Patient/{person}", "/fhir/Patient?_id={person}", "/fhir/Patient/{person}/_history",
     "/fhir/Patient/nobody"],
)  # fmt: skip
def test_the_event_is_on_disk_before_the_first_byte_of_the_answer(
    server, shared_database, mine, person, path
):
    """Another connection counts the journal at the moment when the answer starts."""
    target, _, query = path.format(person=person).partition("?")
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "scheme": "http",
        "method": "GET", "path": target, "raw_path": target.encode(), "root_path": "",
        "query_string": query.encode(), "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80),
        "headers": [(b"host", b"127.0.0.1"), (b"authorization", mine["authorization"].encode())],
    }  # fmt: skip
    counts = []

    def count():
        return shared_database.rows("SELECT count(*) FROM journal", "audited")[0][0]

    async def receive():
        await asyncio.sleep(0)
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message):
        counts.append(count())

    before = count()
    server.run(server.application.asgi(scope, receive, send))
    assert counts == [before + 1, before + 1]


def test_without_audit_nothing_is_written_for_a_read(database):
    """The switch of the benchmark; the command line has none."""
    from fhir_gateway.app import build

    server = Running(database.url("bench"), open_access=True)
    server.run(server.application.close())
    server.application = server.run(build(server.settings, audit=False))
    server.gateway = server.application.gateway

    async def t():
        from fhir_gateway.security.actor import SYSTEM_ACCESS

        async with server.gateway.store.snapshot(SYSTEM_ACCESS) as reader:
            return reader.t

    import httpx

    server.http = httpx.AsyncClient(
        transport=httpx.ASGITransport(app=server.application.asgi), base_url="http://127.0.0.1"
    )
    before = server.run(t())
    server.get("/fhir/Patient/nobody")
    server.get("/fhir/Patient?_id=nobody")
    assert server.run(t()) == before
    server.close()
