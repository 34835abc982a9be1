"""What the files of supply share: faults with their lines, tables of TOML, days, times, shares.

A file of profiles/scheduling is read whole and told with every fault; nothing of a file with a
fault is used. tomllib keeps no line numbers, so they are found in the text.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from datetime import date, datetime, time
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

from fhir_gateway.errors import Invalid, Issue

_HEADER = re.compile(r"\s*\[(\[)?\s*([A-Za-z0-9_.-]+)\s*\]\]?")
_KEY = re.compile(r"\s*([A-Za-z0-9_-]+)\s*=")
_TIME = re.compile(r"([01]\d|2[0-3]):([0-5]\d)")
_SHARE = re.compile(r"(\d{1,3})(?:\.(\d{1,3}))?\s*%|(\d{1,6})/(\d{1,6})")


class Fault(NamedTuple):
    """One fault of a file: where, the short name of the rule, what is wrong and what would do."""

    file: str
    line: int
    rule: str
    said: str

    def __str__(self) -> str:
        where = f"{self.file}, line {self.line}" if self.line else self.file
        return f"{where}: {self.said}"


def refused(faults: Iterable[Fault]) -> Invalid:
    """The refusal that carries every fault."""
    return Invalid(issues=tuple(
        Issue("invalid", str(fault), None, fault.rule) for fault in faults
    ))  # fmt: skip


class Page:
    """A TOML file being read: its tables with their lines, and the faults noted so far."""

    def __init__(self, name: str, text: str) -> None:
        """Reads the text; what is no TOML is a fault, and the page is empty then."""
        self.name = name
        self.faults: list[Fault] = []
        self.document: Mapping[str, Any] = {}
        self._lines = _lines(text)
        try:
            self.document = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            found = re.search(r"at line (\d+)", str(error))
            line = int(found[1]) if found else 0
            self.faults.append(Fault(name, line, "file-syntax", f"this is no TOML: {error}"))

    def fault(self, place: str, rule: str, said: str) -> None:
        """Notes a fault at a place such as `templates.2.duration`: of the key, else its table."""
        self.faults.append(Fault(self.name, self.line(place), rule, said))

    def line(self, place: str) -> int:
        """The line of a place, or of the nearest table around it; 0 where there is none."""
        while place:
            if place in self._lines:
                return self._lines[place]
            place = place.rpartition(".")[0]
        return 0

    def tables(self, name: str) -> list[tuple[str, Mapping[str, Any]]]:
        """The tables of an array, each with its place. One that is no array is a fault."""
        found = self.document.get(name, [])
        if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
            self.fault(name, "file-shape", f"{name} must be tables, each headed [[{name}]]")
            return []
        return [(f"{name}.{number}", one) for number, one in enumerate(found)]

    def unknown(self, place: str, table: Mapping[str, Any], known: Iterable[str]) -> None:
        """Notes every key that nothing reads: a misspelt rule must not become none."""
        names = sorted(known)
        for key in table:
            if key not in names:
                self.fault(f"{place}.{key}".lstrip("."), "file-key",
                           f"{key} is not known here; known are {', '.join(names)}")  # fmt: skip

    def text(self, place: str, table: Mapping[str, Any], key: str, *, need: bool = True) -> str:
        """A text; "" for one that is missing, a fault when it is needed or is no text."""
        value = table.get(key, "")
        if not isinstance(value, str) or (need and not value.strip()):
            self.fault(f"{place}.{key}".lstrip("."), "file-text", f"{key} must be a text")
            return ""
        return value.strip()

    def word(self, place: str, table: Mapping[str, Any], key: str, words: Iterable[str],
             default: str = "") -> str:  # fmt: skip
        """One of a few words."""
        several = list(words)
        value = table.get(key, default)
        if value not in several:
            self.fault(f"{place}.{key}".lstrip("."), "file-word",
                       f"{key} is one of {', '.join(several)}")  # fmt: skip
            return default or several[0]
        return str(value)

    def number(self, place: str, table: Mapping[str, Any], key: str, *, least: int = 0,
               most: int = 1_000_000, default: int | None = None) -> int:  # fmt: skip
        """A whole number within bounds."""
        value = table.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            self.fault(f"{place}.{key}".lstrip("."), "file-number",
                       f"{key} must be a whole number from {least} to {most}")  # fmt: skip
            return least if default is None else default
        return value

    def flag(self, place: str, table: Mapping[str, Any], key: str) -> bool | None:
        """true, false, or None for what is not said."""
        value = table.get(key)
        if value is not None and not isinstance(value, bool):
            self.fault(f"{place}.{key}".lstrip("."), "file-flag", f"{key} must be true or false")
            return None
        return value

    def day(self, place: str, table: Mapping[str, Any], key: str, *, need: bool = False
            ) -> date | None:  # fmt: skip
        """A day, written 2026-12-01 or "2026-12-01"; None for one that is not said."""
        value = table.get(key)
        if value is None and not need:
            return None
        day = day_of(value)
        if day is None:
            self.fault(f"{place}.{key}".lstrip("."), "file-day",
                       f"{key} must be a day of the calendar, as 2026-12-01")  # fmt: skip
        return day

    def clock(self, place: str, table: Mapping[str, Any], key: str) -> int | None:
        """Minutes since midnight of a time as "08:00"; "24:00" is the end of the day."""
        minutes = minutes_of(table.get(key))
        if minutes is None:
            self.fault(f"{place}.{key}".lstrip("."), "file-time",
                       f'{key} must be a time from "00:00" to "24:00", as "08:30"')  # fmt: skip
        return minutes

    def check(self) -> None:
        """Raises Invalid with every fault noted so far."""
        if self.faults:
            raise refused(self.faults)


def read_page(path: Path) -> Page:
    """The page in a file; one that cannot be read is a page with that fault and nothing else."""
    try:
        return Page(path.name, path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        page = Page(path.name, "")
        page.fault("", "file", f"the file cannot be read: {error}")
        return page


def day_of(value: Any) -> date | None:
    """The day in a value of TOML or of a table; None for what is none."""
    if isinstance(value, date) and not isinstance(value, datetime):
        return value
    try:
        return date.fromisoformat(value) if isinstance(value, str) and len(value) == 10 else None
    except ValueError:
        return None


def minutes_of(value: Any) -> int | None:
    """Minutes since midnight of "08:00" or of a time of TOML; "24:00" is 1440; None for none."""
    if isinstance(value, time):
        return value.hour * 60 + value.minute
    if value == "24:00":
        return 1440
    found = _TIME.fullmatch(value) if isinstance(value, str) else None
    return int(found[1]) * 60 + int(found[2]) if found else None


def clock_of(minutes: int) -> str:
    """Minutes since midnight as a person writes them."""
    return f"{minutes // 60:02}:{minutes % 60:02}"


def share_of(value: Any) -> Fraction | None:
    """The exact share in "30%", "12.5%" or "1/3"; None for what is none or above one."""
    found = _SHARE.fullmatch(value.strip()) if isinstance(value, str) else None
    if found is None:
        return None
    if found[3]:
        share = Fraction(int(found[3]), int(found[4])) if int(found[4]) else None
    else:
        share = Fraction(f"{found[1]}.{found[2] or 0}") / 100
    return share if share is not None and share <= 1 else None


def _lines(text: str) -> dict[str, int]:
    """Where each table and key begins: `templates.0`, `templates.0.duration` -> line."""
    found: dict[str, int] = {}
    counts: dict[str, int] = {}
    around = ""
    for number, line in enumerate(text.splitlines(), 1):
        if header := _HEADER.match(line):
            name = header[2]
            owner, _, last = name.rpartition(".")
            if owner in counts:  # a table inside the newest one of an array
                name = f"{owner}.{counts[owner]}.{last}"
            if header[1]:
                counts[name] = counts.get(name, -1) + 1
                found.setdefault(name, number)
                name = f"{name}.{counts[name]}"
            around = name
            found.setdefault(around, number)
        elif key := _KEY.match(line):
            found.setdefault(f"{around}.{key[1]}".lstrip("."), number)
    return found
