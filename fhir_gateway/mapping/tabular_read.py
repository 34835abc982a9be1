"""A file of rows: bytes -> records, each with its line number and the very bytes it was read from.

CSV by RFC 4180, and NDJSON. The code page is declared and never guessed: a line that is not
well-formed in it, or a file whose bytes are plainly of another one, refuses the file before
anything of it is used. A record that cannot be told apart into cells is a broken one, and damages
no line after its own: an open quotation mark does not swallow the rest of the file.

In UTF-8 and GB 18030 no character holds the byte of a line end, so lines are split before they
are decoded.
"""

from __future__ import annotations

import csv
import json
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from fhir_gateway.errors import GatewayError, Issue, Structure, Unprocessable
from fhir_gateway.mapping.tabular_map import CSV, TableMap
from fhir_gateway.mapping.v2_charset import choose, read

#: More than any row has: bytes of a line, lines of a record, characters of a cell, columns.
MAX_LINE, MAX_LINES, MAX_CELL, MAX_COLUMNS = 1_000_000, 500, 100_000, 1_000

BOM = b"\xef\xbb\xbf"
_MARKS = (b"\xff\xfe", b"\xfe\xff")

#: Bytes of lines with other than ASCII that are enough to tell code pages apart.
SAMPLE = 65_536
#: Lines with wrong bytes that are named.
_MOST = 20


class Record(NamedTuple):
    """A row of the file. `fault` says why it has no cells, "" when it has."""

    line: int
    raw: bytes
    cells: Mapping[str, str]
    fault: str = ""


def codec_of_file(head: bytes, table: TableMap) -> str:
    """The codec of a file by its first bytes. A mark of UTF-8 declares UTF-8.

    Raises Structure for UTF-16.
    """
    if head.startswith(_MARKS):
        raise Structure("UTF-16 is not read here; write the file as UTF-8", rule="table-code-page")
    return "utf-8" if head.startswith(BOM) else table.codec


def check_code_page(lines: Iterable[bytes], codec: str) -> None:
    """Raises Structure when a line is not well-formed text in the codec, or when all lines
    together are plainly of another code page."""
    wrong: list[int] = []
    sample = bytearray()
    for number, line in enumerate(lines, start=1):
        if line.isascii():
            continue
        if _decoded(line, codec) is None:
            wrong.append(number)
        elif len(sample) < SAMPLE:
            sample += line
    if wrong:
        named = ", ".join(map(str, wrong[:_MOST])) + (" …" if len(wrong) > _MOST else "")
        raise Structure(
            f"These lines are no text in the declared code page ({codec}): {named}. Nothing of "
            "the file was read; declare its code page in the map",
            expression=f"line {wrong[0]}",
            rule="table-code-page",
        )
    _check_sample(bytes(sample), codec)


def _check_sample(sample: bytes, codec: str) -> None:
    """UTF-8 read as GB 18030 is well-formed now and then, and always the wrong characters."""
    if not sample:
        return
    try:
        proved = choose(sample, codec)[1]
    except GatewayError:
        return  # it can be read as either: the declaration decides
    if proved != codec:
        raise Structure(
            f"The bytes of the file are {proved}, not the declared code page ({codec}); correct "
            "code_page in the map, or write the file as declared",
            rule="table-code-page",
        )


def _decoded(line: bytes, codec: str) -> str | None:
    """The text; None when it is none. Other control characters are a fault of their row alone."""
    try:
        return line.decode(codec)
    except UnicodeDecodeError:
        return None


def records(lines: Iterator[bytes], table: TableMap, codec: str) -> Iterator[Record]:
    """The records of a file, its header left out.

    Raises Unprocessable when a column of the map is missing in the header of a CSV.
    """
    if table.format == CSV:
        return _csv(lines, table, codec)
    return _ndjson(lines, codec, frozenset(table.needed))


# -- CSV -------------------------------------------------------------------------------------------


class _Lines:
    """The lines of a file, numbered, decoded one at a time, and put back where they are needed."""

    def __init__(self, lines: Iterator[bytes], codec: str) -> None:
        self._lines, self._codec = enumerate(lines, start=1), codec
        self._back: deque[tuple[int, bytes]] = deque()
        self.taken: list[tuple[int, bytes]] = []

    def next(self) -> bytes:
        """The next line. Raises StopIteration at the end."""
        one = self._back.popleft() if self._back else next(self._lines)
        self.taken.append(one)
        return one[1]

    def record(self) -> Iterator[str]:
        """The lines of one record, as many as the reader asks for."""
        while True:
            if len(self.taken) >= MAX_LINES:
                raise csv.Error("a quotation mark is not closed")
            try:
                line = self.next()
            except StopIteration:
                return
            if len(line) > MAX_LINE:
                raise csv.Error(f"the line is longer than {MAX_LINE} bytes")
            text = read(line.removeprefix(BOM) if self.taken[0][0] == 1 else line, self._codec)
            if text is None:
                raise csv.Error("the line holds control characters")
            yield text

    def give_back(self) -> None:
        """All lines of the record but its first are read again."""
        self._back.extendleft(reversed(self.taken[1:]))
        del self.taken[1:]


