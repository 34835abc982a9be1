"""The file of an institution's supply, read and linted: every fault with its line and rule.

profiles/scheduling/templates/*.toml, one for each institution. What the tables and keys mean is
told in profiles/scheduling/README.md; what a fault says names what would work instead.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import date
from pathlib import Path
from typing import Any, cast

from fhir_gateway.scheduling.calendar import Calendar
from fhir_gateway.scheduling.extensions import MASTERS
from fhir_gateway.scheduling.files import Page, day_of, read_page
from fhir_gateway.scheduling.template import (
    DAY_RULES,
    WEEKDAYS,
    Class,
    Department,
    Kind,
    Requirements,
    Resource,
    Service,
    Site,
    Supply,
    Template,
)
from fhir_gateway.scheduling.template_days import changes_of, closures_of, makeup_of, overlaps
from fhir_gateway.security.institution import level_of
from fhir_gateway.settings import CANONICAL
from fhir_gateway.terminology.local_map import LOCAL_SUFFIX

#: The item of a catalogue by its code: (system, display, modality); None for none.
Items = Callable[[str], tuple[str, str, str] | None]

_TABLES = ("version", "institution", "departments", "resources", "sessions", "templates",
           "closures", "changes", "makeup")  # fmt: skip
_TEMPLATE = (
    "id", "resource", "department", "session", "from", "to", "overnight", "days", "on_holidays",
    "dates", "without", "class", "duration", "capacity", "items", "services", "modality", "master",
    "valid_from", "valid_to", "requires",
)  # fmt: skip
_REQUIRES = ("preparation", "fasting_hours", "contrast", "sex", "min_age", "max_age", "device")
_ID = re.compile(r"[A-Za-z0-9.-]{1,64}")
_REFERENCE = re.compile(
    r"(Practitioner|PractitionerRole|Device|Location|HealthcareService)/[A-Za-z0-9.-]{1,64}"
)
_NOBODY = Site("", "", "", 0, False, False, "")
Found = dict[str, tuple[int, int]]


def load_supply(path: Path, items: Items, calendar: Calendar) -> Supply:
    """The supply in a file. Raises Invalid with every fault of it."""
    page, supply = read_supply(path, items, calendar)
    page.check()
    return supply


def read_supply(path: Path, items: Items, calendar: Calendar) -> tuple[Page, Supply]:
    """The supply in a file and the page with its faults: to be used only when it has none."""
    page = read_page(path)
    if page.faults:
        return page, Supply(page.name, "", _NOBODY, {}, (), (), (), {})
    page.unknown("", page.document, _TABLES)
    version = page.text("", page.document, "version")
    site = _site(page)
    departments = _departments(page, site)
    resources = _resources(page)
    sessions = _sessions(page)
    templates: list[Template] = []
    for place, table in page.tables("templates"):
        found = _template(page, place, table, departments, resources, sessions, items)
        if found is not None and any(one.id == found.id for one in templates):
            page.fault(f"{place}.id", "template-twice", f"the template {found.id} stands twice")
        elif found is not None:
            templates.append(found)
    supply = Supply(
        page.name, version, site, departments, tuple(templates),
        closures_of(page, departments, resources), changes_of(page, templates),
        makeup_of(page, calendar),
    )  # fmt: skip
    if not page.faults:
        overlaps(page, supply, calendar)
    return page, supply


def _site(page: Page) -> Site:
    table = page.document.get("institution", {})
    if not isinstance(table, dict) or not table:
        page.fault("institution", "site", "[institution] must say whose supply this is")
        return _NOBODY
    known = ("id", "name", "level", "municipal", "consortium_core", "district")
    page.unknown("institution", table, known)
    level = level_of(page.text("institution", table, "level"))
    if level is None:
        page.fault("institution.level", "site-level", "level must be a grade, as 3A or 社区")
    return Site(
        _id(page, "institution", table, "id"), page.text("institution", table, "name"),
        level.code if level else "", level.rank if level else 0,
        bool(page.flag("institution", table, "municipal")),
        bool(page.flag("institution", table, "consortium_core")),
        page.text("institution", table, "district", need=False),
    )  # fmt: skip


def _departments(page: Page, site: Site) -> dict[str, Department]:
    found: dict[str, Department] = {}
    for place, table in page.tables("departments"):
        page.unknown(place, table, ("id", "service", "kind", "name_zh", "name_en", "district"))
        id = _id(page, place, table, "id")
        if id in found:
            page.fault(f"{place}.id", "department-twice", f"the department {id} stands twice")
        kind = cast(Kind, page.word(place, table, "kind", ("visit", "exam")))
        found[id] = Department(
            id, _id(page, place, table, "service"), kind,
            page.text(place, table, "name_zh"), page.text(place, table, "name_en"),
            page.text(place, table, "district", need=False) or site.district,
        )  # fmt: skip
    return found


def _resources(page: Page) -> dict[str, Resource]:
    found: dict[str, Resource] = {}
    for place, table in page.tables("resources"):
        page.unknown(place, table, ("id", "references", "name"))
        id = _id(page, place, table, "id")
        if id in found:
            page.fault(f"{place}.id", "resource-twice", f"the resource {id} stands twice")
        references = table.get("references", [])
        if not isinstance(references, list) or not all(
            isinstance(one, str) and _REFERENCE.fullmatch(one) for one in references
        ):
            page.fault(f"{place}.references", "resource-reference",
                       'references must be a list such as ["Practitioner/p-1"]')  # fmt: skip
            references = []
        found[id] = Resource(id, tuple(references), page.text(place, table, "name"))
    return found


def _sessions(page: Page) -> Found:
    found: Found = {}
    for place, table in page.tables("sessions"):
        page.unknown(place, table, ("id", "from", "to", "overnight"))
        times = _times(page, place, table)
        if times is not None:
            found[_id(page, place, table, "id")] = times
    return found


def _times(page: Page, place: str, table: Mapping[str, Any]) -> tuple[int, int] | None:
    start, end = page.clock(place, table, "from"), page.clock(place, table, "to")
    if start is None or end is None:
        return None
    overnight = page.flag(place, table, "overnight")
    if start >= end and not overnight:
        page.fault(f"{place}.to", "session-order", "to must be later than from; a session that "
                   "ends on the next day says overnight = true")  # fmt: skip
        return None
    if overnight and end > start:
        page.fault(f"{place}.overnight", "session-order",
                   "this session ends on the day it begins: leave overnight out")  # fmt: skip
        return None
    return start, end + (1440 if overnight else 0)


def _template(page: Page, place: str, table: Mapping[str, Any],
              departments: Mapping[str, Department], resources: Mapping[str, Resource],
              sessions: Found, items: Items) -> Template | None:  # fmt: skip
    before = len(page.faults)
    page.unknown(place, table, _TEMPLATE)
    department = _named(page, place, table, "department", departments)
    resource = _named(page, place, table, "resource", resources)
    times = (_times(page, place, table) if "from" in table or "to" in table
             else _named(page, place, table, "session", sessions))  # fmt: skip
    days, dates, without = _days(page, place, table)
    since = page.day(place, table, "valid_from", need=True)
    until = page.day(place, table, "valid_to")
    if since and until and until < since:
        page.fault(f"{place}.valid_to", "template-order",
                   f"valid_to {until} lies before valid_from {since}")  # fmt: skip
    duration = page.number(place, table, "duration", least=1, most=1440)
    capacity = _capacity(page, place, table)
    services, modality = _services(page, place, table, department, items)
    if times and not len(page.faults) > before:
        _divides(page, place, times, duration)
    requires = _requires(page, place, table)
    id = _id(page, place, table, "id")
    kind = cast(Class, page.word(place, table, "class", ("expert", "ordinary"), "ordinary"))
    master = page.word(place, table, "master", MASTERS, "gateway")
    holidays = bool(page.flag(place, table, "on_holidays"))
    if len(page.faults) > before or not (department and resource and times and since):
        return None
    return Template(
        id, page.line(place), resource, department, times[0], times[1], days, holidays, dates,
        without, kind, duration, capacity, services, modality, master,
        since, until, requires,
    )  # fmt: skip


def _named(page: Page, place: str, table: Mapping[str, Any], key: str,
           known: Mapping[str, Any]) -> Any:  # fmt: skip
    name = page.text(place, table, key)
    if name and name not in known:
        page.fault(f"{place}.{key}", f"{key}-unknown", f"there is no {key} {name} in this file; "
                   f"there are {', '.join(sorted(known)) or 'none'}")  # fmt: skip
    return known.get(name)


def _days(page: Page, place: str, table: Mapping[str, Any]
          ) -> tuple[tuple[str, ...], tuple[date, ...], tuple[date, ...]]:  # fmt: skip
    days = table.get("days", [])
    days = [days] if isinstance(days, str) else days
    sound = isinstance(days, list) and (
        set(map(str, days)) <= set(WEEKDAYS) or (len(days) == 1 and days[0] in DAY_RULES)
    )
    if not sound:
        page.fault(f"{place}.days", "template-days", f"days is one of {', '.join(DAY_RULES)} or a "
                   f"list of {', '.join(WEEKDAYS)}")  # fmt: skip
        days = []
    dates, without = (_dates(page, place, table, key) for key in ("dates", "without"))
    if sound and not days and not dates:
        page.fault(place, "template-days", "days or dates must say when this is held")
    return tuple(dict.fromkeys(days)), dates, without


def _dates(page: Page, place: str, table: Mapping[str, Any], key: str) -> tuple[date, ...]:
    values = table.get(key, [])
    days = [day_of(value) for value in values] if isinstance(values, list) else [None]
    if None in days:
        page.fault(f"{place}.{key}", "template-dates",
                   f"{key} must be a list of days, as [2026-12-24]")  # fmt: skip
    return tuple(day for day in days if day is not None)


def _capacity(page: Page, place: str, table: Mapping[str, Any]) -> int:
    if table.get("capacity") == 0:
        page.fault(f"{place}.capacity", "template-capacity", "a slot that takes nobody is none: "
                   "leave the template out, or close the days with [[closures]]")  # fmt: skip
        return 1
    return page.number(place, table, "capacity", least=1, most=500, default=1)


def _divides(page: Page, place: str, times: tuple[int, int], duration: int) -> None:
    length = times[1] - times[0]
    if length % duration == 0:
        return
    near = sorted((n for n in range(1, length + 1) if length % n == 0),
                  key=lambda n: (abs(n - duration), n))[:3]  # fmt: skip
    page.fault(f"{place}.duration", "template-duration",
               f"{length} minutes are no whole number of slots of {duration}; "
               f"{', '.join(map(str, sorted(near)))} would be")  # fmt: skip


def _services(page: Page, place: str, table: Mapping[str, Any], department: Department | None,
              items: Items) -> tuple[tuple[Service, ...], str]:  # fmt: skip
    services: list[Service] = []
    modalities: list[str] = []
    codes, own = table.get("items", []), table.get("services", [])
    for code in codes if isinstance(codes, list) else []:
        found = items(code) if isinstance(code, str) else None
        if found is None:
            page.fault(f"{place}.items", "item-unknown", f"{code} is no item of the catalogue; "
                       "what it does not hold is named under services")  # fmt: skip
        else:
            services.append(Service(found[0], code, found[1]))
            modalities.append(found[2])
    local = _local_system(page)
    for name in own if isinstance(own, list) else []:
        code, _, display = str(name).partition(" ")
        services.append(Service(local, code, display or code))
    said = page.text(place, table, "modality", need=False)
    several = sorted({one for one in (*modalities, said) if one})
    if len(several) > 1:
        page.fault(f"{place}.modality", "template-modality",
                   f"one template is of one modality, this of {', '.join(several)}")  # fmt: skip
    if not isinstance(codes, list) or not isinstance(own, list) or not (codes or own):
        page.fault(place, "template-service", 'items (["I001"]) or services (["code name"]) must '
                   "say what is done")  # fmt: skip
    elif department is not None and department.kind == "exam" and services and not several:
        page.fault(place, "template-modality", "an examination without item of the catalogue says "
                   'its modality, as modality = "ES"')  # fmt: skip
    return tuple(services), several[0] if several else ""


def _local_system(page: Page) -> str:
    """The code system of the institution's own codes, as its messages have it."""
    site = page.document.get("institution")
    id = site.get("id", "") if isinstance(site, dict) else ""
    return f"{CANONICAL}/CodeSystem/{id}{LOCAL_SUFFIX}"


