"""What a file of supply says of single days: closures, changes, make-up days; and overlaps."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, timedelta
from typing import Any

from fhir_gateway.scheduling.calendar import Calendar, days_between, kind_of
from fhir_gateway.scheduling.files import Page, clock_of
from fhir_gateway.scheduling.template import (
    WEEKDAYS,
    Change,
    Closure,
    Session,
    Supply,
    Template,
    session_on,
)

#: How many days of a template without end are looked at for overlaps: every rule comes round.
_LOOKED_AT = 400


def closures_of(page: Page, departments: Mapping[str, Any], resources: Mapping[str, Any]
                ) -> tuple[Closure, ...]:  # fmt: skip
    """The closures of a file: whole days, or part of each."""
    found = []
    for place, table in page.tables("closures"):
        page.unknown(place, table, ("first", "last", "from", "to", "department", "resource",
                                    "reason"))  # fmt: skip
        for key, known in (("department", departments), ("resource", resources)):
            name = page.text(place, table, key, need=False)
            if name and name not in known:
                page.fault(f"{place}.{key}", f"{key}-unknown", f"there is no {key} {name} here")
        first, last = _stretch(page, place, table)
        start = page.clock(place, table, "from") if "from" in table else 0
        end = page.clock(place, table, "to") if "to" in table else 1440
        if start is not None and end is not None and start >= end:
            page.fault(f"{place}.to", "closure-order", "to must be later than from")
        if first and last and start is not None and end is not None:
            found.append(Closure(
                page.line(place), str(table.get("department", "")),
                str(table.get("resource", "")), first, last, start, end,
                page.text(place, table, "reason"),
            ))  # fmt: skip
    return tuple(found)


def changes_of(page: Page, templates: Sequence[Template]) -> tuple[Change, ...]:
    """The changes of a file: another session or capacity on some days."""
    known = {template.id: template for template in templates}
    found = []
    for place, table in page.tables("changes"):
        page.unknown(place, table, ("template", "first", "last", "from", "to", "capacity",
                                    "reason"))  # fmt: skip
        name = page.text(place, table, "template")
        template = known.get(name)
        if name and template is None:
            page.fault(f"{place}.template", "template-unknown",
                       f"there is no sound template {name} in this file")  # fmt: skip
        first, last = _stretch(page, place, table)
        start = page.clock(place, table, "from") if "from" in table else None
        end = page.clock(place, table, "to") if "to" in table else None
        capacity = (page.number(place, table, "capacity", least=1, most=500)
                    if "capacity" in table else None)  # fmt: skip
        if start is None and end is None and capacity is None:
            page.fault(place, "change-empty", "from, to or capacity must say what is other")
        if template is not None:
            _fits(page, place, template, start, end)
        if first and last:
            found.append(Change(page.line(place), name, first, last, start, end, capacity,
                                page.text(place, table, "reason")))  # fmt: skip
    return tuple(found)


def _fits(page: Page, place: str, template: Template, start: int | None, end: int | None) -> None:
    length = (template.end if end is None else end) - (template.start if start is None else start)
    if length <= 0:
        page.fault(f"{place}.to", "session-order", "the changed session ends before it begins")
    elif length % template.duration:
        page.fault(f"{place}.to", "template-duration", f"{length} minutes are no whole number of "
                   f"slots of {template.duration}")  # fmt: skip


def makeup_of(page: Page, calendar: Calendar) -> dict[date, str]:
    """As which weekday make-up workdays count, by day."""
    found: dict[date, str] = {}
    for place, table in page.tables("makeup"):
        page.unknown(place, table, ("day", "counts_as"))
        day = page.day(place, table, "day", need=True)
        weekday = page.word(place, table, "counts_as", WEEKDAYS[:5])
        if day and kind_of(calendar, day).kind != "makeup":
            page.fault(f"{place}.day", "makeup-day",
                       f"{day} is no make-up workday by {calendar.version}")  # fmt: skip
        elif day:
            found[day] = weekday
    return found


def _stretch(page: Page, place: str, table: Mapping[str, Any]) -> tuple[date | None, date | None]:
    first = page.day(place, table, "first", need=True)
    last = page.day(place, table, "last") or first
    if first and last and last < first:
        page.fault(f"{place}.last", "file-order", f"last {last} lies before first {first}")
        return None, None
    return first, last


def overlaps(page: Page, supply: Supply, calendar: Calendar) -> None:
    """Notes each pair of templates by which one resource would be at two places at once."""
    by_resource: dict[str, list[Template]] = {}
    for template in supply.templates:
        by_resource.setdefault(template.resource.id, []).append(template)
    told: set[tuple[str, str]] = set()
    for resource, templates in by_resource.items():
        for one, other in _meeting(_sessions(supply, calendar, templates)):
            pair = (one.template.id, other.template.id)
            if pair in told or pair[::-1] in told:
                continue
            told.add(pair)
            page.fault(
                f"templates.{supply.templates.index(other.template)}", "template-overlap",
                f"{resource} is in {pair[0]} from {_when(one)} and in {pair[1]} from {_when(other)}"
                ": move one of the two, end one before the other begins, or name another resource",
            )  # fmt: skip


def _when(session: Session) -> str:
    return f"{session.day} {clock_of(session.start)} to {clock_of(session.end % 1440)}"


def _sessions(supply: Supply, calendar: Calendar, templates: Iterable[Template]
              ) -> list[Session]:  # fmt: skip
    found: list[Session] = []
    for template in templates:
        last = template.valid_from + timedelta(days=_LOOKED_AT)
        # Templates that begin at other times are compared in the year in which both hold.
        last = max(last, *(one.valid_from + timedelta(days=_LOOKED_AT) for one in templates))
        for day in days_between(template.valid_from, min(last, template.valid_to or last)):
            session = session_on(supply, template, kind_of(calendar, day))
            if session is not None:
                found.append(session)
    return sorted(found, key=_begin)


def _begin(session: Session) -> int:
    return session.day.toordinal() * 1440 + session.start


def _meeting(sessions: Sequence[Session]) -> Iterator[tuple[Session, Session]]:
    """Pairs of sessions, in order of their beginning, that meet."""
    longest: Session | None = None
    for session in sessions:
        if longest is not None and _begin(session) < _end(longest):
            yield longest, session
        if longest is None or _end(session) > _end(longest):
            longest = session


def _end(session: Session) -> int:
    return session.day.toordinal() * 1440 + session.end
