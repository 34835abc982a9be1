"""A served gateway follows a map by itself: its worker sees the commit, nobody has to ask."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from city import POTASSIUM
from click.testing import CliRunner
from remap_cases import LAB_SYSTEM, OWN, concept_map
from rest_server import Served

from fhir_gateway.cli import main

PATIENCE = 60.0


@pytest.fixture
def hospital(tmp_path: Path) -> Iterator[httpx.Client]:
    """An institution's client of a server with a worker."""
    database = f"sqlite:///{tmp_path / 'g.sqlite'}"
    words = ["sender", "检验医院", "--area", "110105", "--database", database, "--json"]
    added = CliRunner().invoke(main, ["institution", "add", *words])
    token = json.loads(added.output.splitlines()[-1])["token"]
    served = Served(tmp_path / "g.sqlite", worker=True, open_access=False)
    headers = {"authorization": f"Bearer {token}", "content-type": "application/fhir+json"}
    with httpx.Client(base_url=served.fhir, headers=headers, timeout=30) as client:
        yield client
    served.stop()


def put(hospital: httpx.Client, resource: dict[str, Any]) -> None:
    answer = hospital.put(f"{resource['resourceType']}/{resource['id']}",
                          content=json.dumps(resource))  # fmt: skip
    assert answer.is_success, answer.text


def test_a_map_is_followed_by_the_worker_of_the_server(hospital: httpx.Client) -> None:
    put(hospital, {"resourceType": "Patient", "id": "p"})
    put(hospital, {
        "resourceType": "Observation", "id": "o", "status": "final",
        "subject": {"reference": "Patient/p"},
        "code": {"coding": [{"system": OWN, "code": "K"}]},
        "effectiveDateTime": "2026-11-20T08:00:00+08:00",
    })  # fmt: skip
    etag = hospital.get("Observation/o").headers["etag"]
    asked = {"code": f"{LAB_SYSTEM}|{POTASSIUM}", "patient": "p", "_summary": "count"}
    for codes, total in (({"K": POTASSIUM}, 1), ({"K": ""}, 0), ({"K": POTASSIUM}, 1)):
        put(hospital, concept_map(codes))
        until = time.monotonic() + PATIENCE
        while hospital.get("Observation", params=asked).json()["total"] != total:
            assert time.monotonic() < until, "the worker did not follow the map"
            time.sleep(0.05)
    assert hospital.get("Observation/o").headers["etag"] == etag
