"""The tables of mappings/: one CSV file each, read once, looked up by what was received.

Every file has the columns `received,code,display`, some have a fourth. What Chinese systems add to
a table of HL7 stands in the same file, because a sender does not say whose table it uses.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from fhir_gateway.terminology.table import Table as File

#: Units and codes are written with raised digits, which NFKC would glue to the number before.
_RAISED = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")
_RAISED_SIGNS = frozenset("⁰¹²³⁴⁵⁶⁷⁸⁹⁻")


class Row(NamedTuple):
    """One row: the code that stands for what was received."""

    code: str
    display: str
    extra: str


Table = Mapping[str, Row]


class Rows(dict[str, Row]):
    """The rows of a file, which know the name of their table."""

    name = ""


class Lookup(NamedTuple):
    """What was asked of a table, and the row that answered."""

    table: str
    received: str
    row: Row | None


_HEARD: ContextVar[list[Lookup] | None] = ContextVar("lookups", default=None)


@contextmanager
def heard() -> Iterator[list[Lookup]]:
    """What `look_up` is asked meanwhile, in order: who explains a mapping needs to know."""
    lookups: list[Lookup] = []
    token = _HEARD.set(lookups)
    try:
        yield lookups
    finally:
        _HEARD.reset(token)


def is_heard() -> bool:
    """Whether somebody hears now what `look_up` is asked."""
    return _HEARD.get() is not None


def normal(text: str) -> str:
    """Half-width, composed, single spaces, raised digits as `^9`: for comparing."""
    return _kept_normal(text) if len(text) <= _LONGEST_KEPT else _normal(text)


def _normal(text: str) -> str:
    if text.isascii():
        return " ".join(text.split())
    if not _RAISED_SIGNS.isdisjoint(text):
        text = _spell_powers(text)
    return " ".join(unicodedata.normalize("NFKC", text).split())


#: Codes, units and names come again with every message; findings in words do not.
_kept_normal = lru_cache(maxsize=16_384)(_normal)
_LONGEST_KEPT = 64


def _spell_powers(text: str) -> str:
    spelled: list[str] = []
    raised = False
    for sign in text:
        if sign in _RAISED_SIGNS:
            spelled.append(sign.translate(_RAISED) if raised else "^" + sign.translate(_RAISED))
            raised = True
        else:
            spelled.append(sign)
            raised = False
    return "".join(spelled)


@lru_cache(maxsize=64)
def table(folder: str, name: str, extra: str = "") -> Table:
    """The table `name` of a folder. Exact spellings win over folded ones (mg is not Mg).

    Raises Unprocessable with every fault of a file that is missing or says two things of one
    spelling.
    """
    columns = ("received", "code", "display", *([extra] if extra else []))
    file = File(Path(folder) / f"{name}.csv", columns)
    exact: dict[str, Row] = {}
    for line, cells in file.rows():
        row = Row(cells["code"], cells["display"], cells.get(extra, ""))
        if exact.setdefault(normal(cells["received"]), row) != row:
            file.fault(line, "received", "the spelling stands twice", rule="mapping-table")
    file.check()
    rows = Rows(_folded(exact) | exact)
    rows.name = name
    return rows


def _folded(exact: dict[str, Row]) -> dict[str, Row]:
    """Rows by case-folded spelling, but for those that case tells apart."""
    folded: dict[str, Row] = {}
    contested: set[str] = set()
    for key, row in exact.items():
        if folded.setdefault(key.casefold(), row) != row:
            contested.add(key.casefold())
    return {key: row for key, row in folded.items() if key not in contested}


def look_up(rows: Table, text: str) -> Row | None:
    """The row for a received text, by its exact spelling first; None when the table has none."""
    key = normal(text)
    row = rows.get(key) or rows.get(key.casefold())
    lookups = _HEARD.get()
    if lookups is not None:
        lookups.append(Lookup(getattr(rows, "name", ""), key, row))
    return row
