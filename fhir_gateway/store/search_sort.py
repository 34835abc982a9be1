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

#: By kind: table, the column that counts upwards and downwards, and what stands for none in each.
_KEYS: dict[str, tuple[str, str, str, Any, Any]] = {
    "int": ("px", "v1", "v2", _INT64_MAX, _INT64_MIN),
    "value": ("px", "v1", "v1", _INT64_MAX, _INT64_MIN),
    "text": ("px_text", "text", "text", _LAST_TEXT, ""),
}
#: A missing value of a table, as PostgreSQL has to be told it.
_NULLS = {"px": "NULL::bigint", "px_text": 'NULL::text COLLATE "C"'}
#: By place in a closed list of codes; the place is a small integer in every database.
_LAST_PLACE = (1 << 31) - 1
_COLUMNS = {"id": "r.id", "updated": "r.updated"}


class _Key(NamedTuple):
    """A sort key that is read from index rows: the best of its values (min or max), and what
    stands for none.
    """

    table: str
    best: str
    each: Part
    none: Any
    parameter: int

    @property
    def value(self) -> Part:
        """The aggregate over a resource's rows."""
        return f"{self.best}({self.each[0]})", self.each[1]


def _key(sort: Sort) -> _Key:
    best = "max" if sort.descending else "min"
    if sort.kind == "token":
        whens = " ".join(["WHEN ? THEN " + str(place) for place in range(len(sort.ranks))])
        none = -1 if sort.descending else _LAST_PLACE
        each = f"CASE v1 {whens} END", list(sort.ranks)
        return _Key("px", best, each, none, sort.parameter)
    table, up, down, last_up, last_down = _KEYS[sort.kind]
    column, none = (down, last_down) if sort.descending else (up, last_up)
    return _Key(table, best, (column, []), none, sort.parameter)


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


def gathered(plan: SearchPlan, scope: Scope, rids: Part, dialect: Dialect) -> tuple[Part, Part]:
    """Columns to add to the SELECT, and a subquery of these rids with their keys, to be named m.

    Matches and keys are read each once and put together by rid.
    """
    keys = {n: _key(sort) for n, sort in enumerate(plan.sort) if sort.kind not in _COLUMNS}
    homes, bound = dialect.among("home", scope.homes)
    nothing = {n: _NULLS[key.table] for n, key in keys.items()}
    parts = [(_select("TRUE", nothing) + f" FROM ({rids[0]}) l", rids[1])]
    for n, key in keys.items():
        sql = _select("FALSE", {**nothing, n: key.each[0]})
        parts.append((
            f"{sql} FROM {key.table} WHERE {homes} AND parameter = ?",
            [*key.each[1], *bound, key.parameter],
        ))  # fmt: skip
    rows, values = union_all(parts)
    best = "".join(f", {key.best}(k{n}) AS k{n}" for n, key in keys.items())
    columns = "".join(
        f", coalesce(m.k{n}, ?) AS k{n}" if n in keys else f", {_COLUMNS[sort.kind]} AS k{n}"
        for n, sort in enumerate(plan.sort)
    )
    return (columns, [key.none for key in keys.values()]), (
        f"SELECT rid{best} FROM ({rows}) u GROUP BY rid HAVING bool_or(hit)",
        values,
    )


def _select(hit: str, columns: dict[int, str]) -> str:
    return f"SELECT rid, {hit} AS hit" + "".join(f", {sql} AS k{n}" for n, sql in columns.items())


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
