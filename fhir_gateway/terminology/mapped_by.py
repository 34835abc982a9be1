"""Codings that the gateway added: an extension on the Coding names the map that they were made by.

A client that reads a resource and stores it again sends them back. They are dropped then and made
anew, so that a map which says something else by now is followed, and nothing is added twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from fhir_gateway.settings import CANONICAL
from fhir_gateway.terminology.catalogue import Item

#: Extension on a Coding: the canonical, with version, of the ConceptMap that it was made by
#: (valueCanonical); of the catalogue's code system where that is known by a LOINC code.
MAPPED_BY = f"{CANONICAL}/StructureDefinition/mapped-by"

#: Where bookable time says what it is for.
SERVICES: Mapping[str, str] = {
    "Schedule": "serviceType", "Slot": "serviceType", "HealthcareService": "type",
}  # fmt: skip


def ours(item: Item, source: str) -> dict[str, Any]:
    """The coding of an item, with the map that says so."""
    return {"extension": [{"url": MAPPED_BY, "valueCanonical": source}], **item.coding()}


def mapped_by(coding: Mapping[str, Any]) -> str | None:
    """The map that a coding was made by; None for one that the gateway did not add."""
    for extension in coding.get("extension", ()):
        if extension.get("url") == MAPPED_BY:
            return str(extension.get("valueCanonical", ""))
    return None


def drop_ours(resource: dict[str, Any]) -> None:
    """Takes the codings that the gateway added out of a resource that it codes, in place.

    An element that would be left with nothing keeps its coding as the sender's own word: whoever
    sends it alone says it. An order detail that is only ours goes as a whole.
    """
    concept = resource.get("code")
    if concept and resource["resourceType"] in _CODED_ALONE and not _has_ours(concept):
        return  # most results and reports
    for concept in _coded(resource):
        codings = concept.get("coding", ())
        if not _has_ours(concept):
            continue
        kept = [coding for coding in codings if mapped_by(coding) is None]
        if kept:
            concept["coding"] = kept
        elif len(concept) > 1:
            del concept["coding"]
        else:
            concept["coding"] = [_unmarked(coding) for coding in codings]
    if "orderDetail" in resource:
        _drop_details(resource)


#: Types that have their codes in `code` and nowhere else.
_CODED_ALONE = frozenset({"Observation", "DiagnosticReport"})


def _has_ours(concept: Mapping[str, Any]) -> bool:
    """Whether a coding of a concept may be one that the gateway added."""
    for coding in concept.get("coding", ()):  # noqa: SIM110 - a generator costs more than the loop
        if "extension" in coding:
            return True
    return False


def _coded(resource: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    if "code" in resource:
        yield resource["code"]
    if "procedureCode" in resource:
        yield from resource["procedureCode"]
    yield from services_of(resource)


def services_of(resource: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What a Schedule, a Slot or a HealthcareService is for; nothing for other types."""
    name = SERVICES.get(resource.get("resourceType", ""))
    found: list[dict[str, Any]] = resource.get(name, []) if name else []
    return found


def _drop_details(resource: dict[str, Any]) -> None:
    details = []
    for detail in resource["orderDetail"]:
        codings = detail.get("coding", ())
        kept = [coding for coding in codings if mapped_by(coding) is None]
        if len(kept) == len(codings):
            details.append(detail)
        elif kept or len(detail) > 1:
            others = {name: value for name, value in detail.items() if name != "coding"}
            details.append({"coding": kept, **others} if kept else others)
    if details:
        resource["orderDetail"] = details
    else:
        del resource["orderDetail"]


def _unmarked(coding: Mapping[str, Any]) -> dict[str, Any]:
    rest = [one for one in coding["extension"] if one.get("url") != MAPPED_BY]
    plain = {name: value for name, value in coding.items() if name != "extension"}
    return {"extension": rest, **plain} if rest else plain
