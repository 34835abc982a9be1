"""Free Slots: those with a seat that one of a caller's channels may sell now.

Generators of statements for every driver (see query.py). A Slot, a Schedule and a quota are no
person's: they are read under whatever Access a Reader was opened with. A Slot whose seats are all
booked, or held by holds that live, is not found; nor one whose quotas are used up, or whose
channels are not open. `now` is in µs. docs/adr/0049-seats-and-quotas.md
"""

# ruff: noqa: S608 - SQL is put together from constants; values are always bound

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import msgspec

from fhir_gateway.store.claim_sql import COLUMNS
from fhir_gateway.store.claim_state import QuotaState, ScheduleState
from fhir_gateway.store.dialect import Dialect
from fhir_gateway.store.query import Part, Query, Steps


class Wish(NamedTuple):
    """What is looked for. An empty list is no condition; of several values one has to fit."""

    start: int  # µs, at the earliest
    end: int  # µs, before
    channels: Sequence[str] = ()  # what the caller may sell through; none: whoever may
    items: Sequence[str] = ()  # catalogue codes
    kinds: Sequence[str] = ()
    homes: Sequence[int] = ()  # institutions'
    districts: Sequence[str] = ()
    schedules: Sequence[str] = ()  # logical ids
    services: Sequence[str] = ()  # HealthcareService ids
    departments: Sequence[str] = ()
    practitioners: Sequence[str] = ()
    masters: Sequence[str] = ()


#: Where a page ended: (start, home, key of the Slot).
Place = tuple[int, int, int]


class FreeSlot(NamedTuple):
    """A Slot that can be booked, with its Schedule and the channels that may sell it now."""

    place: Place
    id: str
    end: int
    capacity: int
    kind: str
    bucket: str
    items: tuple[str, ...]
    schedule: str
    master: str
    department: str
    district: str
    practitioner: str
    location: str
    channels: tuple[str, ...]  # () where the Slot has no bucket


class FreeSlots(NamedTuple):
    """A page of free Slots in the order of their start, and how many there are in all."""

    slots: list[FreeSlot]
    total: int
    more: bool


_SCHEDULE = ", ".join(f"c.{name}" for name in COLUMNS["schedule_row"][0].split())


def find_slots(
    dialect: Dialect, wish: Wish, *, now: int, limit: int, after: Place | None = None
) -> Steps[FreeSlots]:
    """A page of free Slots behind a place, earliest first, with the exact total of all pages."""
    chosen = yield from _schedules(dialect, wish)
    if chosen is not None and not chosen[0]:
        return FreeSlots([], 0, False)
    source, bound = _source(dialect, wish, now)
    fits, values = _fits(dialect, wish, chosen, now)
    rows = yield Query(f"SELECT count(*) FROM {source} WHERE {fits}", [*bound, *values])
    total: int = rows[0][0]
    if after is not None:
        fits += ' AND (i."start", i.home, i.slot) > (?, ?, ?)'
        values = [*values, *after]
    rows = yield Query(
        'SELECT i."start", i.home, i.slot, s.id, s."end", s.capacity, s.kind, s.bucket, s.items,'
        " c.id, c.master, c.department, c.district, c.practitioner, c.location"
        f" FROM {source} LEFT JOIN schedule_row c ON c.home = s.home AND c.schedule = s.schedule"
        f' WHERE {fits} ORDER BY i."start", i.home, i.slot LIMIT ?',
        [*bound, *values, limit + 1],
    )
    page = rows[:limit]
    open_now = yield from _channels(dialect, {(row[1], row[7], row[6]) for row in page}, now)
    slots = [_free(row, open_now.get((row[1], row[7], row[6]), ()), wish) for row in page]
    return FreeSlots(slots, total, len(rows) > limit)


def _free(row: Sequence[Any], channels: Iterable[str], wish: Wish) -> FreeSlot:
    may = tuple(one for one in channels if not wish.channels or one in wish.channels)
    items: list[str] = msgspec.json.decode(row[8])
    told = (value or "" for value in row[9:])
    return FreeSlot._make(((row[0], row[1], row[2]), *row[3:8], tuple(items), *told, may))


def _schedules(dialect: Dialect, wish: Wish) -> Steps[tuple[list[int], bool] | None]:
    """The Schedules that fit, or (with False) those that do not sell; None for all."""
    parts: list[Part] = []
    for column, values in (
        ("c.home", wish.homes), ("c.district", wish.districts), ("c.id", wish.schedules),
        ("c.department", wish.departments), ("c.practitioner", wish.practitioners),
        ("c.master", wish.masters),
    ):  # fmt: skip
        if values:
            parts.append((dialect.any_of(column), [dialect.array(list(values))]))
    where = "".join(f" AND {sql}" for sql, _ in parts)
    bound = [value for _, part in parts for value in part]
    wanted = bool(parts or wish.services)
    rows = yield Query(
        f"SELECT c.schedule, c.services FROM schedule_row c WHERE c.active = ?{where}",
        [int(wanted), *bound],
    )
    if not wanted:
        return ([row[0] for row in rows], False) if rows else None
    services = set(wish.services)
    keys = [row[0] for row in rows if not services or services & set(msgspec.json.decode(row[1]))]
    return keys, True


