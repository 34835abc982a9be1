"""_typeFilter: a search plan judged on one version of one resource, by the rows of that version.

The index knows the newest versions only, an export is as of an earlier moment: so the rows of each
version are made again, and the conditions of the plan are held against them, with the same
meaning as their SQL (store/search_where.py). What looks beyond the resource is refused by name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from fhir_gateway.context import Gateway
from fhir_gateway.errors import NotSupported
from fhir_gateway.fhir.home import home_of
from fhir_gateway.interactions.deriving import Deriver
from fhir_gateway.interactions.search_codes import codes_for
from fhir_gateway.search.params import parse_name, shown
from fhir_gateway.search.plan import (
    AllOf,
    AnyOf,
    Condition,
    Ids,
    Missing,
    Quantity,
    Range,
    Ref,
    SearchPlan,
    Text,
    Token,
    Updated,
)
from fhir_gateway.search.planner import plan_search
from fhir_gateway.search.results import RESULTS
from fhir_gateway.store.store import Stored

Filter = Callable[[Stored], bool]


class Rows:
    """The index rows of one version, by parameter."""

    __slots__ = ("ints", "stored", "texts")

    def __init__(self, stored: Stored, ints: Sequence[Any], texts: Sequence[Any]) -> None:
        self.stored = stored
        self.ints: dict[int, list[tuple[int, int]]] = {}
        self.texts: dict[int, list[str]] = {}
        for parameter, v1, v2 in ints:
            self.ints.setdefault(parameter, []).append((v1, v2))
        for parameter, text in texts:
            self.texts.setdefault(parameter, []).append(text)


async def filter_of(
    gateway: Gateway, type: str, pairs: Sequence[tuple[str, str]], *, base: str
) -> Filter:
    """What says whether a version of a resource of the type meets a search.

    Raises Invalid for what search.planner does not understand, NotSupported for parameters that
    shape an answer, for chains and for _has.
    """
    for name, _ in pairs:
        if parse_name(name).base in RESULTS:
            raise NotSupported(f"{shown(name)} chooses no resources", rule="type-filter")
    plan = plan_search(
        type,
        pairs,
        secret=gateway.store.index_key,
        base_url=gateway.settings.base_url or base,
        zone=gateway.settings.zone,
        codes=await codes_for(gateway, pairs, base=base),
        naming=gateway.extractor.naming,
    )
    for condition in plan.conditions:
        _check(condition)
    deriver = Deriver(gateway)
    await deriver.follow()
    return lambda stored: _meets(gateway, deriver, plan, stored)


def _check(condition: Condition) -> None:
    if isinstance(condition, AnyOf | AllOf):
        for one in condition.conditions:
            _check(one)
    elif type(condition) not in _TESTS:
        raise NotSupported(
            "Searches that follow references to other resources (chains, _has) choose nothing here",
            rule="type-filter",
        )


def _meets(gateway: Gateway, deriver: Deriver, plan: SearchPlan, stored: Stored) -> bool:
    resource = deriver.recoded(stored)  # what a search would find it by
    if plan.by_patient and home_of(resource).patient not in plan.patients:
        return False
    found = gateway.extractor.rows(stored.type, resource)
    rows = Rows(stored, found.ints, found.texts)
    return all(_holds(condition, rows) for condition in plan.conditions)


def _holds(condition: Condition, rows: Rows) -> bool:
    return _TESTS[type(condition)](condition, rows)


def _token(condition: Token, rows: Rows) -> bool:
    found = any(
        (v1 is None or v1 == row[0]) and (v2 is None or v2 == row[1])
        for row in rows.ints.get(condition.parameter, ())
        for v1, v2 in condition.alternatives
    )
    return found != condition.negated


def _ref(condition: Ref, rows: Rows) -> bool:
    return any(v1 in condition.keys for v1, _ in rows.ints.get(condition.parameter, ()))


#: Comparisons of a row's range v1..v2 with low..high, as in search_where.py.
_COMPARE: dict[str, Callable[[int, int, int, int], bool]] = {
    "eq": lambda v1, v2, low, high: low <= v1 <= high and v2 <= high,
    "ne": lambda v1, v2, low, high: v1 < low or v2 > high,
    "gt": lambda v1, v2, low, high: v2 > high,
    "lt": lambda v1, v2, low, high: v1 < low,
    "ge": lambda v1, v2, low, high: v1 >= low or v2 > high,
    "le": lambda v1, v2, low, high: (v1 < low or v2 <= high) and v1 <= high,
    "sa": lambda v1, v2, low, high: v1 > high,
    "eb": lambda v1, v2, low, high: v2 < low and v1 < low,
    "ap": lambda v1, v2, low, high: v1 <= high and v2 >= low,
}

#: The same for a quantity, whose value is v1 alone.
_COMPARE_VALUE: dict[str, Callable[[int, int, int], bool]] = {
    "eq": lambda v1, low, high: low <= v1 <= high,
    "ne": lambda v1, low, high: v1 < low or v1 > high,
    "gt": lambda v1, low, high: v1 > high,
    "lt": lambda v1, low, high: v1 < low,
    "ge": lambda v1, low, high: v1 >= low,
    "le": lambda v1, low, high: v1 <= high,
    "sa": lambda v1, low, high: v1 > high,
    "eb": lambda v1, low, high: v1 < low,
    "ap": lambda v1, low, high: low <= v1 <= high,
}


def _range(condition: Range, rows: Rows) -> bool:
    return any(
        _COMPARE[comparator](v1, v2, low, high)
        for v1, v2 in rows.ints.get(condition.parameter, ())
        for comparator, low, high in condition.alternatives
    )


def _quantity(condition: Quantity, rows: Rows) -> bool:
    return any(
        _COMPARE_VALUE[comparator](v1, low, high) and (not units or v2 in units)
        for v1, v2 in rows.ints.get(condition.parameter, ())
        for comparator, low, high, units in condition.alternatives
    )


def _text(condition: Text, rows: Rows) -> bool:
    match = _MATCHES[condition.match]
    return any(
        match(text, wanted)
        for text in rows.texts.get(condition.parameter, ())
        for wanted in condition.alternatives
    )


_MATCHES: dict[str, Callable[[str, str], bool]] = {
    "starts": lambda text, wanted: text.startswith(wanted),
    "exact": lambda text, wanted: text == wanted,
    "contains": lambda text, wanted: wanted in text,
    "below": lambda text, wanted: (
        text == wanted or text.startswith(wanted if wanted.endswith("/") else f"{wanted}/")
    ),
}


def _missing(condition: Missing, rows: Rows) -> bool:
    parameters = condition.also if condition.text else (condition.parameter, *condition.also)
    present = any(one in rows.ints for one in parameters)
    if condition.text:
        present = present or condition.parameter in rows.texts
    return present != condition.missing


def _ids(condition: Ids, rows: Rows) -> bool:
    return rows.stored.id in condition.ids


def _updated(condition: Updated, rows: Rows) -> bool:
    at = rows.stored.updated
    return any(
        _COMPARE[comparator](at, at, low, high) for comparator, low, high in condition.alternatives
    )


def _any_of(condition: AnyOf, rows: Rows) -> bool:
    return any(_holds(one, rows) for one in condition.conditions)


def _all_of(condition: AllOf, rows: Rows) -> bool:
    return all(_holds(one, rows) for one in condition.conditions)


_TESTS: dict[type, Callable[[Any, Rows], bool]] = {
    Token: _token,
    Ref: _ref,
    Range: _range,
    Quantity: _quantity,
    Text: _text,
    Missing: _missing,
    Ids: _ids,
    Updated: _updated,
    AnyOf: _any_of,
    AllOf: _all_of,
}
