"""Where a rule set holds: the nation, an area inside it, or one institution.

An area stands in PlanDefinition.jurisdiction as a code of the table of areas, an institution in
useContext (venue). What is not the nation's is an *overlay*: it names in relatedArtifact
(derived-from) the rule set that it narrows, and counts nowhere without it.
hl7.org/fhir/R4/metadatatypes.html#UsageContext, docs/adr/0025-rule-set-lifecycle.md
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from fhir_gateway.errors import Issue
from fhir_gateway.recognition.rules_parameters import fault
from fhir_gateway.terminology.area import AREA_SYSTEM

CONTEXT_TYPE = "http://terminology.hl7.org/CodeSystem/usage-context-type"
COUNTRY_SYSTEM = "urn:iso:std:iso:3166"
NATION = "CN"
_ORGANIZATION = "Organization/"


class Scope(NamedTuple):
    """`area` and `institution` are "" for the nation's; `base` is the canonical that an overlay
    narrows, with |version when it was made for one alone."""

    area: str = ""
    institution: str = ""
    base: str = ""

    @property
    def is_overlay(self) -> bool:
        """Whether it narrows another rule set."""
        return bool(self.area or self.institution)

    def narrows(self, url: str, version: str) -> bool:
        """Whether it was made for this rule set."""
        wanted, _, pinned = self.base.partition("|")
        return wanted == url and pinned in ("", version)

    def said(self) -> str:
        """The level in a word or two."""
        if self.institution:
            return f"institution {self.institution}"
        return f"area {self.area}" if self.area else "nation"


NATIONAL = Scope()


def read_scope(plan_definition: Mapping[str, Any], issues: list[Issue]) -> Scope:
    """Where a PlanDefinition holds; faults are added to `issues`."""
    areas = sorted(set(_areas(plan_definition, issues)))
    institutions = sorted(set(_institutions(plan_definition, issues)))
    if len(areas) + len(institutions) > 1:
        text = "A rule set holds in the nation, in one area or at one institution"
        issues.append(fault("PlanDefinition.jurisdiction", text, "rule-set-scope"))
    area = areas[0] if areas else ""
    institution = institutions[0] if institutions else ""
    if not area and not institution:
        return NATIONAL
    bases = [
        one["resource"]
        for one in plan_definition.get("relatedArtifact") or ()
        if one.get("type") == "derived-from" and one.get("resource")
    ]
    if len(bases) != 1:
        text = (
            "A rule set for an area or an institution names the one that it narrows, in "
            "relatedArtifact of type derived-from"
        )
        issues.append(fault("PlanDefinition.relatedArtifact", text, "rule-set-base"))
    if any(one.get("type") == "depends-on" for one in plan_definition.get("relatedArtifact") or ()):
        text = "Lists are named by the rule set that is narrowed; take items out with item-listed"
        issues.append(fault("PlanDefinition.relatedArtifact", text, "rule-set-base"))
    return Scope(area, institution, bases[0] if bases else "")


def _areas(plan_definition: Mapping[str, Any], issues: list[Issue]) -> Iterator[str]:
    for number, concept in enumerate(plan_definition.get("jurisdiction") or ()):
        codes = {one.get("system"): one.get("code") for one in concept.get("coding") or ()}
        code = codes.get(AREA_SYSTEM) or (
            NATION if codes.get(COUNTRY_SYSTEM) in ("CN", "CHN") else ""
        )
        if not code:
            text = f"A jurisdiction is a code of {AREA_SYSTEM}"
            issues.append(fault(f"PlanDefinition.jurisdiction[{number}]", text, "rule-set-scope"))
        elif code != NATION:
            yield code


def _institutions(plan_definition: Mapping[str, Any], issues: list[Issue]) -> Iterator[str]:
    for number, context in enumerate(plan_definition.get("useContext") or ()):
        code = context.get("code") or {}
        if (code.get("system"), code.get("code")) != (CONTEXT_TYPE, "venue"):
            continue  # what a set is for in other respects says nothing of where it holds
        reference = (context.get("valueReference") or {}).get("reference") or ""
        id = reference.removeprefix(_ORGANIZATION)
        if not id or id == reference or "/" in id:
            text = "A venue is a reference to one Organization of this gateway"
            issues.append(fault(f"PlanDefinition.useContext[{number}]", text, "rule-set-scope"))
            continue
        yield id
