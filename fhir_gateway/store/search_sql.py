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

from functools import lru_cache
from typing import NamedTuple

from fhir_gateway.errors import TooCostly
from fhir_gateway.fhir.keys import type_key
from fhir_gateway.search.plan import Condition, Ids, SearchPlan, Updated
from fhir_gateway.security.actor import Access
from fhir_gateway.store.dialect import Dialect
from fhir_gateway.store.query import Part, Query, Steps
from fhir_gateway.store.search_includes import COLUMNS, found, included, seen_by
from fhir_gateway.store.search_sort import AFTER_KEYS, key_columns, keyset, order
from fhir_gateway.store.search_where import (
    Scope,
    Test,
    chain,
    driving,
    in_list,
    membership,
    test_of,
    updated,
)
from fhir_gateway.store.store import Page

_LOCATE = "SELECT home FROM locator WHERE type = ? AND id = ?"
_WITH_RESOURCE = "resource r ON r.home = d.home AND r.type = ? AND r.rid = d.rid"


class Look(NamedTuple):
    """What every step of a search needs to know."""

    plan: SearchPlan
    access: Access
    budget: int
    dialect: Dialect


class Branch(NamedTuple):
    """One FROM and WHERE of the statement: the matches of one scope, each once.

    `listed` is a subquery of the rids that may match, empty when there is no short one.
    """

    scope: Scope
    source: Part
    where: Part
    rid: str = "r.rid"  # the column that gives the order of arrival
    listed: Part = ("", [])

    def whole_where(self) -> Part:
        """The terms of WHERE with the list among them."""
        sql, values = self.listed
        return _all_of([self.where, (f"r.rid IN ({sql})" if sql else "", values)])


class _Here:
    """Stands for the home in the bound values of a statement that serves every home."""


_HERE = _Here()
_ONE_HOME = Scope("persons", (_HERE,))  # type: ignore[arg-type]  # replaced before it is bound


def search(plan: SearchPlan, access: Access, *, budget: int, dialect: Dialect) -> Steps[Page]:
    """One page of matches with what they include; all its statements belong to one snapshot.

    Raises TooCostly before it runs when it could visit more than `budget` rows across patients,
    and instead of cutting the included resources.
    """
    look = Look(plan, access, budget, dialect)
    scopes = yield from _scopes(plan)
    branches = []
    for scope in scopes:
        branches.append((yield from _branch(look, scope)))
    total = None
    if plan.only_count or plan.total != "none":
        total = 0
        for branch in branches:
            total += yield from _count(branch)
    if plan.only_count or not branches:
        return Page([], [], None, total)
    rows = yield _statement(look, branches)
    after = None
    if len(rows) > plan.count:
        del rows[plan.count :]
        after = (*rows[-1][AFTER_KEYS:], rows[-1][4])
    matches = yield from found(plan.type, rows, dialect)
    more = []
    if plan.includes and matches:
        more = yield from included(plan, matches, access, dialect)
    return Page(matches, more, after, total)


def _scopes(plan: SearchPlan) -> Steps[list[Scope]]:
    """Where to look; nowhere when the plan is bound to resources that were never stored."""
    if plan.home is not None:
        return [Scope("shared", (plan.home,))]
    if not (plan.patients or plan.follows or plan.rest):
        return [Scope("everywhere")]
    homes = set()
    for type, id in [*(("Patient", id) for id in plan.patients), *plan.follows]:
        rows = yield Query(_LOCATE, (type_key(type), id))
        homes |= {home for (home,) in rows}
    if plan.rest:
        homes.add(0)
    persons = tuple(sorted(home for home in homes if home > 0))
    shared = [Scope("shared", (home,)) for home in sorted(homes) if home <= 0]
    return [Scope("persons", persons), *shared] if persons else shared


