"""Results that arrive while a map changes: whoever was faster, all mean what the last map says."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from city import POTASSIUM, SODIUM
from databases import Databases
from effort import examples
from remap_cases import LAB_SYSTEM, Mapped, concept_map
from running import BASE, Running

from fhir_gateway.app import Application, build
from fhir_gateway.interactions import remap, write
from fhir_gateway.interactions.jobs import work_once
from fhir_gateway.interactions.reindex import run
from fhir_gateway.interactions.remap_plan import Watch

Start = Callable[..., Running]
HEADERS = {"content-type": "application/fhir+json"}


@pytest.fixture
def mapped(start: Start, tmp_path: Path) -> Mapped:
    return Mapped(start(mappings=str(tmp_path)))


@pytest.fixture
def other(mapped: Mapped) -> Iterator[Application]:
    """Another process's gateway on the same store: it learns of maps by itself."""
    one = mapped.running.run(build(mapped.running.settings))
    yield one
    mapped.running.run(one.close())


def result(patient: str, code: str = "K") -> dict[str, Any]:
    return {
        "resourceType": "Observation", "status": "final", "subject": {
            "reference": f"Patient/{patient}"},
        "code": {"coding": [{"system": "urn:sender:lis", "code": code}]},
        "effectiveDateTime": "2026-11-20T08:00:00+08:00",
    }  # fmt: skip


def items(mapped: Mapped, database: Databases) -> dict[str, set[str]]:
    """By result, the items of its facts that hold, and those by which it is found."""
    held: dict[str, set[str]] = {}
    for source, item in database.rows(
        "SELECT source, item FROM fact WHERE t_to > (SELECT t FROM clock)", "gateway"
    ):
        held.setdefault(source.partition("/")[2], set()).add(item)
    for item in (POTASSIUM, SODIUM):
        found = mapped.found(f"Observation?code={LAB_SYSTEM}|{item}&_count=500")
        assert found == {id for id, known in held.items() if item in known}
    return held


def test_what_was_coded_before_a_map_and_commits_after_it_is_coded_again(
    mapped: Mapped, other: Application, monkeypatch: pytest.MonkeyPatch, database: Databases
) -> None:
    """The job for the map is done before the late write commits: nobody would look again."""
    patient = mapped.city.patient()
    commit, held, store = other.gateway.store.commit, asyncio.Event(), type(other.gateway.store)
    late: list[Any] = []

    async def waits(self: Any, change_set: Any) -> Any:
        if (
            self is other.gateway.store
            and not late
            and any(put.type == "Observation" for put in change_set.puts)
        ):
            late.append(change_set)
            await held.wait()
        return (
            await commit(change_set)
            if self is other.gateway.store
            else await real(self, change_set)
        )

    real = store.commit

    async def race() -> str:
        http = httpx.AsyncClient(transport=httpx.ASGITransport(app=other.asgi), base_url=BASE)
        body = httpx.Request("POST", BASE, json=result(patient)).content
        headers = {**HEADERS, **mapped.city.sender}
        writing = asyncio.create_task(http.post("/fhir/Observation", content=body, headers=headers))
        while not late:  # noqa: ASYNC110 - the write is on its way
            await asyncio.sleep(0.01)
        resource = httpx.Request("PUT", BASE, json=concept_map({"K": POTASSIUM})).content
        stored = await mapped.running.http.put(
            "/fhir/ConceptMap/sender-map", content=resource, headers=headers
        )
        assert stored.status_code == 201, stored.text
        await mapped.watch.look()
        while await work_once(mapped.gateway, {remap.KIND: remap.work}):
            pass
        held.set()
        answer = await writing
        await http.aclose()
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    with monkeypatch.context() as patched:
        patched.setattr(store, "commit", waits)
        id = mapped.running.run(race())
    assert len(late) == 1
    assert items(mapped, database) == {id: {POTASSIUM}}
    coded = mapped.running.get(f"/fhir/Observation/{id}", headers=mapped.city.sender).json()
    assert [coding["code"] for coding in coded["code"]["coding"]] == ["K", POTASSIUM]


def test_what_waits_while_another_request_reads_a_new_map_is_coded_by_it(
    mapped: Mapped, monkeypatch: pytest.MonkeyPatch, database: Databases
) -> None:
    """In one process: the maps are up to date, what was coded a moment ago is not."""
    patient, real = mapped.city.patient(), write.plan_write
    waiting, go = asyncio.Event(), asyncio.Event()

    async def waits(*given: Any, **more: Any) -> Any:
        if given[2][0].type == "Observation" and not waiting.is_set():
            waiting.set()
            await go.wait()
        return await real(*given, **more)

    async def send(resource: dict[str, Any]) -> str:
        body = httpx.Request("POST", BASE, json=resource).content
        headers = {**HEADERS, **mapped.city.sender}
        path = f"/fhir/{resource['resourceType']}"
        answer = await mapped.running.http.post(path, content=body, headers=headers)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    async def race() -> list[str]:
        late = asyncio.create_task(send(result(patient)))
        await waiting.wait()
        await send(concept_map({"K": POTASSIUM}))
        soon = await send(result(patient))
        go.set()
        return [soon, await late]

    with monkeypatch.context() as patched:
        patched.setattr(write, "plan_write", waits)
        ids = mapped.running.run(race())
    assert items(mapped, database) == {id: {POTASSIUM} for id in ids}


