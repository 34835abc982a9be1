"""How a search would run, instead of its matches: __explain=true.

What is told may not tell what stands in records that the caller does not see. Statements are shown
without their values, and how many rows a search starts from as a round number.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from functools import lru_cache
from typing import Any, Literal, NamedTuple

from fhir_gateway.errors import TooCostly
from fhir_gateway.search.plan import AllOf, AnyOf, Chain, Condition, Has, Ids, Updated
from fhir_gateway.search.registry import Searchable, searchables
from fhir_gateway.store.query import Steps
from fhir_gateway.store.search_drive import Look
from fhir_gateway.store.search_near import Way
from fhir_gateway.store.search_page import statement
from fhir_gateway.store.search_record import one_record, one_resource
from fhir_gateway.store.search_terms import Keys, Term
from fhir_gateway.store.search_ways import ways

#: The smallest number of rows that is told.
_ROUND = 100

Cost = Literal["home", "index", "scan", "refused"]


class Start(NamedTuple):
    """Where one way of a search starts: the kind of its scope, the parameters that lead to the
    resources (empty: all of the type), and at most how many rows, None when not counted."""

    scope: str
    driver: str
    rows: int | None


class Explanation(NamedTuple):
    """The plan of a search. `cost` is its class: the homes of persons, an index, all resources of
    the type, or refused for the reason that is given."""

    cost: Cost
    starts: tuple[Start, ...]
    statements: tuple[str, ...]
    budget: int
    reason: str = ""


def explain(look: Look) -> Steps[Explanation]:
    """How the search would run. Its statements are made and not run, only what leads to them is."""
    one = one_resource(look.plan, look.view)
    if one is not None:
        return Explanation("index", (Start("everywhere", "_id", _ROUND),), (one.sql,), look.budget)
    texts: list[str] = []
    record = yield from _recorded(one_record(look.plan, look.view), texts)
    if record is not None:
        texts.append(record.sql)
        return Explanation("home", (Start("persons", "", None),), tuple(texts), look.budget)
    try:
        into = yield from _recorded(ways(look), texts)
    except TooCostly as refused:
        reason = refused.issues[0].diagnostics
        return Explanation("refused", (), tuple(texts), look.budget, reason)
    if into:
        texts.append(statement(look, into, look.plan.count + 1).sql)
    starts = tuple(_start(way, look.plan.type, hidden=look.view.is_restricted) for way in into)
    return Explanation(_cost(into), starts, tuple(texts), look.budget)


def _recorded(steps: Steps[Any], texts: list[str]) -> Steps[Any]:
    """The same generator; the texts of its statements are kept."""
    try:
        query = next(steps)
        while True:
            texts.append(query.sql)
            query = steps.send((yield query))
    except StopIteration as end:
        return end.value


def _cost(into: list[Way]) -> Cost:
    far = [way for way in into if way.scope.kind != "persons"]
    if not far:
        return "home"
    return "index" if all(way.driver is not None for way in far) else "scan"


def _start(way: Way, type: str, *, hidden: bool) -> Start:
    """`hidden`: rows that the caller does not see are among them, so their number is not told."""
    rows = None
    if way.rows is not None and not hidden:
        rows = _ROUND
        while rows < way.rows:
            rows *= 10
    driver = "" if way.driver is None else _name(way.driver, type)
    return Start(way.scope.kind, driver, rows)


def _name(condition: Term, type: str) -> str:
    """The parameters that a condition comes from."""
    known = _FIXED.get(condition.__class__)
    if known is not None:
        return known
    if isinstance(condition, AnyOf | AllOf):
        inner: tuple[Condition, ...] = condition.conditions
        return ", ".join(dict.fromkeys(_name(one, type) for one in inner))
    return _names(type).get(condition.parameter, "a combination")  # type: ignore[union-attr]  # all others have one


_FIXED: Mapping[type, str] = {
    Ids: "_id", Keys: "_has", Updated: "_lastUpdated", Chain: "a chain", Has: "_has"
}  # fmt: skip


@lru_cache(maxsize=256)
def _names(type: str) -> Mapping[int, str]:
    """The code of every parameter number of a type."""
    numbers = [one.name for one in fields(Searchable) if one.name.endswith("number")]
    return {
        getattr(searchable, number): code
        for code, searchable in searchables(type).items()
        for number in numbers
    }


def parameters(explanation: Explanation) -> dict[str, Any]:
    """The explanation as a Parameters resource."""
    told: list[dict[str, Any]] = [
        {"name": "cost", "valueCode": explanation.cost},
        {"name": "budget", "valueInteger": explanation.budget},
    ]
    if explanation.reason:
        told.append({"name": "reason", "valueString": explanation.reason})
    for start in explanation.starts:
        part: list[dict[str, Any]] = [{"name": "scope", "valueCode": start.scope}]
        if start.driver:
            part.append({"name": "driver", "valueString": start.driver})
        if start.rows is not None:
            part.append({"name": "rows", "valueInteger": start.rows})
        told.append({"name": "start", "part": part})
    told += [{"name": "statement", "valueString": text} for text in explanation.statements]
    return {"resourceType": "Parameters", "parameter": told}
