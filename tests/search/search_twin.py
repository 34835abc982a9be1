"""The rows of a loader in PostgreSQL too, so that the same search runs on both databases."""

from __future__ import annotations

import asyncio
from functools import cache
from typing import Any

import asyncpg
from databases import migrated, postgres
from search_loader import Loader

from fhir_gateway.search.plan import SearchPlan
from fhir_gateway.security.actor import Access
from fhir_gateway.store.dialect import POSTGRES
from fhir_gateway.store.postgres_sql import numbered
from fhir_gateway.store.search_sql import search
from fhir_gateway.store.store import Page

TABLES = ("locator", "resource", "version", "px", "px_text", "gx", "gx_text", "journal")


class Twin:
    """A database of PostgreSQL that is empty again after every search."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        url = postgres().local(postgres().create(migrated()))
        self._connection = self._loop.run_until_complete(asyncpg.connect(url))

    def run(
        self,
        loader: Loader,
        plan: SearchPlan,
        access: Access | None = None,
        *,
        budget: int = 10_000,
    ) -> Page:
        """One page of a plan, over the loader's rows."""
        return self._loop.run_until_complete(self._run(loader, plan, access or Access(), budget))

    async def _run(self, loader: Loader, plan: SearchPlan, access: Access, budget: int) -> Page:
        transaction = self._connection.transaction()
        await transaction.start()
        try:
            for table in TABLES:
                await self._copy(loader, table)
            return await self._drive(search(plan, access, budget=budget, dialect=POSTGRES))
        finally:
            await transaction.rollback()

    async def _copy(self, loader: Loader, table: str) -> None:
        cursor = loader.connection.execute(f"SELECT * FROM {table}")
        rows = cursor.fetchall()
        if rows:
            names = [name for name, *_ in loader.connection.execute(
                f"SELECT name FROM pragma_table_info('{table}') ORDER BY cid"
            )]  # fmt: skip
            await self._connection.copy_records_to_table(table, records=rows, columns=names)

    async def _drive(self, steps: Any) -> Page:
        try:
            query = next(steps)
            while True:
                rows = await self._connection.fetch(numbered(query.sql), *query.values)
                query = steps.send(rows)
        except StopIteration as end:
            page: Page = end.value
            return page

    def close(self) -> None:
        """Lets go of the database."""
        self._loop.run_until_complete(self._connection.close())
        self._loop.close()


@cache
def twin() -> Twin:
    """The one of this test process."""
    return Twin()
