"""The writer: one asyncio task that applies what has arrived, batch after batch.

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
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import apsw

from fhir_gateway.errors import GatewayError, Internal, Unavailable
from fhir_gateway.store import points
from fhir_gateway.store import statements as sql
from fhir_gateway.store.apply import Batch, apply, begin, finish
from fhir_gateway.store.changes import ChangeSet
from fhir_gateway.store.checkpoints import Checkpointer
from fhir_gateway.store.draining import RowsOf, drain_piece
from fhir_gateway.store.jobs import Command, carry_out
from fhir_gateway.store.refusals import Refusal, error_of

#: Seconds of rows in one batch, and of work between two turns of the event loop.
BATCH_SECONDS, TURN_SECONDS = 0.005, 0.002

#: More than this many waiting requests are refused: the callers are faster than the disk.
MOST_WAITING = 10_000

#: After so many seconds without a request the writer works on the journal's index rows.
IDLE_SECONDS = 0.05
DRAIN_PIECE, DRAIN_PIECES = 50, 4

#: Every so many requests one that is not urgent goes first, so that none waits for ever.
FAIRNESS = 16

#: Change-set ids are kept for a day.
REMEMBERED = 24 * 3600 * 1_000_000
FORGET_PIECE = 500

#: Tries to begin a batch while somebody else (a backup, a shell) holds the database.
_BUSY_TRIES, _BUSY_SECONDS = 500, 0.01

#: What SQLite says when the file or the disk can no longer be trusted.
_FATAL = (apsw.IOError, apsw.CorruptError, apsw.NotADBError, apsw.CantOpenError, apsw.ReadOnlyError)

_log = logging.getLogger(__name__)


class Drain(NamedTuple):
    """A request to give the next journal entries their index rows; answered by how many.

    As housework it also forgets old change-set ids.
    """

    housework: bool = False


Work = ChangeSet | Command | Drain


class Lost(Exception):
    """The writer is gone or going; the request may or may not be done. Send it to the next one."""


class Pending(NamedTuple):
    """A request and who waits for it."""

    work: Work
    future: asyncio.Future[Any]


class Writer:
    """The write connection and its task. `submit` hands in work, `close` finishes it."""

    def __init__(
        self,
        connection: apsw.Connection,
        path: Path,
        *,
        now: Callable[[], int],
        rows_of: RowsOf | None,
    ) -> None:
        self._connection = connection
        self._now = now
        self._rows_of = rows_of
        self._urgent: deque[Pending] = deque()
        self._ordinary: deque[Pending] = deque()
        self._picked = 0
        self._arrived = asyncio.Event()
        self._closing = False
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
        if len(self._urgent) + len(self._ordinary) >= MOST_WAITING:
            raise Unavailable("More is waiting to be written than can be", rule="backlog")
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        is_ordinary = type(work) is ChangeSet and not work.urgent
        (self._ordinary if is_ordinary else self._urgent).append(Pending(work, future))
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
            while self._urgent or self._ordinary or not self._closing:
                if self._urgent or self._ordinary:
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
        if not self._urgent and not self._ordinary and not self._closing:
            kept = Pending(Drain(housework=True), loop.create_future())
            self._ordinary.append(kept)
            await self._batch()
            self._housework = not kept.future.done() or (
                kept.future.exception() is None and kept.future.result() > 0
            )

    async def _batch(self) -> None:
        """Applies what has arrived, commits, and tells the callers."""
        taken: list[tuple[Pending, Any]] = []
        current: list[Pending] = []
        try:
            batch = await self._begin()
            await self._fill(batch, taken, current)
            if finish(batch):
                await self._commit()
            else:
                self._roll_back()
        except Exception as error:
            self._roll_back()
            self._fail(error, [pending for pending, _ in taken], current)
            return
        self._housework = True
        for pending, outcome in taken:
            _tell(pending.future, outcome)
        points.reached("after-answer")

    async def _fill(
        self, batch: Batch, taken: list[tuple[Pending, Any]], current: list[Pending]
    ) -> None:
        """Applies waiting requests to the batch. `current` holds the one being applied."""
        started = turn = time.monotonic()
        while (pending := self._next()) is not None:
            current.append(pending)
            outcome = None
            for outcome in self._pieces(batch, pending.work):  # noqa: B007 - the last one counts
                if time.monotonic() - turn > TURN_SECONDS:
                    await asyncio.sleep(0)
                    turn = time.monotonic()
            current.clear()
            taken.append((pending, outcome))
            points.reached("change-set-applied")
            if time.monotonic() - started > BATCH_SECONDS:
                return

    def _pieces(self, batch: Batch, work: Work) -> Iterator[Any]:
        """Carries out one request in pieces; the last thing it gives is the outcome."""
        if isinstance(work, ChangeSet):
            yield from apply(batch, work)
        elif isinstance(work, Drain):
            yield from self._drain(batch, work)
        else:
            try:
                yield carry_out(self._connection, work, now=batch.updated)
            except GatewayError as error:
                yield error

    def _next(self) -> Pending | None:
        self._picked += 1
        if self._ordinary and (not self._urgent or self._picked % FAIRNESS == 0):
            return self._ordinary.popleft()
        return self._urgent.popleft() if self._urgent else None

    # -- the transaction -------------------------------------------------------------------

    async def _begin(self) -> Batch:
        """Opens the transaction, waiting while another program holds the database."""
        for _ in range(_BUSY_TRIES):
            try:
                batch = begin(self._connection, now=self._now())
            except apsw.BusyError:
                await asyncio.sleep(_BUSY_SECONDS)
            else:
                points.reached("batch-begun")
                return batch
        raise Unavailable("The database is locked by another program", rule="database-locked")

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
            _tell_all([*taken, *current], full)
        elif current:  # one request is at fault; the others did nothing wrong
            _log.error("a request could not be written\n%s", _where(error))
            _tell_all(current, error if isinstance(error, GatewayError) else Internal("a fault"))
            self._urgent.extendleft(reversed(taken))
        else:
            _log.error("a batch could not be written\n%s", _where(error))
            unknown = error if isinstance(error, GatewayError) else Internal("a fault")
            _tell_all(taken or self._take_all(), unknown)

    def _stop(self, error: Exception, told: list[Pending]) -> None:
        """Writes no more: what the disk holds is only known after it was opened again."""
        self._refusal = Unavailable(
            "The database cannot be written; it has to be opened again", rule="storage-failed"
        )
        _log.critical("the database cannot be written any more\n%s", _where(error))
        _tell_all([*told, *self._take_all()], self._refusal)

    def _take_all(self) -> list[Pending]:
        waiting = [*self._urgent, *self._ordinary]
        self._urgent.clear()
        self._ordinary.clear()
        return waiting

    def _drain(self, batch: Batch, work: Drain) -> Iterator[Any]:
        """Drains the next pieces of the journal; last it gives the number of rows dealt with."""
        if self._rows_of is None:
            yield Unavailable("The store was opened without an index", rule="no-index")
            return
        done = 0
        for _ in range(DRAIN_PIECES):
            count = drain_piece(batch, self._rows_of, limit=DRAIN_PIECE)
            points.reached("journal-drained")
            done += count
            if count < DRAIN_PIECE:
                break
            yield None
        if work.housework:
            oldest = batch.updated - REMEMBERED
            batch.connection.execute(sql.FORGET_CHANGE_SETS, (FORGET_PIECE, oldest))
            done += batch.connection.changes()
        yield done


def _tell(future: asyncio.Future[Any], outcome: Any) -> None:
    """Resolves the future of a caller that still waits."""
    if future.done():
        return
    if isinstance(outcome, Refusal):
        future.set_exception(error_of(outcome))
    elif isinstance(outcome, BaseException):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)


def _tell_all(pendings: list[Pending], error: BaseException) -> None:
    for pending in pendings:
        _tell(pending.future, error)


def _where(error: BaseException) -> str:
    """Class and place of a fault, without its text, which might quote a patient's data."""
    places = "".join(traceback.format_tb(error.__traceback__))
    return f"{error.__class__.__name__}\n{places}"
