"""Sort keys and keyset paging (hl7.org/fhir/R4/search.html#sort).

A resource with several values sorts by the lowest of them upwards and by the highest downwards; one
without a value comes last in both directions.
"""

# ruff: noqa: S608 - SQL is put together from constants and marks; values are always bound

from __future__ import annotations

from typing import Any

from fhir_gateway.search.plan import SearchPlan, Sort
from fhir_gateway.store.dialect import Dialect
from fhir_gateway.store.query import Part
from fhir_gateway.store.search_where import Scope, in_list

#: Columns before the sort keys in a row of the statement.
AFTER_KEYS = 10

_INT64_MIN, _INT64_MAX = -(1 << 63), (1 << 63) - 1
_LAST_TEXT = "\U0010ffff" * 4

#: By kind: table, the value upwards, the value downwards, and what stands for none in each.
_KEYS: dict[str, tuple[str, str, str, Any, Any]] = {
    "int": ("px", "min(v1)", "max(v2)", _INT64_MAX, _INT64_MIN),
    "value": ("px", "min(v1)", "max(v1)", _INT64_MAX, _INT64_MIN),
    "text": ("px_text", "min(text)", "max(text)", _LAST_TEXT, ""),
}
_COLUMNS = {"id": "r.id", "updated": "r.updated"}


def key_columns(
    plan: SearchPlan, scope: Scope, dialect: Dialect, *, short: bool
) -> tuple[Part, Part]:
    """Columns to add to the SELECT, and joins to add to the FROM.

    `short` says that a short list m of the matches exists.
    """
    columns, joins = "", ""
    column_values: list[Any] = []
    join_values: list[Any] = []
    for number, sort in enumerate(plan.sort):
        if sort.kind in _COLUMNS:
            columns += f", {_COLUMNS[sort.kind]} AS k{number}"
            continue
        table, up, down, last_up, last_down = _KEYS[sort.kind]
        value = down if sort.descending else up
        none = last_down if sort.descending else last_up
        if scope.kind == "persons":
            sql, values = _grouped(sort, scope, table, value, f"s{number}", short=short)
            joins += sql
            join_values += values
            columns += f", coalesce(s{number}.value, ?) AS k{number}"
        else:
            sql, values = _one_by_one(sort, scope, table, value, dialect)
            columns += f", coalesce({sql}, ?) AS k{number}"
            column_values += values
        column_values.append(none)
    return (columns, column_values), (joins, join_values)


def _grouped(sort: Sort, scope: Scope, table: str, value: str, name: str, *, short: bool) -> Part:
    """The keys of a whole home, or of a short list, at once."""
    among = " AND rid IN (SELECT rid FROM m)" if short else ""
    return (
        f" LEFT JOIN (SELECT rid, {value} AS value FROM {table} WHERE"
        f" {in_list('home', scope.homes)} AND parameter = ?{among} GROUP BY rid) {name}"
        f" ON {name}.rid = r.rid",
        [*scope.homes, sort.parameter],
    )


def _one_by_one(sort: Sort, scope: Scope, table: str, value: str, dialect: Dialect) -> Part:
    """The key of one resource, by the index of shared homes or in its own home."""
    if scope.kind == "shared":
        return (
            f"(SELECT {value} FROM {table} e{dialect.use(f'{table}_shared')} WHERE e.home = ?"
            " AND e.home <= 0 AND e.rid = r.rid AND e.parameter = ?)",
            [*scope.homes, sort.parameter],
        )
    return (
        f"(SELECT {value} FROM {table} e WHERE e.home = r.home AND e.parameter = ?"
        " AND e.rid = r.rid)",
        [sort.parameter],
    )


def keyset(plan: SearchPlan) -> Part:
    """What comes after the last match of the page before."""
    if plan.after is None:
        return "TRUE", []
    terms, values = [], []
    same: list[str] = []
    for number, (sort, value) in enumerate(zip(plan.sort, plan.after, strict=False)):
        sign = "<" if sort.descending else ">"
        terms.append(" AND ".join([*same, f"k{number} {sign} ?"]))
        values += [*plan.after[:number], value]
        same.append(f"k{number} = ?")
    terms.append(" AND ".join([*same, "rid > ?"]))
    values += plan.after
    return "(" + " OR ".join(f"({term})" for term in terms) + ")", values


def order(plan: SearchPlan) -> str:
    """ORDER BY of the outer statement."""
    keys = [
        f"k{number}{' DESC' if sort.descending else ''}" for number, sort in enumerate(plan.sort)
    ]
    return ", ".join([*keys, "rid"])
