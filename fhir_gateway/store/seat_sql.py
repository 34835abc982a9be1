"""Who has which seat, what a person has booked, and why a Slot cannot be booked.

Generators of statements for every driver (see query.py). They judge by no Access: a seat and a
booking name a person's home, so whoever calls them has to know that the caller may see those.
Times are in µs. docs/adr/0049-seats-and-quotas.md
"""

# ruff: noqa: S608 - SQL is put together from constants; values are always bound

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from fhir_gateway.fhir.keys import key64, type_key
from fhir_gateway.store.claim_person import day_of, reasons_of_person
from fhir_gateway.store.claim_rows import BOOKED, Limits
from fhir_gateway.store.claim_sql import COLUMNS
from fhir_gateway.store.claim_state import BookingState, QuotaState, SeatState, SlotState
from fhir_gateway.store.dialect import Dialect
from fhir_gateway.store.query import Query, Steps
from fhir_gateway.store.slot_sql import quota_rows

#: No limits of a person.
_NONE = Limits()

_SLOT_TYPE = type_key("Slot")


def _names(table: str, alias: str) -> str:
    return ", ".join(f"{alias}.{name}" for name in COLUMNS[table][0].split())


class SlotStanding(NamedTuple):
    """A Slot, its taken seats, and the quotas of its bucket in order of release."""

    slot: SlotState
    department: str
    active: int  # whether its Schedule sells
    seats: list[SeatState]
    quotas: list[QuotaState]

    def free(self, now: int) -> int:
        """Seats that nobody has."""
        return self.slot.capacity - sum(not seat.is_over(now) for seat in self.seats)

    def next_release(self, now: int) -> int | None:
        """When the next channel opens or closes; None when nothing changes any more."""
        moments = [moment for row in self.quotas for moment in (row.opens, row.closes)]
        return min((moment for moment in moments if moment > now), default=None)


def slot_state(id: str) -> Steps[SlotStanding | None]:
    """How a Slot stands; None when it cannot be booked here at all."""
    rows = yield Query("SELECT home FROM locator WHERE type = ? AND id = ?", [_SLOT_TYPE, id])
    if not rows:
        return None
    place = [rows[0][0], key64(f"Slot/{id}")]
    rows = yield Query(
        f"SELECT {_names('slot_row', 's')}, coalesce(c.department, ''), coalesce(c.active, 1)"
        " FROM slot_row s"
        " LEFT JOIN schedule_row c ON c.home = s.home AND c.schedule = s.schedule"
        " WHERE s.home = ? AND s.slot = ?",
        place,
    )
    if not rows:
        return None
    slot = SlotState(*rows[0][:-2])
    department, active = rows[0][-2:]
    rows = yield Query(
        f"SELECT {_names('seat', 'e')} FROM seat e WHERE e.home = ? AND e.slot = ? ORDER BY e.seat",
        place,
    )
    quotas = (yield from quota_rows(slot.home, slot.bucket, slot.kind)) if slot.bucket else []
    return SlotStanding(slot, department, active, [SeatState(*row) for row in rows], quotas)


class Seated(NamedTuple):
    """A seat with its booking."""

    seat: SeatState
    slot: SlotState
    booking: BookingState


def seats_of(
    home: int, *, slot: str = "", schedule: str = "", start: int = 0, end: int = 0
) -> Steps[list[Seated]]:
    """The taken seats of a Slot ("Slot/id"), or of a Schedule ("Schedule/id") between two times,
    in the order of time."""
    where, values = "s.slot = ?", [home, key64(slot)]
    if not slot:
        where = 's.schedule = ? AND s."start" >= ? AND s."start" < ?'
        values = [home, key64(schedule), start, end]
    columns = [_names("seat", "e"), _names("slot_row", "s"), _names("booking", "b")]
    rows = yield Query(
        f"SELECT {', '.join(columns)} FROM slot_row s"
        " JOIN seat e ON e.home = s.home AND e.slot = s.slot"
        " JOIN booking b ON b.home = e.person AND b.appointment = e.appointment"
        f' WHERE s.home = ? AND {where} ORDER BY s."start", s.slot, e.seat',
        values,
    )
    first, second = len(SeatState._fields), len(SeatState._fields) + len(SlotState._fields)
    return [
        Seated(SeatState(*row[:first]), SlotState(*row[first:second]), BookingState(*row[second:]))
        for row in rows
    ]


def bookings_of(dialect: Dialect, homes: Sequence[int]) -> Steps[list[BookingState]]:
    """All that a person has, had and missed, by start; `homes` are all homes of the person."""
    if not homes:
        return []
    among, values = dialect.among("b.home", homes)
    rows = yield Query(
        f"SELECT {_names('booking', 'b')} FROM booking b WHERE {among}"
        ' ORDER BY b."start", b.appointment',
        values,
    )
    return [BookingState(*row) for row in rows]


def booking_of(home: int, appointment: str) -> Steps[BookingState | None]:
    """What became of an appointment ("Appointment/id") of a person's home."""
    rows = yield Query(
        f"SELECT {_names('booking', 'b')} FROM booking b WHERE b.home = ? AND b.appointment = ?",
        [home, key64(appointment)],
    )
    return BookingState(*rows[0]) if rows else None


def expired_holds(now: int, limit: int) -> Steps[list[BookingState]]:
    """Holds that are over and whose Appointment nobody has cancelled yet, the oldest first."""
    rows = yield Query(
        f'SELECT {_names("booking", "b")} FROM booking b WHERE b."until" > 0 AND b."until" <= ?'
        ' ORDER BY b."until", b.home, b.appointment LIMIT ?',
        [now, limit],
    )
    return [BookingState(*row) for row in rows]


def why_not(
    dialect: Dialect, id: str, channel: str, *, now: int,
    homes: Sequence[int] = (), limits: Limits = _NONE,
) -> Steps[list[str]]:  # fmt: skip
    """Every rule (claim_refusals.RULES) by which a channel cannot book a Slot now; of a person
    with these homes too, where they are given. Empty means that it can be booked."""
    standing = yield from slot_state(id)
    if standing is None:
        return ["slot-unknown"]
    slot = standing.slot
    reasons = []
    if not slot.open or not standing.active:
        reasons.append("slot-closed")
    if slot.start <= now:
        reasons.append("slot-past")
    if slot.open and (slot.busy or standing.free(now) <= 0):
        reasons.append("slot-full")
    if slot.bucket:
        reasons += yield from _of_channel(standing, channel, now)
    if homes:
        bookings = yield from bookings_of(dialect, homes)
        wanted = BookingState(
            homes[0], 0, "", BOOKED, 0, *slot.key, slot.start, slot.end,
            day_of(slot.start, limits.zone), standing.department, channel,
        )  # fmt: skip
        reasons += dict.fromkeys(reasons_of_person(bookings, wanted, limits, now))
    return reasons


def _of_channel(standing: SlotStanding, channel: str, now: int) -> Steps[list[str]]:
    row = next((row for row in standing.quotas if row.channel == channel), None)
    if row is None or row.is_closed(now):
        return ["channel-closed"]
    reasons = ["channel-not-open"] if now < row.opens else []
    fallen = sum(
        other.left
        for other in standing.quotas
        if other.falls_to == channel and other.is_closed(now)
    )
    if row.left + fallen > 0:
        return reasons
    rows = yield Query(
        "SELECT count(*) FROM seat WHERE home = ? AND bucket = ? AND kind = ? AND channel = ?"
        ' AND "until" > 0 AND "until" <= ?',
        [*standing.slot.group, channel, now],
    )
    return reasons if rows[0][0] else [*reasons, "quota-full"]
