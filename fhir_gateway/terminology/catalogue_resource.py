"""Items as a CodeSystem with one hierarchy, and back (FHIR R4 codesystem.html).

The hierarchy is grouped-by and nothing else: disciplines of the laboratory and kinds of examination
are abstract concepts that nobody can order or report, their items lie directly below. Panels,
regions, side and contrast are properties. The catalogue and every imported list look the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, replace
from types import MappingProxyType
from typing import Any

from fhir_gateway.settings import CANONICAL
from fhir_gateway.terminology.catalogue import (
    GROUP,
    SYSTEM_OF,
    Catalogue,
    Item,
    Kind,
    group_code,
)
from fhir_gateway.terminology.resource import (
    Concept,
    Properties,
    code_system,
    head,
    named,
    values,
)

PANEL_SYSTEM = f"{CANONICAL}/CodeSystem/catalogue-panel"
#: Period of an edition: a standard extension, since a CodeSystem of R4 has no such element.
EFFECTIVE = "http://hl7.org/fhir/StructureDefinition/resource-effectivePeriod"
#: Marks a CodeSystem as a list of items of this kind, lab or imaging.
LIST_KIND = f"{CANONICAL}/StructureDefinition/list-kind"

#: Fields of an Item that are served as properties: (field, FHIR type, description).
_PROPERTIES: Mapping[Kind, Properties] = MappingProxyType({
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
})  # fmt: skip
#: Properties that are made of more than the row.
_MADE: Mapping[Kind, Properties] = MappingProxyType({
    "lab": (("panel", "code", "A panel of catalogue-panel that the item usually belongs to"),),
    "imaging": (("covers", "string", "A region that the examination shows, its own among them"),),
})  # fmt: skip
_STANDARD_PROPERTIES: Properties = (
    ("notSelectable", "boolean", "The concept groups items and is none itself"),
    ("inactive", "boolean", "The item is no longer on the list; its code keeps its meaning"),
    ("status", "code", "retired when it is no longer on the list"),
    ("deprecationDate", "dateTime", "The day from which it is no longer on the list"),
)
_TITLES: Mapping[Kind, str] = MappingProxyType({
    "lab": "Reference catalogue of laboratory items",
    "imaging": "Reference catalogue of imaging items",
})  # fmt: skip
_FILTERED = frozenset({"item_class", "specimen", "body_part_zh", "laterality", "panel", "covers"})
_FIELDS = frozenset(field.name for field in fields(Item))


def title_of(kind: Kind) -> str:
    """The title of the catalogue's list of a kind."""
    return _TITLES[kind]


def catalogue_system(catalogue: Catalogue, kind: Kind, *, id: str = "") -> dict[str, Any]:
    """The CodeSystem of the catalogue's items of a kind; `id` when it is not the current one."""
    described = head(
        type="CodeSystem",
        url=SYSTEM_OF[kind],
        id=id,
        version=catalogue.edition,
        title=title_of(kind),
        status=catalogue.status,
        experimental=catalogue.experimental,
        date=catalogue.date,
        publisher=catalogue.publisher,
        description=catalogue.statement,
        copyright="\n\n".join(catalogue.notices),
        language="zh-CN",
        extension=extensions(kind, catalogue.effective, catalogue.until),
    )
    items = [*catalogue.of(kind), *(o for o in catalogue.retired.values() if o.kind == kind)]
    return items_system(described, kind, items, catalogue)


def extensions(kind: Kind, effective: str, until: str) -> list[dict[str, Any]]:
    """What a CodeSystem says of a list beside R4's elements: its kind and its period."""
    period = {"start": effective} | ({"end": until} if until else {})
    return [
        {"url": EFFECTIVE, "valuePeriod": period},
        {"url": LIST_KIND, "valueCode": kind},
    ]


def items_system(
    described: dict[str, Any], kind: Kind, items: Iterable[Item], beside: Catalogue
) -> dict[str, Any]:
    """Items under their groups; `beside` knows the groups' names, panels and regions."""
    grouped: dict[str, list[Concept]] = {}
    for item in items:
        grouped.setdefault(item.group, []).append(_concept(item, beside))
    concepts = [
        concept
        for group, members in grouped.items()
        for concept in ([_group(kind, group, members, beside)] if group else members)
    ]
    properties = (*_PROPERTIES[kind], *_MADE[kind])
    filters = [name for name, type, _ in properties if type == "code" or name in _FILTERED]
    return code_system(described, concepts, (*properties, *_STANDARD_PROPERTIES), filters)


