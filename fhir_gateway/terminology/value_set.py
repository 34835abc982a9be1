"""The project's ValueSets (FHIR R4 valueset.html): one for each CodeSystem, all of its codes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fhir_gateway.terminology.area import load_areas
from fhir_gateway.terminology.catalogue import Catalogue, load_catalogue
from fhir_gateway.terminology.code_system import Vocabulary, code_systems, frame
from fhir_gateway.terminology.reason import load_flags, load_reasons


def load_vocabulary(folder: Path | str) -> Vocabulary:
    """All tables of the terminology folder. Raises Unprocessable with file, row and column."""
    return Vocabulary(
        load_catalogue(folder), load_areas(folder), load_reasons(folder), load_flags(folder)
    )


def terminology_resources(vocabulary: Vocabulary) -> list[dict[str, Any]]:
    """What the gateway serves of its vocabulary: every CodeSystem, then every ValueSet."""
    systems = code_systems(vocabulary)
    return systems + [_value_set(vocabulary.catalogue, system) for system in systems]


def _value_set(catalogue: Catalogue, system: dict[str, Any]) -> dict[str, Any]:
    title, text = f"All codes: {system['title']}", system["description"]
    resource = frame(catalogue, "ValueSet", system["valueSet"], title, text)
    if "copyright" in system:
        resource["copyright"] = system["copyright"]
    include = {"system": system["url"], "version": system["version"]}
    return resource | {"compose": {"include": [include]}}
