"""A store that an older version indexed: nothing is missed in silence, and it is brought up to date
while it serves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner
from databases import Databases
from running import Running

from fhir_gateway.app import open_gateway
from fhir_gateway.cli import main
from fhir_gateway.errors import Unavailable
from fhir_gateway.interactions import reindex
from fhir_gateway.interactions.jobs import work_once
from fhir_gateway.interactions.reindex import KIND, PARTS, State, plan, progress, run
from fhir_gateway.search.version import INDEX_VERSION, program_of
from fhir_gateway.store import jobs

PEOPLE = 4


def person(number: int, family: str = "王") -> dict[str, Any]:
    return {
        "resourceType": "Patient", "id": f"p{number}",
        "identifier": [{"system": "http://h.example/mrn", "value": f"M{number}"}],
        "name": [{"family": family, "given": [f"小{number}"]}], "birthDate": "1980-02-03",
    }  # fmt: skip


def result(number: int, text: str = "glucose") -> dict[str, Any]:
    return {
        "resourceType": "Observation", "id": f"o{number}", "status": "final",
        "code": {"text": text}, "subject": {"reference": f"Patient/p{number}"},
        "effectiveDateTime": "2026-10-01T08:00:00+08:00",
        "valueQuantity": {"value": 7.10, "unit": "mg", "code": "mg",
                          "system": "http://unitsofmeasure.org"},
    }  # fmt: skip


@pytest.fixture
def aged(start: Callable[..., Running], database: Databases) -> Running:
    """A gateway whose store has no texts, as if they had come with this version."""
    running = start(open_access=True)
    for number in range(PEOPLE):
        assert running.put(f"/fhir/Patient/p{number}", person(number)).status_code == 201
        assert running.put(f"/fhir/Observation/o{number}", result(number)).status_code == 201
    running.run(running.gateway.store.drain())
    age(database)
    return running


def age(database: Databases) -> None:
    for table in ("px_text", "gx_text"):
        database.execute(f"DELETE FROM {table}", "gateway")
    for table in ("px", "gx"):
        database.execute(f"DELETE FROM {table} WHERE parameter % 3 = 0", "gateway")
    database.execute("UPDATE clock SET indexed = 0", "gateway")


def all_rows(database: Databases) -> dict[str, list[Any]]:
    tables = ("px", "px_text", "gx", "gx_text", "identity", "fact", "result_of")
    return {name: sorted(database.rows(f"SELECT * FROM {name}", "gateway")) for name in tables}


def brought_up(running: Running, **more: Any) -> bool:
    done: bool = running.run(run(running.gateway, asyncio.Event(), **more))
    return done


def found(running: Running, query: str) -> int:
    return int(running.get(f"/fhir/{query}&_summary=count").json()["total"])


def rule_of(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json()["issue"][0]["details"]["text"]


REFUSED = (503, "reindex-needed")


def test_what_could_miss_something_is_refused_and_the_rest_goes_on(aged: Running) -> None:
    for query in (
        "Observation?code:text=glucose",
        "Patient?name=王",
        "Observation?patient=p1",
        "Observation?patient.name=王",
        "Observation/$lastn?patient=p1&category=laboratory",
        "Patient/p1/Observation?_sort=date",
        "Patient/p1/$everything?start=2026-01-01",
    ):
        assert rule_of(aged.get(f"/fhir/{query}")) == REFUSED, query
    assert aged.get("/fhir/Patient?name=王").headers["retry-after"] == "1"
    headers = {"if-none-exist": "identifier=http://h.example/mrn|M1"}
    assert rule_of(aged.post("/fhir/Patient", person(1), headers=headers)) == REFUSED
    assert rule_of(aged.put("/fhir/Patient?birthdate=1980-02-03", person(1))) == REFUSED
    assert aged.get("/fhir/Patient/p1").status_code == 200
    assert aged.get("/fhir/Patient/p1/_history").json()["total"] == 1
    assert aged.get("/fhir/Patient?_id=p1").json()["entry"][0]["resource"]["id"] == "p1"
    assert aged.put("/fhir/Observation/new", result(1) | {"id": "new"}).status_code == 201
    assert len(aged.get("/fhir/Patient/p1/$everything").json()["entry"]) == 3


def test_institutions_are_known_meanwhile(
    start: Callable[..., Running], database: Databases
) -> None:
    running = start()
    headers = running.institution("h1")
    stranger = {"resourceType": "Organization", "id": "other", "name": "h1"}
    assert running.put("/fhir/Organization/other", stranger, headers=headers).status_code == 201
    age(database)
    running.institution("h2")  # raises the epoch: the registry is read again
    assert running.get("/fhir/Organization/other", headers=headers).status_code == 200
    assert running.put("/fhir/Patient/p1", person(1), headers=headers).status_code == 201
    assert rule_of(running.get("/fhir/Patient?name=王", headers=headers)) == REFUSED


def test_after_it_everything_is_as_a_new_store_has_it(
    start: Callable[..., Running], database: Databases
) -> None:
    running = start(open_access=True)
    for number in range(PEOPLE):
        running.put(f"/fhir/Patient/p{number}", person(number))
        running.put(f"/fhir/Observation/o{number}", result(number))
    running.put("/fhir/Observation/o1", result(1, "glucose again"))
    running.run(running.gateway.store.drain())
    before, history = all_rows(database), running.get("/fhir/Observation/o1/_history").json()
    since = history["entry"][0]["resource"]["meta"]["lastUpdated"]
    etag = running.get("/fhir/Observation/o1").headers["etag"]
    running.run(running.gateway.store.drain())
    before = all_rows(database)
    age(database)
    assert brought_up(running) is True
    assert all_rows(database) == before
    again = running.get("/fhir/Observation/o1/_history").json()
    assert [one["resource"] for one in again["entry"]] == [
        one["resource"] for one in history["entry"]
    ]
    assert running.get("/fhir/Observation/o1").headers["etag"] == etag
    changed = running.get(f"/fhir/_history?_since={since}&_count=500").json()["entry"]
    names = {one["resource"]["id"] for one in changed if "resource" in one}
    assert names & {f"o{number}" for number in range(PEOPLE)} == {"o1"}
    assert found(running, "Observation?code:text=glucose") == PEOPLE
    assert found(running, "Patient?name:contains=小3") == 1
    assert found(running, "AuditEvent?date=gt2000") > PEOPLE


def test_writes_meanwhile_keep_their_own_rows(aged: Running) -> None:
    async def both() -> None:
        task = asyncio.create_task(run(aged.gateway, asyncio.Event()))
        for number in range(PEOPLE):
            answer = await aged.http.put(
                f"/fhir/Observation/o{number}", json=result(number, "sodium"),
                headers={"content-type": "application/fhir+json"},
            )  # fmt: skip
            assert answer.status_code == 200
        assert await task is True

    aged.run(both())
    assert found(aged, "Observation?code:text=sodium") == PEOPLE
    assert found(aged, "Observation?code:text=glucose") == 0


def test_a_killed_part_goes_on_where_it_was(aged: Running, database: Databases) -> None:
    store = aged.gateway.store
    rids = dict(database.rows("SELECT id, rid FROM resource WHERE patient IS NOT NULL", "gateway"))
    homes = dict(database.rows("SELECT patient, home FROM resource WHERE patient = id", "gateway"))
    by_place = sorted((home, id) for id, home in homes.items())
    half = by_place[PEOPLE // 2][0]

    async def killed() -> None:
        await plan(aged.gateway)
        while (job := await jobs.lease(store, kind=KIND, duration=1)) is not None:
            part = msgspec.json.decode(job.payload, type=reindex.Part)
            if part.low < half <= part.high:
                far = State(half, (1 << 63) - 1, 0, 7)
                await jobs.renew(
                    store, job, duration=1, checkpoint=msgspec.json.encode(far).decode()
                )
                return
            await jobs.renew(store, job, duration=1)
            if job.attempts > 1:
                raise AssertionError("the part was not found")

    aged.run(killed())
    assert aged.run(progress(aged.gateway)).done == 7
    assert brought_up(aged) is True
    indexed = {rid for (rid,) in database.rows("SELECT rid FROM px_text", "gateway")}
    for home, id in by_place:
        part_was_left = any(low < home <= half <= high for low, high in _bounds(database))
        assert (rids[id] in indexed) is not part_was_left, id


def _bounds(database: Databases) -> list[tuple[int, int]]:
    payloads = database.rows(f"SELECT payload FROM job WHERE kind = '{KIND}'", "gateway")
    parts = [msgspec.json.decode(payload, type=reindex.Part) for (payload,) in payloads]
    return [(part.low, part.high) for part in parts]


def test_a_worker_that_is_stopped_gives_its_part_back(
    aged: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reindex, "STEP_SECONDS", 0.0)
    monkeypatch.setattr(reindex, "PAGE", 2)
    stop = asyncio.Event()

    async def stopped() -> None:
        await plan(aged.gateway)
        stop.set()
        await work_once(aged.gateway, {KIND: reindex.work}, stop)

    aged.run(stopped())
    now = aged.run(progress(aged.gateway))
    assert (now.done, now.working, now.finished) == (2, True, False)
    assert rule_of(aged.get("/fhir/Patient?name=王")) == REFUSED
    assert brought_up(aged) is True
    assert found(aged, "Patient?name=王") == PEOPLE


def test_what_this_version_cannot_index_is_named_and_no_search_misses_it(
    aged: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = aged.gateway.extractor.rows

    def fail(type: str, resource: dict[str, Any], *spelled: Any) -> Any:
        if resource["id"] == "o3":
            raise KeyError("王")
        return rows(type, resource, *spelled)

    with monkeypatch.context() as patched:
        patched.setattr(type(aged.gateway.extractor), "rows", lambda self, *given: fail(*given))
        assert brought_up(aged) is False
        said = aged.run(progress(aged.gateway)).failures
        assert said == ("Observation/o3 has no rows in this version: KeyError",)
        assert brought_up(aged) is False  # not again and again
    assert rule_of(aged.get("/fhir/Patient?name=王")) == REFUSED
    assert brought_up(aged, again=True) is True
    assert found(aged, "Observation?code:text=glucose") == PEOPLE


def test_several_processes_share_the_work(aged: Running) -> None:
    async def both() -> list[bool]:
        other, stop = await open_gateway(aged.settings), asyncio.Event()
        try:
            return await asyncio.gather(run(aged.gateway, stop), run(other, stop))
        finally:
            await other.store.close()

    assert aged.run(both()) == [True, True]
    assert found(aged, "Patient?name=王") == PEOPLE
    assert aged.run(progress(aged.gateway)).finished is True
    listed = aged.run(jobs.find_all(aged.gateway.store, kind=KIND))
    assert [(job.state, job.attempts, job.expires) for job in listed] == [("done", 1, 0)] * PARTS


@pytest.mark.drivers("sqlite")
def test_a_slow_database_is_waited_for(aged: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    commit, refused = aged.gateway.store.commit, [Unavailable("busy", rule="backlog")]

    async def sometimes(change_set: Any) -> Any:
        if change_set.indexed and refused:
            raise refused.pop()
        return await commit(change_set)

    monkeypatch.setattr(type(aged.gateway.store), "commit", lambda self, given: sometimes(given))
    assert brought_up(aged) is True
    assert refused == []


@pytest.mark.drivers("sqlite")
def test_the_command_brings_up_to_date_with_helpers(database: Databases) -> None:
    running = Running(database.url("gateway"), open_access=True)
    running.put("/fhir/Patient/p1", person(1))
    running.close()
    age(database)
    words = ["reindex", "--database", database.url("gateway"), "--processes"]
    done = _invoke([*words, "2"])
    assert (done.exit_code, done.output.splitlines()[-1].split()[1:4]) == (
        0, ["resources", "indexed", "in"],
    )  # fmt: skip
    again = _invoke([*words, "1"])
    assert (again.exit_code, again.output) == (0, "The index is up to date\n")
    ((indexed, indexing),) = database.rows("SELECT indexed, indexing FROM clock", "gateway")
    assert (program_of(indexed), indexed) == (INDEX_VERSION, indexing)


def _invoke(words: list[str]) -> Any:
    return CliRunner().invoke(main, words)
