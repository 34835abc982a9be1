"""PostgreSQL visits no more rows as the data grows, whatever its planner believes of the data.

Complaints 6 and 13 of peers' users. Counted by the server itself: what its scans of tables and
indexes gave back, whatever became of it. `test_search_cost.py` counts the steps of SQLite.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from databases import migrated, need_postgres, postgres
from search_loader import Loader
from search_twin import TABLES
from test_search_cost import KINDS, clinic

from fhir_gateway.security.actor import Access
from fhir_gateway.store.dialect import POSTGRES
from fhir_gateway.store.postgres_pool import connect
from fhir_gateway.store.postgres_sql import numbered
from fhir_gateway.store.search_sql import search

VISITED = (
    "SELECT sum(pg_stat_get_xact_tuples_returned(oid))::bigint FROM pg_class"
    " WHERE relkind IN ('r', 'i') AND relnamespace = 'public'::regnamespace"
)
SIZES = (25, 100)


class Counting:
    """A clinic in a database, on a connection as readers have it."""

    def __init__(self, loader: Loader) -> None:
        self.loader = loader
        self._loop = asyncio.new_event_loop()
        self._connection: Any = self._loop.run_until_complete(self._filled())

    async def _filled(self) -> Any:
        url = postgres().local(postgres().create(migrated()))
        filling = await connect(url, {})
        for table in TABLES:
            rows = self.loader.connection.execute(f"SELECT * FROM {table}").fetchall()
            if rows:
                names = self.loader.connection.execute(
                    f"SELECT name FROM pragma_table_info('{table}') ORDER BY cid"
                )
                await filling.copy_records_to_table(
                    table, records=rows, columns=[name for (name,) in names]
                )
        await filling.execute("ANALYZE")
        await filling.close()
        return await connect(url)

    def visited(self, url: str) -> tuple[int, int]:
        """Rows that a search visits, and matches that it finds."""
        return self._loop.run_until_complete(self._visited(url))

    async def _visited(self, url: str) -> tuple[int, int]:
        steps = search(self.loader.plan(url), Access(), budget=10_000, dialect=POSTGRES)
        async with self._connection.transaction():
            before = await self._connection.fetchval(VISITED)
            try:
                query = next(steps)
                while True:
                    rows = await self._connection.fetch(numbered(query.sql), *query.values)
                    query = steps.send(rows)
            except StopIteration as end:
                matches = len(end.value.matches)
            return await self._connection.fetchval(VISITED) - before, matches

    def close(self) -> None:
        """Lets go of the database."""
        self._loop.run_until_complete(self._connection.close())
        self._loop.close()


@pytest.fixture(scope="module")
def clinics() -> Iterator[list[Counting]]:
    need_postgres()
    made = [Counting(clinic(size)) for size in SIZES]
    yield made
    for one in made:
        one.close()


@pytest.mark.parametrize("url", KINDS, ids=lambda url: url[:60])
def test_13_a_search_visits_no_more_rows_when_the_data_grows(clinics, url: str) -> None:
    (small, found), (large, again) = (one.visited(url) for one in clinics)
    assert found == again > 0
    assert 0 < large <= small + 2
