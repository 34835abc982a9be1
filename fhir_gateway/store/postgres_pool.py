"""Connections to PostgreSQL: how they are made, and a pool of those that read.

The pool hands out snapshots: a connection inside a fresh read-only transaction of isolation level
REPEATABLE READ, with the clock row read first. A connection that turns out to be broken is thrown
away and another takes its place, so that a restart of the server costs a refusal at most. What is
lost is told as Unavailable, and never with a password.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import asyncpg

from fhir_gateway.errors import Invalid, TooCostly, Unavailable
from fhir_gateway.search.version import INDEX_VERSION
from fhir_gateway.store.index_version import Index, index_of
from fhir_gateway.store.visible import CLOCK

#: At most so many snapshots of a process at once; further ones wait their turn, this long.
MOST_OPEN, TURN_SECONDS = 16, 10.0

CONNECT_SECONDS, CLOSE_SECONDS = 10.0, 2.0

#: A statement that reads is cut off after so many seconds.
DEADLINE_SECONDS = 1.0

#: A snapshot that was given back ends with the next one's beginning, in one message, or by itself
#: after so many seconds.
LINGER_SECONDS = 0.005

#: So many resources' places are remembered: a place never changes.
PLACES = 100_000

#: Plans are made once for all homes: planning takes longer than most reads. No plan scans a table,
#: however few rows it had when the plan was made. The transaction's settings are the session's, so
#: that BEGIN is the whole message.
_READING = {
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "max_parallel_workers_per_gather": "0",
    "default_transaction_isolation": "repeatable read",
    "default_transaction_read_only": "on",
    "statement_timeout": str(round(DEADLINE_SECONDS * 1000)),
    "idle_in_transaction_session_timeout": "60000",
}
_ALWAYS = {"application_name": "fhir-gateway", "jit": "off", "timezone": "UTC"}


async def connect(url: str, settings: Mapping[str, str] = _READING) -> asyncpg.Connection:
    """A connection with these settings of the session, one that reads when none are given.

    Raises Invalid for an address that is none, Unavailable with what to do when the server cannot
    be reached or refuses.
    """
    try:
        return await asyncpg.connect(
            url,
            timeout=CONNECT_SECONDS,
            max_cached_statement_lifetime=0,
            server_settings={**_ALWAYS, **settings},
        )
    except (
        OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError,
        ValueError,
    ) as error:  # fmt: skip
        raise _refused(error) from None


def _refused(error: Exception) -> Invalid | Unavailable:
    """What an operator reads when no connection is to be had."""
    for kinds, sentence, rule in _REFUSALS:
        if isinstance(error, kinds):
            return Unavailable(sentence, rule=rule)
    if isinstance(error, asyncpg.ClientConfigurationError | ValueError):
        return Invalid(
            "database must be an address such as postgresql://USER:PASSWORD@HOST/NAME",
            rule="database",
        )
    return Unavailable(
        "PostgreSQL does not answer; start it, or correct the host and port of the setting"
        " database",
        rule="database-down",
    )


_REFUSALS: tuple[tuple[Any, str, str], ...] = (
    (
        asyncpg.InvalidAuthorizationSpecificationError,
        "PostgreSQL refuses the user or the password; correct them in the setting database",
        "database-login",
    ),
    (
        asyncpg.InvalidCatalogNameError,
        "PostgreSQL has no such database; create it, or correct its name in the setting database",
        "database-missing",
    ),
    (
        asyncpg.TooManyConnectionsError,
        "PostgreSQL has no connection left; raise its max_connections or run fewer processes",
        "database-full",
    ),
)

_GONE = (
    OSError,
    asyncpg.PostgresConnectionError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.CannotConnectNowError,
    asyncpg.InternalClientError,  # the server's farewell came between two messages
)


def is_lost(connection: asyncpg.Connection, error: BaseException) -> bool:
    """True when the error says that the connection is gone, rather than the statement wrong."""
    return isinstance(error, _GONE) or (isinstance(error, Exception) and connection.is_closed())


def lost() -> Unavailable:
    """The refusal of a request whose connection was lost."""
    return Unavailable("The connection to the database was lost; send it again",
                       rule="database-lost")  # fmt: skip


_UNKNOWN = Index(0, 0)


def is_no_value(error: Exception) -> bool:
    """True for NUL and lone surrogates, which no text has here, and for numbers beyond 64 bits."""
    if isinstance(error, asyncpg.CharacterNotInRepertoireError):
        return True
    return isinstance(error.__cause__, OverflowError | UnicodeEncodeError)


_SLOW = "database-slow"


def slow() -> Unavailable:
    """The refusal of a read whose statement the server cut off: it is no fault of the caller."""
    return Unavailable("The database is too slow to answer; send it again", rule=_SLOW)


def is_slow(error: Unavailable) -> bool:
    """True for the refusal of a statement that the server cut off."""
    return error.issues[0].rule == _SLOW


def too_long() -> TooCostly:
    """The refusal of a search that takes too long, by one statement or by many."""
    return TooCostly("The search takes too long; name a patient or narrow it", rule="deadline")


def refusal_of_read(connection: asyncpg.Connection, error: Exception) -> Exception:
    """What a caller is told of a statement that failed; a fault of ours as it is."""
    if isinstance(error, asyncpg.QueryCanceledError):
        return slow()
    if is_lost(connection, error):
        connection.terminate()
        return lost()
    if is_no_value(error):
        return Invalid(
            "The request names a text or a number that nothing stored can be",
            rule="impossible-value",
        )
    return error


@dataclass(slots=True, eq=False)
class Session:
    """A connection of the pool. `open` is true while it is inside a transaction, `used` when it
    has had one: what was good once may break while nobody looks.
    """

    connection: asyncpg.Connection
    index: Index = _UNKNOWN
    updated: int = 0  # the time of the snapshot's last batch
    open: bool = False
    used: bool = False
    ending: asyncio.TimerHandle | None = None


class PostgresPool:
    """The reading connections of one process to one database, the last one given first out.

    `places` holds (type, id) -> (home, rid) of resources that were found before.
    """

    def __init__(self, url: str, index: int = INDEX_VERSION) -> None:
        """`index` is the version of the rows that this process makes (search/version.py)."""
        self._url = url
        self._index = index
        self._free: list[Session] = []
        self._turns = asyncio.Semaphore(MOST_OPEN)
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False
        self.places: dict[tuple[int, str], tuple[int, int]] = {}

    async def take(self) -> Session:
        """A connection for one snapshot; `begin` opens it. Raises Unavailable."""
        if self._closed:
            raise Unavailable("The store is closed", rule="closed")
        await self._turn()
        try:
            while self._free:
                session = self._free.pop()
                if session.ending is not None:
                    session.ending.cancel()
                    session.ending = None
                if not session.connection.is_closed():
                    return session
            return Session(await connect(self._url))
        except BaseException:
            self._turns.release()
            raise

    async def _turn(self) -> None:
        if not self._turns.locked():
            await self._turns.acquire()  # at once
            return
        try:
            async with asyncio.timeout(TURN_SECONDS):
                await self._turns.acquire()
        except TimeoutError:
            raise Unavailable("Too many reads at once; send it again", rule="busy") from None

    async def snapshot(self) -> tuple[Session, int, int]:
        """A connection inside a fresh snapshot, with its (t, epoch). Raises Unavailable.

        Connections that broke while they were idle are passed over.
        """
        while True:
            session = await self.take()
            try:
                t, epoch = await self.begin(session)
            except BaseException as error:
                was_lost = is_lost(session.connection, error)
                session.connection.terminate()
                self.give(session)
                if isinstance(error, asyncpg.QueryCanceledError):
                    raise slow() from None
                if not was_lost:
                    raise
                if not session.used:
                    raise lost() from None
                continue
            session.used = True
            return session, t, epoch

    async def begin(self, session: Session) -> tuple[int, int]:
        """Ends the session's snapshot, if it has one, and begins another; its (t, epoch)."""
        await session.connection.execute("ROLLBACK; BEGIN" if session.open else "BEGIN")
        session.open = True
        t, epoch, *index, session.updated = await session.connection.fetchrow(CLOCK)
        session.index = index_of(index, self._index)
        return t, epoch

    def give(self, session: Session) -> None:
        """Takes a connection back. Its snapshot ends with the next one's beginning, or soon."""
        self._turns.release()
        if self._closed or session.connection.is_closed():
            session.connection.terminate()
            return
        loop = asyncio.get_running_loop()
        session.ending = loop.call_later(LINGER_SECONDS, self._end_soon, session)
        self._free.append(session)

    def _end_soon(self, session: Session) -> None:
        self._free.remove(session)
        task = asyncio.create_task(self._end(session), name="store-end-snapshot")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _end(self, session: Session) -> None:
        session.ending = None
        try:
            if session.open:
                await session.connection.execute("ROLLBACK")
                session.open = False
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            session.connection.terminate()
            return
        if self._closed or len(self._free) >= MOST_OPEN:
            await _close(session.connection)
        else:
            self._free.insert(0, session)

    async def close(self) -> None:
        """Closes the connections that are free; those in use close when they are given back."""
        self._closed = True
        free, self._free = self._free, []
        for session in free:
            if session.ending is not None:
                session.ending.cancel()  # before anything is waited for: it would begin meanwhile
        await asyncio.gather(*self._tasks, *(_close(session.connection) for session in free))


async def _close(connection: asyncpg.Connection) -> None:
    """Says good-bye, after what was cancelled has ended; a server that is gone needs none."""
    try:
        await connection.close(timeout=CLOSE_SECONDS)
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
        connection.terminate()
