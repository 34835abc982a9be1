"""Conditions on index rows as SQL. Values are always bound, never spelled.

A Test is "the resource has (or has not) an index row such as this"; an At says which resource is
meant and where its rows are. Prefixes of dates follow hl7.org/fhir/R4/search.html, 3.1.1.4.5, to
the letter.
"""

# ruff: noqa: S608 - SQL is put together from constants and marks; values are always bound

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

from fhir_gateway.search.plan import Missing, Quantity, Range, Ref, Text, Token, Updated
from fhir_gateway.store.dialect import Dialect
from fhir_gateway.store.query import Part


class Rows(NamedTuple):
    """Rows of one index table that meet any of the alternatives, over v1 and v2, or over text.

    `seeks` is true when the index leads to them without a scan of the parameter.
    """

    table: Literal["px", "px_text"]
    parameters: tuple[int, ...]
    alternatives: list[Part]
    seeks: bool = True


class Test(NamedTuple):
    """A resource has one of these rows, or none of them. `single`: it can match one row at most."""

    rows: tuple[Rows, ...]
    negated: bool = False
    single: bool = False

    @property
    def drives(self) -> bool:
        """True when the rows lead to the resources."""
        return not self.negated and len(self.rows) == 1


class Scope(NamedTuple):
    """Where resources and their rows are looked for.

    persons: a few homes with a few hundred resources each; subqueries run once over them.
    many: more homes of persons than that. shared: home 0 or an institution's, with very many
    resources. everywhere: any home. In these three, rows are found resource by resource.
    """

    kind: Literal["persons", "many", "shared", "everywhere"]
    homes: tuple[int, ...] = ()


class At(NamedTuple):
    """A resource in a statement: its alias, and where it is looked for."""

    alias: str
    scope: Scope


def test_of(condition: RowCondition, dialect: Dialect) -> Test:
    """The test of a condition on index rows."""
    return _TESTS[type(condition)](condition, dialect)


def _token(token: Token, dialect: Dialect) -> Test:
    single = len(token.alternatives) == 1 and None not in token.alternatives[0]
    codes = [v1 for v1, v2 in token.alternatives if v2 is None]
    systems = [v2 for v1, v2 in token.alternatives if v1 is None]
    pairs = [pair for pair in token.alternatives if None not in pair]
    alternatives: list[Part] = []
    if len(pairs) == 1:
        alternatives.append(("v1 = ? AND v2 = ?", list(pairs[0])))
    elif pairs:
        rows = dialect.listed("int int")
        alternatives.append(
            (f"(v1, v2) IN (SELECT k0, k1 FROM {rows})", dialect.columns("int int", pairs))
        )
    if codes:
        alternatives.append(dialect.among("v1", codes))
    if systems:
        alternatives.append(dialect.among("v2", systems))
    return Test((Rows("px", (token.parameter,), alternatives, not systems),), token.negated, single)


def _ref(ref: Ref, dialect: Dialect) -> Test:
    return Test((Rows("px", (ref.parameter,), [dialect.among("v1", ref.keys)]),))


#: Comparisons of a row's range v1..v2 with the query's range low..high, as (SQL, bounds in order).
#: Some bound v1 a second time: it follows from the rest, and lets the index seek.
_COMPARISONS: dict[str, tuple[str, str]] = {
    "eq": ("v1 >= ? AND v1 <= ? AND v2 <= ?", "low high high"),
    "ne": ("(v1 < ? OR v2 > ?)", "low high"),
    "gt": ("v2 > ?", "high"),
    "lt": ("v1 < ?", "low"),
    "ge": ("(v1 >= ? OR v2 > ?)", "low high"),
    "le": ("(v1 < ? OR v2 <= ?) AND v1 <= ?", "low high high"),
    "sa": ("v1 > ?", "high"),
    "eb": ("v2 < ? AND v1 < ?", "low low"),
    "ap": ("v1 <= ? AND v2 >= ?", "high low"),
}
#: Comparisons that look at the end of a row; when no row is wider than so much, v1 is bounded too.
_FROM_THE_END = {"gt": "high", "ge": "low", "ap": "low"}


