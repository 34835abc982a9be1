"""The earliest Slots with a seat, near a caller first, in one statement that never reads far.

What a card shows beside an order: no total, no pages, and no more than a window of the list by item
is looked at, so that it takes the same time in a city of a million Slots. Generators of statements
for every driver (see query.py); Slots and quotas are no person's. `now` is in µs. docs/adr/0057
"""

# ruff: noqa: S608 - SQL is put together from constants; values are always bound

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

from fhir_gateway.store.dialect import SQLITE, Dialect
from fhir_gateway.store.query import Part, Query, Steps
from fhir_gateway.store.slot_sql import Place, left_of_quota

#: Entries of the list by item that are looked at, and Slots that are told of each reach.
WINDOW, MOST = 250, 8


class Reach(NamedTuple):
    """Where is looked: in one home, in one district, or (with neither) everywhere."""

    home: int = 0
    district: str = ""


class NearSlot(NamedTuple):
    """A Slot that may be sold now, with the channels that have something left of its pool."""

    place: Place
    id: str
    end: int
    kind: str
    left: int
    bucket: str
    schedule: str
    sold_as: str  # visit or exam
    channels: tuple[str, ...]


class Near(NamedTuple):
    """What was found for each reach, in its order. `is_cut`: there is more than was looked at."""

    slots: tuple[tuple[NearSlot, ...], ...]
    is_cut: bool


def near_slots(
    dialect: Dialect, items: Sequence[str], reaches: Sequence[Reach], *, now: int, end: int
) -> Steps[dict[str, Near]]:
    """The earliest Slots of each of these catalogue items that begin before `end`."""
    if not items or not reaches:
        return {}
    sql, values = _statement(dialect, items, reaches, now, end)
    rows = yield Query(sql, values)
    found: dict[tuple[int, int], dict[Place, NearSlot]] = {}
    cut = set()
    for row in rows:
        number, reach = row[:2]
        if reach < 0:
            cut |= {number} if row[2] >= WINDOW else set()
            continue
        slots = found.setdefault((number, reach), {})
        slot = _slot(row)
        known = slots.get(slot.place, slot._replace(channels=()))
        slots[slot.place] = known._replace(channels=(*known.channels, *slot.channels))
    near = {}
    for number, item in enumerate(items):
        several = [found.get((number, reach), {}) for reach in range(len(reaches))]
        is_cut = number in cut or any(len(one) >= MOST for one in several)
        near[item] = Near(tuple(tuple(sorted(one.values())) for one in several), is_cut)
    return near


def sells_itself(home: int) -> Steps[bool]:
    """Whether an institution sells anything."""
    rows = yield Query("SELECT 1 FROM schedule_row WHERE home = ? AND active = 1 LIMIT 1", [home])
    return bool(rows)


def _slot(row: Sequence[Any]) -> NearSlot:
    _, _, start, home, slot, id, end, capacity, kind, bucket, *more = row
    schedule, sold_as, taken, channel = more
    return NearSlot(
        (start, home, slot), id, end, kind, capacity - taken, bucket, schedule, sold_as,
        (channel,) if channel else (),
    )  # fmt: skip


def _statement(
    dialect: Dialect, items: Sequence[str], reaches: Sequence[Reach], now: int, end: int
) -> Part:
    kinds = tuple("home" if one.home else "district" if one.district else "" for one in reaches)
    _, left = left_of_quota(now)
    values: list[Any] = [value for item in items for value in (item, now, end, now)]
    for _ in items:
        for reach in reaches:
            values += [one for one in reach if one]
            values += left
    return _text(dialect, len(items), kinds, WINDOW, MOST), [*values, now, *left]


@cache
def _text(dialect: Dialect, items: int, kinds: tuple[str, ...], window: int, most: int) -> str:
    left, _ = left_of_quota(0)
    windows = [f"w{number} AS MATERIALIZED ({_WINDOW} {window})" for number in range(items)]
    told = [
        _TOLD.format(number=number, reach=place, fits=_FITS[kind], left=left, most=most)
        for number in range(items)
        for place, kind in enumerate(kinds)
    ]
    counts = "".join(_COUNT.format(number=number) for number in range(items))
    joins = _JOINS[dialect is SQLITE].format(left=left)
    return (
        f"WITH {', '.join(windows)}, x AS MATERIALIZED ({' UNION ALL '.join(told)})"
        f" SELECT * FROM ({_FOUND.format(joins=joins)}) f{counts}"
    )


_FITS = {
    "": "",
    "home": "i.home = ? AND",
    "district": "EXISTS (SELECT 1 FROM schedule_row c WHERE c.home = i.home"
    " AND c.schedule = i.schedule AND c.district = ?) AND",
}
_WINDOW = """
SELECT i."start", i.home, i.slot, i.pool, i.schedule FROM slot_item i
WHERE i.item = ? AND i."start" > ? AND i."start" < ? AND i.full_until <= ?
ORDER BY i."start", i.home, i.slot LIMIT"""
_TOLD = """
SELECT * FROM (
  SELECT {number} AS n, {reach} AS m, i."start", i.home, i.slot, i.pool FROM w{number} i
  WHERE {fits} (i.pool = 0 OR EXISTS (SELECT 1 FROM quota q WHERE q.pool = i.pool AND {left}))
  ORDER BY i."start", i.home, i.slot LIMIT {most}) t{number}_{reach}"""
_FOUND = """
SELECT x.n, x.m, x."start", x.home, x.slot, s.id, s."end", s.capacity, s.kind, s.bucket,
  c.id AS schedule, c.kind AS sold_as,
  (SELECT count(*) FROM seat e WHERE e.home = x.home AND e.slot = x.slot
    AND (e."until" = 0 OR e."until" > ?)) AS taken, q.channel
FROM x {joins} WHERE c.active = 1"""
#: In PostgreSQL a subquery with OFFSET is not merged into the query around it: each row is looked
#: up by its key, however small a table was when the plan was made.
_JOINS = {
    True: "CROSS JOIN slot_row s ON s.home = x.home AND s.slot = x.slot"
    " CROSS JOIN schedule_row c ON c.home = s.home AND c.schedule = s.schedule"
    " LEFT JOIN quota q ON q.pool = x.pool AND {left}",
    False: "CROSS JOIN LATERAL (SELECT * FROM slot_row WHERE home = x.home AND slot = x.slot"
    " OFFSET 0) s CROSS JOIN LATERAL (SELECT * FROM schedule_row WHERE home = s.home"
    " AND schedule = s.schedule OFFSET 0) c LEFT JOIN LATERAL (SELECT channel FROM quota q"
    " WHERE q.pool = x.pool AND {left} OFFSET 0) q ON TRUE",
}
_COUNT = (
    " UNION ALL SELECT {number}, -1, (SELECT count(*) FROM w{number}), 0, 0, '', 0, 0, '', '', '',"
    " '', 0, ''"
)
