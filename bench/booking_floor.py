"""The floors of booking: what is left when everything but rows, bytes and the disk is left out."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw
import asyncpg

from bench.booking_world import DAY, ITEMS, World
from bench.places import Place, empty_database

#: What one booking writes: three bodies (Appointment, Slot, AuditEvent) and so many narrow rows.
BODIES, NARROW = (900, 500, 1_200), 40
_BATCHES = 60


async def seat_floor(place: Place, folder: Path, clients: int, cpu: Callable[[], float]) -> float:
    """CPU µs of a booking's rows and bytes, written in durable batches of so many bookings."""
    write = _sqlite(folder) if place.name == "sqlite" else await _postgresql()
    await write(_rows(clients, 0))
    batches = [_rows(clients, number) for number in range(1, _BATCHES + 1)]
    began = cpu()
    for batch in batches:
        await write(batch)
    used = cpu() - began
    await write(None)
    return used / (_BATCHES * clients) * 1e6


def _rows(clients: int, number: int) -> list[tuple[int, int, int, bytes]]:
    """Keys that lie apart, as those of many Slots and persons do."""
    bodies = [os.urandom(size) for size in BODIES] + [b""] * NARROW
    return [
        (random.getrandbits(60), number, place, body)
        for _ in range(clients)
        for place, body in enumerate(bodies)
    ]


_TABLE = "CREATE TABLE row (a BIGINT, b BIGINT, c BIGINT, body {}, PRIMARY KEY (a, b, c)){}"


def _sqlite(folder: Path) -> Any:
    path = folder / "booking" / "floor.sqlite"
    connection = apsw.Connection(str(path))
    connection.pragma("journal_mode", "wal")
    connection.pragma("synchronous", "FULL")
    connection.execute(_TABLE.format("BLOB", " WITHOUT ROWID"))

    async def write(rows: Any) -> None:
        if rows is None:
            connection.close()
            return
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany("INSERT INTO row VALUES (?, ?, ?, ?)", rows)
        connection.execute("COMMIT")

    return write


async def _postgresql() -> Any:
    url = await asyncio.to_thread(empty_database, "bench_booking_floor")
    connection = await asyncpg.connect(url)
    await connection.execute(_TABLE.format("BYTEA", ""))
    rows = "unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bytea[])"
    sql = f"INSERT INTO row SELECT * FROM {rows}"

    async def write(rows: Any) -> None:
        if rows is None:
            await connection.close()
            return
        async with connection.transaction():
            await connection.execute(sql, *zip(*rows, strict=True))

    return write


async def find_floor(world: World, place: Place, cpu: Callable[[], float]) -> float:
    """CPU µs of the count of an item's Slots in its index, and of twenty of their rows."""
    where = 'FROM slot_item WHERE item = {} AND "start" >= {} AND "start" < {} AND full_until <= 0'
    count = f"SELECT count(*) {where}"
    page = f'SELECT "start", home, slot {where} ORDER BY "start", home, slot LIMIT 20'
    chance, rounds = random.Random(3), 100
    asked = [
        (chance.choice(ITEMS), start, start + 14 * DAY)
        for start in (world.begin + chance.randrange(14) * DAY for _ in range(rounds))
    ]
    url = world.gateway.settings.database
    if place.name == "sqlite":
        connection = apsw.Connection(url.removeprefix("sqlite:///"))
        statements = [one.format("?", "?", "?") for one in (count, page)]
        began = cpu()
        for values in asked:
            for statement in statements:
                connection.execute(statement, values).fetchall()
        used = cpu() - began
        connection.close()
        return used / rounds * 1e6
    server = await asyncpg.connect(url)
    statements = [one.format("$1", "$2", "$3") for one in (count, page)]
    began = cpu()
    for values in asked:
        for statement in statements:
            await server.fetch(statement, *values)
    used = cpu() - began
    await server.close()
    return used / rounds * 1e6
