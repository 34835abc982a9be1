"""The SQLite driver of the Store, for one machine: one writer process, readers in every process.

Of all processes that open a database the one that gets its lock is the writer; the others send
their change sets to it and read the file themselves. When the writer goes, the next one takes its
place, and what was not answered is sent again.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, cast

import apsw

from fhir_gateway.errors import Unavailable
from fhir_gateway.search.version import INDEX_VERSION, program_of
from fhir_gateway.security.actor import Access
from fhir_gateway.store import lock
from fhir_gateway.store.changes import ChangeSet, Committed
from fhir_gateway.store.draining import RowsOf
from fhir_gateway.store.engine import (
    check_begun,
    check_engine,
    create_file,
    open_reader,
    open_writer,
    use_wal,
)
from fhir_gateway.store.index_version import (
    RAISE,
    STATE,
    check_not_newer,
    check_ours,
    index_of,
    raised,
)
from fhir_gateway.store.jobs import Command, Job
from fhir_gateway.store.link import Link, Server, connect
from fhir_gateway.store.log import LogCommand
from fhir_gateway.store.migrate import check, migrate, migrations
from fhir_gateway.store.narrowed_reader import NarrowedReader
from fhir_gateway.store.pool import Pool
from fhir_gateway.store.query import Query
from fhir_gateway.store.reader import SqliteReader
from fhir_gateway.store.waiting import Drain, Lost, Work
from fhir_gateway.store.writer import Writer

#: How long a request looks for a writer before it is refused, and how often.
SEAT_SECONDS, SEAT_PAUSE = 10.0, 0.02

#: How long another process may take to write a request before its outcome is called unknown.
ANSWER_SECONDS = 60.0


class Clock(Protocol):
    """The time, injected."""

    def now(self) -> int:
        """Microseconds since 1970 UTC."""


class SqliteStore:
    """An open database. Made by `open_sqlite`, closed once."""

    index_key: bytes

    def __init__(
        self,
        path: Path,
        *,
        clock: Clock,
        random: Callable[[int], bytes],
        rows: RowsOf | None,
        search_budget: int,
        index: int,
    ) -> None:
        self._path = path
        self._clock = clock
        self._random = random
        self._rows = rows
        self._budget = search_budget
        self._index = index
        self._pool = Pool(path, index)
        self._seat: Writer | Link | None = None
        self._seating = asyncio.Lock()
        self._lock: lock.Lock | None = None
        self._server: Server | None = None
        self._taking_over: asyncio.Task[Any] | None = None
        self._closed = False

    @property
    def is_writer(self) -> bool:
        """True when this process writes the database itself."""
        return isinstance(self._seat, Writer)

    def snapshot(self, access: Access) -> SqliteReader:
        """A Reader; it must not outlive one page or one second."""
        reader = SqliteReader(
            self._pool, access, drain=self.drain, search_budget=self._budget, now=self._clock.now
        )
        if access.narrow is None:
            return reader
        return cast(SqliteReader, NarrowedReader(reader, access.narrow))

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
        connection = await self._pool.take()
        try:
            rows: list[Any] = connection.execute(query.sql, query.values).fetchall()
            return rows
        finally:
            self._pool.give(connection)

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

    async def close(self) -> None:
        """Finishes what was accepted, then lets go of the files."""
        self._closed = True
        if self._taking_over is not None:
            self._taking_over.cancel()
            await asyncio.gather(self._taking_over, return_exceptions=True)
        async with self._seating:
            await self._leave_seat()
        await self._pool.close()

    # -- the seat: the writer itself, or a link to it ------------------------------------------

    async def _submit(self, work: Work) -> Any:
        deadline = time.monotonic() + SEAT_SECONDS
        while True:
            seat = await self._find_seat()
            try:
                if isinstance(seat, Writer):
                    return await seat.submit(work)
                async with asyncio.timeout(ANSWER_SECONDS):
                    return await seat.submit(work)
            except Lost:
                if time.monotonic() > deadline:
                    raise _no_writer() from None
            except TimeoutError:
                raise _no_writer() from None

    async def _find_seat(self) -> Writer | Link:
        seat = self._seat
        if seat is not None and not seat.closed:
            return seat
        async with self._seating:
            deadline = time.monotonic() + SEAT_SECONDS
            while self._seat is None or self._seat.closed:
                if self._closed:
                    raise Unavailable("The store is closed", rule="closed")
                await self._leave_seat()
                self._seat = await self._write() or await self._call()
                if self._seat is None:
                    if time.monotonic() > deadline:
                        raise _no_writer()
                    await asyncio.sleep(SEAT_PAUSE)
            return self._seat

    async def _write(self) -> Writer | None:
        """Becomes the writer, when nobody is."""
        held = lock.take(self._path)
        if held is None:
            return None
        try:
            connection = self._open_and_migrate()
        except BaseException:
            held.release()
            raise
        writer = Writer(
            connection, self._path, now=self._clock.now, rows_of=self._rows, index=self._index
        )
        self._lock, self._server = held, Server(writer, lock.socket_path(self._path))
        try:
            await self._server.open()
        except BaseException:
            self._seat = writer  # so that leaving the seat closes it
            await self._leave_seat()
            raise
        return writer

    def _open_and_migrate(self) -> apsw.Connection:
        connection = None
        try:
            connection = open_writer(self._path)
            check(connection, newest=len(migrations()))
            use_wal(connection)
            migrate(connection, now=self._clock.now(), random=self._random)
            if (values := raised(index_of(connection.execute(STATE).get, self._index))) is not None:
                connection.execute(RAISE, values)
        except BaseException as error:
            if connection is not None:
                connection.close()
            if isinstance(error, apsw.Error):
                raise Unavailable(
                    f"The database cannot be opened: {error.__class__.__name__}",
                    rule="cannot-open",
                ) from None
            raise
        return connection

    async def _call(self) -> Link | None:
        """Connects to the process that is the writer."""
        holder = lock.holder(self._path)
        if holder is None:
            return None
        link = await connect(holder.socket, on_lost=self._take_over)
        if link is not None:
            self._check_schema()
        return link

    def _check_schema(self) -> None:
        """The writer may be of another version; what it makes decides whether we may read."""
        connection = open_reader(self._path)
        try:
            check(connection, newest=len(migrations()))
            schema = connection.pragma("user_version")
            index = None
            if schema == len(migrations()):
                index = index_of(connection.execute(STATE).get, self._index)
                check_not_newer(index)
            if index is None or (self._index and program_of(index.indexing) < INDEX_VERSION):
                raise Unavailable(
                    "An older version of the gateway is writing the database; stop it first",
                    rule="schema-older",
                )
            check_ours(index)
        finally:
            connection.close()

    def _take_over(self) -> None:
        """The writer is gone: look for the next one now rather than at the next request."""
        if not self._closed:
            self._taking_over = asyncio.create_task(self._look_again(), name="store-take-over")

    async def _look_again(self) -> None:
        try:
            await self._find_seat()
        except Unavailable:
            return  # the next request tries again and is told

    async def _leave_seat(self) -> None:
        seat, self._seat = self._seat, None
        if self._server is not None:
            await self._server.stop_listening()
        if seat is not None:
            await seat.close()
        if self._server is not None:
            await self._server.close()
            self._server = None
        if self._lock is not None:
            self._lock.release()
            self._lock = None


async def open_sqlite(
    path: str | os.PathLike[str],
    *,
    clock: Clock,
    random: Callable[[int], bytes],
    rows: RowsOf | None = None,
    search_budget: int = 20_000,
    index: int = INDEX_VERSION,
    begin: bool = True,
) -> SqliteStore:
    """The store in that file, which is made when missing; refused (Invalid) without `begin`.

    `rows` derives index rows of journal entries (search.index); a store opened without it cannot
    read or search AuditEvent and GuidanceResponse while it is the writer. `index` is the version
    of the rows that it is handed (search/version.py), 0 when there will be none. Raises Unavailable
    when the engine is unsafe, the file is not ours, its schema is newer, or no writer answers.
    """
    check_engine()
    database = Path(os.path.abspath(path))  # noqa: ASYNC240 - no look at the disk
    if not begin:
        check_begun(database)
    create_file(database)
    store = SqliteStore(
        database, clock=clock, random=random, rows=rows, search_budget=search_budget, index=index
    )
    try:
        await store._find_seat()
        async with store.snapshot(Access()) as reader:
            store.index_key = reader.index_key()
    except BaseException:
        await store.close()
        raise
    return store


def _no_writer() -> Unavailable:
    return Unavailable("No process that writes the database answers", rule="no-writer")
