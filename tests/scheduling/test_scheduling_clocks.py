"""Nodes whose clocks or time zone data differ: nothing is sold before its time, nothing twice."""

from __future__ import annotations

import asyncio
from datetime import date, timedelta
from io import BytesIO
from struct import pack
from typing import Any
from zoneinfo import TZPATH, ZoneInfo

import pytest
from databases import Databases
from pool_world import BEGIN, HOUR, Pool, PoolRunning

from fhir_gateway.errors import GatewayError, Unavailable
from fhir_gateway.scheduling.book import BookRequest, HoldRequest, book, hold
from fhir_gateway.scheduling.calendar import day_at, instant_at
from fhir_gateway.security.actor import SYSTEM_ACCESS, Actor
from fhir_gateway.store import postgres_durable

GATEWAY = Actor("gateway", "system")


def test_fault_132_a_node_that_is_late_gives_nothing_back_to_life(
    shared_database: Databases,
) -> None:
    """A writer whose clock is an hour behind what is stored: a hold that is over by the time of the
    store stays over, and what is stored keeps its order."""
    one = PoolRunning(shared_database.url("late"))
    try:
        pool = Pool(one, "late")
        pool.supply("a", "b")
        people = [pool.person(), pool.person()]
        held = one.run(hold(one.gateway, GATEWAY, HoldRequest("late-a", people[0])))
        one.clock.time += HOUR  # the hold is over
        one.run(book(one.gateway, GATEWAY, BookRequest(take=HoldRequest("late-b", people[1]))))
        one.clock.time -= HOUR  # by this clock it lives
        with pytest.raises(GatewayError) as refused:
            one.run(book(one.gateway, GATEWAY, BookRequest(held.id)))
        assert refused.value.issues[0].rule == "hold-expired"
        times = one.run(_recorded(one))
        assert times == sorted(times) and len(times) >= 2
        assert pool.faults() == []
    finally:
        one.close()


async def _recorded(running: Any) -> list[int]:
    async with running.gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        changes = await reader.changes(type="Appointment", limit=50)
    return [one.stored.updated for one in reversed(changes)]


@pytest.mark.drivers("postgresql")
def test_fault_132_a_node_whose_clock_is_another_one_does_not_write(
    database: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seats would be sold before their channel opens: it says so, and stays away."""
    address = postgres_durable.address_of(database.url())
    true = postgres_durable.time.time

    async def connect() -> None:
        connection = await postgres_durable.connect_to_write(address)
        await connection.close()

    asyncio.run(connect())
    for ahead in (300, -300):
        monkeypatch.setattr(postgres_durable.time, "time", lambda by=ahead: true() + by)
        with pytest.raises(Unavailable) as refused:
            asyncio.run(connect())
        (issue,) = refused.value.issues
        assert issue.rule == "clocks-differ" and "NTP" in issue.diagnostics


@pytest.mark.parametrize(
    ("asked", "there", "answered", "apart"),
    [(10, 10.5, 11, 0), (10, 9, 11, 1), (10, 12, 11, -1), (310, 10, 310, 300)],
)
def test_a_slow_answer_is_no_other_clock(
    asked: float, there: float, answered: float, apart: float
) -> None:
    assert postgres_durable._apart(asked, there, answered) == apart


def test_fault_135_days_are_reckoned_by_the_pinned_data_alone() -> None:
    """Whatever zone data a node's system has: the package's count, and a version that knows less of
    the past gives the same days of what is sold."""
    assert TZPATH == ()
    pinned = ZoneInfo("Asia/Shanghai")
    older = ZoneInfo.from_file(BytesIO(_only_eight_hours()), key="Asia/Shanghai")
    day = date(2024, 1, 1)
    while day.year < 2040:
        begins = instant_at(day, 0, pinned)
        assert begins == instant_at(day, 0, older)
        assert day_at(begins, older) == day and day_at(begins - 1, older) == day - timedelta(1)
        day += timedelta(9)
    assert day_at(BEGIN, pinned) == date(2031, 5, 26)


def _only_eight_hours() -> bytes:
    """Zone data (RFC 8536, version 1) that knows of no change: eight hours east of Greenwich."""
    head = b"TZif" + b"\0" * 16 + pack(">6l", 0, 0, 0, 0, 1, 4)
    return head + pack(">lbb", 8 * 3600, 0, 0) + b"CST\0"
