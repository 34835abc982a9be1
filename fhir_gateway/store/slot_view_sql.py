"""What stands around one Slot or one person, read before a claim is made: never to decide by.

Generators of statements for every driver (see query.py). What a claim is judged by is read anew
under the write lock (claims.py); from here come the channel that is tried first, the status that a
Slot will have, and the words of a refusal. docs/adr/0049, docs/adr/0052
"""

# ruff: noqa: S608 - SQL is put together from constants; values are always bound

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from fhir_gateway.store import claim_sql as sql
from fhir_gateway.store.claim_rows import BOOKED
from fhir_gateway.store.claim_state import (
    BookingState,
    Key,
    QuotaState,
    ScheduleState,
    SeatState,
    SlotState,
)
from fhir_gateway.store.dialect import Dialect
from fhir_gateway.store.query import Query, Steps


class SlotView(NamedTuple):
    """A Slot with its Schedule, the seats that somebody has, and its quotas in order of release."""

    slot: SlotState
    schedule: ScheduleState
    seats: tuple[SeatState, ...]
    quotas: tuple[QuotaState, ...]

    @property
    def items(self) -> tuple[str, ...]:
        """The catalogue codes of the Slot."""
        return tuple(msgspec.json.decode(self.slot.items, type=list[str]))

    @property
    def hospital(self) -> str:
        """The institution whose Slot it is: it stands in the bucket."""
        return self.slot.bucket.partition("|")[0]

    @property
    def open(self) -> bool:
        """Whether anything of it is sold: neither the Slot nor its Schedule is closed."""
        return bool(self.slot.open and self.schedule.active)

    @property
    def booked(self) -> int:
        """Seats that are booked, without those that are held."""
        return sum(seat.state == BOOKED for seat in self.seats)

    def taken(self, now: int) -> list[SeatState]:
        """Seats that are booked, or held by holds that live."""
        return [seat for seat in self.seats if not seat.is_over(now)]


class Other(NamedTuple):
    """A booking of a person, with the catalogue items of its Slot."""

    booking: BookingState
    items: tuple[str, ...]
    bucket: str


_SCHEDULE = ", ".join(sql.COLUMNS["schedule_row"][0].split())
_BOOKING = ", ".join(f"b.{name}" for name in sql.COLUMNS["booking"][0].split())


def slot_view(key: Key) -> Steps[SlotView | None]:
    """The Slot of a key with what stands around it, None where none is sold."""
    found = yield Query(sql.SLOT, key)
    if not found:
        return None
    slot = SlotState._make(found[0])
    schedules = yield Query(
        f"SELECT {_SCHEDULE} FROM schedule_row WHERE home = ? AND schedule = ?",
        (slot.home, slot.schedule),
    )
    if not schedules:
        return None
    seats = yield Query(sql.SEATS, key)
    quotas = yield Query(f"{sql.QUOTAS} ORDER BY place, channel", slot.group)
    return SlotView(
        slot,
        ScheduleState._make(schedules[0]),
        tuple(SeatState._make(row) for row in seats),
        tuple(QuotaState._make(row) for row in quotas),
    )


def booking_of(key: Key) -> Steps[BookingState | None]:
    """What the store holds of an Appointment that had a seat."""
    rows = yield Query(sql.BOOKING, key)
    return BookingState._make(rows[0]) if rows else None


def bookings_of(dialect: Dialect, homes: Sequence[int]) -> Steps[list[Other]]:
    """Every booking of a person, by begin."""
    rows = yield Query(
        f"SELECT {_BOOKING}, s.items, s.bucket FROM booking b LEFT JOIN slot_row s"
        " ON s.home = b.slot_home AND s.slot = b.slot"
        f' WHERE {dialect.any_of("b.home")} ORDER BY b."start", b.appointment',
        [dialect.array(list(homes))],
    )
    width = len(BookingState._fields)
    return [
        Other(
            BookingState._make(row[:width]),
            tuple(msgspec.json.decode(row[width] or "[]", type=list[str])),
            row[width + 1] or "",
        )
        for row in rows
    ]


def seats_taken(dialect: Dialect, places: Sequence[Key], now: int) -> Steps[dict[Key, int]]:
    """How many seats of each of these Slots somebody has, without holds that are over."""
    rows = yield Query(
        f"SELECT home, slot, count(*) FROM seat WHERE {dialect.any_of('home')}"
        f' AND {dialect.any_of("slot")} AND ("until" = 0 OR "until" > ?) GROUP BY home, slot',
        [
            dialect.array(sorted({home for home, _ in places})),
            dialect.array([slot for _, slot in places]),
            now,
        ],
    )
    return {(row[0], row[1]): row[2] for row in rows}


def selling_homes() -> Steps[list[int]]:
    """The homes of the institutions that sell anything here."""
    rows = yield Query("SELECT DISTINCT home FROM schedule_row WHERE active = 1", ())
    return [row[0] for row in rows]


def schedules_that(
    dialect: Dialect, *, kinds: Sequence[str] = (), locations: Sequence[str] = ()
) -> Steps[list[str]]:
    """Logical ids of the Schedules of these kinds and places."""
    where, values = "active = 1", []
    for column, wanted in (("kind", kinds), ("location", locations)):
        if wanted:
            where += f" AND {dialect.any_of(column)}"
            values.append(dialect.array(sorted(set(wanted))))
    rows = yield Query(f"SELECT id FROM schedule_row WHERE {where} ORDER BY id", values)
    return [row[0] for row in rows]
