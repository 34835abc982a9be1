"""A table that people keep in a spreadsheet, read from CSV or XLSX into rows of texts.

Pure: bytes in, rows out, every row under the number that the spreadsheet shows. What a cell cannot
be trusted with (a formula, a date that was a code, a number that lost its digits) is noted on the
cell and refused by whoever needs it, so that a remark in a column nobody reads stops nothing.
RFC 4180, ECMA-376 (read with openpyxl), GB 18030.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
from typing import NamedTuple

from fhir_gateway.errors import Issue, Unprocessable
from fhir_gateway.terminology.sheet_text import unguarded

#: Largest file, most rows and most columns: an official list has some hundreds of rows.
MOST_BYTES, MOST_ROWS, MOST_COLUMNS = 10_000_000, 20_000, 200

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ufffd]")
_ZIP, _OLE = b"PK\x03\x04", b"\xd0\xcf\x11\xe0"


class Cell(NamedTuple):
    """One cell. `wrong` says why its text is not to be trusted, "" when it is.

    `merged` says that the text stands in another cell, with which this one is merged.
    """

    text: str
    wrong: str = ""
    merged: bool = False


EMPTY = Cell("")


class Row(NamedTuple):
    """A row that is not blank. `number` is what the spreadsheet shows beside it."""

    number: int
    cells: tuple[Cell, ...]

    def cell(self, column: int) -> Cell:
        """The cell of a column, an empty one beyond the last."""
        return self.cells[column] if column < len(self.cells) else EMPTY


class Sheet(NamedTuple):
    """A table. `sheet` is "" for CSV; `notices` are sentences that a person should read."""

    file: str
    sheet: str
    rows: tuple[Row, ...]
    notices: tuple[str, ...]

    def where(self, row: int = 0, column: int | None = None, header: str = "") -> str:
        """A place in words: file, sheet, row, column."""
        parts = [self.file]
        parts += [f"sheet {self.sheet}"] if self.sheet else []
        parts += [f"row {row}"] if row else []
        if column is not None:
            named = f" ({header})" if header else ""
            parts.append(f"column {letter(column)}{named}")
        return ", ".join(parts)

    def issue(
        self, rule: str, sentence: str, row: int = 0, column: int | None = None, header: str = ""
    ) -> Issue:
        """A fault with its place."""
        return Issue("invalid", f"{self.where(row, column, header)}: {sentence}", rule=rule)


def letter(column: int) -> str:
    """The letters of a column as spreadsheets show them: 0 is A, 26 is AA."""
    letters = ""
    column += 1
    while column:
        column, rest = divmod(column - 1, 26)
        letters = chr(ord("A") + rest) + letters
    return letters


def refused(file: str, sentence: str, rule: str) -> Unprocessable:
    """The refusal of a whole file."""
    return Unprocessable(f"{file}: {sentence}", rule=rule)


def read_sheet(content: bytes, file: str, *, sheet: str = "", encoding: str = "") -> Sheet:
    """The table in a file, told apart by its first bytes and never by its name.

    Raises Unprocessable for a file that is too large, damaged, of another kind, or in another
    charset than `encoding` says.
    """
    if len(content) > MOST_BYTES:
        raise refused(
            file, f"is larger than {MOST_BYTES // 1_000_000} MB; this is no list", "sheet-size"
        )
    if content.startswith(_OLE):
        raise refused(
            file,
            "is an old .xls file or has a password: save it as .xlsx without one",
            "sheet-kind",
        )
    if content.startswith(_ZIP):
        # openpyxl takes a third of a second to import: only who reads a workbook pays it
        from fhir_gateway.terminology.sheet_xlsx import read_xlsx  # noqa: PLC0415

        return read_xlsx(content, file, sheet)
    if sheet:
        raise refused(file, f"is a CSV file and has no sheet {sheet}", "sheet-name")
    return _read_csv(content, file, encoding)


def cleaned(text: str) -> Cell:
    """A text of a cell without outer and doubled blanks; control characters are noted."""
    wrong = "holds characters that cannot be shown" if _CONTROL.search(text) else ""
    return Cell(" ".join(unguarded(text).split()), wrong)


# -- CSV -------------------------------------------------------------------------------------------


def _read_csv(content: bytes, file: str, encoding: str) -> Sheet:
    text, notices = _decode(content, file, encoding)
    if "\x00" in text:
        raise refused(file, "is neither CSV nor a workbook", "sheet-kind")
    first = text.lstrip("\r\n").partition("\n")[0]
    delimiter = max(",\t;", key=first.count)
    rows = []
    try:
        for number, cells in enumerate(
            csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True), 1
        ):
            if number > MOST_ROWS:
                raise refused(
                    file, f"has more than {MOST_ROWS} rows; this is no list", "sheet-size"
                )
            if len(cells) > MOST_COLUMNS:
                raise refused(
                    file, f"row {number} has more than {MOST_COLUMNS} columns", "sheet-size"
                )
            if any(cell.strip() for cell in cells):
                rows.append(Row(number, tuple(map(cleaned, cells))))
    except csv.Error as error:
        raise refused(file, f"is no CSV: {error}", "sheet-syntax") from None
    return Sheet(file, "", tuple(rows), tuple(notices))


def _decode(content: bytes, file: str, encoding: str) -> tuple[str, list[str]]:
    """The text of a CSV file, and what a person should know of how it was read."""
    if encoding:
        return _decode_as(content, file, encoding), []
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return _decode_as(content, file, "utf-16"), []
    try:
        return content.decode("utf-8-sig"), []
    except UnicodeDecodeError:
        pass
    text = _decode_as(content, file, "gb18030")
    return text, [
        f"{file} is not UTF-8 and was read as GB 18030: look at the names, and say --encoding "
        "gb18030 when they are right"
    ]


def _decode_as(content: bytes, file: str, encoding: str) -> str:
    try:
        if encoding.lower().replace("_", "-") in ("utf-8", "utf8"):
            encoding = "utf-8-sig"
        return content.decode(encoding)
    except LookupError:
        raise refused(
            file, f"{encoding} is no charset; UTF-8 and GB18030 are", "sheet-encoding"
        ) from None
    except UnicodeDecodeError as error:
        raise refused(
            file, f"is not {encoding}: byte {error.start} cannot be read", "sheet-encoding"
        ) from None
