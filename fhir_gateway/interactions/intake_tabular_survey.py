"""A file of rows is read twice: once to see all of it, once to store it group by group.

The survey proves the code page, finds the last row of each group (exports are not always sorted),
and what is to be refused or passed over as a whole; so the second reading holds only the groups
that are open, and nothing is stored of a file that turns out to be another one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from typing import BinaryIO

from fhir_gateway.errors import GatewayError, Unprocessable
from fhir_gateway.mapping.tabular_map import CSV, TableMap
from fhir_gateway.mapping.tabular_read import (
    MAX_LINE,
    Record,
    check_code_page,
    codec_of_file,
    records,
)
from fhir_gateway.mapping.tabular_rows import MAX_ROWS, Group, fault, key_of, mark_of, takes

#: Opens the file anew, at its beginning.
Opener = Callable[[], BinaryIO]

#: More rows than a hospital writes in a year; a file beyond is to be cut.
MOST_ROWS = 20_000_000


@dataclass(slots=True)
class _Known:
    """What the survey knows of a group."""

    last: int  # its last line
    high: str = ""  # the highest watermark of its rows
    wrong: GatewayError | None = None


@dataclass(slots=True)
class Survey:
    """What stands in a file. `broken` are rows that could not be read or have no key."""

    digest: bytes = b""
    codec: str = ""
    head: bytes = b""
    rows: int = 0
    filtered: int = 0
    passed: int = 0  # groups that are older than the watermark
    high: str = ""
    broken: list[GatewayError] = field(default_factory=list)
    groups: dict[bytes, _Known] = field(default_factory=dict)


def survey(open_file: Opener, table: TableMap, *, zone: str, since: str) -> Survey:
    """Reads the whole file. Raises Structure or Unprocessable for one that cannot be used."""
    found = Survey()
    with open_file() as file:
        found.codec = codec_of_file(file.read(4), table)
    ended = _prove(open_file, found)
    with open_file() as file:
        _see(_records(file, table, found), table, found, zone, ended=ended or table.open_end)
    if table.format == CSV and table.header:
        found.head = _head(open_file)
    if since:
        old = [key for key, one in found.groups.items() if one.high < since and not one.wrong]
        for key in old:
            del found.groups[key]
        found.passed = len(old)
    return found


def _prove(open_file: Opener, found: Survey) -> bool:
    """The code page and the digest; whether the file ends with a line end."""
    digest, last = sha256(), b"\n"

    def seen(line: bytes) -> None:
        nonlocal last
        digest.update(line)
        last = line[-1:]

    with open_file() as file:
        lines = lines_of(file, seen)
        check_code_page((b"" if len(line) > MAX_LINE else line for line in lines), found.codec)
    found.digest = digest.digest()
    return last == b"\n"


def _head(open_file: Opener) -> bytes:
    with open_file() as file:
        return next((line for line in file if line.strip()), b"")


def lines_of(file: BinaryIO, seen: Callable[[bytes], None] = lambda _: None) -> Iterator[bytes]:
    """The lines of a file; of one that is too long only as much as shows that it is.

    `seen` is told all bytes.
    """
    while line := file.readline(MAX_LINE + 1):
        seen(line)
        rest = line
        while len(line) > MAX_LINE and rest and not rest.endswith(b"\n"):
            rest = file.readline(MAX_LINE)
            if rest:
                seen(rest)
        yield line


def _records(file: BinaryIO, table: TableMap, found: Survey) -> Iterator[Record]:
    return records(lines_of(file), table, found.codec)


def _digest(key: tuple[str, ...]) -> bytes:
    return sha256("\x1f".join(key).encode()).digest()[:16]


def _see(rows: Iterator[Record], table: TableMap, found: Survey, zone: str, *, ended: bool) -> None:
    """Notes the groups. A row that cannot be read refuses the groups of its neighbours: it may
    have been a row of either, and a report without one of its results is none."""
    before: _Known | None = None
    torn: GatewayError | None = None
    for record in rows:
        found.rows += 1
        if found.rows > MOST_ROWS:
            raise Unprocessable(f"A file may have {MOST_ROWS} rows", rule="table-rows")
        if record.fault:
            torn = _torn(record, found, before)
            continue
        if not takes(table, record):
            found.filtered += 1
            continue
        key = key_of(table, record)
        if not key:
            sentence = "the row has no key"
            found.broken.append(fault(record.line, table.key[0], sentence, "table-key"))
            continue
        before = found.groups.setdefault(_digest(key), _Known(record.line))
        before.last = record.line
        before.wrong, torn = before.wrong or torn, None
        _mark(table, record, before, found, zone)
    if not ended and before is not None:
        before.wrong = fault(before.last, "", "the file ends within this line; write it whole, or "
                             "say open_end in the map", "table-cut")  # fmt: skip


def _torn(record: Record, found: Survey, before: _Known | None) -> GatewayError:
    found.broken.append(fault(record.line, "", record.fault, "table-row"))
    torn = fault(record.line, "", "this row cannot be read and may belong here", "table-neighbour")
    if before is not None:
        before.wrong = before.wrong or torn
    return torn


def _mark(table: TableMap, record: Record, group: _Known, found: Survey, zone: str) -> None:
    if not table.watermark:
        return
    mark = mark_of(table, record, zone)
    if mark is None:
        group.wrong = fault(record.line, table.watermark, "this is no watermark", "table-watermark")
        return
    group.high, found.high = max(group.high, mark), max(found.high, mark)


def groups_of(
    open_file: Opener, table: TableMap, found: Survey
) -> Iterator[tuple[Group, GatewayError | None, str]]:
    """(group, why it is refused, its watermark), in the order of their last rows."""
    held: dict[bytes, list[Record]] = {}
    with open_file() as file:
        for record in _records(file, table, found):
            if record.fault or not takes(table, record):
                continue
            key = key_of(table, record)
            known = found.groups.get(digest := _digest(key)) if key else None
            if known is None:
                continue
            rows = held.setdefault(digest, [])
            if len(rows) <= MAX_ROWS:
                rows.append(record)
            if record.line == known.last:
                yield Group(key, held.pop(digest)), known.wrong, known.high
