"""A sheet of an .xlsx workbook, bounded before it is opened.

A workbook is a zip of XML: its size unpacked, its rows and its cells are counted first, and a part
with a DOCTYPE is refused. Merged cells are filled with the text they show.
"""

from __future__ import annotations

import io
import re
import warnings
import zipfile
import zlib
from datetime import date, datetime, time
from typing import Any

from openpyxl import load_workbook
from openpyxl.utils import column_index_from_string

from fhir_gateway.errors import GatewayError
from fhir_gateway.terminology.sheet import (
    EMPTY,
    MOST_COLUMNS,
    MOST_ROWS,
    Cell,
    Row,
    Sheet,
    cleaned,
    refused,
)

#: Bounds of what a workbook may unpack to.
MOST_PARTS, MOST_UNPACKED, MOST_CELLS = 1_000, 40_000_000, 400_000

_CELL = re.compile(rb"<(?:[\w.\-]+:)?c[\s/>]")
_ROW = re.compile(rb"<(?:[\w.\-]+:)?row[\s/>]")
_MERGE = re.compile(rb"<(?:[\w.\-]+:)?mergeCell[\s/>]")
_MERGED = re.compile(
    rb"<(?:[\w.\-]+:)?mergeCell\s+ref=[\"']\$?([A-Z]{1,3})\$?(\d{1,7}):\$?([A-Z]{1,3})\$?(\d{1,7})"
)
_PADDED = re.compile(r"0+")

#: Sheets that explain the one beside them.
_NOTES = frozenset(
    {"说明", "填表说明", "填写说明", "编制说明", "目录说明", "about", "notes", "readme"}
)


def read_xlsx(content: bytes, file: str, sheet: str) -> Sheet:
    """The sheet of this name, or the only one with anything in it. Raises Unprocessable."""
    _check_bounds(content, file)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of styles and extensions that are not read here
            book = load_workbook(io.BytesIO(content), data_only=False)
            return _read(_choose(book, file, sheet), file)
    except GatewayError:
        raise
    except Exception as error:  # openpyxl raises whatever a damaged part leads to
        raise refused(
            file,
            f"cannot be read as a workbook ({type(error).__name__}): save it anew",
            "sheet-kind",
        ) from None


def _check_bounds(content: bytes, file: str) -> None:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            parts = archive.infolist()
            if len(parts) > MOST_PARTS or sum(p.file_size for p in parts) > MOST_UNPACKED:
                raise refused(
                    file,
                    f"unpacks to more than {MOST_UNPACKED // 1_000_000} MB; this is no list",
                    "sheet-size",
                )
            cells = rows = 0
            for part in parts:
                # a part gives no more bytes than it declares, and those were counted
                data = archive.read(part)
                _check_xml(part.filename, data, file)
                if part.filename.startswith("xl/worksheets/"):
                    cells += len(_CELL.findall(data)) + _merged_cells(data, file)
                    rows = max(rows, len(_ROW.findall(data)))
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError, EOFError, zlib.error) as error:
        raise refused(file, f"is a damaged workbook: {error}", "sheet-kind") from None
    if cells > MOST_CELLS or rows > MOST_ROWS:
        raise refused(
            file, f"has more than {MOST_ROWS} rows or {MOST_CELLS} cells; this is no list",
            "sheet-size",
        )  # fmt: skip


def _merged_cells(data: bytes, file: str) -> int:
    """How many cells are merged with another: openpyxl makes all of them when it opens a file."""
    merged = 0
    for start_column, start_row, end_column, end_row in _MERGED.findall(data):
        columns = column_index_from_string(end_column.decode()) - column_index_from_string(
            start_column.decode()
        )
        merged += (abs(columns) + 1) * (abs(int(end_row) - int(start_row)) + 1)
    if len(_MERGE.findall(data)) != len(_MERGED.findall(data)):
        raise refused(file, "has merged cells that cannot be read", "sheet-kind")
    return merged


def _check_xml(name: str, data: bytes, file: str) -> None:
    """No part may bring its own entities, and none may hide them in another charset."""
    if not name.endswith((".xml", ".rels")):
        return
    if b"\x00" in data[:4] or b"<!DOCTYPE" in data or b"<!ENTITY" in data:
        raise refused(file, f"{name} is no part of a plain workbook", "sheet-kind")


