"""An institution as the gateway knows it, and the Organization resource that stores it.

Everything that intake and recognition need of a sender stands in one value: level and area
(recognition), time zone and charset of v2 messages and tables (intake), the systems of its own
numbers, its national codes, and the names by which its messages call it. FHIR R4 Organization with
two extensions of ours; GB 32100 for the unified social credit code, docs/adr/0009 for the choice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from fhir_gateway.settings import CANONICAL

#: The coding in Organization.type that puts an Organization into the registry.
REGISTRY_SYSTEM, REGISTRY_CODE = f"{CANONICAL}/CodeSystem/registry", "institution"

AREA_SYSTEM = f"{CANONICAL}/CodeSystem/area"
LEVEL_SYSTEM = f"{CANONICAL}/CodeSystem/institution-level"
CREDIT_CODE_SYSTEM = f"{CANONICAL}/NamingSystem/unified-social-credit-code"
INSTITUTION_CODE_SYSTEM = "urn:oid:2.16.156.10011.1.5"

AREA_EXTENSION = f"{CANONICAL}/StructureDefinition/area"
LEVEL_EXTENSION = f"{CANONICAL}/StructureDefinition/institution-level"
INTAKE_EXTENSION = f"{CANONICAL}/StructureDefinition/institution-intake"
VALIDATION_EXTENSION = f"{CANONICAL}/StructureDefinition/validation-mode"

#: What becomes of a resource that breaks a profile (docs/validation.md).
VALIDATION_MODES = ("refuse", "accept-and-flag", "learn")

_ORGANIZATION_TYPE = "http://terminology.hl7.org/CodeSystem/organization-type"

#: The numbers an institution gives itself; each kind has its own identifier system.
NUMBER_KINDS = ("patient", "report", "order", "specimen")

DEFAULT_ZONE, DEFAULT_CHARSET = "Asia/Shanghai", "GB18030"


class Level(NamedTuple):
    """A grade of the hospital accreditation; `rank` orders them, 0 stands outside the order."""

    code: str
    name_zh: str
    name_en: str
    rank: int


LEVELS: tuple[Level, ...] = (
    Level("3S", "三级特等", "Level 3, special class", 3),
    Level("3A", "三级甲等", "Level 3, class A", 3),
    Level("3B", "三级乙等", "Level 3, class B", 3),
    Level("3C", "三级丙等", "Level 3, class C", 3),
    Level("3", "三级", "Level 3, no class", 3),
    Level("2A", "二级甲等", "Level 2, class A", 2),
    Level("2B", "二级乙等", "Level 2, class B", 2),
    Level("2C", "二级丙等", "Level 2, class C", 2),
    Level("2", "二级", "Level 2, no class", 2),
    Level("1A", "一级甲等", "Level 1, class A", 1),
    Level("1B", "一级乙等", "Level 1, class B", 1),
    Level("1C", "一级丙等", "Level 1, class C", 1),
    Level("1", "一级", "Level 1, no class", 1),
    Level("community", "社区", "Community health centre or station", 1),
    Level("laboratory", "独立实验室", "Independent laboratory or imaging centre", 0),
    Level("unrated", "未定级", "Not rated", 0),
)
_BY_NAME = {name: level for level in LEVELS for name in (level.code, level.name_zh)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Institution:
    """One sender and receiver of results. `id` is the logical id of its Organization.

    `level` is the Chinese name of the grade, `area` a code of GB/T 2260. `facilities` are the
    names in MSH-4 of its v2 messages. `identifier_systems` names the system of each kind of its
    own numbers; see `system`. `validation` is the mode it has chosen, "" for none.
    """

    id: str
    name: str
    level: str = "未定级"
    area: str = ""
    zone: str = DEFAULT_ZONE
    charset: str = DEFAULT_CHARSET
    identifier_systems: Mapping[str, str] = field(default_factory=dict)
    credit_code: str = ""
    institution_code: str = ""
    facilities: tuple[str, ...] = ()
    active: bool = True
    validation: str = ""
    zone_registered: bool = True  # False: nobody said a zone, and `zone` is the usual one

    def system(self, kind: str) -> str:
        """The identifier system of one kind of its numbers; ours when it has named none."""
        return self.identifier_systems.get(kind) or f"{CANONICAL}/NamingSystem/{self.id}-{kind}"


def level_of(name: str) -> Level | None:
    """The grade with this code or Chinese name."""
    return _BY_NAME.get(name)


def organization_of(institution: Institution) -> dict[str, Any]:
    """The Organization resource that stores the institution. Always the same for the same value."""
    resource: dict[str, Any] = {
        "resourceType": "Organization",
        "id": institution.id,
        "extension": _extensions(institution),
    }
    if identifiers := _identifiers(institution):
        resource["identifier"] = identifiers
    resource["active"] = institution.active
    resource["type"] = [
        {"coding": [{"system": REGISTRY_SYSTEM, "code": REGISTRY_CODE}]},
        {"coding": [{"system": _ORGANIZATION_TYPE, "code": "prov"}]},
    ]
    resource["name"] = institution.name
    return resource


def institution_of(organization: Mapping[str, Any]) -> Institution | None:
    """The institution that an Organization stores; None for one that is not of the registry."""
    if not _registered(organization):
        return None
    extensions = {item.get("url"): item for item in organization.get("extension", ())}
    intake = extensions.get(INTAKE_EXTENSION, {})
    codes = {
        item.get("system"): item.get("value", "") for item in organization.get("identifier", ())
    }
    level = level_of(_code(extensions.get(LEVEL_EXTENSION)))
    zone, charset, facilities, systems = _read_intake(intake)
    return Institution(
        id=organization.get("id", ""),
        name=organization.get("name", ""),
        level=level.name_zh if level else "未定级",
        area=_code(extensions.get(AREA_EXTENSION)),
        zone=zone or DEFAULT_ZONE,
        zone_registered=bool(zone),
        charset=charset,
        identifier_systems=systems,
        credit_code=codes.get(CREDIT_CODE_SYSTEM, ""),
        institution_code=codes.get(INSTITUTION_CODE_SYSTEM, ""),
        facilities=facilities,
        active=organization.get("active", True),
        validation=_mode(extensions.get(VALIDATION_EXTENSION)),
    )


def _registered(organization: Mapping[str, Any]) -> bool:
    return any(
        coding.get("system") == REGISTRY_SYSTEM and coding.get("code") == REGISTRY_CODE
        for concept in organization.get("type", ())
        for coding in concept.get("coding", ())
    )


def _identifiers(institution: Institution) -> list[dict[str, str]]:
    pairs = (
        (CREDIT_CODE_SYSTEM, institution.credit_code),
        (INSTITUTION_CODE_SYSTEM, institution.institution_code),
    )
    return [{"system": system, "value": value} for system, value in pairs if value]


def _extensions(institution: Institution) -> list[dict[str, Any]]:
    level = level_of(institution.level)
    extensions: list[dict[str, Any]] = []
    if level is not None:
        coding = {"system": LEVEL_SYSTEM, "code": level.code, "display": level.name_zh}
        extensions.append({"url": LEVEL_EXTENSION, "valueCoding": coding})
    if institution.area:
        coding = {"system": AREA_SYSTEM, "code": institution.area}
        extensions.append({"url": AREA_EXTENSION, "valueCoding": coding})
    if institution.validation:
        extensions.append({"url": VALIDATION_EXTENSION, "valueCode": institution.validation})
    parts: list[dict[str, Any]] = []
    if institution.zone_registered:
        parts.append({"url": "zone", "valueCode": institution.zone})
    parts.append({"url": "charset", "valueCode": institution.charset})
    parts += [{"url": "facility", "valueString": name} for name in institution.facilities]
    parts += [
        {"url": kind, "valueUri": uri}
        for kind, uri in sorted(institution.identifier_systems.items())
    ]
    extensions.append({"url": INTAKE_EXTENSION, "extension": parts})
    return extensions


def _read_intake(
    extension: Mapping[str, Any],
) -> tuple[str, str, tuple[str, ...], dict[str, str]]:
    parts = [(part.get("url"), part) for part in extension.get("extension", ())]
    single = dict(parts)
    return (
        single.get("zone", {}).get("valueCode", ""),
        single.get("charset", {}).get("valueCode", DEFAULT_CHARSET),
        tuple(part.get("valueString", "") for url, part in parts if url == "facility"),
        {kind: single[kind].get("valueUri", "") for kind in NUMBER_KINDS if kind in single},
    )


def _code(extension: Mapping[str, Any] | None) -> str:
    code: str = (extension or {}).get("valueCoding", {}).get("code", "")
    return code


def _mode(extension: Mapping[str, Any] | None) -> str:
    code: str = (extension or {}).get("valueCode", "")
    return code if code in VALIDATION_MODES else ""