def _source(dialect: Dialect, wish: Wish, now: int) -> Part:
    """Slots by item and start, each once, with their rows."""
    low = max(wish.start, now + 1)
    join = f"{dialect.then} slot_row s ON s.home = i.home AND s.slot = i.slot"
    if len(wish.items) < 2:
        item = wish.items[0] if wish.items else ""
        listed = '(SELECT "start", home, slot FROM slot_item WHERE item = ? AND "start" >= ?'
        return f'{listed} AND "start" < ?) i {join}', [item, low, wish.end]
    listed = (
        f'(SELECT DISTINCT "start", home, slot FROM slot_item WHERE {dialect.any_of("item")}'
        ' AND "start" >= ? AND "start" < ?)'
    )
    return f"{listed} i {join}", [dialect.array(sorted(set(wish.items))), low, wish.end]


def _fits(dialect: Dialect, wish: Wish, chosen: tuple[list[int], bool] | None, now: int) -> Part:
    """A seat is free, and a channel of the caller's may sell it."""
    sql, values = "s.full_until <= ?", [now]
    if wish.kinds:
        sql += f" AND {dialect.any_of('s.kind')}"
        values.append(dialect.array(sorted(set(wish.kinds))))
    if chosen is not None:
        keys, are_wanted = chosen
        one = dialect.any_of("s.schedule")
        sql += f" AND {one}" if are_wanted else f" AND NOT ({one})"
        values.append(dialect.array(keys))
    may, more = _sold(dialect, wish.channels, now)
    return f"{sql} AND (s.bucket = '' OR {may})", [*values, *more]


def _sold(dialect: Dialect, channels: Sequence[str], now: int) -> Part:
    """One of the channels may sell a seat of the Slot s."""
    mine, bound = "", []
    if channels:
        mine = f" AND {dialect.any_of('q.channel')}"
        bound = [dialect.array(sorted(set(channels)))]
    left, values = _left(now)
    sql = (
        "EXISTS (SELECT 1 FROM quota q WHERE q.home = s.home AND q.bucket = s.bucket"
        f" AND q.kind = s.kind{mine} AND {left})"
    )
    return sql, [*bound, *values]


def _left(now: int) -> Part:
    """The quota q is open and has something left: a seat, a hold that is over, or a reserve that
    has to fall to it."""
    group = "{0}.home = q.home AND {0}.bucket = q.bucket AND {0}.kind = q.kind"
    sql = f"""q.opens <= ? AND (q.closes = 0 OR q.closes > ?) AND (q.used < q.cap
      OR EXISTS (SELECT 1 FROM seat e WHERE {group.format("e")} AND e.channel = q.channel
        AND e."until" > 0 AND e."until" <= ?)
      OR EXISTS (SELECT 1 FROM quota p WHERE {group.format("p")} AND p.falls_to = q.channel
        AND p.closes > 0 AND p.closes <= ? AND p.used < p.cap))"""
    return sql, [now, now, now, now]


_Group = tuple[int, str, str]


def _channels(dialect: Dialect, groups: set[_Group], now: int) -> Steps[dict[_Group, list[str]]]:
    """The channels that are open in these buckets and have something left, in order of release."""
    sold = sorted(group for group in groups if group[1])
    if not sold:
        return {}
    left, values = _left(now)
    rows = yield Query(
        f"SELECT q.home, q.bucket, q.kind, q.channel FROM {dialect.listed('int text text')}"
        f" {dialect.then} quota q ON q.home = k.k0 AND q.bucket = k.k1 AND q.kind = k.k2"
        f" WHERE {left} ORDER BY q.place, q.channel",
        [*dialect.columns("int text text", sold), *values],
    )
    found: dict[_Group, list[str]] = {}
    for home, bucket, kind, channel in rows:
        found.setdefault((home, bucket, kind), []).append(channel)
    return found


def schedule(dialect: Dialect, id: str) -> Steps[ScheduleState | None]:
    """What a Schedule says."""
    rows = yield Query(f"SELECT {_SCHEDULE} FROM schedule_row c WHERE c.id = ?", [id])
    return ScheduleState(*rows[0]) if rows else None


def quota_rows(home: int, bucket: str, kind: str = "") -> Steps[list[QuotaState]]:
    """The quotas of a bucket, of one kind or of all, in order of release."""
    names = ", ".join(COLUMNS["quota"][0].split())
    only = " AND kind = ?" if kind else ""
    rows = yield Query(
        f"SELECT {names} FROM quota WHERE home = ? AND bucket = ?{only}"
        " ORDER BY kind, place, channel",
        [home, bucket, *([kind] if kind else [])],
    )
    return [QuotaState(*row) for row in rows]


def capacities(home: int, bucket: str) -> Steps[dict[str, int]]:
    """The seats of the open Slots of a bucket, by kind: what its quotas have to add up to."""
    rows = yield Query(
        "SELECT kind, sum(capacity) FROM slot_row WHERE home = ? AND bucket = ? AND open = 1"
        " GROUP BY kind",
        [home, bucket],
    )
    return {kind: int(capacity) for kind, capacity in rows}


def due_falls(now: int, limit: int) -> Steps[list[QuotaState]]:
    """Quotas whose cut-off has passed and that have something left, those that closed first
    first."""
    names = ", ".join(COLUMNS["quota"][0].split())
    rows = yield Query(
        f"SELECT {names} FROM quota WHERE closes > 0 AND closes <= ? AND used < cap"
        " AND falls_to <> '' ORDER BY closes, home, bucket, kind, channel LIMIT ?",
        [now, limit],
    )
    return [QuotaState(*row) for row in rows]
