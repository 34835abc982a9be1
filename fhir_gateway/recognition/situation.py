"""What every criterion sees of one order line, computed once, and the calendar it counts in.

Windows and evaluations are calendar days of one zone: an examination at any time of day 0 may be
used until the last moment of day n. A date that is only partly known is a range; a question whose
answer differs inside the range is *unknown*.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, NamedTuple

from fhir_gateway.fhir.datatypes import DAY, date_range, local_day
from fhir_gateway.recognition.model import Candidate, OrderedItem, Query
from fhir_gateway.recognition.parameters import CountedWindow, WindowRule
from fhir_gateway.store.changes import Evaluation

if TYPE_CHECKING:
    from fhir_gateway.terminology.catalogue import Item

#: Upper bound of the time of a result whose time nobody states.
ENDLESS = 1 << 62

Standing = Literal[
    "evaluated",
    "issuer-unknown",
    "receiver-area-unknown",
    "not-evaluated",
    "evaluation-failed",
    "evaluation-not-in-period",
    "area-not-covered",
    "exam-day-unknown",
    "evaluation-contradictory",
]


class Window(NamedTuple):
    """How long a result of an item may be used; days None when nobody gives a length."""

    days: int | None
    source: str


_NO_ITEMS: Mapping[str, Item] = MappingProxyType({})


class Situation(NamedTuple):
    """One order line of a Query, beside its catalogue entry and its window.

    `items` are those of the catalogue: the result of a wider examination has another entry.
    """

    query: Query
    ordered: OrderedItem
    entry: Item | None
    window: Window
    today: int  # ordinal of the day of the question
    window_start: int  # first µs that lies inside the window, 0 without a window
    items: Mapping[str, Item] = _NO_ITEMS
    born: int = -ENDLESS  # first µs of the patient's day of birth, as far as it is known


def today(query: Query) -> int:
    """Ordinal of the calendar day of the question."""
    return _ordinal(query.as_of_us, query.zone)


def age_days(situation: Situation, us: int) -> int:
    """Calendar days from an instant to the day of the question."""
    return situation.today - _ordinal(us, situation.query.zone)


#: A day after the first and before the last that a calendar has, in any zone.
_FIRST, _LAST = -62_135_510_400_000_000, 253_402_214_400_000_000


def _ordinal(us: int, zone: str) -> int:
    return local_day(min(max(us, _FIRST), _LAST), zone).toordinal()


def window_start(window: Window, rule: WindowRule | None, query: Query, day: int) -> int:
    """The first microsecond inside a window at the moment of the question, 0 without a window."""
    if window.days is None:
        return 0
    if isinstance(rule, CountedWindow) and rule.count == "hours":
        return query.as_of_us - window.days * DAY
    return midnight(day - window.days, query.zone)


@lru_cache(maxsize=16_384)
def midnight(ordinal: int, zone: str) -> int:
    """The first microsecond of a calendar day, 0 for days before the year 1."""
    if ordinal < 1:
        return 0
    return date_range(date.fromordinal(ordinal).isoformat(), zone)[0]


@lru_cache(maxsize=16_384)
def period(start: str, end: str, zone: str) -> tuple[int, int]:
    """First and last microsecond of a FHIR Period; an open end is endless."""
    low = date_range(start, zone)[0] if start else -ENDLESS
    return low, date_range(end, zone)[1] if end else ENDLESS


def standing(situation: Situation, candidate: Candidate) -> Standing:
    """Whether the issuer had passed an evaluation for the item on the day of the exam.

    The evaluation's area must contain the receiver's. Passed and failed rows of one area at one
    time contradict each other; a failed row of another area says nothing.
    """
    if not candidate.issuer:
        return "issuer-unknown"
    reaching = situation.query.receiver_within
    if not reaching:
        return "receiver-area-unknown"
    if len(candidate.evaluations) == 1 and _plainly_covers(candidate, reaching, situation):
        return "evaluated"
    rows = in_period(situation, candidate)
    if not rows:
        return _why_none(situation, candidate)
    passed = [row for row in rows if row.passed]
    if len(passed) < len(rows) and (not passed or _contradict(rows)):
        return "evaluation-contradictory" if passed else "evaluation-failed"
    throughout = _throughout(passed, candidate.time, candidate.time_high, situation.query.zone)
    return "evaluated" if throughout else "exam-day-unknown"


def _plainly_covers(candidate: Candidate, reaching: tuple[str, ...], situation: Situation) -> bool:
    """The usual case, settled without lists: one row, passed, reaching, in force throughout."""
    row = candidate.evaluations[0]
    if not row.passed or row.area not in reaching:
        return False
    start, end = period(row.start, row.end, situation.query.zone)
    return start <= candidate.time and candidate.time_high <= end


def _why_none(situation: Situation, candidate: Candidate) -> Standing:
    reaching, rows = situation.query.receiver_within, candidate.evaluations
    if any(row.area in reaching for row in rows):
        return "evaluation-not-in-period"
    return "area-not-covered" if any(row.passed for row in rows) else "not-evaluated"


def _contradict(rows: list[Evaluation]) -> bool:
    """Whether one area has a passed and a failed row at the time of the exam."""
    passed = {row.area for row in rows if row.passed}
    return any(row.area in passed for row in rows if not row.passed)


def _throughout(rows: list[Evaluation], low: int, high: int, zone: str) -> bool:
    """Whether the rows were in force during all of low..high, without a gap."""
    start, end = period(rows[0].start, rows[0].end, zone)
    if start <= low and high <= end:
        return True
    reached = low
    for start, end in sorted(period(row.start, row.end, zone) for row in rows):
        if start > reached:
            return False
        reached = max(reached, end + 1)
    return reached > high


def in_period(situation: Situation, candidate: Candidate) -> list[Evaluation]:
    """The rows that reach the receiver and were in force at the time of the exam."""
    query, found = situation.query, []
    for row in candidate.evaluations:
        if row.area in query.receiver_within:
            start, end = period(row.start, row.end, query.zone)
            if start <= candidate.time_high and candidate.time <= end:
                found.append(row)
    return found


def mark_of(situation: Situation, candidate: Candidate) -> Evaluation | None:
    """The evaluation behind the mark: of the passed rows that reach, the one that ends last."""
    rows = [row for row in in_period(situation, candidate) if row.passed]
    if len(rows) < 2:
        return rows[0] if rows else None
    return max(rows, key=lambda row: (row.end or "9", row.area, row.round))
