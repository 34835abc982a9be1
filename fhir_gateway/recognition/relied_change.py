"""What has become of a result that somebody relied on: compares two versions. Pure.

A result that was still to come when it was looked at, and has come, is no correction. What the
gateway itself adds (codings of the catalogue, tags) and what does not change its meaning (notes,
links, images that arrive later) counts for nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from fhir_gateway.mapping.doors import WRONG_PATIENT, intake_tags
from fhir_gateway.recognition.model import COMING
from fhir_gateway.terminology.mapped_by import mapped_by

Change = Literal[
    "", "corrected", "voided", "wrong-patient", "deleted", "other-patient", "other-issuer",
    "other-person",
]  # fmt: skip
Json = Mapping[str, Any]

#: What is relied on.
RESULT_TYPES = frozenset({"Observation", "DiagnosticReport", "ImagingStudy"})

VOID = frozenset({"entered-in-error", "cancelled"})
CORRECTED = frozenset({"amended", "corrected", "appended"})

#: Members of a resource that say what was found.
_SAYS: Mapping[str, frozenset[str]] = {
    "Observation": frozenset({
        "value", "dataAbsentReason", "interpretation", "effective", "specimen", "method",
        "bodySite", "component", "referenceRange", "modifierExtension", "implicitRules",
    }),
    "DiagnosticReport": frozenset({
        "effective", "conclusion", "conclusionCode", "presentedForm", "specimen",
        "modifierExtension", "implicitRules",
    }),
    "ImagingStudy": frozenset({"started", "modality", "modifierExtension", "implicitRules"}),
}  # fmt: skip


def what_became(before: Json, after: Json | None) -> Change:
    """What has become of a version that was relied on; "" for nothing that matters.

    `after` is None when the resource was deleted.
    """
    if after is None:
        return "deleted"
    return next((change for change, holds in _tests(before, after) if holds), "")


def _tests(before: Json, after: Json) -> Iterator[tuple[Change, bool]]:
    """What may have become of it, the gravest first, and whether it has."""
    old, new = before.get("status"), after.get("status")
    if new in VOID:
        wrong = WRONG_PATIENT in intake_tags(after)
        yield "wrong-patient", wrong and WRONG_PATIENT not in intake_tags(before)
        yield "voided", old not in VOID
        return
    yield "other-patient", _patient(before) != _patient(after)
    if old in COMING:
        return
    yield "corrected", old in VOID or (new in CORRECTED and old != new)
    yield "corrected", dict(_said(before)) != dict(_said(after)) or _lost(before, after)
    yield "other-issuer", _issuers(before) != _issuers(after)


def _patient(resource: Json) -> str:
    return str(resource.get("subject", {}).get("reference", ""))


def _issuers(resource: Json) -> frozenset[str]:
    """The institutions in whose name it stands; persons may come and go."""
    performers = resource.get("performer", ())
    if resource.get("resourceType") == "ImagingStudy":
        performers = ()
    named = (one.get("reference", "") for one in performers)
    return frozenset(name for name in named if name.startswith("Organization/"))


def _said(resource: Json) -> Iterator[tuple[str, Any]]:
    wanted = _SAYS.get(resource.get("resourceType", ""), frozenset())
    for name, value in resource.items():
        choice = next((one for one in _CHOICES if name.startswith(one)), name)
        if name in wanted or choice in wanted:
            yield name, value
    yield "code", _own(resource.get("code"))


#: Elements that are spelled with their type: valueQuantity, effectiveDateTime.
_CHOICES = ("value", "effective")


def _own(concept: Json | None) -> tuple[Any, ...]:
    """A code without the codings that the gateway added."""
    codings = (concept or {}).get("coding", ())
    own = (one for one in codings if mapped_by(one) is None)
    return (
        (concept or {}).get("text"),
        *((one.get("system"), one.get("code")) for one in own),
    )


def _lost(before: Json, after: Json) -> bool:
    """Whether a report does not carry a result or study any more that it carried."""
    return any(
        not _named(before, member) <= _named(after, member) for member in ("result", "imagingStudy")
    )


def _named(resource: Json, member: str) -> frozenset[str]:
    return frozenset(one.get("reference", "") for one in resource.get(member, ()))
