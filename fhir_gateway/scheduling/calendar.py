"""Days: weekdays, China's public holidays and make-up workdays, and Shanghai days as instants.

Holidays are data (profiles/scheduling/holidays.csv), one row for each stretch of a yearly notice
of the General Office of the State Council. A year without rows is *not known*: its days are judged
by their weekday alone, and whoever plans with them is told. Nothing is computed from the moon.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Literal, NamedTuple
from zoneinfo import ZoneInfo

from fhir_gateway.errors import Invalid
from fhir_gateway.terminology.table import Table

Kind = Literal["workday", "weekend", "holiday", "makeup"]

_COLUMNS = ("year", "first", "last", "kind", "name", "source")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_LONGEST = 31


class Day(NamedTuple):
    """A day as it is planned: `known` is False where no notice of its year is at hand."""

    day: date
    kind: Kind
    name: str
    known: bool


class Notice(NamedTuple):
    """What a notice says of one day."""

    kind: Kind
    name: str
    source: str


class Calendar(NamedTuple):
    """The notices that are known. `version` names the newest year and the file's content."""

    version: str
    years: frozenset[int]
    days: Mapping[date, Notice]


def load_calendar(path: Path) -> Calendar:
    """The calendar in a file. Raises Unprocessable with every fault, Invalid for no file."""
    table = Table(path, _COLUMNS)
    years: set[int] = set()
    days: dict[date, Notice] = {}
    for line, cells in table.rows():
        first, last = _stretch(table, line, cells)
        if first is None or last is None:
            continue
        years.add(int(cells["year"]))
        kind: Kind = "holiday" if cells["kind"] == "holiday" else "makeup"
        for day in days_between(first, last):
            if day in days:
                table.fault(line, "first", f"{day} stands twice", rule="calendar-twice")
            if kind == "makeup" and day.weekday() < 5:
                table.fault(line, "kind", f"{day} is a weekday anyway: a make-up workday is a "
                            "Saturday or Sunday", rule="calendar-makeup")  # fmt: skip
            days[day] = Notice(kind, cells["name"], cells["source"])
    table.check()
    return Calendar(f"{max(years, default=0)}-{_digest(path)}", frozenset(years), days)


def _stretch(table: Table, line: int, cells: Mapping[str, str]
             ) -> tuple[date | None, date | None]:  # fmt: skip
    """The first and last day of a row; None for both when the row has a fault."""
    before = len(table.issues)
    if cells["kind"] not in ("holiday", "workday"):
        table.fault(line, "kind", "must be holiday or workday", rule="calendar-kind")
    for column in ("name", "source"):
        if not cells[column]:
            table.fault(line, column, "the cell is empty", rule="calendar-empty")
    try:
        first, last = (date.fromisoformat(cells[column]) for column in ("first", "last"))
        year = int(cells["year"])
    except ValueError:
        table.fault(line, "first", "year, first and last must be a year and two days, as "
                    "2026,2026-10-01,2026-10-07", rule="calendar-day")  # fmt: skip
        return None, None
    if not 0 <= (last - first).days < _LONGEST:
        table.fault(line, "last", f"must be the same day or up to {_LONGEST} days after first",
                    rule="calendar-order")  # fmt: skip
    elif not {first.year, last.year} <= {year - 1, year}:
        table.fault(line, "year", f"{first} is no day that a notice for {year} speaks of",
                    rule="calendar-year")  # fmt: skip
    return (first, last) if len(table.issues) == before else (None, None)


def _digest(path: Path) -> str:
    try:
        return sha256(path.read_bytes()).hexdigest()[:8]
    except OSError as error:
        raise Invalid(f"{path.name} cannot be read: {error.strerror}", rule="file") from None


def kind_of(calendar: Calendar, day: date) -> Day:
    """What a day is."""
    notice = calendar.days.get(day)
    if notice is not None:
        return Day(day, notice.kind, notice.name, True)
    kind: Kind = "workday" if day.weekday() < 5 else "weekend"
    return Day(day, kind, "", day.year in calendar.years)


def unknown_years(calendar: Calendar, first: date, last: date) -> list[int]:
    """The years between two days of which no notice is at hand."""
    return [year for year in range(first.year, last.year + 1) if year not in calendar.years]


def days_between(first: date, last: date) -> Iterator[date]:
    """Every day from the first to the last, both included."""
    for number in range((last - first).days + 1):
        yield first + timedelta(days=number)


def instant_at(day: date, minutes: int, zone: ZoneInfo) -> int:
    """Microseconds since 1970 of a time of a day of the zone; 1440 and more are the days after."""
    moment = datetime(day.year, day.month, day.day, tzinfo=zone) + timedelta(minutes=minutes)
    return (moment.astimezone(UTC) - _EPOCH) // _MICROSECOND


def day_at(us: int, zone: ZoneInfo) -> date:
    """The zone's day in which a moment lies."""
    return moment_at(us, zone).date()


def moment_at(us: int, zone: ZoneInfo) -> datetime:
    """A moment on the zone's clock."""
    return (_EPOCH + timedelta(microseconds=us)).astimezone(zone)
