"""Statements as values: what reads is written once, as a generator that yields them.

Such a generator touches no connection: it yields a Query and is sent the rows of its answer. Each
driver runs it in its own way, so that the same search serves every database.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

if TYPE_CHECKING:
    import apsw

Row = Sequence[Any]
Part = tuple[str, list[Any]]  # SQL with its bound values

_T = TypeVar("_T")


class Query(NamedTuple):
    """One statement with `?` marks and the values bound to them, in order."""

    sql: str
    values: Sequence[Any] = ()


#: A generator of statements that is sent the rows of each and returns a value at the end.
Steps = Generator[Query, list[Any], _T]


def run(steps: Steps[_T], connection: apsw.Connection) -> _T:
    """What the generator returns, its statements run on a SQLite connection.

    Raises what the generator raises.
    """
    execute = connection.execute
    try:
        sql, values = next(steps)
        while True:
            sql, values = steps.send(execute(sql, values).fetchall())
    except StopIteration as end:
        value: _T = end.value
        return value