def test_a_job_that_was_overtaken_does_not_bring_back_what_its_map_said(
    mapped: Mapped, other: Application, monkeypatch: pytest.MonkeyPatch, database: Databases
) -> None:
    """The rows by the older map are on their way while a newer map is stored and followed."""
    id = mapped.result(mapped.city.patient(), report="").partition("/")[2]
    mapped.store({"K": SODIUM})
    store = type(mapped.gateway.store)
    real, waiting, go = store.commit, asyncio.Event(), asyncio.Event()

    async def waits(self: Any, change_set: Any) -> Any:
        if change_set.reindex and not waiting.is_set():
            waiting.set()
            await go.wait()
        return await real(self, change_set)

    async def race() -> None:
        works = {remap.KIND: remap.work}
        await mapped.watch.look()
        first = asyncio.create_task(work_once(mapped.gateway, works))
        await waiting.wait()
        body = httpx.Request("PUT", BASE, json=concept_map({"K": POTASSIUM})).content
        path, headers = "/fhir/ConceptMap/sender-map", {**HEADERS, **mapped.city.sender}
        assert (await mapped.running.http.put(path, content=body, headers=headers)).is_success
        await Watch(other.gateway).look()
        while await work_once(other.gateway, works):
            pass
        go.set()
        await first

    with monkeypatch.context() as patched:
        patched.setattr(store, "commit", waits)
        mapped.running.run(race())
    assert items(mapped, database) == {id: {POTASSIUM}}


def test_results_maps_and_jobs_at_once_end_at_the_last_map(
    mapped: Mapped, other: Application, database: Databases
) -> None:
    patients = [mapped.city.patient() for _ in range(3)]
    rounds = examples(6)

    async def send(app: Any, count: int) -> list[str]:
        ids = []
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url=BASE) as http:
            for number in range(count):
                resource = result(patients[number % 3], "K" if number % 4 else "unknown")
                body = httpx.Request("POST", BASE, json=resource).content
                answer = await http.post(
                    "/fhir/Observation", content=body, headers={**HEADERS, **mapped.city.sender}
                )
                assert answer.status_code == 201, answer.text
                ids.append(str(answer.json()["id"]))
        return ids

    async def change() -> None:
        for number in range(rounds):
            item = (POTASSIUM, SODIUM, "")[number % 3]
            body = httpx.Request("PUT", BASE, json=concept_map({"K": item})).content
            answer = await mapped.running.http.put(
                "/fhir/ConceptMap/sender-map", content=body,
                headers={**HEADERS, **mapped.city.sender},
            )  # fmt: skip
            assert answer.is_success, answer.text
            await asyncio.sleep(0.02)
        body = httpx.Request("PUT", BASE, json=concept_map({"K": SODIUM})).content
        await mapped.running.http.put(
            "/fhir/ConceptMap/sender-map", content=body, headers={**HEADERS, **mapped.city.sender}
        )

    async def follow(gateway: Any, done: asyncio.Event) -> None:
        watch, works = Watch(gateway), {remap.KIND: remap.work}
        while True:
            last = done.is_set()
            await watch.look()
            while await work_once(gateway, works):
                pass
            if last:
                return
            await asyncio.sleep(0)

    async def everything() -> list[str]:
        done = asyncio.Event()
        gateways = (mapped.gateway, other.gateway)
        workers = [asyncio.create_task(follow(one, done)) for one in gateways]
        writers = [send(app, 4 * rounds) for app in (mapped.running.application.asgi, other.asgi)]
        first, second, _ = await asyncio.gather(*writers, change())
        done.set()
        await asyncio.gather(*workers)
        return [*first, *second]

    ids = mapped.running.run(everything())
    wanted = {id for number, id in enumerate(ids) if number % (4 * rounds) % 4}
    assert items(mapped, database) == {id: {SODIUM} for id in wanted}
    unmapped = mapped.found("Observation?_tag=unmapped-item&_count=500")
    assert unmapped == set(ids) - wanted


def test_an_index_that_is_made_again_follows_the_maps_of_today(
    mapped: Mapped, database: Databases
) -> None:
    id = mapped.result(mapped.city.patient(), report="").partition("/")[2]
    mapped.store({"K": POTASSIUM})
    mapped.follow()
    mapped.running.run(mapped.gateway.store.drain())
    tables = ("px", "px_text", "gx", "fact")
    followed = {name: sorted(database.rows(f"SELECT * FROM {name}", "gateway")) for name in tables}
    database.execute("UPDATE clock SET indexed = 0", "gateway")
    assert mapped.running.run(run(mapped.gateway, asyncio.Event())) is True
    again = {name: sorted(database.rows(f"SELECT * FROM {name}", "gateway")) for name in tables}
    assert again == followed
    assert items(mapped, database) == {id: {POTASSIUM}}
