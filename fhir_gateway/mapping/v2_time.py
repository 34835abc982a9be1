"""HL7 v2 times (DT, TS, DTM) as FHIR date, dateTime and instant. Chapter 2A.2.22 of v2.5.1.

A time without zone is in the institution's zone; a day stays a day and is never moved by a zone.
Chinese systems also send `2026-11-20 08:30:00`. Precision is kept; FHIR wants seconds once there
is an hour, so missing minutes and seconds are written as zero.
"""

from __future__ import annotations

import re
from datetime import date, datetime, timedelta
from functools import lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

_TS = re.compile(
    r"(?P<Y>\d{4})(?:(?P<m>\d{2})(?:(?P<d>\d{2})(?:(?P<H>\d{2})(?:(?P<M>\d{2})"
    r"(?:(?P<S>\d{2})(?:\.(?P<f>\d{1,4}))?)?)?)?)?)?(?P<z>[+-]\d{4})?"
)
_LOOSE = re.compile(
    r"(?P<Y>\d{4})[-/.年](?P<m>\d{1,2})[-/.月](?P<d>\d{1,2})日?"
    r"(?:[ T](?P<H>\d{1,2}):(?P<M>\d{2})(?::(?P<S>\d{2})(?:\.(?P<f>\d{1,6}))?)?)?"
    r"(?P<z>[+-]\d{2}:?\d{2}|Z)?"
)
_FIRST_YEAR, _LAST_YEAR = "1800", "2999"
_TIME = re.compile(r"(\d{2}):?(\d{2})(?::?(\d{2}))?(?:\.\d+)?(?:[+-]\d{4})?")


class Moment(NamedTuple):
    """A time as FHIR text. `exact` is true when it has a time of day; `shifted` when its zone is
    not the one the institution's clocks had; `local` when it named no zone and got theirs."""

    text: str
    exact: bool
    shifted: bool
    local: bool = False


@lru_cache(maxsize=8_192)
def read_time(text: str, zone: str) -> Moment | None:
    """The moment that a v2 time says; None when it says none (24:00, 30 February, 00000000)."""
    found = _TS.fullmatch(text) or _LOOSE.fullmatch(text)
    if found is None:
        return None
    part = found.groupdict()
    if not _FIRST_YEAR <= part["Y"] <= _LAST_YEAR:
        return None
    if part["d"] is None:
        return _month(part["Y"], part["m"])
    try:
        day = date(int(part["Y"]), int(part["m"]), int(part["d"]))
    except ValueError:
        return None
    if part["H"] is None:
        return Moment(day.isoformat(), False, False)
    return _with_time(day, part, zone)


def _month(year: str, month: str | None) -> Moment | None:
    if month is None:
        return Moment(year, False, False)
    return Moment(f"{year}-{month}", False, False) if "01" <= month <= "12" else None


def _with_time(day: date, part: dict[str, str | None], zone: str) -> Moment | None:
    hour, minute, second = (int(part[name] or 0) for name in "HMS")
    if hour > 23 or minute > 59 or second > 59:
        return None
    local = datetime(day.year, day.month, day.day, hour, minute, second)
    own = _offset(local, zone)
    said = _said(part["z"])
    offset = own if said is None else said
    if abs(offset) > timedelta(hours=14):
        return None
    minutes = int(offset.total_seconds()) // 60
    sign = "-" if minutes < 0 else "+"
    fraction = f".{part['f']}" if part["f"] else ""
    where = f"{sign}{abs(minutes) // 60:02d}:{abs(minutes) % 60:02d}"
    text = f"{local.isoformat()}{fraction}{where}"
    return Moment(text, True, said is not None and said != own, said is None)


def _offset(local: datetime, zone: str) -> timedelta:
    """The zone's offset then, whole minutes (local mean time before 1901 has seconds)."""
    offset = local.replace(tzinfo=ZoneInfo(zone)).utcoffset() or timedelta()
    return timedelta(minutes=round(offset.total_seconds() / 60))


def _said(text: str | None) -> timedelta | None:
    if text is None:
        return None
    if text == "Z":
        return timedelta()
    digits = text[1:].replace(":", "")
    offset = timedelta(hours=int(digits[:2]), minutes=int(digits[2:]))
    return -offset if text[0] == "-" else offset


def later(moment: Moment, minutes: float) -> Moment:
    """So many minutes after an exact moment, in its own offset."""
    text = (datetime.fromisoformat(moment.text) + timedelta(minutes=minutes)).isoformat()
    return moment._replace(text=text)


def micros_of(text: str, zone: str) -> int:
    """A v2 time of day in µs since 1970; 0 for what says none."""
    moment = read_time(text.split("^", maxsplit=1)[0], zone)
    if moment is None or not moment.exact:
        return 0
    return int(datetime.fromisoformat(moment.text).timestamp() * 1_000_000)


def read_date(text: str) -> str | None:
    """The day of a v2 time, its own digits: no zone ever moves a birthday."""
    moment = read_time(text, "UTC")
    return None if moment is None else moment.text[:10]


def read_clock(text: str) -> str | None:
    """A v2 TM as FHIR time."""
    found = _TIME.fullmatch(text)
    if found is None:
        return None
    hour, minute, second = found[1], found[2], found[3] or "00"
    good = hour < "24" and minute < "60" and second < "60"
    return f"{hour}:{minute}:{second}" if good else None
