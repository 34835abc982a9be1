"""A thousand good resources, each spoiled at random: whatever comes is judged, and is no fault."""

from __future__ import annotations

import json
import random
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from effort import examples

from fhir_gateway.cli.profiles_package import good_examples
from fhir_gateway.fhir.wire import render
from fhir_gateway.settings import load_settings

FOLDER = load_settings({}).profiles
GOOD = [json.loads(render(example)) for _, example in good_examples(FOLDER)]

ODD: list[Any] = [
    None, True, 0, -1, 1.5, "", " ", "x", "http://", "urn:uuid:x", "2026-13-45", "#", "#x",
    "Patient/", "\ud7ff", "a" * 5_000, [], {}, [[]], [None], {"x": 1}, {"resourceType": "Patient"},
    {"coding": [{}]}, {"extension": [{"url": "x"}]}, {"reference": "#"}, "(a+)+$", "%", "\u3000",
]  # fmt: skip


def places(value: Any) -> list[tuple[Any, Any]]:
    """(holder, key) of every value inside of a JSON value."""
    found: list[tuple[Any, Any]] = []
    waiting = [value]
    while waiting:
        one = waiting.pop()
        items = one.items() if isinstance(one, dict) else enumerate(one)
        for key, inner in list(items):
            found.append((one, key))
            if isinstance(inner, dict | list):
                waiting.append(inner)
    return found


def spoiled(resource: dict[str, Any], chance: random.Random) -> dict[str, Any]:
    """A copy with one to three things changed: lost, replaced, repeated, moved, renamed."""
    made = deepcopy(resource)
    for _ in range(chance.randint(1, 3)):
        holder, key = chance.choice([one for one in places(made) if one[1] != "resourceType"])
        match chance.randint(0, 5):
            case 0:
                del holder[key]
            case 1:
                holder[key] = chance.choice(ODD)
            case 2:
                holder[key] = [holder[key]] * chance.choice([1, 2, 40])
            case 3:
                other, where = chance.choice(places(resource))
                holder[key] = deepcopy(other[where])
            case 4 if isinstance(holder, dict):
                holder[chance.choice([f"_{key}", f"{key}X", "extension", "id"])] = holder[key]
            case _ if isinstance(holder[key], str):
                holder[key] = holder[key][::-1]
        if not made:
            break
    return {"resourceType": resource["resourceType"], **made}


def test_there_are_examples_to_spoil() -> None:
    assert len(GOOD) > 40
    assert Path(FOLDER).is_dir()


@pytest.mark.drivers("sqlite")
@pytest.mark.parametrize("seed", range(20))
def test_whatever_comes_is_answered(client, seed) -> None:
    chance = random.Random(seed)
    for _ in range(examples(50)):
        sent = spoiled(chance.choice(GOOD), chance)
        type = sent["resourceType"]
        judged = client.post(f"/fhir/{type}/$validate", sent)
        assert judged.status_code in (200, 400, 413), judged.text
        stored = client.post(f"/fhir/{type}", sent)
        assert stored.status_code in (201, 400, 403, 404, 405, 409, 412, 413, 422), stored.text
        if stored.status_code == 201 and judged.status_code == 200:
            severe = {one["severity"] for one in judged.json()["issue"]}
            flagged = any(
                tag.get("code") == "profile-issue"
                for tag in stored.json().get("meta", {}).get("tag", ())
            )
            assert not flagged or "error" in severe
