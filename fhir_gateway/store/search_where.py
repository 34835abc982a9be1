"""Conditions of a plan as SQL over index rows. Values are always bound, never spelled.

A Test is "the resource has (or has not) an index row such as this"; a Scope says where the rows are
looked for. Prefixes of dates follow hl7.org/fhir/R4/search.html, 3.1.1.4.5, to the letter.
"""

# ruff: noqa: S608 - SQL is put together from constants and marks; values are always bound

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

from fhir_gateway.search.plan import (
    Condition,
    Missing,
    Quantity,
    Range,
    Ref,
    Text,
    Token,
    Updated,
)
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
    """Where rows are looked for.

    persons: homes with a few hundred resources each; subqueries run once over such a home.
    shared: home 0 or an institution's, with very many; rows are found resource by resource.
    everywhere: any home, by the global index or the type.
    """

    kind: Literal["persons", "shared", "everywhere"]
    homes: tuple[int, ...] = ()


def test_of(condition: Condition, dialect: Dialect) -> Test:
    """The test of a condition on index rows."""
    if isinstance(condition, Text):
        return _text(condition, dialect)
    return _TESTS[type(condition)](condition)


def _token(token: Token) -> Test:
    single = len(token.alternatives) == 1 and None not in token.alternatives[0]
    codes = [v1 for v1, v2 in token.alternatives if v2 is None]
    alternatives = [_token_alternative(*pair) for pair in token.alternatives if pair[1] is not None]
    if codes:
        alternatives.append((f"v1 IN ({_marks(codes)})", codes))
    seeks = all(v1 is not None for v1, _ in token.alternatives)
    return Test((Rows("px", (token.parameter,), alternatives, seeks),), token.negated, single)


def _token_alternative(v1: int | None, v2: int | None) -> Part:
    return ("v2 = ?", [v2]) if v1 is None else ("v1 = ? AND v2 = ?", [v1, v2])


def _ref(ref: Ref) -> Test:
    return Test((Rows("px", (ref.parameter,), [(f"v1 IN ({_marks(ref.keys)})", list(ref.keys))]),))


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


def _range(condition: Range) -> Test:
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


def _quantity(condition: Quantity) -> Test:
    alternatives = [_quantity_alternative(*one) for one in condition.alternatives]
    return Test((Rows("px", (condition.parameter,), alternatives),))


def _quantity_alternative(comparator: str, low: int, high: int, units: tuple[int, ...]) -> Part:
    sql, order = _QUANTITY_COMPARISONS[comparator]
    bounds = {"low": low, "high": high}
    values = [bounds[name] for name in order.split()]
    if not units:
        return sql, values
    return f"{sql} AND v2 IN ({_marks(units)})", [*values, *units]


def _text(condition: Text, dialect: Dialect) -> Test:
    alternatives = [
        (dialect.contains, [text])
        if condition.match == "contains"
        else _MATCHES[condition.match](text)
        for text in condition.alternatives
    ]
    seeks = condition.match != "contains"
    return Test((Rows("px_text", (condition.parameter,), alternatives, seeks),))


def _starts(text: str) -> Part:
    end = _after(text)
    return ("text >= ? AND text < ?", [text, end]) if end else ("text >= ?", [text])


def _below(text: str) -> Part:
    parent = text if text.endswith("/") else f"{text}/"
    sql, values = _starts(parent)
    return f"(text = ? OR {sql})", [text, *values]


_MATCHES: dict[str, Callable[[str], Part]] = {
    "starts": _starts,
    "exact": lambda text: ("text = ?", [text]),
    "below": _below,
}


def _after(text: str) -> str | None:
    """The first text that no longer starts with this one, in the order of code points."""
    while text and text[-1] == "\U0010ffff":
        text = text[:-1]
    if not text:
        return None
    following = ord(text[-1]) + 1
    return text[:-1] + chr(0xE000 if 0xD800 <= following <= 0xDFFF else following)


def _missing(condition: Missing) -> Test:
    own: tuple[Rows, ...] = ()
    parameters = condition.also if condition.text else (condition.parameter, *condition.also)
    if condition.text:
        own = (Rows("px_text", (condition.parameter,), [], False),)
    return Test((*own, Rows("px", parameters, [], False)), negated=condition.missing)


