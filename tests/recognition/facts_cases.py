"""A small catalogue and plain resources for the tests of facts; cases from tests/cases/facts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ruamel.yaml import YAML

from fhir_gateway.fhir import wire
from fhir_gateway.mapping.doors import (
    CONTRAST_URL,
    INTAKE_SYSTEM,
    through,
)
from fhir_gateway.recognition import facts
from fhir_gateway.recognition.facts_imaging import BodyParts
from fhir_gateway.store.changes import Derived
from fhir_gateway.terminology.catalogue import IMAGING_SYSTEM, LAB_SYSTEM, Item, load_catalogue

ROOT = Path(__file__).parents[2]
CASES = ROOT / "tests" / "cases" / "facts"
ACSN = {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0203", "code": "ACSN"}]}


def _item(kind: Any, code: str, **fields: Any) -> Item:
    return Item(kind=kind, code=code, name_zh=code, name_en=code, **fields)


CATALOGUE = replace(
    load_catalogue(ROOT / "terminology"),
    items=MappingProxyType({
        item.code: item
        for item in (
            _item("lab", "K", ucum_unit="mmol/L"),
            _item("lab", "CRP", ucum_unit="mg/L"),
            _item("imaging", "CT-HEAD", body_part_dicom="HEAD", contrast="none"),
            _item("imaging", "CT-HEAD-WITH", body_part_dicom="HEAD", contrast="with"),
            _item("imaging", "KNEE", body_part_dicom="KNEE", contrast="none", laterality="R/L"),
        )
    }),
)  # fmt: skip

PARTS = BodyParts(frozenset({"HEAD", "KNEE", "CHEST"}), {"51185008": "CHEST"})

_ABOUT = {
    "id": "x",
    "subject": {"reference": "Patient/p"},
    "issued": "2026-11-18T15:00:00+08:00",
    "performer": [{"reference": "Organization/hospital"}],
}


def read_cases() -> list[dict[str, Any]]:
    """All cases of the folder."""
    yaml = YAML(typ="safe", pure=True)
    return [case for path in sorted(CASES.glob("*.yaml")) for case in yaml.load(path)]


def lab(item: str = "K", **fields: Any) -> dict[str, Any]:
    """A plain final laboratory result."""
    return _made(
        {
            **_ABOUT,
            "resourceType": "Observation",
            "status": "final",
            "code": {"coding": [{"system": LAB_SYSTEM, "code": item}]},
            "effectiveDateTime": "2026-11-18T08:00:00+08:00",
            "valueQuantity": {"value": "5.1", "unit": "mmol/L"},
        },
        fields,
    )


def report(item: str = "CT-HEAD", *, words: str = "", **fields: Any) -> dict[str, Any]:
    """A plain final imaging report; `words` are the sender's own name of the examination."""
    coding = [{"system": IMAGING_SYSTEM, "code": item, "display": "左膝增强"}]
    if words:
        coding.append({"system": "urn:h:codes", "code": "1", "display": words})
    return _made(
        {
            **_ABOUT,
            "resourceType": "DiagnosticReport",
            "status": "final",
            "code": {"coding": coding},
            "effectiveDateTime": "2026-11-18T08:00:00+08:00",
        },
        fields,
    )


def study(item: str = "", **fields: Any) -> dict[str, Any]:
    """A plain study that is there."""
    code = [{"coding": [{"system": IMAGING_SYSTEM, "code": item}]}] if item else None
    by = {"performer": [{"actor": {"reference": "Organization/hospital"}}]}
    made = _made(
        {
            "resourceType": "ImagingStudy",
            "id": "s",
            "status": "available",
            "subject": {"reference": "Patient/p"},
            "started": "2026-11-18T08:00:00+08:00",
            "procedureCode": code,
            "series": [{}],
        },
        fields,
    )
    made["series"] = [{**by, **_with_agent(one)} for one in made["series"]]
    return made


def _with_agent(series: dict[str, Any]) -> dict[str, Any]:
    if "extension" not in series:
        return series
    named = [
        {**one, "url": CONTRAST_URL if one["url"] == "agent" else one["url"]}
        for one in series["extension"]
    ]
    return {**series, "extension": named}


def _made(plain: dict[str, Any], fields: dict[str, Any]) -> dict[str, Any]:
    """The resource with other elements; None takes one away. Numbers keep their spelling."""
    fields = dict(fields)
    door, tag, accession = (fields.pop(name, "") for name in ("door", "tag", "accession"))
    resource = {name: value for name, value in (plain | fields).items() if value is not None}
    if accession:
        resource["identifier"] = [{"system": "urn:h", "value": accession, "type": ACSN}]
    if tag:
        resource["meta"] = {"tag": [{"system": INTAKE_SYSTEM, "code": tag}]}
    if quantity := resource.get("valueQuantity"):
        resource["valueQuantity"] = {**quantity, "value": wire.number(quantity["value"])}
    return through(door, resource) if door else resource


MAKERS = {"observation": lab, "report": report, "study": study}


def derived(resource: dict[str, Any]) -> Derived:
    """What the resource gives rise to."""
    rows = Derived()
    facts.derive(resource, rows, catalogue=CATALOGUE, parts=PARTS)
    return rows
