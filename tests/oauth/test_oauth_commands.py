"""`fhir-gateway clients`, as an operator uses it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from databases import Databases
from provider import System, new_key, public

from fhir_gateway.cli.clients import command
from fhir_gateway.cli.institution import command as institution

pytestmark = pytest.mark.drivers("sqlite")  # what rests on the store: test_oauth_token.py

Operator = Callable[..., Result]


@pytest.fixture
def operator(database: Databases, tmp_path: Path) -> Operator:
    """Runs a subcommand on a database with the institution h-1."""
    key = public(new_key("k-1"))
    (tmp_path / "keys.json").write_text(json.dumps({"keys": [key]}), "utf-8")
    common = ["--database", database.url("g")]
    made = CliRunner().invoke(
        institution, ["add", "h-1", "First", "--area", "110105", "--no-token", *common]
    )
    assert made.exit_code == 0, made.output

    def run(name: str, *arguments: str) -> Result:
        return CliRunner().invoke(command, [name, *arguments, *common])

    return run


def add(operator: Operator, folder: Path, *more: str) -> Result:
    keys = ("--jwks", str(folder / "keys.json"))
    return operator("add", "his-1", "--institution", "h-1", *keys, "--scope", "system/*.rs", *more)


def shown(operator: Operator) -> dict[str, object]:
    said: dict[str, object] = json.loads(operator("show", "his-1").output)
    return said


def test_a_client_is_added_shown_and_listed(operator: Operator, tmp_path: Path) -> None:
    digits = "ab" * 32
    done = add(operator, tmp_path, "--purpose", "TREAT", "--asserts-consent",
               "--certificate", digits)  # fmt: skip
    assert done.output == "his-1: added; it may ask for system/*.rs\n"
    said = shown(operator)
    assert said["role"] == "institution"
    assert (said["purpose"], said["asserts_consent"], said["active"]) == ("TREAT", True, True)
    assert len(str(said["certificate"])) == 43
    assert [one["id"] for one in json.loads(operator("list", "--json").output)] == ["his-1"]
    assert "his-1" in operator("list").output


def test_everything_that_is_wrong_is_said_and_nothing_stored(
    operator: Operator, tmp_path: Path
) -> None:
    keys = str(tmp_path / "keys.json")
    for arguments, says in (
        (("x", "--institution", "h-1", "--scope", "system/*.rs"), "--jwks FILE"),
        (("x", "--institution", "h-1", "--jwks", keys), "scope is required"),
        (("x", "--jwks", keys, "--scope", "system/*.rs"), "institution is required"),
        (("x", "--institution", "h-9", "--jwks", keys, "--scope", "system/*.rs"),
         "institution add"),
        (("x", "--institution", "h-1", "--jwks", "/nowhere", "--scope", "system/*.rs"), "JWK"),
        (("x", "--institution", "h-1", "--jwks-url", "https://k.example/j", "--scope",
          "system/*.rs"), "FHIR_GATEWAY_OUTBOUND_ORIGINS"),
        (("x", "--institution", "h-1", "--jwks", keys, "--scope", "user/*.rs"), "for persons"),
        (("x", "--institution", "h-1", "--jwks", keys, "--scope", "system/*.rs",
          "--certificate", "zz"), "SHA-256"),
        (("x", "--role", "evaluator", "--institution", "h-1", "--jwks", keys, "--scope",
          "system/*.rs"), "evaluating body"),
    ):  # fmt: skip
        refused = operator("add", *arguments)
        assert refused.exit_code == 1, arguments
        assert says in refused.output, refused.output
    assert json.loads(operator("list", "--json").output) == []


def test_an_id_is_given_once(operator: Operator, tmp_path: Path) -> None:
    add(operator, tmp_path)
    again = add(operator, tmp_path)
    assert again.exit_code == 1
    assert "clients change" in again.output


def test_what_is_not_given_stays(operator: Operator, tmp_path: Path) -> None:
    add(operator, tmp_path, "--purpose", "TREAT")
    assert operator("change", "his-1", "--name", "His").output == "his-1: changed\n"
    assert operator("change", "his-1", "--name", "His").output == "his-1: unchanged\n"
    said = shown(operator)
    assert (said["name"], said["purpose"], said["scopes"]) == ("His", "TREAT", ["system/*.rs"])
    for arguments in (("change", "nobody"), ("show", "nobody"), ("disable", "nobody"),
                      ("tokens", "nobody"), ("revoke", "nobody")):  # fmt: skip
        refused = operator(*arguments)
        assert refused.exit_code == 1
        assert "clients list" in refused.output


def test_tokens_are_listed_and_ended(operator: Operator, database: Databases) -> None:
    system = System("his-7", institution="h-1")

    def asked(*headers: dict[str, str]) -> list[int]:
        """What each of these finds open, and whether there is a new token."""
        one = database.running("g")
        said = [one.get("/fhir/Organization/h-1", headers=each).status_code for each in headers]
        said.append(system.ask(one).status_code)
        one.close()
        return said

    one = database.running("g")
    system.register(one)
    first, second = system.headers(one), system.headers(one)
    one.close()
    rows = json.loads(operator("tokens", "his-7", "--json").output)
    assert [row["scopes"] for row in rows] == ["system/*.rs"] * 2
    ended = operator("revoke", "his-7", "--token", rows[0]["name"])
    assert ended.output == "his-7: 1 tokens ended\n"
    assert operator("revoke", "his-7", "--token", rows[0]["name"]).exit_code == 1
    assert sorted(asked(first, second)) == [200, 200, 401]
    assert operator("disable", "his-7").output == "his-7: disabled; 2 tokens ended\n"
    assert asked(first, second) == [401, 401, 401]
    assert operator("tokens", "his-7").output.splitlines()[0].startswith("name")
    assert operator("change", "his-7", "--enable").output == "his-7: changed\n"
    assert asked(first, second) == [401, 401, 200]


def test_every_change_is_on_record(operator: Operator, database: Databases, tmp_path: Path) -> None:
    add(operator, tmp_path)
    operator("change", "his-1", "--purpose", "TREAT")
    operator("disable", "his-1")
    one = database.running("g", open_access=True)
    found = one.get("/fhir/AuditEvent?_count=100").json()["entry"]
    told = [
        {pair["type"]: pair["valueString"] for entity in event["resource"].get("entity", ())
         for pair in entity.get("detail", ())}
        for event in found
        if str(event["resource"].get("outcomeDesc", "")).startswith("client ")
    ]  # fmt: skip
    assert {tuple(sorted(one.items())) for one in told} >= {
        (("id", "his-1"), ("purpose", "TREAT")), (("active", "false"), ("id", "his-1")),
    }  # fmt: skip
    assert len(told) == 3
    one.close()