_TESTS: dict[type, Callable[[Any], Test]] = {
    Token: _token,
    Ref: _ref,
    Range: _range,
    Quantity: _quantity,
    Missing: _missing,
}


def updated(condition: Updated) -> Part:
    """A condition on the column `updated` of the alias r."""
    where, values = _any(
        [_compare(comparator, low, high, None) for comparator, low, high in condition.alternatives]
    )
    return where.replace("v1", "r.updated").replace("v2", "r.updated"), values


def membership(test: Test, scope: Scope, dialect: Dialect) -> Part:
    """The test as a term about the resource r."""
    parts = [_rows_in(rows, scope, dialect) for rows in test.rows]
    inner = " UNION ALL ".join(sql for sql, _ in parts)
    values = [value for _, part in parts for value in part]
    not_ = "NOT " if test.negated else ""
    if scope.kind == "persons":
        return f"r.rid {not_}IN ({inner})", values
    return f"{not_}EXISTS ({inner})", values


def chain(tests: list[Test], scope: Scope, dialect: Dialect) -> Part:
    """The rids in person homes that meet all tests, as a subquery.

    The first test gives a short list; each further one is scanned once and keeps what is in it.
    """
    inner, values = _rows_in(tests[0].rows[0], scope, dialect)
    for test in tests[1:]:
        sql, more = _rows_in(test.rows[0], scope, dialect)
        inner, values = f"{sql} AND rid IN ({inner})", [*more, *values]
    return inner, values


def _rows_in(rows: Rows, scope: Scope, dialect: Dialect) -> Part:
    sql, values = _narrowed(rows, rows.alternatives)
    if scope.kind == "persons":
        homes = in_list("home", scope.homes)
        return f"SELECT rid FROM {rows.table} WHERE {homes}{sql}", [*scope.homes, *values]
    if scope.kind == "shared":
        return (
            f"SELECT 1 FROM {rows.table} e{dialect.use(f'{rows.table}_shared')} "
            f"WHERE e.home = ? AND e.home <= 0 AND e.rid = r.rid{sql}",
            [*scope.homes, *values],
        )
    return f"SELECT 1 FROM {rows.table} e WHERE e.home = r.home AND e.rid = r.rid{sql}", values


def driving(rows: Rows, scope: Scope, *, distinct: bool) -> Part:
    """A subquery of (home, rid) from the rows themselves, in the index of the scope.

    One SELECT for each alternative, so that each seeks.
    """
    parts = [_driving_one(rows, [one], scope) for one in rows.alternatives or [("TRUE", [])]]
    if len(parts) == 1:
        sql, values = parts[0]
        return (f"SELECT DISTINCT {sql}" if distinct else f"SELECT {sql}"), values
    union = " UNION " if distinct else " UNION ALL "
    return union.join(f"SELECT {sql}" for sql, _ in parts), [v for _, part in parts for v in part]


def _driving_one(rows: Rows, alternatives: list[Part], scope: Scope) -> Part:
    sql, values = _narrowed(rows, alternatives)
    if scope.kind == "everywhere":
        table = "gx" if rows.table == "px" else "gx_text"
        return f"home, rid FROM {table} WHERE TRUE{sql}", values
    homes = in_list("home", scope.homes)
    return f"home, rid FROM {rows.table} WHERE {homes}{sql}", [*scope.homes, *values]


def _narrowed(rows: Rows, alternatives: list[Part]) -> Part:
    parameters = in_list("parameter", rows.parameters)
    if not alternatives:
        return f" AND {parameters}", list(rows.parameters)
    where, values = _any(alternatives)
    return f" AND {parameters} AND {where}", [*rows.parameters, *values]


def in_list(column: str, values: Sequence[Any]) -> str:
    """The column is one of so many bound values."""
    return f"{column} = ?" if len(values) == 1 else f"{column} IN ({_marks(values)})"


def _marks(values: Sequence[Any]) -> str:
    return ", ".join("?" * len(values))


def _any(parts: list[Part]) -> Part:
    """One of the parts holds."""
    if len(parts) == 1:
        return parts[0]
    return (
        "(" + " OR ".join(f"({sql})" for sql, _ in parts) + ")",
        [value for _, values in parts for value in values],
    )
