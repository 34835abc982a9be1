"""`fhir-gateway consortium` as an operator types it: import, list, show, export."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from databases import Databases

from fhir_gateway.cli import main

HEADER = "consortium,name,kind,core,member,start,end,district"
ROW = "east,东部医联体,城市医疗集团,第一医院,garden,2026-01-01,,110105"
OTHER = ROW.replace("garden", "village")
Run = Callable[..., Result]


@pytest.fixture
def desk(database: Databases, tmp_path: Path) -> tuple[Run, Callable[..., str]]:
    address = database.url("consortium")

    def run(*words: str) -> Result:
        return CliRunner().invoke(main, [*words, "--database", address])

    def ok(*words: str) -> str:
        done = run(*words)
        assert done.exit_code == 0, done.output
        return done.stdout

    for id, name in (("first", "第一医院"), ("garden", "花园社区"), ("village", "村卫生院")):
        ok("institution", "add", id, name, "--area", "110105", "--no-token")
    return run, ok


def _table(folder: Path, *rows: str) -> str:
    path = folder / "members.csv"
    path.write_bytes("\n".join((HEADER, *rows)).encode("gb18030"))
    return str(path)


@pytest.mark.drivers("sqlite")
def test_a_table_is_imported_shown_exported_and_imported_again(
    desk: tuple[Run, Callable[..., str]], tmp_path: Path
) -> None:
    run, ok = desk
    table = _table(tmp_path, ROW, OTHER)
    assert "nothing stored (dry run)" in ok("consortium", "import", table, "--dry-run")
    assert json.loads(ok("consortium", "list", "--json")) == []
    first = json.loads(ok("consortium", "import", table, "--json"))
    assert (first["joined"], first["left"], first["stored"]) == (2, 0, True)
    again = json.loads(ok("consortium", "import", table, "--json"))
    assert (again["unchanged"], again["changes"], again["stored"]) == (2, [], False)
    (one,) = json.loads(ok("consortium", "list", "--institution", "village", "--json"))
    assert (one["consortium"], one["core"], one["members"]) == ("east", ["first"], 1)
    assert "members on 2025-12-31" in ok("consortium", "list", "--on", "2025-12-31")
    out = tmp_path / "out.csv"
    assert "2 memberships" in ok("consortium", "export", str(out))
    assert run("consortium", "export", str(out)).exit_code == 1
    back = json.loads(ok("consortium", "import", str(out), "--json"))
    assert (back["unchanged"], back["stored"]) == (2, False)
    with out.open(encoding="utf-8-sig", newline="") as file:
        assert [row["member"] for row in csv.DictReader(file)] == ["garden", "village"]


@pytest.mark.drivers("sqlite")
def test_who_is_left_out_has_left(desk: tuple[Run, Callable[..., str]], tmp_path: Path) -> None:
    _, ok = desk
    ok("consortium", "import", _table(tmp_path, ROW, OTHER))
    said = ok("consortium", "import", _table(tmp_path, ROW))
    assert "- east: village at first, 2026-01-01 to " in said
    assert "0 joined, 0 changed, 1 left, 1 unchanged" in said
    members = json.loads(ok("consortium", "show", "east", "--json"))
    assert [(one["member"], bool(one["end"])) for one in members] == [
        ("garden", False),
        ("village", True),
    ]
    today = json.loads(ok("consortium", "show", "east", "--on", "2026-01-01", "--json"))
    assert len(today) == 2


@pytest.mark.drivers("sqlite")
def test_faults_are_sentences_and_store_nothing(
    desk: tuple[Run, Callable[..., str]], tmp_path: Path
) -> None:
    run, ok = desk
    bad = run("consortium", "import", _table(tmp_path, ROW, OTHER.replace("第一医院", "第九医院")))
    assert bad.exit_code == 1
    assert "row 3, column D (core): no institution 第九医院 is registered" in bad.output
    assert json.loads(ok("consortium", "list", "--json")) == []
    for words in (("show", "west"), ("list", "--on", "soon"), ("import", str(tmp_path / "no.csv"))):
        assert run("consortium", *words).exit_code == 1
