"""Fills an empty store with people: the product's own rows, copied and written in key order.

Rows go to SQLite by sorted inserts and to PostgreSQL by COPY, as a bulk load would.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import asyncpg

from bench.copies import Copier, Place, check
from bench.people import RESOURCES
from fhir_gateway.context import Gateway
from fhir_gateway.store.engine import open_writer, use_wal

#: Tables in the order of their rows; those with random keys are kept and sorted first.
COLUMNS = {
    "locator": "type id home rid",
    "resource": "home type rid id version t n updated deleted owner sensitivity patient source enc"
    " body key",
    "px": "home parameter v1 v2 rid",
    "px_text": "home parameter text rid",
    "change": "t n i home type rid version op",
    "fact": "home item time rid t_from ordinal t_to version time_high issued kind status issuer"
    " specimen unit method value laterality flags mark source patient result owner sensitivity"
    " more",
    "result_of": "home result rid t_from t_to status issued source more",
    "gx": "parameter v1 v2 home rid",
    "gx_text": "parameter text home rid",
    "identity": "key kind home rid",
}
RANDOM_KEYS = ("gx", "gx_text", "identity")
#: People between two writes.
PIECE = 500

Rows = dict[str, list[tuple[Any, ...]]]


class Sink(Protocol):
    """A store that is filled with rows and not served meanwhile."""

    async def begin(self) -> tuple[int, int, int, int]:
        """The clock: t, rid, home, updated."""

    async def write(self, rows: Rows) -> None:
        """Writes rows and forgets them."""

    async def finish(self, t: int, rid: int, home: int) -> None:
        """Moves the clock and makes everything durable."""


class SqliteSink:
    """Sorted inserts into the file."""

    def __init__(self, path: Path) -> None:
        self._connection = open_writer(path)
        self._sql = {
            table: f"INSERT INTO {table} ({', '.join(names.split())}) "
            f"VALUES ({', '.join('?' * len(names.split()))})"
            for table, names in COLUMNS.items()
        }

    async def begin(self) -> tuple[int, int, int, int]:
        connection = self._connection
        use_wal(connection)
        connection.pragma("synchronous", "OFF")  # a bulk load starts over when it is cut short
        connection.pragma("cache_size", -1_024_000)
        clock: tuple[int, int, int, int] = connection.execute(
            "SELECT t, rid, home, updated FROM clock"
        ).get
        connection.execute("BEGIN IMMEDIATE")
        return clock

    async def write(self, rows: Rows) -> None:
        for table, some in rows.items():
            self._connection.executemany(self._sql[table], some)
            some.clear()

    async def finish(self, t: int, rid: int, home: int) -> None:
        connection = self._connection
        connection.execute("UPDATE clock SET t = ?, rid = ?, home = ?", (t, rid, home))
        connection.execute("COMMIT")
        connection.pragma("synchronous", "FULL")
        connection.wal_checkpoint(mode=3)
        connection.close()


class PostgresSink:
    """COPY into the database."""

    def __init__(self, url: str) -> None:
        self._url = url

    async def begin(self) -> tuple[int, int, int, int]:
        self._connection = await asyncpg.connect(self._url)
        await self._connection.execute("SET synchronous_commit = off")
        row = await self._connection.fetchrow("SELECT t, rid, home, updated FROM clock")
        return tuple(row)

    async def write(self, rows: Rows) -> None:
        for table, some in rows.items():
            await self._connection.copy_records_to_table(
                table, records=some, columns=COLUMNS[table].split()
            )
            some.clear()

    async def finish(self, t: int, rid: int, home: int) -> None:
        await self._connection.execute("UPDATE clock SET t = $1, rid = $2, home = $3", t, rid, home)
        await self._connection.execute("VACUUM (ANALYZE, FREEZE)", timeout=3_600)
        await self._connection.execute("CHECKPOINT", timeout=600)
        await self._connection.close()


async def seed(gateway: Gateway, sink: Sink, people: int, report: Callable[[str], None]) -> int:
    """Writes `people` persons; returns how many resources. Nobody may write meanwhile."""
    copier = Copier(gateway)
    check(gateway, copier)
    t, rid, home, updated = await sink.begin()
    began = time.perf_counter()
    rows: Rows = {table: [] for table in COLUMNS if table not in RANDOM_KEYS}
    late: Rows = {table: [] for table in RANDOM_KEYS}
    all_rows = {**rows, **late}
    count = 0

    def add(table: str, row: tuple[Any, ...]) -> None:
        all_rows[table].append(row)

    for person in range(people):
        place = Place(t + 1, rid + 1 + person * RESOURCES, home + 1 + person, updated)
        count += copier.copy(person, place, add)
        if person % PIECE == PIECE - 1:
            await sink.write(rows)
            report(f"seeded {person + 1:,} of {people:,} people")
    await sink.write(rows)
    for table in RANDOM_KEYS:
        await sink.write({table: sorted(late[table])})
    await sink.finish(t + 1, rid + people * RESOURCES, home + people)
    report(f"seeded {count:,} resources in {time.perf_counter() - began:.0f} s")
    return count
