"""A bulk client that somebody else wrote, against a served gateway: smart-fetch (PyPI)."""

from __future__ import annotations

import asyncio
import gzip
import json
import subprocess
import sys
from pathlib import Path

import httpx
from rest_server import Served

from fhir_gateway.app import open_gateway
from fhir_gateway.interactions.institutions import issue_token, register
from fhir_gateway.security.institution import Institution
from fhir_gateway.settings import Settings


def token_of(database: Path, id: str) -> str:
    """Registers an institution as the operator does, before the server starts."""

    async def issued() -> str:
        gateway = await open_gateway(Settings(database=f"sqlite:///{database}"))
        try:
            await register(gateway, Institution(id=id, name=id, area="110105"))
            return await issue_token(gateway, id)
        finally:
            await gateway.store.close()

    return asyncio.run(issued())


def test_smart_fetch_exports_with_a_bearer_token(tmp_path: Path) -> None:
    token = token_of(tmp_path / "g.sqlite", "h1")
    served = Served(tmp_path / "g.sqlite", open_access=False, worker=True)
    try:
        headers = {"authorization": f"Bearer {token}", "content-type": "application/fhir+json"}
        for resource in (
            {"resourceType": "Patient", "id": "p1"}, {"resourceType": "Patient", "id": "p2"},
            {"resourceType": "Condition", "id": "c1", "subject": {"reference": "Patient/p1"}},
        ):  # fmt: skip
            url = f"{served.fhir}/{resource['resourceType']}/{resource['id']}"
            answer = httpx.put(url, content=json.dumps(resource), headers=headers)
            assert answer.status_code == 201
        (tmp_path / "token").write_text(token, encoding="ascii")
        run = subprocess.run(
            [Path(sys.executable).with_name("smart-fetch"), "bulk", tmp_path / "out",
             "--fhir-url", served.fhir, "--bearer-token", tmp_path / "token",
             "--type", "Patient,Condition", "--no-default-filters"],
            capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip
        assert run.returncode == 0, run.stdout + run.stderr
    finally:
        served.stop()
    found = [
        json.loads(line)["id"]
        for path in (tmp_path / "out").rglob("*.ndjson.gz")
        for line in gzip.decompress(path.read_bytes()).splitlines()
    ]
    assert sorted(found) == ["c1", "p1", "p2"]
