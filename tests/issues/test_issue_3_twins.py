"""Two stores that differ only in what a caller may not see: it gets the same answers from both."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from effort import examples
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from running import Running

from fhir_gateway.fhir.keys import key64
from fhir_gateway.interactions.jobs import work_once
from fhir_gateway.rest.later import WORKS
from fhir_gateway.security.actor import Access, Actor
from fhir_gateway.security.tokens import Known, hash_token

Json = dict[str, Any]

_TIMES = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z")
_CURSOR = re.compile(r"_cursor=[A-Za-z0-9_-]+")

_MINE = Access(owners=frozenset({key64("Organization/mine")}))


class World:
    """A store with shared records, my own, and another institution's; asked as me."""

    def __init__(self, server: Running, hidden: list[Json]) -> None:
        self.server = server
        self.mine, self.theirs = server.institution("mine"), server.institution("theirs")
        for resource in SHARED:
            self.put(resource, {})
        for resource in OWN:
            self.put(resource, self.mine)
        for resource in hidden:
            self.put(resource, self.theirs)
        for resource in hidden[:2]:  # superseded and deleted versions are theirs too
            self.put({**resource, "language": "zh"}, self.theirs)
        name = f"{hidden[2]['resourceType']}/{hidden[2]['id']}"
        assert server.delete(f"/fhir/{name}", headers=self.theirs).status_code == 204
        self.put({**OWN[-1], "language": "zh"}, self.mine)

    def put(self, resource: Json, headers: dict[str, str]) -> None:
        path = f"/fhir/{resource['resourceType']}/{resource['id']}"
        answer = self.server.put(path, resource, headers=headers)
        assert answer.status_code in (200, 201), answer.text

    def ask(self, method: str, path: str, **options: Any) -> tuple[int, str]:
        """Status and body of my request; times and the MACs of cursors are of each store alone."""
        gateway = self.server.gateway
        token = hash_token(self.mine["authorization"].partition(" ")[2])
        actor = Actor("institution", "mine", "mine", _MINE)
        gateway.tokens[token] = Known(actor, gateway.clock.now() + 4_000_000, 1 << 60, "static")
        headers = {**self.mine, **options.pop("headers", {})}
        answer = self.server.request(method, f"/fhir/{path}", headers=headers, **options)
        text = _CURSOR.sub("_cursor=…", _TIMES.sub("…", answer.text))
        return answer.status_code, text


def person(id: str, name: str, **members: Any) -> Json:
    return {"resourceType": "Patient", "id": id, "name": [{"family": name}], **members}


def result(id: str, patient: str, code: str, **members: Any) -> Json:
    return {"resourceType": "Observation", "id": id, "status": "final",
            "code": {"coding": [{"system": "http://c", "code": code}]},
            "category": [{"coding": [{"code": "laboratory"}]}],
            "subject": {"reference": f"Patient/{patient}"}, **members}  # fmt: skip


def value(number: float) -> Json:
    return {"value": number, "system": "http://unitsofmeasure.org", "code": "mmol/L"}


SHARED: list[Json] = [
    person("p", "王", identifier=[{"system": "http://i", "value": "1"}]),
    person("q", "李", identifier=[{"system": "http://i", "value": "2"}]),
    {"resourceType": "Practitioner", "id": "d", "name": [{"family": "赵"}]},
]
OWN: list[Json] = [
    result("m1", "p", "a", effectiveDateTime="2024-03-05", valueQuantity=value(5),
           performer=[{"reference": "Practitioner/d"}]),
    result("m2", "p", "b", effectiveDateTime="2024-03-06", valueQuantity=value(7)),
    result("m3", "q", "a", effectiveDateTime="2024-03-07"),
]  # fmt: skip
HIDDEN: list[Json] = [
    result("s1", "p", "a", effectiveDateTime="2024-03-05", valueQuantity=value(6),
           performer=[{"reference": "Practitioner/d"}],
           derivedFrom=[{"reference": "Observation/m1"}]),
    person("h", "孙", identifier=[{"system": "http://i", "value": "3"}],
           generalPractitioner=[{"reference": "Practitioner/d"}]),
    result("s2", "q", "b", effectiveDateTime="2024-03-08"),
    result("s3", "q", "c", hasMember=[{"reference": "Observation/m3"}], valueQuantity=value(5),
           effectiveDateTime="2024-03-09"),
    {"resourceType": "DiagnosticReport", "id": "s4", "status": "final", "code": {"text": "x"},
     "subject": {"reference": "Patient/p"}, "result": [{"reference": "Observation/s1"}]},
    {"resourceType": "List", "id": "s5", "status": "current", "mode": "working",
     "entry": [{"item": {"reference": "Observation/m1"}}]},
]  # fmt: skip
#: As many versions that nobody's search is about, so that numbers of commits are the same.
FILLER: list[Json] = [
    {"resourceType": "Basic", "id": f"f{number}", "code": {"text": "x"}}
    for number in range(len(HIDDEN))
]

