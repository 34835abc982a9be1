"""The tables of mappings/: one CSV file each, read once, looked up by what was received.

Every file has the columns `received,code,display`, some have a fourth. What Chinese systems add to
a table of HL7 stands in the same file, because a sender does not say whose table it uses.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
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


def normal(text: str) -> str:
    """Half-width, composed, single spaces, raised digits as `^9`: for comparing."""
    if text.isascii():
        return " ".join(text.split())
    if not _RAISED_SIGNS.isdisjoint(text):
        text = _spell_powers(text)
    return " ".join(unicodedata.normalize("NFKC", text).split())


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
    return _folded(exact) | exact


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
    return rows.get(key) or rows.get(key.casefold())
