"""Jobs: one worker at a time, replaced when its lease runs out, fenced afterwards."""

from __future__ import annotations

import asyncio

import pytest
from store_builders import change, patient

from fhir_gateway.errors import Conflict
from fhir_gateway.store import jobs

MINUTE = 60_000_000


def test_a_job_is_leased_renewed_and_completed(play):
    async def scenario(store):
        await jobs.enqueue(store, id="j1", kind="export", payload="{}")
        again = await jobs.enqueue(store, id="j1", kind="export", payload="other")
        leased = await jobs.lease(store, kind="export", duration=MINUTE)
        other = await jobs.lease(store, kind="export", duration=MINUTE)
        wrong_kind = await jobs.lease(store, kind="import", duration=MINUTE)
        renewed = await jobs.renew(store, leased, duration=2 * MINUTE, progress="half")
        done = await jobs.complete(store, renewed, progress="all")
        return again, leased, other, wrong_kind, renewed, done, await jobs.find(store, "j1")

    again, leased, other, wrong_kind, renewed, done, stored = play(scenario)
    assert (again.payload, other, wrong_kind) == ("{}", None, None)
    assert (leased.state, leased.fence, leased.attempts) == ("running", 1, 1)
    assert (renewed.progress, renewed.lease_until) == ("half", leased.lease_until + MINUTE)
    assert (done.state, stored) == ("done", done)


def test_fault_91_who_lost_the_lease_can_change_nothing(play, clock):
    async def scenario(store):
        await jobs.enqueue(store, id="j1", kind="export")
        first = await jobs.lease(store, kind="export", duration=MINUTE)
        clock.time += MINUTE - 1
        early = await jobs.lease(store, kind="export", duration=MINUTE)
        clock.time += 1
        second = await jobs.lease(store, kind="export", duration=MINUTE)
        with pytest.raises(Conflict):
            await jobs.renew(store, first, duration=MINUTE)
        with pytest.raises(Conflict):
            await jobs.complete(store, first)
        done = await jobs.complete(store, second)
        with pytest.raises(Conflict):
            await jobs.complete(store, second)
        return early, second.fence, done.state

    assert play(scenario) == (None, 2, "done")


def test_a_job_that_never_ends_is_set_aside(play, clock):
    async def scenario(store):
        await jobs.enqueue(store, id="poison", kind="export")
        leased = []
        for number in range(5):
            job = await jobs.lease(store, kind="export", duration=MINUTE)
            leased.append(job and job.id)
            if number == 0:
                await jobs.enqueue(store, id="good", kind="export")
            if leased[-1] == "good":
                await jobs.complete(store, job)
            clock.time += MINUTE
        return leased, await jobs.find(store, "poison")

    leased, poison = play(scenario)
    assert leased == ["poison", "good", "poison", "poison", None]
    assert (poison.state, poison.attempts) == ("failed", jobs.MAX_ATTEMPTS)


def test_fault_91_of_many_workers_one_gets_the_job(open_store):
    async def scenario():
        stores = [await open_store() for _ in range(2)]
        await jobs.enqueue(stores[0], id="j1", kind="export")
        leases = await asyncio.gather(
            *(jobs.lease(stores[n % 2], kind="export", duration=MINUTE) for n in range(10))
        )
        for store in stores:
            await store.close()
        return [job.fence for job in leases if job is not None]

    assert asyncio.run(scenario()) == [1]


def test_jobs_and_change_sets_share_a_batch(play):
    async def scenario(store):
        job, committed, missing = await asyncio.gather(
            jobs.enqueue(store, id="j1", kind="export"),
            store.commit(change(patient("p1"))),
            store.job(jobs.Complete("nobody", 1, "done", "")),
            return_exceptions=True,
        )
        return job.state, committed.t, type(missing)

    assert play(scenario) == ("waiting", 1, Conflict)


