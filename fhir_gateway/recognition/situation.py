"""What every criterion sees of one order line, computed once, and the calendar it counts in.

Windows and evaluations are calendar days of one zone: an examination at any time of day 0 may be
used until the last moment of day n. A date that is only partly known is a range; a question whose
answer differs inside the range is *unknown*.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from functools import lru_cache
from typing import TYPE_CHECKING, Literal, NamedTuple

from fhir_gateway.fhir.datatypes import date_range, local_day
from fhir_gateway.recognition.model import Candidate, OrderedItem, Query
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


class Situation(NamedTuple):
    """One order line of a Query, beside its catalogue entry and its window."""

    query: Query
    ordered: OrderedItem
    entry: Item | None
    window: Window
    today: int  # ordinal of the day of the question
    window_start: int  # first µs of the oldest day inside the window, 0 without a window


def today(query: Query) -> int:
    """Ordinal of the calendar day of the question."""
    return _ordinal(query.as_of_us, query.zone)


def age_days(situation: Situation, us: int) -> int:
    """Calendar days from an instant to the day of the question."""
    return situation.today - _ordinal(us, situation.query.zone)


def _ordinal(us: int, zone: str) -> int:
    return local_day(us, zone).toordinal()


@lru_cache(maxsize=16_384)
def midnight(ordinal: int, zone: str) -> int:
    """The first microsecond of a calendar day, 0 for days before the year 1."""
    if ordinal < 1:
        return 0
    return date_range(date.fromordinal(ordinal).isoformat(), zone)[0]


@lru_cache(maxsize=16_384)
def _period(start: str, end: str, zone: str) -> tuple[int, int]:
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
    rows = candidate.evaluations
    known = [row for row in rows if row.area in reaching]
    if not known:
        return _why_not_covered(rows)
    return _standing_in_period(situation.query.zone, candidate, known)


def _why_not_covered(rows: Sequence[Evaluation]) -> Standing:
    return "area-not-covered" if any(row.passed for row in rows) else "not-evaluated"


def _standing_in_period(zone: str, candidate: Candidate, rows: Sequence[Evaluation]) -> Standing:
    low, high = candidate.time, candidate.time_high
    passed: list[tuple[int, int]] = []
    passed_areas: set[str] = set()
    failed_areas: set[str] = set()
    for row in rows:
        start, end = _period(row.start, row.end, zone)
        if start > high or end < low:
            continue
        if row.passed:
            passed.append((start, end))
            passed_areas.add(row.area)
        else:
            failed_areas.add(row.area)
    if passed_areas & failed_areas:
        return "evaluation-contradictory"
    if passed:
        return "evaluated" if _contains(passed, low, high) else "exam-day-unknown"
    return "evaluation-failed" if failed_areas else "evaluation-not-in-period"


def _contains(periods: list[tuple[int, int]], low: int, high: int) -> bool:
    """Whether the periods together contain low..high without a gap."""
    reached = low
    for start, end in sorted(periods):
        if start > reached:
            return False
        reached = max(reached, end + 1)
    return reached > high


def mark_of(situation: Situation, candidate: Candidate) -> Evaluation | None:
    """The evaluation behind the mark: of the passed rows that cover, the one that ends last."""
    zone, reaching = situation.query.zone, situation.query.receiver_within
    rows = [
        row
        for row in candidate.evaluations
        if row.passed and row.area in reaching and _overlaps(row, candidate, zone)
    ]
    return max(rows, key=lambda row: (row.end or "9", row.area, row.round), default=None)


def _overlaps(row: Evaluation, candidate: Candidate, zone: str) -> bool:
    start, end = _period(row.start, row.end, zone)
    return start <= candidate.time_high and end >= candidate.time
