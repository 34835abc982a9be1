"""In whose name a resource speaks: the elements that say who made it or answers for it.

Marks, recognition, notices and figures rest on who issued a result. So what these elements name is
the institution of the credential, its own departments, or nobody of the registry; whether it is
named by reference, by a number of the registry, by a role or inside a contained resource is all the
same. Whom a request is sent to, and what a history tells of others, is another matter and is free.
faults 48, 64; FHIR R4 fivews.html (who.author, who.source)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from fhir_gateway.mapping.doors import DOOR_URL
from fhir_gateway.security.institution import (
    CREDIT_CODE_SYSTEM,
    INSTITUTION_CODE_SYSTEM,
    Institution,
)
from fhir_gateway.settings import CANONICAL
from fhir_gateway.terminology.coder import DATA_QUALITY

Json = Mapping[str, Any]

#: By type, the elements that name who made it or answers for it.
SPEAKS: Mapping[str, tuple[str, ...]] = {
    "Basic": ("author",),
    "CarePlan": ("author",),
    "Claim": ("provider",),
    "Communication": ("sender",),
    "CommunicationRequest": ("requester",),
    "Composition": ("author", "custodian", "attester"),
    "Consent": ("organization",),
    "CoverageEligibilityRequest": ("provider",),
    "DetectedIssue": ("author",),
    "Device": ("owner",),
    "DeviceRequest": ("requester",),
    "DiagnosticReport": ("performer", "resultsInterpreter"),
    "DocumentManifest": ("author",),
    "DocumentReference": ("author", "authenticator", "custodian"),
    "Encounter": ("serviceProvider",),
    "Endpoint": ("managingOrganization",),
    "EpisodeOfCare": ("managingOrganization",),
    "ExplanationOfBenefit": ("provider",),
    "Flag": ("author",),
    "Group": ("managingEntity",),
    "HealthcareService": ("providedBy",),
    "ImagingStudy": ("series", "interpreter"),
    "Location": ("managingOrganization",),
    "MeasureReport": ("reporter",),
    "Media": ("operator",),
    "MedicationRequest": ("requester",),
    "MessageHeader": ("sender", "author", "responsible"),
    "Observation": ("performer",),
    "Organization": ("partOf",),
    "OrganizationAffiliation": ("organization",),
    "Patient": ("managingOrganization",),
    "PractitionerRole": ("organization",),
    "Provenance": ("agent",),
    "QuestionnaireResponse": ("author",),
    "RequestGroup": ("author",),
    "RiskAssessment": ("performer",),
    "Schedule": ("actor",),
    "ServiceRequest": ("requester",),
    "Slot": ("schedule",),
    "Task": ("requester",),
}

#: Inside of these elements only one part says who.
_PARTS = {"series": "performer"}

#: What stands for an institution and belongs to it: named by another, it would speak for its owner.
STANDS_FOR = frozenset({
    "CareTeam", "Device", "HealthcareService", "Location", "Organization", "PractitionerRole",
    "Schedule",
})  # fmt: skip

_NUMBERS = frozenset({CREDIT_CODE_SYSTEM, INSTITUTION_CODE_SYSTEM})


class Named(NamedTuple):
    """One naming: the element that it stands in, below the resource, and the Reference."""

    element: str
    reference: Json


def named_by(resource: Json) -> Iterator[Named]:
    """Everything that a resource names as who made it, also by way of what it contains."""
    yield from _of(resource, "")
    for place, inside in enumerate(resource.get("contained", ())):
        yield from _of(inside, f"contained[{place}].")


def names_itself(resource: Json, own: str) -> bool:
    """Whether all that a resource names so is the reference `own`, or a name that is only shown.
    False says nothing: it has to be looked at."""
    type = resource.get("resourceType", "")
    if "contained" in resource or type == "Organization":
        return False
    for name in SPEAKS.get(type, ()):
        if name not in resource:
            continue
        value = resource[name]
        for one in value if isinstance(value, list) else (value,):
            said = one.get("reference") == own and "identifier" not in one
            if name in _PARTS or not (said or one.keys() <= _SHOWN):
                return False
    return True


#: What a Reference says that names nobody.
_SHOWN = frozenset({"display"})


def _of(resource: Json, where: str) -> Iterator[Named]:
    if resource.get("resourceType") == "Organization" and "identifier" in resource:
        yield Named(f"{where}identifier", {"identifier": resource["identifier"]})
    for name in SPEAKS.get(resource.get("resourceType", ""), ()):
        if name in resource:
            for reference in _references(resource[name], _PARTS.get(name)):
                yield Named(where + name, reference)


def _references(value: Any, part: str | None) -> Iterator[Json]:
    """The References in an element, whatever it is made of."""
    if isinstance(value, list):
        for one in value:
            yield from _references(one, part)
    elif isinstance(value, dict):
        if part is not None:
            yield from _references(value.get(part), None)
        elif "reference" in value or "identifier" in value:
            yield value
        else:
            for name, child in value.items():
                if name != "extension":
                    yield from _references(child, None)


def by_number(reference: Json, registry: Mapping[str, Institution]) -> str | None:
    """The institution that a Reference names by a number of the registry; None for no such."""
    given: Any = reference.get("identifier") or []
    for one in given if isinstance(given, list | tuple) else (given,):
        system, value = one.get("system"), one.get("value")
        if system not in _NUMBERS or not value:
            continue
        for institution in registry.values():
            if value in (institution.credit_code, institution.institution_code):
                return institution.id
    return None


# -- what the gateway alone says of a resource -----------------------------------------------------


def drop_owned(resource: dict[str, Any], stored: Json) -> bool:
    """Takes out of a client's resource what the gateway alone says of one, in place: by which door
    it came (meta.source), and labels and tags of our systems. What stands there already may be sent
    back. Version, time and catalogue codings are never taken from a client anyway, nor what the
    gateway found of its quality. True if there was any.
    """
    meta, before = resource.get("meta"), stored.get("meta", {})
    if not meta:
        return False
    found = False
    source = str(meta.get("source", ""))
    if source.startswith(DOOR_URL) and source != before.get("source"):
        del meta["source"]
        found = True
    for name in ("security", "tag"):
        given, known = meta.get(name, ()), [_key(one) for one in before.get(name, ())]
        kept = [one for one in given if not _is_ours(one) or _key(one) in known]
        if len(kept) < len(given):
            found, meta[name] = True, kept
            if not kept:
                del meta[name]
    return found


def _key(coding: Json) -> tuple[Any, Any]:
    return coding.get("system"), coding.get("code")


def _is_ours(coding: Json) -> bool:
    system = str(coding.get("system", ""))
    return system.startswith(f"{CANONICAL}/") and system != DATA_QUALITY
