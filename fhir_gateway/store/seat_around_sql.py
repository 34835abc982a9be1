"""A Slot with all that a booking of it is planned by, in one statement for every database.

Beside what `slot_view` finds these are the Slot and its Schedule as resources, and who the person
is: all homes and all bookings. Nothing is judged by an Access here, so whoever asks has to know
that the caller may see the Patient. What is planned by it is judged anew under the write lock.
docs/adr/0057-one-read-of-a-booking.md
"""

# ruff: noqa: S608 - SQL is put together from constants; values are always bound

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from operator import itemgetter
from typing import Any, NamedTuple

import msgspec

from fhir_gateway.fhir.keys import key64, type_key
from fhir_gateway.store.claim_sql import COLUMNS
from fhir_gateway.store.claim_state import (
    BookingState,
    QuotaState,
    ScheduleState,
    SeatState,
    SlotState,
)
from fhir_gateway.store.dialect import SQLITE, Dialect
from fhir_gateway.store.history_sql import stored
from fhir_gateway.store.query import Query, Steps
from fhir_gateway.store.slot_view_sql import Other, SlotView
from fhir_gateway.store.store import Stored


class Around(NamedTuple):
    """What stands around a Slot: its view (None where none is sold), both resources (None when
    they are gone), the homes of the person, and what the person has, had and missed."""

    view: SlotView | None = None
    slot: Stored | None = None
    schedule: Stored | None = None
    homes: tuple[int, ...] = ()
    others: tuple[Other, ...] = ()


def around(dialect: Dialect, slot: str, patient: str) -> Steps[Around]:
    """What stands around the Slot of a logical id, for the person of a Patient ("": nobody)."""
    values = [_SLOT, slot, key64(f"Slot/{slot}"), _PATIENT, patient, _PATIENT, patient,
              _SLOT, _SLOT, slot, _SCHEDULE, _SCHEDULE]  # fmt: skip
    rows = yield Query(_statement(dialect), values)
    found: list[list[Any]] = [[] for _ in _PARTS]
    for row in rows:
        found[row[0]].append(_PARTS[row[0]](row))
    slots, schedules, seats, quotas, bookings, slot_stored, schedule_stored, homes = found
    view = None
    if slots and schedules:
        ordered = sorted(quotas, key=lambda one: (one.place, one.channel))
        view = SlotView(slots[0], schedules[0], tuple(seats), tuple(ordered))
    bookings.sort(key=lambda one: (one.booking.start, one.booking.appointment))
    return Around(
        view,
        next((one for one in slot_stored if not one.deleted), None),
        next((one for one in schedule_stored if not one.deleted), None),
        tuple(sorted(homes)),
        tuple(bookings),
    )


# -- the parts of the statement, each with its number, nine numbers, nine texts and a body ---------

_SLOT, _SCHEDULE, _PATIENT = type_key("Slot"), type_key("Schedule"), type_key("Patient")
_WIDTH = 9
_LIVE = "t_to = 9223372036854775807"
#: Columns of each part, and which of them are numbers and which texts.
_KINDS = {
    "slot_row": "iitiiiiiittti",
    "schedule_row": "iittttttttti",
    "seat": "iiititttii",
    "quota": "itttiiiiitii",
    "booking": "iittiiiiiitt",
}
_STORED, _STORED_KINDS = "version updated deleted home rid owner enc id", "iiiiiiit"


def _padded(number: int, columns: Sequence[str], kinds: str, body: str = "") -> str:
    """The list of a SELECT in which every part has the same columns."""
    numbers = [one for one, kind in zip(columns, kinds, strict=True) if kind == "i"]
    texts = [one for one, kind in zip(columns, kinds, strict=True) if kind == "t"]
    numbers += ["CAST(NULL AS BIGINT)"] * (_WIDTH - len(numbers))
    texts += ["CAST(NULL AS TEXT)"] * (_WIDTH - len(texts))
    return ", ".join([str(number), *numbers, *texts, body or "CAST(NULL AS BYTEA)"])


def _places(kinds: str) -> list[int]:
    """Where the columns of a part stand in its row."""
    next_of = {"i": 1, "t": 1 + _WIDTH}
    places = []
    for kind in kinds:
        places.append(next_of[kind])
        next_of[kind] += 1
    return places


def _row_of(table: str, make: Callable[[Any], Any]) -> Callable[[Any], Any]:
    columns = itemgetter(*_places(_KINDS[table]))
    return lambda row: make(columns(row))


