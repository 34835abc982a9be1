"""The connection that writes, and whether its server keeps what it says it has committed.

A commit is acknowledged when the server has it on disk. A server that runs without fsync, without
full page writes or as a standby cannot promise that, so it is refused. Tests, which need no
promise, say `?durability=test` in the address. A process whose clock is far from the server's does
not write either: nodes reckon by their own clocks, and what is sold from a moment on would be sold
early (docs/booking-proof.md).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import asyncpg

from fhir_gateway.errors import Invalid, Unavailable
from fhir_gateway.store.postgres_pool import connect

#: The oldest server that is tested.
OLDEST = 15

#: A statement or a wait for a lock that takes longer is given up by the server, in milliseconds;
#: so is a transaction whose process stands still, for all others wait for it.
_STATEMENT, _LOCK, _IDLE = "20000", "5000", "20000"

#: What the writer asks for stands behind keys: a plan that scans is never meant, however few rows
#: a table has when the plan is made.
_WRITING = {
    "synchronous_commit": "on",
    "default_transaction_isolation": "read committed",
    "default_transaction_read_only": "off",
    "statement_timeout": _STATEMENT,
    "lock_timeout": _LOCK,
    "idle_in_transaction_session_timeout": _IDLE,
    "tcp_user_timeout": _IDLE,
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
}

_PROMISES = """
SELECT current_setting('server_version_num')::bigint / 10000, current_setting('server_encoding'),
  current_setting('fsync'), current_setting('full_page_writes'),
  current_setting('synchronous_commit'), pg_is_in_recovery(),
  extract(epoch FROM clock_timestamp())::float8"""

#: Seconds by which the clock of this machine may differ from the server's.
MOST_APART = 10.0


class Address(NamedTuple):
    """Where the database is. `is_test` when nobody relies on what is committed."""

    url: str
    is_test: bool


def address_of(url: str) -> Address:
    """The address without what is meant for us. Raises Invalid for a durability that is none."""
    parts = urlsplit(url)
    query = parse_qsl(parts.query, keep_blank_values=True)
    durability = [value for name, value in query if name == "durability"]
    if not set(durability) <= {"test", "full"}:
        raise Invalid("durability is full, or test where nothing matters", rule="database")
    rest = urlencode([(name, value) for name, value in query if name != "durability"])
    return Address(urlunsplit(parts._replace(query=rest)), "test" in durability)


async def connect_to_write(address: Address) -> asyncpg.Connection:
    """A connection that may commit. Raises Unavailable when the server cannot be reached, is too
    old, is a standby, could lose commits, or has another time.
    """
    connection = await connect(address.url, _WRITING)
    try:
        asked = time.time()
        *promised, there = await connection.fetchrow(_PROMISES)
        apart = _apart(asked, there, time.time())
    except BaseException:
        connection.terminate()
        raise
    version, encoding, *promises, is_standby = promised
    refusal = _refusal(version, encoding, promises, is_standby, is_test=address.is_test)
    refusal = refusal or _clocks(apart)
    if refusal is not None:
        await connection.close()
        raise refusal
    return connection


def _apart(asked: float, there: float, answered: float) -> float:
    """By how many seconds a clock here is ahead of one that was read between two times of it; 0
    within them."""
    return max(asked - there, 0.0) + min(answered - there, 0.0)


def _clocks(apart: float) -> Unavailable | None:
    if abs(apart) <= MOST_APART:
        return None
    way = "ahead of" if apart > 0 else "behind"
    return Unavailable(
        f"The clock of this machine is {abs(apart):.0f} seconds {way} the database's: set both by "
        "NTP; what is sold or ends at a moment would be so at another one",
        rule="clocks-differ",
    )


def _refusal(
    version: int, encoding: str, promises: list[str], is_standby: bool, *, is_test: bool
) -> Unavailable | None:
    if version < OLDEST:
        return Unavailable(
            f"PostgreSQL {version} is too old; {OLDEST} or newer is needed", rule="database-version"
        )
    if encoding != "UTF8":
        return Unavailable(
            f"The database keeps its text as {encoding}; create it with the encoding UTF8",
            rule="database-encoding",
        )
    if is_standby:
        return Unavailable(
            "The server is a standby and cannot be written; name the primary", rule="standby"
        )
    if "off" in promises and not is_test:
        return Unavailable(
            "PostgreSQL could lose commits: fsync and full_page_writes must be on",
            rule="not-durable",
        )
    return None


# -- a commit that returned, and yet ------------------------------------------------------------


class CommitDoubtful(Exception):
    """A commit returned with a warning: its wait for a standby was cut short. Send it again."""


class Doubt:
    """Warnings of a server while it commits."""

    def __init__(self) -> None:
        self._warned = False

    def __call__(self, connection: object, message: object) -> None:
        self._warned = True

    async def settle(self) -> None:
        """Raises CommitDoubtful when the commit that has just returned came with a warning."""
        await asyncio.sleep(0)  # what came with the answer is told by now
        if self._warned:
            raise CommitDoubtful


@contextmanager
def watched(connection: asyncpg.Connection) -> Iterator[Doubt]:
    """Listens for warnings."""
    doubt = Doubt()
    connection.add_log_listener(doubt)
    try:
        yield doubt
    finally:
        connection.remove_log_listener(doubt)
