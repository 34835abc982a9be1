"""Rows that belong together -> what they say, field by field: constants, values, times, agreement.

A row says nothing by an empty cell. What a map translates (`values`) is translated here; what it
does not name goes on as sent, and the tables of mappings/v2 judge it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from fhir_gateway.errors import GatewayError, Issue, Unprocessable
from fhir_gateway.mapping.tabular_fields import (
    FIELDS,
    PLACES,
    RANGE_HALVES,
    STUDY,
    TIMES,
    VARYING,
)
from fhir_gateway.mapping.tabular_map import TableMap
from fhir_gateway.mapping.tabular_read import Record
from fhir_gateway.mapping.tabular_times import read_declared
from fhir_gateway.mapping.v2_time import read_date, read_time

#: Texts whose line ends say something; everywhere else white space is a single blank.
_LONG = frozenset({
    "result.value", "result.note", "report.note", "report.findings", "report.conclusion",
})  # fmt: skip

#: Rows of one report; more is a key that says too little.
MAX_ROWS = 2_000

#: A place of v2 as `v2.Segment.where` writes it.
_V2_PLACE = re.compile(r"([A-Z][A-Z0-9]{2})\[(\d+)\](?:-(\d+)(?:\.(\d+))?)?")


class Row(NamedTuple):
    """What one row says: field -> text, without empty ones."""

    line: int
    said: dict[str, str]


class Group(NamedTuple):
    """The rows of one report, order, study or patient, in the order of the file."""

    key: tuple[str, ...]
    records: list[Record]

    @property
    def raw(self) -> bytes:
        """The bytes of the rows as they came."""
        return b"".join(record.raw for record in self.records)


def key_of(table: TableMap, record: Record) -> tuple[str, ...]:
    """Which group a row belongs to; () when its key is empty."""
    key = tuple(record.cells.get(column, "") for column in table.key)
    return key if any(key) else ()


def takes(table: TableMap, record: Record) -> bool:
    """Whether the filters of the map take a row."""
    return all(one.takes(record.cells.get(one.column, "")) for one in table.filters)


def mark_of(table: TableMap, record: Record, zone: str) -> str | None:
    """The row's watermark as a text that sorts as it counts; None when it is none."""
    text = " ".join(record.cells.get(table.watermark, "").split())
    if table.watermark_kind == "number":
        return text.rjust(30, "0") if text.isascii() and text.isdigit() and len(text) < 30 else None
    moment = read_time(text, zone)
    if moment is None:
        return None
    # the institution's clock, which its rows were written by; zones of cells are not mixed
    return moment.text[:19] if moment.exact else moment.text[:10]


def mark_before(table: TableMap, mark: str) -> str:
    """Where a view is read from that was read up to a watermark: earlier by its overlap, for a row
    whose transaction was stamped before others and committed after them."""
    overlap = table.database.overlap if table.database is not None else 0
    if not mark or not overlap:
        return mark
    if table.watermark_kind == "number":
        return str(max(0, int(mark) - overlap)).rjust(30, "0")
    try:
        earlier = datetime.fromisoformat(mark) - timedelta(seconds=overlap)
    except (ValueError, OverflowError):  # a year alone, or the first day of all
        return mark
    return earlier.isoformat()[: len(mark)]


def rows_of(table: TableMap, group: Group) -> list[Row]:
    """What the rows say. Raises Unprocessable with every fault, each by line and column."""
    issues: list[Issue] = []
    if len(group.records) > MAX_ROWS:
        raise fault(group.records[0].line, "", f"more than {MAX_ROWS} rows have this key",
                    "table-rows")  # fmt: skip
    rows = [_row(table, record, issues) for record in group.records]
    issues += _disagreements(table, rows)
    if issues:
        raise Unprocessable(issues=tuple(issues))
    return rows


