"""Values of FHIRPath: items, equality and order (hl7.org/fhirpath/N1, sections 4 to 6).

An item is (FHIR type, JSON value, what JSON has beside a primitive). The value is None for a
primitive that is there by its extensions alone.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Any

from fhir_gateway.fhir.definitions import definitions
from fhir_gateway.fhir.primitives import PRIMITIVES

Item = tuple[str, Any, Any]
Items = Sequence[Item]

TRUE: Items = (("boolean", True, None),)
FALSE: Items = (("boolean", False, None),)
NOTHING: Items = ()

_DATES = frozenset({"date", "dateTime", "instant"})
_TIMED = re.compile(
    r"(\d{4})(?:-(\d\d)(?:-(\d\d)(?:T(\d\d):(\d\d)(?::(\d\d)(\.\d+)?)?(Z|[+-]\d\d:\d\d)?)?)?)?",
    re.ASCII,
)


class Trouble(Exception):
    """An expression cannot be evaluated on this value: several where one is wanted, or too much."""


def truth(items: Items) -> bool | None:
    """The boolean that a collection stands for: of one item, its value, or that it is there."""
    if not items:
        return None
    if len(items) > 1:
        raise Trouble("several values stand where true or false is wanted")
    value = items[0][1]
    return value if isinstance(value, bool) else True


def boolean(value: bool | None) -> Items:
    """True, false or nothing as a collection."""
    return NOTHING if value is None else TRUE if value else FALSE


def single(items: Items) -> Item | None:
    """The one item; None when there is none. Raises Trouble when there are several."""
    if len(items) > 1:
        raise Trouble("several values stand where one is wanted")
    return items[0] if items else None


def text_of(items: Items) -> str | None:
    """The one string of a collection."""
    one = single(items)
    return one[1] if one is not None and isinstance(one[1], str) else None


def number_of(items: Items) -> int | Decimal | None:
    """The one number of a collection."""
    one = single(items)
    if one is None or isinstance(one[1], bool) or not isinstance(one[1], int | Decimal):
        return None
    return one[1]


def children(item: Item, name: str) -> list[Item]:
    """The elements of this name below an item."""
    type, value, beside = item
    holder = value if isinstance(value, dict) else beside
    if not isinstance(holder, dict):
        return []
    found: list[Item] = []
    for member, kind, primitive in spellings(type, name):
        child = holder.get(member)
        side = holder.get(f"_{member}") if primitive else None
        if child is not None or side is not None:
            collect(found, kind, child, side)
    return found


@lru_cache(maxsize=16_384)
def spellings(type: str, name: str) -> tuple[tuple[str, str, bool], ...]:
    """(JSON name, type, whether it is primitive) of an element of a type."""
    definition = definitions().types.get(type)
    element = definition.elements.get(name) if definition is not None else None
    if element is None or (name == "value" and type in PRIMITIVES):
        return ()
    return tuple((member, kind, kind in PRIMITIVES) for member, kind in element.members())


def collect(found: list[Item], type: str, value: Any, beside: Any) -> None:
    """Adds the values of one JSON member."""
    if not isinstance(value, list) and not isinstance(beside, list):
        found.append((_actual(type, value), value, beside))
        return
    values = value if isinstance(value, list) else ()
    sides = beside if isinstance(beside, list) else ()
    for number in range(max(len(values), len(sides))):
        one = values[number] if number < len(values) else None
        side = sides[number] if number < len(sides) else None
        if one is not None or side is not None:
            found.append((_actual(type, one), one, side))


def _actual(type: str, value: Any) -> str:
    if type == "Resource" and isinstance(value, dict):
        return str(value.get("resourceType"))
    return type


def all_children(item: Item) -> list[Item]:
    """Every element directly below an item."""
    type, value, beside = item
    holder = value if isinstance(value, dict) else beside
    definition = definitions().types.get(type)
    if not isinstance(holder, dict) or definition is None:
        return []
    found: list[Item] = []
    for name in holder:
        plain = name[1:] if name[:1] == "_" else name
        known = definition.members.get(plain)
        if known is None or (plain is not name and plain in holder):
            continue
        side = holder.get(f"_{plain}") if known[1] in PRIMITIVES else None
        collect(found, known[1], holder.get(plain), side)
    return found


def key_of(item: Item) -> Hashable:
    """Something hashable that is the same for equal items."""
    type, value, _ = item
    if isinstance(value, bool):
        return ("boolean", value)
    if isinstance(value, dict | list):
        return _frozen(value)
    return value if type not in _DATES else (value, "date")


def _frozen(value: Any) -> Hashable:
    if isinstance(value, dict):
        return frozenset((name, _frozen(part)) for name, part in value.items())
    if isinstance(value, list):
        return tuple(map(_frozen, value))
    return ("boolean", value) if isinstance(value, bool) else value


def equal(left: Items, right: Items) -> bool | None:
    """`=`: None when either is empty, or when a date is too imprecise to tell."""
    if not left or not right:
        return None
    if len(left) != len(right):
        return False
    unknown = False
    for mine, other in zip(left, right, strict=True):
        same = _same(mine, other)
        if same is False:
            return False
        unknown = unknown or same is None
    return None if unknown else True


def _same(mine: Item, other: Item) -> bool | None:
    if mine[0] in _DATES and other[0] in (*_DATES, "string") and isinstance(mine[1], str):
        ordered = _compare_dates(str(mine[1]), str(other[1]))
        return None if ordered is None else ordered == 0
    return key_of(mine) == key_of(other)


def equivalent(left: Items, right: Items) -> bool:
    """`~`: order does not matter, nor case and spaces of texts."""
    if len(left) != len(right):
        return False
    mine, others = (sorted(repr(_folded(one)) for one in side) for side in (left, right))
    return mine == others


def _folded(item: Item) -> Hashable:
    value = item[1]
    return " ".join(value.casefold().split()) if isinstance(value, str) else key_of(item)


def compare(left: Items, right: Items) -> int | None:
    """-1, 0 or 1; None when either is empty or they cannot be set in order."""
    mine, other = single(left), single(right)
    if mine is None or other is None:
        return None
    first, second = mine[1], other[1]
    if isinstance(first, dict) and isinstance(second, dict):
        return _compare_quantities(first, second)
    if isinstance(first, bool) or isinstance(second, bool):
        return None
    numbers = isinstance(first, int | Decimal), isinstance(second, int | Decimal)
    if numbers == (False, False) and isinstance(first, str) and isinstance(second, str):
        if mine[0] in _DATES or other[0] in _DATES:
            return _compare_dates(first, second)
        return (first > second) - (first < second)
    return (first > second) - (first < second) if numbers == (True, True) else None


def _compare_quantities(mine: Mapping[str, Any], other: Mapping[str, Any]) -> int | None:
    """Only in the same unit: nothing is converted."""
    units = [(one.get("system"), one.get("code") or one.get("unit")) for one in (mine, other)]
    first, second = mine.get("value"), other.get("value")
    if units[0] != units[1] or not isinstance(first, int | Decimal):
        return None
    if not isinstance(second, int | Decimal):
        return None
    return (first > second) - (first < second)


def _compare_dates(first: str, second: str) -> int | None:
    mine, other = _parts(first), _parts(second)
    if mine is None or other is None:
        return None
    for one, two in zip(mine, other, strict=False):
        if one != two:
            return 1 if one > two else -1
    return 0 if len(mine) == len(other) else None


def _parts(text: str) -> tuple[Any, ...] | None:
    """Year, month, day, hour, minute, second as far as they are there, in UTC where an offset is
    said."""
    match = _TIMED.fullmatch(text)
    if match is None:
        return None
    year, month, day, hour, minute, second, fraction, zone = match.groups()
    if hour is None or zone is None or second is None:
        parts = tuple(int(part) for part in (year, month, day, hour, minute) if part is not None)
        return parts if second is None else (*parts, Decimal(second + (fraction or "")))
    try:
        time = datetime(int(year), int(month), int(day), int(hour), int(minute), tzinfo=UTC)
        sign = -1 if zone[0] == "-" else 1
        offset = 0 if zone == "Z" else sign * (int(zone[1:3]) * 60 + int(zone[4:6]))
        time -= timedelta(minutes=offset)
    except (ValueError, OverflowError):
        return None
    whole = (time.year, time.month, time.day, time.hour, time.minute)
    return (*whole, Decimal(second + (fraction or "")))
