"""Numbers (hl7.org/fhir/R4/search.html#number).

A row is the value as a sortable integer, v1 = v2, or the bounds of a Range. Without a prefix a
query means its implicit precision (100 is 99.5 up to 100.5); with gt, lt, ge, le, sa, eb it is
exact; ap is 10 % to both sides.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from typing import Any, NamedTuple

from fhir_gateway.fhir.datatypes import sortable
from fhir_gateway.search.context import INT64_MAX, INT64_MIN, Context
from fhir_gateway.search.params import Parameter, refusal
from fhir_gateway.search.plan import Comparator, Range
from fhir_gateway.search.registry import Searchable
from fhir_gateway.search.types.prefix import prefixed

Pair = tuple[int, int]

_NUMBER = re.compile(r"[+-]?[0-9]{1,30}(?:\.[0-9]{1,30})?(?:[eE][+-]?[0-9]{1,2})?")


def _point(value: Any, context: Context) -> Iterator[Pair]:
    key = sortable(value)
    yield key, key


def _range(value: Any, context: Context) -> Iterator[Pair]:
    low, high = value.get("low", {}).get("value"), value.get("high", {}).get("value")
    if low is not None or high is not None:
        yield (
            INT64_MIN if low is None else sortable(low),
            INT64_MAX if high is None else sortable(high),
        )


#: How a value of a datatype becomes rows.
ROWS: Mapping[str, Any] = {
    **dict.fromkeys(("decimal", "integer", "positiveInt", "unsignedInt"), _point),
    "Range": _range,
}


class Limits(NamedTuple):
    """What a number means under its comparator, both ends inclusive unless `open_end`."""

    low: Decimal
    high: Decimal
    open_end: bool = False

    def keys(self, times: Callable[[Decimal], float] = float) -> tuple[int, int]:
        """The sortable bounds, both inclusive, of these limits; `times` turns them into a unit."""
        return sortable(times(self.low)), sortable(times(self.high)) - self.open_end


def limits(name: str, comparator: Comparator, text: str) -> Limits:
    """The limits of a search value. Raises Invalid when it is no number."""
    if not _NUMBER.fullmatch(text):
        raise refusal(name, "must be a number, such as 5.4 or ge5.4", rule="search-number")
    value = Decimal(text)
    if comparator in ("eq", "ne"):
        half = Decimal((0, (5,), _exponent(value, text) - 1))
        return Limits(value - half, value + half, True)
    if comparator == "ap":
        tenth = abs(value) / 10
        return Limits(value - tenth, value + tenth)
    return Limits(value, value)


def _exponent(value: Decimal, text: str) -> int:
    """The power of ten of the last digit given: 100 means to the unit, 1e2 to the hundred."""
    exponent = value.as_tuple().exponent
    assert isinstance(exponent, int), text
    return exponent


def condition(searchable: Searchable, parameter: Parameter, context: Context) -> Range:
    """Any of the numbers, each under its prefix."""
    alternatives = []
    for value in parameter.values:
        comparator, text = prefixed(value)
        low, high = limits(parameter.name.base, comparator, text).keys()
        alternatives.append((comparator, low, high))
    return Range(searchable.number, tuple(alternatives))
