"""The nightly comparison with a hospital: its list against what is stored, and Tasks for people.

Compared are the Schedules that the list names, on the days that it covers. Every difference of a
booking is a Task for the hospital, those of slots one for each kind, Schedule and day; a difference
that is gone closes its Task. The same list twice stores nothing twice. Persons are met by keyed
hashes: neither Tasks nor logs nor the report name one. docs/pools-operation.md
"""

from __future__ import annotations

import hmac
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from fhir_gateway.audit.events_parts import event, named_entity, operation_head
from fhir_gateway.context import Gateway
from fhir_gateway.errors import Invalid, NotFound, PreconditionFailed
from fhir_gateway.fhir.home import institution_home
from fhir_gateway.fhir.keys import key64
from fhir_gateway.fhir.wire import parse
from fhir_gateway.interactions.audit import call_of, entry
from fhir_gateway.interactions.institutions import institutions_at
from fhir_gateway.scheduling.appointment import Standing, standing_of
from fhir_gateway.scheduling.calendar import day_at, instant_at
from fhir_gateway.scheduling.notice import (
    DIFFERENCE,
    OPEN_DIFFERENCE,
    Notice,
    put_of_notice,
    put_of_task,
)
from fhir_gateway.scheduling.pool_list import (
    BOOKING_KINDS,
    Difference,
    OurBooking,
    OurSlot,
    Row,
    compare,
    read_list,
)
from fhir_gateway.security.actor import SYSTEM_ACCESS, Actor
from fhir_gateway.store.changes import ChangeSet, Put, VersionIs
from fhir_gateway.store.claim_rows import EXCUSED, FULFILLED, HELD, NOSHOW
from fhir_gateway.store.missed_sql import COMING, Taken, seats_listed, slots_listed
from fhir_gateway.store.store import Reader, Stored

_PAGE = 100

#: Bookings that a hospital's list may have: also those of this day that are over by the evening.
_STATES = (*COMING, FULFILLED, NOSHOW, EXCUSED)

#: What a difference says to whoever looks at it.
WORDS: Mapping[str, str] = {
    "slot-missing-here": "医院清单有、平台没有的号源 (slots of the hospital that are not here)",
    "slot-missing-there": "平台有、医院清单没有的号源 (slots here that the hospital does not list)",
    "slot-end": "号源结束时间不一致 (slots with another end)",
    "slot-closed-there": "医院已停用、平台仍在售的号源 (slots that the hospital has closed)",
    "booking-missing-here": "医院清单有、平台没有的预约 (a booking of theirs that is not here)",
    "booking-missing-there": "平台有、医院清单没有的预约 (a booking here that the hospital lacks)",
    "booking-time": "预约时间不一致 (a booking at another time)",
    "booking-person": "预约人不一致 (a booking of another person)",
    "booking-cancelled-there": "医院已取消、平台仍有效的预约 (a booking that they cancelled)",
}


class Report(NamedTuple):
    """What a comparison found: rows and bookings compared, differences, and Tasks by outcome
    (opened, open-still, closed)."""

    rows: int
    slots: int
    bookings: int
    differences: tuple[Difference, ...]
    tasks: Mapping[str, int]
    first: date
    last: date


async def reconcile(
    gateway: Gateway, actor: Actor, institution: str, content: bytes, *, dry_run: bool = False
) -> Report:
    """Compares a list and stores the Tasks. Raises NotFound for an unknown institution, Invalid
    and Unprocessable for a list that cannot be read or names foreign Schedules."""
    zone = ZoneInfo(gateway.settings.zone)
    rows = read_list(content, zone.key, lambda text: _hashed(gateway, text))
    if not rows:
        raise Invalid("The list has no rows: a day without any is told by its slots",
                      rule="list-empty")  # fmt: skip
    first, last = (day_at(of(one.start for one in rows), zone) for of in (min, max))
    since, until = instant_at(first, 0, zone), instant_at(last + timedelta(days=1), 0, zone)
    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        if institution not in await institutions_at(gateway, reader):
            raise NotFound(f"No institution {institution} is registered", rule="institution")
        slots, bookings = await _ours(gateway, reader, institution, rows, since, until)
    found = compare(rows, slots, bookings)
    tasks: Counter[str] = Counter()
    if not dry_run:
        tasks = await _tell(gateway, institution, found, {one.schedule for one in rows},
                            (first, last))  # fmt: skip
        await _audit(gateway, actor, institution, found, tasks)
    return Report(len(rows), len(slots), len(bookings), tuple(found), tasks, first, last)


def _hashed(gateway: Gateway, text: str) -> bytes:
    """A person's number as it is compared: the last part of "system|value", without blanks."""
    value = "".join(text.rpartition("|")[2].split()).upper()
    return hmac.digest(gateway.store.index_key, b"pool-list\0" + value.encode(), "sha256")


async def _ours(
    gateway: Gateway, reader: Reader, institution: str, rows: Sequence[Row], since: int, until: int
) -> tuple[list[OurSlot], list[OurBooking]]:
    home, named = institution_home(institution), {one.schedule for one in rows}
    listed = await reader.steps(lambda _: slots_listed(home, since, until))
    taken = await reader.steps(lambda _: seats_listed(home, since, until, _STATES))
    await _check_schedules(reader, home, named - {one.schedule for one in listed})
    slots = [
        OurSlot(one.id, one.schedule, one.start, one.end, bool(one.open))
        for one in listed if one.schedule in named
    ]  # fmt: skip
    found = [await _booking(gateway, reader, one) for one in taken if one.schedule in named]
    return slots, [one for one in found if one is not None]


