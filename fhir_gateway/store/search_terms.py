"""Every condition of a plan as a term about a resource: rows, columns, alternatives, chains, _has.

A chain is a semi-join from the reference's row to the resource with that key, _has one from the
resource's key to the rows that name it (hl7.org/fhir/R4/search.html, 3.1.1.4.15 and 16). Both meet
current resources that the Access sees, and nothing else: else they would tell what stands in a
record that the caller may not read.
"""

# ruff: noqa: S608 - SQL is put together from constants and marks; values are always bound

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from fhir_gateway.errors import Internal
from fhir_gateway.fhir.keys import type_key
from fhir_gateway.search.plan import AllOf, AnyOf, Branch, Chain, Condition, Has, Ids, Updated
from fhir_gateway.security.actor import Access, Narrow
from fhir_gateway.store.dialect import Dialect
from fhir_gateway.store.narrow_sql import narrowed
from fhir_gateway.store.query import Part
from fhir_gateway.store.search_where import (
    At,
    Rows,
    Scope,
    all_parts,
    any_part,
    membership,
    rids,
    rows_of,
    test_of,
    union_all,
    updated,
)
from fhir_gateway.store.sight_sql import Moment, Shape, columns, seen, shape_of, values_of

_ANYWHERE = Scope("everywhere")


class View(NamedTuple):
    """Which database is asked, and who sees what of it: the shape of an Access, and what is bound
    to the marks of its rule by their names; and what scopes leave of that."""

    dialect: Dialect
    shape: Shape
    values: Mapping[str, Any]
    narrow: Narrow | None = None

    def sees(self, alias: str, *, type: str = "", key: str = "") -> Part:
        """What a current resource must be like to be seen. `type` and `key` are columns of its
        resource where the row has none: it is a superseded version."""
        row = columns(alias, type=type, key=key)
        sql, values = seen(self.shape, self.dialect, row, self.values)
        part = f"{alias}.deleted = 0 AND {sql}", values
        if self.narrow is None:
            return part
        more = narrowed(self.narrow, self.dialect, alias, type=type, superseded=bool(type))
        return all_parts([part, more])

    @property
    def is_restricted(self) -> bool:
        """True when rows of the highest class that is seen may still be hidden."""
        return self.narrow is not None or self.shape.is_restricted


def view_of(access: Access, dialect: Dialect, moment: Moment, *, of_acts: bool = True) -> View:
    """The view of an Access at a moment."""
    shape = shape_of(access, of_acts=of_acts)
    return View(dialect, shape, values_of(access, dialect, moment), access.narrow)


class Keys(NamedTuple):
    """Any of these keys of resources: what a _has came down to when it was resolved."""

    keys: tuple[int, ...]


Term = Condition | Keys


def term(condition: Term, at: At, view: View) -> Part:
    """The condition as a term about a resource."""
    make = _TERMS.get(type(condition))
    if make is not None:
        return make(condition, at, view)
    return membership(test_of(condition, view.dialect), at, view.dialect)  # type: ignore[arg-type]  # the table has all others


def terms(conditions: tuple[Term, ...], at: At, view: View) -> Part:
    """All conditions as one term about a resource that is seen."""
    return all_parts([view.sees(at.alias), *(term(one, at, view) for one in conditions)])


def _ids(condition: Ids, at: At, view: View) -> Part:
    return view.dialect.among(f"{at.alias}.id", condition.ids)


def _keys(condition: Keys, at: At, view: View) -> Part:
    return view.dialect.among(f"{at.alias}.key", condition.keys)


def _updated(condition: Updated, at: At, view: View) -> Part:
    return updated(condition, at.alias)


def _any_of(condition: AnyOf, at: At, view: View) -> Part:
    return any_part([term(one, at, view) for one in condition.conditions])


def _all_of(condition: AllOf, at: At, view: View) -> Part:
    return all_parts([term(one, at, view) for one in condition.conditions])


def has_unbound(conditions: tuple[Condition, ...]) -> bool:
    """True when a _has among them, however deep, is found by its own conditions only."""
    return any(
        (isinstance(one, Has) and one.within == "everywhere")
        or any(has_unbound(inner) for inner in _inner(one))
        for one in conditions
    )


def _inner(condition: Term) -> list[tuple[Condition, ...]]:
    if isinstance(condition, Chain):
        return [branch.conditions for branch in condition.targets]
    if isinstance(condition, Has | AnyOf | AllOf):
        return [condition.conditions]
    return []


# -- chains: from a reference's row to what it names -----------------------------------------


def _chain(chain: Chain, at: At, view: View) -> Part:
    if at.scope.kind == "persons":
        sql, values = chain_rids(chain, at, view)
        return view.dialect.within(f"{at.alias}.rid", sql), values
    row = Rows("px", (chain.parameter,), [])
    selects = rows_of(at, row, "e.v1", view.dialect)
    parts = []
    for branch in chain.targets:
        next_at = _target(branch, at)
        rows, bound = union_all(selects)
        joined, values = _joined(branch, next_at, view)
        parts.append((f"EXISTS (SELECT 1 FROM ({rows}) c {joined}", [*bound, *values]))
    return any_part([(f"{sql})", values) for sql, values in parts])


