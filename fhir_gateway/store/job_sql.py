"""The statements of the commands on jobs, as generators for every driver (see query.py, jobs.py).

They run inside the writer's transaction, which one process at a time holds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from fhir_gateway.errors import Conflict, Throttled
from fhir_gateway.store.jobs import (
    COLUMNS,
    FIND,
    MAX_ATTEMPTS,
    Cancel,
    Command,
    Complete,
    Enqueue,
    Expire,
    Job,
    Lease,
    Release,
    Renew,
)
from fhir_gateway.store.query import Query, Row, Steps

#: The reason why a job failed is kept for so many µs.
FAILURE_KEPT = 24 * 3600 * 1_000_000


def carry_out(command: Command, *, now: int) -> Steps[Job | None]:
    """The statements of a command, for the writer's transaction.

    Raises Conflict by the fence, Throttled for an owner's job too many.
    """
    return (yield from _STEPS[type(command)](command, now))


def _enqueue(command: Enqueue, now: int) -> Steps[Job | None]:
    if command.most:
        others = yield Query(_OTHERS, (command.owner, command.id))
        if others[0][0] >= command.most:
            raise Throttled(
                f"{command.most} of your requests are not finished; wait for one, or cancel it",
                rule="jobs",
            )
    yield Query(_ENQUEUE, (command.id, command.kind, command.payload, now, now, command.owner))
    return _first((yield Query(FIND, (command.id,))))


def _lease(command: Lease, now: int) -> Steps[Job | None]:
    yield Query(_SET_ASIDE, (now, now + FAILURE_KEPT, command.kind, now, MAX_ATTEMPTS))
    due = yield Query(_DUE, (command.kind, now))
    if not due:
        return None
    return _first((yield Query(_LEASE, (now + command.duration, now, due[0][0]))))


def _renew(command: Renew, now: int) -> Steps[Job | None]:
    checkpoint = command.checkpoint
    values = (checkpoint, command.progress, checkpoint, now + command.duration, now)
    return _ours((yield Query(_RENEW, (*values, command.id, command.fence))))


def _release(command: Release, now: int) -> Steps[Job | None]:
    return _ours((yield Query(_RELEASE, (now, command.id, command.fence))))


def _complete(command: Complete, now: int) -> Steps[Job | None]:
    expires = now + command.kept if command.kept else 0
    values = (command.state, command.progress, command.checkpoint, expires, now)
    return _ours((yield Query(_COMPLETE, (*values, command.id, command.fence))))


def _cancel(command: Cancel, now: int) -> Steps[Job | None]:
    return _first((yield Query(_CANCEL, (now, command.id))))


def _expire(command: Expire, now: int) -> Steps[Job | None]:
    yield Query(_FORGET, (now - command.kept,))
    over = yield Query(_OVER, (now,))
    return _first((yield Query(_EXPIRE, (now, over[0][0])))) if over else None


def _first(rows: Sequence[Row]) -> Job | None:
    return Job(*rows[0]) if rows else None


def _ours(rows: Sequence[Row]) -> Job:
    job = _first(rows)
    if job is None:
        raise Conflict("The job is leased by somebody else by now, or cancelled", rule="fence")
    return job


_STEPS: dict[type[Any], Callable[[Any, int], Steps[Job | None]]] = {
    Enqueue: _enqueue,
    Lease: _lease,
    Renew: _renew,
    Release: _release,
    Complete: _complete,
    Cancel: _cancel,
    Expire: _expire,
}

_OTHERS = """
SELECT count(*) FROM job WHERE owner = ? AND id <> ? AND state IN ('waiting', 'running')"""
_ENQUEUE = f"""
INSERT INTO job ({COLUMNS}) VALUES (?, ?, 'waiting', ?, '', 0, 0, 0, ?, ?, ?, '', 0)
ON CONFLICT (id) DO NOTHING"""  # noqa: S608 - constant column names
_HELD = f"WHERE id = ? AND fence = ? AND state = 'running' RETURNING {COLUMNS}"
_RENEW = f"""
UPDATE job SET attempts = CASE WHEN checkpoint = ? THEN attempts ELSE 1 END,
  progress = ?, checkpoint = ?, lease_until = ?, updated = ? {_HELD}"""  # noqa: S608 - as above
_RELEASE = f"""
UPDATE job SET state = 'waiting', attempts = attempts - 1, lease_until = 0, updated = ?
{_HELD}"""  # noqa: S608 - as above
_COMPLETE = f"""
UPDATE job SET state = ?, progress = ?, checkpoint = ?, expires = ?, lease_until = 0, updated = ?
{_HELD}"""  # noqa: S608 - as above
_SET_ASIDE = """
UPDATE job SET state = 'failed', lease_until = 0, updated = ?, expires = ?
WHERE kind = ? AND state = 'running' AND lease_until <= ? AND attempts >= ?"""
_DUE = """
SELECT id FROM job WHERE kind = ? AND state IN ('waiting', 'running') AND lease_until <= ?
ORDER BY attempts, created, id LIMIT 1"""
_LEASE = f"""
UPDATE job SET state = 'running', attempts = attempts + 1, fence = fence + 1,
  lease_until = ?, updated = ? WHERE id = ? RETURNING {COLUMNS}"""  # noqa: S608 - as above
_CANCEL = f"""
UPDATE job SET state = 'cancelled', fence = fence + 1, lease_until = 0, updated = ?,
  payload = '', checkpoint = '', progress = '', expires = 0
WHERE id = ? AND state IN ('waiting', 'running', 'done', 'failed')
RETURNING {COLUMNS}"""  # noqa: S608 - as above
_OVER = """
SELECT id FROM job WHERE state IN ('done', 'failed') AND expires > 0 AND expires <= ?
ORDER BY expires, id LIMIT 1"""
_EXPIRE = f"""
UPDATE job SET state = 'expired', updated = ?, payload = '', checkpoint = '', progress = ''
WHERE id = ? RETURNING {COLUMNS}"""  # noqa: S608 - as above
_FORGET = "DELETE FROM job WHERE state IN ('cancelled', 'expired') AND updated < ?"
