"""Where a search starts: the conditions that lead to resources, and how many rows they would visit.

In the homes of a few persons everything is near and nothing is counted. Elsewhere a search starts
from the first condition whose rows in an index of the scope fit the budget, else from what its
chains and _has lead back to, else from all resources of the type. Every count stops one past the
budget, so that finding out costs no more than the search may.
"""

# ruff: noqa: S608 - SQL is put together from constants and marks; values are always bound

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from fhir_gateway.fhir.keys import type_key
from fhir_gateway.search.plan import AllOf, AnyOf, Chain, Has, Ids, SearchPlan, Updated
from fhir_gateway.store.query import Part, Query, Steps
from fhir_gateway.store.search_terms import Keys, Term, View
from fhir_gateway.store.search_where import Scope, driving, test_of, union_all


class Look(NamedTuple):
    """What every step of a search needs to know."""

    plan: SearchPlan
    view: View
    budget: int


class Driver(NamedTuple):
    """SELECTs of (home, rid) that a condition leads to.

    `exact` says that they meet the condition, `single` that they name each resource once. `few`
    is how many they are at most where that is known without counting.
    """

    condition: Term
    parts: list[Part]
    exact: bool = True
    single: bool = False
    few: int | None = None

    def source(self, look: Look) -> Part:
        """The FROM of a statement that starts here, with the resource as r."""
        sql, values = union_all(self.parts, " UNION ")
        if len(self.parts) == 1 and not self.single:
            sql = f"SELECT DISTINCT home, rid FROM ({sql}) AS every"
        return (
            f"({sql}) d {look.view.dialect.then} resource r"
            " ON r.home = d.home AND r.type = ? AND r.rid = d.rid",
            [*values, type_key(look.plan.type)],
        )


def all_of_type(look: Look, scope: Scope) -> Part:
    """The FROM of all resources of the type, as a subquery that the database takes apart again."""
    type, dialect = type_key(look.plan.type), look.view.dialect
    if scope.kind == "everywhere":
        return f"(SELECT * FROM resource{dialect.use('resource_type')} WHERE type = ?) r", [type]
    homes, values = dialect.among("home", scope.homes)
    return f"(SELECT * FROM resource WHERE {homes} AND type = ?) r", [*values, type]


def driver_of(condition: Term, scope: Scope, look: Look) -> Driver | None:
    """What the condition leads to in an index of the scope; None when it leads nowhere."""
    lead = _LEADS.get(type(condition), _rows_lead)
    return lead(condition, scope, look)


def _rows_lead(condition: Any, scope: Scope, look: Look) -> Driver | None:
    """The rows of the scope's index, where they are found without a scan."""
    test = test_of(condition, look.view.dialect)
    if not (test.drives and test.rows[0].seeks):
        return None
    known = look.plan.global_parameters
    if scope.kind == "everywhere" and test.rows[0].parameters[0] not in known:
        return None
    parts = driving(test.rows[0], scope, look.view.dialect)
    return Driver(condition, parts, single=test.single)


def _nowhere(condition: Any, scope: Scope, look: Look) -> None:
    """A chain or _has leads somewhere when it is resolved; a time of storing never does."""


def _all_lead(condition: AllOf, scope: Scope, look: Look) -> Driver | None:
    """One of them that leads somewhere is enough."""
    found = next(drivers(condition.conditions, scope, look), None)
    return found and found._replace(condition=condition, exact=False)


def _any_leads(condition: AnyOf, scope: Scope, look: Look) -> Driver | None:
    """The alternatives together, when each of them leads somewhere."""
    found = [driver_of(one, scope, look) for one in condition.conditions]
    if None in found:
        return None
    known = [driver for driver in found if driver is not None]
    return Driver(
        condition,
        [part for driver in known for part in driver.parts],
        exact=all(driver.exact for driver in known),
    )


def _ids_lead(condition: Ids, scope: Scope, look: Look) -> Driver:
    ids, values = look.view.dialect.among("id", condition.ids)
    homes, bound = _in_homes(scope, look)
    sql = f"SELECT home, rid FROM locator WHERE type = ? AND {ids}{homes}"
    bound = [type_key(look.plan.type), *values, *bound]
    return Driver(condition, [(sql, bound)], single=True, few=len(condition.ids))


def _keys_lead(condition: Keys, scope: Scope, look: Look) -> Driver:
    dialect = look.view.dialect
    keys, values = dialect.among("key", condition.keys)
    homes, bound = _in_homes(scope, look)
    hint = dialect.use("resource_key")
    sql = f"SELECT home, rid FROM resource{hint} WHERE {keys} AND type = ?{homes}"
    bound = [*values, type_key(look.plan.type), *bound]
    return Driver(condition, [(sql, bound)], single=True, few=len(condition.keys))


_LEADS: Mapping[type, Callable[[Any, Scope, Look], Driver | None]] = {
    Ids: _ids_lead,
    Keys: _keys_lead,
    AnyOf: _any_leads,
    AllOf: _all_lead,
    Chain: _nowhere,
    Has: _nowhere,
    Updated: _nowhere,
}


def drivers(conditions: Iterable[Term], scope: Scope, look: Look) -> Iterator[Driver]:
    """All that the conditions lead to, the shortest lists first."""
    found = (driver_of(condition, scope, look) for condition in conditions)
    known = [driver for driver in found if driver is not None]
    return iter(sorted(known, key=lambda driver: driver.few is None))


def _in_homes(scope: Scope, look: Look) -> Part:
    if not scope.homes:
        return "", []
    homes, values = look.view.dialect.among("home", scope.homes)
    return f" AND {homes}", values


def counted(look: Look, rows: Part) -> Steps[int | None]:
    """How many rows a SELECT has, None when more than the budget."""
    sql, values = rows
    answer = yield Query(
        f"SELECT count(*) FROM ({sql} LIMIT ?) AS counted", (*values, look.budget + 1)
    )
    count: int = answer[0][0]
    return count if count <= look.budget else None


def named_by(look: Look, source: Part, has: Has) -> Steps[int | None]:
    """How many rows name the resources of a FROM, None when more than the budget."""
    sql, values = source
    then = look.view.dialect.then
    if has.within == "global":
        table, place = "gx", ""
    else:
        own = "" if has.within == "zero" else "r.home, "
        table, place = "px", f" AND b.home IN ({own}0)"
    return (
        yield from counted(
            look,
            (
                f"SELECT 1 FROM {sql} {then} {table} b ON b.v1 = r.key AND b.parameter = ?{place}",
                [*values, has.parameter],
            ),
        )
    )