def _range(condition: Range, dialect: Dialect) -> Test:
    alternatives = [
        _compare(comparator, low, high, condition.widest)
        for comparator, low, high in condition.alternatives
    ]
    asked = {comparator for comparator, _, _ in condition.alternatives}
    seeks = "ne" not in asked and (condition.widest is not None or not asked & _FROM_THE_END.keys())
    return Test((Rows("px", (condition.parameter,), alternatives, seeks),))


def _compare(comparator: str, low: int, high: int, widest: int | None) -> Part:
    sql, order = _COMPARISONS[comparator]
    bounds = {"low": low, "high": high}
    values = [bounds[name] for name in order.split()]
    if widest is None or comparator not in _FROM_THE_END:
        return sql, values
    return f"{sql} AND v1 >= ?", [*values, bounds[_FROM_THE_END[comparator]] - widest]


#: The same for a quantity, whose value is v1 alone (v2 is its unit).
_QUANTITY_COMPARISONS: dict[str, tuple[str, str]] = {
    "eq": ("v1 >= ? AND v1 <= ?", "low high"),
    "ne": ("(v1 < ? OR v1 > ?)", "low high"),
    "gt": ("v1 > ?", "high"),
    "lt": ("v1 < ?", "low"),
    "ge": ("v1 >= ?", "low"),
    "le": ("v1 <= ?", "high"),
    "sa": ("v1 > ?", "high"),
    "eb": ("v1 < ?", "low"),
    "ap": ("v1 >= ? AND v1 <= ?", "low high"),
}


def _quantity(condition: Quantity, dialect: Dialect) -> Test:
    alternatives = [_quantity_alternative(*one, dialect) for one in condition.alternatives]
    return Test((Rows("px", (condition.parameter,), alternatives),))


def _quantity_alternative(
    comparator: str, low: int, high: int, units: tuple[int, ...], dialect: Dialect
) -> Part:
    sql, order = _QUANTITY_COMPARISONS[comparator]
    bounds = {"low": low, "high": high}
    values = [bounds[name] for name in order.split()]
    if not units:
        return sql, values
    unit, keys = dialect.among("v2", units)
    return f"{sql} AND {unit}", [*values, *keys]


def _text(condition: Text, dialect: Dialect) -> Test:
    match, texts = condition.match, condition.alternatives
    if match == "exact":
        alternatives = [dialect.texts(texts)]
    elif match == "contains":
        alternatives = [(dialect.contains, [text]) for text in texts]
    elif match == "below":
        alternatives = [one for text in texts for one in _below(text, dialect)]
    else:
        alternatives = [dialect.between(text, _after(text)) for text in texts]
    return Test((Rows("px_text", (condition.parameter,), alternatives, match != "contains"),))


def _below(text: str, dialect: Dialect) -> list[Part]:
    parent = text if text.endswith("/") else f"{text}/"
    return [dialect.texts([text]), dialect.between(parent, _after(parent))]


def _after(text: str) -> str | None:
    """The first text that no longer starts with this one, in the order of code points."""
    while text and text[-1] == "\U0010ffff":
        text = text[:-1]
    if not text:
        return None
    following = ord(text[-1]) + 1
    return text[:-1] + chr(0xE000 if 0xD800 <= following <= 0xDFFF else following)


def _missing(condition: Missing, dialect: Dialect) -> Test:
    own: tuple[Rows, ...] = ()
    parameters = condition.also if condition.text else (condition.parameter, *condition.also)
    if condition.text:
        own = (Rows("px_text", (condition.parameter,), [], False),)
    return Test((*own, Rows("px", parameters, [], False)), negated=condition.missing)


RowCondition = Token | Ref | Range | Quantity | Text | Missing  # the conditions on index rows

_TESTS: dict[type, Callable[[Any, Dialect], Test]] = {
    Token: _token,
    Ref: _ref,
    Range: _range,
    Quantity: _quantity,
    Text: _text,
    Missing: _missing,
}