def test_who_works_on_a_cancelled_job_notices_at_the_next_renewal(play):
    async def scenario(store):
        await jobs.enqueue(store, id="j1", kind="export", payload="secret", owner="h1")
        leased = await jobs.lease(store, kind="export", duration=MINUTE)
        leased = await jobs.renew(store, leased, duration=MINUTE, checkpoint="half")
        cancelled = await jobs.cancel(store, "j1")
        for late in (jobs.renew(store, leased, duration=MINUTE), jobs.complete(store, leased)):
            with pytest.raises(Conflict):
                await late
        again = await jobs.cancel(store, "j1")
        return cancelled, again, await jobs.lease(store, kind="export", duration=MINUTE)

    cancelled, again, leased = play(scenario)
    assert (cancelled.state, cancelled.payload, cancelled.checkpoint) == ("cancelled", "", "")
    assert (again, leased) == (None, None)


def test_a_worker_that_stops_gives_its_job_back(play):
    async def scenario(store):
        await jobs.enqueue(store, id="j1", kind="export")
        for _ in range(2 * jobs.MAX_ATTEMPTS):
            leased = await jobs.lease(store, kind="export", duration=MINUTE)
            await jobs.release(store, leased)
        with pytest.raises(Conflict):
            await jobs.renew(store, leased, duration=MINUTE)
        return await jobs.find(store, "j1")

    job = play(scenario)
    assert (job.state, job.attempts, job.lease_until) == ("waiting", 0, 0)


def test_a_step_forward_takes_the_tries_back(play, clock):
    async def scenario(store):
        await jobs.enqueue(store, id="j1", kind="export")
        tries = []
        for number in range(2 * jobs.MAX_ATTEMPTS):
            leased = await jobs.lease(store, kind="export", duration=MINUTE)
            renewed = await jobs.renew(store, leased, duration=MINUTE, checkpoint=f"page {number}")
            same = await jobs.renew(store, renewed, duration=MINUTE, checkpoint=f"page {number}")
            tries.append((leased.attempts, renewed.attempts, same.attempts))
            clock.time += MINUTE
        return tries

    assert play(scenario) == [(1, 1, 1)] + [(2, 1, 1)] * (2 * jobs.MAX_ATTEMPTS - 1)


def test_results_expire_and_are_forgotten(play, clock):
    async def scenario(store):
        for id in ("j1", "j2", "j3"):
            await jobs.enqueue(store, id=id, kind="export", payload="secret")
            leased = await jobs.lease(store, kind="export", duration=MINUTE)
            kept = {"j1": MINUTE, "j2": 0, "j3": 3 * MINUTE}[id]
            await jobs.complete(store, leased, checkpoint="result", kept=kept)
        early = await jobs.expire(store, kept=MINUTE)
        clock.time += MINUTE
        first, second = [await jobs.expire(store, kept=MINUTE) for _ in range(2)]
        states = {job.id: job.state for job in await jobs.find_all(store)}
        clock.time += MINUTE + 1
        await jobs.expire(store, kept=MINUTE)
        return early, first, second, states, [job.id for job in await jobs.find_all(store)]

    early, first, second, states, left = play(scenario)
    assert (early, first.id, first.payload, first.checkpoint, second) == (None, "j1", "", "", None)
    assert states == {"j1": "expired", "j2": "done", "j3": "done"}
    assert left == ["j3", "j2"]


def test_jobs_are_listed_and_counted(play, clock):
    async def scenario(store):
        due = [await jobs.is_due(store, now=clock.time)]
        for number, (kind, owner) in enumerate([("a", "h1"), ("a", "h2"), ("b", "h1")]):
            clock.time += 1
            await jobs.enqueue(store, id=f"j{number}", kind=kind, owner=owner)
        start = clock.time
        await jobs.lease(store, kind="a", duration=MINUTE)
        due.append(await jobs.is_due(store, now=clock.time))
        await jobs.lease(store, kind="a", duration=MINUTE)
        await jobs.lease(store, kind="b", duration=MINUTE)
        due.append(await jobs.is_due(store, now=clock.time))
        await jobs.cancel(store, "j2")
        listed = [
            [job.id for job in await jobs.find_all(store, **chosen)]
            for chosen in ({}, {"owner": "h1"}, {"kind": "a", "limit": 1}, {"states": ["running"]})
        ]
        return due, listed, {tuple(one) for one in await jobs.figures(store)}, start

    due, listed, figures, start = play(scenario)
    assert due == [False, True, False]
    assert listed == [["j2", "j1", "j0"], ["j2", "j0"], ["j1"], ["j1", "j0"]]
    assert figures == {("a", "running", 2, start - 2), ("b", "cancelled", 1, start)}
