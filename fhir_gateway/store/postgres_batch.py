"""One batch on PostgreSQL, from BEGIN to COMMIT: change sets, a command, or a drain.

The clock row is locked first, by everybody: batches of all processes come one after the other, so
nothing that a batch has fetched changes before it commits, and no two can deadlock.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any

import asyncpg

from fhir_gateway.store import points
from fhir_gateway.store.apply import Batch, Outcome, apply
from fhir_gateway.store.changes import ChangeSet
from fhir_gateway.store.draining import RowsOf, drain_entries
from fhir_gateway.store.index_version import check_ours
from fhir_gateway.store.jobs import Command
from fhir_gateway.store.log import LogCommand
from fhir_gateway.store.log_sql import carry_out
from fhir_gateway.store.placing import Homes
from fhir_gateway.store.postgres_claims import fetch_claims
from fhir_gateway.store.postgres_durable import CommitDoubtful, watched
from fhir_gateway.store.postgres_held import fetch_held
from fhir_gateway.store.postgres_lookups import PostgresLookups
from fhir_gateway.store.postgres_rows import Moved, write
from fhir_gateway.store.postgres_sql import numbered
from fhir_gateway.store.postgres_wanted import Found, Wanted, fetch

#: Seconds of judging between two turns of the event loop.
TURN_SECONDS = 0.002

#: Journal entries of one drain, which no commit of any process should wait for longer than these
#: seconds, and change-set ids that housework forgets at once.
DRAIN_PIECE, DRAIN_STEP, DRAIN_SECONDS, FORGET_PIECE = 100, 10, 0.02, 500

#: Change-set ids are kept for a day.
REMEMBERED = 24 * 3600 * 1_000_000

_BEGIN = "BEGIN; SELECT FROM clock FOR NO KEY UPDATE"
_BEGIN_IF_FREE = f"{_BEGIN} SKIP LOCKED"

_UNDRAINED = """
SELECT t, n, i, type, id, home, updated, patient, owner, enc, body
FROM journal WHERE (t, n, i) > ($1, $2, $3) ORDER BY t, n, i LIMIT $4"""
_DRAINED = "UPDATE clock SET drained_t = $1, drained_n = $2, drained_i = $3"
_FORGET = """
DELETE FROM change_set WHERE (t, n) IN
  (SELECT t, n FROM change_set ORDER BY t, n LIMIT $1) AND updated < $2"""


async def commit_sets(
    connection: asyncpg.Connection,
    change_sets: Sequence[ChangeSet],
    homes: dict[str, int],
    *,
    now: Callable[[], int],
    sync: bool,
    index: int,
) -> list[Outcome]:
    """The outcomes of the change sets, once they are durable; `homes` learns of Patients.

    With `sync` something is committed even when all of them had been before: what an earlier
    connection left behind may be visible and not yet durable everywhere.
    """
    wanted = Wanted()
    for change_set in change_sets:
        wanted.add(change_set)
    await connection.execute(_BEGIN)
    points.reached("batch-begun")
    found = await fetch(connection, wanted, index)
    batch, lookups = _opened(wanted, found, now())
    if wanted.claims:
        lookups.seat(await fetch_claims(connection, lookups.asked(wanted), batch.updated))
    if places := lookups.places(wanted):
        lookups.hold(await fetch_held(connection, places))
    outcomes = []
    turn = time.monotonic()
    for change_set in change_sets:
        outcome = None
        for outcome in apply(batch, change_set):  # noqa: B007 - the last one counts
            if time.monotonic() - turn > TURN_SECONDS:
                await asyncio.sleep(0)
                turn = time.monotonic()
        assert outcome is not None
        outcomes.append(outcome)
        points.reached("change-set-applied")
    if not batch.n and not sync:
        await connection.execute("ROLLBACK")
        return outcomes
    await write(connection, lookups, _moved(batch))
    await _commit(connection)
    homes.update(lookups.patients())
    return outcomes


async def carry_out_command(
    connection: asyncpg.Connection, command: Command | LogCommand, *, now: Callable[[], int]
) -> Any:
    """The job after the command, or what a command on the log is answered by, once that is
    durable. Raises Conflict by the fence."""
    await connection.execute(_BEGIN)
    updated = await connection.fetchval("SELECT updated FROM clock")
    steps = carry_out(command, now=max(updated, now()))
    try:
        sql, values = next(steps)
        while True:
            sql, values = steps.send(await connection.fetch(numbered(sql), *values))
    except StopIteration as end:
        answer = end.value
    await _commit(connection)
    return answer


async def drain(
    connection: asyncpg.Connection,
    rows_of: RowsOf,
    *,
    now: Callable[[], int],
    index: int,
    housework: bool = False,
) -> int:
    """Gives the next journal entries their index rows; says how many, -1 when others are busy.

    Housework also forgets old ids of change sets, and waits for nobody.
    """
    begun = await connection.execute(_BEGIN_IF_FREE if housework else _BEGIN)
    if begun == "SELECT 0":
        await connection.execute("ROLLBACK")
        return -1
    clock = (await fetch(connection, Wanted(), index)).clock
    check_ours(clock.index_version)
    entries = await connection.fetch(_UNDRAINED, *clock.drained, DRAIN_PIECE)
    done = len(entries)
    if entries:
        wanted = Wanted()
        for entry in entries:
            wanted.resources[entry["type"], entry["id"]] = False
        batch, lookups = _opened(wanted, await fetch(connection, wanted, index), now())
        done, began = 0, time.monotonic()
        while done < len(entries) and (not done or time.monotonic() - began < DRAIN_SECONDS):
            drain_entries(batch, entries[done : done + DRAIN_STEP], rows_of)
            done = min(done + DRAIN_STEP, len(entries))
            await asyncio.sleep(0)
        await write(connection, lookups, _moved(batch))
        await connection.execute(_DRAINED, *entries[done - 1][:3])
        points.reached("journal-drained")
    if housework and done == len(entries):
        forgotten = await connection.execute(
            _FORGET, FORGET_PIECE, max(clock.updated, now()) - REMEMBERED
        )
        done += int(forgotten.removeprefix("DELETE "))
    await (_commit(connection) if done else connection.execute("ROLLBACK"))
    return done


def _opened(wanted: Wanted, found: Found, now: int) -> tuple[Batch, PostgresLookups]:
    """The batch of the open transaction. Its time is never before that of the one before it."""
    lookups, clock = PostgresLookups(wanted, found), found.clock
    batch = Batch(
        lookups, clock.t + 1, clock.epoch, max(clock.updated, now), clock.rid, Homes(clock.home),
        clock.index_version,
    )  # fmt: skip
    return batch, lookups


def _moved(batch: Batch) -> Moved:
    """Housework alone does not move the clock: `t` numbers batches of change sets."""
    return Moved(
        batch.t if batch.n else batch.t - 1,
        batch.epoch + batch.raises_epoch,
        batch.updated,
        batch.rid,
        batch.homes.last,
        batch.index.indexed,
    )


async def _commit(connection: asyncpg.Connection) -> None:
    """Returns when durable. Raises CommitDoubtful when the server had to warn."""
    points.reached("before-commit")
    with watched(connection) as doubt:
        done = await connection.execute("COMMIT")
        await doubt.settle()
    if done != "COMMIT":
        raise CommitDoubtful
    points.reached("after-commit")