def _choose(book: Any, file: str, sheet: str) -> Any:
    names = [one.title for one in book.worksheets]
    if sheet:
        if sheet not in names:
            raise refused(file, f"has no sheet {sheet}; it has {', '.join(names)}", "sheet-name")
        return book[sheet]
    filled = [one for one in book.worksheets if _filled(one)]
    visible = [
        one
        for one in filled
        if one.sheet_state == "visible" and one.title.strip().casefold() not in _NOTES
    ]
    if not filled:
        raise refused(file, "has no sheet with anything in it", "sheet-empty")
    if len(visible) != 1:
        named = ", ".join(one.title for one in visible or filled)
        raise refused(file, f"has several sheets: choose one with --sheet: {named}", "sheet-name")
    return visible[0]


def _filled(sheet: Any) -> bool:
    return any(cell.value is not None for cell in _cells(sheet))


def _cells(sheet: Any) -> list[Any]:
    """The cells that the file holds. Sheet.iter_rows would make all those up to the last one, which
    a format left in the last row of the grid turns into millions."""
    return list(sheet._cells.values())


def _read(sheet: Any, file: str) -> Sheet:
    by_row: dict[int, dict[int, Cell]] = {}
    for cell in _cells(sheet):
        if cell.value is not None:
            by_row.setdefault(cell.row, {})[cell.column] = _cell(cell)
    lowest = max(by_row, default=0)
    widest = max((max(cells) for cells in by_row.values()), default=0)
    if lowest > MOST_ROWS or widest > MOST_COLUMNS:
        raise refused(
            f"{file}, sheet {sheet.title}",
            f"reaches to row {lowest} and column {widest}; a list has at most {MOST_ROWS} rows "
            f"and {MOST_COLUMNS} columns",
            "sheet-size",
        )
    merged = _merged(sheet, by_row)
    for (row, column), shown in merged.items():
        if row in by_row:  # a row with merged cells alone is blank
            by_row[row].setdefault(column, shown)
    rows = [
        Row(number, tuple(cells.get(column, EMPTY) for column in range(1, max(cells) + 1)))
        for number, cells in sorted(by_row.items())
        if any(cell.text and not cell.merged for cell in cells.values())
    ]
    hidden = [row.number for row in rows if sheet.row_dimensions[row.number].hidden]
    return Sheet(file, sheet.title, tuple(rows), tuple(_notices(sheet, bool(merged), hidden)))


def _notices(sheet: Any, merged: bool, hidden: list[int]) -> list[str]:
    notices = []
    if merged:
        ranges = ", ".join(str(one) for one in sheet.merged_cells.ranges)
        shown = ranges if len(ranges) <= 120 else f"{ranges[:120]}…"
        notices.append(f"Merged cells were read as one text in each of their cells: {shown}")
    if hidden:
        shown = ", ".join(map(str, hidden[:10])) + ("…" if len(hidden) > 10 else "")
        notices.append(f"Hidden rows were read like the others: {shown}")
    return notices


def _merged(sheet: Any, by_row: dict[int, dict[int, Cell]]) -> dict[tuple[int, int], Cell]:
    """The cells that show the text of the cell they are merged with."""
    filled: dict[tuple[int, int], Cell] = {}
    for span in sheet.merged_cells.ranges:
        shown = by_row.get(span.min_row, {}).get(span.min_col, EMPTY)
        for place in span.cells:
            if shown.text and place != (span.min_row, span.min_col):
                filled[place] = shown._replace(merged=True)
    return filled


def _cell(cell: Any) -> Cell:
    value = cell.value
    if cell.data_type in _WRONG:
        return Cell(str(value), _WRONG[cell.data_type])
    if isinstance(value, datetime | date | time):
        return _date(value)
    if isinstance(value, bool):
        return Cell("true" if value else "false")
    if isinstance(value, int | float):
        return _number(value, str(cell.number_format))
    return cleaned(str(value))


#: Types of cells (ECMA-376, ST_CellType) whose text is not what a person typed.
_WRONG = {"f": "is a formula: paste its value", "e": "is an error of the spreadsheet"}


def _date(value: datetime | date | time) -> Cell:
    day = value.date() if isinstance(value, datetime) else value
    return Cell(
        day.isoformat(),
        f"is a date ({day.isoformat()}), which spreadsheets make of texts as 1-7: format the "
        "column as text and write it again",
    )


def _number(value: int | float, shown: str) -> Cell:
    """A number as its cell shows it: whole ones without a point, zeros in front where it has."""
    if isinstance(value, float):
        if not value.is_integer():
            return Cell(repr(value))
        value = int(value)
    text = str(value)
    if abs(value) >= 10**15:
        return Cell(text, "is a number of more than 15 digits, the last of which are lost")
    if _PADDED.fullmatch(shown):
        text = text.zfill(len(shown))
    return Cell(text)
