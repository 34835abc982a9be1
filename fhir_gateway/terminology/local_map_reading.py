"""Reading a ConceptMap as a map of local codes: whose it is, its rows, and all that is wrong.

An element is a local code, without `code` what comes under its name alone. A target with a code is
an item; `unmatched` says that the catalogue has nothing for it, `disjoint` that an item was looked
at and is not meant (which maps nothing). Targets of one element with the same conditions belong
together: the items of a panel. hl7.org/fhir/R4/conceptmap.html
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from fhir_gateway.errors import Issue
from fhir_gateway.terminology.catalogue import SYSTEMS, Catalogue
from fhir_gateway.terminology.local_map import Row, is_standard, note_in
from fhir_gateway.terminology.local_map_check import Cells, Fault, clash, faults, key_of, row_of
from fhir_gateway.terminology.local_map_resource import (
    CODES,
    CONDITIONS,
    CONTEXT_SYSTEM,
    INSTITUTION,
    PERIOD_URL,
    PROPERTY,
)

Json = Mapping[str, Any]

#: ConceptMap.equivalence of a target that is the item, or wider than the code.
_SAME = frozenset({"equivalent", "equal", "wider", "subsumes"})
#: … of a target that is a part of what is ordered.
_PART = frozenset({"narrower", "specializes"})

#: Elements of FHIR that older spellings of a condition name.
_ELEMENTS = {
    "http://hl7.org/fhir/StructureDefinition/Observation#Observation.specimen": "specimen",
    "http://hl7.org/fhir/StructureDefinition/Observation#Observation.valueQuantity.unit": "unit",
    "http://hl7.org/fhir/StructureDefinition/Observation#Observation.method": "method",
}
_PROPERTIES = {f"{PROPERTY}#{name}": name for name in CONDITIONS} | _ELEMENTS


class About(NamedTuple):
    """Whose local codes a map is about ("" when that cannot be read), which, and its status."""

    institution: str
    use: str
    status: str


class Rejected(NamedTuple):
    """An item that a person looked at and found not to be meant."""

    system: str
    code: str
    name: str
    item: str


class Read(NamedTuple):
    """A map: its sound rows, what was rejected, and all issues with their places."""

    rows: list[Row]
    rejected: list[Rejected]
    issues: list[Issue]


class _Found(NamedTuple):
    """What one key means so far, and where each of its cells stands."""

    cells: Cells
    places: dict[str, str]


def about(resource: Json) -> About | None:
    """Whose codes a ConceptMap is about; None when it says nothing of local codes."""
    institution: str | None = None
    use: str | None = None
    for context in resource.get("useContext", ()):
        code = context.get("code", {})
        if code.get("system") != CONTEXT_SYSTEM:
            continue
        if code.get("code") == INSTITUTION:
            reference = context.get("valueReference", {}).get("reference", "")
            institution = reference.removeprefix("Organization/")
        elif code.get("code") == CODES:
            codings = context.get("valueCodeableConcept", {}).get("coding", [{}])
            use = codings[0].get("code", "")
    if institution is None and use is None:
        return None
    return About(institution or "", use or "", resource.get("status", ""))


def read_map(resource: Json, catalogue: Catalogue) -> Read:
    """The rows of a map of local codes. Nothing is raised: the issues say what is wrong."""
    told = about(resource) or About("", "", "")
    read = Read([], [], list(_head(resource, told)))
    source = "|".join(filter(None, (resource.get("url"), resource.get("version"))))
    found: dict[tuple[str, ...], _Found] = {}
    for place, group in enumerate(resource.get("group", ())):
        where = f"ConceptMap.group[{place}]"
        read.issues.extend(_group_faults(group, where))
        for number, element in enumerate(group.get("element", ())):
            _element(read, found, told, group, element, f"{where}.element[{number}]")
    seen: dict[tuple[str, ...], list[Row]] = {}
    for one in found.values():
        wrong = list(faults(one.cells, catalogue))
        read.issues.extend(_issue(fault, one.places) for fault in wrong)
        if wrong:
            continue
        row = row_of(one.cells, catalogue, source=source, stored=True)
        others = seen.setdefault(key_of(row), [])
        if clash(row, others):
            text = "Another element says something of the same code on the same days"
            read.issues.append(Issue("invalid", text, one.places["local_code"], "map-contradicts"))
        others.append(row)
        read.rows.append(row)
    return read


def _head(resource: Json, told: About) -> Iterator[Issue]:
    if not told.institution or "/" in told.institution:
        text = "useContext must name the institution whose codes these are: Organization/[id]"
        yield Issue("invalid", text, "ConceptMap.useContext", "map-institution")
    if told.use not in ("result", "order"):
        text = "useContext must say which codes these are: result, or order"
        yield Issue("invalid", text, "ConceptMap.useContext", "map-kind")
    if not resource.get("url"):
        text = "A map of local codes needs a url: added codings name it"
        yield Issue("required", text, "ConceptMap.url", "map-url")


def _group_faults(group: Json, where: str) -> Iterator[Issue]:
    source = group.get("source", "")
    if source and is_standard(source):
        text = "A published code system is not an institution's own, and the catalogue no source"
        yield Issue("invalid", text, f"{where}.source", "map-source")
    if group.get("target") not in SYSTEMS:
        text = f"The target must be a code system of the catalogue: {', '.join(SYSTEMS)}"
        yield Issue("invalid", text, f"{where}.target", "map-target")
    if "unmapped" in group:
        text = "What is not listed is not mapped: leave this out, another map is not followed"
        yield Issue("not-supported", text, f"{where}.unmapped", "map-unmapped")


def _element(
    read: Read,
    found: dict[tuple[str, ...], _Found],
    told: About,
    group: Json,
    element: Json,
    where: str,
) -> None:
    code, name = element.get("code", ""), element.get("display", "")
    if not element.get("target"):
        text = "Say what it means: a target, or one with equivalence unmatched for nothing"
        read.issues.append(Issue("required", text, f"{where}.target", "map-target"))
    for number, target in enumerate(element.get("target", ())):
        at = f"{where}.target[{number}]"
        item, equivalence = target.get("code", ""), target.get("equivalence", "")
        wrong = _target_fault(target, group, told, at)
        if wrong is not None:
            read.issues.append(wrong)
        elif equivalence == "disjoint":
            read.rejected.append(Rejected(group.get("source", ""), code, name, item))
        else:
            conditions, places, more = _conditions(target, at)
            read.issues.extend(more)
            cells = Cells(
                kind=told.use if told.use == "order" else "result",
                local_system=group.get("source", ""),
                local_code=code,
                local_name=name,
                item=(item,) if item else (),
                note=note_in(target.get("comment", "")),
                **conditions,
            )
            places |= {"item": f"{at}.code", "local_code": where}
            _gather(read, found, cells, places)


def _gather(
    read: Read, found: dict[tuple[str, ...], _Found], cells: Cells, places: dict[str, str]
) -> None:
    """Adds a target to those of the same key: the items of a panel."""
    key = (
        cells.local_system, cells.local_code or f"={cells.local_name}",
        cells.specimen, cells.unit, cells.method, cells.from_, cells.to,
    )  # fmt: skip
    other = found.get(key)
    if other is None:
        found[key] = _Found(cells, places)
        return
    before = other.cells.item
    if not before or not cells.item:
        text = "This code means something and nothing at once"
        read.issues.append(Issue("invalid", text, places["item"], "map-contradicts"))
    elif cells.item[0] in before:
        text = "This item stands here already"
        read.issues.append(Issue("invalid", text, places["item"], "map-twice"))
    else:
        joined = other.cells._replace(item=(*before, *cells.item))
        found[key] = _Found(joined, other.places | {"item": places["item"]})


def _target_fault(target: Json, group: Json, told: About, at: str) -> Issue | None:
    """What makes a target unreadable."""
    item, equivalence = target.get("code", ""), target.get("equivalence", "")
    if "modifierExtension" in target or "product" in target:
        name = "modifierExtension" if "modifierExtension" in target else "product"
        text = "This is not understood, and could turn the meaning round; leave it out"
        return Issue("not-supported", text, f"{at}.{name}", "map-not-understood")
    if equivalence == "unmatched":
        if not item:
            return None
        text = "unmatched says that there is no item; leave the code out"
        return Issue("invalid", text, f"{at}.code", "map-contradicts")
    if not item:
        text = "Name the item, or say unmatched"
        return Issue("required", text, f"{at}.code", "map-target")
    allowed = _SAME | {"disjoint"} | (_PART if told.use == "order" else frozenset())
    if equivalence not in allowed:
        text = f"Recognition rests on this; it must be one of {', '.join(sorted(allowed))}"
        return Issue("invalid", text, f"{at}.equivalence", "map-equivalence")
    return None


def _conditions(target: Json, at: str) -> tuple[dict[str, str], dict[str, str], list[Issue]]:
    """What a target asks for beside the code, where each stands, and what is not understood."""
    values: dict[str, str] = {}
    places: dict[str, str] = {}
    issues: list[Issue] = []
    for number, one in enumerate(target.get("dependsOn", ())):
        where = f"{at}.dependsOn[{number}]"
        name = _PROPERTIES.get(one.get("property", ""))
        if name is None or name in values:
            known = ", ".join(f"{PROPERTY}#{name}" for name in CONDITIONS)
            text = f"A condition is one of {known}, each once"
            issues.append(Issue("not-supported", text, f"{where}.property", "map-property"))
            continue
        values[name], places[name] = one.get("value", ""), f"{where}.value"
    for number, extension in enumerate(target.get("extension", ())):
        if extension.get("url") == PERIOD_URL:
            period = extension.get("valuePeriod", {})
            for name, field, column in (("start", "from_", "from"), ("end", "to", "to")):
                values[field] = period.get(name, "")
                places[column] = f"{at}.extension[{number}].valuePeriod.{name}"
    return values, places, issues


def _issue(fault: Fault, places: Mapping[str, str]) -> Issue:
    where = places.get(fault.column, places["local_code"])
    return Issue("invalid", f"{fault.column}: {fault.sentence}", where, fault.rule)


def misnamed(resource: Json, catalogue: Catalogue) -> Iterator[Issue]:
    """Targets whose display is the name of another item than their code: one of them is wrong."""
    names = {item.name_zh: code for code, item in catalogue.items.items()}
    for place, group in enumerate(resource.get("group", ())):
        for number, element in enumerate(group.get("element", ())):
            for which, target in enumerate(element.get("target", ())):
                meant = names.get(target.get("display", ""))
                if meant not in (None, target.get("code")):
                    where = f"ConceptMap.group[{place}].element[{number}].target[{which}].display"
                    text = f"This is the name of {meant}; which of the two is meant?"
                    yield Issue("invalid", text, where, "map-display")
