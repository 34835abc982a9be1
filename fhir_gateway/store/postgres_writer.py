"""The writer of PostgreSQL: one asyncio task a process that commits what has arrived, in batches.

A batch is whatever arrived while the last one was committed. It locks the clock row first, so that
the batches of all processes come one after the other and the order of commits is the order of `t`;
then it fetches all that judging may ask, judges in memory, writes and commits. A caller is told
after COMMIT has returned and never before.

When the connection is lost, the batch is sent again on the next one: the ids of change sets say
what was done, also when it was lost during COMMIT. When nothing could be committed for a while,
callers are refused at once and the writer goes on trying, until the server is back.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any, cast

import asyncpg

from fhir_gateway.errors import GatewayError, Internal, Unavailable
from fhir_gateway.search.version import INDEX_VERSION
from fhir_gateway.store import points
from fhir_gateway.store.changes import ChangeSet
from fhir_gateway.store.draining import RowsOf
from fhir_gateway.store.postgres_batch import carry_out_command, commit_sets, drain
from fhir_gateway.store.postgres_durable import Address, CommitDoubtful, connect_to_write
from fhir_gateway.store.postgres_pool import is_lost
from fhir_gateway.store.postgres_record import HOMES, is_record, record
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

#: At most so many change sets in a batch, and new versions unless one set has more.
BATCH_SETS, BATCH_PUTS = 500, 100

#: After so many seconds without a commit callers are refused until there is one again.
PATIENCE_SECONDS = 10.0

#: The first and the longest pause between attempts to reach a server that is away.
RETRY_SECONDS, LONGEST_RETRY_SECONDS = 0.05, 1.0

#: A batch that takes longer than this hangs: its connection is given up.
BATCH_SECONDS = 30.0

#: Plans are made anew after so many seconds: tables grow, and plans are made for their size.
PLAN_SECONDS = 30.0

#: After so many seconds without a request the writer works on the journal's index rows.
IDLE_SECONDS = 0.05

#: What passes by itself: another batch held something for too long, a cached plan is out of date,
#: the server became a standby, a wait was cut short.
_PASSING = (
    asyncpg.TransactionRollbackError,
    asyncpg.LockNotAvailableError,
    asyncpg.QueryCanceledError,
    asyncpg.InvalidCachedStatementError,
    asyncpg.ReadOnlySQLTransactionError,
    CommitDoubtful,
    TimeoutError,
)

#: What a connection that is gone or going raises.
_BROKEN = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)

_log = logging.getLogger(__name__)


class PostgresWriter:
    """A connection that writes and its task. `submit` hands in work, `close` finishes it."""

    def __init__(
        self,
        address: Address,
        connection: asyncpg.Connection,
        *,
        now: Callable[[], int],
        rows_of: RowsOf | None,
        index: int = INDEX_VERSION,
    ) -> None:
        self._index = index
        self._address = address
        self._connection: asyncpg.Connection | None = connection
        self._now = now
        self._rows_of = rows_of
        self._waiting = Waiting()
        self._arrived = asyncio.Event()
        self._hurry = asyncio.Event()  # set when closing: pauses end
        self._refusal: Unavailable | None = None
        self._in_flight: list[Pending] = []
        self._failing_since: float | None = None
        self._told = ""  # why nothing is committed, as the log says it
        self._homes: dict[str, int] = {}  # of Patients
        self._alone = 0  # so many batches have one request each, to find the one at fault
        self._housework = True  # something may be left to drain or to forget
        self._planned = time.monotonic()
        self._task = asyncio.create_task(self._run(), name="store-writer")

    def submit(self, work: Work) -> asyncio.Future[Any]:
        """The outcome to come. Raises Lost when closing, Unavailable when it cannot write."""
        if self._hurry.is_set():
            raise Lost
        if self._refusal is not None:
            raise self._refusal.with_traceback(None)  # raised many times, it would grow
        future = self._waiting.add(work)
        self._arrived.set()
        return future

    async def close(self) -> None:
        """Finishes what was accepted, then lets go of the connection."""
        self._hurry.set()
        self._arrived.set()
        await self._task
        if self._connection is not None:
            await _close(self._connection)

    # -- the loop --------------------------------------------------------------------------

    async def _run(self) -> None:
        while self._waiting or not self._hurry.is_set():
            try:
                await self._step()
            except Exception as error:  # a fault of ours: nobody may wait for ever
                _log.critical("the writer has lost its way\n%s", place_of(error))
                tell_all(self._in_flight, Internal("a fault"))
                if self._connection is not None:
                    self._connection.terminate()
                await self._failed(error)

    async def _step(self) -> None:
        """The next thing to do. When all are refused nobody waits, and an empty batch finds out
        whether there is a reason any more.
        """
        if self._connection is None or self._connection.is_closed():
            await self._connect()
        elif self._waiting or self._refusal is not None:
            await self._batch(self._connection)
        else:
            await self._rest()

    async def _connect(self) -> None:
        """Another connection, or a pause."""
        self._connection = None
        self._homes.clear()  # the database may have been set back
        try:
            self._connection = await connect_to_write(self._address)
        except (GatewayError, *_BROKEN) as error:
            await self._failed(error)

    async def _rest(self) -> None:
        """Waits for work; keeps house when none comes for a while."""
        self._arrived.clear()
        if not self._housework or self._rows_of is None:
            await self._arrived.wait()
            return
        timer = asyncio.get_running_loop().call_later(IDLE_SECONDS, self._arrived.set)
        await self._arrived.wait()
        timer.cancel()
        if not self._waiting and not self._hurry.is_set() and self._connection is not None:
            kept = self._waiting.add(Drain(housework=True))
            await self._batch(self._connection)
            self._housework = not kept.done() or (kept.exception() is None and kept.result() != 0)

    async def _batch(self, connection: asyncpg.Connection) -> None:
        """Commits what has arrived and tells the callers."""
        taken = self._in_flight = self._take()
        timer = asyncio.get_running_loop().call_later(PATIENCE_SECONDS, self._refuse, _AWAY)
        try:
            async with asyncio.timeout(BATCH_SECONDS):
                await self._plan(connection)
                outcomes = await self._carry_out(connection, [pending.work for pending in taken])
        except GatewayError as error:  # of a request that was alone
            await self._roll_back(connection)
            outcomes = [error] * len(taken)
        except Exception as error:
            await self._handle(error, connection, taken)
            return
        finally:
            timer.cancel()
        self._failing_since = self._refusal = None
        self._housework |= bool(taken) and isinstance(taken[0].work, ChangeSet)
        for pending, outcome in zip(taken, outcomes, strict=True):
            tell(pending.future, outcome)
        points.reached("after-answer")

    async def _plan(self, connection: asyncpg.Connection) -> None:
        if (now := time.monotonic()) - self._planned > PLAN_SECONDS:
            await connection.execute("DISCARD PLANS")
            self._planned = now

    def _take(self) -> list[Pending]:
        """Change sets for one batch, of those that derive rows again one; or one command, or all
        drains that follow each other."""
        taken: list[Pending] = []
        puts = 0
        self._alone = max(0, self._alone - 1)
        while (pending := self._waiting.next()) is not None:
            if pending.future.done() and not pending.future.cancelled():
                continue  # refused already; what a caller left behind is done all the same
            work = pending.work
            if taken and (type(work) is not type(taken[0].work) or _derives(work)):
                self._waiting.put_back([pending])
                break
            taken.append(pending)
            if isinstance(work, ChangeSet):
                puts += len(work.puts)
            elif not isinstance(work, Drain):
                break
            if self._alone or _derives(work) or puts >= BATCH_PUTS or len(taken) >= BATCH_SETS:
                break
        return taken

    async def _carry_out(self, connection: asyncpg.Connection, works: list[Work]) -> list[Any]:
        """The outcome of each, once they are durable."""
        first = works[0] if works else None
        if first is None or isinstance(first, ChangeSet):
            return await self._commit(connection, cast(list[ChangeSet], works))
        if not isinstance(first, Drain):
            return [await carry_out_command(connection, first, now=self._now)]
        if self._rows_of is None:
            raise Unavailable("The store was opened without an index", rule="no-index")
        # who waits for the rows must not be told by housework that others are busy
        housework = all(isinstance(work, Drain) and work.housework for work in works)
        done = await drain(
            connection, self._rows_of, now=self._now, index=self._index, housework=housework
        )
        return [done] * len(works)

    async def _commit(self, connection: asyncpg.Connection, sets: list[ChangeSet]) -> list[Any]:
        homes, doubtful = self._homes, self._failing_since is not None
        if sets and not doubtful and all(is_record(each, homes) for each in sets):
            return [*await record(connection, sets, homes, now=self._now())]
        if len(homes) > HOMES:
            homes.clear()
        outcomes = await commit_sets(
            connection, sets, homes, now=self._now, sync=doubtful, index=self._index
        )
        return [*outcomes]

    # -- when it does not go well ------------------------------------------------------------

    async def _handle(
        self, error: Exception, connection: asyncpg.Connection, taken: list[Pending]
    ) -> None:
        """Has the batch tried again, or finds out which request is at fault."""
        lost = is_lost(connection, error) or isinstance(error, TimeoutError)
        if lost or isinstance(error, asyncpg.ReadOnlySQLTransactionError):
            connection.terminate()
        else:
            await self._roll_back(connection)
        if lost or isinstance(error, _PASSING):
            self._waiting.put_back(taken)
            await self._failed(error)
        elif isinstance(error, asyncpg.DiskFullError | asyncpg.OutOfMemoryError):
            _log.error("a batch could not be written: %s", error.__class__.__name__)
            tell_all(taken, Unavailable("There is no room to write", rule="storage-full"))
        elif len(taken) > 1:
            self._alone = len(taken) + 1
            self._waiting.put_back(taken)
        else:
            _log.error("a request could not be written\n%s", place_of(error))
            tell_all(taken, Internal("a fault"))

    async def _failed(self, error: Exception) -> None:
        """Nothing can be committed now: a pause, and refusals when that lasts."""
        now = time.monotonic()
        if self._failing_since is None:
            self._failing_since, self._told = now, ""
        rule = error.issues[0].rule if isinstance(error, GatewayError) else None
        why = rule or error.__class__.__name__  # an operator reads here that clocks differ
        if why != self._told:
            self._told = why
            _log.error("the database does not commit: %s", why)
        lasted = now - self._failing_since
        if lasted > PATIENCE_SECONDS or self._hurry.is_set():
            self._refuse(error if isinstance(error, Unavailable) else _AWAY)
        pause = min(max(RETRY_SECONDS, lasted / 2), LONGEST_RETRY_SECONDS)
        try:
            async with asyncio.timeout(pause):
                await self._hurry.wait()
        except TimeoutError:
            return

    def _refuse(self, refusal: Unavailable) -> None:
        """Nobody waits any longer; what was being written may have been, or not."""
        self._refusal = refusal
        tell_all([*self._in_flight, *self._waiting.take_all()], refusal)

    async def _roll_back(self, connection: asyncpg.Connection) -> None:
        try:
            async with asyncio.timeout(RETRY_SECONDS * 20):
                await connection.execute("ROLLBACK")
        except _BROKEN:
            connection.terminate()


def _derives(work: Work) -> bool:
    """True for what is judged by rows as they stand in the database, so that no other change set
    of the same batch may have touched them."""
    return isinstance(work, ChangeSet) and bool(work.reindex)


_AWAY = Unavailable(
    "The database does not answer; what was being written may be stored or not, and may be sent "
    "again",
    rule="database-down",
)


async def _close(connection: asyncpg.Connection) -> None:
    try:
        await connection.close(timeout=1.0)
    except _BROKEN:
        connection.terminate()
