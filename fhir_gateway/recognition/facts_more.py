"""What a fact says beside its columns: rare or long words, packed into one narrow text.

Most rows need two or three of them, so they share a column of the covering row. The order of the
members never changes; new ones are added at the end, and a row from before has them empty. A row
that was stored before the column was says nothing here ("" throughout). docs/facts.md
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

#: Parts the members (ASCII unit separator); `clean` takes it out of what comes from outside.
_PART = "\x1f"

#: Longest member, in characters: a row is one entry of an index, which has 2,704 bytes.
LONGEST = 80

#: What a quantity and its unit say when they are the row's own value and unit, as they mostly are.
SAME = "="

#: Spelled shortly in the row, because every row has one.
_TIMES = {"c": "collected", "p": "performed", "s": "started", "i": "issued", "": ""}
_TIME_CODES = {name: code for code, name in _TIMES.items()}


class More(NamedTuple):
    """The members, in the order of the column. `endpoints` are logical ids, parted by blanks."""

    time_of: str = ""
    zone: str = ""  # "?" when the zone of the time is not known
    quantity: str = ""  # in `unit`; SAME: the row's own value
    unit: str = ""  # the catalogue's UCUM unit at that time; SAME: the row's own unit
    instrument: str = ""
    region: str = ""
    contrast: str = ""
    accession: str = ""
    interval: str = ""
    door: str = ""
    endpoints: str = ""
    item: str = ""  # what its report or study is coded as, beside an accession number

    def packed(self) -> str:
        """The text of the column; "" when there is nothing to say."""
        code = _TIME_CODES.get(self.time_of, "")
        return _pack((code, *self[1:]))


NOTHING = More()


class LinkMore(NamedTuple):
    """What a report says for all its results: the mark printed on it, the panel that it is."""

    mark: str = ""
    panel: str = ""

    def packed(self) -> str:
        """The text of the column; "" when there is nothing to say."""
        return _pack(self)


@lru_cache(maxsize=16_384)
def more_of(text: str) -> More:
    """The members of a row's column; members of a later version are passed over."""
    if not text:
        return NOTHING
    first, *rest = text.split(_PART)[: len(NOTHING)]
    return More(_TIMES.get(first, ""), *rest)


@lru_cache(maxsize=4_096)
def link_more_of(text: str) -> LinkMore:
    """The members of a report link's column."""
    return LinkMore(*text.split(_PART)[:2]) if text else LinkMore()


def clean(text: str, longest: int = LONGEST) -> str:
    """A word from outside as a member can hold it: one line, no control characters, cut."""
    return " ".join(text.split())[:longest].rstrip()


def _pack(members: Iterable[str]) -> str:
    return _PART.join(members).rstrip(_PART)
