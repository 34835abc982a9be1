"""Bookable time in a batch on SQLite: a statement for each question, inside the transaction."""

from __future__ import annotations

import apsw

from fhir_gateway.fhir.keys import type_key
from fhir_gateway.store import claim_sql as sql
from fhir_gateway.store.claim_state import (
    BookingState,
    Group,
    Key,
    QuotaState,
    SeatState,
    SlotState,
)

_PATIENT = type_key("Patient")


class SqliteSeating:
    """See claims_draft.Seating."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._execute = connection.execute

    def slot(self, key: Key) -> SlotState | None:
        """A Slot that gives a row."""
        row = self._execute(sql.SLOT, key).fetchone()
        return SlotState._make(row) if row else None

    def schedule(self, home: int, schedule: int) -> tuple[str, int]:
        """The department of a Schedule, and 1 where it sells: ("", 1) when it is not stored."""
        row: tuple[str, int] | None = self._execute(sql.SCHEDULE, (home, schedule)).fetchone()
        return row or ("", 1)

    def seats(self, key: Key) -> list[SeatState]:
        """The seats of a Slot that somebody has, or held."""
        return [SeatState._make(row) for row in self._execute(sql.SEATS, key)]

    def quotas(self, group: Group) -> list[QuotaState]:
        """The quotas of a bucket and kind."""
        return [QuotaState._make(row) for row in self._execute(sql.QUOTAS, group)]

    def lapsed(self, group: Group, now: int) -> list[SeatState]:
        """Holds of a bucket and kind that are over; the first of them when there are very many."""
        return [SeatState._make(row) for row in self._execute(sql.LAPSED, (*group, now))]

    def capacity(self, group: Group) -> int:
        """The seats of the open Slots of a bucket and kind."""
        capacity: int = self._execute(sql.CAPACITY, group).get
        return capacity

    def booking(self, key: Key) -> BookingState | None:
        """What became of an appointment that once had a seat."""
        row = self._execute(sql.BOOKING, key).fetchone()
        return BookingState._make(row) if row else None

    def bookings(self, home: int) -> list[BookingState]:
        """All of a person's home."""
        return [BookingState._make(row) for row in self._execute(sql.BOOKINGS, (home,))]

    def homes_of(self, home: int) -> list[int]:
        """The homes of the person whose home this is."""
        return [one for (one,) in self._execute(sql.HOMES_OF, (home,))] or [home]

    def is_documented(self, home: int) -> bool:
        """Whether a Patient of this home bears an identity document with its name."""
        return bool(self._execute(sql.IS_DOCUMENTED, (home, _PATIENT)).get)