async def _check_schedules(reader: Reader, home: int, names: set[str]) -> None:
    """Raises Invalid for Schedules that are not the institution's."""
    foreign = [one for one in sorted(names) if await reader.home("Schedule", one) != home]
    if foreign:
        raise Invalid(
            f"Not a Schedule of this institution here: {', '.join(foreign[:10])}. The column "
            "schedule has the id of the Schedule at the gateway",
            expression="schedule",
            rule="list-schedule",
        )


async def _booking(gateway: Gateway, reader: Reader, taken: Taken) -> OurBooking | None:
    """A booking as it is compared; None for a hold, which no hospital is told of."""
    stored = await reader.read("Appointment", taken.appointment)
    if stored is None or stored.deleted:
        return None
    appointment = parse(stored.whole())
    standing = standing_of(appointment, gateway.settings.zone)
    if taken.state == HELD and not standing.marks.confirm_by:
        return None
    numbers = {one.get("value", "") for one in appointment.get("identifier") or ()}
    person = await reader.read("Patient", standing.patient)
    resource: Any = parse(person.whole()) if person is not None and not person.deleted else {}
    persons = {
        _hashed(gateway, str(one["value"]))
        for one in resource.get("identifier") or () if one.get("value")
    }  # fmt: skip
    return OurBooking(
        taken.appointment, taken.schedule, taken.start,
        frozenset({taken.appointment, *numbers} - {""}), frozenset(persons),
        taken.state == HELD, taken.state not in COMING,
    )  # fmt: skip


# -- what people are told -------------------------------------------------------------------------


async def _tell(
    gateway: Gateway, institution: str, found: Sequence[Difference], schedules: set[str],
    days: tuple[date, date],
) -> Counter[str]:  # fmt: skip
    """Opens a Task for what is new, leaves those that are open, closes those that are gone."""
    zone, counts = ZoneInfo(gateway.settings.zone), Counter[str]()
    groups: dict[str, Notice] = {}
    for one in found:
        notice = _notice(gateway, institution, one, zone)
        groups.setdefault(notice.id, notice)
    for id, stored in (await _open(gateway, institution)).items():
        if id in groups:
            counts["open-still"] += 1
            del groups[id]
        elif _is_within(parse(stored.whole()), schedules, days):
            task = {**parse(stored.whole()), "status": "completed"}
            counts["closed"] += await _store(gateway, stored, put_of_task(
                gateway, task, institution))  # fmt: skip
    for notice in groups.values():
        async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
            before = await reader.read("Task", notice.id)
            said = await _standing(gateway, reader, notice.about)
        named = notice._replace(patient=said.patient, labels=said.labels) if said else notice
        put = put_of_notice(gateway, named)
        counts["opened"] += await _store(gateway, before, put)
    return counts


def _notice(gateway: Gateway, institution: str, one: Difference, zone: ZoneInfo) -> Notice:
    day = str(day_at(one.start, zone))
    is_booking = one.kind in BOOKING_KINDS
    key = (one.about, one.mark) if is_booking else ()
    return Notice(
        DIFFERENCE, (one.kind, one.schedule, day, *key),
        one.about if is_booking else f"Schedule/{one.schedule}", institution, WORDS[one.kind],
        gateway.clock.now(), detail=one.kind, priority="urgent" if is_booking else "routine",
        group=f"{one.schedule}|{day}",
    )  # fmt: skip


async def _standing(gateway: Gateway, reader: Reader, about: str) -> Standing | None:
    """What an Appointment says: its Task lies in the home of its person. None for another one."""
    type, _, id = about.partition("/")
    stored = await reader.read(type, id) if type == "Appointment" else None
    if stored is None or stored.deleted:
        return None
    return standing_of(parse(stored.whole()), gateway.settings.zone)


async def _open(gateway: Gateway, institution: str) -> dict[str, Stored]:
    """The Tasks on differences of an institution that nobody has closed."""
    found: dict[str, Stored] = {}
    row, after = (OPEN_DIFFERENCE, key64(f"Organization/{institution}")), None
    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        while groups := await reader.listed("Task", row, after=after, limit=_PAGE, examples=_PAGE):
            for group in groups:
                found |= {one.id: one for one in group.examples.values()}
            after = groups[-1].value
    return found


def _is_within(task: Mapping[str, Any], schedules: set[str], days: tuple[date, date]) -> bool:
    group = str((task.get("groupIdentifier") or {}).get("value", ""))
    schedule, _, day = group.rpartition("|")
    return schedule in schedules and str(days[0]) <= day <= str(days[1])


async def _store(gateway: Gateway, before: Stored | None, put: Put) -> int:
    """One Task; 0 when another run was faster."""
    version = before.version if before is not None else 0
    try:
        await gateway.store.commit(ChangeSet(
            id=gateway.random(16), guards=[VersionIs("Task", put.id, version)], puts=[put],
        ))  # fmt: skip
    except PreconditionFailed:
        return 0
    return 1


async def _audit(
    gateway: Gateway, actor: Actor, institution: str, found: Sequence[Difference],
    tasks: Counter[str],
) -> None:  # fmt: skip
    """That persons were compared, with counts alone."""
    counts = Counter(one.kind for one in found)
    details = [(kind, str(count)) for kind, count in sorted(counts.items())]
    told = event(
        operation_head("reconcile-pool"), call_of(gateway, actor), "0", "write",
        (named_entity(f"Organization/{institution}", details),),
        f"{len(found)} differences, {tasks['opened']} tasks opened, {tasks['closed']} closed",
    )  # fmt: skip
    told.institution = institution
    await gateway.store.commit(ChangeSet(id=gateway.random(16), journal=[entry(gateway, told)]))
