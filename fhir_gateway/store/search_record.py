"""The searches in one patient's record and for one id: one statement, made once and kept.

Most searches name one Patient and nothing that lies outside of the record. Their statement depends
on the conditions alone; who the patient is, who asks, and where the page before ended are filled
in. The home is looked up inside the statement, or before it by a database that gathers (see
dialect.py).
"""

# ruff: noqa: S608 - SQL is put together from constants and marks; values are always bound

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

from fhir_gateway.fhir.keys import type_key
from fhir_gateway.search.plan import Condition, Ids, SearchPlan, Sort
from fhir_gateway.store.dialect import Dialect
from fhir_gateway.store.query import Query, Steps
from fhir_gateway.store.search_drive import Look
from fhir_gateway.store.search_includes import COLUMNS
from fhir_gateway.store.search_near import near
from fhir_gateway.store.search_page import statement
from fhir_gateway.store.search_terms import View, has_unbound
from fhir_gateway.store.search_where import Scope
from fhir_gateway.store.sight_sql import Shape


class _Mark(NamedTuple):
    """Stands for a value that is filled in for each search."""

    read: Callable[[SearchPlan, View], Any]


_HOME = _Mark(lambda plan, view: None)  # replaced by the home, or by the statement that finds it
_PATIENT = _Mark(lambda plan, view: plan.patients[0])
_LIMIT = _Mark(lambda plan, view: plan.count + 1)

_FIND_HOME = "(SELECT home FROM locator WHERE type = ? AND id = ?)"

#: Where a resource lives. A place never changes: a driver may remember it.
PLACE = "SELECT home, rid FROM locator WHERE type = ? AND id = ?"


def _after(place: int) -> _Mark:
    return _Mark(lambda plan, view: plan.after[place] if plan.after else None)


def _bound(name: str) -> _Mark:
    return _Mark(lambda plan, view: view.values[name])


class _Kept(NamedTuple):
    """A statement, its values, and those of them that are filled in."""

    sql: str
    values: list[Any]
    marks: tuple[tuple[int, _Mark], ...]


def one_resource(plan: SearchPlan, view: View) -> Query | None:
    """The statement of a search that is no more than one _id; None for every other."""
    if len(plan.conditions) != 1 or plan.patients or plan.follows or plan.rest or plan.sort:
        return None
    only = plan.conditions[0]
    if not isinstance(only, Ids) or len(only.ids) != 1 or plan.after is not None:
        return None
    see, bound = view.sees("r")
    return Query(
        f"SELECT {COLUMNS} FROM locator l {view.dialect.then} resource r"
        " ON r.home = l.home AND r.type = l.type AND r.rid = l.rid"
        f" WHERE l.type = ? AND l.id = ? AND {see}",
        (type_key(plan.type), only.ids[0], *bound),
    )


def one_record(plan: SearchPlan, view: View) -> Steps[Query | None]:
    """The statement of a page; None when the search needs more than one patient's record."""
    if len(plan.patients) != 1 or plan.follows or plan.rest or plan.home is not None:
        return None
    if view.narrow is not None:  # as many shapes as there are scopes
        return None
    kept = _kept(
        plan.type, plan.conditions, plan.sort, plan.by_patient, plan.after is not None,
        view.dialect, view.shape, tuple(view.values),
    )  # fmt: skip
    if kept is None:
        return None
    home = None
    if view.dialect.gathers:
        rows = yield Query(PLACE, (type_key("Patient"), plan.patients[0]))
        home = rows[0][0] if rows else None
    values = kept.values.copy()
    for place, mark in kept.marks:
        values[place] = home if mark is _HOME else mark.read(plan, view)
    return Query(kept.sql, values)


@lru_cache(maxsize=4_096)
def _kept(
    type: str,
    conditions: tuple[Condition, ...],
    sort: tuple[Sort, ...],
    by_patient: bool,
    goes_on: bool,
    dialect: Dialect,
    shape: Shape,
    names: tuple[str, ...],
) -> _Kept | None:
    if has_unbound(conditions) or any(isinstance(one, Ids) for one in conditions):
        return None
    after = tuple(_after(place) for place in range(len(sort) + 1)) if goes_on else None
    marks: Any = {"patients": (_PATIENT,), "after": after}
    plan = SearchPlan(type, conditions, sort=sort, by_patient=by_patient, **marks)
    view = View(dialect, shape, {name: _bound(name) for name in names})  # filled in later
    here: Any = (_HOME,)
    look = Look(plan, view, 0)
    sql, values = statement(look, [near(look, conditions, Scope("persons", here))], _LIMIT)
    return _kept_as(sql, list(values)) if dialect.gathers else _finding_home(sql, values)


def _finding_home(sql: str, values: Any) -> _Kept:
    """The statement with the search for the home in the places of the home."""
    texts = sql.split("?")
    whole, bound = texts[0], []
    for text, value in zip(texts[1:], values, strict=True):
        if value is _HOME:
            whole += _FIND_HOME + text
            bound += [type_key("Patient"), _PATIENT]
        else:
            whole += "?" + text
            bound.append(value)
    return _kept_as(whole, bound)


def _kept_as(sql: str, values: list[Any]) -> _Kept:
    marks = tuple((place, value) for place, value in enumerate(values) if isinstance(value, _Mark))
    return _Kept(sql, values, marks)
