"""Jobs: one worker at a time, replaced when its lease runs out, fenced afterwards."""

from __future__ import annotations

import asyncio

import pytest
from store_builders import change, patient

from fhir_gateway.errors import Conflict
from fhir_gateway.security.actor import SYSTEM_ACCESS
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
        async with store.snapshot(SYSTEM_ACCESS) as reader:
            return again, leased, other, wrong_kind, renewed, done, await reader.job("j1")

    again, leased, other, wrong_kind, renewed, done, stored = play(scenario)
    assert (again.payload, other, wrong_kind) == ("{}", None, None)
    assert (leased.state, leased.fence, leased.attempts) == ("running", 1, 1)
    assert (renewed.progress, renewed.lease_until) == ("half", leased.lease_until + MINUTE)
    assert (done.state, stored) == ("done", done)


def test_who_lost_the_lease_can_change_nothing(play, clock):
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
        async with store.snapshot(SYSTEM_ACCESS) as reader:
            return leased, await reader.job("poison")

    leased, poison = play(scenario)
    assert leased == ["poison", "good", "poison", "poison", None]
    assert (poison.state, poison.attempts) == ("failed", jobs.MAX_ATTEMPTS)


def test_of_many_workers_one_gets_the_job(open_store):
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
