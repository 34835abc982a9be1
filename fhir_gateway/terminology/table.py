"""CSV tables as the data folders hold them: UTF-8, a header row, RFC 4180 quoting.

One reader for all of them, so that every fault is told the same way: file, row, column.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

from fhir_gateway.errors import Issue, Unprocessable
from fhir_gateway.settings import CANONICAL


class Table:
    """A table being read; collects its faults and raises them all at once."""

    def __init__(self, path: Path, columns: Sequence[str], optional: Sequence[str] = ()) -> None:
        """Opens nothing yet; `columns` must all be in the header, in any order, `optional` may."""
        self.path = path
        self.columns = columns
        self.optional = optional
        self.issues: list[Issue] = []

    def rows(self) -> Iterator[tuple[int, dict[str, str]]]:
        """(line number, cells without outer blanks) of each row that is not empty."""
        try:
            with self.path.open(encoding="utf-8-sig", newline="") as file:
                yield from self._read(csv.DictReader(file, strict=True))
        except FileNotFoundError:
            self.fault(0, "", "the file is missing", rule="table-missing")
        except UnicodeDecodeError:
            self.fault(0, "", "the file is not UTF-8", rule="table-encoding")
        except csv.Error as error:
            self.fault(0, "", f"the file is no CSV: {error}", rule="table-syntax")

    def _read(self, reader: csv.DictReader[str]) -> Iterator[tuple[int, dict[str, str]]]:
        missing = [name for name in self.columns if name not in (reader.fieldnames or ())]
        for name in missing:
            self.fault(1, name, "the column is missing", rule="table-column")
        if missing:
            return
        for row in reader:
            line = reader.line_num
            if row.get(None):  # DictReader keeps the overflow under None
                self.fault(line, "", "more cells than columns", rule="table-cells")
                continue
            cells = {name: _text(row.get(name)) for name in (*self.columns, *self.optional)}
            if any(cells.values()):
                yield line, cells

    def fault(self, line: int, column: str, sentence: str, *, rule: str) -> None:
        """Notes a fault; `line` 0 is the file as a whole."""
        where = self.path.name
        where += f", row {line}" if line else ""
        where += f", column {column}" if column else ""
        self.issues.append(Issue("invalid", f"{where}: {sentence}", rule=rule))

    def check(self) -> None:
        """Raises Unprocessable with every fault noted so far."""
        if self.issues:
            raise Unprocessable(issues=tuple(self.issues))


def _text(cell: str | None) -> str:
    return (cell or "").strip().replace("{CANONICAL}", CANONICAL)
