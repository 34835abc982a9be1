"""What a change set makes of slots, seats, quotas and bookings, before any of it is written.

A draft is laid over what is stored: rows are loaded when they are asked for and changed in the
draft alone. Only when nothing was refused what differs is gathered for the driver. Holds that are
over are swept where they stand in the way, and reserves whose cut-off has passed fall, in the same
transaction: nothing waits for a job.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import msgspec

from fhir_gateway.store.claim_rows import BOOKED, CANCELLED, EXPIRED, SlotRow
from fhir_gateway.store.claim_state import (
    FOR_EVER,
    BookingState,
    Group,
    Key,
    QuotaState,
    SeatState,
    SlotState,
    full_until,
    pool_of,
)
from fhir_gateway.store.rows import Rows

#: A Slot without a bucket is sold by its seats alone.
NO_BUCKET = ""


class Seating(Protocol):
    """What is stored, as the batch has made it so far."""

    def slot(self, key: Key) -> SlotState | None:
        """A Slot that gives a row."""

    def schedule(self, home: int, schedule: int) -> tuple[str, int]:
        """The department of a Schedule, and 1 where it sells: ("", 1) when it is not stored."""

    def seats(self, key: Key) -> Sequence[SeatState]:
        """The seats of a Slot that somebody has, or held."""

    def quotas(self, group: Group) -> Sequence[QuotaState]:
        """The quotas of a bucket and kind."""

    def lapsed(self, group: Group, now: int) -> Sequence[SeatState]:
        """Holds of a bucket and kind that are over; the first of them when there are very many."""

    def capacity(self, group: Group) -> int:
        """The seats of the open Slots of a bucket and kind."""

    def booking(self, key: Key) -> BookingState | None:
        """What became of an appointment that once had a seat."""

    def bookings(self, home: int) -> Sequence[BookingState]:
        """All of a person's home."""

    def homes_of(self, home: int) -> Sequence[int]:
        """The homes of the person whose home this is."""

    def is_documented(self, home: int) -> bool:
        """Whether a Patient of this home bears an identity document with its name."""


