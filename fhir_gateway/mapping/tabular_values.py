"""A value of a database -> the text of a cell, as a careful export would have written it.

NUMERIC keeps its digits, also those behind the point; a time with a zone is told by the
institution's clock and keeps its offset; a time without one is the institution's own. What is no
single value (bytes, an array, JSON) is no cell.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from math import isfinite
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import msgspec


def cell_of(value: object, zone: str) -> str | None:
    """The text of a value, None for NULL. Raises ValueError for what is no cell."""
    if value is None:
        return None
    for kind, read in _READERS:
        if isinstance(value, kind):
            return str(read(value, zone))
    raise ValueError("this is no cell")


def line_of(names: Sequence[str], values: Sequence[object], zone: str) -> bytes:
    """A row as a line of NDJSON. What is no cell stands as an empty list, which refuses its row."""
    cells: dict[str, str | list[str]] = {}
    for name, value in zip(names, values, strict=True):
        if type(value) is str:  # most are
            cells[name] = value
            continue
        try:
            cell = cell_of(value, zone)
        except ValueError:
            cells[name] = []
        else:
            if cell is not None:
                cells[name] = cell
    return _encoded(cells) + b"\n"


def _encoded(cells: Mapping[str, Any]) -> bytes:
    try:
        return msgspec.json.encode(cells)
    except UnicodeEncodeError:  # half a character: escaped, so that it refuses its own row alone
        return json.dumps(cells, separators=(",", ":")).encode()


def _moment(value: datetime, zone: str) -> str:
    if value.tzinfo is not None:
        value = value.astimezone(ZoneInfo(zone))
    return value.isoformat(sep=" ")


def _float(value: float, _: str) -> str:
    """As short as says the same number, never with an exponent."""
    if not isfinite(value):
        return repr(value)
    text = format(Decimal(repr(value)), "f")
    return text.removesuffix(".0")


def _decimal(value: Decimal, _: str) -> str:
    return format(value, "f") if value.is_finite() else str(value)


#: type -> how it is written; bool before int, datetime before date.
_READERS: tuple[tuple[type, Any], ...] = (
    (str, lambda value, _: value),
    (bool, lambda value, _: "true" if value else "false"),
    (int, lambda value, _: str(value)),
    (Decimal, _decimal),
    (float, _float),
    (datetime, _moment),
    (date, lambda value, _: value.isoformat()),
    (time, lambda value, _: value.isoformat()),
    (timedelta, lambda value, _: str(value)),
    (UUID, lambda value, _: str(value)),
)
