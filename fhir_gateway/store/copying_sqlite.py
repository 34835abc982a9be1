"""A SQLite store as source or target of a copy (see copying.py)."""

# ruff: noqa: S608 - SQL is put together from names of the schema; values are always bound

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import apsw

from fhir_gateway.errors import Conflict, Unavailable
from fhir_gateway.store import lock
from fhir_gateway.store.copying import CHUNK, PIECE, Digest, Note, Row
from fhir_gateway.store.engine import check_engine, create_file, open_writer, use_wal
from fhir_gateway.store.migrate import migrate

_NOTES = """
CREATE TABLE IF NOT EXISTS copying (
    name TEXT PRIMARY KEY, mark BLOB NOT NULL, done INTEGER NOT NULL, last BLOB NOT NULL,
    count INTEGER NOT NULL, hash TEXT NOT NULL
) STRICT, WITHOUT ROWID"""


class SqliteSide:
    """The file, with its writer's lock held. Made by `open_side`, closed once."""

    def __init__(self, connection: apsw.Connection, held: lock.Lock) -> None:
        self._connection = connection
        self._lock = held
        self._mark = b""

    async def columns(self, table: str) -> tuple[str, ...]:
        """The names of a table's columns, sorted."""
        rows = self._connection.execute("SELECT name FROM pragma_table_info(?)", (table,))
        return tuple(sorted(name for (name,) in rows))

    async def bound(self, table: str, lead: str, after: Any) -> Any:
        """The leading value about PIECE rows behind `after`; None when no row is left."""
        where, values = ("", ()) if after is None else (f"WHERE {lead} > ?", (after,))
        return self._connection.execute(
            f"SELECT {lead} FROM (SELECT {lead} FROM {table} {where} ORDER BY {lead} LIMIT {PIECE})"
            f" ORDER BY {lead} DESC LIMIT 1",
            values,
        ).get

    async def rows(
        self, table: str, columns: tuple[str, ...], lead: str, after: Any, upto: Any
    ) -> AsyncIterator[list[Row]]:
        """The rows with after < lead <= upto, in chunks; None bounds nothing."""
        terms = [f"{lead} {sign} ?" for sign, value in ((">", after), ("<=", upto))
                 if value is not None]  # fmt: skip
        values = [value for value in (after, upto) if value is not None]
        where = f"WHERE {' AND '.join(terms)}" if terms else ""
        found = self._connection.execute(
            f"SELECT {_names(columns)} FROM {table} {where} ORDER BY {lead}", values
        )
        chunk: list[Row] = []
        for row in found:
            chunk.append(row)
            if len(chunk) == CHUNK:
                yield chunk
                chunk = []
        if chunk:
            yield chunk

    async def close(self) -> None:
        """Lets the file go."""
        self._connection.close()
        self._lock.release()

    # -- as a target -----------------------------------------------------------------------------

    async def notes(self, mark: bytes) -> dict[str, Note]:
        """What is there already. Raises Conflict when it is a store, or a copy of another one."""
        connection, self._mark = self._connection, mark
        begun = connection.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'copying'").get
        if not begun:
            if connection.execute("SELECT t FROM clock").get:
                raise Conflict("The target holds data; name an empty one", rule="copy-target")
            with connection:
                connection.execute(_NOTES)
                connection.execute("DELETE FROM clock")
                connection.execute("INSERT INTO copying VALUES ('', ?, 0, x'', 0, '0')", (mark,))
        rows = connection.execute("SELECT name, mark, done, last, count, hash FROM copying")
        found = list(rows)
        if any(row[1] != mark for row in found):
            raise Conflict(
                "The target holds an unfinished copy of another store, or of an earlier state of "
                "this one; name an empty one",
                rule="copy-target",
            )
        return {
            name: Note(bool(done), last, Digest(count, int(hash)))
            for name, _, done, last, count, hash in found
        }

    async def begin(self) -> None:
        """Opens a transaction."""
        self._connection.execute("BEGIN IMMEDIATE")

    async def write(self, table: str, columns: tuple[str, ...], rows: list[Row]) -> None:
        """Adds rows."""
        marks = ", ".join("?" * len(columns))
        self._connection.executemany(
            f"INSERT INTO {table} ({_names(columns)}) VALUES ({marks})", rows
        )

    async def commit(self, table: str, note: Note) -> None:
        """Makes a piece durable, with its note."""
        self._connection.execute(
            "INSERT OR REPLACE INTO copying VALUES (?, ?, ?, ?, ?, ?)",
            (table, self._mark, int(note.done), note.last, note.digest.rows,
             str(note.digest.hash)),
        )  # fmt: skip
        self._connection.execute("COMMIT")

    async def finish(self, columns: tuple[str, ...], clock: Row) -> None:
        """Writes the clock row and removes the notes: from now on it is a store."""
        await self.begin()
        await self.write("clock", columns, [clock])
        self._connection.execute("DROP TABLE copying")
        self._connection.execute("COMMIT")
        self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)


def _names(columns: tuple[str, ...]) -> str:
    return ", ".join(f'"{name}"' for name in columns)


def open_side(path: str, *, now: int, create: bool) -> SqliteSide:
    """The file as one side of a copy; it is made when `create` says so.

    Raises Unavailable when a gateway runs on it, or when it is missing or not ours.
    """
    check_engine()
    database = Path(os.path.abspath(path))
    if create:
        create_file(database)
    elif not database.is_file():
        raise Unavailable("There is no such file to copy from", rule="copy-source")
    held = lock.take(database)
    if held is None:
        raise Unavailable("A gateway runs on this database; stop it first", rule="in-use")
    connection = open_writer(database)
    try:
        use_wal(connection)
        if connection.pragma("user_version") == 0 or not _is_begun(connection):
            migrate(connection, now=now, random=os.urandom)
    except BaseException:
        connection.close()
        held.release()
        raise
    return SqliteSide(connection, held)


def _is_begun(connection: apsw.Connection) -> bool:
    return bool(connection.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'copying'").get)
