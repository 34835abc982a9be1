"""The rows of a hospital's view, in the order of watermark and key, as lines of NDJSON.

One SELECT, made of quoted names and bound values alone. Behind a watermark it takes every report
of which a row has changed, whole by its key, so that one whose rows straddle the watermark is not
torn; and rows without a watermark, which are refused by name rather than passed over. It is read
as a stream: in memory are the rows of one report.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from itertools import groupby
from typing import Any, BinaryIO, cast
from zoneinfo import ZoneInfo

import sqlalchemy as sa
from sqlalchemy.exc import NoSuchTableError, SAWarning
from sqlalchemy.types import Date, DateTime, Float, Integer, NullType, Numeric, TypeEngine
from sqlalchemy.types import _Binary as Binary

from fhir_gateway.errors import Issue, Unprocessable
from fhir_gateway.mapping.tabular_map import NDJSON, TableMap
from fhir_gateway.mapping.tabular_rows import MAX_ROWS
from fhir_gateway.mapping.tabular_values import line_of
from fhir_gateway.mapping.tabular_view import View

Types = Mapping[str, TypeEngine[Any]]
_HIGH = "fhir_gateway_high"

#: Rows that are fetched at once.
_FETCH = 1_000


@dataclass(frozen=True, slots=True)
class Seen:
    """A view that can be read by its map: the columns that are asked for, and their types."""

    table: TableMap
    view: View
    names: tuple[str, ...]
    types: Types
    typed: bool  # whether the database's types bind its values; SQLite's do not

    @property
    def read_by(self) -> TableMap:
        """The map for the lines that are made here: NDJSON in UTF-8, whose times need no spelling
        where the database says that they are times."""
        timely = {
            field
            for field, column in self.table.columns.items()
            if self.typed and isinstance(self.types[column], (Date, DateTime))
        }
        times = {field: said for field, said in self.table.times.items() if field not in timely}
        return replace(self.table, format=NDJSON, codec="utf-8", times=times)


def see(connection: sa.Connection, table: TableMap) -> Seen:
    """What the view is. Raises Unprocessable with everything that does not fit the map."""
    view = table.database
    assert view is not None
    found = _columns(connection, view)
    names = tuple(dict.fromkeys([*table.needed, *view.order]))
    faults = [f"The column {name} is missing" for name in dict.fromkeys([*names, *view.where])
              if name not in found]  # fmt: skip
    faults += [f"The column {name} holds bytes, which are no cell" for name in names
               if isinstance(found.get(name), Binary)]  # fmt: skip
    if table.watermark in found and not _is_mark(table, found[table.watermark]):
        faults.append(
            f"The watermark {table.watermark} is no {_MARKS[table.watermark_kind]} of the "
            "database: a text cannot be compared safely. Cast it in the view, or leave the "
            "watermark out: then all of the view is read each time"
        )
    if faults:
        raise Unprocessable(
            issues=tuple(Issue("invalid", f"{view.name}: {one}", view.name, "table-header")
                         for one in faults)
        )  # fmt: skip
    return Seen(table, view, names, found, connection.dialect.name != "sqlite")


def _columns(connection: sa.Connection, view: View) -> dict[str, TypeEngine[Any]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SAWarning)  # a type that SQLAlchemy does not know
        try:
            columns = sa.inspect(connection).get_columns(view.view, schema=view.schema or None)
        except NoSuchTableError:
            columns = []
    if not columns:
        raise Unprocessable(f"There is no table or view {view.name} that this user may read",
                            rule="view-missing")  # fmt: skip
    return {one["name"]: one["type"] for one in columns}


_MARKS = {"time": "date or time", "number": "whole number"}


def _is_mark(table: TableMap, type: TypeEngine[Any]) -> bool:
    if table.watermark_kind == "time":
        return isinstance(type, (Date, DateTime))
    whole = isinstance(type, Numeric) and not isinstance(type, Float) and not type.scale
    return isinstance(type, Integer) or whole


# -- the statement ---------------------------------------------------------------------------------


def statement(seen: Seen, since: str, zone: str) -> sa.Select[Any]:
    """The SELECT of all rows, or of the reports that have changed since a watermark."""
    source = _source(seen, "source")
    base = sa.select(*(source.c[name] for name in seen.names)).where(*_where(seen, source))
    keys, mark = seen.table.key, seen.table.watermark
    if not mark:
        return base.order_by(*(source.c[name] for name in (*keys, *seen.view.order)))
    whole: Any = base
    if since:
        other = _source(seen, "changed")
        changed = sa.select(other.c[keys[0]]).where(
            *_where(seen, other),
            sa.or_(other.c[mark] >= _mark(seen, since, zone), other.c[mark].is_(None)),
        )
        # two statements, because OR would keep a database from using its index
        whole = sa.union_all(
            base.where(source.c[keys[0]].in_(changed)), base.where(source.c[keys[0]].is_(None))
        )
    rows = whole.subquery("taken")
    high = sa.func.max(rows.c[mark]).over(partition_by=[rows.c[key] for key in keys])
    marked = sa.select(*(rows.c[name] for name in seen.names), high.label(_HIGH)).subquery("marked")
    chosen = sa.select(*(marked.c[name] for name in seen.names))
    if since:
        reached = marked.c[_HIGH] >= _mark(seen, since, zone)
        chosen = chosen.where(sa.or_(reached, marked.c[_HIGH].is_(None)))
    order = [marked.c[name] for name in (_HIGH, *keys, *seen.view.order)]
    return chosen.order_by(*order)


def _source(seen: Seen, alias: str) -> Any:
    """The view. Values come as the driver gives them; only the watermark is bound by its type."""
    mark = seen.table.watermark
    names = dict.fromkeys([*seen.names, *seen.view.where])
    columns = [
        sa.column(name, seen.types[name] if seen.typed and name == mark else NullType())
        for name in names
    ]
    return sa.table(seen.view.view, *columns, schema=seen.view.schema or None).alias(alias)


def _where(seen: Seen, source: Any) -> list[Any]:
    return [source.c[column].in_(values) for column, values in seen.view.where.items()]


def _mark(seen: Seen, since: str, zone: str) -> Any:
    """A watermark as the database compares it."""
    if seen.table.watermark_kind == "number":
        return int(since)
    if not seen.typed:
        return since.replace("T", " ")  # SQLite keeps times as texts
    type = seen.types[seen.table.watermark]
    if not isinstance(type, DateTime):
        return date.fromisoformat(since[:10])
    moment = datetime.fromisoformat(since)
    return moment.replace(tzinfo=ZoneInfo(zone)) if type.timezone else moment


# -- the rows --------------------------------------------------------------------------------------


class Rows:
    """The rows of a statement, written report by report."""

    def __init__(self, result: sa.CursorResult[Any], seen: Seen, zone: str) -> None:
        self._result, self._seen, self._zone = result, seen, zone
        place = {name: n for n, name in enumerate(seen.names)}
        self._keys = [place[name] for name in seen.table.key]
        self._order = [place[name] for name in seen.view.order]
        self._groups = groupby(cast(Iterator[Sequence[Any]], result), key=self._key)

    def close(self) -> None:
        """Lets go of what was not read. Raises what the database raises."""
        self._result.close()

    def write(self, file: BinaryIO, most: int) -> int:
        """Writes the next reports, whole ones, until there are so many rows; how many it wrote, 0
        at the end. Raises what the database raises."""
        written = 0
        while written < most:
            found = next(self._groups, None)
            if found is None:
                break
            for held in _pieces(found[1]):
                file.writelines(self._lines(held))
                written += len(held)
        file.flush()
        return written

    def _key(self, row: Sequence[Any]) -> tuple[str, ...]:
        """Texts that a database takes for one key (blanks at the end, letters) are one here too."""
        return tuple("" if row[n] is None else str(row[n]).strip().casefold() for n in self._keys)

    def _lines(self, rows: list[Sequence[Any]]) -> Iterator[bytes]:
        """What the order does not tell apart follows by its bytes, so that a report that has not
        changed is written the same each time."""
        for _, alike in groupby(rows, key=lambda row: [row[n] for n in self._order]):
            yield from sorted(line_of(self._seen.names, row, self._zone) for row in alike)


def _pieces(group: Iterator[Sequence[Any]]) -> Iterator[list[Sequence[Any]]]:
    """The rows of a report at once; of one with more than any has, which is refused, piecemeal."""
    held: list[Sequence[Any]] = []
    for row in group:
        held.append(row)
        if len(held) > MAX_ROWS:
            yield held
            held = []
    if held:
        yield held


def rows_of_view(connection: sa.Connection, seen: Seen, since: str, zone: str) -> Rows:
    """The rows as a stream. Raises what the database raises."""
    options = {"stream_results": True, "max_row_buffer": _FETCH, "yield_per": _FETCH}
    found = connection.execute(statement(seen, since, zone), execution_options=options)
    return Rows(found, seen, zone)
