"""Consents for tests, from a few words: whom, of whom, what, when, for which encounter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fhir_gateway.security.classes import CLASS_SYSTEM

Json = dict[str, Any]
_HL7 = "http://terminology.hl7.org/CodeSystem"
WHEN = "2026-01-01T00:00:00+08:00"


def actor(institution: str, role: str) -> Json:
    """One actor of a provision: IRCP receives, CST is whose records they are."""
    coding = {"system": f"{_HL7}/v3-ParticipationType", "code": role}
    reference = {"reference": f"Organization/{institution}"}
    return {"role": {"coding": [coding]}, "reference": reference}


def provision(words: Mapping[str, Any]) -> Json:
    """A provision from to, of, classes, labels, codes, from, until, encounter, but."""
    made: Json = {"type": words["type"]}
    actors = [actor(one, "IRCP") for one in words.get("to", ())]
    actors += [actor(one, "CST") for one in words.get("of", ())]
    if actors:
        made["actor"] = actors
    if "classes" in words:
        made["class"] = [{"system": CLASS_SYSTEM, "code": one} for one in words["classes"]]
    if "labels" in words:
        labels = [{"system": f"{_HL7}/v3-ActCode", "code": one} for one in words["labels"]]
        made["securityLabel"] = labels
    if "codes" in words:
        pairs = [one.split("|") for one in words["codes"]]
        made["code"] = [{"coding": [{"system": one, "code": code}]} for one, code in pairs]
    period = {end: str(words[key]) for end, key in (("start", "from"), ("end", "until"))
              if key in words}  # fmt: skip
    if period:
        made["period"] = period
    if words.get("encounter"):
        encounter = words["encounter"] if isinstance(words["encounter"], str) else "visit"
        reference = {"reference": f"Encounter/{encounter}"}
        made["data"] = [{"meaning": "related", "reference": reference}]
    if "but" in words:
        made["provision"] = [provision(one) for one in words["but"]]
    return made


def consent(words: Mapping[str, Any], patient: str = "p", *, when: str = WHEN) -> Json:
    """An active Consent of a patient."""
    return {
        "resourceType": "Consent",
        "status": "active",
        "scope": {"coding": [{"system": f"{_HL7}/consentscope", "code": "patient-privacy"}]},
        "category": [{"coding": [{"system": "http://loinc.org", "code": "59284-0"}]}],
        "patient": {"reference": f"Patient/{patient}"},
        "dateTime": when,
        "policyRule": {"coding": [{"system": f"{_HL7}/v3-ActCode", "code": "OPTIN"}]},
        "provision": provision(words),
    }
