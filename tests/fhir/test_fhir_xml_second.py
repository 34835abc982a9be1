"""FHIR.js from the npm registry, unchanged, as a second opinion: it reads our XML and we read its.

It drops white space of narratives, and JavaScript the spelling of numbers; both are left out.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from effort import TORTURE
from xml_cases import NODE, official, same

from fhir_gateway.fhir.wire import parse, render
from fhir_gateway.fhir.xml_read import read_xml
from fhir_gateway.fhir.xml_write import write_xml

#: Where FHIR.js itself is wrong: an event that is no array, a line end that is not escaped.
THEIRS = {"ActivityDefinition-serum-zika-dengue-virus-igm.json", "Bundle-v2-valuesets.json"}


def _compared(value: Any) -> Any:
    if isinstance(value, dict):
        made = {name: _compared(child) for name, child in value.items()}
        return {**made, "div": ""} if "div" in made else made
    if isinstance(value, list):
        return [_compared(one) for one in value]
    return float(value[1]) if isinstance(value, tuple) else value


def _asked(resources: list[dict[str, Any]]) -> list[dict[str, str]]:
    lines = [
        json.dumps({"json": render(one).decode(), "xml": write_xml(one).decode()})
        for one in resources
    ]
    done = subprocess.run(
        ["node", NODE / "xml.mjs"], input="\n".join(lines), capture_output=True, text=True,
        timeout=600, check=True, cwd=NODE,
    )  # fmt: skip
    return [json.loads(line) for line in done.stdout.splitlines()]


def _share() -> list[Path]:
    files = [file for file in official() if file.name not in THEIRS]
    small = [file for file in files if file.stat().st_size < 200_000]
    return small if TORTURE else small[25::60]


@pytest.mark.skipif(not shutil.which("node"), reason="node is missing; `make services`")
def test_fhir_js_and_the_gateway_read_each_others_xml() -> None:
    files = _share()
    resources = [parse(file.read_bytes()) for file in files]
    answers = _asked(resources)
    assert len(answers) == len(files) > 50
    differ = [
        (file.name, place)
        for file, resource, answer in zip(files, resources, answers, strict=True)
        for place, read in enumerate((read_xml(answer["xml"].encode()), json.loads(answer["json"])))
        if _compared(same(read)) != _compared(same(resource))
    ]
    assert differ == []
