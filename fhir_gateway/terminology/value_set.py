"""The project's ValueSets (FHIR R4 valueset.html): one for each CodeSystem, all of its codes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fhir_gateway.terminology.area import load_areas
from fhir_gateway.terminology.catalogue import load_catalogue
from fhir_gateway.terminology.code_system import Vocabulary, code_systems
from fhir_gateway.terminology.reason import load_flags, load_reasons
from fhir_gateway.terminology.resource import head
from fhir_gateway.terminology.value_table import load_value_tables


def load_vocabulary(folder: Path | str) -> Vocabulary:
    """All tables of the terminology folder. Raises Unprocessable with file, row and column."""
    return Vocabulary(
        load_catalogue(folder),
        load_areas(folder),
        load_reasons(folder),
        load_flags(folder),
        load_value_tables(folder),
    )


def terminology_resources(vocabulary: Vocabulary) -> list[dict[str, Any]]:
    """What the gateway serves of its vocabulary: every CodeSystem, then every ValueSet."""
    systems = code_systems(vocabulary)
    return systems + [value_set(system) for system in systems]


def value_set(system: dict[str, Any]) -> dict[str, Any]:
    """The ValueSet of all codes of a CodeSystem; concepts that only group others are left out."""
    copied = ("status", "experimental", "date", "publisher", "description", "copyright")
    described = {name: system[name] for name in copied if name in system}
    url = system["valueSet"]
    resource = head(
        type="ValueSet",
        url=url,
        id=system["id"],
        version=system["version"],
        title=f"All codes: {system['title']}",
        **described,
    )
    include = {"system": system["url"], "version": system["version"]}
    compose: dict[str, Any] = {"include": [include]}
    if "hierarchyMeaning" in system:
        grouping = {"property": "notSelectable", "op": "=", "value": "true"}
        compose["exclude"] = [include | {"filter": [grouping]}]
    return resource | {"compose": compose}