def _requires(page: Page, place: str, table: Mapping[str, Any]) -> Requirements:
    said = table.get("requires", {})
    place = f"{place}.requires"
    if not isinstance(said, dict):
        page.fault(place, "file-shape", "requires must be a table, as { fasting_hours = 8 }")
        return Requirements()
    page.unknown(place, said, _REQUIRES)
    ages = [
        page.number(place, said, key, most=130) if key in said else None
        for key in ("min_age", "max_age")
    ]
    if ages[0] is not None and ages[1] is not None and ages[0] > ages[1]:
        page.fault(f"{place}.max_age", "requires-age", "max_age must not be less than min_age")
    return Requirements(
        page.text(place, said, "preparation", need=False),
        page.number(place, said, "fasting_hours", most=48) if "fasting_hours" in said else None,
        page.flag(place, said, "contrast"),
        page.word(place, said, "sex", ("", "male", "female")), ages[0], ages[1],
        page.text(place, said, "device", need=False),
    )  # fmt: skip


def _id(page: Page, place: str, table: Mapping[str, Any], key: str) -> str:
    text = page.text(place, table, key)
    if text and not _ID.fullmatch(text):
        page.fault(f"{place}.{key}", "file-id",
                   f"{key} must be up to 64 letters, digits, - and .")  # fmt: skip
    return text
