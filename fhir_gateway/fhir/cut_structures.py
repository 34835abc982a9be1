"""Cut the package's StructureDefinitions to what snapshots and packages are made from.

Part of the cut at set-up (fhir.cut): output is `r4/structures.zip`, which `fhir.structures` reads.
Left out are narratives, mappings to other standards (a third of the size), HL7's examples, and
what has no snapshot. The same package gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

import msgspec

from fhir_gateway.fhir.structures import ARCHIVE, BASE

_DROPPED = frozenset({"text", "mapping", "contact", "extension"})
_SNAPSHOT_DROPPED = frozenset({"mapping"})
#: The earliest time that a zip can hold: no clock goes into the bytes.
_EPOCH = (1980, 1, 1, 0, 0, 0)


def write_structures(structures: Iterable[Mapping[str, Any]], folder: Path) -> Path:
    """Writes structures.zip. The file appears whole or not at all."""
    target, draft = folder / ARCHIVE, folder / f"{ARCHIVE}.part"
    members = {
        f"{one['url'].removeprefix(BASE)}.json": msgspec.json.encode(_cut(one))
        for one in structures
        if "snapshot" in one and one["url"].startswith(BASE) and not _is_example(one)
    }
    with ZipFile(draft, "w") as archive:
        for name in sorted(members):
            entry = ZipInfo(name, _EPOCH)
            entry.compress_type, entry.external_attr = ZIP_DEFLATED, 0o644 << 16
            archive.writestr(entry, members[name], compresslevel=9)
    draft.replace(target)
    return target


def _is_example(structure: Mapping[str, Any]) -> bool:
    id: str = structure["id"]
    return "example" in id.split("-")


def _cut(structure: Mapping[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in structure.items() if name not in _DROPPED}
    for view in ("snapshot", "differential"):
        if view in structure:
            kept[view] = {"element": [_element(one) for one in structure[view]["element"]]}
    return kept


def _element(element: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in element.items() if name not in _SNAPSHOT_DROPPED}
