"""The writer of SQLite: one asyncio task that applies what has arrived, batch after batch.

A batch is whatever arrived while the last one synced; there is no timer. Urgent change sets go
first, a batch takes about 5 ms of rows, pieces of large change sets give the event loop its turn,
and the commit, which waits for the disk, runs in a thread. A caller is told when its batch is
durable and never before. When the disk refuses a commit the writer stops for good: what a failed
sync left behind is only known after the database was opened again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import apsw

from fhir_gateway.errors import GatewayError, Internal, Unavailable
from fhir_gateway.search.version import INDEX_VERSION
from fhir_gateway.store import points
from fhir_gateway.store import statements as sql
from fhir_gateway.store.apply import Batch, apply
from fhir_gateway.store.changes import ChangeSet
from fhir_gateway.store.checkpoints import Checkpointer
from fhir_gateway.store.draining import RowsOf, drain_entries
from fhir_gateway.store.index_version import index_of
from fhir_gateway.store.log_sql import carry_out
from fhir_gateway.store.placing import Homes
from fhir_gateway.store.query import run
from fhir_gateway.store.sqlite_lookups import SqliteLookups
from fhir_gateway.store.sqlite_rows import write_journal
from fhir_gateway.store.waiting import (
    Drain,
    Lost,
    Pending,
    Waiting,
    Work,
    place_of,
    tell,
    tell_all,
)

#: Seconds of work in one batch, and between two turns of the event loop. A turn takes as long as
#: the others of this process want it to, so a batch of one message should not need several.
BATCH_SECONDS, TURN_SECONDS = 0.008, 0.004

#: After so many seconds without a request the writer works on the journal's index rows, in pieces
#: of so many entries. Housework ends with the piece during which something arrived; who waits for
#: the rows may keep others waiting for so many seconds.
IDLE_SECONDS = 0.05
DRAIN_PIECE, DRAIN_PIECES = 5, 40
DRAIN_SECONDS = 0.015

#: Change-set ids are kept for a day.
REMEMBERED = 24 * 3600 * 1_000_000
FORGET_PIECE = 500

#: Tries to begin a batch while somebody else (a backup, a shell) holds the database.
_BUSY_TRIES, _BUSY_SECONDS = 500, 0.01

#: What SQLite says when the file or the disk can no longer be trusted.
_FATAL = (apsw.IOError, apsw.CorruptError, apsw.NotADBError, apsw.CantOpenError, apsw.ReadOnlyError)

_log = logging.getLogger(__name__)


class Writer:
    """The write connection and its task. `submit` hands in work, `close` finishes it."""

    def __init__(
        self,
        connection: apsw.Connection,
        path: Path,
        *,
        now: Callable[[], int],
        rows_of: RowsOf | None,
        index: int = INDEX_VERSION,
    ) -> None:
        self._index = index
        self._connection = connection
        self._now = now
        self._rows_of = rows_of
        self._waiting = Waiting()
        self._arrived = asyncio.Event()
        self._closing = False
        self._changed_before = 0  # rows that the connection had changed before the batch
        self._refusal: Unavailable | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="store-commit")
        self._checkpointer = Checkpointer(path, connection)
        self._housework = True  # something may be left to drain or to forget
        connection.set_busy_timeout(0)  # waiting is the loop's business
        self._task = asyncio.create_task(self._run(), name="store-writer")

    @property
    def closed(self) -> bool:
        """True when nothing more can be handed in."""
        return self._closing

    def submit(self, work: Work) -> asyncio.Future[Any]:
        """The outcome to come. Raises Lost when closing, Unavailable when it cannot write."""
        if self._closing:
            raise Lost
        if self._refusal is not None:
            raise self._refusal
        future = self._waiting.add(work)
        self._arrived.set()
        return future

    async def close(self) -> None:
        """Finishes what was accepted, then lets go of the files."""
        self._closing = True
        self._arrived.set()
        await self._task
        self._thread.shutdown()
        await self._checkpointer.close()
        self._connection.close()

    # -- the loop --------------------------------------------------------------------------

    async def _run(self) -> None:
        try:
            while self._waiting or not self._closing:
                if self._waiting:
                    await self._batch()
                else:
                    await self._rest()
        except Exception as error:  # a fault of ours: nobody may wait for ever
            self._stop(error, [])

    async def _rest(self) -> None:
        """Waits for work; keeps house when none comes for a while."""
        self._arrived.clear()
        if not self._housework or self._rows_of is None or self._refusal is not None:
            await self._arrived.wait()
            return
        loop = asyncio.get_running_loop()
        timer = loop.call_later(IDLE_SECONDS, self._arrived.set)
        await self._arrived.wait()
        timer.cancel()
        if not self._waiting and not self._closing:
            kept = self._waiting.add(Drain(housework=True))
            await self._batch()
            self._housework = not kept.done() or (kept.exception() is None and kept.result() > 0)

    async def _batch(self) -> None:
        """Applies what has arrived, commits, and tells the callers."""
        taken: list[tuple[Pending, Any]] = []
        current: list[Pending] = []
        try:
            batch = await self._begin()
            await self._fill(batch, taken, current)
            if self._finish(batch):
                await self._commit()
            else:
                self._roll_back()
        except Exception as error:
            self._roll_back()
            self._fail(error, [pending for pending, _ in taken], current)
            return
        self._housework = True
        for pending, outcome in taken:
            tell(pending.future, outcome)
        points.reached("after-answer")

    async def _fill(
        self, batch: Batch, taken: list[tuple[Pending, Any]], current: list[Pending]
    ) -> None:
        """Applies waiting requests to the batch. `current` holds the one being applied."""
        began, before = time.monotonic(), 0.0
        while (pending := self._waiting.next()) is not None:
            current.append(pending)
            outcome = None
            for outcome in self._pieces(batch, pending.work):  # noqa: B007 - the last one counts
                if (worked := time.monotonic() - began) > TURN_SECONDS:
                    await asyncio.sleep(0)
                    began, before = time.monotonic(), before + worked
            current.clear()
            taken.append((pending, outcome))
            points.reached("change-set-applied")
            if before + time.monotonic() - began > BATCH_SECONDS:
                return

    def _pieces(self, batch: Batch, work: Work) -> Iterator[Any]:
        """Carries out one request in pieces; the last thing it gives is the outcome."""
        if isinstance(work, ChangeSet):
            yield from apply(batch, work)
        elif isinstance(work, Drain):
            yield from self._drain(batch, work)
        else:
            try:
                yield run(carry_out(work, now=batch.updated), self._connection)
            except GatewayError as error:
                yield error

    # -- the transaction -------------------------------------------------------------------

    async def _begin(self) -> Batch:
        """Opens the transaction, waiting while another program holds the database."""
        for _ in range(_BUSY_TRIES):
            try:
                self._connection.execute("BEGIN IMMEDIATE")
            except apsw.BusyError:
                await asyncio.sleep(_BUSY_SECONDS)
            else:
                points.reached("batch-begun")
                return self._opened()
        raise Unavailable("The database is locked by another program", rule="database-locked")

    def _opened(self) -> Batch:
        """The batch of the open transaction. Its time is never before that of the one before it."""
        t, epoch, updated, rid, home, *index = self._connection.execute(sql.CLOCK).get
        self._changed_before = self._connection.total_changes()
        lookups = SqliteLookups(self._connection)
        now = max(updated, self._now())
        return Batch(lookups, t + 1, epoch, now, rid, Homes(home), index_of(index, self._index))

    def _finish(self, batch: Batch) -> bool:
        """Writes the journal and the clock row; what remains is to commit. False when there is
        nothing to commit.

        Housework alone does not move the clock: `t` numbers batches of change sets.
        """
        write_journal(self._connection, batch.rows)
        if batch.n == 0 and self._connection.total_changes() == self._changed_before:
            return False
        t = batch.t if batch.n else batch.t - 1
        epoch = batch.epoch + batch.raises_epoch
        self._connection.execute(
            sql.ADVANCE,
            (t, epoch, batch.updated, batch.rid, batch.homes.last, batch.index.indexed),
        )
        return True

    async def _commit(self) -> None:
        points.reached("before-commit")
        await asyncio.get_running_loop().run_in_executor(
            self._thread, self._connection.execute, "COMMIT"
        )
        points.reached("after-commit")
        await self._checkpointer.look()

    def _roll_back(self) -> None:
        try:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        except apsw.Error:
            _log.error("a failed batch could not be rolled back")

    def _fail(self, error: Exception, taken: list[Pending], current: list[Pending]) -> None:
        """Nothing of the batch was stored: says so, or has the innocent tried again."""
        if isinstance(error, _FATAL):
            self._stop(error, [*taken, *current])
        elif isinstance(error, apsw.FullError | apsw.NoMemError):
            _log.error("a batch could not be written: %s", error.__class__.__name__)
            full = Unavailable("There is no room to write", rule="storage-full")
            tell_all([*taken, *current], full)
        elif current:  # one request is at fault; the others did nothing wrong
            _log.error("a request could not be written\n%s", place_of(error))
            tell_all(current, error if isinstance(error, GatewayError) else Internal("a fault"))
            self._waiting.put_back(taken)
        else:
            _log.error("a batch could not be written\n%s", place_of(error))
            unknown = error if isinstance(error, GatewayError) else Internal("a fault")
            tell_all(taken or self._waiting.take_all(), unknown)

    def _stop(self, error: Exception, told: list[Pending]) -> None:
        """Writes no more: what the disk holds is only known after it was opened again."""
        self._refusal = Unavailable(
            "The database cannot be written; it has to be opened again", rule="storage-failed"
        )
        _log.critical("the database cannot be written any more\n%s", place_of(error))
        tell_all([*told, *self._waiting.take_all()], self._refusal)

    def _drain(self, batch: Batch, work: Drain) -> Iterator[Any]:
        """Drains the next pieces of the journal; last it gives the number of rows dealt with."""
        if self._rows_of is None:
            yield Unavailable("The store was opened without an index", rule="no-index")
            return
        done, began = 0, time.monotonic()
        patience = 0.0 if work.housework else DRAIN_SECONDS
        for _ in range(DRAIN_PIECES):
            mark = self._connection.execute(sql.DRAINED_TO).get
            entries = self._connection.execute(sql.UNDRAINED, (*mark, DRAIN_PIECE)).fetchall()
            if entries:
                drain_entries(batch, entries, self._rows_of)
                self._connection.execute(sql.DRAINED, entries[-1][:3])
            points.reached("journal-drained")
            done += len(entries)
            if len(entries) < DRAIN_PIECE:
                break
            yield None
            if self._waiting and time.monotonic() - began > patience:
                break
        if work.housework and not self._waiting:
            oldest = batch.updated - REMEMBERED
            self._connection.execute(sql.FORGET_CHANGE_SETS, (FORGET_PIECE, oldest))
            done += self._connection.changes()
        yield done
