"""The tables inside a column map: columns, constants, values, times, parts and filters."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from fhir_gateway.errors import Issue, Unprocessable
from fhir_gateway.mapping.tabular_fields import (
    FIELDS,
    OWN_NUMBER,
    PARTS,
    RANGE_HALVES,
    REQUIRED,
    TIMES,
)
from fhir_gateway.mapping.tabular_times import format_fault


class Faults:
    """Collects what is wrong with a file."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.issues: list[Issue] = []

    def add(self, place: str, sentence: str) -> None:
        """Notes a fault at a place of the file, "" for the whole."""
        where = self.name + (f", {place}" if place else "")
        self.issues.append(Issue("invalid", f"{where}: {sentence}", rule="table-map"))

    def check(self) -> None:
        """Raises Unprocessable with every fault noted so far."""
        if self.issues:
            raise Unprocessable(issues=tuple(self.issues))


@dataclass(frozen=True, slots=True)
class Filter:
    """Rows are taken when the column's text is one of `only` (where any are named) and none of
    `never`."""

    column: str
    only: frozenset[str]
    never: frozenset[str]

    def takes(self, text: str) -> bool:
        """Whether a row with this text is taken."""
        return text not in self.never and (not self.only or text in self.only)


def texts(said: Mapping[str, Any], name: str, faults: Faults) -> dict[str, str]:
    """A table of texts, field -> text."""
    found = _table(said, name, faults)
    for field, text in found.items():
        if not isinstance(text, str) or not text:
            faults.add(f"{name}, {field}", "this must be a text that is not empty")
    return {field: text for field, text in found.items() if isinstance(text, str) and text}


def _table(said: Mapping[str, Any], name: str, faults: Faults) -> dict[str, Any]:
    found = said.get(name, {})
    if isinstance(found, dict):
        return found
    faults.add(name, "this must be a table")
    return {}


def check_fields(
    kind: str, columns: Mapping[str, str], constants: Mapping[str, str], faults: Faults
) -> None:
    """Notes fields that the kind does not have, that stand twice, and that are missing."""
    known = FIELDS[kind]
    for name, fields in (("columns", columns), ("constants", constants)):
        for field in fields:
            if field not in known:
                near = get_close_matches(field, known, 1)
                hint = f"; {near[0]} is" if near else ""
                faults.add(f"{name}, {field}", f"this is no field of {kind}{hint}")
    for field in sorted(columns.keys() & constants.keys()):
        faults.add(f"constants, {field}", "the field has a column too")
    named = columns.keys() | constants.keys()
    for choice in (*REQUIRED[kind], OWN_NUMBER):
        if not named & set(choice):
            faults.add("columns", f"{' or '.join(choice)} is missing")
    if "result.range" in named and named & set(RANGE_HALVES):
        faults.add("columns", "a range stands in one column or in two: result.range, or low, high")


def values(
    said: Mapping[str, Any], named: Collection[str], faults: Faults
) -> dict[str, dict[str, str]]:
    """What a hospital writes -> what it means, for each field that has such a table."""
    found: dict[str, dict[str, str]] = {}
    for field, rows in _table(said, "values", faults).items():
        place = f"values, {field}"
        if field not in named:
            faults.add(place, "the field has no column")
        elif not isinstance(rows, dict) or not all(isinstance(one, str) for one in rows.values()):
            faults.add(place, "this must be a table of texts")
        else:
            found[field] = {" ".join(key.split()): value for key, value in rows.items()}
    return found


def times(
    said: Mapping[str, Any], named: Collection[str], faults: Faults
) -> dict[str, tuple[str, ...]]:
    """The declared spellings of fields that hold a time."""
    found: dict[str, tuple[str, ...]] = {}
    for field, formats in _table(said, "times", faults).items():
        place = f"times, {field}"
        several = [formats] if isinstance(formats, str) else formats
        if field not in TIMES or field not in named:
            faults.add(place, "this is no field of the map that holds a time")
        elif not isinstance(several, list) or not all(isinstance(one, str) for one in several):
            faults.add(place, "this must be a text or a list of texts")
        else:
            for fault in filter(None, map(format_fault, several)):
                faults.add(place, fault)
            found[field] = tuple(several)
    return found


def parts(said: Mapping[str, Any], faults: Faults) -> dict[str, tuple[str, str]]:
    """Code and name of the texts of a report."""
    found: dict[str, tuple[str, str]] = {}
    for field, pair in _table(said, "parts", faults).items():
        good = isinstance(pair, list) and len(pair) == 2 and all(isinstance(x, str) for x in pair)
        if field not in PARTS or not good:
            faults.add(f"parts, {field}", f"a code and a name, for {' or '.join(PARTS)}")
        else:
            found[field] = (pair[0], pair[1])
    return found


def filters(said: Mapping[str, Any], faults: Faults) -> tuple[Filter, ...]:
    """The conditions that a row must meet, all of them."""
    found: list[Filter] = []
    several = said.get("filter", [])
    for number, one in enumerate(several if isinstance(several, list) else [several], start=1):
        place = f"filter {number}"
        if not isinstance(one, dict) or not isinstance(one.get("column"), str):
            faults.add(place, "this must be a table with a column and `only` or `never`")
            continue
        lists = {name: one.get(name, []) for name in ("only", "never")}
        good = all(isinstance(x, list) and all(isinstance(y, str) for y in x)
                   for x in lists.values())  # fmt: skip
        if one.keys() - {"column", *lists} or not good or not any(lists.values()):
            faults.add(place, "`only` and `never` are lists of texts, and one of them is needed")
            continue
        found.append(Filter(one["column"], *(frozenset(texts) for texts in lists.values())))
    return tuple(found)