def _branch(look: Look, scope: Scope) -> Steps[Branch]:
    plan, dialect = look.plan, look.dialect
    if scope.kind == "persons" and not any(isinstance(c, Ids) for c in plan.conditions):
        return _persons(look, scope)
    tests = _tests(plan.conditions, dialect)
    ids = [c for c in plan.conditions if isinstance(c, Ids)]
    rid = "r.rid"
    if ids:
        source = _by_ids(look, ids.pop(0), scope)
    else:
        driver = yield from _driver(look, tests, scope)
        if driver is None:
            source = _all(look, scope)
        else:
            source, rid = _by_rows(look, driver, scope), "d.rid"
            tests.remove(driver)
    terms = [_columns(look), *(membership(test, scope, dialect) for test in tests)]
    terms += [(in_list("r.id", c.ids), list(c.ids)) for c in ids]
    return Branch(scope, source, _all_of(terms), rid)


def _persons(look: Look, scope: Scope) -> Branch:
    """Persons' homes are small: no estimate, and the terms are kept for the next person."""
    conditions, dialect = look.plan.conditions, look.dialect
    if len(scope.homes) == 1:
        listed, rest = (_at(part, scope.homes[0]) for part in _for_one_home(conditions, dialect))
    else:
        listed, rest = _person_terms(conditions, scope, dialect)
    where = _all_of([_columns(look), rest])
    return Branch(scope, _all(look, scope), where, listed=listed)


def _person_terms(
    conditions: tuple[Condition, ...], scope: Scope, dialect: Dialect
) -> tuple[Part, Part]:
    """The list of rids, and the terms that are no list; either may be empty."""
    tests = _tests(conditions, dialect)
    lists = [test for test in tests if test.drives]
    rest = _all_of([membership(test, scope, dialect) for test in tests if not test.drives])
    return chain(lists, scope, dialect) if lists else ("", []), rest


@lru_cache(maxsize=4_096)
def _for_one_home(conditions: tuple[Condition, ...], dialect: Dialect) -> tuple[Part, Part]:
    return _person_terms(conditions, _ONE_HOME, dialect)


def _at(part: Part, home: int) -> Part:
    sql, values = part
    return sql, [home if value is _HERE else value for value in values]


def _tests(conditions: tuple[Condition, ...], dialect: Dialect) -> list[Test]:
    return [test_of(c, dialect) for c in conditions if not isinstance(c, Ids | Updated)]


def _columns(look: Look) -> Part:
    """The terms on columns of the resource."""
    plan = look.plan
    terms = [seen_by(look.access, look.dialect)]
    if plan.by_patient:
        terms.append((in_list("r.patient", plan.patients), list(plan.patients)))
    terms += [updated(c) for c in plan.conditions if isinstance(c, Updated)]
    return _all_of(terms)


def _all_of(terms: list[Part]) -> Part:
    return (
        " AND ".join(sql for sql, _ in terms if sql),
        [value for _, values in terms for value in values],
    )


def _by_ids(look: Look, condition: Ids, scope: Scope) -> Part:
    type = type_key(look.plan.type)
    where = f"type = ? AND {in_list('id', condition.ids)}"
    if scope.homes:
        where += f" AND {in_list('home', scope.homes)}"
    return (
        f"(SELECT home, rid FROM locator WHERE {where}) d {look.dialect.then} {_WITH_RESOURCE}",
        [type, *condition.ids, *scope.homes, type],
    )


def _by_rows(look: Look, driver: Test, scope: Scope) -> Part:
    sql, values = driving(driver.rows[0], scope, distinct=not driver.single)
    return f"({sql}) d {look.dialect.then} {_WITH_RESOURCE}", [*values, type_key(look.plan.type)]


def _all(look: Look, scope: Scope) -> Part:
    """All resources of the type, as a subquery that the database takes apart again."""
    type = type_key(look.plan.type)
    if scope.kind == "everywhere":
        hint = look.dialect.use("resource_type")
        return f"(SELECT * FROM resource{hint} WHERE type = ?) r", [type]
    homes = in_list("home", scope.homes)
    return f"(SELECT * FROM resource WHERE {homes} AND type = ?) r", [*scope.homes, type]


