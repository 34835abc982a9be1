"""What the tests of views share: a hospital's database, in SQLite and in PostgreSQL."""

from __future__ import annotations

import csv
import io
import sqlite3
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import psycopg
from databases import need_postgres, postgres
from tabular_cases import HEADER, RESULTS, Ward

from fhir_gateway.interactions.intake_view import Part, Pull, pull_view
from fhir_gateway.mapping.tabular_map import TableMap

COLUMNS = HEADER.split(",")
#: What a column is in PostgreSQL; all others are texts, one of fixed width.
_TYPES = {
    "出生日期": "date", "采集时间": "timestamp", "审核时间": "timestamptz", "更新时间": "timestamp",
    "项目代码": "char(12)", "序号": "int",
}  # fmt: skip
DATABASE = """
[database]
url_env = "WARD_URL"
view = "检验 结果"
order = ["序号"]
"""


class Hospital:
    """A database with one table and a view of it."""

    def __init__(self, driver: str, folder: Path) -> None:
        self.driver = driver
        if driver == "sqlite":
            self.file = folder / "hospital.sqlite"
            self.url = f"sqlite:///{self.file}"
        else:
            need_postgres()
            self.name = postgres().create()
            self.url = postgres().url(self.name)
        self.execute(
            "CREATE TABLE rows_of_lab (序号 {number}, {columns})".format(
                number=self._type("序号"),
                columns=", ".join(f'"{name}" {self._type(name)}' for name in COLUMNS),
            )
        )
        self.execute('CREATE VIEW "检验 结果" AS SELECT * FROM rows_of_lab')

    def _type(self, name: str) -> str:
        type = _TYPES.get(name, "text")
        return type.replace("timestamptz", "timestamp") if self.driver == "sqlite" else type

    def execute(self, statement: str, rows: Iterable[Iterable[Any]] = ()) -> None:
        """Runs a statement, once or for each row."""
        connection: Any
        if self.driver == "sqlite":
            connection = sqlite3.connect(self.file)
        else:
            connection = psycopg.connect(postgres().local(self.name))
            statement = statement.replace("?", "%s")
        several = list(rows)
        try:
            cursor = connection.cursor()
            if several:
                cursor.executemany(statement, several)
            else:
                cursor.execute(statement)
            connection.commit()
        finally:
            connection.close()

    def fill(self, *rows: str) -> None:
        """Adds rows, spelled as those of a file are."""
        cells = list(csv.reader(io.StringIO("\n".join(rows))))
        marks = ", ".join("?" for _ in range(len(COLUMNS) + 1))
        names = ", ".join(f'"{name}"' for name in ("序号", *COLUMNS))
        numbered = [
            (n, *(self._value(name, text) for name, text in zip(COLUMNS, row, strict=True)))
            for n, row in enumerate(cells, start=1)
        ]
        self.execute(f"INSERT INTO rows_of_lab ({names}) VALUES ({marks})", numbered)

    def _value(self, name: str, text: str) -> str | None:
        """Times with a zone are kept in another one; SQLite has the day as it was written."""
        if not text:
            return None
        if self.driver == "postgresql" and _TYPES.get(name) == "timestamptz":
            return f"{text}+08:00"
        return text

    def close(self) -> None:
        if self.driver == "postgresql":
            postgres().drop(self.name)


def mapped(ward: Ward, more: str = "", results: str = RESULTS) -> TableMap:
    """The map of the ward's results with a view; it reads files too."""
    return ward.mapped(results + DATABASE + more)


def pulled(ward: Ward, hospital: Hospital, table: TableMap, **how: Any) -> list[Part]:
    """What a pull of the view finds."""

    def waiting(reason: str, seconds: float) -> None:
        raise AssertionError(reason)

    pull = Pull(table, hospital.url, **how)
    return ward.opened.runner.run(pull_view(ward.opened.gateway, pull, lambda *_: None, waiting))