def chain_rids(chain: Chain, at: At, view: View) -> Part:
    """The rids of persons' homes whose reference leads to a resource of one of the branches.

    What lives in the same homes is looked up there at once, what lives elsewhere by its key.
    """
    scope, dialect = at.scope, view.dialect
    homes, bound = dialect.among("home", scope.homes)
    start = f"SELECT rid FROM px WHERE {homes} AND parameter = ? AND"
    parts: list[Part] = []
    for branch in chain.targets:
        if branch.home is None:
            near = At(_deeper(at.alias), scope)
            sql, values = _keys_of(branch, near, view)
            among = dialect.within("v1", sql)
            parts.append((f"{start} {among}", [*bound, chain.parameter, *values]))
        parts.append(_far(chain, branch, at, view))
    return union_all(parts)


def _keys_of(branch: Branch, at: At, view: View) -> Part:
    """The keys of what a branch finds in persons' homes."""
    alias = at.alias
    homes, bound = view.dialect.among(f"{alias}.home", at.scope.homes)
    where, values = terms(branch.conditions, at, view)
    return (
        f"SELECT {alias}.key FROM resource {alias} WHERE {homes} AND {alias}.type = ? AND {where}",
        [*bound, type_key(branch.type), *values],
    )


def _far(chain: Chain, branch: Branch, at: At, view: View) -> Part:
    """The rids whose reference leads to a resource outside of these homes."""
    homes, bound = view.dialect.among("home", at.scope.homes)
    target = _target(branch, at)
    joined, values = _joined(branch, target, view)
    if branch.home is None:
        outside, more = view.dialect.among(f"{target.alias}.home", at.scope.homes)
        joined, values = f"{joined} AND NOT {outside}", [*values, *more]
    return (
        f"SELECT c.rid FROM (SELECT rid, v1 FROM px WHERE {homes} AND parameter = ?) c {joined}",
        [*bound, chain.parameter, *values],
    )


def _target(branch: Branch, at: At) -> At:
    """What a reference leads to: in its type's own home, else anywhere."""
    scope = _ANYWHERE if branch.home is None else Scope("shared", (branch.home,))
    return At(_deeper(at.alias), scope)


def _joined(branch: Branch, at: At, view: View) -> Part:
    """The join from rows c to the resource that they name, with all that it must be."""
    alias, dialect = at.alias, view.dialect
    where, values = terms(branch.conditions, at, view)
    return (
        f"{dialect.then} resource {alias}{dialect.use('resource_key')}"
        f" ON {alias}.key = c.v1 AND {alias}.type = ? WHERE {where}",
        [type_key(branch.type), *values],
    )


# -- _has: from a resource to the rows that name it ------------------------------------------


def _has(has: Has, at: At, view: View) -> Part:
    return any_part([_named_from(has, *place, at, view) for place in _places(has, at, view)])


def _places(has: Has, at: At, view: View) -> list[tuple[str, Part, Scope]]:
    """The tables and homes in which rows that name a resource are looked for."""
    zero: tuple[str, Part, Scope] = ("px", ("b.home = ?", [0]), Scope("shared", (0,)))
    if has.within == "zero":
        return [zero]
    if has.within == "global":
        return [("gx", ("", []), _ANYWHERE)]
    if has.within == "everywhere":
        raise Internal("A _has that nothing binds was not resolved")
    if at.scope.kind == "persons":
        return [("px", view.dialect.among("b.home", at.scope.homes), at.scope), zero]
    own = f"{at.alias}.home <> 0 AND b.home = {at.alias}.home"
    return [("px", (own, []), _ANYWHERE), zero]


def _named_from(has: Has, table: str, place: Part, scope: Scope, at: At, view: View) -> Part:
    """A resource of one place names this one."""
    alias = _deeper(at.alias)
    where, values = all_parts(
        [
            place,
            (f"b.v1 = {at.alias}.key AND b.parameter = ?", [has.parameter]),
            terms(has.conditions, At(alias, scope), view),
        ]
    )
    return (
        f"EXISTS (SELECT 1 FROM {table} b {view.dialect.then} resource {alias}"
        f" ON {alias}.home = b.home AND {alias}.type = ? AND {alias}.rid = b.rid WHERE {where})",
        [type_key(has.source), *values],
    )


def _deeper(alias: str) -> str:
    return f"r{int(alias[1:] or 0) + 1}"


_TERMS: dict[type, Callable[[Any, At, View], Part]] = {
    Ids: _ids,
    Keys: _keys,
    Updated: _updated,
    AnyOf: _any_of,
    AllOf: _all_of,
    Chain: _chain,
    Has: _has,
}


# -- short lists of persons' homes -----------------------------------------------------------


def rid_list(condition: Term, at: At, view: View) -> Part | None:
    """A SELECT of the rids of persons' homes that meet the condition; None when there is none.

    It ends in a WHERE, so that `AND rid IN (…)` may follow it.
    """
    if isinstance(condition, Chain):
        sql, values = chain_rids(condition, at, view)
        return f"SELECT rid FROM ({sql}) c WHERE TRUE", values
    if isinstance(condition, AnyOf):
        lists = [rid_list(one, at, view) for one in condition.conditions]
        if None in lists:
            return None
        sql, values = union_all([one for one in lists if one])
        return f"SELECT rid FROM ({sql}) c WHERE TRUE", values
    if isinstance(condition, Ids | Keys | Updated | AllOf | Has):
        return None
    test = test_of(condition, view.dialect)
    return rids(test.rows[0], at.scope, view.dialect) if test.drives else None