READS = [
    *(f"{one['resourceType']}/{one['id']}" for one in HIDDEN),
    *(f"{one['resourceType']}/{one['id']}/_history" for one in (*HIDDEN, OWN[-1])),
    *(f"{one['resourceType']}/{one['id']}/_history/1" for one in HIDDEN),
    *(f"{one['resourceType']}/{one['id']}/$meta" for one in HIDDEN),
    "Observation/_history", "Observation/_history?_at=2099",
    "Observation/_history?_since=2020-01-01", "Patient/_history?_count=2",
    *(f"Patient/{id}/$everything{rest}" for id in "pqh"
      for rest in ("", "?_count=2", "?_type=Observation,List", "?start=2024-03-05")),
    "Observation/$lastn?patient=p&category=laboratory",
    "Observation/$lastn?patient=q&category=laboratory&max=3",
    *(f"Patient/{id}/{rest}" for id in "pqh"
      for rest in ("Observation", "*?_type=Observation,List,DiagnosticReport")),
    "Practitioner/d/*?_type=Observation,Patient", "Patient/h/Observation?code=a",
]  # fmt: skip

FILTERS = [
    "patient=p", "patient=q", "patient=h", "patient=p,q", "code=a", "code=http://c|c", "code=b",
    "code:not=a", "patient.family=王", "patient.family=孙", "patient.identifier=http://i|3",
    "performer:Practitioner.family=赵", "_has:DiagnosticReport:result:status=final",
    "_has:Observation:has-member:code=c", "_has:Observation:derived-from:code=a", "_list=s5",
    "has-member.code=a", "derived-from:missing=false", "date=ge2024-03-06",
    "value-quantity=5", "value-quantity=gt5|http://unitsofmeasure.org|mol/m3",
    "code-value-quantity=http://c|a$6", "_lastUpdated=gt2020-01-01", "_id=s1,m1,s3",
    "performer=Practitioner/d", "value-quantity:missing=true", "status=final",
]  # fmt: skip
SHAPES = [
    "_sort=date", "_sort=-date", "_sort=value-quantity", "_sort=-_lastUpdated", "_count=1",
    "_total=accurate", "_total=estimate", "_summary=count", "_include=Observation:subject",
    "_include=*", "_include=Observation:derived-from", "_revinclude=Observation:derived-from",
    "_revinclude=DiagnosticReport:result", "_revinclude:iterate=Observation:has-member",
    "_revinclude=List:item", "_elements=code",
]  # fmt: skip
PEOPLE = [
    "name=孙", "name=sun", "identifier=http://i|3", "general-practitioner=Practitioner/d",
    "_has:Observation:patient:code=c", "_has:Observation:patient:code=b",
    "general-practitioner:Practitioner.family=赵", "_has:DiagnosticReport:patient:status=final",
    "_id=h,p", "gender:missing=true",
    "_has:Observation:patient:_has:DiagnosticReport:result:status=final",
]  # fmt: skip

searches = st.one_of(
    st.tuples(
        st.just("Observation"),
        st.lists(st.sampled_from(FILTERS), min_size=1, max_size=3, unique=True),
        st.lists(st.sampled_from(SHAPES), max_size=2, unique=True),
    ),
    st.tuples(
        st.just("Patient"),
        st.lists(st.sampled_from(PEOPLE), min_size=1, max_size=2, unique=True),
        st.lists(st.sampled_from(["_count=1", "_total=accurate", "_sort=family", "_include=*",
                                  "_revinclude=Observation:subject"]), max_size=2, unique=True),
    ),
)  # fmt: skip


