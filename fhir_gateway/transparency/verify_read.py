"""Connections of the check: statements in, rows out, without a loop, on either store.

What is checked may be a copy that no gateway serves, and may be damaged: nothing is migrated,
nothing is written, and texts are read as the bytes that they are.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import apsw
import asyncpg

from fhir_gateway.errors import Invalid
from fhir_gateway.store.engine import check_begun, open_reader
from fhir_gateway.store.opening import POSTGRES, SQLITE
from fhir_gateway.store.postgres_durable import address_of
from fhir_gateway.store.postgres_migrate import check_begun as check_there
from fhir_gateway.store.postgres_pool import connect
from fhir_gateway.store.postgres_sql import numbered

Row = Sequence[Any]


class Reading(Protocol):
    """One state of a store, for statements that read."""

    #: How a text column is read as bytes.
    as_bytes: str

    def rows(self, sql: str, values: Sequence[Any] = ()) -> list[Row]:
        """The rows of a statement, its values marked by `?`."""

    def close(self) -> None:
        """Lets it go."""


class SqliteReading:
    """A file of SQLite."""

    as_bytes = "CAST({} AS BLOB)"

    def __init__(self, path: Path) -> None:
        check_begun(path)
        self._connection = open_reader(path)
        self._connection.execute("BEGIN")

    def rows(self, sql: str, values: Sequence[Any] = ()) -> list[Row]:
        """The rows of a statement."""
        return [*self._connection.execute(sql, values)]

    def close(self) -> None:
        """Lets the file go."""
        self._connection.close()


class PostgresReading:
    """A database of PostgreSQL; a loop of its own runs its connection."""

    as_bytes = "convert_to({}, 'UTF8')"

    def __init__(self, url: str) -> None:
        self._loop = asyncio.new_event_loop()
        settings = {
            "default_transaction_isolation": "repeatable read",
            "default_transaction_read_only": "on",
        }
        try:
            self._connection = self._loop.run_until_complete(connect(address_of(url).url, settings))
            self._loop.run_until_complete(check_there(self._connection))
            self._loop.run_until_complete(self._connection.execute("BEGIN"))
        except BaseException:
            self._loop.close()
            raise

    def rows(self, sql: str, values: Sequence[Any] = ()) -> list[Row]:
        """The rows of a statement."""
        asked = self._connection.fetch(numbered(sql), *values)
        return [tuple(row) for row in self._loop.run_until_complete(asked)]

    def close(self) -> None:
        """Lets the connection go."""
        self._loop.run_until_complete(self._connection.close())
        self._loop.close()


def open_reading(database: str) -> Reading:
    """The store at an address, as it is now.

    Raises Invalid for an address that holds none, Unavailable when it cannot be reached.
    """
    if database.startswith(SQLITE):
        return SqliteReading(Path(database.removeprefix(SQLITE)))
    if database.startswith(POSTGRES):
        return PostgresReading(database)
    raise Invalid("a store is sqlite:///PATH or postgresql://USER:PASSWORD@HOST/NAME")


#: What a store of another kind, or a damaged one, raises.
DAMAGE = (
    apsw.Error, asyncpg.PostgresError, UnicodeError, ValueError, TypeError, OverflowError
)  # fmt: skip
