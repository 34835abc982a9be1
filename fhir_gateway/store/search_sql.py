"""Searches in SQL: a plan becomes one statement, its answer one page.

A search looks in the homes that its plan is bound to, else it starts from the global index, else
from all resources of the type; what could visit more rows than the budget is refused before it
runs. Order is the sort keys and then `rid`, the order of arrival, so that a keyset cursor meets
every match once while others are added. Access is a condition on the resource row: matches, counts
and sort keys all go through it (hl7.org/fhir/R4/search.html).

Everything here is a generator of statements (`store/query.py`); what differs between databases
stands in `store/dialect.py`.
"""

# ruff: noqa: S608 - SQL is put together from constants and marks; values are always bound

from __future__ import annotations

from typing import Any

from fhir_gateway.search.plan import SearchPlan
from fhir_gateway.security.actor import Access
from fhir_gateway.store.dialect import Dialect
from fhir_gateway.store.extent import may_meet
from fhir_gateway.store.query import Query, Steps
from fhir_gateway.store.search_drive import Look
from fhir_gateway.store.search_explain import explain
from fhir_gateway.store.search_includes import found, included
from fhir_gateway.store.search_near import Way
from fhir_gateway.store.search_page import statement
from fhir_gateway.store.search_record import one_record, one_resource
from fhir_gateway.store.search_sort import AFTER_KEYS
from fhir_gateway.store.search_terms import view_of
from fhir_gateway.store.search_ways import ways
from fhir_gateway.store.sight_sql import Moment
from fhir_gateway.store.store import Page

_NEVER = Moment()


def search(
    plan: SearchPlan, access: Access, *, budget: int, dialect: Dialect, moment: Moment = _NEVER
) -> Steps[Page]:
    """One page of matches with what they include; all its statements belong to one snapshot.

    Raises TooCostly before it runs when it could visit more than `budget` rows across patients,
    and instead of cutting the included resources. A plan that asks to be explained has no matches.
    """
    view = view_of(access, dialect, moment, of_acts=may_meet(plan, "AuditEvent"))
    if plan.narrow is not None:
        view = view._replace(narrow=plan.narrow)
    look = Look(plan, view, budget)
    if plan.explain:
        return Page([], [], None, None, (yield from explain(look)))
    total = query = None
    if not plan.only_count and plan.total == "none":
        query = one_resource(plan, look.view) or (yield from one_record(plan, look.view))
    if query is None:
        into = yield from ways(look)
        total = yield from _total(plan, into)
        if plan.only_count or not into:
            return Page([], [], None, total)
        query = statement(look, into, plan.count + 1)
    rows: list[Any] = yield query
    after = None
    if len(rows) > plan.count:
        del rows[plan.count :]
        after = (*rows[-1][AFTER_KEYS:], rows[-1][4])
    matches = yield from found(rows, plan.type, view.dialect)
    more = []
    if plan.includes and matches:
        more = yield from included(plan, matches, view)
    return Page(matches, more, after, total)


def _total(plan: SearchPlan, into: list[Way]) -> Steps[int | None]:
    """How many matches there are, as far as it was asked for.

    An estimate is the exact number too, or none where counting could visit too many rows.
    """
    if not plan.only_count and plan.total == "none":
        return None
    if not plan.only_count and plan.total == "estimate" and not all(way.is_counted for way in into):
        return None
    total = 0
    for way in into:
        total += yield from _count(way)
    return total


def _count(way: Way) -> Steps[int]:
    (source, source_values), (where, where_values) = way.source, way.whole_where()
    counted = yield Query(
        f"SELECT count(*) FROM {source} WHERE {where}", (*source_values, *where_values)
    )
    count: int = counted[0][0]
    return count
