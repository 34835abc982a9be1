"""fhir-kit-client from the npm registry, unchanged, against a served gateway on each store."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from databases import Databases
from rest_server import Served

FOLDER = Path(__file__).parents[1] / "node"


@pytest.fixture
def node() -> str:
    """The node program with the client installed; without it the test is skipped, not in CI."""
    program = shutil.which("node")
    if program and (FOLDER / "node_modules" / "fhir-kit-client").is_dir():
        return program
    missing = "node or fhir-kit-client is missing; `make services` installs the client"
    if os.environ.get("CI") == "true":
        pytest.fail(missing, pytrace=False)
    pytest.skip(missing)


def test_an_ehr_with_fhir_kit_client(node: str, database: Databases) -> None:
    served = Served(database.url(), folder=database.folder)
    try:
        done = subprocess.run(
            [node, FOLDER / "client.mjs", served.fhir], capture_output=True, text=True, timeout=60,
            check=False, cwd=FOLDER,
        )  # fmt: skip
    finally:
        served.stop()
    assert done.returncode == 0, done.stderr
    said: dict[str, Any] = json.loads(done.stdout)
    assert said == {
        "fhirVersion": "4.0.1",
        "created": "Patient",
        "conditionalCreate": True,
        "updated": "2",
        "patched": ["male", "3"],
        "transaction": ["201"] * 7,
        "batch": ["200", "404"],
        "days": ["07", "06", "05", "04", "03", "02", "01"],
        "posted": 7,
        "history": ["3", "2", "1"],
        "vread": None,
        "everything": 8,
        "compartment": 2,
        "stale": [412, "OperationOutcome"],
        "misspelt": [400, "patinet"],
        "deleted": 410,
    }