class Draft:
    """The slots, seats, quotas and bookings of one change set, judged at `now`."""

    def __init__(self, stored: Seating, now: int) -> None:
        self.stored = stored
        self.now = now
        self._stored_slots: dict[Key, SlotState | None] = {}
        self._stored_seats: dict[Key, Sequence[SeatState]] = {}
        self._stored_groups: dict[Group, Sequence[QuotaState]] = {}
        self._stored_bookings: dict[int, Sequence[BookingState]] = {}
        self._slots: dict[Key, SlotState | None] = {}
        self._seats: dict[Key, dict[int, SeatState]] = {}
        self._groups: dict[Group, dict[str, QuotaState]] = {}
        self._bookings: dict[Key, BookingState] = {}
        self.booked: set[Key] = set()  # Slots of which a seat was booked, or given back

    # -- what is there -------------------------------------------------------------------------

    def slot(self, key: Key) -> SlotState | None:
        """A Slot, as this change set has made it."""
        if key not in self._slots:
            self._slots[key] = self._stored_slots[key] = self.stored.slot(key)
        return self._slots[key]

    def seats(self, key: Key) -> dict[int, SeatState]:
        """The taken seats of a Slot, without holds that are over."""
        if key not in self._seats:
            self.slot(key)
            self._stored_seats[key] = self.stored.seats(key)
            self._seats[key] = {seat.seat: seat for seat in self._stored_seats[key]}
            for seat in list(self._seats[key].values()):
                if seat.is_over(self.now):
                    self.sweep(seat)
        return self._seats[key]

    def group(self, group: Group) -> dict[str, QuotaState]:
        """The quotas of a bucket and kind by channel; what had to fall has fallen."""
        if group not in self._groups:
            rows = sorted(self.stored.quotas(group), key=lambda row: row.place)
            self._stored_groups[group] = rows
            self._groups[group] = {row.channel: row for row in rows}
            for row in rows:
                self.fall(group, row.channel)
        return self._groups[group]

    def booking(self, key: Key) -> BookingState | None:
        """An appointment's booking, as this change set has made it."""
        return self._bookings.get(key) or self.stored.booking(key)

    def bookings(self, homes: Sequence[int]) -> Iterator[BookingState]:
        """All bookings of these homes, as this change set has made them."""
        for home in homes:
            if home not in self._stored_bookings:
                self._stored_bookings[home] = self.stored.bookings(home)
            stored = self._stored_bookings[home]
            for one in stored:
                yield self._bookings.get((home, one.appointment), one)
            known = {one.appointment for one in stored}
            for (of, appointment), one in self._bookings.items():
                if of == home and appointment not in known:
                    yield one

    def seat_of(self, booking: BookingState) -> SeatState | None:
        """The seat that a booking has, None when it was given back or its hold is over."""
        for seat in self.seats((booking.slot_home, booking.slot)).values():
            if seat.appointment == booking.appointment and seat.person == booking.home:
                return seat
        return None

    # -- what changes --------------------------------------------------------------------------

    def put_slot(self, key: Key, slot: SlotState | None) -> None:
        """The Slot is so from now on."""
        self.slot(key)
        self._slots[key] = slot

    def put_seat(self, seat: SeatState) -> None:
        """Somebody has this seat so from now on."""
        self.seats((seat.home, seat.slot))[seat.seat] = seat

    def put_booking(self, booking: BookingState) -> None:
        """An appointment stands so from now on."""
        self._bookings[booking.home, booking.appointment] = booking

    def put_group(self, group: Group, rows: Sequence[QuotaState]) -> None:
        """These are the quotas from now on."""
        self.group(group)
        self._groups[group] = {row.channel: row for row in rows}

    def move(self, seat: SeatState, number: int) -> None:
        """The seat gets another number."""
        seats = self.seats((seat.home, seat.slot))
        del seats[seat.seat]
        seats[number] = seat._replace(seat=number)

    def sweep(self, seat: SeatState) -> None:
        """A hold that is over: its seat is free, its part of the quota too."""
        booking = self.booking((seat.person, seat.appointment))
        self.free(seat)
        if booking is not None and booking.state != CANCELLED:
            self.put_booking(booking._replace(state=EXPIRED))

    def free(self, seat: SeatState) -> None:
        """Takes a seat away from who had it, and gives its part of the quota back."""
        key = (seat.home, seat.slot)
        self.seats(key).pop(seat.seat, None)
        if seat.state == BOOKED:
            self.booked.add(key)
        if seat.bucket == NO_BUCKET:
            return
        group = (seat.home, seat.bucket, seat.kind)
        row = self.group(group).get(seat.channel)
        if row is not None:
            self._groups[group][seat.channel] = row._replace(used=row.used - 1)
            self.fall(group, seat.channel)

    def use(self, group: Group, channel: str) -> None:
        """One more seat of the channel is taken."""
        row = self.group(group)[channel]
        self._groups[group][channel] = row._replace(used=row.used + 1)

    def sweep_group(self, group: Group) -> None:
        """All holds of a bucket and kind that are over, on whichever Slot."""
        for seat in self.stored.lapsed(group, self.now):
            self.seats((seat.home, seat.slot))  # loading them sweeps

    def fall(self, group: Group, channel: str) -> None:
        """What a channel has not used goes to the next one once its cut-off has passed."""
        rows = self._groups[group]
        row = rows[channel]
        heir = self._heir(rows, row)
        if heir is None or not row.left or not row.is_closed(self.now):
            return
        rows[channel] = row._replace(cap=row.used)
        rows[heir] = rows[heir]._replace(cap=rows[heir].cap + row.left)

    def _heir(self, rows: dict[str, QuotaState], row: QuotaState) -> str | None:
        """The channel that is not closed itself, else the last one of the chain."""
        passed = {row.channel}
        heir = None
        while row.falls_to in rows and row.falls_to not in passed:
            heir = row.falls_to
            row = rows[heir]
            passed.add(heir)
            if not row.is_closed(self.now):
                break
        return heir

    # -- what is to be written -----------------------------------------------------------------

    def gather(self, rows: Rows) -> None:
        """The rows that differ from what is stored."""
        for key, slot in self._slots.items():
            self._gather_slot(rows, key, slot)
        for key, seats in self._seats.items():
            before = {seat.seat: seat for seat in self._stored_seats[key]}
            rows.seat_gone += [(*key, number) for number in before if number not in seats]
            moved = [seat for seat in seats.values() if before.get(seat.seat) != seat]
            rows.seat_gone += [
                (*key, seat.seat)
                for seat in moved
                if seat.seat in before and before[seat.seat].appointment != seat.appointment
            ]
            rows.seat += moved
        for group, quotas in self._groups.items():
            held = {row.channel: row for row in self._stored_groups[group]}
            rows.quota_gone += [(*group, channel) for channel in held if channel not in quotas]
            rows.quota += [row for row in quotas.values() if held.get(row.channel) != row]
        rows.booking += self._bookings.values()

    def _gather_slot(self, rows: Rows, key: Key, slot: SlotState | None) -> None:
        before = self._stored_slots[key]
        if slot is not None and key in self._seats:
            seats = self._seats[key].values()
            slot = slot._replace(full_until=full_until(slot.capacity, seats))
        if slot == before:
            return
        old, new = listed(before), listed(slot)
        rows.slot_item_gone += sorted(row[:4] for row in old - new)
        rows.slot_item += sorted(new - old)
        if slot is not None:
            rows.slot_row.append(slot)
        else:
            rows.slot_row_gone.append(key)


def listed(slot: SlotState | None) -> set[tuple[Any, ...]]:
    """The rows of `slot_item` by which a Slot is found: of open ones alone, that are neither full
    for good nor busy."""
    if slot is None or not slot.open or slot.busy or slot.full_until == FOR_EVER:
        return set()
    items: list[str] = msgspec.json.decode(slot.items)
    what = (pool_of(slot.group), slot.kind, slot.schedule, slot.full_until)
    return {(item, slot.start, slot.home, slot.slot, *what) for item in ("", *items)}


def slot_state(key: Key, id: str, schedule: int, row: SlotRow) -> SlotState:
    """The row of a Slot of which nobody has a seat."""
    return SlotState(
        *key, id, schedule, row.start, row.end, row.capacity, int(row.open), int(row.busy),
        row.kind, row.bucket, msgspec.json.encode(sorted(set(row.items))).decode(),
        full_until(row.capacity, ()),
    )  # fmt: skip
