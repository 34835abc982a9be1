"""`fhir-gateway institution`, as an operator uses it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from databases import Databases

from fhir_gateway.cli.institution import command

HEADER = "kind,local_system,local_code,local_name,item,specimen,unit,method,note\n"
SECOND = ("demo-second", "示范市第二医院", "--level", "三级乙等", "--area", "110102")

Operator = Callable[..., Result]


@pytest.fixture
def operator(database: Databases, tmp_path: Path) -> Operator:
    """Runs a subcommand on a database and a mappings folder of the test's own."""
    (tmp_path / "mappings" / "concepts").mkdir(parents=True)

    def run(name: str, *arguments: str, stdin: str = "") -> Result:
        common = ["--database", database.url("g")]
        common += ["--mappings", f"{tmp_path}/mappings"]
        return CliRunner().invoke(command, [name, *arguments, *common], input=stdin)

    return run


def write_map(folder: Path, text: str) -> None:
    (folder / "mappings" / "concepts" / "demo-second.csv").write_text(HEADER + text, "utf-8")


def test_adding_shows_a_token_once(operator: Operator) -> None:
    first, again = operator("add", *SECOND), operator("add", *SECOND)
    assert first.exit_code == 0
    lines = first.output.splitlines()
    assert lines[0] == "demo-second 示范市第二医院: created"
    assert lines[-1].startswith("fgw_")
    assert again.output == "demo-second 示范市第二医院: unchanged\n"


def test_adding_tells_everything_that_is_wrong_and_stores_nothing(operator: Operator) -> None:
    refused = operator(
        "add", "demo-x", "X", "--level", "九级", "--area", "990000", "--zone", "Mars"
    )
    assert refused.exit_code == 1
    assert len(refused.output.splitlines()) == 3
    operator("add", *SECOND)
    assert [one["id"] for one in json.loads(operator("list", "--json").output)] == ["demo-second"]


def test_the_list_counts_what_the_code_map_knows(operator: Operator, tmp_path: Path) -> None:
    operator("add", *SECOND)
    write_map(tmp_path, "result,,1,钾,L001,,,,\nresult,,2,游离脂肪酸,,,,,none\n")
    assert json.loads(operator("list", "--json").output) == [
        {
            "id": "demo-second",
            "name": "示范市第二医院",
            "level": "三级乙等",
            "area": "110102 西城区",
            "last_received": "never",
            "mapped": 1,
            "unmapped": 1,
        }
    ]


def test_the_table_is_aligned_with_chinese_names(operator: Operator) -> None:
    operator("add", *SECOND)
    header, line = operator("list").output.splitlines()
    assert header.split() == [
        "id",
        "name",
        "level",
        "area",
        "last",
        "received",
        "mapped",
        "unmapped",
    ]
    assert line == "demo-second  示范市第二医院  三级乙等  110102 西城区  never          0       0"


def test_checking_says_what_to_do(operator: Operator, tmp_path: Path) -> None:
    operator("add", *SECOND, "--no-token")
    found = operator("check")
    assert found.exit_code == 1
    assert found.output.splitlines() == [
        "demo-second 示范市第二医院: to do",
        "  - It has no token: fhir-gateway institution token demo-second",
        f"  - It has no code map: write demo-second.csv into {tmp_path}/mappings/concepts, "
        "or begin with fhir-gateway codes worklist demo-second",
    ]


def test_checking_names_the_faults_of_the_code_map(operator: Operator, tmp_path: Path) -> None:
    operator("add", *SECOND)
    write_map(tmp_path, "result,,1,钾,Z9,,,,\n")
    assert operator("check").output.splitlines()[1:] == [
        "  - demo-second.csv, row 2, column item: Z9 is not in the catalogue"
    ]


def test_an_entry_in_order_is_ok(operator: Operator, tmp_path: Path) -> None:
    operator("add", *SECOND)
    write_map(tmp_path, "result,,1,钾,L001,,,,\n")
    found = operator("check")
    assert (found.exit_code, found.output) == (0, "demo-second 示范市第二医院: ok\n")


def test_a_token_is_made_and_ended(operator: Operator) -> None:
    operator("add", *SECOND, "--no-token")
    token = operator("token", "demo-second").output.splitlines()[-1]
    ended = operator("token", "--revoke", stdin=f"{token}\n")
    again = operator("token", "--revoke", stdin=f"{token}\n")
    assert ended.output == "A token of demo-second is ended\n"
    assert (again.exit_code, again.output) == (1, "Error: This is not an active token\n")


def test_unknown_institutions_are_named(operator: Operator) -> None:
    operator("add", *SECOND)
    assert operator("check", "nobody").output == "Error: No institution nobody is registered\n"
    assert operator("token", "nobody").output == "Error: No institution nobody is registered\n"
    assert operator("token").output == "Error: Say for which institution\n"


@pytest.mark.parametrize(
    ("database", "told"),
    [
        ("mysql://x", "database must be sqlite:///PATH or postgresql://USER:PASSWORD@HOST/NAME"),
        ("postgresql://u:secret@127.0.0.1:1/x",
         "PostgreSQL does not answer; start it, or correct the host and port of the setting"
         " database"),
    ],
)  # fmt: skip
def test_a_database_that_cannot_be_opened_is_said_to_be(database: str, told: str) -> None:
    result = CliRunner().invoke(command, ["list", "--database", database])
    assert result.output == f"Error: {told}\n"
