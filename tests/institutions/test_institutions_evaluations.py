"""`fhir-gateway evaluations` as an operator types it: bodies, tables, suspensions, lists."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from databases import Databases
from openpyxl import Workbook

from fhir_gateway.cli import main

HEADER = "institution,item,area,start,end,passed,evaluator,round"
ROW = "hospital,临床化学,北京市,2026-01-01,2026-12-31,合格,市质控中心,1"


class Desk:
    """An operator with a database and a folder."""

    def __init__(self, address: str, folder: Path) -> None:
        self.address, self.folder = address, folder

    def run(self, *words: str) -> Result:
        return CliRunner().invoke(main, [*words, "--database", self.address])

    def ok(self, *words: str) -> str:
        done = self.run(*words)
        assert done.exit_code == 0, done.output
        return done.stdout

    def file(self, *rows: str, name: str = "table.csv", encoding: str = "utf-8") -> str:
        path = self.folder / name
        path.write_bytes("\n".join((HEADER, *rows)).encode(encoding))
        return str(path)


def _desk(address: str, folder: Path) -> Desk:
    one = Desk(address, folder)
    one.ok("institution", "add", "hospital", "甲医院", "--area", "110105", "--no-token")
    city = ("city", "市质控中心", "--level", "city", "--area", "110000")
    assert "created" in one.ok("evaluations", "body", "add", *city)
    return one


@pytest.fixture
def desk(database: Databases, tmp_path: Path) -> Desk:
    """A register that a test changes."""
    return _desk(database.url("desk"), tmp_path)


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    """A register in which nothing is stored."""
    folder = tmp_path_factory.mktemp("desk")
    return _desk(f"sqlite:///{folder}/desk.sqlite", folder)


def test_a_table_is_imported_once_listed_suspended_resumed_and_exported(desk: Desk) -> None:
    table = desk.file(ROW, encoding="gb18030")
    assert "nothing stored (dry run)" in desk.ok("evaluations", "import", table, "--dry-run")
    first = json.loads(desk.ok("evaluations", "import", table, "--json"))
    assert (first["stored"], first["evaluations"], first["changed"]) == (True, 1, 0)
    again = json.loads(desk.ok("evaluations", "import", table, "--json"))
    assert (again["stored"], again["unchanged"]) == (False, first["added"])
    why = ("--reason", "复核", "--item", "L001")
    desk.ok("evaluations", "suspend", "hospital", "--from", "2026-03-01", *why)
    assert desk.run("evaluations", "suspend", "hospital", "--from", "2026-03-01", *why).exit_code
    on = ("evaluations", "list", "--item", "L001", "--json", "--on")
    assert json.loads(desk.ok(*on, "2026-03-01")) == []
    desk.ok("evaluations", "resume", "hospital", "--from", "2026-05-01", *why)
    (entry,) = json.loads(desk.ok(*on, "2026-05-01"))
    assert (entry["institution"], entry["suspensions"][0]["until"]) == ("hospital", "2026-04-30")
    assert "suspended from 2026-03-01" in desk.ok("evaluations", "list", "--item", "L001")
    assert json.loads(desk.ok("evaluations", "list", "--area", "120000", "--json")) == []
    out = desk.folder / "out.csv"
    desk.ok("evaluations", "export", str(out))
    back = json.loads(desk.ok("evaluations", "import", str(out), "--json"))
    assert (back["stored"], back["unchanged"]) == (False, first["added"])


@pytest.mark.drivers("sqlite")
def test_a_workbook_with_date_cells_is_imported(desk: Desk) -> None:
    book = Workbook()
    sheet = book.active
    assert sheet is not None
    sheet.append(["机构", "项目", "互认范围", "起始日期", "截止日期", "结果", "评价机构", "轮次"])
    sheet.append(
        [
            "甲医院",
            "L001",
            "北京市",
            date(2026, 1, 1),
            date(2026, 12, 31),
            "合格",
            "市质控中心",
            "1",
        ]
    )
    path = desk.folder / "table.xlsx"
    book.save(path)
    desk.ok("evaluations", "import", str(path))
    (entry,) = json.loads(desk.ok("evaluations", "list", "--json"))
    assert (entry["start"], entry["end"], entry["area"]) == ("2026-01-01", "2026-12-31", "110000")


def test_a_table_with_a_fault_stores_nothing(quiet: Desk) -> None:
    table = quiet.file(ROW, ROW.replace("北京市", "全国").replace("临床化学", "L999"))
    done = quiet.run("evaluations", "import", table)
    assert done.exit_code == 1
    assert "row 3, column C (area)" in done.output
    assert "row 3, column B (item)" in done.output
    assert json.loads(quiet.ok("evaluations", "list", "--json")) == []


@pytest.mark.drivers("sqlite")
def test_bodies_are_imported_listed_and_given_a_token(desk: Desk) -> None:
    path = desk.folder / "bodies.csv"
    path.write_text(
        "id,name,level,kind,area\ntcm,中医中心,city,tcm,110000\nd,区中心,district,general,110105\n",
        encoding="utf-8",
    )
    assert desk.ok("evaluations", "body", "import", str(path)).count("created") == 2
    assert "tcm" in desk.ok("evaluations", "body", "list")
    assert "fgw_" in desk.ok("evaluations", "body", "token", "tcm")
    assert desk.run("evaluations", "body", "token", "nobody").exit_code == 1
    path.write_text("id,name,level,kind,area\nx,X,city,odd,110105\n,Y,city,tcm,CN\n")
    done = desk.run("evaluations", "body", "import", str(path))
    assert done.exit_code == 1
    assert "column D (kind)" in done.output


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("suspend", "hospital", "--from", "x", "--reason", "r"), "is no day"),
        (("suspend", "hospital", "--from", "2026-01-01", "--reason", " "), "say why"),
        (("suspend", "nobody", "--from", "2026-01-01", "--reason", "r"), "nobody is registered"),
        (("expire", "hospital", "--from", "2026-01-01", "--reason", "r"), "can be expired"),
        (("resume", "hospital", "--from", "2026-01-01", "--reason", "r", "--item", "X"), "no item"),
        (("list", "--on", "x"), "is no day"),
        (("list", "--area", "x"), "is no area"),
    ],
)
def test_what_cannot_be_is_said(quiet: Desk, words: tuple[str, ...], says: str) -> None:
    done = quiet.run("evaluations", *words)
    assert done.exit_code == 1
    assert says in done.output
