"""Decisions of an earlier release, in its own store, come out again to the byte."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import zstandard
from click.testing import CliRunner
from databases import Databases

from fhir_gateway.cli import main

PACKED = Path(__file__).with_name("recorded") / "decisions-1.sqlite.zst"


@pytest.fixture(scope="module")
def recorded(shared_database: Databases, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of the store, brought up to date."""
    path = tmp_path_factory.mktemp("recorded") / "recorded.sqlite"
    with PACKED.open("rb") as packed, path.open("wb") as store:
        zstandard.ZstdDecompressor().copy_stream(packed, store)
    address = f"sqlite:///{path}"
    if shared_database.driver == "sqlite":
        return address
    assert run("replay", "--all", "--quiet", "--database", address)[0] == 0  # migrates it
    target = shared_database.url("recorded")
    shared_database.execute("DROP SCHEMA public CASCADE", "recorded")
    shared_database.execute("CREATE SCHEMA public", "recorded")
    code, output = run("copy", "--from", address, "--to", target)
    assert code == 0, output
    return target


def run(*words: str) -> tuple[int, str]:
    result = CliRunner().invoke(main, list(words))
    return result.exit_code, result.output


def test_decisions_by_earlier_versions_of_criteria_replay_to_the_byte(recorded: str) -> None:
    code, output = run("replay", "--all", "--json", "--quiet", "--database", recorded)
    told = json.loads(output)
    assert (code, told["differ"], told["erased"], told["differences"]) == (0, 0, 0, [])
    counts = {name.rpartition("|")[2]: row["decisions"] for name, row in told["rule_sets"].items()}
    assert counts == {"": 1, "0.9.0": 10, "1.0.0": 10}
