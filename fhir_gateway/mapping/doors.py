"""By which door a resource came in, and what intake could not be sure of: read off the resource.

What was made of a message or a file says so in `meta.source`, the place that FHIR gives to where
content came from (hl7.org/fhir/R4/resource.html#Meta), so that rows which are derived again years
later say the same. What a client sends in FHIR keeps its own `meta.source`, and came by that door.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fhir_gateway.settings import CANONICAL

DOOR_URL = f"{CANONICAL}/door/"
DOORS = frozenset({"v2", "dicom", "cda", "table"})

INTAKE_SYSTEM = f"{CANONICAL}/CodeSystem/intake"

#: Contrast/Bolus Agent of a series: R4's ImagingStudy has no element for it (docs/facts.md).
CONTRAST_URL = f"{CANONICAL}/StructureDefinition/contrast-agent"

#: A time without zone from a source that is registered with none.
UNKNOWN_ZONE = "unknown-zone"
#: A result whose status the source did not state beside it; the report's was taken.
UNSTATED_STATUS = "unstated-status"
#: A result that its source has taken back because it was another person's (HL7 table 0085, W).
WRONG_PATIENT = "wrong-patient"

#: What facts are read of.
STATED = frozenset({"Observation", "DiagnosticReport", "ImagingStudy"})


def through(door: str, resource: dict[str, Any]) -> dict[str, Any]:
    """The resource, saying that it came by this door; types without facts stay as they are."""
    if resource["resourceType"] not in STATED:
        return resource
    return {**resource, "meta": {**resource.get("meta", {}), "source": DOOR_URL + door}}


def door_of(resource: Mapping[str, Any]) -> str:
    """v2, dicom, cda or table; fhir for what no other door says of itself."""
    source = str(resource.get("meta", {}).get("source", ""))
    name = source.removeprefix(DOOR_URL) if source.startswith(DOOR_URL) else ""
    return name if name in DOORS else "fhir"


def intake_tags(resource: Mapping[str, Any]) -> tuple[str, ...]:
    """What intake was not sure of, or knows of it beside: codes of CodeSystem/intake."""
    tags = resource.get("meta", {}).get("tag", ())
    return tuple(tag.get("code", "") for tag in tags if tag.get("system") == INTAKE_SYSTEM)


def has_unknown_zone(resource: Mapping[str, Any]) -> bool:
    """Whether its times came without a zone, from a source that is registered with none."""
    return UNKNOWN_ZONE in intake_tags(resource)
