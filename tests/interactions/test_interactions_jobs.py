"""The worker's loop: what becomes of jobs that end, fail, are cancelled, lost or given back."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from running import Running

from fhir_gateway.errors import Invalid
from fhir_gateway.interactions import jobs as loop
from fhir_gateway.interactions.export_files import make_folder
from fhir_gateway.interactions.jobs import Done, Held, work, work_once
from fhir_gateway.store import jobs
from fhir_gateway.store.jobs import Job

LATER = 3_600_000_000


@pytest.fixture
def running(start: Callable[..., Running]) -> Running:
    return start(open_access=True)


def enqueue(running: Running, id: str = "j1", kind: str = "test") -> None:
    running.run(jobs.enqueue(running.gateway.store, id=id, kind=kind))


def find(running: Running, id: str = "j1") -> Job:
    job: Job | None = running.run(jobs.find(running.gateway.store, id))
    assert job is not None
    return job


def find_fence(job: Job | None) -> int:
    return job.fence if job is not None else 0


def do(running: Running, work: Any, **more: Any) -> bool:
    done: bool = running.run(work_once(running.gateway, {"test": work}, **more))
    return done


def test_a_job_is_done_once(running: Running) -> None:
    async def work(held: Held) -> Done:
        await held.step("half", "one")
        return Done("all", "two")

    enqueue(running)
    assert (do(running, work), do(running, work)) == (True, False)
    job = find(running)
    assert (job.state, job.progress, job.checkpoint) == ("done", "all", "two")
    assert job.expires == job.updated + 24 * LATER


def test_what_fails_for_a_reason_says_it_and_is_not_tried_again(running: Running) -> None:
    async def work(held: Held) -> Done:
        make_folder(running.settings, held.job.id)
        raise Invalid("This cannot be", rule="never")

    enqueue(running)
    assert (do(running, work), do(running, work)) == (True, False)
    job = find(running)
    assert (job.state, json.loads(job.checkpoint)[1][0][1]) == ("failed", "This cannot be")
    assert list(make_folder(running.settings, "").iterdir()) == []


def test_a_fault_of_ours_is_tried_again_and_set_aside(
    running: Running, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def work(held: Held) -> Done:
        raise ZeroDivisionError("secret")

    enqueue(running)
    assert (do(running, work), do(running, work)) == (True, False)
    assert find(running).state == "running"
    monkeypatch.setattr(loop, "LEASE", 1)
    running.run(running.gateway.store.job(jobs.Renew("j1", 1, 1, "")))
    assert [do(running, work) for _ in range(3)] == [True, True, False]
    assert find(running).state == "failed"
    assert "ZeroDivisionError" in caplog.text
    assert "secret" not in caplog.text


def test_whoever_is_told_to_stop_gives_its_job_back(running: Running) -> None:
    stop = asyncio.Event()

    async def work(held: Held) -> Done:
        stop.set()
        await held.step("half", "one")
        raise AssertionError

    enqueue(running)
    assert do(running, work, stop=stop)
    job = find(running)
    assert (job.state, job.checkpoint, job.attempts) == ("waiting", "one", 0)


def test_a_cancelled_job_is_left_with_nothing_behind(running: Running) -> None:
    async def work(held: Held) -> Done:
        folder = make_folder(running.settings, held.job.id)
        (folder / "file").write_text("secret", encoding="ascii")
        await jobs.cancel(running.gateway.store, held.job.id)
        await held.step("half", "one")
        raise AssertionError

    enqueue(running)
    assert do(running, work)
    assert find(running).state == "cancelled"
    assert list(make_folder(running.settings, "").iterdir()) == []


def test_who_was_replaced_neither_steps_nor_ends_nor_clears(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "LEASE", 1)
    first = asyncio.Event()

    async def work(held: Held) -> Done:
        if held.job.fence == 1:
            make_folder(running.settings, held.job.id)
            await first.wait()
            return Done("old", "old")
        first.set()
        await asyncio.sleep(0.01)
        await held.step("half", "half")
        return Done("new", "new")

    async def both() -> None:
        works = {"test": work}
        old = asyncio.create_task(work_once(running.gateway, works))
        store = running.gateway.store
        while find_fence(await jobs.find(store, "j1")) == 0:  # noqa: ASYNC110 - no event tells
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.001)  # the lease is over
        assert await work_once(running.gateway, works)
        await old

    enqueue(running)
    running.run(both())
    job = find(running)
    assert (job.fence, job.checkpoint) == (2, "new")
    assert make_folder(running.settings, "j1").exists()


def test_what_has_expired_is_taken_back(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(held: Held) -> Done:
        folder = make_folder(running.settings, held.job.id)
        (folder / "file").write_text("secret", encoding="ascii")
        return Done("all", "two")

    monkeypatch.setattr(loop, "kept", lambda gateway: 1)
    enqueue(running)
    do(running, work)
    folder = make_folder(running.settings, "j1")
    assert list(folder.iterdir())
    assert running.run(loop.tidy(running.gateway)) == 1
    assert (find(running).state, folder.exists()) == ("expired", False)
    assert running.run(loop.tidy(running.gateway)) == 0


def test_the_loop_works_until_it_is_told_to_stop(running: Running) -> None:
    stop, done = asyncio.Event(), []

    async def one(held: Held) -> Done:
        done.append(held.job.id)
        if len(done) == 3:
            stop.set()
        return Done("", "")

    for number in range(3):
        enqueue(running, f"j{number}")
    running.run(work(running.gateway, {"test": one}, stop))
    assert sorted(done) == ["j0", "j1", "j2"]
    figures = running.get("/metrics").text
    assert 'fhir_gateway_jobs{kind="test",state="done"} 3.0' in figures
    assert 'fhir_gateway_oldest_job_seconds{state="waiting"} 0.0' in figures
