"""Bookable time in a batch on PostgreSQL: what claims may ask is fetched with one statement more,
and what the batch does is laid over it.

It goes out only where a batch has claims, or Slots or Schedules. What was not fetched is never
answered: see postgres_lookups.py.
"""

# ruff: noqa: S608 - SQL is put together from names of the schema; values are always bound

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import asyncpg

from fhir_gateway.fhir.keys import key64, type_key
from fhir_gateway.store.changes import ChangeSet, Derived
from fhir_gateway.store.claim_rows import Fall, Keep, Settle, SlotRow, Take
from fhir_gateway.store.claim_sql import COLUMNS, MOST_LAPSED
from fhir_gateway.store.claim_state import (
    BookingState,
    Group,
    Key,
    QuotaState,
    SeatState,
    SlotState,
)
from fhir_gateway.store.rows import Row, Rows

_PATIENT = type_key("Patient")


class AskedClaims(NamedTuple):
    """What is fetched: Slots and appointments by (home, key64), persons' homes, groups, and those
    of them that are settled: only there the capacity of all Slots is asked, and a bucket may have
    thousands."""

    slots: list[Key]
    appointments: list[Key]
    homes: list[int]
    groups: list[Group]
    settled: list[Group]


class WantedClaims:
    """What the claims, Slots and Schedules of a batch may ask."""

    def __init__(self) -> None:
        self.patients: dict[str, None] = {}
        self._slots: dict[str, None] = {}
        self._appointments: dict[str, None] = {}
        self._groups: dict[Group, None] = {}
        self._settled: dict[Group, None] = {}
        self._sold: list[tuple[str, SlotRow]] = []
        self._put: dict[str, tuple[int, str | None]] = {}  # home and what is followed

    def __bool__(self) -> bool:
        return bool(self._slots or self._appointments or self._groups)

    def add(self, change_set: ChangeSet) -> Iterator[tuple[str, str]]:
        """What this change set may ask; the resources whose homes judging asks for."""
        for put in change_set.puts:
            if put.patient is None:
                self._put[f"{put.type}/{put.id}"] = (put.home, put.follow)
            self._add_slot(put.type, put.id, put.derived)
        for item in change_set.reindex:
            self._add_slot(item.type, item.id, item.derived)
        for claim in change_set.claims:
            if isinstance(claim, Settle | Fall):
                group = (claim.home, claim.bucket, claim.kind)
                self._groups[group] = None
                if isinstance(claim, Settle):
                    self._settled[group] = None
                continue
            self._appointments[claim.appointment] = None
            yield _split(claim.appointment)
            if isinstance(claim, Take):
                self._slots[claim.slot] = None
                yield _split(claim.slot)
            if isinstance(claim, Take | Keep) and claim.patient:
                self.patients[claim.patient] = None
                yield "Patient", claim.patient

    def _add_slot(self, type: str, id: str, derived: Derived) -> None:
        if type == "Slot":
            self._slots[f"Slot/{id}"] = None
            self._sold += [(f"Slot/{id}", row) for row in derived.slots]

    def asked(self, home: Callable[[int, str], int | None], others: set[int]) -> AskedClaims:
        """The same by homes and keys; `others` are homes of persons besides."""

        def key(reference: str) -> Key | None:
            type, id = _split(reference)
            found = home(type_key(type), id)
            return None if found is None else (found, key64(reference))

        groups = dict(self._groups)
        for slot, row in self._sold:
            groups |= {(of, row.bucket, row.kind): None for of in self._homes(slot, home)}
        takers = (home(_PATIENT, patient) for patient in self.patients)
        return AskedClaims(
            [one for one in map(key, self._slots) if one is not None],
            [one for one in map(key, self._appointments) if one is not None],
            sorted({*(one for one in takers if one is not None), *others}),
            list(groups),
            list(self._settled),
        )

    def _homes(self, reference: str, home: Callable[[int, str], int | None]) -> set[int]:
        """Where a Slot may come to lie: its home, or that of what it follows, through to the end,
        as it is stored or put by this batch."""
        found: set[int] = set()
        passed: set[str] = set()
        next: str | None = reference
        while next is not None and next not in passed:
            passed.add(next)
            type, id = _split(next)
            stored = home(type_key(type), id)
            if stored is not None:
                found.add(stored)
            put, next = self._put.get(next, (0, None))
            found.add(put)
        return found


