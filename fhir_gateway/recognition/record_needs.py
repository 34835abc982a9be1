"""What was missing where nothing could be decided: GuidanceResponse.dataRequirement.

hl7.org/fhir/R4/guidanceresponse-definitions.html#GuidanceResponse.dataRequirement. A reason says
what a doctor is told; this table says which resource, and which of its elements, would have let the
gateway decide. What no row names is asked of the result itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from msgspec.json import encode

from fhir_gateway.recognition.model import Decision

#: The result that was chosen, whatever its type.
_RESULT = "Observation"

#: Reason: type and elements (DataRequirement.type, mustSupport).
NEEDS: Mapping[str, tuple[str, ...]] = {
    "patient-unknown": ("Patient", "identifier"),
    "identity-contradictory": ("Patient", "identifier"),
    "identity-contested": ("Patient", "identifier", "name"),
    "identity-undocumented": ("Patient", "identifier"),
    "confirm-identity": ("Patient", "link"),
    "order-not-mapped": ("ServiceRequest", "code"),
    "ordered-specimen-unknown": ("ServiceRequest", "specimen"),
    "laterality-unknown": ("ServiceRequest", "bodySite"),
    "no-rule-set-in-force": ("PlanDefinition", "status"),
    "no-window": ("PlanDefinition", "action"),
    "condition-unknown": ("PlanDefinition", "action.condition"),
    "condition-trouble": ("PlanDefinition", "action.condition"),
    "specimen-unknown": ("Specimen", "type"),
    "specimen-unclear": ("Specimen", "type"),
    "status-unknown": ("DiagnosticReport", "status"),
    "newer-undecided": ("DiagnosticReport", "status"),
    "issue-time-unknown": ("DiagnosticReport", "issued"),
    "value-absent": (_RESULT, "value"),
    "no-value": (_RESULT, "value"),
    "value-is-text": (_RESULT, "value"),
    "unit-missing": (_RESULT, "value"),
    "unit-not-comparable": (_RESULT, "value"),
    "method-unknown": (_RESULT, "method"),
    "exam-day-unknown": (_RESULT, "effective"),
    "future-dated": (_RESULT, "effective"),
    "issued-before-exam": (_RESULT, "effective"),
    "issuer-unknown": (_RESULT, "performer"),
    "images-unknown": ("Endpoint", "status"),
    "receiver-area-unknown": ("Organization", "address"),
    "evaluation-contradictory": ("VerificationResult", "status"),
}


def needed(decision: Decision) -> str:
    """The member `dataRequirement` with its comma; "" where everything was decided."""
    reasons = [item.reason for item in decision.items if item.outcome == "cannot-decide"]
    return _member(tuple(dict.fromkeys(reasons))) if reasons else ""


@lru_cache(maxsize=1_024)
def _member(reasons: tuple[str, ...]) -> str:
    rows = dict.fromkeys(NEEDS.get(reason, (_RESULT,)) for reason in reasons)
    requirements = [
        {"type": type, "mustSupport": elements} if elements else {"type": type}
        for type, *elements in rows
    ]
    return f',"dataRequirement":{encode(requirements).decode()}'
