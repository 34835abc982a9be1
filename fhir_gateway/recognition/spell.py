"""How times and values of results are written for people and for Parameters.

A time that is only partly known is never shown more exactly than it is.
"""

from __future__ import annotations

from datetime import date, timedelta
from functools import lru_cache

from fhir_gateway.fhir.datatypes import DAY, local_day
from fhir_gateway.fhir.wire import instant
from fhir_gateway.recognition.model import Candidate, ItemOutcome
from fhir_gateway.recognition.situation import ENDLESS

_MINUTE = 60_000_000


def exam_time(candidate: Candidate, zone: str) -> str:
    """When the specimen was taken or the examination made, as a FHIR dateTime; "" when unknown."""
    low, high = candidate.time, candidate.time_high
    if not low or high >= ENDLESS:
        return ""
    if high - low < _MINUTE:
        return instant(low)
    day = local_day(low, zone)
    if high - low < DAY:
        return day.isoformat()
    return day.isoformat()[:7] if local_day(high, zone).month == day.month else str(day.year)


def exam_day(candidate: Candidate, zone: str) -> str:
    """The calendar day for a card: 2026-11-18, 2026-11, 2026, or a word that it is unknown."""
    low, high = candidate.time, candidate.time_high
    if low and high - low < DAY:
        return _day(low, zone)
    return exam_time(candidate, zone) or "日期不明"


@lru_cache(maxsize=16_384)
def _day(us: int, zone: str) -> str:
    return local_day(us, zone).isoformat()


def window_end(item: ItemOutcome, zone: str) -> str:
    """The last day on which the chosen result may be used, "" when there is no such day."""
    if item.chosen is None or item.window_days is None or not item.window_from:
        return ""
    return _end(item.window_from, item.window_days, zone)


@lru_cache(maxsize=16_384)
def _end(us: int, days: int, zone: str) -> str:
    day = local_day(us, zone)
    return (day + timedelta(days=min(days, (date.max - day).days))).isoformat()


def value_text(candidate: Candidate) -> str:
    """The value with its unit, as spelled; "" for what has none."""
    return f"{candidate.value} {candidate.unit}".strip() if candidate.value else ""
