"""Cut-offs: run twice, killed half-way and two at a time they are done once, and written down."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from databases import Databases
from pool_world import DAY, Pool, PoolRunning

from fhir_gateway.scheduling.cut_off import cut_off, is_due


@pytest.fixture(scope="module")
def running(shared_database: Databases) -> Iterator[PoolRunning]:
    one = PoolRunning(shared_database.url("cut-off"))
    yield one
    one.close()


def supplied(running: PoolRunning, name: str) -> Pool:
    pool = Pool(running, name)
    closes = pool.start - 5 * DAY
    pool.supply("a", "b", "c", caps={"grassroots-referral": 2, "ordinary": 1}, closes=closes)
    return pool


def told(pool: Pool) -> list[str]:
    """What the hospital reads of what moved in its bucket."""
    found = pool.found("AuditEvent?_count=100", pool.hospital)
    return [
        one["outcomeDesc"] for one in found
        if one["entity"][0]["what"].get("identifier", {}).get("value") == pool.bucket
    ]  # fmt: skip


def test_an_unused_reserve_falls_once_however_often_it_is_run(running: PoolRunning) -> None:
    pool = supplied(running, "once")
    assert pool.all(cut_off(pool.gateway)) == []
    pool.clock.time = pool.start - 5 * DAY
    assert pool.run(is_due(pool.gateway))
    dry = pool.all(cut_off(pool.gateway, dry_run=True))
    assert ([one.outcome for one in dry], pool.quotas()["ordinary"]) == (["would-fall"], (1, 0))
    first, again = (pool.all(cut_off(pool.gateway)) for _ in range(2))
    assert [(one.institution, one.quota.left, one.outcome) for one in first] == [
        (pool.hospital, 2, "fell")
    ]
    assert again == []
    assert pool.quotas() == {"grassroots-referral": (0, 0), "ordinary": (3, 0)}
    assert told(pool) == ["2 seats of grassroots-referral fell to ordinary"]
    assert pool.faults() == []


def test_two_runs_at_a_time_write_it_down_once(running: PoolRunning) -> None:
    pool = supplied(running, "two")
    pool.clock.time = pool.start - 5 * DAY

    async def run() -> list[str]:
        return [one.outcome async for one in cut_off(pool.gateway)]

    async def both() -> list[list[str]]:
        return await asyncio.gather(run(), run())

    outcomes = sorted(one for several in pool.run(both()) for one in several)
    assert outcomes in (["fell", "told-already"], ["fell"])
    assert told(pool) == ["2 seats of grassroots-referral fell to ordinary"]


def test_a_run_that_was_killed_goes_on(running: PoolRunning) -> None:
    pools = [supplied(running, name) for name in ("left", "right")]
    for pool in pools:
        pool.clock.time = pool.start - 5 * DAY
    assert pools[0].first(cut_off(running.gateway)).outcome == "fell"
    assert sorted(pool.quotas()["ordinary"][0] for pool in pools) == [1, 3]
    assert [one.outcome for one in pools[0].all(cut_off(running.gateway))] == ["fell"]
    assert [pool.quotas()["ordinary"] for pool in pools] == [(3, 0), (3, 0)]
    assert [len(told(pool)) for pool in pools] == [1, 1]
    assert pools[0].faults() == []
