"""Long work that survives its worker: leased, resumable, fenced.

A worker leases a job for a while, renews while it works and says how far it came, and completes
it. Whoever let its lease run out may be replaced; the fence number, raised by every lease and by
a cancellation, keeps the one that was replaced from changing anything afterwards. After
MAX_ATTEMPTS leases without a step forward a job is set aside as failed. States: waiting, running,
done, failed, cancelled, expired. The statements stand in `job_sql.py`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple, Protocol

import msgspec

from fhir_gateway.errors import Conflict
from fhir_gateway.store.query import Query

MAX_ATTEMPTS = 3

#: States in which a job still wants a worker.
OPEN_STATES = ("waiting", "running")


class Job(msgspec.Struct, frozen=True, array_like=True):
    """One job as it stands. Times are microseconds since 1970 UTC.

    `progress` is for people, `checkpoint` says where to take the work up again and, at its end,
    what came out. `owner` is the logical id of the institution that asked for it, "" for the
    gateway itself. From `expires` on nobody may have the result; 0 before there is one.
    """

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
    owner: str = ""
    checkpoint: str = ""
    expires: int = 0


class Enqueue(msgspec.Struct, frozen=True, array_like=True, tag="enqueue"):
    """A new job; the same id again changes nothing. `most` open ones of the owner, 0 for any."""

    id: str
    kind: str
    payload: str
    owner: str = ""
    most: int = 0


class Lease(msgspec.Struct, frozen=True, array_like=True, tag="lease"):
    """A job of a kind that waits or whose lease ran out, the least tried first, for so many µs."""

    kind: str
    duration: int


class Renew(msgspec.Struct, frozen=True, array_like=True, tag="renew"):
    """Still at work, this far. A checkpoint other than the last is a step forward."""

    id: str
    fence: int
    duration: int
    progress: str
    checkpoint: str = ""


class Release(msgspec.Struct, frozen=True, array_like=True, tag="release"):
    """Given back by a worker that stops: somebody else may go on at once."""

    id: str
    fence: int


class Complete(msgspec.Struct, frozen=True, array_like=True, tag="complete"):
    """The end: done or failed, with what is to be told, for so many µs (0: for ever)."""

    id: str
    fence: int
    state: str
    progress: str
    checkpoint: str = ""
    kept: int = 0


class Cancel(msgspec.Struct, frozen=True, array_like=True, tag="cancel"):
    """No longer wanted, whatever its state. What was asked and what came out is forgotten."""

    id: str


class Expire(msgspec.Struct, frozen=True, array_like=True, tag="expire"):
    """One job whose time is over, if there is one: what was asked and what came out is forgotten.

    Jobs that ended that way `kept` µs ago leave the table.
    """

    kept: int


Command = Enqueue | Lease | Renew | Release | Complete | Cancel | Expire


class Figure(NamedTuple):
    """Jobs of one kind in one state: how many, and since when (µs) the one that waits or works
    longest does so."""

    kind: str
    state: str
    number: int
    since: int


class Jobs(Protocol):
    """A store that carries out job commands in its writer, and lets the table be read."""

    async def job(self, command: Command) -> Job | None:
        """The job after the command; None when there is none that it concerns."""

    async def job_rows(self, query: Query) -> list[Any]:
        """The rows of a statement that reads the table of jobs."""


async def enqueue(
    store: Jobs, *, id: str, kind: str, payload: str = "", owner: str = "", most: int = 0
) -> Job:
    """The job of that id, new or as it stands. Raises Throttled when the owner has `most` open."""
    return _some(await store.job(Enqueue(id, kind, payload, owner, most)))


async def lease(store: Jobs, *, kind: str, duration: int) -> Job | None:
    """A job to work on, or None when there is none."""
    return await store.job(Lease(kind, duration))


async def renew(
    store: Jobs, job: Job, *, duration: int, progress: str = "", checkpoint: str = ""
) -> Job:
    """The job with a longer lease. Raises Conflict when it is somebody else's or cancelled."""
    return _some(await store.job(Renew(job.id, job.fence, duration, progress, checkpoint)))


async def release(store: Jobs, job: Job) -> Job:
    """The job, waiting again. Raises Conflict when it is somebody else's or cancelled."""
    return _some(await store.job(Release(job.id, job.fence)))


async def complete(
    store: Jobs,
    job: Job,
    *,
    state: str = "done",
    progress: str = "",
    checkpoint: str = "",
    kept: int = 0,
) -> Job:
    """The job at its end. Raises Conflict when it is somebody else's or cancelled."""
    return _some(await store.job(Complete(job.id, job.fence, state, progress, checkpoint, kept)))


async def cancel(store: Jobs, id: str) -> Job | None:
    """The cancelled job; None when there is none, or none that could still be cancelled."""
    return await store.job(Cancel(id))


async def expire(store: Jobs, *, kept: int) -> Job | None:
    """A job that has just expired, None when there is no further one."""
    return await store.job(Expire(kept))


async def find(store: Jobs, id: str) -> Job | None:
    """The job of that id."""
    rows = await store.job_rows(Query(FIND, (id,)))
    return Job(*rows[0]) if rows else None


async def find_all(
    store: Jobs,
    *,
    states: Iterable[str] = (),
    kind: str = "",
    owner: str | None = None,
    prefix: str = "",
    limit: int = 1_000,
) -> list[Job]:
    """Jobs, newest first: in these states, of this kind, of this owner, with an id that begins so,
    where given."""
    terms, values = ["1 = 1"], list[Any]()
    if wanted := tuple(states):
        terms.append(f"state IN ({', '.join('?' * len(wanted))})")
        values += wanted
    if kind:
        terms.append("kind = ?")
        values.append(kind)
    if owner is not None:
        terms.append("owner = ?")
        values.append(owner)
    if prefix:
        terms.append("id >= ? AND id < ?")
        values += (prefix, prefix + "\x7f")
    sql = (
        f"SELECT {COLUMNS} FROM job WHERE {' AND '.join(terms)} "  # noqa: S608 - constants
        "ORDER BY created DESC, id DESC LIMIT ?"
    )
    return [Job(*row) for row in await store.job_rows(Query(sql, (*values, limit)))]


async def is_due(store: Jobs, *, now: int) -> bool:
    """Whether some job could be leased now. Reads only: cheap enough to ask every second."""
    return bool(await store.job_rows(Query(_IS_DUE, (now,))))


async def figures(store: Jobs) -> list[Figure]:
    """How many jobs there are by kind and state, and since when the longest waits or works."""
    return [Figure(*row) for row in await store.job_rows(Query(_FIGURES))]


COLUMNS = (
    "id, kind, state, payload, progress, attempts, fence, lease_until, created, updated, owner, "
    "checkpoint, expires"
)
FIND = f"SELECT {COLUMNS} FROM job WHERE id = ?"  # noqa: S608 - constant column names
_IS_DUE = """
SELECT 1 FROM job WHERE state IN ('waiting', 'running') AND lease_until <= ? LIMIT 1"""
_FIGURES = "SELECT kind, state, count(*), min(created) FROM job GROUP BY kind, state"


def _some(job: Job | None) -> Job:
    if job is None:
        raise Conflict("There is no such job", rule="fence")
    return job
