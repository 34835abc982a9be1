"""Times of a table whose spelling its map declares: text -> a time that intake reads.

A spelling that is not declared is read as in v2 (`20261118081200`, `2026-11-18 08:12:00`,
`2026年11月18日`). A declared one is read by it alone, and where several are declared and mean
different moments the text is refused: which of 03/04 is the month is never guessed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime

_DIRECTIVES = re.compile(r"%(.)")
_ALLOWED = frozenset("YmdHMSf%")
_ZEROS = re.compile(r"(?<!\d)0+(?=\d)")


def format_fault(format: str) -> str:
    """What is wrong with a declared spelling; "" when nothing is."""
    named = _DIRECTIVES.findall(format)
    strange = sorted(set(named) - _ALLOWED)
    if strange:
        return f"%{strange[0]} is not known; %Y %m %d %H %M %S %f are"
    if any(named.count(one) > 1 for one in "YmdHMSf"):
        return "a part of the time stands twice"
    if not {"Y", "m", "d"} <= set(named):
        return "year (%Y), month (%m) and day (%d) are needed"
    if ("H" in named) != ("M" in named) or ("S" in named and "H" not in named):
        return "hours (%H) and minutes (%M) go together, seconds (%S) with them"
    return ""


def read_declared(text: str, formats: Sequence[str]) -> str | None:
    """The time as v2's loose form; None when no spelling fits, or two say different moments."""
    found = {one for format in formats if (one := _read(text, format)) is not None}
    return found.pop() if len(found) == 1 else None


def _read(text: str, format: str) -> str | None:
    """strptime alone takes 2026111 for the first of November; the way back must say the same."""
    try:
        moment = datetime.strptime(text, format)
    except ValueError:
        return None
    if _ZEROS.sub("", moment.strftime(format)) != _ZEROS.sub("", text):
        return None
    return moment.strftime("%Y-%m-%d %H:%M:%S" if "%H" in format else "%Y-%m-%d")
