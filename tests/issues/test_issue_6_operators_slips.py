"""Slips of an operator at the audit log and its ledgers.

An empty answer to a wrong question must not be taken for one that says that nothing happened, nor a
check that did not take place for one that found something.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from databases import Databases, postgres
from running import Running

from fhir_gateway.cli import main

NAME = "slips"

#: What is refused here is refused before a store is asked; the last test is on both.
pytestmark = pytest.mark.drivers("sqlite")


@pytest.fixture(scope="module")
def served(shared_database: Databases) -> Iterator[Running]:
    one = Running(shared_database.url(NAME), open_access=True)
    one.institution("demo-a")
    one.put("/fhir/Patient/p1", {"resourceType": "Patient", "id": "p1"})
    yield one
    one.close()


def said(database: Databases, *words: str) -> Any:
    return CliRunner().invoke(main, [*words, "--database", database.url(NAME)])


@pytest.mark.parametrize(
    ("words", "sentence"),
    [(["disclosures", "export", "--from", "2026-11-02", "--to", "2026-11-01"],
      "--to lies before --from"),
     (["disclosures", "export", "--from", "soon"], "--from: soon is no day"),
     (["answers", "list", "--since", "2026-11-02", "--until", "2026-11-01"],
      "--until lies before --since"),
     (["incident", "packet", "--since", "2026-11-02", "--until", "2026-11-01", "--output", "PATH"],
      "--until lies before --since"),
     (["incident", "packet", "--since", "2026-11-01", "--resource", "p1", "--output", "PATH"],
      "write it as Patient/id"),
     (["retention", "apply", "--plan", "PLAN", "--by", "  "], "who answers for it")],
)  # fmt: skip
def test_a_question_that_can_find_nothing_is_refused(
    served: Running, shared_database: Databases, tmp_path: Path, words: list[str], sentence: str
) -> None:
    plan = said(shared_database, "retention", "plan").output.split("plan ")[-1].strip()
    put = {"PATH": str(tmp_path / "packet"), "PLAN": plan}
    done = said(shared_database, *(put.get(word, word) for word in words))
    assert done.exit_code == 1
    assert sentence in done.output
    assert not (tmp_path / "packet").exists()


def test_an_institution_that_nobody_registered_is_told(
    served: Running, shared_database: Databases, tmp_path: Path
) -> None:
    for id, warned in (("demo-a", False), ("demo-aa", True)):
        out = str(tmp_path / id)
        for words in (
            ["disclosures", "export", "--institution", id, "--output", f"{out}.csv"],
            ["incident", "packet", "--since", "2020-01-01", "--institution", id, "--output", out],
        ):
            done = said(shared_database, *words)
            assert done.exit_code == 0, done.output
            assert (f"no institution {id} is registered" in done.stderr) == warned


def test_a_check_that_did_not_take_place_is_no_finding(
    served: Running, database: Databases
) -> None:
    """Exit code 1 would call out the guard for a slip of the keyboard."""
    for words in (["--key", "nonsense"], ["--database", "sqlite:////nowhere/at/all"]):
        done = CliRunner().invoke(
            main, ["audit", "verify", "--jobs", "1", "--database", database.url(), *words]
        )
        assert (done.exit_code, done.output[:5]) == (2, "Error"), done.output


@pytest.mark.drivers("sqlite", "postgresql")
def test_a_database_without_a_store_is_told_as_that(database: Databases) -> None:
    empty = database.url("none")
    if database.driver == "postgresql":
        empty = postgres().store(postgres().create())
    done = CliRunner().invoke(main, ["audit", "verify", "--jobs", "1", "--database", empty])
    assert done.exit_code == 2, done.output
    assert "There is no store" in done.output
