"""Values of FHIR datatypes as numbers and texts that can be compared and indexed.

Dates are ranges (hl7.org/fhir/R4/search.html#date), texts are folded (search.html#string),
numbers are order-preserving integers, references are local or not (references.html#literal).
"""

from __future__ import annotations

import re
import struct
import unicodedata
from datetime import date, datetime
from decimal import Decimal
from functools import lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

from fhir_gateway.errors import Invalid

DAY = 86_400_000_000
_EPOCH_DAY = date(1970, 1, 1).toordinal()

_DATE = re.compile(
    r"(?P<year>[0-9]{4})(?:-(?P<month>[0-9]{2})(?:-(?P<day>[0-9]{2})"
    r"(?:T(?P<hour>[01][0-9]|2[0-3]):(?P<minute>[0-5][0-9])"
    r"(?::(?P<second>[0-5][0-9]|60)(?:\.(?P<fraction>[0-9]+))?)?"
    r"(?P<offset>Z|[+-](?:(?:0[0-9]|1[0-3]):[0-5][0-9]|14:00))?)?)?)?"
)


class Reference(NamedTuple):
    """A literal reference to a resource of this server."""

    type: str
    id: str
    version: str | None = None

    @property
    def key(self) -> str:
        """`Type/id`."""
        return f"{self.type}/{self.id}"


def date_range(text: str, zone: str = "Asia/Shanghai") -> tuple[int, int]:
    """First and last microsecond (both inclusive) of a date, dateTime or instant of any precision.

    A value without offset is a local time of `zone`. Raises Invalid when it is no date.
    """
    return _date_range(text, zone)


@lru_cache(maxsize=32_768)
def _date_range(text: str, zone: str) -> tuple[int, int]:
    match = _DATE.fullmatch(text)
    if match is None:
        raise Invalid("This is not a date, dateTime or instant", rule="date")
    year, month, day = (int(match[name] or 1) for name in ("year", "month", "day"))
    try:
        start = date(year, month, day).toordinal()
    except ValueError:
        raise Invalid("This day is not in the calendar", rule="date") from None
    if match["hour"] is None:
        end = _day_after(match, year, month, start)
        return _midnight(start, zone), _midnight(end, zone) - 1
    low = (int(match["hour"]) * 60 + int(match["minute"])) * 60_000_000
    low += int(match["second"] or 0) * 1_000_000
    fraction = (match["fraction"] or "")[:6]
    low += int(fraction.ljust(6, "0"))
    width = 10 ** (6 - len(fraction)) if match["second"] else 60_000_000
    low += (start - _EPOCH_DAY) * DAY
    low -= _offset_of(match["offset"], low, zone)
    return low, low + width - 1


def _day_after(match: re.Match[str], year: int, month: int, start: int) -> int:
    """Ordinal of the first day after a year, a month or a day."""
    if match["day"]:
        return start + 1
    if match["month"] and month < 12:
        return date(year, month + 1, 1).toordinal()
    return date(year, 12, 31).toordinal() + 1


def _midnight(ordinal: int, zone: str) -> int:
    local = (ordinal - _EPOCH_DAY) * DAY
    return local - _zone_offset(local, zone)


def _offset_of(offset: str | None, local: int, zone: str) -> int:
    if offset is None:
        return _zone_offset(local, zone)
    if offset == "Z":
        return 0
    minutes = int(offset[1:3]) * 60 + int(offset[4:6])
    return (-minutes if offset[0] == "-" else minutes) * 60_000_000


def _zone_offset(local: int, zone: str) -> int:
    """Offset of a zone from UTC at a local time, in microseconds."""
    days, rest = divmod(local, DAY)
    minutes = rest // 60_000_000
    ordinal = min(max(days + _EPOCH_DAY, 2), date.max.toordinal() - 1)  # offsets end at year 9999
    day = date.fromordinal(ordinal)
    moment = datetime(day.year, day.month, day.day, minutes // 60, minutes % 60, tzinfo=_zone(zone))
    delta = moment.utcoffset()
    return 0 if delta is None else (delta.days * 86_400 + delta.seconds) * 1_000_000


@lru_cache(maxsize=64)
def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise Invalid("This is not a time zone of the IANA database", rule="zone") from None


def local_day(us: int, zone: str) -> date:
    """The calendar day of an instant in a zone."""
    moment = datetime.fromtimestamp(us // 1_000_000, _zone(zone))
    return moment.date()


@lru_cache(maxsize=32_768)
def fold(text: str) -> str:
    """A text without case, accents, width and surplus space, as string search compares it."""
    if text.isascii():
        return " ".join(text.lower().split())
    bare = "".join(
        character
        for character in unicodedata.normalize("NFKD", text)
        if not "\u0300" <= character <= "\u036f"
    )
    folded = unicodedata.normalize("NFKC", bare.casefold())
    return " ".join(folded.split())


def sortable(number: Decimal | int | float) -> int:
    """A signed 64-bit integer in the order of the numbers: the bits of binary64, reflected."""
    bits: int = struct.unpack(">q", struct.pack(">d", float(number) + 0.0))[0]
    return bits if bits >= 0 else -(bits & 0x7FFF_FFFF_FFFF_FFFF)


_LOCAL = re.compile(
    r"(?P<type>[A-Z][A-Za-z]{2,40})/(?P<id>[A-Za-z0-9\-.]{1,64})"
    r"(?:/_history/(?P<version>[A-Za-z0-9\-.]{1,64}))?"
)


def parse_reference(text: str, base_url: str = "") -> Reference | str:
    """A Reference when the text names a resource of this server, relative or under `base_url`.

    Everything else (absolute url, urn:uuid, #contained, condition) comes back as it is.
    """
    if len(text) > _LONGEST_KEPT:
        return _read_reference(text, base_url)
    return _kept_reference(text, base_url)


def _read_reference(text: str, base_url: str) -> Reference | str:
    base = base_url.rstrip("/") + "/"
    relative = text[len(base) :] if base_url and text.startswith(base) else text
    match = _LOCAL.fullmatch(relative)
    if match is None:
        return text
    return Reference(match["type"], match["id"], match["version"])


#: The references of one record are few, and each is read at every step of its way.
_kept_reference = lru_cache(maxsize=16_384)(_read_reference)
_LONGEST_KEPT = 256


def parse_canonical(text: str) -> tuple[str, str | None]:
    """Url and version of a canonical `url|version`; a #fragment is left out."""
    url, _, version = text.partition("#")[0].partition("|")
    return url, version or None
