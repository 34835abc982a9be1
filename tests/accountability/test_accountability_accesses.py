"""Who looked at my data: complete, in words, paged, and on record itself (faults 71, 152)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from databases import Databases
from running import BASE, Running

from fhir_gateway.accountability.accesses import accesses
from fhir_gateway.audit.events import emergency_event
from fhir_gateway.errors import Forbidden, NotFound
from fhir_gateway.fhir.wire import parse
from fhir_gateway.interactions.audit import call_of, disclose, entry
from fhir_gateway.interactions.jobs import work_once
from fhir_gateway.interactions.operation_definitions import Call
from fhir_gateway.rest.later import WORKS
from fhir_gateway.security.actor import Access, Actor

Json = dict[str, Any]

DOCTOR = Actor(
    "clinician", "示例医院", "demo-a", user="Practitioner/d1", client="his-a", purpose="TREAT",
    token="jti-1",
)  # fmt: skip


@pytest.fixture(scope="module")
def server(shared_database: Databases) -> Iterator[Running]:
    one = Running(shared_database.url("accesses"), open_access=True)
    for id in ("p1", "p2"):
        one.put(f"/fhir/Patient/{id}", {"resourceType": "Patient", "id": id})
    one.put(
        "/fhir/Observation/o1",
        {"resourceType": "Observation", "id": "o1", "status": "final", "code": {"text": "x"},
         "subject": {"reference": "Patient/p1"}},
    )  # fmt: skip
    yield one
    one.close()


def told(answer: Json) -> list[Json]:
    """Each access as name -> value, or a list of such below."""
    return [_parts(one) for one in answer["parameter"] if one["name"] == "access"]


def _parts(parameter: Json) -> Json:
    found: Json = {}
    for part in parameter["part"]:
        name = part["name"]
        if "part" in part:
            found.setdefault(name, []).append(_parts(part))
        else:
            (value,) = [value for key, value in part.items() if key.startswith("value")]
            found[name] = value
    return found


def ask(server: Running, patient: str, **query: str) -> list[Json]:
    answer = server.get(f"/fhir/Patient/{patient}/$accesses", params=query)
    assert answer.status_code == 200, answer.text
    return told(answer.json())


def test_071_every_way_to_see_a_record_is_told_to_the_person(server: Running) -> None:
    server.get("/fhir/Patient/p1")
    server.get("/fhir/Observation/o1/_history")
    server.get("/fhir/Observation?patient=p1")
    server.get("/fhir/Patient/p1/$everything")
    seen = [(one["kind"], one["operation"]) for one in ask(server, "p1")]
    assert seen[:4] == [
        ("search", "operation"), ("search", "search-type"), ("read", "history-instance"),
        ("read", "read"),
    ]  # fmt: skip
    assert ("create", "create") in seen
    again = ask(server, "p1")
    assert again[0]["query"].startswith("Patient/p1/$accesses")  # who asked is on record too
    assert not any("o1" in str(one) for one in ask(server, "p2"))


def test_071_who_why_and_by_what_are_told_in_words(server: Running) -> None:
    gateway, home = server.gateway, home_of(server, "p1")
    event = emergency_event(
        call_of(gateway, DOCTOR), patient="p1", reason="unconscious", until="2026-11-22T12:00:00Z"
    )
    server.run(disclose(gateway, [entry(gateway, event, home=home)]))
    first = next(one for one in ask(server, "p1") if one["kind"] == "break-glass")
    assert first["break-glass"] is True
    assert (first["who"], first["client"]) == ("Practitioner/d1", "his-a")
    assert first["institution"] == {"reference": "Organization/demo-a", "display": "示例医院"}
    assert first["purpose"]["code"] == "TREAT"
    assert first["text"].startswith("紧急访问")
    assert first["said"] == "unconscious until 2026-11-22T12:00:00Z"
    assert [one["kind"] for one in ask(server, "p1", kind="break-glass")] == ["break-glass"]
    assert ask(server, "p1", institution="demo-b") == []


def home_of(server: Running, patient: str) -> int:
    async def find() -> int:
        async with server.gateway.store.snapshot(Access()) as reader:
            home = await reader.home("Patient", patient)
        assert home is not None
        return int(home)

    home: int = server.run(find())
    return home


def test_071_pages_join_to_the_whole(server: Running) -> None:
    for _ in range(5):
        server.get("/fhir/Patient/p2")
    whole = [one["event"]["reference"] for one in ask(server, "p2", end="2199-01-01")]
    path, seen = "/fhir/Patient/p2/$accesses?_count=2&end=2199-01-01", []
    while path:
        answer = server.get(path).json()
        seen += [one["event"]["reference"] for one in told(answer)]
        links = {one["name"]: one.get("valueUri", "") for one in answer["parameter"]}
        path = links.get("next", "").removeprefix(BASE)
    assert seen[1:] == whole  # the first is that of having asked for the whole
    assert ask(server, "p2", end="2001-01-01") == []
    assert ask(server, "p2", start="2199-01-01") == []


def test_071_a_time_that_ends_before_it_begins_is_refused_and_not_nobody(server: Running) -> None:
    asked = "start=2026-11-02&end=2026-11-01"
    answer = server.get(f"/fhir/Patient/p2/$accesses?{asked}")
    assert answer.status_code == 400
    assert answer.json()["issue"][0]["diagnostics"] == "end lies before start"
    assert server.get("/fhir/Patient/p2/$accesses?start=2026-11-01&end=2026-11-01").is_success


def test_071_an_export_and_each_download_is_told_to_whom_it_names(server: Running) -> None:
    headers = {"prefer": "respond-async"}
    kicked = server.get("/fhir/Patient/$export?_type=Observation", headers=headers)
    place = kicked.headers["content-location"].removeprefix(BASE)
    while server.run(work_once(server.gateway, WORKS)):
        pass
    before = ask(server, "p1", kind="disclosure")
    assert [one["export"] for one in before] == [place.rpartition("/")[2]]
    assert before[0]["types"] == "Observation"
    assert "download" not in before[0]
    (file,) = server.get(place).json()["output"]
    server.get(file["url"].removeprefix(BASE))
    (download,) = ask(server, "p1", kind="disclosure")[0]["download"]
    assert download["file"] == file["url"].rpartition("/")[2]
    assert ask(server, "p2", kind="disclosure") == []  # none of that person's is in it


@pytest.mark.parametrize(
    "query", ["_count=0", "start=yesterday", "nonsense=1", "kind=x", "_cursor=x"]
)
def test_a_bad_question_is_refused(server: Running, query: str) -> None:
    assert server.get(f"/fhir/Patient/p1/$accesses?{query}").status_code == 400
    assert server.get("/fhir/Patient/nobody/$accesses").status_code == 404


def test_071_an_institution_is_told_of_its_own_acts_alone(server: Running) -> None:
    gateway, home = server.gateway, home_of(server, "p1")
    for institution in ("demo-a", "demo-b"):
        actor = Actor("institution", institution, institution)
        event = emergency_event(
            call_of(gateway, actor), patient="p1", reason="x", until="2026-11-22T12:00:00Z"
        )
        server.run(disclose(gateway, [entry(gateway, event, home=home)]))
    asker = Actor("institution", "乙", "demo-b")  # under a policy that opens every row
    call = Call("$accesses", "Patient", "p1", base=BASE)
    found = told(parse(server.run(accesses(gateway, asker, call))))
    assert {one["institution"]["reference"] for one in found} == {"Organization/demo-b"}
    with pytest.raises(Forbidden):
        nobody = Actor("institution", "丙")
        server.run(accesses(gateway, nobody, call))
    other = Actor("patient", "丁", access=Access(homes=frozenset({home + 1_000})))
    with pytest.raises(NotFound):
        server.run(accesses(gateway, other, call))
