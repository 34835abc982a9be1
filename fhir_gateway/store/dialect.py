"""What differs between the databases in the statements that read: a table of two rows.

SQLite plans by rule: the statements name its indexes and keep the order of joins. PostgreSQL plans
by statistics and takes no hints.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

#: How PostgreSQL names the types of a bound list.
_ARRAYS = {"int": "bigint[]", "text": "text[]"}


@dataclass(frozen=True, slots=True, eq=False)
class Dialect:
    """One database's way to say things.

    `any_of(column)` is "the column is one of the bound list", with one mark; `array(values)` is
    how such a list is bound. `contains` is "the column text contains the bound text". `use(index)`
    is a hint that follows a table's name. `then` is a join that is done in the written order.
    `listed(kinds)` is a FROM item `k` of bound rows with the columns k0, k1 …; `columns(kinds,
    rows)` is how they are bound.
    """

    name: str
    any_of: Callable[[str], str]
    array: Callable[[Sequence[Any]], Any]
    contains: str
    use: Callable[[str], str]
    then: str
    listed: Callable[[str], str]
    columns: Callable[[str, Sequence[Sequence[Any]]], list[Any]]


def _sqlite_array(values: Sequence[Any]) -> str:
    return json.dumps(list(values))


def _sqlite_listed(kinds: str) -> str:
    columns = ", ".join(f"value ->> {place} AS k{place}" for place in range(len(kinds.split())))
    return f"(SELECT {columns} FROM json_each(?)) k"  # noqa: S608 - made of constants


def _sqlite_columns(kinds: str, rows: Sequence[Sequence[Any]]) -> list[Any]:
    return [json.dumps([list(row) for row in rows])]


SQLITE = Dialect(
    name="sqlite",
    any_of=lambda column: f"{column} IN (SELECT value FROM json_each(?))",  # noqa: S608 - constant
    array=_sqlite_array,
    contains="instr(text, ?) > 0",
    use=lambda index: f" INDEXED BY {index}",
    then="CROSS JOIN",
    listed=_sqlite_listed,
    columns=_sqlite_columns,
)


def _postgres_listed(kinds: str) -> str:
    names = kinds.split()
    arrays = ", ".join(f"?::{_ARRAYS[name]}" for name in names)
    return f"unnest({arrays}) AS k ({', '.join(f'k{place}' for place in range(len(names)))})"


def _postgres_columns(kinds: str, rows: Sequence[Sequence[Any]]) -> list[Any]:
    return [[row[place] for row in rows] for place in range(len(kinds.split()))]


POSTGRES = Dialect(
    name="postgresql",
    any_of=lambda column: f"{column} = ANY(?)",
    array=list,
    contains="strpos(text, ?) > 0",
    use=lambda index: "",
    then="JOIN",
    listed=_postgres_listed,
    columns=_postgres_columns,
)
