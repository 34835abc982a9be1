"""Searches on SQLite: a plan becomes one statement, its answer one page.

A search looks in the homes that its plan is bound to, else it starts from the global index, else
from all resources of the type; what could visit more rows than the budget is refused before it
runs. Order is the sort keys and then `rid`, the order of arrival, so that a keyset cursor meets
every match once while others are added. Access is a condition on the resource row: matches, counts
and sort keys all go through it (hl7.org/fhir/R4/search.html).
"""

# ruff: noqa: S608 - SQL is put together from constants and marks; values are always bound

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import apsw

from fhir_gateway.errors import TooCostly
from fhir_gateway.fhir.keys import type_key
from fhir_gateway.search.plan import Condition, Ids, SearchPlan, Updated
from fhir_gateway.security.actor import Access
from fhir_gateway.store.search_includes import COLUMNS, found, included, seen_by
from fhir_gateway.store.search_sort import AFTER_KEYS, key_columns, keyset, order
from fhir_gateway.store.search_where import (
    Part,
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
_WITH_RESOURCE = "CROSS JOIN resource r ON r.home = d.home AND r.type = ? AND r.rid = d.rid"


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


def search(connection: apsw.Connection, plan: SearchPlan, access: Access, *, budget: int) -> Page:
    """One page of matches with what they include, on the connection's snapshot.

    Raises TooCostly before it runs when it could visit more than `budget` rows across patients,
    and instead of cutting the included resources.
    """
    scopes = _scopes(connection, plan)
    branches = [_branch(connection, plan, access, scope, budget) for scope in scopes]
    total = None
    if plan.only_count or plan.total != "none":
        total = sum(_count(connection, branch) for branch in branches)
    if plan.only_count or not branches:
        return Page([], [], None, total)
    sql, values = _statement(plan, branches)
    rows: list[tuple[Any, ...]] = connection.execute(sql, values).fetchall()
    after = None
    if len(rows) > plan.count:
        del rows[plan.count :]
        after = (*rows[-1][AFTER_KEYS:], rows[-1][4])
    matches = [found(connection, plan.type, row) for row in rows]
    more = included(connection, plan, matches, access) if plan.includes and matches else []
    return Page(matches, more, after, total)


def _scopes(connection: apsw.Connection, plan: SearchPlan) -> list[Scope]:
    """Where to look; nowhere when the plan is bound to resources that were never stored."""
    if plan.home is not None:
        return [Scope("shared", (plan.home,))]
    if not (plan.patients or plan.follows or plan.rest):
        return [Scope("everywhere")]
    anchors = [*(("Patient", id) for id in plan.patients), *plan.follows]
    homes = {
        home
        for type, id in anchors
        if (home := connection.execute(_LOCATE, (type_key(type), id)).get) is not None
    }
    if plan.rest:
        homes.add(0)
    persons = tuple(sorted(home for home in homes if home > 0))
    shared = [Scope("shared", (home,)) for home in sorted(homes) if home <= 0]
    return [Scope("persons", persons), *shared] if persons else shared


def _branch(
    connection: apsw.Connection, plan: SearchPlan, access: Access, scope: Scope, budget: int
) -> Branch:
    if scope.kind == "persons" and not any(isinstance(c, Ids) for c in plan.conditions):
        return _persons(plan, access, scope)
    tests = _tests(plan.conditions)
    ids = [c for c in plan.conditions if isinstance(c, Ids)]
    rid = "r.rid"
    if ids:
        source = _by_ids(plan, ids.pop(0), scope)
    else:
        driver = _driver(connection, plan, tests, access, scope, budget)
        if driver is None:
            source = _all(plan, scope)
        else:
            source, rid = _by_rows(plan, driver, scope), "d.rid"
            tests.remove(driver)
    terms = [_columns(plan, access), *(membership(test, scope) for test in tests)]
    terms += [(in_list("r.id", c.ids), list(c.ids)) for c in ids]
    return Branch(scope, source, _all_of(terms), rid)


def _persons(plan: SearchPlan, access: Access, scope: Scope) -> Branch:
    """Persons' homes are small: no estimate, and the terms are kept for the next person."""
    if len(scope.homes) == 1:
        listed, rest = (_at(part, scope.homes[0]) for part in _for_one_home(plan.conditions))
    else:
        listed, rest = _person_terms(plan.conditions, scope)
    where = _all_of([_columns(plan, access), rest])
    return Branch(scope, _all(plan, scope), where, listed=listed)


def _person_terms(conditions: tuple[Condition, ...], scope: Scope) -> tuple[Part, Part]:
    """The list of rids, and the terms that are no list; either may be empty."""
    tests = _tests(conditions)
    lists = [test for test in tests if test.drives]
    rest = _all_of([membership(test, scope) for test in tests if not test.drives])
    return chain(lists, scope) if lists else ("", []), rest


@lru_cache(maxsize=4_096)
def _for_one_home(conditions: tuple[Condition, ...]) -> tuple[Part, Part]:
    return _person_terms(conditions, _ONE_HOME)


def _at(part: Part, home: int) -> Part:
    sql, values = part
    return sql, [home if value is _HERE else value for value in values]


def _tests(conditions: tuple[Condition, ...]) -> list[Test]:
    return [test_of(c) for c in conditions if not isinstance(c, Ids | Updated)]


def _columns(plan: SearchPlan, access: Access) -> Part:
    """The terms on columns of the resource."""
    terms = [seen_by(access)]
    if plan.by_patient:
        terms.append((in_list("r.patient", plan.patients), list(plan.patients)))
    terms += [updated(c) for c in plan.conditions if isinstance(c, Updated)]
    return _all_of(terms)


def _all_of(terms: list[Part]) -> Part:
    return (
        " AND ".join(sql for sql, _ in terms if sql),
        [value for _, values in terms for value in values],
    )


def _by_ids(plan: SearchPlan, condition: Ids, scope: Scope) -> Part:
    where = f"type = ? AND {in_list('id', condition.ids)}"
    if scope.homes:
        where += f" AND {in_list('home', scope.homes)}"
    return (
        f"(SELECT home, rid FROM locator WHERE {where}) d {_WITH_RESOURCE}",
        [type_key(plan.type), *condition.ids, *scope.homes, type_key(plan.type)],
    )


def _by_rows(plan: SearchPlan, driver: Test, scope: Scope) -> Part:
    sql, values = driving(driver.rows[0], scope, distinct=not driver.single)
    return f"({sql}) d {_WITH_RESOURCE}", [*values, type_key(plan.type)]


def _all(plan: SearchPlan, scope: Scope) -> Part:
    """All resources of the type, as a subquery that SQLite takes apart again."""
    type = type_key(plan.type)
    if scope.kind == "everywhere":
        return "(SELECT * FROM resource INDEXED BY resource_type WHERE type = ?) r", [type]
    homes = in_list("home", scope.homes)
    return f"(SELECT * FROM resource WHERE {homes} AND type = ?) r", [*scope.homes, type]


def _driver(
    connection: apsw.Connection,
    plan: SearchPlan,
    tests: list[Test],
    access: Access,
    scope: Scope,
    budget: int,
) -> Test | None:
    """The test to start from; None to go through all resources of the type in the scope.

    Raises TooCostly when every way could visit more rows than the budget.
    """
    candidates = [test for test in tests if test.drives and test.rows[0].seeks]
    if scope.kind == "everywhere":
        known = plan.global_parameters
        candidates = [test for test in candidates if test.rows[0].parameters[0] in known]
    for test in candidates:
        if _fits(connection, driving(test.rows[0], scope, distinct=False), budget):
            return test
    type_rows = _all(plan, scope)
    if _fits(connection, (f"SELECT 1 FROM {type_rows[0]}", type_rows[1]), budget):
        return None
    ends_early = not (plan.sort or plan.only_count or plan.total != "none" or access.owners)
    if ends_early and not plan.conditions:
        return None
    if ends_early and len(plan.conditions) == 1 and scope.kind == "shared" and tests[0].single:
        return tests[0]
    raise TooCostly(
        f"This search could visit more than {budget} rows across patients; name a patient, or "
        "search by an identifier or another selective parameter",
        rule="search-budget",
    )


def _fits(connection: apsw.Connection, rows: Part, budget: int) -> bool:
    sql, values = rows
    counted: int = connection.execute(
        f"SELECT count(*) FROM ({sql} LIMIT ?)",
        (*values, budget + 1),
    ).get
    return counted <= budget


def _count(connection: apsw.Connection, branch: Branch) -> int:
    (source, source_values), (where, where_values) = branch.source, branch.whole_where()
    count: int = connection.execute(
        f"SELECT count(*) FROM {source} WHERE {where}",
        (*source_values, *where_values),
    ).get
    return count


def _statement(plan: SearchPlan, branches: list[Branch]) -> Part:
    """The whole statement; one row more than the page shows whether there is a next one."""
    if plan.sort or len(branches) > 1:
        return _sorted_statement(plan, branches)
    branch = branches[0]
    (source, source_values), (where, where_values) = branch.source, branch.whole_where()
    values = [*source_values, *where_values]
    if plan.after is not None:
        where += f" AND {branch.rid} > ?"
        values.append(plan.after[-1])
    values.append(plan.count + 1)
    sql = f"SELECT {COLUMNS} FROM {source} WHERE {where} ORDER BY {branch.rid} LIMIT ?"
    return sql, values


def _sorted_statement(plan: SearchPlan, branches: list[Branch]) -> Part:
    """Branches with their sort keys, put together and in order; short lists are made once."""
    lists = [branch.listed for branch in branches if branch.listed[0]]
    selects = [_select(plan, branch) for branch in branches]
    where, after = keyset(plan)
    sql = " UNION ALL ".join(sql for sql, _ in selects)
    first = f"WITH m (rid) AS MATERIALIZED ({lists[0][0]}) " if lists else ""
    values = [value for _, part in (*lists, *selects) for value in part]
    return (
        f"{first}SELECT * FROM ({sql}) WHERE {where} ORDER BY {order(plan)} LIMIT ?",
        [*values, *after, plan.count + 1],
    )


def _select(plan: SearchPlan, branch: Branch) -> Part:
    """One branch with its sort keys as columns k0, k1 …"""
    short = bool(branch.listed[0])
    keys, joins = key_columns(plan, branch.scope, short=short)
    (source, source_values), (where, where_values) = branch.source, branch.where
    if short:
        where += " AND r.rid IN (SELECT rid FROM m)"
    return (
        f"SELECT {COLUMNS}{keys[0]} FROM {source}{joins[0]} WHERE {where}",
        [*keys[1], *source_values, *joins[1], *where_values],
    )
