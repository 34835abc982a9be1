"""The ways into a search: one FROM and WHERE for each scope that it looks in.

Chains and _has are followed from the resources at hand where these are few. Elsewhere they are
resolved: first what they lead to is searched, under the same Access and budget as any search, then
it binds the homes (`Observation?patient.identifier=…` is a search of one home once the Patient is
known) or leads to the resources by reference or key.
"""

# ruff: noqa: S608 - SQL is put together from constants and marks; values are always bound

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from fhir_gateway.errors import TooCostly
from fhir_gateway.fhir.keys import type_key
from fhir_gateway.search.plan import AllOf, AnyOf, Chain, Has, Ids, Ref, SearchPlan
from fhir_gateway.store.query import Part, Query, Steps
from fhir_gateway.store.search_drive import (
    Driver,
    Look,
    all_of_type,
    counted,
    drivers,
    named_by,
)
from fhir_gateway.store.search_near import Way, columns, near
from fhir_gateway.store.search_terms import Keys, Term, has_unbound, term
from fhir_gateway.store.search_where import At, Scope, all_parts

#: So many homes are searched as one place; more are searched resource by resource.
FEW_HOMES = 8

#: More resources than this that a chain leads to are no way into a search.
MAX_RESOLVED = 1_000

_LOCATE = "SELECT home FROM locator WHERE type = ? AND "


#: The conditions that are left, and where to look.
_Placed = tuple[tuple[Term, ...], list[Scope]]


class Found(NamedTuple):
    """A resource that a chain leads to."""

    type: str
    home: int
    rid: int
    key: int


def ways(look: Look) -> Steps[list[Way]]:
    """The ways of a search; none when nothing can match.

    Raises TooCostly when one of them could visit more rows than the budget.
    """
    conditions: tuple[Term, ...] = look.plan.conditions
    if has_unbound(look.plan.conditions):
        conditions = yield from _all_bound(look, conditions)
    conditions, scopes = yield from _placed(look, conditions)
    found = []
    for scope in scopes:
        way = yield from _way(look, conditions, scope)
        if way is not None:
            found.append(way)
    return found


# -- where to look ---------------------------------------------------------------------------


def _placed(
    look: Look, conditions: tuple[Term, ...]
) -> Steps[tuple[tuple[Term, ...], list[Scope]]]:
    """Where to look; nowhere when the plan is bound to resources that were never stored."""
    plan = look.plan
    if plan.home is not None:
        return conditions, [Scope("shared", (plan.home,))]
    if plan.patients or plan.follows or plan.rest:
        scopes = _scopes((yield from _homes(look)))
        if plan.explain and not scopes:  # as if there were one, so as not to tell who is stored
            scopes = [Scope("persons", (0,))]
        return conditions, scopes
    if not any(isinstance(one, Ids | Keys) for one in conditions):
        for one in conditions:
            if isinstance(one, Chain) and one.binds:
                placed: _Placed | None = yield from _bound_by(look, conditions, one)
                if placed is not None:
                    return placed
    return conditions, [Scope("everywhere")]


def _homes(look: Look) -> Steps[set[int]]:
    """The homes of the resources that bind the plan."""
    plan, homes = look.plan, {0} if look.plan.rest else set()
    names: dict[str, list[str]] = {"Patient": list(plan.patients)} if plan.patients else {}
    for type, id in plan.follows:
        names.setdefault(type, []).append(id)
    for type, ids in names.items():
        among, values = look.view.dialect.among("id", ids)
        rows = yield Query(_LOCATE + among, (type_key(type), *values))
        homes |= {home for (home,) in rows}
    return homes


def _scopes(homes: set[int]) -> list[Scope]:
    persons = tuple(sorted(home for home in homes if home > 0))
    shared = [Scope("shared", (home,)) for home in sorted(homes) if home <= 0]
    if not persons:
        return shared
    return [Scope("persons" if len(persons) <= FEW_HOMES else "many", persons), *shared]


