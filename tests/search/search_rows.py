"""Plans carried out over index rows in memory, resource by resource: meaning and index without SQL.

Slow and plain: what `search.plan` says of each condition, and nothing of how a store finds it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from fhir_gateway.fhir.keys import key64
from fhir_gateway.search.index import Extractor, IndexRows
from fhir_gateway.search.plan import (
    AllOf,
    AnyOf,
    Chain,
    Condition,
    Has,
    Ids,
    Missing,
    Quantity,
    Range,
    Ref,
    SearchPlan,
    Text,
    Token,
)
from fhir_gateway.search.planner import plan_search

SECRET = b"0123456789abcdef"


class Kept(NamedTuple):
    """A resource with its rows."""

    resource: dict[str, Any]
    rows: IndexRows

    @property
    def key(self) -> int:
        return key64(f"{self.resource['resourceType']}/{self.resource['id']}")

    def ints(self, parameter: int) -> list[tuple[int, int]]:
        return [(v1, v2) for number, v1, v2 in self.rows.ints if number == parameter]

    def texts(self, parameter: int) -> list[str]:
        return [text for number, text in self.rows.texts if number == parameter]


class World:
    """Some resources, and searches over them."""

    def __init__(self, *resources: dict[str, Any]) -> None:
        self.extractor = Extractor(SECRET)
        self.kept: dict[str, list[Kept]] = {}
        for resource in resources:
            self.put(resource)

    def put(self, resource: dict[str, Any]) -> None:
        type = resource["resourceType"]
        kept = Kept(resource, self.extractor.rows(type, resource))
        self.kept.setdefault(type, []).append(kept)

    def plan(self, url: str, **options: Any) -> SearchPlan:
        """The plan of `Type?name=value&…`; values stand as they are, unescaped by nobody."""
        type, _, query = url.partition("?")
        pairs = [tuple(pair.split("=", 1)) for pair in query.split("&")] if query else []
        return plan_search(type, pairs, secret=SECRET, **options)  # type: ignore[arg-type]

    def ids(self, url: str) -> list[str]:
        """The ids of the matches, in the order of arrival."""
        return self.run(self.plan(url))

    def run(self, plan: SearchPlan) -> list[str]:
        """The same of a plan. A bound Patient counts as a condition here."""
        bound = {key64(f"Patient/{id}") for id in plan.patients} if plan.by_patient else set()
        return [
            kept.resource["id"]
            for kept in self.kept.get(plan.type, [])
            if all(self.holds(one, kept) for one in plan.conditions)
            and (not bound or bound & {v1 for _, v1, _ in kept.rows.ints})
        ]

    def holds(self, condition: Condition, kept: Kept) -> bool:
        """Whether a resource meets a condition."""
        if isinstance(condition, AnyOf):
            return any(self.holds(one, kept) for one in condition.conditions)
        if isinstance(condition, AllOf):
            return all(self.holds(one, kept) for one in condition.conditions)
        if isinstance(condition, Chain):
            keys = {v1 for v1, _ in kept.ints(condition.parameter)}
            return any(
                other.key in keys and all(self.holds(one, other) for one in branch.conditions)
                for branch in condition.targets
                for other in self.kept.get(branch.type, [])
            )
        if isinstance(condition, Has):
            return any(
                kept.key in {v1 for v1, _ in other.ints(condition.parameter)}
                and all(self.holds(one, other) for one in condition.conditions)
                for other in self.kept.get(condition.source, [])
            )
        if isinstance(condition, Ids):
            return kept.resource["id"] in condition.ids
        return _row_holds(condition, kept)


def _row_holds(condition: Condition, kept: Kept) -> bool:
    if isinstance(condition, Missing):
        present = kept.texts(condition.parameter) if condition.text else ()
        ints = [*kept.ints(condition.parameter), *(r for p in condition.also for r in kept.ints(p))]
        return (not present and not ints) is condition.missing
    if isinstance(condition, Token):
        found = any(
            (code is None or code == v1) and (system is None or system == v2)
            for v1, v2 in kept.ints(condition.parameter)
            for code, system in condition.alternatives
        )
        return found is not condition.negated
    if isinstance(condition, Ref):
        return any(v1 in condition.keys for v1, _ in kept.ints(condition.parameter))
    if isinstance(condition, Text):
        return any(
            _text(condition.match, text, asked)
            for text in kept.texts(condition.parameter)
            for asked in condition.alternatives
        )
    if isinstance(condition, Range):
        return any(
            _compared(comparator, v1, v2, low, high)
            for v1, v2 in kept.ints(condition.parameter)
            for comparator, low, high in condition.alternatives
        )
    if isinstance(condition, Quantity):
        return any(
            _compared(comparator, v1, v1, low, high) and (not units or v2 in units)
            for v1, v2 in kept.ints(condition.parameter)
            for comparator, low, high, units in condition.alternatives
        )
    raise AssertionError(condition)


def _text(match: str, text: str, asked: str) -> bool:
    if match == "exact":
        return text == asked
    if match == "contains":
        return asked in text
    if match == "below":
        return text == asked or text.startswith(asked.rstrip("/") + "/")
    return text.startswith(asked)


def _compared(comparator: str, v1: int, v2: int, low: int, high: int) -> bool:
    inside = low <= v1 and v2 <= high
    return {
        "eq": inside,
        "ne": not inside,
        "gt": v2 > high,
        "lt": v1 < low,
        "ge": v2 > high or inside or v1 >= low,
        "le": v1 < low or inside or v2 <= high,
        "sa": v1 > high,
        "eb": v2 < low,
        "ap": v1 <= high and v2 >= low,
    }[comparator]