def _group(kind: Kind, group: str, members: list[Concept], beside: Catalogue) -> Concept:
    zh, en = beside.group_names.get((kind, group), (group, ""))
    concept = named(group_code(group), zh, en)
    concept["property"] = [{"code": "notSelectable", "valueBoolean": True}]
    return concept | {"concept": members}


def _concept(item: Item, beside: Catalogue) -> Concept:
    properties = values(_PROPERTIES[item.kind], item)
    if not item.validity_days:  # the list gives no window
        properties = [one for one in properties if one["code"] != "validity_days"]
    if not item.list_system:
        properties += [
            {"code": "panel", "valueCode": panel} for panel in beside.panels_of.get(item.code, ())
        ]
    properties += [{"code": "covers", "valueString": region} for region in beside.covers(item)]
    if item.retired:
        properties += [
            {"code": "inactive", "valueBoolean": True},
            {"code": "status", "valueCode": "retired"},
            {"code": "deprecationDate", "valueDateTime": item.retired},
        ]
    return named(item.code, item.name_zh, item.name_en) | {"property": properties}


def panel_system(catalogue: Catalogue) -> dict[str, Any]:
    """The usual panels as a CodeSystem of their own: none of them is an item."""
    described = head(
        type="CodeSystem",
        url=PANEL_SYSTEM,
        version=catalogue.edition,
        title="Usual panels of laboratory items",
        status=catalogue.status,
        experimental=catalogue.experimental,
        date=catalogue.date,
        publisher=catalogue.publisher,
        description=(
            "What laboratories usually order together. " + catalogue.statement
            + " What a hospital's own panel holds stands in its map of orders."
        ),
        language="zh-CN",
    )  # fmt: skip
    concepts = [
        named(panel.code, panel.name_zh, panel.name_en)
        | {
            "property": [
                *({"code": "item", "valueCode": code} for code in panel.items),
                {"code": "source", "valueString": panel.source or "compiled"},
            ]
        }
        for panel in catalogue.panels.values()
    ]
    properties = (
        ("item", "code", "An item of catalogue-lab that usually belongs to it"),
        ("source", "string", "Where the panel was met"),
    )
    return code_system(described, concepts, properties, ("item",))


# -- back ------------------------------------------------------------------------------------------


def items_of(resource: Mapping[str, Any], kind: Kind) -> dict[str, Item]:
    """The items of such a CodeSystem by code, the retired ones among them, groups left out."""
    url, edition = resource.get("url", ""), resource.get("version", "")
    own = "" if url == SYSTEM_OF[kind] else url
    items = (
        _item(concept, kind, edition)
        for concept in _all_concepts(resource.get("concept", ()))
        if not concept["code"].startswith(GROUP)
    )
    return {item.code: replace(item, list_system=own) for item in items}


def _all_concepts(concepts: Iterable[Concept]) -> Iterator[Concept]:
    for concept in concepts:
        yield concept
        yield from _all_concepts(concept.get("concept", ()))


def _item(concept: Concept, kind: Kind, edition: str) -> Item:
    names = {one.get("language"): one["value"] for one in concept.get("designation", ())}
    found: dict[str, Any] = {}
    for one in concept.get("property", ()):
        if one["code"] in _FIELDS:
            found[one["code"]] = next(v for k, v in one.items() if k.startswith("value"))
        elif one["code"] == "deprecationDate":
            found["retired"] = one["valueDateTime"]
    return Item(
        kind=kind,
        code=concept["code"],
        name_zh=str(names.get("zh-CN", "" if "en" in names else concept.get("display", ""))),
        name_en=names.get("en", ""),
        edition=edition,
        **{name: value for name, value in found.items() if name not in _HEADS},
    )


_HEADS = frozenset({"kind", "code", "name_zh", "name_en", "edition", "list_system", "listed"})
