"""The grounds on which an examination may be repeated: profiles/CodeSystem/repeat-grounds.json.

Six are national (国卫医发〔2022〕6号, Art. 18); the others are local, and a province replaces them
by editing the file. Which of them count as a refusal is data too, for the indicators.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from fhir_gateway.fhir.wire import parse
from fhir_gateway.settings import CANONICAL

GROUND_SYSTEM = f"{CANONICAL}/CodeSystem/repeat-grounds"


class Ground(NamedTuple):
    """One concept. `text_required`: it says nothing without a text."""

    code: str
    display: str
    national: bool
    counts_as_refusal: bool
    text_required: bool

    def coding(self) -> dict[str, str]:
        """The ground as a Coding."""
        return {"code": self.code, "system": GROUND_SYSTEM, "display": self.display}


@lru_cache(maxsize=8)
def load_grounds(profiles: str) -> Mapping[str, Ground]:
    """All grounds by code, in the order of the file."""
    path = Path(profiles) / "CodeSystem" / "repeat-grounds.json"
    code_system = parse(path.read_bytes())
    found: dict[str, Ground] = {}
    for concept in code_system["concept"]:
        flags = {part["code"]: part["valueBoolean"] for part in concept["property"]}
        found[concept["code"]] = Ground(
            concept["code"],
            concept["display"],
            flags["national"],
            flags["counts-as-refusal"],
            flags["text-required"],
        )
    return MappingProxyType(found)