def _split(reference: str) -> tuple[str, str]:
    type, _, id = reference.partition("/")
    return type, id


class FoundClaims(NamedTuple):
    """The answers, with what was asked."""

    asked: AskedClaims
    slots: Sequence[Sequence[Any]]
    schedules: Sequence[Sequence[Any]]  # home, schedule, department, active
    seats: Sequence[Sequence[Any]]
    quotas: Sequence[Sequence[Any]]
    capacities: Sequence[Sequence[Any]]  # home, bucket, kind, capacity
    bookings: Sequence[Sequence[Any]]
    documented: Sequence[int]


async def fetch_claims(connection: asyncpg.Connection, asked: AskedClaims, now: int) -> FoundClaims:
    """The answers to what claims may ask; the clock row must be locked."""
    values: list[Any] = []
    for rows, width in (
        (asked.slots, 2), (asked.appointments, 2), (asked.groups, 3), (asked.settled, 3),
    ):  # fmt: skip
        values += zip(*rows, strict=True) if rows else [()] * width
    row = await connection.fetchrow(CLAIMS, *values, asked.homes, now)
    return FoundClaims(asked, *row)


class PostgresSeating:
    """See claims_draft.Seating. `last` is the last person's home when the batch began: one that is
    given later has no bookings."""

    def __init__(self, last: int) -> None:
        self._last = last
        self._slots: dict[Key, SlotState | None] = {}
        self._schedules: dict[Key, tuple[str, int]] = {}
        self._seats: dict[Key, dict[int, SeatState]] = {}
        self._quotas: dict[Group, dict[str, QuotaState]] = {}
        self._capacities: dict[Group, int] = {}
        self._bookings: dict[int, dict[int, BookingState]] = {}
        self._asked: set[Key] = set()  # appointments of which it is known what became of them
        self._documented: set[int] = set()

    def seat(self, found: FoundClaims) -> None:
        """What the database had when the batch began."""
        asked = found.asked
        slots = [SlotState._make(row) for row in found.slots]
        self._slots |= dict.fromkeys(asked.slots) | {slot.key: slot for slot in slots}
        self._schedules |= {(row[0], row[1]): (row[2], row[3]) for row in found.schedules}
        self._seats |= {slot.key: {} for slot in slots}
        for seat in map(SeatState._make, found.seats):
            self._seats[seat.home, seat.slot][seat.seat] = seat
        groups = {*asked.groups, *(slot.group for slot in slots)}
        self._quotas |= {group: {} for group in groups}
        self._capacities |= dict.fromkeys(asked.settled, 0)
        for quota in map(QuotaState._make, found.quotas):
            self._quotas[quota[:3]][quota.channel] = quota
        self._capacities |= {(row[0], row[1], row[2]): row[3] for row in found.capacities}
        self._bookings |= {home: {} for home in asked.homes}
        self._asked |= set(asked.appointments)
        for booking in map(BookingState._make, found.bookings):
            self._asked.add((booking.home, booking.appointment))
            self._bookings.setdefault(booking.home, {})[booking.appointment] = booking
        self._whole = frozenset(asked.homes)
        self._documented |= set(found.documented)

    # -- answers -----------------------------------------------------------------------------

    def slot(self, key: Key) -> SlotState | None:
        """A Slot that gives a row."""
        return self._slots.get(key)

    def schedule(self, home: int, schedule: int) -> tuple[str, int]:
        """The department of a Schedule, and 1 where it sells: ("", 1) when it is not stored."""
        return self._schedules.get((home, schedule), ("", 1))

    def seats(self, key: Key) -> list[SeatState]:
        """The seats of a Slot that somebody has, or held."""
        return list(self._seats.get(key, {}).values())

    def quotas(self, group: Group) -> list[QuotaState]:
        """The quotas of a bucket and kind."""
        return list(self._quotas[group].values())

    def lapsed(self, group: Group, now: int) -> list[SeatState]:
        """Holds of a bucket and kind that are over; the first of them when there are very many."""
        return [
            seat
            for seats in self._seats.values()
            for seat in seats.values()
            if seat.is_over(now) and (seat.home, seat.bucket, seat.kind) == group
        ]

    def capacity(self, group: Group) -> int:
        """The seats of the open Slots of a bucket and kind."""
        return self._capacities[group]

    def booking(self, key: Key) -> BookingState | None:
        """What became of an appointment that once had a seat."""
        home, appointment = key
        if key not in self._asked and home not in self._whole and home <= self._last:
            raise KeyError(key)
        return self._bookings.get(home, {}).get(appointment)

    def bookings(self, home: int) -> list[BookingState]:
        """All of a person's home."""
        if home not in self._whole and home <= self._last:
            raise KeyError(home)
        return list(self._bookings.get(home, {}).values())

    def is_documented(self, home: int) -> bool:
        """Whether a Patient of this home bears an identity document with its name."""
        return home in self._documented

    # -- what the batch does -----------------------------------------------------------------

    def _take_seats(self, new: Rows, all: Rows) -> None:
        """Notes what the batch has made; what goes again is taken out of `all`, its rows so far."""
        for home, slot in new.slot_row_gone:
            self._turn((home, slot), None)
        for row in new.slot_row:
            self._turn(row[:2], SlotState._make(row))
        self._schedules |= {row[:2]: (row[4], row[11]) for row in new.schedule_row}
        for home, slot, seat in new.seat_gone:
            self._seats.get((home, slot), {}).pop(seat, None)
        for row in new.seat:
            self._seats.setdefault(row[:2], {})[row[2]] = SeatState._make(row)
        for home, bucket, kind, channel in new.quota_gone:
            self._quotas[home, bucket, kind].pop(channel, None)
        for row in new.quota:
            self._quotas.setdefault(row[:3], {})[row[3]] = QuotaState._make(row)
        for row in new.booking:
            self._asked.add(row[:2])
            self._bookings.setdefault(row[0], {})[row[1]] = BookingState._make(row)
        self._documented |= {home for _, kind, home, _ in new.identity if kind == 1}
        for gone, made in _PAIRS:
            _take_out(getattr(all, made), getattr(new, gone))

    def _turn(self, key: Key, slot: SlotState | None) -> None:
        before = self._slots.get(key)
        for one, sign in ((before, -1), (slot, 1)):
            if one is not None and one.open and one.group in self._capacities:
                self._capacities[one.group] += sign * one.capacity
        self._slots[key] = slot


