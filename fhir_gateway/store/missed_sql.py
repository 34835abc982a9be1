"""What a hospital's ledger and its nightly comparison are made from: seats with their bookings.

A person's own bookings come from seat_sql.py. Generators of statements for every driver (see
query.py); they judge by no Access, so whoever calls them answers for who is told. Times are µs.
"""

# ruff: noqa: S608 - SQL is put together from constants; values are always bound

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from fhir_gateway.store.claim_rows import BOOKED, EXCUSED, HELD, NOSHOW
from fhir_gateway.store.claim_sql import COLUMNS
from fhir_gateway.store.claim_state import BookingState
from fhir_gateway.store.query import Query, Steps

_BOOKING = ", ".join(f"b.{name}" for name in COLUMNS["booking"][0].split())
_JOINED = (
    " FROM slot_row s JOIN seat e ON e.home = s.home AND e.slot = s.slot"
    " JOIN booking b ON b.home = e.person AND b.appointment = e.appointment"
)
_BETWEEN = ' WHERE s.home = ? AND s."start" >= ? AND s."start" < ?'


class Listed(NamedTuple):
    """A Slot of a hospital, with the logical id of its Schedule and who is master of that."""

    id: str
    schedule: str
    master: str
    start: int
    end: int
    open: int


class Taken(NamedTuple):
    """A seat that somebody has: logical id of the Appointment, its Slot and Schedule."""

    appointment: str
    state: str
    until: int
    slot: str
    schedule: str
    start: int


def missed_at(home: int, since: int, until: int) -> Steps[list[BookingState]]:
    """What was missed of a hospital's Slots that began between two times, excused or not."""
    rows = yield Query(
        f"SELECT {_BOOKING}{_JOINED}{_BETWEEN} AND b.state IN (?, ?)"
        ' ORDER BY b."start", b.appointment',
        [home, since, until, NOSHOW, EXCUSED],
    )
    return [BookingState(*row) for row in rows]


def slots_listed(home: int, since: int, until: int) -> Steps[list[Listed]]:
    """A hospital's Slots that begin between two times, in the order of their begin."""
    rows = yield Query(
        'SELECT s.id, c.id, c.master, s."start", s."end", s.open FROM slot_row s'
        " JOIN schedule_row c ON c.home = s.home AND c.schedule = s.schedule"
        f'{_BETWEEN} ORDER BY s."start", s.id',
        [home, since, until],
    )
    return [Listed(*row) for row in rows]


#: States of a booking that is still to be carried out.
COMING = (HELD, BOOKED)


def seats_listed(
    home: int, since: int, until: int, states: Sequence[str] = COMING
) -> Steps[list[Taken]]:
    """The seats of these Slots whose bookings are in one of these states."""
    marks = ", ".join("?" * len(states))
    rows = yield Query(
        f'SELECT b.id, b.state, e."until", s.id, c.id, s."start"{_JOINED}'
        " JOIN schedule_row c ON c.home = s.home AND c.schedule = s.schedule"
        f"{_BETWEEN} AND b.state IN ({marks})"
        ' ORDER BY s."start", s.id, e.seat',
        [home, since, until, *states],
    )
    return [Taken(*row) for row in rows]
