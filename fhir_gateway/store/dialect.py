"""What differs between the databases in the statements that read: a table of two rows.

SQLite plans by rule: the statements name its indexes and keep the order of joins. PostgreSQL plans
by statistics and takes no hints; its indexes hold the first 128 characters of a text.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from fhir_gateway.store.query import Part

#: How PostgreSQL names the types of a bound list.
_ARRAYS = {"int": "bigint[]", "text": "text[]"}

#: Lists of up to so many values are spelled out for SQLite, in these lengths.
_SPELLED = (1, 2, 4, 8)

#: PostgreSQL's indexes hold so many characters of a text.
INDEXED_TEXT = 128


@dataclass(frozen=True, slots=True, eq=False)
class Dialect:
    """One database's way to say things.

    `any_of(column)` is "the column is one of the bound list", with one mark; `array(values)` is
    how such a list is bound; `among(column, values)` is both, in few shapes. `contains` is "the
    column text contains the bound text", `texts(values)` "the column text is one of them",
    `between(low, high)` "it is at least low, and below high unless that is None". `use(index)`
    is a hint that follows a table's name. `then` is a join that is done in the written order.
    `listed(kinds)` is a FROM item `k` of bound rows with the columns k0, k1 …; `columns(kinds,
    rows)` is how they are bound. `within(column, sql)` is "the column is among what a subquery
    finds", looked up in a table that is made once; `both(new, old)` are the rids of two lists.
    `gathers` says that matches and their sort keys are put together by GROUP BY and fetched one
    by one, and that a person's home is bound: PostgreSQL expects one row of everything that a
    person has, and so would join lists of thousands by running through one for each of the other.
    """

    name: str
    any_of: Callable[[str], str]
    array: Callable[[Sequence[Any]], Any]
    among: Callable[[str, Sequence[Any]], Part]
    contains: str
    texts: Callable[[Sequence[str]], Part]
    between: Callable[[str, str | None], Part]
    use: Callable[[str], str]
    then: str
    listed: Callable[[str], str]
    columns: Callable[[str, Sequence[Sequence[Any]]], list[Any]]
    within: Callable[[str, str], str]
    both: Callable[[Part, Part], Part]
    gathers: bool


def _sqlite_any_of(column: str) -> str:
    return f"{column} IN (SELECT value FROM json_each(?))"  # noqa: S608 - made of constants


def _sqlite_array(values: Sequence[Any]) -> str:
    return json.dumps(list(values))


def _sqlite_among(column: str, values: Sequence[Any]) -> Part:
    count = len(values)
    if count == 1:
        return f"{column} = ?", [values[0]]
    if not 0 < count <= _SPELLED[-1]:
        return _sqlite_any_of(column), [_sqlite_array(values)]
    size = next(size for size in _SPELLED if size >= count)
    marks = ", ".join("?" * size)
    return f"{column} IN ({marks})", [*values, *[values[-1]] * (size - count)]


def _sqlite_texts(values: Sequence[str]) -> Part:
    return _sqlite_among("text", values)


def _sqlite_between(low: str, high: str | None) -> Part:
    return ("text >= ?", [low]) if high is None else ("text >= ? AND text < ?", [low, high])


def _sqlite_listed(kinds: str) -> str:
    columns = ", ".join(f"value ->> {place} AS k{place}" for place in range(len(kinds.split())))
    return f"(SELECT {columns} FROM json_each(?)) k"  # noqa: S608 - made of constants


def _sqlite_columns(kinds: str, rows: Sequence[Sequence[Any]]) -> list[Any]:
    return [json.dumps([list(row) for row in rows])]


SQLITE = Dialect(
    name="sqlite",
    any_of=_sqlite_any_of,
    array=_sqlite_array,
    among=_sqlite_among,
    contains="instr(text, ?) > 0",
    texts=_sqlite_texts,
    between=_sqlite_between,
    use=lambda index: f" INDEXED BY {index}",
    then="CROSS JOIN",
    listed=_sqlite_listed,
    columns=_sqlite_columns,
    within=lambda column, sql: f"{column} IN ({sql})",
    both=lambda new, old: (f"{new[0]} AND rid IN ({old[0]})", [*new[1], *old[1]]),
    gathers=False,
)

_HEAD = f"left(text, {INDEXED_TEXT})"


def _postgres_any_of(column: str) -> str:
    return f"{column} = ANY(?)"


def _postgres_among(column: str, values: Sequence[Any]) -> Part:
    if len(values) == 1:
        return f"{column} = ?", [values[0]]
    return _postgres_any_of(column), [list(values)]


def _postgres_texts(values: Sequence[str]) -> Part:
    heads = list(dict.fromkeys(value[:INDEXED_TEXT] for value in values))
    sql, bound = _postgres_among(_HEAD, heads)
    whole, more = _postgres_among("text", values)
    return f"{sql} AND {whole}", [*bound, *more]


def _postgres_between(low: str, high: str | None) -> Part:
    """The head alone decides, unless the bounds are longer than it."""
    if len(low) <= INDEXED_TEXT and (high is None or len(high) <= INDEXED_TEXT):
        sql, values = _sqlite_between(low, high)
        return sql.replace("text", _HEAD), values
    sql, values = _sqlite_between(low, high)
    return f"{_HEAD} >= ? AND {sql}", [low[:INDEXED_TEXT], *values]


def _postgres_listed(kinds: str) -> str:
    names = kinds.split()
    arrays = ", ".join(f"?::{_ARRAYS[name]}" for name in names)
    return f"unnest({arrays}) AS k ({', '.join(f'k{place}' for place in range(len(names)))})"


def _postgres_columns(kinds: str, rows: Sequence[Sequence[Any]]) -> list[Any]:
    return [[row[place] for row in rows] for place in range(len(kinds.split()))]


def _postgres_both(new: Part, old: Part) -> Part:
    sql = f"SELECT rid FROM ({new[0]} INTERSECT {old[0]}) c WHERE TRUE"  # noqa: S608 - as above
    return sql, [*new[1], *old[1]]


POSTGRES = Dialect(
    name="postgresql",
    any_of=_postgres_any_of,
    array=list,
    among=_postgres_among,
    contains="strpos(text, ?) > 0",
    texts=_postgres_texts,
    between=_postgres_between,
    use=lambda index: "",
    then="JOIN",
    listed=_postgres_listed,
    columns=_postgres_columns,
    within=lambda column, sql: f"({column} IN ({sql})) IS TRUE",
    both=_postgres_both,
    gathers=True,
)