def _other() -> Callable[[Any], Other]:
    booking = _row_of("booking", BookingState._make)
    items, bucket = _places(_KINDS["booking"] + "tt")[-2:]

    def read(row: Any) -> Other:
        named = tuple(msgspec.json.decode(row[items] or "[]", type=list[str]))
        return Other(booking(row), named, row[bucket] or "")

    return read


def _resource(type: str) -> Callable[[Any], Stored]:
    columns = itemgetter(*_places(_STORED_KINDS))

    def read(row: Any) -> Stored:
        *kept, id = columns(row)
        return stored(type, id, (*kept, row[-1]))

    return read


_PARTS: tuple[Callable[[Any], Any], ...] = (
    _row_of("slot_row", SlotState._make), _row_of("schedule_row", ScheduleState._make),
    _row_of("seat", SeatState._make), _row_of("quota", QuotaState._make), _other(),
    _resource("Slot"), _resource("Schedule"), itemgetter(1),
)  # fmt: skip


def _columns(table: str, alias: str) -> list[str]:
    return [f"{alias}.{name}" for name in COLUMNS[table][0].split()]


def _part(number: int, table: str, alias: str, rest: str) -> str:
    listed = _padded(number, _columns(table, alias), _KINDS[table])
    return f"SELECT {listed} FROM {table} {alias} WHERE {rest}"


@cache
def _statement(dialect: Dialect) -> str:
    """Every key is a scalar of what was found before: each part is one look-up by its index,
    however small a table was when the plan was made."""
    of_person, its_slot = "IN (SELECT home FROM h)", _ITS_SLOT
    if dialect is not SQLITE:
        of_person, its_slot = "= ANY (ARRAY(SELECT home FROM h))", _ITS_SLOT_LATERAL
    s = {name: f"(SELECT {name} FROM s)" for name in ("home", "slot", "bucket", "kind")}
    kept = [f"r.{name}" for name in _STORED.split()]
    of_home = f"FROM resource r WHERE r.home = {s['home']} AND r.type = ?"
    bookings = _padded(4, [*_columns("booking", "b"), "o.items", "o.bucket"],
                       _KINDS["booking"] + "tt")  # fmt: skip
    parts = [
        f"SELECT {_padded(0, _columns('slot_row', 's'), _KINDS['slot_row'])} FROM s",
        _part(1, "schedule_row", "c", f"c.home = {s['home']} AND c.schedule ="
              " (SELECT schedule FROM s)"),
        _part(2, "seat", "e", f"e.home = {s['home']} AND e.slot = {s['slot']}"),
        _part(3, "quota", "q", f"q.home = {s['home']} AND q.bucket = {s['bucket']}"
              f" AND q.kind = {s['kind']}"),
        f"SELECT {bookings} FROM booking b {its_slot} WHERE b.home {of_person}",
        f"SELECT {_padded(5, kept, _STORED_KINDS, 'r.body')} {of_home}"
        " AND r.rid = (SELECT rid FROM locator WHERE type = ? AND id = ?)",
        f"SELECT {_padded(6, kept, _STORED_KINDS, 'r.body')} {of_home}"
        " AND r.rid = (SELECT rid FROM locator WHERE type = ? AND id ="
        f" (SELECT c.id FROM schedule_row c WHERE c.home = {s['home']}"
        " AND c.schedule = (SELECT schedule FROM s)))",
        f"SELECT {_padded(7, ['home'], 'i')} FROM h",
    ]  # fmt: skip
    return _FIRST.format(slot=", ".join(_columns("slot_row", "r"))) + " UNION ALL ".join(parts)


_ITS_SLOT = "LEFT JOIN slot_row o ON o.home = b.slot_home AND o.slot = b.slot"
#: In PostgreSQL a subquery with OFFSET is not merged into the query around it.
_ITS_SLOT_LATERAL = (
    "LEFT JOIN LATERAL (SELECT items, bucket FROM slot_row"
    " WHERE home = b.slot_home AND slot = b.slot OFFSET 0) o ON TRUE"
)

_FIRST = f"""
WITH s AS MATERIALIZED (
  SELECT {{slot}} FROM slot_row r
  WHERE r.home = (SELECT home FROM locator WHERE type = ? AND id = ?) AND r.slot = ?
), h AS MATERIALIZED (
  SELECT home FROM locator WHERE type = ? AND id = ?
  UNION SELECT us.home FROM person us WHERE us.{_LIVE} AND us.person = (
    SELECT me.person FROM person me WHERE me.{_LIVE}
      AND me.home = (SELECT home FROM locator WHERE type = ? AND id = ?))
)
"""
