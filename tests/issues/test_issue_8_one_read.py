"""What a booking is planned by, and what a card tells, is found by one statement each that looks
everything up by keys: in a city of a million Slots as in an empty database."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import apsw
import pytest
from booking_world import World, booked
from databases import Databases

from fhir_gateway.fhir.keys import key64
from fhir_gateway.security.actor import SYSTEM_ACCESS
from fhir_gateway.store.dialect import POSTGRES, SQLITE
from fhir_gateway.store.postgres_pool import connect
from fhir_gateway.store.postgres_sql import numbered
from fhir_gateway.store.query import Query
from fhir_gateway.store.seat_around_sql import around
from fhir_gateway.store.slot_near_sql import Reach, near_slots
from fhir_gateway.store.slot_view_sql import bookings_of, slot_view

REACHES = [Reach(home=5), Reach(district="110101"), Reach()]


@pytest.fixture(scope="module")
def world(shared_database: Databases) -> Iterator[World]:
    one = World(shared_database.running("one_read"))
    yield one
    one.running.close()


def test_one_statement_says_what_the_single_ones_say(world: World) -> None:
    first, second = world.slots(2, capacity=2, quotas={"ordinary": 3, "green-channel": 1})
    patient = world.patient()
    assert world.hold(first, world.patient()).status_code == 200
    appointment = booked(world.book(first, patient))["id"]

    async def compare() -> None:
        async with world.gateway.store.snapshot(SYSTEM_ACCESS) as whole:
            found = await whole.steps(lambda seen: around(seen.dialect, first, patient))
            slot, known = await whole.read("Slot", first), await whole.person(patient)
            assert slot is not None and known is not None and found.view is not None
            key = (slot.home, key64(f"Slot/{first}"))
            assert found.view == await whole.steps(lambda _: slot_view(key))
            assert len(found.view.seats) == 2 and len(found.view.quotas) == 2
            assert found.slot == slot
            assert found.schedule == await whole.read("Schedule", found.view.schedule.id)
            assert found.homes == known.homes
            every = await whole.steps(lambda seen: bookings_of(seen.dialect, known.homes))
            assert [*found.others] == every and [one.booking.id for one in every] == [appointment]
            nobody = await whole.steps(lambda seen: around(seen.dialect, second, "nobody"))
            assert nobody.view is not None and (nobody.homes, nobody.others) == ((), ())
            nothing = await whole.steps(lambda seen: around(seen.dialect, "none", patient))
            assert (nothing.view, nothing.slot) == (None, None) and len(nothing.others) == 1

    world.running.run(compare())


def statements(dialect: Any) -> list[Query]:
    """The first statement of each generator."""
    near = near_slots(dialect, ["I001", "I002"], REACHES, now=1, end=2)
    return [next(around(dialect, "slot", "patient")), next(near)]


def test_both_are_looked_up_by_keys(world: World) -> None:
    """By the plan of the database: nothing is run through but what the statement itself made."""
    url = world.gateway.settings.database
    if url.startswith("sqlite"):
        connection = apsw.Connection(url.removeprefix("sqlite:///"))
        own = {"s", "h", "x", "i", "f", "CONSTANT", "w0", "w1"}
        for query in statements(SQLITE):
            steps = connection.execute(f"EXPLAIN QUERY PLAN {query.sql}", query.values).fetchall()
            scans = [step[3].split()[1] for step in steps if step[3].startswith("SCAN ")]
            assert {one for one in scans if not one.startswith(("t", "("))} <= own
        connection.close()
        return

    async def plans() -> list[list[str]]:
        server = await connect(url.replace("&durability=test", ""))
        try:
            return [
                [row[0].strip() for row in await server.fetch(
                    f"EXPLAIN (FORMAT TEXT) {numbered(query.sql)}", *query.values)]
                for query in statements(POSTGRES)
            ]  # fmt: skip
        finally:
            await server.close()

    for plan in asyncio.run(plans()):
        looked = (" Scan using ", "Bitmap Index Scan on ", "Seq Scan on ")
        scans = [at for at, line in enumerate(plan) if any(one in line for one in looked)]
        assert len(scans) > 8
        assert [plan[at] for at in scans if not plan[at + 1].startswith("Index Cond:")] == []
