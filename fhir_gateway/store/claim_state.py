"""The small rows that claims are judged by: slots, seats, quotas, bookings.

Each is a row of its table, in the order of its columns. A slot, a seat and a quota lie in the home
of the institution, a booking in that of the person; keys are key64 of "Type/id". Times are µs.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from fhir_gateway.fhir.keys import key64
from fhir_gateway.store.claim_rows import BOOKED, HELD

#: A Slot that is full for good, as `SlotState.full_until`.
FOR_EVER = (1 << 63) - 1

#: (home, bucket, kind): what quotas are counted in.
Group = tuple[int, str, str]
#: (home, key64) of a Slot, a Schedule or an Appointment.
Key = tuple[int, int]


def pool_of(group: Group) -> int:
    """The number by which Slots are grouped when they are looked for, 0 without a bucket."""
    home, bucket, kind = group
    return key64(f"{home}|{bucket}|{kind}") if bucket else 0


class ScheduleState(NamedTuple):
    """A row of `schedule_row`; lists are JSON."""

    home: int
    schedule: int
    id: str
    master: str
    department: str
    kind: str
    items: str
    services: str
    district: str
    practitioner: str
    location: str
    active: int


class SlotState(NamedTuple):
    """A row of `slot_row`. Its seats are all taken until `full_until`: 0 when one is free, the end
    of the first hold, FOR_EVER when all are booked."""

    home: int
    slot: int
    id: str
    schedule: int
    start: int
    end: int
    capacity: int
    open: int
    busy: int
    kind: str
    bucket: str
    items: str
    full_until: int

    @property
    def key(self) -> Key:
        """What names the Slot."""
        return self.home, self.slot

    @property
    def group(self) -> Group:
        """What its seats are counted in."""
        return self.home, self.bucket, self.kind


class SeatState(NamedTuple):
    """A row of `seat`: one of a Slot's seats that is held (until a moment) or booked (until 0)."""

    home: int
    slot: int
    seat: int
    state: str
    until: int
    bucket: str
    kind: str
    channel: str
    person: int  # home of the person
    appointment: int

    @property
    def group(self) -> Group:
        """What it is counted in."""
        return self.home, self.bucket, self.kind

    def is_over(self, now: int) -> bool:
        """Whether it is a hold that has ended."""
        return 0 < self.until <= now


class QuotaState(NamedTuple):
    """A row of `quota`: the part of one channel; `place` is its order of release."""

    home: int
    bucket: str
    kind: str
    channel: str
    place: int
    cap: int
    used: int
    opens: int
    closes: int
    falls_to: str
    serial: int
    pool: int  # see pool_of

    def is_closed(self, now: int) -> bool:
        """Whether its cut-off has passed."""
        return 0 < self.closes <= now

    @property
    def left(self) -> int:
        """Seats that nobody has."""
        return self.cap - self.used


class BookingState(NamedTuple):
    """A row of `booking`: what a person has, had or missed. `day` counts local days."""

    home: int
    appointment: int
    id: str
    state: str
    until: int
    slot_home: int
    slot: int
    start: int
    end: int
    day: int
    department: str
    channel: str

    def is_live(self, now: int) -> bool:
        """Whether the person still has it: booked, or held and not yet over."""
        return self.state == BOOKED or (self.state == HELD and self.until > now)


def full_until(capacity: int, seats: Iterable[SeatState]) -> int:
    """Until when all seats of a Slot are taken."""
    taken = list(seats)
    if len(taken) < capacity:
        return 0
    return min((seat.until or FOR_EVER for seat in taken), default=FOR_EVER)
