"""The statements of the commands on the audit log, as generators for every driver (see log.py).

They run inside the writer's transaction, which one process at a time holds. A head is refused
unless it comes right behind the last one, covers every journal entry up to its place, and is signed
by whom the last statement names: so no size ever gets two heads, and no entry is skipped, whatever
a process that slept for too long believes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fhir_gateway.errors import Conflict
from fhir_gateway.store import job_sql, points
from fhir_gateway.store.jobs import Command
from fhir_gateway.store.log import (
    NOWHERE,
    Alarm,
    Beat,
    Claim,
    LogCommand,
    Place,
    Purge,
    PurgeReceived,
    Seal,
    Turn,
    Vacate,
)
from fhir_gateway.store.purge_sql import purge, purge_received
from fhir_gateway.store.query import Query, Steps


def carry_out(command: Command | LogCommand, *, now: int) -> Steps[Any]:
    """The statements of a command on jobs or on the log, for the writer's transaction.

    Raises Conflict by the fence, Throttled as job_sql.carry_out does.
    """
    steps = _STEPS.get(type(command))
    if steps is None:
        return (yield from job_sql.carry_out(command, now=now))  # type: ignore[arg-type]
    return (yield from steps(command, now))


def _claim(command: Claim, now: int) -> Steps[int]:
    holder, fence, until = yield from _seat()
    if holder == command.holder:
        yield Query(_HOLD, (holder, fence, now + command.duration))
        return int(fence)
    if until > now and not command.force:
        raise Conflict("Another process numbers and signs the audit log", rule="log-seat")
    yield Query(_HOLD, (command.holder, fence + 1, now + command.duration))
    return int(fence) + 1


def _vacate(command: Vacate, now: int) -> Steps[int]:
    holder, fence, _ = yield from _seat()
    if fence == command.fence:
        yield Query(_HOLD, (holder, fence, 0))
    return int(fence)


def _seal(command: Seal, now: int) -> Steps[int]:
    yield from _seated(command.fence)
    size, place = yield from _last()
    turn = (yield Query(_LAST_TURN))[0][0] or 0
    if size != command.after or turn != command.turn:
        raise Conflict("The audit log has gone on without this process", rule="log-moved")
    between = (yield Query(_BETWEEN, (*place, *command.place)))[0][0]
    if command.size - size != between:
        raise Conflict("Journal entries would be left out of the audit log", rule="log-skips")
    for tile in command.tiles:
        yield Query(_PUT_TILE, (tile.number, tile.level, *tile.place, tile.hashes))
    points.reached("log-tiles-written")
    yield Query(_ADD_HEAD, (command.size, *command.place, command.signed, command.note, ""))
    yield Query(_RENEW, (now + command.duration,))
    return command.size


def _beat(command: Beat, now: int) -> Steps[int]:
    yield from _seated(command.fence)
    size, _ = yield from _last()
    if size != command.size:
        raise Conflict("The audit log has gone on without this process", rule="log-moved")
    yield Query(_SET_BEAT, (command.beat, size))
    yield Query(_RENEW, (now + command.duration,))
    return size


def _turn(command: Turn, now: int) -> Steps[int]:
    yield from _seated(command.fence)
    size, _ = yield from _last()
    ordinal = (yield Query(_LAST_TURN))[0][0] or 0
    if size != command.size or ordinal + 1 != command.ordinal:
        raise Conflict("The audit log has gone on without this process", rule="log-moved")
    yield Query(
        _ADD_TURN,
        (command.ordinal, command.size, command.kind, command.note, command.event),
    )
    yield Query(_SET_ALARM, ("",))
    return command.ordinal


def _alarm(command: Alarm, now: int) -> Steps[int]:
    yield from _seated(command.fence)
    yield Query(_SET_ALARM, (command.text,))
    return command.fence


def _seated(fence: int) -> Steps[None]:
    if (yield from _seat())[1] != fence:
        raise Conflict("Another process numbers and signs the audit log by now", rule="log-seat")


def _seat() -> Steps[tuple[str, int, int]]:
    rows = yield Query(_SEAT)
    return tuple(rows[0]) if rows else ("", 0, 0)


def _last() -> Steps[tuple[int, Place]]:
    rows = yield Query(_LAST_HEAD)
    if not rows:
        return 0, NOWHERE
    size, t, n, i = rows[0]
    return size, (t, n, i)


_STEPS: dict[type[Any], Callable[[Any, int], Steps[int]]] = {
    Claim: _claim,
    Vacate: _vacate,
    Seal: _seal,
    Beat: _beat,
    Turn: _turn,
    Alarm: _alarm,
    Purge: purge,
    PurgeReceived: purge_received,
}

_SEAT = "SELECT holder, fence, until FROM log_seat"
_HOLD = """
INSERT INTO log_seat (one, holder, fence, until, alarm) VALUES (1, ?, ?, ?, '')
ON CONFLICT (one) DO UPDATE
SET holder = excluded.holder, fence = excluded.fence, until = excluded.until"""
_RENEW = "UPDATE log_seat SET until = ?, alarm = ''"
_SET_ALARM = "UPDATE log_seat SET alarm = ?"
_LAST_HEAD = "SELECT size, t, n, i FROM log_head ORDER BY size DESC LIMIT 1"
_LAST_TURN = "SELECT max(ordinal) FROM log_turn"
_BETWEEN = """
SELECT count(*) FROM journal WHERE (t, n, i) > (?, ?, ?) AND (t, n, i) <= (?, ?, ?)"""
_PUT_TILE = """
INSERT INTO log_tile (number, level, t, n, i, hashes) VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT (number, level) DO UPDATE SET hashes = excluded.hashes"""
_ADD_HEAD = """
INSERT INTO log_head (size, t, n, i, signed, note, beat) VALUES (?, ?, ?, ?, ?, ?, ?)"""
_SET_BEAT = "UPDATE log_head SET beat = ? WHERE size = ?"
_ADD_TURN = "INSERT INTO log_turn (ordinal, size, kind, note, event) VALUES (?, ?, ?, ?, ?)"