def _bound_by(look: Look, conditions: tuple[Term, ...], chain: Chain) -> Steps[_Placed | None]:
    """The homes that a chain binds; None when it leads to too many resources, or to any home."""
    found = yield from _led_to(look, chain)
    if found is None:
        return None
    if not found:
        return (), []
    homes = {one.home for one in found if one.type == "Patient" or chain.binds == "follow"}
    others = any(one.type != "Patient" for one in found)
    if chain.binds == "person" and others:
        return None
    if chain.rest or others:
        homes.add(0)
    if sum(home <= 0 for home in homes) > FEW_HOMES:
        return None
    known = Ref(chain.parameter, tuple(sorted({one.key for one in found})))
    return tuple(known if one is chain else one for one in conditions), _scopes(homes)


# -- one scope -------------------------------------------------------------------------------


def _way(look: Look, conditions: tuple[Term, ...], scope: Scope) -> Steps[Way | None]:
    if scope.kind == "persons" and not any(isinstance(one, Ids | Keys) for one in conditions):
        return near(look, conditions, scope)
    found, rows = yield from _first_driver(look, conditions, scope)
    if found is None and scope.kind != "persons" and _is_deep(conditions):
        resolved = yield from _resolved(look, conditions)
        if resolved is None:
            return None
        conditions = resolved
        found, rows = yield from _first_driver(look, conditions, scope)
    if found is None:
        found, rows = yield from _last_resort(look, conditions, scope)
    source = all_of_type(look, scope) if found is None else found.source(look)
    rest = tuple(
        one for one in conditions if found is None or not found.exact or one is not found.condition
    )
    if scope.kind != "persons":
        yield from _check_spread(look, source, rest)
    at = At("r", scope)
    where = all_parts([columns(look), *(term(one, at, look.view) for one in rest)])
    if found is None:
        return Way(scope, source, where, rows=rows)
    return Way(scope, source, where, "d.rid", driver=found.condition, rows=rows)


def _first_driver(
    look: Look, conditions: tuple[Term, ...], scope: Scope
) -> Steps[tuple[Driver | None, int | None]]:
    """The first condition that leads to no more rows than the budget, and how many."""
    for driver in drivers(conditions, scope, look):
        if driver.few is not None:
            return driver, driver.few
        rows = 0
        for part in driver.parts:
            more = yield from counted(look, part)
            rows = look.budget + 1 if more is None else rows + more
            if rows > look.budget:
                break
        else:
            return driver, rows
    return None, None


def _last_resort(
    look: Look, conditions: tuple[Term, ...], scope: Scope
) -> Steps[tuple[Driver | None, int | None]]:
    """All resources of the type, if they are few or the first page ends early.

    Raises TooCostly else.
    """
    plan = look.plan
    source, values = all_of_type(look, scope)
    rows = yield from counted(look, (f"SELECT 1 FROM {source}", values))
    if rows is not None:
        return None, rows
    whole = plan.sort or plan.only_count or plan.total == "accurate" or look.view.is_restricted
    if not whole and not conditions:
        return None, None
    if not whole and len(conditions) == 1 and scope.kind == "shared":
        found = next(drivers(conditions, scope, look), None)
        if found is not None and found.single:
            return found, None
    raise too_costly(look)


def _check_spread(look: Look, source: Part, conditions: tuple[Term, ...]) -> Steps[None]:
    """Raises TooCostly when a _has would visit more rows than the budget."""
    for one in conditions:
        if isinstance(one, Has) and (yield from named_by(look, source, one)) is None:
            raise too_costly(look)


def too_costly(look: Look) -> TooCostly:
    """The refusal of a search that could visit too many rows."""
    return TooCostly(
        f"This search could visit more than {look.budget} rows across patients; name a patient, or "
        "search by an identifier or another selective parameter",
        rule="search-budget",
    )


# -- chains and _has, followed backwards -----------------------------------------------------


def _all_bound(look: Look, conditions: tuple[Term, ...]) -> Steps[tuple[Term, ...]]:
    """The conditions with every unbound _has resolved. Raises TooCostly when one cannot be."""
    bound = []
    for one in conditions:
        bound.append((yield from _bound(look, one)))
    return tuple(bound)


