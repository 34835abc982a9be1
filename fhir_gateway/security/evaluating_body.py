"""A body that evaluates quality, and the Organization that stores it.

Who may judge for which area is known from here and never from what a table or a resource claims:
a district centre speaks for its district, a regional body for its region, the national one for the
nation. The administration of traditional Chinese medicine has bodies of its own. FHIR R4
Organization with one extension; docs/adr/0024.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fhir_gateway.security.institution import AREA_EXTENSION, AREA_SYSTEM, REGISTRY_SYSTEM
from fhir_gateway.settings import CANONICAL

#: The coding in Organization.type that registers an Organization as an evaluating body.
BODY_CODE = "evaluating-body"
BODY_EXTENSION = f"{CANONICAL}/StructureDefinition/evaluating-body"

#: Level of a body, and the kinds of area (terminology/areas.csv) that it can be the body of.
LEVELS: Mapping[str, frozenset[str]] = {
    "national": frozenset({"nation"}),
    "regional": frozenset({"region"}),
    "provincial": frozenset({"province"}),
    "city": frozenset({"province", "city"}),  # a municipality is a province
    "district": frozenset({"district"}),
}

#: Who it belongs to: the health administration, or that of traditional Chinese medicine.
KINDS = ("general", "tcm")

LEVEL_NAMES = {
    "national": "国家级", "regional": "区域", "provincial": "省级", "city": "市级",
    "district": "区县级",
}  # fmt: skip
KIND_NAMES = {"general": "卫生健康行政部门质控机构", "tcm": "中医药主管部门质控机构"}


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluatingBody:
    """One body. `area` is the area that it speaks for, with all that lies in it."""

    id: str
    name: str
    level: str
    area: str
    kind: str = "general"
    active: bool = True


def organization_of_body(body: EvaluatingBody) -> dict[str, Any]:
    """The Organization that stores the body. Always the same for the same value."""
    return {
        "resourceType": "Organization",
        "id": body.id,
        "extension": [
            {
                "url": AREA_EXTENSION,
                "valueCoding": {"system": AREA_SYSTEM, "code": body.area},
            },
            {
                "url": BODY_EXTENSION,
                "extension": [
                    {"url": "level", "valueCode": body.level},
                    {"url": "kind", "valueCode": body.kind},
                ],
            },
        ],
        "active": body.active,
        "type": [{"coding": [{"system": REGISTRY_SYSTEM, "code": BODY_CODE}]}],
        "name": body.name,
    }


def body_of(organization: Mapping[str, Any]) -> EvaluatingBody | None:
    """The body that an Organization stores; None for one that is not registered as such."""
    if not any(
        coding.get("system") == REGISTRY_SYSTEM and coding.get("code") == BODY_CODE
        for concept in organization.get("type", ())
        for coding in concept.get("coding", ())
    ):
        return None
    extensions = {one.get("url"): one for one in organization.get("extension", ())}
    parts = {
        part.get("url"): part.get("valueCode", "")
        for part in extensions.get(BODY_EXTENSION, {}).get("extension", ())
    }
    return EvaluatingBody(
        id=organization.get("id", ""),
        name=organization.get("name", ""),
        level=parts.get("level", ""),
        area=extensions.get(AREA_EXTENSION, {}).get("valueCoding", {}).get("code", ""),
        kind=parts.get("kind", ""),
        active=organization.get("active", True),
    )
