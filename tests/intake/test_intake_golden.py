"""Golden sequences: messages one after the other, their answers, and what stands after them.

`golden/NAME.hl7` holds the messages, `golden/NAME.facts` all that was answered and what is stored
of whatever the messages name at the end. `GOLDEN_WRITE=1` writes the facts anew.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from golden_lines import lines_of
from intake_cases import SECOND, Opened, opened

from fhir_gateway.mapping.v2 import parse, split_messages
from fhir_gateway.mapping.v2_messages import map_message
from fhir_gateway.mapping.v2_oru import Mapped

CASES = sorted((Path(__file__).parent / "golden").glob("*.hl7"))


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opened]:
    with opened(tmp_path_factory.mktemp("golden")) as one:
        yield one


def names_in(raw: bytes, folder: str) -> list[tuple[str, str]]:
    """What a message is about, by type and id."""
    said = map_message(
        parse(raw, default_charset=SECOND.charset, folder=folder), SECOND, folder=folder
    )
    if isinstance(said, Mapped):
        return [(one["resourceType"], one["id"]) for one in said.resources]
    return [("Patient", one.id) for pair in said.pairs for one in pair]


def stored(hospital: Opened, names: list[tuple[str, str]]) -> list[dict[str, Any]]:
    """The resources that are there, with their version in place of what the store adds."""
    found = []
    for type, id in dict.fromkeys(names):
        one = hospital.find(type, id)
        if one is not None:
            meta = one.pop("meta")
            one.pop("text", None)
            tags = [tag["code"] for tag in meta.get("tag", ()) if tag["code"] != "unmapped"]
            found.append({**one, "version": meta["versionId"], "tags": tags})
    return found


def facts_of(hospital: Opened, case: Path) -> str:
    folder = f"{hospital.settings.mappings}/v2"
    lines: list[str] = []
    names: list[tuple[str, str]] = []
    for raw in split_messages(case.read_bytes()):
        lines += hospital.send(raw).body.decode().split("\r")[1:-1]
        names += names_in(raw, folder)
    return "\n".join([*lines, *lines_of(stored(hospital, names))]) + "\n"


@pytest.mark.parametrize("case", CASES, ids=[path.stem for path in CASES])
def test_messages_end_as_was_agreed(hospital: Opened, case: Path) -> None:
    found, facts = facts_of(hospital, case), case.with_suffix(".facts")
    if os.environ.get("GOLDEN_WRITE"):
        facts.write_text(found, encoding="utf-8")
    assert found == facts.read_text(encoding="utf-8")