def updated(condition: Updated, alias: str) -> Part:
    """A condition on the column `updated` of a resource."""
    where, values = any_part(
        [_compare(comparator, low, high, None) for comparator, low, high in condition.alternatives]
    )
    column = f"{alias}.updated"
    return where.replace("v1", column).replace("v2", column), values


def membership(test: Test, at: At, dialect: Dialect) -> Part:
    """The test as a term about a resource."""
    not_ = "NOT " if test.negated else ""
    alias, scope = at
    if scope.kind == "persons":
        parts = [rids(rows, scope, dialect) for rows in test.rows]
        inner, values = union_all(parts)
        within = dialect.within(f"{alias}.rid", inner)
        return (f"NOT ({within})" if test.negated else within), values
    parts = [part for rows in test.rows for part in rows_of(at, rows, "1", dialect)]
    inner, values = union_all(parts)
    return f"{not_}EXISTS ({inner})", values


def rids(rows: Rows, scope: Scope, dialect: Dialect) -> Part:
    """The rids of persons' homes that have such rows."""
    sql, values = _narrowed(rows, rows.alternatives, dialect)
    homes, bound = dialect.among("home", scope.homes)
    return f"SELECT rid FROM {rows.table} WHERE {homes}{sql}", [*bound, *values]


def rows_of(at: At, rows: Rows, columns: str, dialect: Dialect) -> list[Part]:
    """The rows of one resource, as one SELECT or two.

    Rows of a shared home are found by the index for it; those of a person's by their values.
    """
    sql, values = _narrowed(rows, rows.alternatives, dialect)
    alias, scope = at
    by_rid = f"FROM {rows.table} e{dialect.use(f'{rows.table}_shared')} WHERE"
    if scope.kind == "shared":
        where = f"e.home = ? AND e.home <= 0 AND e.rid = {alias}.rid{sql}"
        return [(f"SELECT {columns} {by_rid} {where}", [*scope.homes, *values])]
    where = f"e.home = {alias}.home AND e.rid = {alias}.rid{sql}"
    own = f"SELECT {columns} FROM {rows.table} e WHERE {alias}.home > 0 AND {where}"
    if scope.kind in ("persons", "many"):
        return [(own, values)]
    return [(own, values), (f"SELECT {columns} {by_rid} e.home <= 0 AND {where}", values)]


def driving(rows: Rows, scope: Scope, dialect: Dialect) -> list[Part]:
    """Subqueries of (home, rid) from the rows themselves, in the index of the scope.

    One SELECT for each alternative, so that each seeks.
    """
    if scope.kind == "everywhere":
        first: Part = ("gx" if rows.table == "px" else "gx_text") + " WHERE TRUE", []
    else:
        homes, bound = dialect.among("home", scope.homes)
        first = f"{rows.table} WHERE {homes}", bound
    parts = [_narrowed(rows, [one], dialect) for one in rows.alternatives]
    return [
        (f"SELECT home, rid FROM {first[0]}{sql}", [*first[1], *values]) for sql, values in parts
    ]


def _narrowed(rows: Rows, alternatives: list[Part], dialect: Dialect) -> Part:
    parameters, bound = dialect.among("parameter", rows.parameters)
    if not alternatives:
        return f" AND {parameters}", bound
    where, values = any_part(alternatives)
    return f" AND {parameters} AND {where}", [*bound, *values]


def any_part(parts: list[Part]) -> Part:
    """One of the parts holds."""
    if len(parts) == 1:
        return parts[0]
    return (
        "(" + " OR ".join(f"({sql})" for sql, _ in parts) + ")",
        [value for _, values in parts for value in values],
    )


def all_parts(parts: list[Part]) -> Part:
    """All of the parts hold; empty ones say nothing."""
    return (
        " AND ".join(sql for sql, _ in parts if sql),
        [value for _, values in parts for value in values],
    )


def union_all(parts: list[Part], joint: str = " UNION ALL ") -> Part:
    """Several SELECTs as one."""
    return joint.join(sql for sql, _ in parts), [value for _, part in parts for value in part]