def _csv(lines: Iterator[bytes], table: TableMap, codec: str) -> Iterator[Record]:
    source = _Lines(lines, codec)
    header: list[str] | None = None
    while True:
        source.taken = []
        cells, fault = _cells(source, table)
        if not source.taken:
            return
        line, raw = source.taken[0][0], b"".join(one for _, one in source.taken)
        if not fault and not any(cell.strip() for cell in cells):
            continue
        if header is None:
            if fault:
                raise Unprocessable(f"The header cannot be read: {fault}", rule="table-header")
            if table.header:
                header = _header(cells, table)
                continue
            header = _header([str(n + 1) for n in range(len(cells))], table)
        fault = fault or _misfit(cells, header)
        yield Record(line, raw, {} if fault else dict(zip(header, _stripped(cells), strict=True)),
                     fault)  # fmt: skip


def _cells(source: _Lines, table: TableMap) -> tuple[list[str], str]:
    """The cells of the next record, and what is wrong with it."""
    reader = csv.reader(
        source.record(),
        delimiter=table.delimiter,
        quotechar=table.quote or None,
        quoting=csv.QUOTE_MINIMAL if table.quote else csv.QUOTE_NONE,
        strict=True,
    )
    try:
        return next(reader, []), ""
    except csv.Error as error:
        source.give_back()
        return [], str(error)


def _header(cells: list[str], table: TableMap) -> list[str]:
    """The names of the columns. Raises Unprocessable for those that are missing or stand twice."""
    names = _stripped(cells)
    faults = [f"The column {name} is missing" for name in table.needed if name not in names]
    faults += [f"The column {name} stands twice" for name in table.needed if names.count(name) > 1]
    if len(names) > MAX_COLUMNS:
        faults.append(f"The table has more than {MAX_COLUMNS} columns")
    if faults:
        raise Unprocessable(
            issues=tuple(Issue("invalid", one, "line 1", "table-header") for one in faults)
        )
    return names


def _misfit(cells: list[str], header: list[str]) -> str:
    if len(cells) != len(header):
        return f"the row has {len(cells)} cells, the header {len(header)}"
    return _too_long(cells)


def _too_long(cells: Iterable[str]) -> str:
    long = any(len(cell) > MAX_CELL for cell in cells)
    return f"a cell has more than {MAX_CELL} characters" if long else ""


def _stripped(cells: list[str]) -> list[str]:
    return [cell.strip() for cell in cells]


# -- NDJSON ----------------------------------------------------------------------------------------


def _ndjson(lines: Iterator[bytes], codec: str, needed: frozenset[str]) -> Iterator[Record]:
    for number, line in enumerate(lines, start=1):
        body = line.removeprefix(BOM) if number == 1 else line
        if not body.strip():
            continue
        try:
            cells = _object(body, codec, needed)
            fault = _too_long(cells.values())
        except ValueError as error:
            cells, fault = {}, str(error)
        yield Record(number, line, {} if fault else cells, fault)


def _object(line: bytes, codec: str, needed: frozenset[str]) -> dict[str, str]:
    """The members of an object as texts; those of an object inside by `outer.inner`.

    Numbers keep their spelling. Raises ValueError with a sentence.
    """
    if len(line) > MAX_LINE:
        raise ValueError(f"the line is longer than {MAX_LINE} bytes")
    text = read(line, codec)
    if text is None:
        raise ValueError("the line holds control characters")
    try:
        value = json.loads(
            text, parse_float=str, parse_int=str, parse_constant=_constant, object_pairs_hook=_once
        )
    except json.JSONDecodeError:
        raise ValueError("the line is no JSON") from None
    except RecursionError:
        raise ValueError("the line is nested too deep") from None
    if not isinstance(value, dict):
        raise ValueError("the line is no JSON object")
    cells: dict[str, str] = {}
    lists: set[str] = set()
    _flatten(value, "", cells, lists)
    if found := sorted(lists & needed):
        raise ValueError(f"{found[0]} is a list, which is no cell")
    if not all(map(_is_text, cells.values())):
        raise ValueError("a text holds control characters or half a character")
    return cells


def _is_text(cell: str) -> bool:
    return cell.isprintable() or read(cell.encode("utf-8", "surrogatepass"), "utf-8") is not None


def _constant(name: str) -> str:
    raise ValueError(f"{name} is no value of JSON")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a name stands twice in an object")
    return members


def _flatten(value: Mapping[str, Any], prefix: str, cells: dict[str, str], lists: set[str]) -> None:
    for name, one in value.items():
        if isinstance(one, dict):
            _flatten(one, f"{prefix}{name}.", cells, lists)
        elif isinstance(one, str):
            cells[prefix + name] = one.strip()
        elif isinstance(one, bool):
            cells[prefix + name] = "true" if one else "false"
        elif one is not None:
            lists.add(prefix + name)
