"""Free Slots: those with a seat that one of a caller's channels may sell now.

Generators of statements for every driver (see query.py). A Slot, a Schedule and a quota are no
person's: they are read under whatever Access a Reader was opened with. A Slot whose seats are all
booked, or held by holds that live, is not found; nor one whose quotas are used up, or whose
channels are not open. `now` is in µs. docs/adr/0049-seats-and-quotas.md
"""

# ruff: noqa: S608 - SQL is put together from constants; values are always bound

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    sold_by: Mapping[int, Sequence[str]] | None = None  # the same by home, of these homes alone


#: Days of one item that are looked through in less than a few milliseconds, and how long the rest
#: may take.
_SHORT, _LONG_SECONDS = 31 * 86_400_000_000, 1.0


def seconds_of(wish: Wish) -> float | None:
    """What to give `Reader.steps`: a search of all items or of many days may not hold up others."""
    days = (wish.end - wish.start) * len(set(wish.items))
    return None if 0 < days <= _SHORT else _LONG_SECONDS


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
    """A page of free Slots behind a place, earliest first, with the exact total of all pages.

    Slots are counted by pool, which the list by item holds itself; then the quotas of these few
    pools say which of them are sold.
    """
    chosen = yield from _schedules(dialect, wish)
    if chosen is not None and chosen[1] and not chosen[0]:
        return FreeSlots([], 0, False)
    source, bound = _listed(dialect, wish, chosen, now)
    rows = yield Query(
        f"SELECT i.pool, count(*) FROM {source.format(more='')} GROUP BY i.pool", bound
    )
    counts: dict[int, int] = {row[0]: row[1] for row in rows}
    sold = yield from _sold(dialect, sorted(counts.keys() - {0}), now)
    channels = {pool: _may(home, of, wish) for pool, (home, of) in sold.items()}
    pools = [pool for pool in counts if not pool or channels.get(pool)]
    total = sum(counts[pool] for pool in pools)
    if not total:
        return FreeSlots([], 0, False)
    fits, values = dialect.any_of("i.pool"), [dialect.array(pools)]
    if after is not None:
        fits += ' AND (i."start", i.home, i.slot) > (?, ?, ?)'
        values += after
    joined = f" {dialect.then} slot_row s ON s.home = i.home AND s.slot = i.slot{_SCHEDULED}"
    rows = yield Query(
        'SELECT i."start", i.home, i.slot, i.pool, s.id, s."end", s.capacity, s.kind, s.bucket,'
        " s.items, c.id, c.master, c.department, c.district, c.practitioner, c.location"
        f' FROM {source.format(more=joined)} AND {fits} ORDER BY i."start", i.home, i.slot LIMIT ?',
        [*bound, *values, limit + 1],
    )
    page = [_free(row, channels.get(row[3], ())) for row in rows[:limit]]
    return FreeSlots(page, total, len(rows) > limit)


def opening_later(dialect: Dialect, wish: Wish, now: int) -> Steps[list[tuple[int, str, int]]]:
    """(home, channel, when) of quotas that open later for Slots that fit, soonest first."""
    chosen = yield from _schedules(dialect, wish)
    if chosen is not None and chosen[1] and not chosen[0]:
        return []
    source, bound = _listed(dialect, wish, chosen, now)
    rows = yield Query(
        "SELECT DISTINCT q.home, q.channel, q.opens FROM"
        f" (SELECT DISTINCT i.pool FROM {source.format(more='')}) p JOIN quota q ON q.pool = p.pool"
        " WHERE q.opens > ? AND q.used < q.cap ORDER BY q.opens, q.home, q.channel LIMIT 20",
        [*bound, now],
    )
    return [(row[0], row[1], row[2]) for row in rows]


def _may(home: int, channels: Sequence[str], wish: Wish) -> tuple[str, ...]:
    """Those of the caller's channels that sell."""
    able = wish.channels or channels
    if wish.sold_by is not None:
        able = wish.sold_by.get(home, ())
    return tuple([one for one in channels if one in able])


def _free(row: Sequence[Any], channels: tuple[str, ...]) -> FreeSlot:
    items: list[str] = msgspec.json.decode(row[9])
    told = [value or "" for value in row[10:]]
    return FreeSlot._make((tuple(row[:3]), *row[4:9], tuple(items), *told, channels))


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


def _listed(dialect: Dialect, wish: Wish, chosen: tuple[list[int], bool] | None, now: int) -> Part:
    """The list of Slots with a seat, each once: FROM item and WHERE."""
    fits, values = 'i."start" >= ? AND i."start" < ?', [max(wish.start, now + 1), wish.end]
    fits, values = f"{fits} AND i.full_until <= ?", [*values, now]
    if wish.kinds:
        fits += f" AND {dialect.any_of('i.kind')}"
        values.append(dialect.array(sorted(set(wish.kinds))))
    if chosen is not None:
        keys, are_wanted = chosen
        one = dialect.any_of("i.schedule")
        fits += f" AND {one}" if are_wanted else f" AND NOT ({one})"
        values.append(dialect.array(keys))
    items = sorted(set(wish.items)) or [""]
    if len(items) == 1:
        return f"slot_item i{{more}} WHERE i.item = ? AND {fits}", [items[0], *values]
    return (
        f"(SELECT DISTINCT {_LISTED} FROM slot_item i WHERE {dialect.any_of('i.item')} AND {fits})"
        " i{more} WHERE TRUE",
        [dialect.array(items), *values],
    )


_SCHEDULED = " LEFT JOIN schedule_row c ON c.home = s.home AND c.schedule = s.schedule"
_LISTED = 'i."start", i.home, i.slot, i.pool, i.kind, i.schedule, i.full_until'


def _sold(
    dialect: Dialect, pools: Sequence[int], now: int
) -> Steps[dict[int, tuple[int, list[str]]]]:
    """(home, channels that are open and have something left) of these pools, in order of
    release."""
    if not pools:
        return {}
    left, values = left_of_quota(now)
    rows = yield Query(
        f"SELECT q.pool, q.channel, q.home FROM quota q WHERE {dialect.any_of('q.pool')} AND {left}"
        " ORDER BY q.pool, q.place, q.channel",
        [dialect.array(pools), *values],
    )
    found: dict[int, tuple[int, list[str]]] = {}
    for pool, channel, home in rows:
        found.setdefault(pool, (home, []))[1].append(channel)
    return found


def left_of_quota(now: int) -> Part:
    """The quota q is open and has something left: a seat, a hold that is over, or a reserve that
    has to fall to it."""
    group = "{0}.home = q.home AND {0}.bucket = q.bucket AND {0}.kind = q.kind"
    sql = f"""q.opens <= ? AND (q.closes = 0 OR q.closes > ?) AND (q.used < q.cap
      OR EXISTS (SELECT 1 FROM seat e WHERE {group.format("e")} AND e.channel = q.channel
        AND e."until" > 0 AND e."until" <= ?)
      OR EXISTS (SELECT 1 FROM quota p WHERE {group.format("p")} AND p.falls_to = q.channel
        AND p.closes > 0 AND p.closes <= ? AND p.used < p.cap))"""
    return sql, [now, now, now, now]


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