#: What takes rows away, and the table that has them.
_PAIRS = (
    ("schedule_row_gone", "schedule_row"),
    ("slot_row_gone", "slot_row"),
    ("slot_item_gone", "slot_item"),
    ("seat_gone", "seat"),
    ("quota_gone", "quota"),
)


def _take_out(made: list[Row], gone: Sequence[Row]) -> None:
    """Takes out what the batch made and takes away again: rows are taken away before any is made.

    A key is the first columns of its row.
    """
    if made and gone:
        keys, width = set(gone), len(gone[0])
        made[:] = [row for row in made if tuple(row[:width]) not in keys]


def _columns(table: str, alias: str) -> str:
    return ", ".join(f"{alias}.{name}" for name in COLUMNS[table][0].split())


_SLOT, _SEAT = _columns("slot_row", "s"), _columns("seat", "e")
_QUOTA, _BOOKING = _columns("quota", "q"), _columns("booking", "b")

#: Of the Slots that are named, and of those of the appointments that are named: their quotas, the
#: holds that are over there, the Slots that those touch with all their seats, and the bookings of
#: those holds. OFFSET keeps each lookup by its key, however small a table was when the plan was
#: made.
CLAIMS = f"""
WITH named AS (
  SELECT home, slot FROM unnest($1::bigint[], $2::bigint[]) k (home, slot)
  UNION
  SELECT b.slot_home, b.slot FROM unnest($3::bigint[], $4::bigint[]) k (home, appointment)
  CROSS JOIN LATERAL (SELECT slot_home, slot FROM booking
    WHERE home = k.home AND appointment = k.appointment OFFSET 0) b
), first AS MATERIALIZED (
  SELECT s.* FROM named CROSS JOIN LATERAL (
    SELECT * FROM slot_row WHERE home = named.home AND slot = named.slot OFFSET 0) s
), counted AS MATERIALIZED (
  SELECT home, bucket, kind FROM unnest($5::bigint[], $6::text[], $7::text[]) k (home, bucket, kind)
  UNION
  SELECT home, bucket, kind FROM first
), over AS MATERIALIZED (
  SELECT e.* FROM counted c CROSS JOIN LATERAL (
    SELECT home, slot FROM seat WHERE home = c.home AND bucket = c.bucket AND kind = c.kind
      AND "until" > 0 AND "until" <= $12 LIMIT {MOST_LAPSED}) e
), slots AS MATERIALIZED (
  SELECT s.* FROM (SELECT home, slot FROM named UNION SELECT home, slot FROM over) k
  CROSS JOIN LATERAL (
    SELECT * FROM slot_row WHERE home = k.home AND slot = k.slot OFFSET 0) s
), seats AS MATERIALIZED (
  SELECT e.* FROM slots s CROSS JOIN LATERAL (
    SELECT * FROM seat WHERE home = s.home AND slot = s.slot OFFSET 0) e
)
SELECT
  ARRAY(SELECT ROW({_SLOT}) FROM slots s),
  ARRAY(SELECT ROW(d.home, d.schedule, d.department, d.active)
    FROM (SELECT DISTINCT home, schedule FROM slots) s CROSS JOIN LATERAL (
    SELECT * FROM schedule_row WHERE home = s.home AND schedule = s.schedule OFFSET 0) d),
  ARRAY(SELECT ROW({_SEAT}) FROM seats e),
  ARRAY(SELECT ROW({_QUOTA}) FROM counted c CROSS JOIN LATERAL (
    SELECT * FROM quota WHERE home = c.home AND bucket = c.bucket AND kind = c.kind OFFSET 0) q),
  ARRAY(SELECT ROW(c.home, c.bucket, c.kind, s.capacity)
    FROM unnest($8::bigint[], $9::text[], $10::text[]) c (home, bucket, kind) CROSS JOIN LATERAL (
    SELECT coalesce(sum(capacity), 0)::bigint AS capacity FROM slot_row
    WHERE home = c.home AND bucket = c.bucket AND kind = c.kind AND open = 1) s),
  ARRAY(
    SELECT ROW({_BOOKING}) FROM (
      SELECT home, appointment FROM unnest($3::bigint[], $4::bigint[]) k (home, appointment)
      UNION SELECT person, appointment FROM seats WHERE "until" > 0 AND "until" <= $12) k
    CROSS JOIN LATERAL (
      SELECT * FROM booking WHERE home = k.home AND appointment = k.appointment OFFSET 0) b
    UNION ALL
    SELECT ROW({_BOOKING}) FROM unnest($11::bigint[]) k (home) CROSS JOIN LATERAL (
      SELECT * FROM booking WHERE home = k.home OFFSET 0) b),
  ARRAY(SELECT k.home FROM unnest($11::bigint[]) k (home) WHERE EXISTS (
    SELECT 1 FROM (
      SELECT rid FROM resource WHERE home = k.home AND type = {_PATIENT} OFFSET 0) r
    CROSS JOIN LATERAL (SELECT 1 FROM identity WHERE rid = r.rid AND kind = 1 OFFSET 0) i))"""
