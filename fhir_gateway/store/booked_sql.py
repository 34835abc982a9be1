"""Bookings that are still to come: of the persons of some homes, or all of them page by page.

Generators of statements for every driver (see query.py). docs/adr/0054
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import msgspec

from fhir_gateway.store.claim_rows import BOOKED
from fhir_gateway.store.dialect import Dialect
from fhir_gateway.store.query import Query, Steps


class Coming(NamedTuple):
    """A booking whose time is still to come, with the catalogue items of its Slot."""

    home: int
    appointment: int  # key64
    id: str
    start: int
    items: tuple[str, ...]

    @property
    def place(self) -> tuple[int, int]:
        """Where it stands among all."""
        return self.home, self.appointment


_SELECT = (
    'SELECT b.home, b.appointment, b.id, b."start", s.items FROM booking b'
    " LEFT JOIN slot_row s ON s.home = b.slot_home AND s.slot = b.slot"
)


def coming_of(dialect: Dialect, homes: Sequence[int], now: int) -> Steps[list[Coming]]:
    """The bookings of these persons that are booked and begin after `now`."""
    rows = yield Query(
        f'{_SELECT} WHERE {dialect.any_of("b.home")} AND b.state = ? AND b."start" > ?'
        " ORDER BY b.home, b.appointment",
        [dialect.array(list(homes)), BOOKED, now],
    )
    return _read(rows)


def coming_after(place: tuple[int, int], now: int, limit: int) -> Steps[list[Coming]]:
    """A page of all bookings that begin after `now`, behind a place."""
    rows = yield Query(
        f"{_SELECT} WHERE (b.home, b.appointment) > (?, ?)"
        ' AND b.state = ? AND b."start" > ? ORDER BY b.home, b.appointment LIMIT ?',
        [*place, BOOKED, now, limit],
    )
    return _read(rows)


def _read(rows: Iterable[Sequence[Any]]) -> list[Coming]:
    return [Coming._make((*row[:4], tuple(msgspec.json.decode(row[4] or "[]")))) for row in rows]
