"""A PostgreSQL store as source or target of a copy (see copying.py)."""

# ruff: noqa: S608 - SQL is put together from names of the schema; values are always bound

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from typing import Any

import asyncpg

from fhir_gateway.errors import Conflict, Unavailable
from fhir_gateway.store.copying import CHUNK, PIECE, Digest, Note, Row
from fhir_gateway.store.postgres_durable import Address, address_of, connect_to_write
from fhir_gateway.store.postgres_migrate import check_begun, migrate

_NOTES = """
CREATE TABLE IF NOT EXISTS copying (
    name TEXT PRIMARY KEY, mark BYTEA NOT NULL, done BOOLEAN NOT NULL, last BYTEA NOT NULL,
    count BIGINT NOT NULL, hash TEXT NOT NULL
)"""
_IS_BEGUN = "SELECT to_regclass('copying') IS NOT NULL"
_FREE = "SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0"


class PostgresSide:
    """The database. `holding` keeps its clock row locked: no gateway commits meanwhile."""

    def __init__(self, connection: asyncpg.Connection, holding: asyncpg.Connection) -> None:
        self._connection = connection
        self._holding = holding
        self._transaction: Any = None
        self._mark = b""

    async def columns(self, table: str) -> tuple[str, ...]:
        """The names of a table's columns, sorted."""
        rows = await self._connection.fetch(
            "SELECT column_name FROM information_schema.columns"
            " WHERE table_schema = current_schema() AND table_name = $1",
            table,
        )
        return tuple(sorted(row[0] for row in rows))

    async def bound(self, table: str, lead: str, after: Any) -> Any:
        """The leading value about PIECE rows behind `after`; None when no row is left."""
        where, values = ("", ()) if after is None else (f"WHERE {lead} > $1", (after,))
        return await self._connection.fetchval(
            f"SELECT {lead} FROM (SELECT {lead} FROM {table} {where} ORDER BY {lead} LIMIT {PIECE})"
            f" piece ORDER BY {lead} DESC LIMIT 1",
            *values,
        )

    async def rows(
        self, table: str, columns: tuple[str, ...], lead: str, after: Any, upto: Any
    ) -> AsyncIterator[list[Row]]:
        """The rows with after < lead <= upto, in chunks; None bounds nothing."""
        values = [value for value in (after, upto) if value is not None]
        signs = [sign for sign, value in ((">", after), ("<=", upto)) if value is not None]
        terms = [f"{lead} {sign} ${number}" for number, sign in enumerate(signs, 1)]
        where = f"WHERE {' AND '.join(terms)}" if terms else ""
        sql = f"SELECT {_names(columns)} FROM {table} {where}"
        async with self._connection.transaction():
            cursor = await self._connection.cursor(sql, *values)
            while found := await cursor.fetch(CHUNK):
                yield [tuple(row) for row in found]

    async def close(self) -> None:
        """Lets the database go."""
        await self._connection.close()
        await self._holding.close()

    # -- as a target -----------------------------------------------------------------------------

    async def notes(self, mark: bytes) -> dict[str, Note]:
        """What is there already. Raises Conflict when it is a store, or a copy of another one."""
        connection, self._mark = self._connection, mark
        await self._holding.execute("ROLLBACK")  # a target's clock row is removed
        if not await connection.fetchval(_IS_BEGUN):
            if await connection.fetchval("SELECT t FROM clock"):
                raise Conflict("The target holds data; name an empty one", rule="copy-target")
            async with connection.transaction():
                await connection.execute(_NOTES)
                await connection.execute("DELETE FROM clock")
                await connection.execute(
                    "INSERT INTO copying VALUES ('', $1, false, '', 0, '0')", mark
                )
        found = await connection.fetch("SELECT name, mark, done, last, count, hash FROM copying")
        if any(row["mark"] != mark for row in found):
            raise Conflict(
                "The target holds an unfinished copy of another store, or of an earlier state of "
                "this one; name an empty one",
                rule="copy-target",
            )
        return {
            row["name"]: Note(row["done"], row["last"], Digest(row["count"], int(row["hash"])))
            for row in found
        }

    async def begin(self) -> None:
        """Opens a transaction."""
        self._transaction = self._connection.transaction()
        await self._transaction.start()

    async def write(self, table: str, columns: tuple[str, ...], rows: list[Row]) -> None:
        """Adds rows."""
        await self._connection.copy_records_to_table(table, records=rows, columns=columns)

    async def commit(self, table: str, note: Note) -> None:
        """Makes a piece durable, with its note."""
        await self._connection.execute(
            "INSERT INTO copying VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (name) DO UPDATE SET"
            " done = excluded.done, last = excluded.last, count = excluded.count,"
            " hash = excluded.hash",
            table, self._mark, note.done, note.last, note.digest.rows, str(note.digest.hash),
        )  # fmt: skip
        await self._transaction.commit()

    async def finish(self, columns: tuple[str, ...], clock: Row) -> None:
        """Writes the clock row and removes the notes: from now on it is a store."""
        await self.begin()
        await self.write("clock", columns, [clock])
        await self._connection.execute("DROP TABLE copying")
        await self._transaction.commit()
        await self._connection.execute("ANALYZE")


def _names(columns: tuple[str, ...]) -> str:
    return ", ".join(f'"{name}"' for name in columns)


async def open_side(url: str, *, now: int, create: bool) -> PostgresSide:
    """The database as one side of a copy, its schema up to date.

    Raises Invalid when it holds nothing and nothing is to be created, Unavailable when it cannot
    be reached, or when a gateway is just committing to it.
    """
    address: Address = address_of(url)
    connection = await connect_to_write(address)
    if not create:
        await check_begun(connection)
    await connection.execute(_FREE)
    if not await connection.fetchval(_IS_BEGUN):
        await migrate(connection, now=now, random=os.urandom)
    holding = await connect_to_write(address)
    try:
        await holding.execute(f"{_FREE}; BEGIN; SELECT t FROM clock FOR SHARE")
    except asyncpg.LockNotAvailableError:
        await connection.close()
        await holding.close()
        raise Unavailable("A gateway is writing; stop it first", rule="in-use") from None
    return PostgresSide(connection, holding)
