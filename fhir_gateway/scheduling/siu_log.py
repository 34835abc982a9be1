"""What a hospital is told of the bookings of its slots: from the change log to messages, in order.

There is no outbox: the change log is it. Each version of an Appointment that the gateway booked at
the hospital becomes at most one SIU message, written from what was stored at that very commit, so
that the same change gives the same bytes with the same control id however often it is sent.
docs/booking-v2.md, docs/adr/0054
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import Any, NamedTuple

from fhir_gateway.context import Gateway
from fhir_gateway.errors import GatewayError, TooCostly, Unavailable
from fhir_gateway.fhir.keys import key64
from fhir_gateway.fhir.wire import instant, parse
from fhir_gateway.mapping.v2_schedule_out import Header, Notice, event_of, write_schedule
from fhir_gateway.scheduling.appointment import Standing, standing_of
from fhir_gateway.security.actor import SYSTEM_ACCESS
from fhir_gateway.security.institution import Institution
from fhir_gateway.store.store import Reader, Stored

Json = Mapping[str, Any]

#: Versions of a page of the change log, and commits of one window of it.
_PAGE, WINDOW = 200, 20_000

#: Where a version stands in the order of commits.
Place = tuple[int, int, int]


class Told(NamedTuple):
    """One version of a booking of this hospital: its place, the Appointment's id and version."""

    place: Place
    id: str
    version: int


class Letter(NamedTuple):
    """A message that is to be sent. `fault` says why it cannot be written, "" when it can."""

    told: Told
    event: str
    control_id: str
    patient: str
    raw: bytes
    fault: str = ""


async def end_of_log(gateway: Gateway) -> int:
    """The last commit: where whoever begins today begins."""
    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        return reader.t


def behind(t: int) -> Place:
    """The place behind all of a commit."""
    return t + 1, -1, -1


async def next_versions(gateway: Gateway, hospital: str, after: Place) -> tuple[list[Told], Place]:
    """The versions of its bookings behind a place, the earliest first, and until where was looked.

    At most one window of the log is read at a time. Raises Unavailable where the database is slow.
    """
    owner = key64(f"Organization/{hospital}")
    try:
        async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
            until = await _until(reader, after)
            found: list[Told] = []
            before: Place | None = None
            while True:
                page = await reader.changes(
                    type="Appointment", until_t=until, before=before, limit=_PAGE
                )
                new = [one for one in page if (one.t, one.n, one.i) > after]
                found += [
                    Told((one.t, one.n, one.i), one.stored.id, one.stored.version)
                    for one in new
                    if one.stored.owner == owner and not one.stored.deleted
                ]
                if len(new) < _PAGE:
                    break
                before = (new[-1].t, new[-1].n, new[-1].i)
    except TooCostly:
        raise Unavailable("The database is too slow to read", rule="deadline") from None
    return found[::-1], max(after, behind(until))


async def _until(reader: Reader, after: Place) -> int:
    """The end of the next window: all, when nothing has changed in between."""
    newest = await reader.changes(type="Appointment", limit=1)
    if not newest or newest[0].t < after[0]:
        return reader.t
    return min(reader.t, after[0] + WINDOW)


async def letter_of(gateway: Gateway, hospital: Institution, told: Told) -> Letter | None:
    """The message that tells a version; None where it tells the hospital nothing new, or the
    booking is not one of the gateway's."""
    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        stored = await reader.vread("Appointment", told.id, told.version)
        if stored is None or stored.deleted:
            return None
        after = parse(stored.whole())
        before = await _before(reader, told)
        zone = hospital.zone or gateway.settings.zone
        now, then = standing_of(after, zone), standing_of(before, zone) if before else None
        if not (now.marks.channel or now.marks.booked_by or (then and then.marks.channel)):
            return None  # its own system announced it: it knows
        event = event_of(
            _status(then) if then else "",
            _status(now),
            moved=then is not None and _moved(then, now),
        )
        if not event:
            return None
        notice = await _notice(reader, told, event, (after, before or after), hospital)
    control = control_id(hospital.id, told, event)
    header = Header(control, instant(stored.updated))
    folder = f"{gateway.settings.mappings}/v2"
    try:
        raw, fault = write_schedule(notice, hospital, header, folder=folder), ""
    except GatewayError as error:
        raw, fault = b"", error.issues[0].diagnostics
    return Letter(told, event, control, now.patient, raw, fault)


async def _before(reader: Reader, told: Told) -> dict[str, Any] | None:
    if told.version < 2:
        return None
    stored = await reader.vread("Appointment", told.id, told.version - 1)
    return parse(stored.whole()) if stored is not None and not stored.deleted else None


def control_id(hospital: str, told: Told, event: str) -> str:
    """MSH-10 of at most 20 characters: the same for the same change, whoever sends it when."""
    parts = (hospital, told.id, str(told.version), event)
    return "G" + sha256("\x1f".join(parts).encode()).hexdigest()[:19].upper()


def _status(one: Standing) -> str:
    """The status as the hospital sees it: a hold is nobody's but the gateway's, until it waits for
    the hospital's word."""
    if one.status == "pending" and not one.marks.confirm_by:
        return "proposed"
    return one.status


def _moved(before: Standing, after: Standing) -> bool:
    return (before.slot, before.start, before.end) != (after.slot, after.start, after.end)


async def _notice(
    reader: Reader, told: Told, event: str, bodies: tuple[Json, Json], hospital: Institution
) -> Notice:
    """All that the message says, as it was at that commit."""
    after, before = bodies
    t, zone = told.place[0], hospital.zone
    standing = standing_of(after, zone)
    slot_id = standing.slot or standing_of(before, zone).slot
    slot = await _then(reader, "Slot", slot_id, t)
    name = str(((slot or {}).get("schedule") or {}).get("reference", "")).partition("/")[2]
    schedule = await _then(reader, "Schedule", name, t)
    patient = await _then(reader, "Patient", standing.patient, t) or {}
    number = await _number(reader, standing.patient, patient, hospital, t)
    return Notice(event, after, patient, schedule, slot, number, _order(after))


async def _then(reader: Reader, type: str, id: str, t: int) -> dict[str, Any] | None:
    """A resource as it was at a commit; as it is now where the log does not go back so far."""
    if not id:
        return None
    changes = await reader.changes(type=type, id=id, until_t=t, limit=1)
    stored: Stored | None = changes[0].stored if changes else await reader.read(type, id)
    return parse(stored.whole()) if stored is not None and not stored.deleted else None


async def _number(reader: Reader, id: str, patient: Json, hospital: Institution, t: int) -> str:
    """The person's number at the hospital: of this Patient, else of another of the person's."""
    if number := _own_number(patient, hospital):
        return number
    person = await reader.person(id, t) if id else None
    if person is None:
        return ""
    for other in await reader.person_records(person.homes or (person.home,)):
        record = await _then(reader, "Patient", other, t) if other != id else None
        if record and (number := _own_number(record, hospital)):
            return number
    return ""


def _own_number(patient: Json, hospital: Institution) -> str:
    system = hospital.system("patient")
    for one in patient.get("identifier") or ():
        if one.get("system") == system and one.get("value"):
            return str(one["value"])
    return ""


def _order(appointment: Json) -> str:
    """The number of the order that is examined, as far as the booking names it."""
    first: Json = next(iter(appointment.get("basedOn") or ()), {})
    number = (first.get("identifier") or {}).get("value")
    return str(number or str(first.get("reference", "")).rpartition("/")[2])
