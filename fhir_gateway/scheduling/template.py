"""What an institution offers: templates of sessions, closures and changes, as values.

A template is resource x session x class x duration x capacity, on some days, for a time. Read by
`template_file`, turned into slots by `generate`; profiles/scheduling/README.md tells the columns.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Literal, NamedTuple

from fhir_gateway.scheduling.calendar import Day

Kind = Literal["visit", "exam"]
Class = Literal["expert", "ordinary"]

WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
#: Rules of days beside a list of weekdays.
DAY_RULES = ("workdays", "weekends", "holidays", "daily")


class Site(NamedTuple):
    """The institution, with what decides by which table its quotas are counted."""

    id: str
    name: str
    level: str  # code of the grade, as 3A
    rank: int
    municipal: bool
    core: bool  # of a consortium
    district: str


class Department(NamedTuple):
    """What quotas are counted for; `service` is the id of its HealthcareService."""

    id: str
    service: str
    kind: Kind
    name_zh: str
    name_en: str
    district: str


class Resource(NamedTuple):
    """Who or what is booked: a doctor, a machine, a room."""

    id: str
    references: tuple[str, ...]
    name: str


class Service(NamedTuple):
    """What is done: an item of the catalogue, or a service of the institution's own."""

    system: str
    code: str
    display: str


class Requirements(NamedTuple):
    """What an examination asks of a patient; None and "" for what it does not."""

    preparation: str = ""
    fasting: int | None = None
    contrast: bool | None = None
    sex: str = ""
    min_age: int | None = None
    max_age: int | None = None
    device: str = ""  # the device that it is made with, in words


class Template(NamedTuple):
    """One session as it comes again. Times are minutes since midnight; `end` may lie after 1440."""

    id: str
    line: int
    resource: Resource
    department: Department
    start: int
    end: int
    days: tuple[str, ...]  # one rule of DAY_RULES, or weekdays; () for `dates` alone
    on_holidays: bool
    dates: tuple[date, ...]
    without: tuple[date, ...]
    slot_class: Class
    duration: int
    capacity: int
    services: tuple[Service, ...]
    modality: str
    master: str
    valid_from: date
    valid_to: date | None
    requires: Requirements


class Closure(NamedTuple):
    """A stretch in which nothing is offered: everything, a department, or one resource."""

    line: int
    department: str
    resource: str
    first: date
    last: date
    start: int
    end: int
    reason: str


class Change(NamedTuple):
    """What is other than the template on some days: its session, its capacity, or both."""

    line: int
    template: str
    first: date
    last: date
    start: int | None
    end: int | None
    capacity: int | None
    reason: str


class Supply(NamedTuple):
    """All that one institution offers. `makeup` says as which weekday a make-up workday counts."""

    file: str
    version: str
    site: Site
    departments: Mapping[str, Department]
    templates: tuple[Template, ...]
    closures: tuple[Closure, ...]
    changes: tuple[Change, ...]
    makeup: Mapping[date, str]


class Session(NamedTuple):
    """A template on one day, after changes."""

    template: Template
    day: date
    start: int
    end: int
    capacity: int


def holds(template: Template, day: Day, makeup: Mapping[date, str]) -> bool:
    """Whether a template holds on a day, by its dates, then by its rule.

    A make-up workday is a workday, and no weekday unless `makeup` says as which it counts. On a
    public holiday only `holidays`, `daily` and weekdays with `on_holidays` hold.
    """
    if day.day < template.valid_from or (template.valid_to and day.day > template.valid_to):
        return False
    if day.day in template.dates:
        return True
    if day.day in template.without or not template.days:
        return False
    rule = template.days[0]
    if rule in DAY_RULES:
        kinds = {
            "workdays": ("workday", "makeup"), "weekends": ("weekend",),
            "holidays": ("holiday",), "daily": ("workday", "makeup", "weekend", "holiday"),
        }  # fmt: skip
        return day.kind in kinds[rule]
    if day.kind == "holiday" and not template.on_holidays:
        return False
    counts_as = makeup.get(day.day, "") if day.kind == "makeup" else WEEKDAYS[day.day.weekday()]
    return counts_as in template.days


def session_on(supply: Supply, template: Template, day: Day) -> Session | None:
    """The session of a template on a day, as changes leave it; None where it does not hold."""
    if not holds(template, day, supply.makeup):
        return None
    start, end, capacity = template.start, template.end, template.capacity
    for change in supply.changes:
        if change.template == template.id and change.first <= day.day <= change.last:
            start = start if change.start is None else change.start
            end = end if change.end is None else change.end
            capacity = capacity if change.capacity is None else change.capacity
    return Session(template, day.day, start, end, capacity)
