"""Dates and times (hl7.org/fhir/R4/search.html#date, 3.1.1.4.5 for the meaning of a prefix).

A row is the range of microseconds that the value covers, both ends inclusive: 2024-03 covers the
month, a Period its outer bounds with open ends at the end of time, a Timing all that it spans. A
query value is a range too; `eq` holds when it contains the row's range.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from fhir_gateway.errors import Invalid
from fhir_gateway.fhir.datatypes import date_range
from fhir_gateway.search.context import INT64_MAX, INT64_MIN, Context
from fhir_gateway.search.params import Parameter, refusal
from fhir_gateway.search.plan import Comparator, Range, Updated
from fhir_gateway.search.registry import Searchable
from fhir_gateway.search.types.prefix import prefixed

Pair = tuple[int, int]


def _point(value: Any, context: Context) -> Iterator[Pair]:
    yield date_range(value, context.zone)


def _period(value: Any, context: Context) -> Iterator[Pair]:
    start, end = value.get("start"), value.get("end")
    if start or end:
        yield (
            date_range(start, context.zone)[0] if start else INT64_MIN,
            date_range(end, context.zone)[1] if end else INT64_MAX,
        )


def _timing(value: Any, context: Context) -> Iterator[Pair]:
    ranges = [date_range(event, context.zone) for event in value.get("event", ())]
    ranges.extend(_period(value.get("repeat", {}).get("boundsPeriod", {}), context))
    if ranges:
        yield min(low for low, _ in ranges), max(high for _, high in ranges)


#: How a value of a datatype becomes rows.
ROWS: Mapping[str, Any] = {
    **dict.fromkeys(("date", "dateTime", "instant"), _point),
    "Period": _period,
    "Timing": _timing,
}


def condition(searchable: Searchable, parameter: Parameter, context: Context) -> Range:
    """Any of the dates, each under its prefix."""
    alternatives = tuple(_alternative(parameter, value, context) for value in parameter.values)
    return Range(searchable.number, alternatives, searchable.widest)


def updated(parameter: Parameter, context: Context) -> Updated:
    """The same for `_lastUpdated`, which is a column."""
    return Updated(tuple(_alternative(parameter, value, context) for value in parameter.values))


def _alternative(parameter: Parameter, value: str, context: Context) -> tuple[Comparator, int, int]:
    comparator, text = prefixed(value)
    try:
        low, high = date_range(text.replace(" ", "+"), context.zone)
    except Invalid:
        raise refusal(parameter.name.base, "must be a date, such as 2024-03 or ge2024-03-01",
                      rule="search-date") from None  # fmt: skip
    if comparator == "ap":  # about: its own width to both sides; there is no clock here
        width = high - low + 1
        low, high = low - width, high + width
    return comparator, low, high
