"""Conditions judged of one resource at hand, by the rows that its index would have.

The same comparisons as in the store's SQL (store/search_where.py), for what is not stored yet or
is no longer current: hl7.org/fhir/R4/search.html, 3.1.1.4.5. Chains and _has ask of other
resources and cannot be judged so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from fhir_gateway.errors import Internal
from fhir_gateway.search.index import IndexRows
from fhir_gateway.search.plan import (
    AllOf,
    AnyOf,
    Condition,
    Ids,
    Missing,
    Quantity,
    Range,
    Ref,
    Text,
    Token,
)


def meets(condition: Condition, id: str, rows: IndexRows) -> bool:
    """Whether a resource with this logical id and these rows meets the condition.

    Raises Internal for a condition that `is_judged` does not name.
    """
    judge = _JUDGES.get(type(condition))
    if judge is None:
        raise Internal("A condition cannot be judged of one resource")
    return judge(condition, id, rows)


def is_judged(condition: Condition) -> bool:
    """Whether `meets` can judge a condition."""
    if isinstance(condition, AnyOf | AllOf):
        return all(is_judged(one) for one in condition.conditions)
    return type(condition) in _JUDGES


def _pairs(parameter: int, rows: IndexRows) -> Iterable[tuple[int, int]]:
    return [(v1, v2) for number, v1, v2 in rows.ints if number == parameter]


def _token(token: Token, id: str, rows: IndexRows) -> bool:
    found = any(
        (code is None or code == v1) and (system is None or system == v2)
        for v1, v2 in _pairs(token.parameter, rows)
        for code, system in token.alternatives
    )
    return found != token.negated


def _ref(ref: Ref, id: str, rows: IndexRows) -> bool:
    return any(v1 in ref.keys for v1, _ in _pairs(ref.parameter, rows))


#: Comparisons of a row's range (first, last) with the query's range (low, high).
COMPARISONS: Mapping[str, Callable[[int, int, int, int], bool]] = {
    "eq": lambda first, last, low, high: low <= first and last <= high,
    "ne": lambda first, last, low, high: first < low or last > high,
    "gt": lambda first, last, low, high: last > high,
    "lt": lambda first, last, low, high: first < low,
    "ge": lambda first, last, low, high: first >= low or last > high,
    "le": lambda first, last, low, high: (first < low or last <= high) and first <= high,
    "sa": lambda first, last, low, high: first > high,
    "eb": lambda first, last, low, high: last < low,
    "ap": lambda first, last, low, high: first <= high and last >= low,
}


def _range(condition: Range, id: str, rows: IndexRows) -> bool:
    return any(
        COMPARISONS[comparator](v1, v2, low, high)
        for v1, v2 in _pairs(condition.parameter, rows)
        for comparator, low, high in condition.alternatives
    )


#: The same for a quantity, whose value is one number.
_QUANTITY_COMPARISONS: Mapping[str, Callable[[int, int, int], bool]] = {
    "eq": lambda value, low, high: low <= value <= high,
    "ne": lambda value, low, high: value < low or value > high,
    "gt": lambda value, low, high: value > high,
    "lt": lambda value, low, high: value < low,
    "ge": lambda value, low, high: value >= low,
    "le": lambda value, low, high: value <= high,
    "sa": lambda value, low, high: value > high,
    "eb": lambda value, low, high: value < low,
    "ap": lambda value, low, high: low <= value <= high,
}


def _quantity(condition: Quantity, id: str, rows: IndexRows) -> bool:
    return any(
        (not units or v2 in units) and _QUANTITY_COMPARISONS[comparator](v1, low, high)
        for v1, v2 in _pairs(condition.parameter, rows)
        for comparator, low, high, units in condition.alternatives
    )


def _parent(text: str) -> str:
    return text if text.endswith("/") else f"{text}/"


_MATCHES: Mapping[str, Callable[[str, str], bool]] = {
    "starts": lambda text, asked: text.startswith(asked),
    "exact": lambda text, asked: text == asked,
    "contains": lambda text, asked: asked in text,
    "below": lambda text, asked: text == asked or text.startswith(_parent(asked)),
}


def _text(condition: Text, id: str, rows: IndexRows) -> bool:
    match = _MATCHES[condition.match]
    texts = [text for number, text in rows.texts if number == condition.parameter]
    return any(match(text, asked) for text in texts for asked in condition.alternatives)


def _missing(condition: Missing, id: str, rows: IndexRows) -> bool:
    numbers = {number for number, _, _ in rows.ints}
    there = not numbers.isdisjoint(
        condition.also if condition.text else (condition.parameter, *condition.also)
    )
    if condition.text:
        there = there or any(number == condition.parameter for number, _ in rows.texts)
    return there != condition.missing


def _ids(condition: Ids, id: str, rows: IndexRows) -> bool:
    return id in condition.ids


def _any_of(condition: AnyOf, id: str, rows: IndexRows) -> bool:
    return any(meets(one, id, rows) for one in condition.conditions)


def _all_of(condition: AllOf, id: str, rows: IndexRows) -> bool:
    return all(meets(one, id, rows) for one in condition.conditions)


_JUDGES: dict[type, Callable[[Any, str, IndexRows], bool]] = {
    Token: _token,
    Ref: _ref,
    Range: _range,
    Quantity: _quantity,
    Text: _text,
    Missing: _missing,
    Ids: _ids,
    AnyOf: _any_of,
    AllOf: _all_of,
}