def _bound(look: Look, one: Any) -> Steps[Any]:
    if isinstance(one, Has) and one.within == "everywhere":
        known = yield from _named_keys(look, one)
        if known is None:
            raise too_costly(look)
        return known
    if isinstance(one, Chain):
        targets = []
        for branch in one.targets:
            inner = yield from _all_bound(look, branch.conditions)
            targets.append(msgspec.structs.replace(branch, conditions=inner))
        return msgspec.structs.replace(one, targets=tuple(targets))
    if isinstance(one, Has | AnyOf | AllOf):
        inner = yield from _all_bound(look, one.conditions)
        return msgspec.structs.replace(one, conditions=inner)
    return one


def _is_deep(conditions: tuple[Term, ...]) -> bool:
    return any(isinstance(one, Chain | Has) for one in conditions)


def _resolved(look: Look, conditions: tuple[Term, ...]) -> Steps[tuple[Term, ...] | None]:
    """The conditions with the chains and _has that lead to few; None when one leads to none."""
    known: list[Term] = []
    for one in conditions:
        keys: Ref | Keys | None = None
        if isinstance(one, Chain):
            found = yield from _led_to(look, one)
            if found is not None:
                keys = Ref(one.parameter, tuple(sorted({each.key for each in found})))
        elif isinstance(one, Has):
            keys = yield from _named_keys(look, one)
        if keys is not None and not keys.keys:
            return None
        if keys is None:
            known.append(one)
        elif isinstance(one, Has) and one.within == "homes":
            known += [keys, one]  # what points from another home does not count, whoever asks
        else:
            known.append(keys)
    return tuple(known)


def _most(look: Look) -> int:
    """How many resources a chain may lead to."""
    return min(MAX_RESOLVED, look.budget)


def _led_to(look: Look, chain: Chain) -> Steps[list[Found] | None]:
    """The resources that a chain leads to; None when they are too many or too costly to find."""
    found: list[Found] = []
    for branch in chain.targets:
        plan = SearchPlan(
            branch.type, branch.conditions, home=branch.home,
            global_parameters=branch.global_parameters,
        )  # fmt: skip
        more = yield from _search(look, plan)
        if more is None or len(found) + len(more) > _most(look):
            return None
        found += more
    return found


def _search(look: Look, plan: SearchPlan) -> Steps[list[Found] | None]:
    """All resources of an inner search; None when they are too many or too costly to find."""
    inner = look._replace(plan=plan)
    try:
        into = yield from ways(inner)
    except TooCostly:
        return None
    found: list[Found] = []
    for way in into:
        (source, bound), (where, values) = way.source, way.whole_where()
        rows = yield Query(
            f"SELECT r.home, r.rid, r.key FROM {source} WHERE {where} LIMIT ?",
            (*bound, *values, _most(look) + 1),
        )
        found += [Found(plan.type, *row) for row in rows]
        if len(found) > _most(look):
            return None
    return found


def _named_keys(look: Look, has: Has) -> Steps[Keys | None]:
    """The keys of what the sources of a _has name; None when they cannot be found or are many."""
    plan = SearchPlan(
        has.source, has.conditions, home=has.home, global_parameters=has.global_parameters
    )
    sources = yield from _search(look, plan)
    if not sources:
        return None if sources is None else Keys(())
    dialect = look.view.dialect
    listed, kinds = dialect.listed("int int"), "int int"
    join = f"FROM {listed} {dialect.then} px e"
    here = "e.home = k.k0 AND e.rid = k.k1 AND e.parameter = ?"
    places = dialect.columns(kinds, [(one.home, one.rid) for one in sources])
    rows = yield Query(
        f"SELECT v1 {join} ON {here} AND k.k0 > 0 UNION"
        f" SELECT v1 {join}{dialect.use('px_shared')} ON {here} AND e.home <= 0 LIMIT ?",
        (*places, has.parameter, *places, has.parameter, _most(look) + 1),
    )
    return Keys(tuple(sorted(key for (key,) in rows))) if len(rows) <= _most(look) else None
