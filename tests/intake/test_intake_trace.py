"""`fhir-gateway messages` and `trace`: an operator follows a message and a resource, on record."""

from __future__ import annotations

import asyncio
import json
from base64 import b64decode
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest
from click.testing import CliRunner, Result
from intake_cases import opened, report

from fhir_gateway.cli import main
from fhir_gateway.cli.institution_common import gateway_of
from fhir_gateway.security.actor import SYSTEM_ACCESS
from fhir_gateway.settings import Settings, load_settings

K = "OBX|1|NM|K^钾||5.6|mmol/L|3.5--5.3||||F"
MESSAGE = report("M1", lines=(K,))


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("trace")
    with opened(folder) as one:
        one.send(MESSAGE)
        one.send(report("M2", lines=(K,), person="ZID|1"))
    return f"sqlite:///{folder}/gateway.sqlite"


def run(database: str, *arguments: str) -> Result:
    return CliRunner().invoke(main, [*arguments, "--database", database])


def listed(database: str, *more: str) -> list[dict[str, Any]]:
    result = run(database, "messages", "list", "--json", *more)
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_messages_are_listed_and_one_is_shown(database: str) -> None:
    assert [row["name"] for row in listed(database)] == ["M2", "M1"]
    (refused,) = listed(database, "--outcome", "refused", "--institution", "second")
    assert refused["name"] == "M2"
    (row,) = listed(database, "--name", "M1")
    shown = run(database, "messages", "show", row["id"]).stdout
    assert "  OBX[1]-5 Observation Value: 5.6\n" in shown
    assert "  create Observation/" in shown
    assert "MSA|AA|M1" in shown
    assert "v2-sequence" in run(database, "messages", "show", refused["id"]).stdout


def test_the_bytes_of_a_message_come_out_as_they_came_in(database: str, tmp_path: Path) -> None:
    (row,) = listed(database, "--name", "M1")
    target = tmp_path / "m1.hl7"
    assert run(database, "messages", "bytes", row["id"], str(target)).exit_code == 0
    assert target.read_bytes() == MESSAGE


def test_a_stored_value_is_traced_to_its_field(database: str) -> None:
    (row,) = listed(database, "--name", "M1")
    bundle = json.loads(run(database, "messages", "show", row["id"], "--bundle").stdout)
    id = next(one["request"]["url"] for one in bundle["entry"]
              if one["request"]["url"].startswith("Observation/"))  # fmt: skip
    told = run(database, "trace", id, "--element", "Observation.value").stdout
    assert f"message {row['id']}: hl7v2 ORU^R01 M1 of second" in told
    assert "OBX[1]-5 5.6" in told
    read = json.loads(run(database, "trace", id, "--json").stdout)
    assert read["hash"] == row["hash"]
    assert {one["element"] for one in read["origins"]} >= {"Observation.status"}


def test_what_is_not_there_is_said(database: str) -> None:
    assert "There is no message none" in run(database, "messages", "show", "none").stderr
    assert "There is no Observation/none" in run(database, "trace", "Observation/none").stderr
    assert "Name a resource as TYPE/ID" in run(database, "trace", "Observation").stderr


def test_a_changed_table_tells_what_it_would_change(database: str, tmp_path: Path) -> None:
    folder = tmp_path / "new-mappings"
    copytree(Settings().mappings, folder)
    table = folder / "v2" / "sex.csv"
    text = table.read_text(encoding="utf-8")
    table.write_text(text.replace("\nM,male,", "\nM,other,"), encoding="utf-8")
    arguments = ["messages", "remap", "--institution", "second", "--with", str(folder)]
    told = json.loads(run(database, *arguments, "--json").stdout)
    assert (told["messages"], told["changed"]) == (2, 1)
    assert [one["change"] for one in told["changes"]] == ["Patient.gender: male -> other"]
    assert "Patient.gender: male -> other" in run(database, *arguments).stdout
    same = run(database, *arguments[:-1], Settings().mappings).stdout
    assert "2 messages, 0 would become something else" in same


def test_each_look_is_on_record(database: str) -> None:
    (row,) = listed(database, "--name", "M1")

    async def looks() -> int:
        async with (
            gateway_of(load_settings(database=database)) as gateway,
            gateway.store.snapshot(SYSTEM_ACCESS) as reader,
        ):
            page = await reader.scan("AuditEvent", until_t=reader.t, limit=1_000)
        entities = [each for one in page for each in json.loads(one.whole()).get("entity", [])]
        return sum(b"$message-trace" in b64decode(one.get("query", "")) for one in entities)

    before = asyncio.run(looks())
    run(database, "messages", "show", row["id"])
    assert asyncio.run(looks()) == before + 1
