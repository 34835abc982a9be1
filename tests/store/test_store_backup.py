"""Backup and restore as docs/operate.md tells them, on both stores, under load."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from databases import Databases, postgres
from postgres_server import programs
from running import Running

from fhir_gateway.cli.backup import command

Start = Callable[..., Running]


def person(number: int) -> dict[str, object]:
    return {"resourceType": "Patient", "id": f"p{number}", "name": [{"text": f"样本{number}"}]}


def count(gateway: Running) -> int:
    total: int = gateway.get("/fhir/Patient?_summary=count&_total=accurate").json()["total"]
    return total


@pytest.mark.drivers("sqlite")
def test_a_backup_of_a_serving_gateway_is_a_store(
    start: Start, database: Databases, tmp_path: Path
) -> None:
    gateway = start(open_access=True)
    for number in range(5):
        gateway.put(f"/fhir/Patient/p{number}", person(number))
    copy = tmp_path / "copy.sqlite"
    done = CliRunner().invoke(command, [str(copy), "--database", database.url("gateway")])
    assert (done.exit_code, copy.stat().st_mode & 0o777) == (0, 0o600)
    gateway.put("/fhir/Patient/p9", person(9))
    restored = Running(f"sqlite:///{copy}", open_access=True)
    assert (count(restored), restored.get("/fhir/Patient/p9").status_code) == (5, 404)
    assert restored.put("/fhir/Patient/p9", person(9)).status_code == 201
    restored.close()


@pytest.mark.drivers("sqlite")
def test_a_backup_overwrites_nothing(database: Databases, start: Start, tmp_path: Path) -> None:
    start(open_access=True)
    there = tmp_path / "there.sqlite"
    there.write_text("kept")
    done = CliRunner().invoke(command, [str(there), "--database", database.url("gateway")])
    assert (done.exit_code, there.read_text()) == (1, "kept")


def test_a_store_on_a_server_is_not_a_file(tmp_path: Path) -> None:
    target = tmp_path / "copy.sqlite"
    done = CliRunner().invoke(command, [str(target), "--database", "postgresql://gw@host/gw"])
    assert (done.exit_code, "pg_dump" in done.stderr, target.exists()) == (1, True, False)


@pytest.mark.drivers("postgresql")
def test_a_dump_of_a_serving_gateway_is_a_store(
    start: Start, database: Databases, tmp_path: Path
) -> None:
    gateway = start(open_access=True)
    for number in range(5):
        gateway.put(f"/fhir/Patient/p{number}", person(number))
    folder = programs()
    assert folder is not None
    dump, server = tmp_path / "city.dump", postgres()
    name = database.url("gateway").partition("?")[0].rpartition("/")[2]
    run([folder / "pg_dump", "--format=custom", "--file", dump, server.local(name)])
    gateway.put("/fhir/Patient/p9", person(9))
    empty = server.create()
    try:
        run([folder / "pg_restore", "--exit-on-error", "--dbname", server.local(empty), dump])
        restored = Running(server.store(empty), open_access=True)
        assert (count(restored), restored.get("/fhir/Patient/p9").status_code) == (5, 404)
        assert restored.put("/fhir/Patient/p9", person(9)).status_code == 201
        restored.close()
    finally:
        server.drop(empty)


def run(command: list[str | Path]) -> None:
    assert shutil.which(str(command[0]))
    done = subprocess.run(command, capture_output=True, env={**os.environ}, check=False)
    assert done.returncode == 0, done.stderr.decode()
