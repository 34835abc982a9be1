"""The Slots of an institution between two times with who has seats: what a new plan is held
against. Generators of statements for every driver (see query.py); times are µs."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from fhir_gateway.store.query import Query, Steps


class SlotSeats(NamedTuple):
    """A Slot and its live seats: logical ids of Appointments by seat, `held` of them only held."""

    id: str
    start: int
    bucket: str
    live: tuple[str, ...]
    held: int


def slots_between(home: int, since: int, until: int, now: int) -> Steps[list[SlotSeats]]:
    """The Slots of a home that begin between two times, in order of their begin."""
    rows = yield Query(
        'SELECT s.id, s."start", s.bucket, e."until", b.id FROM slot_row s'
        " LEFT JOIN seat e ON e.home = s.home AND e.slot = s.slot"
        ' AND (e."until" = 0 OR e."until" > ?)'
        " LEFT JOIN booking b ON b.home = e.person AND b.appointment = e.appointment"
        ' WHERE s.home = ? AND s."start" >= ? AND s."start" < ?'
        ' ORDER BY s."start", s.id, e.seat',
        [now, home, since, until],
    )
    found: dict[str, SlotSeats] = {}
    for id, start, bucket, held_until, appointment in rows:
        slot = found.setdefault(id, SlotSeats(id, start, bucket, (), 0))
        if appointment is not None:
            found[id] = slot._replace(
                live=(*slot.live, appointment), held=slot.held + bool(held_until)
            )
    return list(found.values())


def schedules_with(*, service: str = "", location: str = "") -> Steps[list[str]]:
    """Logical ids of all Schedules that are sold here, open or closed, of a HealthcareService (its
    logical id) or at a Location ("Location/id")."""
    rows = yield Query("SELECT id, services, location FROM schedule_row ORDER BY id")
    return [
        id
        for id, services, where in rows
        if (location and where == location)
        or (service and service in msgspec.json.decode(services, type=list[str]))
    ]
