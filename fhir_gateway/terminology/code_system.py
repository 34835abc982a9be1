"""The project's CodeSystems (FHIR R4 codesystem.html), built from the tables.

Always the same bytes for the same tables, so that seeding them again changes nothing. Status and
`experimental` come with the catalogue: the one we ship is a draft and nobody's official list.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from fhir_gateway.security.institution import (
    LEVEL_SYSTEM,
    LEVELS,
    REGISTRY_CODE,
    REGISTRY_SYSTEM,
)
from fhir_gateway.terminology.area import AREA_SYSTEM, Areas
from fhir_gateway.terminology.catalogue import SYSTEM_OF, Catalogue, Item, Kind
from fhir_gateway.terminology.reason import DATA_QUALITY_SYSTEM, REASON_SYSTEM, Flag, Reason

Concept = dict[str, Any]


class Vocabulary(NamedTuple):
    """Everything the tables of the terminology folder hold."""

    catalogue: Catalogue
    areas: Areas
    reasons: Mapping[str, Reason]
    flags: Mapping[str, Flag]


#: Fields of an Item that are served as properties: (field, FHIR type, description).
_PROPERTIES: Mapping[Kind, tuple[tuple[str, str, str], ...]] = {
    "lab": (
        ("abbreviation", "string", "Usual abbreviation"),
        ("loinc", "code", "LOINC code, see loinc_relation"),
        ("loinc_relation", "code", "exact, broader or none"),
        ("specimen", "string", "What it is measured in"),
        ("scale", "code", "quantitative, ordinal or qualitative"),
        ("ucum_unit", "string", "Unit (UCUM) in which results are compared"),
        ("item_class", "string", "Discipline"),
        ("validity_days", "integer", "Suggested recognition window in days"),
        ("validity_source", "string", "Where the window comes from"),
    ),
    "imaging": (
        ("loinc", "code", "LOINC code, see loinc_relation"),
        ("loinc_relation", "code", "exact, broader or none"),
        ("modality", "code", "Kind of examination"),
        ("body_part_zh", "string", "Region"),
        ("body_part_dicom", "code", "Region, term of DICOM PS3.16 Annex L"),
        ("laterality", "string", "unpaired, B, R/L or R/L/B"),
        ("contrast", "code", "none, with or without-with"),
        ("item_class", "string", "Discipline"),
        ("validity_days", "integer", "Suggested recognition window in days"),
        ("validity_source", "string", "Where the window comes from"),
        ("default_recognition", "code", "remind or view-only"),
    ),
}
_TITLES: Mapping[Kind, str] = {
    "lab": "Reference catalogue of laboratory items",
    "imaging": "Reference catalogue of imaging items",
}
_VALUE_KEY = {
    "string": "valueString", "code": "valueCode", "integer": "valueInteger",
    "boolean": "valueBoolean",
}  # fmt: skip

Properties = Sequence[tuple[str, str, str]]


def code_systems(vocabulary: Vocabulary) -> list[dict[str, Any]]:
    """All CodeSystems of the project."""
    return [
        _of_items(vocabulary.catalogue, "lab"),
        _of_items(vocabulary.catalogue, "imaging"),
        _of_areas(vocabulary),
        _of_levels(vocabulary.catalogue),
        _of_reasons(vocabulary),
        _of_flags(vocabulary),
        _of_registry(vocabulary.catalogue),
    ]


def frame(catalogue: Catalogue, type: str, url: str, title: str, text: str) -> dict[str, Any]:
    """The metadata that our CodeSystems and ValueSets share."""
    id = url.rpartition("/")[2]
    return {
        "resourceType": type,
        "id": id,
        "url": url,
        "version": catalogue.edition,
        "name": "".join(word.capitalize() for word in id.split("-")),
        "title": title,
        "status": catalogue.status,
        "experimental": catalogue.experimental,
        "date": catalogue.date,
        "publisher": catalogue.publisher,
        "description": text,
    }


def _code_system(
    head: dict[str, Any],
    concepts: list[Concept],
    properties: Properties = (),
    filters: Iterable[str] = (),
) -> dict[str, Any]:
    resource = head | {
        "caseSensitive": True,
        "valueSet": head["url"].replace("/CodeSystem/", "/ValueSet/"),
        "content": "complete",
        "count": len(concepts),
    }
    if filter_codes := list(filters):
        resource["filter"] = [
            {"code": code, "operator": ["="], "value": f"A value of {code}"}
            for code in filter_codes
        ]
    if properties:
        resource["property"] = [
            {"code": code, "description": text, "type": type} for code, type, text in properties
        ]
    return resource | {"concept": concepts}


def _named(code: str, zh: str, en: str) -> Concept:
    """A concept shown in Chinese, with both languages as designations."""
    concept: Concept = {"code": code, "display": zh or en}
    named = (("zh-CN", zh), ("en", en))
    concept["designation"] = [{"language": tag, "value": name} for tag, name in named if name]
    return concept


def _values(properties: Properties, source: Any) -> list[dict[str, Any]]:
    return [
        {"code": name, _VALUE_KEY[type]: value}
        for name, type, _ in properties
        if (value := getattr(source, name)) != ""
    ]


def _of_items(catalogue: Catalogue, kind: Kind) -> dict[str, Any]:
    properties = _PROPERTIES[kind]

    def concept(item: Item) -> Concept:
        named = _named(item.code, item.name_zh, item.name_en)
        return named | {"property": _values(properties, item)}

    head = frame(catalogue, "CodeSystem", SYSTEM_OF[kind], _TITLES[kind], catalogue.statement) | {
        "copyright": "\n\n".join(catalogue.notices)
    }
    filters = [name for name, type, _ in properties if type == "code" or name == "item_class"]
    return _code_system(head, [concept(item) for item in catalogue.of(kind)], properties, filters)


def _of_areas(vocabulary: Vocabulary) -> dict[str, Any]:
    """Hierarchy by `parent`, because an area may lie in several (a city: province and region)."""
    concepts = []
    for area in vocabulary.areas.areas.values():
        properties = [{"code": "kind", "valueCode": area.kind}]
        properties += [{"code": "parent", "valueCode": code} for code in area.parents]
        concepts.append({"code": area.code, "display": area.name, "property": properties})
    text = "Areas of institutions and marks: GB/T 2260, the nation and joint regions."
    head = frame(vocabulary.catalogue, "CodeSystem", AREA_SYSTEM, "Areas", text)
    properties_of = (
        ("kind", "code", "nation, region, province, city or district"),
        ("parent", "code", "An area that directly contains this one"),
    )
    return _code_system(head, concepts, properties_of, ("kind", "parent"))


def _of_levels(catalogue: Catalogue) -> dict[str, Any]:
    text = "Grades of the accreditation of hospitals, and what stands outside it."
    head = frame(catalogue, "CodeSystem", LEVEL_SYSTEM, "Levels of institutions", text)
    properties = (("rank", "integer", "3 highest; 0 outside the order"),)
    concepts = [
        _named(level.code, level.name_zh, level.name_en) | {"property": _values(properties, level)}
        for level in LEVELS
    ]
    return _code_system(head, concepts, properties)


def _of_reasons(vocabulary: Vocabulary) -> dict[str, Any]:
    text = (
        "Grounds on which an item may be done again although an earlier result could be "
        "recognised: the six of the national measure of 2022, and local extensions."
    )
    title = "Grounds for repeating an item"
    head = frame(vocabulary.catalogue, "CodeSystem", REASON_SYSTEM, title, text)
    properties = (
        ("scope", "code", "national or local"),
        ("counts_as_refusal", "boolean", "Whether a repeat on it counts against recognition"),
        ("text_required", "boolean", "Whether the doctor must say more"),
    )
    concepts = [
        _named(reason.code, reason.name_zh, reason.name_en)
        | {"property": _values(properties, reason)}
        for reason in vocabulary.reasons.values()
    ]
    return _code_system(head, concepts, properties, ("scope",))


def _of_flags(vocabulary: Vocabulary) -> dict[str, Any]:
    text = "Flags that the gateway puts on a resource it stored with a doubt."
    title = "Flags of data quality"
    head = frame(vocabulary.catalogue, "CodeSystem", DATA_QUALITY_SYSTEM, title, text)
    concepts = [
        {"code": flag.code, "display": flag.name_zh, "definition": flag.definition}
        | {"designation": _named(flag.code, flag.name_zh, flag.name_en)["designation"]}
        for flag in vocabulary.flags.values()
    ]
    return _code_system(head, concepts)


def _of_registry(catalogue: Catalogue) -> dict[str, Any]:
    text = "Marks the Organizations that the operator registered as senders and receivers."
    head = frame(catalogue, "CodeSystem", REGISTRY_SYSTEM, "Registry of the gateway", text)
    return _code_system(head, [_named(REGISTRY_CODE, "登记机构", "Registered institution")])