def _row(table: TableMap, record: Record, issues: list[Issue]) -> Row:
    said = dict(table.constants)
    for field, column in table.columns.items():
        text = record.cells.get(column, "")
        text = text.strip() if field in _LONG else " ".join(text.split())
        text = table.values.get(field, {}).get(text, text)
        if text and field in TIMES:
            read = _time(table, field, text)
            if read is None:
                issues += fault(record.line, column, "this is no time that the map declares "
                                "(times), or two spellings fit", "table-time").issues  # fmt: skip
            text = read or ""
        if text:
            said[field] = text
    if table.kind == "results":
        _join_range(said)
    return Row(record.line, said)


def _time(table: TableMap, field: str, text: str) -> str | None:
    """The time by the declared spellings; as it is where none is declared and it can be read."""
    if field in table.times:
        return read_declared(text, table.times[field])
    known = read_date(text) if field == "patient.birth_date" else read_time(text, "UTC")
    return text if known else None


def _join_range(said: dict[str, str]) -> None:
    """Two columns of limits are one range, as laboratories write it."""
    low, high = (said.pop(half, "") for half in RANGE_HALVES)
    if low and high:
        said["result.range"] = f"{low}--{high}"
    elif low or high:
        said["result.range"] = f">={low}" if low else f"<={high}"


def _disagreements(table: TableMap, rows: Sequence[Row]) -> list[Issue]:
    """Rows of one group that say two things of what they have in common."""
    varying = VARYING.get(table.kind, frozenset())
    issues: list[Issue] = []
    for field, column in table.columns.items():
        if field in varying:
            continue
        first = rows[0].said.get(field, "")
        other = next((row for row in rows if row.said.get(field, "") != first), None)
        if other is not None:
            sentence = f"this row and row {rows[0].line} have one key and differ here"
            issues += fault(other.line, column, sentence, "table-group").issues
    return issues


def fault(line: int, column: str, sentence: str, rule: str) -> Unprocessable:
    """A fault at a line and a column of the file."""
    place = f"line {line}" + (f", column {column}" if column else "")
    return Unprocessable(f"{place}: {sentence}", expression=place, rule=rule)


def told(table: TableMap, rows: Sequence[Row], error: GatewayError) -> GatewayError:
    """The error with lines and columns of the file in place of segments and fields of v2."""
    placed = placer(table, rows)
    issues = tuple(told_issue(issue, placed) for issue in error.issues)
    return type(error)(issues=issues)


def told_issue(issue: Issue, placed: Callable[[str], str]) -> Issue:
    """An issue in the words of the table."""
    return Issue(
        issue.code,
        _V2_PLACE.sub(lambda found: placed(found[0]), issue.diagnostics),
        placed(issue.expression) if issue.expression else placed(""),
        issue.rule,
        issue.severity,
    )


def placer(table: TableMap, rows: Sequence[Row]) -> Callable[[str], str]:
    """From a place of v2 to `line 7, column 结果`; the group's first line where v2 names none."""
    first = rows[0].line if rows else 0
    per_row = table.kind == "results"

    def placed(place: str) -> str:
        found = _V2_PLACE.search(place)
        if found is None:
            attribute = place in STUDY.values() and bool(rows)
            unplaced = study_place(table, rows[0], place) if attribute else f"line {first}"
            return place if place.startswith("line ") else unplaced
        segment, number, n = found[1], int(found[2]), int(found[3] or 0)
        own = segment == "OBX" and per_row and number <= len(rows)
        line = rows[number - 1].line if own else first
        column = _column(table, segment, n, int(found[4] or 0))
        return f"line {line}" + (f", {column}" if column else "")

    return placed


def _column(table: TableMap, segment: str, n: int, component: int) -> str:
    """The column of a place, else its field, which the map does not name."""
    fields = [
        field
        for field, place in PLACES.items()
        if field in FIELDS[table.kind]
        and (place.segment, place.field) == (segment, n)
        and (not component or place.component == component)
    ]
    named = next((table.columns[field] for field in fields if field in table.columns), "")
    if named:
        return f"column {named}"
    return f"field {fields[0]}" if fields else ""


def study_place(table: TableMap, row: Row, attribute: str) -> str:
    """Where an attribute of DICOM came from."""
    field = next((name for name, one in STUDY.items() if one == attribute), "")
    column = table.columns.get(field, "")
    return f"line {row.line}" + (f", column {column}" if column else "")
