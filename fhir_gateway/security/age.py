"""Age in full years on a calendar day, the one function by which a guardian is asked for. Pure.

A person born on 29 February comes of age on 1 March of a common year. A birth date of FHIR may be
a year or a month only: then the least and the most that the age can be are told.
"""

from __future__ import annotations

import calendar
import re
from datetime import date

_BIRTH = re.compile(r"(\d{4})(?:-(\d{2})(?:-(\d{2}))?)?")


def ages_on(birth: str, day: date) -> tuple[int, int] | None:
    """The least and the most full years on a day; equal where the birth date is whole. None for
    what is no date, or lies after the day."""
    match = _BIRTH.fullmatch(birth)
    if match is None:
        return None
    year, month, of_month = (int(part) if part else None for part in match.groups())
    try:
        first = date(year or 0, month or 1, of_month or 1)
        last_month = month or 12
        last_day = of_month or calendar.monthrange(first.year, last_month)[1]
        last = date(first.year, last_month, last_day)
    except ValueError:
        return None
    if first > day:
        return None
    return max(_years(last, day), 0), _years(first, day)


def _years(born: date, day: date) -> int:
    """Full years; 29 February counts as 1 March where the year has none."""
    return day.year - born.year - ((day.month, day.day) < (born.month, born.day))
