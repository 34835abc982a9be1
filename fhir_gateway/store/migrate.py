"""Numbered migrations: each file once, in order, each in one transaction.

The number of the last one is the database's user_version, which SQLite keeps inside the same
transaction: a migration that was killed half-way has not happened. What has to be filled into the
rows of a whole store is filled in pieces before the migration that needs it. Only the writer
migrates.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import apsw

from fhir_gateway.errors import Unavailable
from fhir_gateway.store import points
from fhir_gateway.store.backfill import BEFORE

#: Marks a file as a database of the gateway: "fhgw".
APPLICATION = 0x66686777

_FOLDER = Path(__file__).with_name("migrations")


@cache
def migrations() -> tuple[tuple[int, str], ...]:
    """(number, SQL) of every migration, from 1 without a gap."""
    files = sorted(_FOLDER.glob("[0-9][0-9][0-9][0-9]_*.sql"))
    numbered = tuple((int(file.name[:4]), file.read_text("utf-8")) for file in files)
    if [number for number, _ in numbered] != list(range(1, len(numbered) + 1)):
        raise RuntimeError("the numbers of the migrations have a gap")
    return numbered


def migrate(
    connection: apsw.Connection,
    *,
    now: int,
    random: Callable[[int], bytes],
    steps: tuple[tuple[int, str], ...] | None = None,
) -> int:
    """Brings the schema up to date and returns its number; a no-op when it is.

    Raises Unavailable when the file is not a database of the gateway or was written by a newer
    version, leaving it as it was.
    """
    steps = migrations() if steps is None else steps
    check(connection, newest=len(steps))
    for number, script in steps:
        if number in BEFORE and connection.pragma("user_version") < number:
            BEFORE[number](connection)
        connection.execute("BEGIN IMMEDIATE")
        try:
            if connection.pragma("user_version") < number:
                _apply(connection, number, script, now=now, random=random)
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
    return len(steps)


def check(connection: apsw.Connection, *, newest: int) -> None:
    """Raises Unavailable when this version of the gateway must not touch the database."""
    version = connection.pragma("user_version")
    if version > newest:
        raise Unavailable(
            f"The database has schema {version}, this version knows {newest}: start a newer one",
            rule="schema-newer",
        )
    if connection.pragma("application_id") == APPLICATION:
        if not connection.execute("SELECT count(*) FROM clock").get:
            raise Unavailable(
                "The database is an unfinished copy; run the same `fhir-gateway copy` again",
                rule="unfinished-copy",
            )
        return
    if connection.execute("SELECT count(*) FROM sqlite_schema").get:
        raise Unavailable("The file is not a database of the gateway", rule="foreign-database")


def _apply(
    connection: apsw.Connection,
    number: int,
    script: str,
    *,
    now: int,
    random: Callable[[int], bytes],
) -> None:
    cursor = connection.cursor()
    cursor.exec_trace = _reached
    cursor.execute(script)
    if number == 1:
        connection.execute(
            "INSERT INTO clock VALUES (1, 0, 0, ?, 0, 0, 0, 0, 0, ?)", (now, random(32))
        )
        connection.pragma("application_id", APPLICATION)
    connection.pragma("user_version", number)


def _reached(cursor: apsw.Cursor, statement: str, bindings: object) -> bool:
    points.reached("migration-statement")
    return True
