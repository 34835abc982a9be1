"""Builders of StructureDefinitions and contexts for the tests of profiles."""

from __future__ import annotations

from typing import Any

from fhir_gateway.fhir.profile import Profile, compile_profile
from fhir_gateway.fhir.profile_context import Context
from fhir_gateway.fhir.profile_known import Known

ROOT = "http://example.org/StructureDefinition"
BASE = "http://hl7.org/fhir/StructureDefinition"


def profile(type: str, *elements: dict[str, Any], id: str = "p", **members: Any) -> dict[str, Any]:
    """A profile with this differential; an element needs an id, its path follows from it."""
    return {
        "resourceType": "StructureDefinition",
        "url": f"{ROOT}/{id}",
        "name": "P",
        "status": "draft",
        "kind": "resource",
        "abstract": False,
        "type": type,
        "baseDefinition": f"{BASE}/{type}",
        "derivation": "constraint",
        "differential": {"element": [{"path": path_of(one["id"]), **one} for one in elements]},
        **members,
    }


def path_of(id: str) -> str:
    return ".".join(part.partition(":")[0] for part in id.split("."))


def rule(key: str, expression: str, severity: str = "error") -> dict[str, Any]:
    return {"key": key, "severity": severity, "human": f"rule {key}", "expression": expression}


def compiled(structure: dict[str, Any], *others: dict[str, Any]) -> Profile:
    return compile_profile(structure, known=Known([structure, *others]))


def broken(structure: dict[str, Any], resource: dict[str, Any], *others: dict[str, Any],
           **context: Any) -> list[tuple[str, str, str]]:  # fmt: skip
    """(severity, rule, expression) of what a resource breaks."""
    known = Known([structure, *others])
    made = compile_profile(structure, known=known)
    assert not made.doubts, made.doubts
    found = made.issues(resource, Context(known=known, **context))
    return [(one.severity, str(one.rule), str(one.expression)) for one in found]


def errors(*arguments: Any, **context: Any) -> list[tuple[str, str]]:
    """(rule, expression) of the errors."""
    found = broken(*arguments, **context)
    return [(rule, expression) for severity, rule, expression in found if severity == "error"]


def observation(**members: Any) -> dict[str, Any]:
    return {
        "resourceType": "Observation",
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": "2951-2"}]},
        **members,
    }