@pytest.fixture(scope="module")
def worlds(shared_database: Any) -> Any:
    """One with the hidden records, one without."""
    servers = [Running(shared_database.url(name), open_access=True) for name in ("one", "two")]
    yield [World(server, hidden) for server, hidden in zip(servers, (HIDDEN, FILLER), strict=True)]
    for server in servers:
        server.close()


def both(worlds: list[World], ask: Callable[[World], Any]) -> Any:
    """What both say, which is the same."""
    first, second = (ask(world) for world in worlds)
    assert first == second
    return first


def test_reads_histories_and_records_are_the_same(worlds: list[World]) -> None:
    for path in READS:
        status, text = both(worlds, lambda world, path=path: world.ask("GET", path))
        assert status in (200, 404), text


@settings(
    max_examples=examples(40), deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip
@given(searches)
def test_searches_are_the_same(
    worlds: list[World], asked: tuple[str, list[str], list[str]]
) -> None:
    type, filters, shapes = asked
    path = f"{type}?{'&'.join([*filters, *shapes])}"
    status, text = both(worlds, lambda world: world.ask("GET", path))
    assert status in (200, 400), text


def test_the_history_of_everything_is_the_same_but_for_the_audit(worlds: list[World]) -> None:
    def ask(world: World) -> list[tuple[str, Json]]:
        entries = json.loads(world.ask("GET", "_history?_count=500")[1])["entry"]
        return [
            (entry["fullUrl"], entry.get("resource", {}))
            for entry in entries
            if "/AuditEvent/" not in entry["fullUrl"] and "/Organization/" not in entry["fullUrl"]
        ]

    assert len(both(worlds, ask)) > len(OWN)


#: Exports run with the rights that the caller's credential has when they run, not with those that
#: this world lends it: tests/rest/test_rest_export.py and tests/interactions have them.
LATER = ["Observation?patient=p&_include=*"]


@pytest.mark.parametrize("kind", LATER)
def test_what_comes_later_is_the_same(worlds: list[World], kind: str) -> None:
    def ask(world: World) -> list[Any]:
        token = hash_token(world.mine["authorization"].partition(" ")[2])
        gateway = world.server.gateway
        actor = Actor("institution", "mine", "mine", _MINE)
        gateway.tokens[token] = Known(actor, gateway.clock.now() + 4_000_000, 1 << 60, "static")
        headers = {**world.mine, "prefer": "respond-async"}
        place = world.server.get(f"/fhir/{kind}", headers=headers).headers["content-location"]
        path = place.removeprefix("http://127.0.0.1/fhir/")
        assert world.server.run(work_once(gateway, WORKS))
        status, _ = world.ask("GET", path)
        assert status == 200
        gateway.tokens[token] = Known(actor, gateway.clock.now() + 4_000_000, 1 << 60, "static")
        done = world.server.get(f"/fhir/{path}", headers=world.mine).json()
        files = done.get("output", [])
        names = [one["url"].rpartition("/")[2] for one in files]
        bodies = [world.ask("GET", f"{path}/{name}") for name in names]
        return [[(one["type"], one["count"]) for one in files], bodies]

    both(worlds, ask)


def test_a_judgement_beforehand_and_conditions_are_the_same(worlds: list[World]) -> None:
    new = {"resourceType": "Basic", "code": {"text": "new"}}
    for method, path, options in (
        ("DELETE", "Observation?code=http://c|c", {}),
        ("DELETE", "Patient?name=孙", {}),
        ("PUT", "Observation?_id=m1&derived-from:missing=false",
         {"json": {**OWN[0], "id": "s9"}, "headers": {"if-match": 'W/"7"'}}),
        ("PATCH", "Patient?name=孙", {"content": b'[{"op":"remove","path":"/name"}]',
                                      "headers": {"content-type": "application/json-patch+json"}}),
        ("POST", "Observation/$validate", {"json": OWN[0]}),
        ("POST", "", {"json": {"resourceType": "Bundle", "type": "transaction", "entry": [
            {"resource": {**new, "subject": {"reference": "Patient?name=孙"}},
             "request": {"method": "POST", "url": "Basic"}}]}}),
    ):  # fmt: skip
        both(worlds, lambda world, m=method, p=path, o=options: world.ask(m, p, **dict(o)))
