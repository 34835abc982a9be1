"""Opens the store that an address names: a file of SQLite, or a database of PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable

from fhir_gateway.errors import Invalid
from fhir_gateway.search.version import INDEX_VERSION
from fhir_gateway.store.draining import RowsOf
from fhir_gateway.store.postgres import PostgresStore, open_postgres
from fhir_gateway.store.sqlite import Clock, SqliteStore, open_sqlite

SQLITE = "sqlite:///"
POSTGRES = ("postgresql://", "postgres://")

AnyStore = SqliteStore | PostgresStore


async def open_store(
    database: str,
    *,
    clock: Clock,
    random: Callable[[int], bytes],
    rows: RowsOf | None = None,
    search_budget: int = 20_000,
    index: int = INDEX_VERSION,
    begin: bool = True,
) -> AnyStore:
    """The open store, made when it is empty. Closed once.

    `index` is the version of the index rows that will be stored and searched for
    (search/version.py); 0 for a command that does neither. Without `begin` an address that
    holds no store yet is refused: it was mistyped, or would be answered for as if it were empty.

    Raises Invalid for an address of neither kind, Unavailable when the store cannot be opened.
    """
    if database.startswith(SQLITE):
        return await open_sqlite(
            database.removeprefix(SQLITE),
            clock=clock, random=random, rows=rows, search_budget=search_budget, index=index,
            begin=begin,
        )  # fmt: skip
    if database.startswith(POSTGRES):
        return await open_postgres(
            database, clock=clock, random=random, rows=rows, search_budget=search_budget,
            index=index, begin=begin,
        )  # fmt: skip
    raise Invalid(
        "database must be sqlite:///PATH or postgresql://USER:PASSWORD@HOST/NAME", rule="database"
    )
