"""Sort keys and keyset paging (hl7.org/fhir/R4/search.html#sort).

A resource with several values sorts by the lowest of them upwards and by the highest downwards; one
without a value comes last in both directions.
"""

# ruff: noqa: S608 - SQL is put together from constants and marks; values are always bound

from __future__ import annotations

from typing import Any, NamedTuple

from fhir_gateway.search.plan import SearchPlan, Sort
from fhir_gateway.store.dialect import Dialect
from fhir_gateway.store.query import Part
from fhir_gateway.store.search_where import At, Rows, Scope, rows_of, union_all

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
#: By place in a closed list of codes; the place is a small integer in every database.
_LAST_PLACE = (1 << 31) - 1
_COLUMNS = {"id": "r.id", "updated": "r.updated"}


class _Key(NamedTuple):
    """A sort key that is read from index rows: the best of its values, and what stands for none."""

    table: str
    value: Part
    none: Any
    parameter: int


def _key(sort: Sort) -> _Key:
    if sort.kind == "token":
        whens = " ".join(["WHEN ? THEN " + str(place) for place in range(len(sort.ranks))])
        best = "max" if sort.descending else "min"
        none = -1 if sort.descending else _LAST_PLACE
        return _Key("px", (f"{best}(CASE v1 {whens} END)", list(sort.ranks)), none, sort.parameter)
    table, up, down, last_up, last_down = _KEYS[sort.kind]
    value, none = (down, last_down) if sort.descending else (up, last_up)
    return _Key(table, (value, []), none, sort.parameter)


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
        key = _key(sort)
        if scope.kind == "persons":
            sql, values = _grouped(key, scope, f"s{number}", dialect, short=short)
            joins += sql
            join_values += values
            columns += f", coalesce(s{number}.value, ?) AS k{number}"
        else:
            sql, values = _one_by_one(key, scope, dialect)
            columns += f", coalesce(({sql}), ?) AS k{number}"
            column_values += values
        column_values.append(key.none)
    return (columns, column_values), (joins, join_values)


def _grouped(key: _Key, scope: Scope, name: str, dialect: Dialect, *, short: bool) -> Part:
    """The keys of whole homes, or of a short list, at once."""
    among = " AND rid IN (SELECT rid FROM m)" if short else ""
    homes, bound = dialect.among("home", scope.homes)
    value, values = key.value
    return (
        f" LEFT JOIN (SELECT rid, {value} AS value FROM {key.table} WHERE {homes}"
        f" AND parameter = ?{among} GROUP BY rid) {name} ON {name}.rid = r.rid",
        [*values, *bound, key.parameter],
    )


def _one_by_one(key: _Key, scope: Scope, dialect: Dialect) -> Part:
    """The key of one resource, by the index of shared homes or in its own home."""
    value, values = key.value
    rows = Rows("px_text" if key.table == "px_text" else "px", (key.parameter,), [])
    parts = rows_of(At("r", scope), rows, "*", dialect)
    sql, bound = union_all(parts)
    if len(parts) == 1:
        return sql.replace("SELECT *", f"SELECT {value}", 1), [*values, *bound]
    return f"SELECT {value} FROM ({sql}) e", [*values, *bound]


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
