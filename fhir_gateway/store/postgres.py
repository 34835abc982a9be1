"""The PostgreSQL driver of the Store: any number of processes on one database.

Each process batches its own change sets and commits them through one connection; the clock row
puts the batches of all in one order. Readers have connections of their own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import asyncpg

from fhir_gateway.errors import Unavailable
from fhir_gateway.search.version import INDEX_VERSION
from fhir_gateway.security.actor import Access
from fhir_gateway.store.changes import ChangeSet, Committed
from fhir_gateway.store.draining import RowsOf
from fhir_gateway.store.index_version import RAISE, STATE, index_of, raised
from fhir_gateway.store.jobs import Command, Job
from fhir_gateway.store.log import LogCommand
from fhir_gateway.store.narrowed_reader import NarrowedReader
from fhir_gateway.store.postgres_durable import address_of, connect_to_write
from fhir_gateway.store.postgres_migrate import check_begun, migrate
from fhir_gateway.store.postgres_pool import PostgresPool, is_lost, lost
from fhir_gateway.store.postgres_reader import PostgresReader
from fhir_gateway.store.postgres_sql import numbered
from fhir_gateway.store.postgres_writer import PostgresWriter
from fhir_gateway.store.query import Query
from fhir_gateway.store.sqlite import Clock
from fhir_gateway.store.waiting import Drain, Lost, Work


class PostgresStore:
    """An open database. Made by `open_postgres`, closed once."""

    index_key: bytes

    def __init__(
        self,
        writer: PostgresWriter,
        pool: PostgresPool,
        *,
        search_budget: int,
        now: Callable[[], int],
    ) -> None:
        self._now = now
        self._writer = writer
        self._pool = pool
        self._budget = search_budget

    def snapshot(self, access: Access) -> PostgresReader:
        """A Reader; it must not outlive one page or one second."""
        reader = PostgresReader(
            self._pool, access, drain=self.drain, search_budget=self._budget, now=self._now
        )
        if access.narrow is None:
            return reader
        return cast(PostgresReader, NarrowedReader(reader, access.narrow))

    async def commit(self, change_set: ChangeSet) -> Committed:
        """Returns when durable. Raises PreconditionFailed, Duplicate, Unprocessable … by guard.

        Raises Unavailable when it cannot be written now; the outcome is then unknown, and the
        same change set may be sent again.
        """
        committed: Committed = await self._submit(change_set)
        return committed

    async def job(self, command: Command) -> Job | None:
        """Carries out a command on jobs (see jobs.py)."""
        job: Job | None = await self._submit(command)
        return job

    async def job_rows(self, query: Query) -> list[Any]:
        """The rows of a statement that reads the table of jobs."""
        session, _, _ = await self._pool.snapshot()
        try:
            rows: list[Any] = await session.connection.fetch(numbered(query.sql), *query.values)
            return rows
        except Exception as error:
            if is_lost(session.connection, error):
                session.connection.terminate()
                raise lost() from None
            raise
        finally:
            self._pool.give(session)

    async def log(self, command: LogCommand) -> int:
        """Carries out a command on the audit log (see log.py)."""
        answer: int = await self._submit(command)
        return answer

    async def log_rows(self, query: Query) -> list[Any]:
        """The rows of a statement that reads the audit log or the journal."""
        return await self.job_rows(query)

    async def drain(self) -> None:
        """Returns when every journal entry committed before has its index rows."""
        while await self._submit(Drain()) > 0:
            pass

    async def _submit(self, work: Work) -> Any:
        try:
            return await self._writer.submit(work)
        except Lost:
            raise Unavailable("The store is closed", rule="closed") from None

    async def close(self) -> None:
        """Finishes what was accepted, then lets go of the connections."""
        await self._writer.close()
        await self._pool.close()


async def open_postgres(
    url: str,
    *,
    clock: Clock,
    random: Callable[[int], bytes],
    rows: RowsOf | None = None,
    search_budget: int = 20_000,
    index: int = INDEX_VERSION,
    begin: bool = True,
) -> PostgresStore:
    """The store in that database (postgresql://USER:PASSWORD@HOST/NAME), its schema up to date.

    `rows` derives index rows of journal entries (search.index); a store opened without it cannot
    read or search AuditEvent and GuidanceResponse that it has not indexed before. `index` is the
    version of the rows that it is handed (search/version.py), 0 when there will be none. Raises
    Invalid for an address that is none, Unavailable when the server cannot be reached, could lose
    commits, or holds something else.
    """
    address = address_of(url)
    connection = await connect_to_write(address)
    if not begin:
        await check_begun(connection)
    await _prepare(connection, now=clock.now(), random=random, ours=index)
    writer = PostgresWriter(address, connection, now=clock.now, rows_of=rows, index=index)
    pool = PostgresPool(address.url, index)
    store = PostgresStore(writer, pool, search_budget=search_budget, now=clock.now)
    try:
        async with store.snapshot(Access()) as reader:
            store.index_key = await reader.index_key()
    except BaseException:
        await store.close()
        raise
    return store


async def _prepare(
    connection: asyncpg.Connection, *, now: int, random: Callable[[int], bytes], ours: int
) -> None:
    """Migrates, and says whose index is made from now on; a migration may take longer than a
    batch may."""
    try:
        await connection.execute("SET statement_timeout = 0; SET lock_timeout = 0")
        await migrate(connection, now=now, random=random)
        if (values := raised(index_of(await connection.fetchrow(STATE), ours))) is not None:
            await connection.execute(numbered(RAISE), *values)
        await connection.execute("RESET ALL")
    except BaseException:
        connection.terminate()
        raise
