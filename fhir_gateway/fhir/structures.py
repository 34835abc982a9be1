"""The StructureDefinitions of R4 as HL7 published them, one by one, without their mappings.

`fhir.cut_structures` writes them at set-up into an archive beside `definitions.json`; serving needs
none of it. Who generates a snapshot or builds a package reads the few that it meets
(hl7.org/fhir/R4/structuredefinition.html).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any
from zipfile import ZipFile

from fhir_gateway.errors import Internal
from fhir_gateway.fhir.definitions import FOLDER
from fhir_gateway.fhir.wire import parse

ARCHIVE = "structures.zip"
BASE = "http://hl7.org/fhir/StructureDefinition/"


@cache
def structure(url: str) -> Mapping[str, Any] | None:
    """R4's StructureDefinition of this url (a version behind | is ignored); None for any other.

    It is shared: copy what you change. Raises Internal before set-up.
    """
    name = url.partition("|")[0].removeprefix(BASE)
    member = _members().get(f"{name}.json")
    if "/" in name or member is None:
        return None
    return parse(member)


def structure_urls() -> list[str]:
    """The urls of all of them, sorted."""
    return sorted(BASE + name.removesuffix(".json") for name in _members().names)


class _Archive:
    """The archive, read member by member."""

    def __init__(self, path: Path) -> None:
        self._zip = ZipFile(path)
        self.names = frozenset(self._zip.namelist())

    def get(self, name: str) -> bytes | None:
        """The bytes of a member; None when there is none."""
        return self._zip.read(name) if name in self.names else None


@cache
def _members(folder: Path = FOLDER) -> _Archive:
    path = folder / ARCHIVE
    if not path.is_file():
        raise Internal(f"{ARCHIVE} is missing: run `make setup` first")
    return _Archive(path)
