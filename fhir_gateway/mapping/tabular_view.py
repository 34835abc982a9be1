"""The `[database]` table of a column map: a view of the hospital's database, and how it is read.

It says where the address stands (an environment variable or a file), never the address itself: a
map is kept and shown, a password is not. What is named here becomes quoted names and bound values
of a SELECT, and nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fhir_gateway.mapping.tabular_map_parts import Faults

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

_TEXTS = {"url_env": "", "url_file": "", "schema": "", "view": ""}
#: setting -> default, least, most.
_NUMBERS = {
    "rows_at_once": (100_000, 1, 5_000_000),
    "connect_seconds": (15, 1, 600),
    "query_seconds": (300, 1, 86_400),
    "connect_attempts": (5, 1, 100),
    "overlap": (300, 0, 604_800),
}

Scalar = str | int


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """A view or table of a database. `order` is how the rows of one report follow one another,
    `where` which rows there are for this map: column -> values, one of which it has. `overlap` is
    how far before the last watermark it is read again: seconds, or that much of a number."""

    url_env: str
    url_file: str
    schema: str
    view: str
    order: tuple[str, ...]
    where: Mapping[str, tuple[Scalar, ...]]
    rows_at_once: int
    connect_seconds: int
    query_seconds: int
    connect_attempts: int
    overlap: int = 0

    @property
    def name(self) -> str:
        """As a person calls it."""
        return f"{self.schema}.{self.view}" if self.schema else self.view


def view(said: Mapping[str, Any], faults: Faults) -> View | None:
    """The view that a map names; None when it names none."""
    if "database" not in said:
        return None
    given = said["database"]
    if not isinstance(given, dict):
        faults.add("database", "this must be a table")
        return None
    for name in sorted(given.keys() - _TEXTS.keys() - _NUMBERS.keys() - {"order", "where"}):
        hint = "; the address stands in a variable (url_env) or a file (url_file)"
        faults.add(f"database, {name}", "no setting of a database has this name"
                   + (hint if name == "url" else ""))  # fmt: skip
    texts = {name: _text(given, name, faults) for name in _TEXTS}
    numbers = {name: _number(given, name, faults) for name in _NUMBERS}
    _check_place(texts, faults)
    return View(
        url_env=texts["url_env"],
        url_file=texts["url_file"],
        schema=texts["schema"],
        view=texts["view"],
        order=_order(given, faults),
        where=_where(given, faults),
        rows_at_once=numbers["rows_at_once"],
        connect_seconds=numbers["connect_seconds"],
        query_seconds=numbers["query_seconds"],
        connect_attempts=numbers["connect_attempts"],
        overlap=numbers["overlap"],
    )


def _text(given: Mapping[str, Any], name: str, faults: Faults) -> str:
    text = given.get(name, _TEXTS[name])
    if isinstance(text, str):
        return text
    faults.add(f"database, {name}", "this must be a text")
    return ""


def _number(given: Mapping[str, Any], name: str, faults: Faults) -> int:
    default, least, most = _NUMBERS[name]
    number = given.get(name, default)
    if isinstance(number, int) and not isinstance(number, bool) and least <= number <= most:
        return number
    faults.add(f"database, {name}", f"this is a number from {least} to {most}")
    return default


def _check_place(texts: Mapping[str, str], faults: Faults) -> None:
    if not texts["view"]:
        faults.add("database, view", "name the view or table")
    if bool(texts["url_env"]) == bool(texts["url_file"]):
        faults.add("database", "name where the address of the database stands: url_env, a variable "
                   "of the environment, or url_file, a file")  # fmt: skip
    elif texts["url_env"] and not _VARIABLE.fullmatch(texts["url_env"]):
        faults.add("database, url_env", "this is no name of a variable; the address itself must "
                   "not stand in a map")  # fmt: skip
    elif texts["url_env"].startswith("FHIR_GATEWAY_"):
        faults.add("database, url_env", "variables of this name are the gateway's own settings")


def _order(given: Mapping[str, Any], faults: Faults) -> tuple[str, ...]:
    order = given.get("order", [])
    if isinstance(order, list) and all(isinstance(one, str) and one for one in order):
        return tuple(order)
    faults.add("database, order", "this must be a list of names of columns")
    return ()


def _where(given: Mapping[str, Any], faults: Faults) -> dict[str, tuple[Scalar, ...]]:
    """Conditions as values, never as SQL."""
    rows = given.get("where", {})
    if not isinstance(rows, dict):
        faults.add("database, where", "this must be a table: column = value, or a list of values")
        return {}
    found: dict[str, tuple[Scalar, ...]] = {}
    for column, value in rows.items():
        several = value if isinstance(value, list) else [value]
        if several and all(isinstance(one, (str, int)) and not isinstance(one, bool)
                           for one in several):  # fmt: skip
            found[column] = tuple(several)
        else:
            faults.add(f"database, where, {column}", "this must be a text, a whole number, or a "
                       "list of them")  # fmt: skip
    return found
