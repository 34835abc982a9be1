"""The schema of a PostgreSQL database: numbered migrations, each once and in one transaction.

The number of the last one stands in the table `schema`. Of all processes that start at once the
one that gets the advisory lock migrates, the others wait for it. A database that a newer version
of the gateway has migrated is left as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import asyncpg

from fhir_gateway.errors import Unavailable
from fhir_gateway.store import points
from fhir_gateway.store.refusals import no_database

#: The key of the advisory lock: "fhgw".
LOCK = 0x66686777

_FOLDER = Path(__file__).with_name("migrations") / "postgres"
_ITSELF = "CREATE TABLE IF NOT EXISTS schema (number BIGINT PRIMARY KEY, at BIGINT NOT NULL)"


@cache
def migrations() -> tuple[tuple[int, str], ...]:
    """(number, SQL) of every migration, from 1 without a gap."""
    files = sorted(_FOLDER.glob("[0-9][0-9][0-9][0-9]_*.sql"))
    numbered = tuple((int(file.name[:4]), file.read_text("utf-8")) for file in files)
    if [number for number, _ in numbered] != list(range(1, len(numbered) + 1)):
        raise RuntimeError("the numbers of the migrations have a gap")
    return numbered


async def migrate(
    connection: asyncpg.Connection,
    *,
    now: int,
    random: Callable[[int], bytes],
    steps: tuple[tuple[int, str], ...] | None = None,
) -> int:
    """Brings the schema up to date and returns its number; a no-op when it is.

    The connection must be one that may write and is in no transaction. Raises Unavailable when
    the database holds something else, keeps its text in another encoding than UTF-8, or was
    migrated by a newer version; it is left as it was.
    """
    steps = migrations() if steps is None else steps
    await connection.execute("SELECT pg_advisory_lock($1)", LOCK)
    try:
        number = await _number(connection)
        if number > len(steps):
            raise Unavailable(
                f"The database has schema {number}, this version knows {len(steps)}: "
                "start a newer one",
                rule="schema-newer",
            )
        if number == 0:
            await _check_empty(connection)
        elif not await connection.fetchval("SELECT count(*) FROM clock"):
            raise Unavailable(
                "The database is an unfinished copy; run the same `fhir-gateway copy` again",
                rule="unfinished-copy",
            )
        for step, script in steps[number:]:
            async with connection.transaction():
                await _apply(connection, step, script, now=now, random=random)
                points.reached("migration-statement")
    finally:
        if not connection.is_closed():
            await connection.execute("SELECT pg_advisory_unlock($1)", LOCK)
    return len(steps)


async def check_begun(connection: asyncpg.Connection) -> None:
    """Raises Invalid when the database holds no store, where none is to be begun."""
    if await _number(connection) == 0:
        connection.terminate()
        raise no_database("in this database of PostgreSQL")


async def _number(connection: asyncpg.Connection) -> int:
    """The number of the last migration, 0 before the first."""
    if not await connection.fetchval("SELECT to_regclass('schema') IS NOT NULL"):
        return 0
    number: int = await connection.fetchval("SELECT coalesce(max(number), 0) FROM schema")
    return number


async def _check_empty(connection: asyncpg.Connection) -> None:
    """Raises Unavailable when the database is not one to begin in."""
    encoding = await connection.fetchval("SHOW server_encoding")
    if encoding != "UTF8":
        raise Unavailable(
            f"The database keeps its text as {encoding}; create it with the encoding UTF8",
            rule="database-encoding",
        )
    tables = await connection.fetchval(
        "SELECT count(*) FROM pg_class WHERE relkind IN ('r', 'p')"
        " AND relnamespace = current_schema()::regnamespace"
    )
    if tables:
        raise Unavailable("The database is not one of the gateway", rule="foreign-database")


async def _apply(
    connection: asyncpg.Connection,
    number: int,
    script: str,
    *,
    now: int,
    random: Callable[[int], bytes],
) -> None:
    await connection.execute(_ITSELF)
    await connection.execute(script)
    await connection.execute("INSERT INTO schema (number, at) VALUES ($1, $2)", number, now)
    if number == 1:
        await connection.execute(
            "INSERT INTO clock VALUES (1, 0, 0, $1, 0, 0, 0, 0, 0, $2)", now, random(32)
        )
