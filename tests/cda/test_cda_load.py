"""`fhir-gateway load` takes CDA documents as the door does."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from cda_cases import SECOND, exam, lab
from click.testing import CliRunner

from fhir_gateway.app import open_gateway
from fhir_gateway.cli import load
from fhir_gateway.interactions.institutions import register
from fhir_gateway.security.actor import SYSTEM_ACCESS
from fhir_gateway.settings import Settings

REPORT = '<id root="2.16.156.10011.1.32" extension="X"/>'


@pytest.fixture
def address(tmp_path: Path) -> str:
    """A database in which the hospital is registered."""
    settings = Settings(database=f"sqlite:///{tmp_path}/store.sqlite")

    async def prepare() -> None:
        gateway = await open_gateway(settings)
        await register(gateway, SECOND)
        await gateway.store.close()

    asyncio.run(prepare())
    return settings.database


def counts(address: str) -> dict[str, int]:
    async def read() -> dict[str, int]:
        gateway = await open_gateway(Settings(database=address))
        async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
            found = dict(await reader.counts())
        await gateway.store.close()
        return found

    return asyncio.run(read())


def run(address: str, folder: Path, *more: str) -> dict[str, Any]:
    report = folder.parent / "report.json"
    options = ["--database", address, "--workers", "1", "--quiet", "--report", str(report)]
    CliRunner().invoke(load.command, [str(folder), *options, *more])
    told: dict[str, Any] = json.loads(report.read_text())
    return told


def test_documents_of_a_folder_are_loaded_once(address: str, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.xml").write_bytes(lab())
    (folder / "b.cda").write_bytes(exam(id="E1", report=REPORT))
    (folder / "c.xml").write_bytes(b"<other/>")  # none of ours, passed over
    assert run(address, folder, "--dry-run")["refused"] == []
    assert "Patient" not in counts(address)
    first = run(address, folder)
    assert (first["refused"], first["repeated"]) == ([], 0)
    assert run(address, folder)["repeated"] == 2
    assert counts(address)["DocumentReference"] == 2


def test_a_document_that_is_refused_is_told_with_its_rule(address: str, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.xml").write_bytes(exam(report=""))
    (line,) = run(address, folder)["refused"]
    assert (line["rule"], line["place"]) == ("cda-report-number", "document")
