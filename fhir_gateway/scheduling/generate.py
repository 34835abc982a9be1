"""Templates x calendar x horizon: the slots that are meant to be, as values. Pure.

Ids come from institution, resource and start, so that generating twice makes the same slots and a
slot keeps its id while its start is kept. Release periods lead to buckets: a slot's bucket follows
from its own start, whatever session it belongs to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import date, timedelta
from typing import Literal, NamedTuple
from zoneinfo import ZoneInfo

from fhir_gateway.mapping.ids import business_id
from fhir_gateway.scheduling.calendar import (
    Calendar,
    day_at,
    days_between,
    instant_at,
    kind_of,
    unknown_years,
)
from fhir_gateway.scheduling.template import Closure, Session, Supply, Template, session_on

Period = Literal["day", "week", "month"]
#: How long the release period is in which a template's slot of a day is counted.
PeriodOf = Callable[[Template, date], Period]


class PlannedSlot(NamedTuple):
    """A slot that is meant to be; `day` is that of its session, also after midnight."""

    id: str
    template: Template
    day: date
    start: int
    end: int
    capacity: int
    bucket: str
    schedule: str


class Finding(NamedTuple):
    """Something that whoever plans has to know, and that stops nothing."""

    rule: str
    said: str


class Plan(NamedTuple):
    """What a horizon is meant to hold, with the version of the calendar it was planned by. `only`
    are the days whose Slots it speaks of, where these are not all of the horizon."""

    supply: Supply
    first: date
    last: date
    calendar: str
    slots: tuple[PlannedSlot, ...]
    closed: tuple[tuple[PlannedSlot, Closure], ...]
    findings: tuple[Finding, ...]
    only: tuple[date, date] | None = None


def plan_supply(supply: Supply, calendar: Calendar, period_of: PeriodOf, first: date, last: date,
                zone: ZoneInfo) -> Plan:  # fmt: skip
    """Every slot that begins on these days, in order of start, without what is closed.

    What begins after midnight belongs to a session of the day before.
    """
    slots: list[PlannedSlot] = []
    closed: list[tuple[PlannedSlot, Closure]] = []
    begin, end = instant_at(first, 0, zone), instant_at(last + timedelta(days=1), 0, zone)
    for day in days_between(first - timedelta(days=1), last):
        kind = kind_of(calendar, day)
        for template in supply.templates:
            session = session_on(supply, template, kind)
            if session is None:
                continue
            for slot in _slots(supply, session, period_of, zone):
                if not begin <= slot.start < end:
                    continue
                closure = _closed(supply, slot, zone)
                if closure is None:
                    slots.append(slot)
                else:
                    closed.append((slot, closure))
    slots.sort(key=lambda one: (one.start, one.template.resource.id))
    findings = tuple(_findings(supply, calendar, first, last))
    return Plan(supply, first, last, calendar.version, tuple(slots), tuple(closed), findings)


def _slots(supply: Supply, session: Session, period_of: PeriodOf, zone: ZoneInfo
           ) -> Iterator[PlannedSlot]:  # fmt: skip
    template = session.template
    schedule = schedule_id(supply, template)
    for minutes in range(session.start, session.end, template.duration):
        start = instant_at(session.day, minutes, zone)
        end = instant_at(session.day, minutes + template.duration, zone)
        day = day_at(start, zone)
        yield PlannedSlot(
            slot_id(supply.site.id, template.resource.id, start), template, session.day, start, end,
            session.capacity, bucket_of(supply, template, day, period_of(template, day)), schedule,
        )  # fmt: skip


def slot_id(institution: str, resource: str, start: int) -> str:
    """The logical id of the Slot of a resource that begins at a moment (µs)."""
    return business_id(institution, "Slot", resource, str(start))


def schedule_id(supply: Supply, template: Template) -> str:
    """The logical id of the Schedule: what a resource offers in a department, under one master."""
    return business_id(
        supply.site.id, "Schedule", template.resource.id, template.department.id, template.master
    )


def bucket_of(supply: Supply, template: Template, day: date, period: Period) -> str:
    """What quotas of a slot of this day are counted in, as h-1|radiology-ct|2026-12-07."""
    return f"{supply.site.id}|{template.department.id}|{period_start(day, period)}"


def period_start(day: date, period: Period) -> date:
    """The first day of the release period in which a day lies; weeks begin on Monday."""
    if period == "month":
        return day.replace(day=1)
    return day - timedelta(days=day.weekday()) if period == "week" else day


def period_last(day: date, period: Period) -> date:
    """The last day of the release period in which a day lies."""
    first = period_start(day, period)
    if period == "month":
        return period_start(first + timedelta(days=31), period) - timedelta(days=1)
    return first + timedelta(days=6) if period == "week" else first


def _closed(supply: Supply, slot: PlannedSlot, zone: ZoneInfo) -> Closure | None:
    """The closure in which a slot lies, even in part."""
    for closure in supply.closures:
        if closure.department not in ("", slot.template.department.id):
            continue
        if closure.resource not in ("", slot.template.resource.id):
            continue
        # A slot after midnight belongs to the day on which it lies, and may touch the next.
        for day in {day_at(slot.start, zone), day_at(slot.end - 1, zone)}:
            if closure.first <= day <= closure.last and (
                slot.start < instant_at(day, closure.end, zone)
                and slot.end > instant_at(day, closure.start, zone)
            ):
                return closure
    return None


def _findings(supply: Supply, calendar: Calendar, first: date, last: date) -> Iterator[Finding]:
    for year in unknown_years(calendar, first, last):
        yield Finding(
            "calendar-unknown",
            f"holidays.csv ({calendar.version}) has no notice for {year}: its days are planned by "
            "weekday alone, and no holiday is kept free. Add the year's rows when the notice is "
            "out, and plan again",
        )
    for day in days_between(first, last):
        found = kind_of(calendar, day)
        lists = [
            template.id for template in supply.templates
            if len(template.days) and template.days[0] not in ("workdays", "daily")
        ]  # fmt: skip
        if found.kind == "makeup" and day not in supply.makeup and lists:
            yield Finding("makeup-unsaid", f"{day} ({found.name}) is a make-up workday and counts "
                          "as no weekday: only templates of workdays and daily hold. [[makeup]] "
                          "can say as which weekday it counts")  # fmt: skip
