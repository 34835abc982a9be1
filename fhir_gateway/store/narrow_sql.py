"""What the scopes of a token leave of the rows that an Access shows, as SQL (`Access.narrow`).

A term about one row, in every statement that looks at rows: so it holds for matches and counts, for
what is included, and for the rows that chains and _has go through. A query of a scope is judged by
the rows of the index, which are those of the current version: of a type that is narrowed by a query
a superseded version is not shown at all, and neither is a deletion. docs/adr/0041
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from fhir_gateway.fhir.keys import type_key
from fhir_gateway.search.plan import AllOf, AnyOf, Condition, Ids
from fhir_gateway.security.actor import Narrow, Way, Ways
from fhir_gateway.store.dialect import Dialect
from fhir_gateway.store.query import Part, Query, Steps
from fhir_gateway.store.search_where import At, Scope, all_parts, any_part, membership, test_of
from fhir_gateway.store.store import Stored

_ANYWHERE = Scope("everywhere")

#: True of no row.
_NOTHING: Part = ("1 = 0", [])


@lru_cache(maxsize=1_024)
def narrowed(
    narrow: Narrow, dialect: Dialect, alias: str, *, type: str = "", superseded: bool = False
) -> Part:
    """What a row must be like to be let through. `type` is the column of its type where the row
    has none; `superseded` says that it is a version that is no longer current."""
    column = type or f"{alias}.type"
    parts: list[Part] = []
    for name, ways in narrow.types:
        if superseded and is_queried(ways):
            continue
        let = _ways(ways, narrow, dialect, alias)
        parts.append(all_parts([(f"{column} = ?", [type_key(name)]), let]))
    if narrow.others is not None:
        keys = [type_key(name) for name, _ in narrow.types]
        other = [(f"NOT {dialect.any_of(column)}", [dialect.array(sorted(keys))])] if keys else []
        parts.append(all_parts([*other, _ways(narrow.others, narrow, dialect, alias)]))
    parts = [part if part[0] else ("1 = 1", []) for part in parts]
    sql, values = any_part(parts) if parts else _NOTHING
    return f"({sql})", values


def is_queried(ways: Ways) -> bool:
    """Whether a query leaves something out."""
    return any(way.conditions for member in ways for way in member)


def _ways(ways: Ways, narrow: Narrow, dialect: Dialect, alias: str) -> Part:
    members = [
        any_part([_way(way, narrow, dialect, alias) for way in member]) if member else _NOTHING
        for member in ways
    ]
    return all_parts([(f"({sql})", values) for sql, values in members])


def _way(way: Way, narrow: Narrow, dialect: Dialect, alias: str) -> Part:
    parts = [_term(one, dialect, alias) for one in way.conditions]
    if way.bound:
        homes = dialect.array(sorted(narrow.homes))
        own = dialect.any_of(f"{alias}.home")
        parts.append((f"({alias}.home <= 0 OR {own})", [homes]))
    return all_parts(parts) if parts else ("1 = 1", [])


def _term(condition: Condition, dialect: Dialect, alias: str) -> Part:
    if isinstance(condition, AnyOf):
        return any_part([_term(one, dialect, alias) for one in condition.conditions])
    if isinstance(condition, AllOf):
        return all_parts([_term(one, dialect, alias) for one in condition.conditions])
    if isinstance(condition, Ids):
        return dialect.among(f"{alias}.id", condition.ids)
    test: Any = test_of(condition, dialect)  # type: ignore[arg-type]  # search.narrow lets no other
    return membership(test, At(alias, _ANYWHERE), dialect)


def passes(narrow: Narrow, dialect: Dialect, stored: Stored) -> Steps[bool]:
    """Whether the current version of a resource is let through."""
    sql, values = narrowed(narrow, dialect, "r")
    rows = yield Query(
        f"SELECT 1 FROM resource r WHERE r.home = ? AND r.type = ? AND r.rid = ? AND {sql}",  # noqa: S608 - constants
        (stored.home, type_key(stored.type), stored.rid, *values),
    )
    return bool(rows)
