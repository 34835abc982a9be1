"""Long work that survives its worker: leased, resumable, fenced.

A worker leases a job for a while, renews while it works and says how far it came, and completes
it. Whoever let its lease run out may be replaced; the fence number, raised by every lease, keeps
the one that was replaced from changing anything afterwards. After MAX_ATTEMPTS leases a job that
never completed is set aside as failed. States: waiting, running, done, failed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import apsw
import msgspec

from fhir_gateway.errors import Conflict
from fhir_gateway.store.query import Query, Row, Steps

MAX_ATTEMPTS = 3

_COLUMNS = "id, kind, state, payload, progress, attempts, fence, lease_until, created, updated"


class Job(msgspec.Struct, frozen=True, array_like=True):
    """One job as it stands. Times are microseconds since 1970 UTC."""

    id: str
    kind: str
    state: str
    payload: str
    progress: str
    attempts: int
    fence: int
    lease_until: int
    created: int
    updated: int


class Enqueue(msgspec.Struct, frozen=True, array_like=True, tag="enqueue"):
    """A new job; the same id again changes nothing."""

    id: str
    kind: str
    payload: str


class Lease(msgspec.Struct, frozen=True, array_like=True, tag="lease"):
    """A job of a kind that waits or whose lease ran out, the least tried first, for so many µs."""

    kind: str
    duration: int


class Renew(msgspec.Struct, frozen=True, array_like=True, tag="renew"):
    """Still at work, this far."""

    id: str
    fence: int
    duration: int
    progress: str


class Complete(msgspec.Struct, frozen=True, array_like=True, tag="complete"):
    """The end: done or failed, with what is to be told."""

    id: str
    fence: int
    state: str
    progress: str


Command = Enqueue | Lease | Renew | Complete


class Jobs(Protocol):
    """A store that carries out job commands in its writer."""

    async def job(self, command: Command) -> Job | None:
        """The job after the command; None when a Lease finds none."""


async def enqueue(store: Jobs, *, id: str, kind: str, payload: str = "") -> Job:
    """The job of that id, new or as it stands."""
    return _some(await store.job(Enqueue(id, kind, payload)))


async def lease(store: Jobs, *, kind: str, duration: int) -> Job | None:
    """A job to work on, or None when there is none."""
    return await store.job(Lease(kind, duration))


async def renew(store: Jobs, job: Job, *, duration: int, progress: str = "") -> Job:
    """The job with a longer lease. Raises Conflict when somebody else leases it by now."""
    return _some(await store.job(Renew(job.id, job.fence, duration, progress)))


async def complete(store: Jobs, job: Job, *, state: str = "done", progress: str = "") -> Job:
    """The job at its end. Raises Conflict when somebody else leases it by now."""
    return _some(await store.job(Complete(job.id, job.fence, state, progress)))


def carry_out(command: Command, *, now: int) -> Steps[Job | None]:
    """The statements of a command, for the writer's transaction. Raises Conflict by the fence."""
    if isinstance(command, Enqueue):
        values = (command.id, command.kind, command.payload, now, now)
        yield Query(_ENQUEUE, values)
        return _first((yield Query(FIND, (command.id,))))
    if isinstance(command, Lease):
        return (yield from _lease(command, now))
    if isinstance(command, Renew):
        state, until = "running", now + command.duration
    else:
        state, until = command.state, 0
    job = _first(
        (yield Query(_GO_ON, (state, command.progress, until, now, command.id, command.fence)))
    )
    if job is None:
        raise Conflict("The job is leased by somebody else by now", rule="fence")
    return job


def _lease(command: Lease, now: int) -> Steps[Job | None]:
    yield Query(_SET_ASIDE, (now, command.kind, now, MAX_ATTEMPTS))
    due = yield Query(_DUE, (command.kind, now))
    if not due:
        return None
    return _first((yield Query(_LEASE, (now + command.duration, now, due[0][0]))))


def find(connection: apsw.Connection, id: str) -> Job | None:
    """The job of that id, read from SQLite."""
    return _first(connection.execute(FIND, (id,)).fetchall())


def _first(rows: Sequence[Row]) -> Job | None:
    return Job(*rows[0]) if rows else None


FIND = f"SELECT {_COLUMNS} FROM job WHERE id = ?"  # noqa: S608 - constant column names
_ENQUEUE = f"""
INSERT INTO job ({_COLUMNS}) VALUES (?, ?, 'waiting', ?, '', 0, 0, 0, ?, ?)
ON CONFLICT (id) DO NOTHING"""  # noqa: S608 - constant column names
_GO_ON = f"""
UPDATE job SET state = ?, progress = ?, lease_until = ?, updated = ?
WHERE id = ? AND fence = ? AND state = 'running' RETURNING {_COLUMNS}"""  # noqa: S608 - as above
_SET_ASIDE = """
UPDATE job SET state = 'failed', updated = ?
WHERE kind = ? AND state = 'running' AND lease_until <= ? AND attempts >= ?"""
_DUE = """
SELECT id FROM job WHERE kind = ? AND state IN ('waiting', 'running') AND lease_until <= ?
ORDER BY attempts, created, id LIMIT 1"""
_LEASE = f"""
UPDATE job SET state = 'running', attempts = attempts + 1, fence = fence + 1,
  lease_until = ?, updated = ? WHERE id = ? RETURNING {_COLUMNS}"""  # noqa: S608 - as above


def _some(job: Job | None) -> Job:
    if job is None:
        raise Conflict("There is no such job", rule="fence")
    return job