def _driver(look: Look, tests: list[Test], scope: Scope) -> Steps[Test | None]:
    """The test to start from; None to go through all resources of the type in the scope.

    Raises TooCostly when every way could visit more rows than the budget.
    """
    plan, budget = look.plan, look.budget
    candidates = [test for test in tests if test.drives and test.rows[0].seeks]
    if scope.kind == "everywhere":
        known = plan.global_parameters
        candidates = [test for test in candidates if test.rows[0].parameters[0] in known]
    for test in candidates:
        if (yield from _fits(driving(test.rows[0], scope, distinct=False), budget)):
            return test
    source, values = _all(look, scope)
    if (yield from _fits((f"SELECT 1 FROM {source}", values), budget)):
        return None
    ends_early = not (plan.sort or plan.only_count or plan.total != "none" or look.access.owners)
    if ends_early and not plan.conditions:
        return None
    if ends_early and len(plan.conditions) == 1 and scope.kind == "shared" and tests[0].single:
        return tests[0]
    raise TooCostly(
        f"This search could visit more than {budget} rows across patients; name a patient, or "
        "search by an identifier or another selective parameter",
        rule="search-budget",
    )


def _fits(rows: Part, budget: int) -> Steps[bool]:
    sql, values = rows
    counted = yield Query(
        f"SELECT count(*) FROM (SELECT * FROM ({sql}) AS every LIMIT ?) AS counted",
        (*values, budget + 1),
    )
    fits: bool = counted[0][0] <= budget
    return fits


def _count(branch: Branch) -> Steps[int]:
    (source, source_values), (where, where_values) = branch.source, branch.whole_where()
    counted = yield Query(
        f"SELECT count(*) FROM {source} WHERE {where}", (*source_values, *where_values)
    )
    count: int = counted[0][0]
    return count


def _statement(look: Look, branches: list[Branch]) -> Query:
    """The whole statement; one row more than the page shows whether there is a next one."""
    plan = look.plan
    if plan.sort or len(branches) > 1:
        return _sorted_statement(look, branches)
    branch = branches[0]
    (source, source_values), (where, where_values) = branch.source, branch.whole_where()
    values = [*source_values, *where_values]
    if plan.after is not None:
        where += f" AND {branch.rid} > ?"
        values.append(plan.after[-1])
    values.append(plan.count + 1)
    sql = f"SELECT {COLUMNS} FROM {source} WHERE {where} ORDER BY {branch.rid} LIMIT ?"
    return Query(sql, values)


def _sorted_statement(look: Look, branches: list[Branch]) -> Query:
    """Branches with their sort keys, put together and in order; short lists are made once."""
    plan = look.plan
    lists = [branch.listed for branch in branches if branch.listed[0]]
    selects = [_select(look, branch) for branch in branches]
    where, after = keyset(plan)
    sql = " UNION ALL ".join(sql for sql, _ in selects)
    first = f"WITH m (rid) AS MATERIALIZED ({lists[0][0]}) " if lists else ""
    values = [value for _, part in (*lists, *selects) for value in part]
    return Query(
        f"{first}SELECT * FROM ({sql}) AS every WHERE {where} ORDER BY {order(plan)} LIMIT ?",
        [*values, *after, plan.count + 1],
    )


def _select(look: Look, branch: Branch) -> Part:
    """One branch with its sort keys as columns k0, k1 …"""
    plan, short = look.plan, bool(branch.listed[0])
    keys, joins = key_columns(plan, branch.scope, look.dialect, short=short)
    (source, source_values), (where, where_values) = branch.source, branch.where
    if short:
        where += " AND r.rid IN (SELECT rid FROM m)"
    return (
        f"SELECT {COLUMNS}{keys[0]} FROM {source}{joins[0]} WHERE {where}",
        [*keys[1], *source_values, *joins[1], *where_values],
    )
