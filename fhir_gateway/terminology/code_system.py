"""The project's CodeSystems (FHIR R4 codesystem.html), built from the tables.

Status and `experimental` come with the catalogue: the one we ship is a draft and nobody's official
list.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from fhir_gateway.security.evaluating_body import BODY_CODE
from fhir_gateway.security.institution import (
    LEVEL_SYSTEM,
    LEVELS,
    REGISTRY_CODE,
    REGISTRY_SYSTEM,
)
from fhir_gateway.terminology.area import AREA_SYSTEM, Areas
from fhir_gateway.terminology.catalogue import Catalogue
from fhir_gateway.terminology.catalogue_resource import catalogue_system, panel_system
from fhir_gateway.terminology.reason import DATA_QUALITY_SYSTEM, REASON_SYSTEM, Flag, Reason
from fhir_gateway.terminology.resource import code_system, head, named, values
from fhir_gateway.terminology.value_table import NO_TABLES, ValueTables


class Vocabulary(NamedTuple):
    """Everything the tables of the terminology folder hold."""

    catalogue: Catalogue
    areas: Areas
    reasons: Mapping[str, Reason]
    flags: Mapping[str, Flag]
    tables: ValueTables = NO_TABLES


def code_systems(vocabulary: Vocabulary) -> list[dict[str, Any]]:
    """All CodeSystems of the project."""
    return [
        catalogue_system(vocabulary.catalogue, "lab"),
        catalogue_system(vocabulary.catalogue, "imaging"),
        panel_system(vocabulary.catalogue),
        _of_areas(vocabulary),
        _of_levels(vocabulary.catalogue),
        _of_reasons(vocabulary),
        _of_flags(vocabulary),
        _of_registry(vocabulary.catalogue),
    ]


def frame(catalogue: Catalogue, type: str, url: str, title: str, text: str) -> dict[str, Any]:
    """The metadata that our CodeSystems and ValueSets share."""
    return head(
        type=type,
        url=url,
        version=catalogue.edition,
        title=title,
        status=catalogue.status,
        experimental=catalogue.experimental,
        date=catalogue.date,
        publisher=catalogue.publisher,
        description=text,
    )


def _of_areas(vocabulary: Vocabulary) -> dict[str, Any]:
    """Hierarchy by `parent`, because an area may lie in several (a city: province and region)."""
    concepts = []
    for area in vocabulary.areas.areas.values():
        properties = [{"code": "kind", "valueCode": area.kind}]
        properties += [{"code": "parent", "valueCode": code} for code in area.parents]
        concepts.append({"code": area.code, "display": area.name, "property": properties})
    text = "Areas of institutions and marks: GB/T 2260, the nation and joint regions."
    described = frame(vocabulary.catalogue, "CodeSystem", AREA_SYSTEM, "Areas", text)
    properties_of = (
        ("kind", "code", "nation, region, province, city or district"),
        ("parent", "code", "An area that directly contains this one"),
    )
    return code_system(described, concepts, properties_of, ("kind", "parent"))


def _of_levels(catalogue: Catalogue) -> dict[str, Any]:
    text = "Grades of the accreditation of hospitals, and what stands outside it."
    described = frame(catalogue, "CodeSystem", LEVEL_SYSTEM, "Levels of institutions", text)
    properties = (("rank", "integer", "3 highest; 0 outside the order"),)
    concepts = [
        named(level.code, level.name_zh, level.name_en) | {"property": values(properties, level)}
        for level in LEVELS
    ]
    return code_system(described, concepts, properties)


def _of_reasons(vocabulary: Vocabulary) -> dict[str, Any]:
    text = (
        "Grounds on which an item may be done again although an earlier result could be "
        "recognised: the six of the national measure of 2022, and local extensions."
    )
    title = "Grounds for repeating an item"
    described = frame(vocabulary.catalogue, "CodeSystem", REASON_SYSTEM, title, text)
    properties = (
        ("scope", "code", "national or local"),
        ("counts_as_refusal", "boolean", "Whether a repeat on it counts against recognition"),
        ("text_required", "boolean", "Whether the doctor must say more"),
    )
    concepts = [
        named(reason.code, reason.name_zh, reason.name_en)
        | {"property": values(properties, reason)}
        for reason in vocabulary.reasons.values()
    ]
    return code_system(described, concepts, properties, ("scope",))


def _of_flags(vocabulary: Vocabulary) -> dict[str, Any]:
    text = "Flags that the gateway puts on a resource it stored with a doubt."
    title = "Flags of data quality"
    described = frame(vocabulary.catalogue, "CodeSystem", DATA_QUALITY_SYSTEM, title, text)
    concepts = [
        {"code": flag.code, "display": flag.name_zh, "definition": flag.definition}
        | {"designation": named(flag.code, flag.name_zh, flag.name_en)["designation"]}
        for flag in vocabulary.flags.values()
    ]
    return code_system(described, concepts)


def _of_registry(catalogue: Catalogue) -> dict[str, Any]:
    text = "Marks the Organizations that the operator registered: senders, receivers, judges."
    described = frame(catalogue, "CodeSystem", REGISTRY_SYSTEM, "Registry of the gateway", text)
    concepts = [
        named(REGISTRY_CODE, "登记机构", "Registered institution"),
        named(BODY_CODE, "评价机构", "Registered evaluating body"),
    ]
    return code_system(described, concepts)
