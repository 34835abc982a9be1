"""A command that looks at a store refuses an address that holds none, and makes nothing there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from databases import Databases, postgres

from fhir_gateway.cli import main

#: Commands that begin no store, and what they need beside --database.
LOOKING = [
    ("reindex",),
    ("remap", "h1"),
    ("jobs", "list"),
    ("jobs", "show", "x"),
    ("jobs", "cancel", "x"),
    ("institution", "list"),
    ("institution", "check"),
    ("institution", "token", "h1"),
    ("evaluations", "import", "FILE"),
    ("rules", "list"),
    ("rules", "activate", "1.0.0"),
    ("replay", "--all"),
    ("worker",),
]


def run(words: tuple[str, ...], database: str, table: Path) -> Any:
    named = [str(table) if word == "FILE" else word for word in words]
    return CliRunner().invoke(main, [*named, "--database", database])


@pytest.fixture
def table(tmp_path: Path) -> Path:
    columns = "institution,item,area,start,end,passed,evaluator,round"
    (tmp_path / "table.csv").write_text(columns + "\n")
    return tmp_path / "table.csv"


@pytest.mark.parametrize("words", LOOKING, ids=" ".join)
def test_a_mistyped_path_is_refused_and_stays_empty(
    words: tuple[str, ...], tmp_path: Path, table: Path
) -> None:
    path = tmp_path / "mistyped" / "path.sqlite"
    done = run(words, f"sqlite:///{path}", table)
    assert done.exit_code != 0
    assert f"There is no store at {path}" in done.output
    assert "`fhir-gateway serve`, `load` and `institution add` begin a new one" in done.output
    assert not path.parent.exists()


def test_an_empty_file_is_no_store(tmp_path: Path) -> None:
    path = tmp_path / "empty.sqlite"
    path.touch()
    done = run(("jobs", "list"), f"sqlite:///{path}", path)
    assert (done.exit_code, path.stat().st_size) == (1, 0)


def test_backup_and_copy_refuse_it_too(tmp_path: Path) -> None:
    missing, target = tmp_path / "missing.sqlite", tmp_path / "target.sqlite"
    backed = CliRunner().invoke(main, ["backup", str(target), "--database", f"sqlite:///{missing}"])
    assert (backed.exit_code, backed.output) == (1, "Error: there is no store at that address\n")
    copied = CliRunner().invoke(
        main, ["copy", "--from", f"sqlite:///{missing}", "--to", f"sqlite:///{target}"]
    )
    assert copied.exit_code == 1
    assert not missing.exists()
    assert not target.exists()


def test_the_check_of_the_installation_makes_no_store(tmp_path: Path) -> None:
    path = tmp_path / "none.sqlite"
    done = CliRunner().invoke(main, ["check", "--database", f"sqlite:///{path}"])
    assert done.exit_code == 0, done.output
    assert "none there yet" in done.output
    assert not path.exists()


def test_what_is_meant_to_begin_a_store_does(tmp_path: Path) -> None:
    database = f"sqlite:///{tmp_path / 'new' / 'city.sqlite'}"
    words = ["医院", "--level", "3A", "--area", "110105", "--database", database]
    added = CliRunner().invoke(main, ["institution", "add", "h1", *words])
    assert added.exit_code == 0, added.output
    listed = CliRunner().invoke(main, ["institution", "list", "--database", database])
    assert "h1" in listed.output


@pytest.mark.drivers("postgresql")
def test_an_empty_database_of_postgresql_is_refused(database: Databases, table: Path) -> None:
    url = postgres().store(postgres().create("template0"))
    for words in (("jobs", "list"), ("institution", "list"), ("rules", "list")):
        done = run(words, url, table)
        assert done.exit_code == 1
        assert "There is no store in this database of PostgreSQL" in done.output
    copied = CliRunner().invoke(main, ["copy", "--from", url, "--to", database.url()])
    assert copied.exit_code == 1
    assert "There is no store" in copied.output
