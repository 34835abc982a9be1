"""One provision of a Consent, read into the scope that it has inside its parent's. Pure.

Every element that a provision may have stands in a table here: read, or refused by name.
hl7.org/fhir/R4/consent-definitions.html#Consent.provision
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from fhir_gateway.errors import Invalid, Issue
from fhir_gateway.fhir.datatypes import date_range
from fhir_gateway.security.classes import CLASS_SYSTEM
from fhir_gateway.security.policy import Policy

Json = Mapping[str, Any]

_NEVER = 1 << 60
_ACT_CODE = "http://terminology.hl7.org/CodeSystem/v3-ActCode"
_ACT_REASON = "http://terminology.hl7.org/CodeSystem/v3-ActReason"
_ACTION = "http://terminology.hl7.org/CodeSystem/consentaction"
_PARTICIPATION = "http://terminology.hl7.org/CodeSystem/v3-ParticipationType"
_ROLE_CLASS = "http://terminology.hl7.org/CodeSystem/v3-RoleClass"
#: What an actor is: who receives, or whose records they are (ValueSet security-role-type).
_ROLES = {
    (_PARTICIPATION, "IRCP"): "recipient", (_PARTICIPATION, "PRCP"): "recipient",
    (_PARTICIPATION, "CST"): "source", (_PARTICIPATION, "AUT"): "source",
    (_PARTICIPATION, "INF"): "source", (_ROLE_CLASS, "ASSIGNED"): "recipient",
}  # fmt: skip


class Scope(NamedTuple):
    """Whom and what a provision is about; None is everybody and everything, "" no encounter."""

    recipients: tuple[str, ...] | None = None
    sources: tuple[str, ...] | None = None
    classes: frozenset[int] | None = None
    since: int = 0
    until: int = _NEVER
    encounter: str = ""


class Faulty:
    """The faults of a provision."""

    def __init__(self) -> None:
        self.issues: list[Issue] = []

    def add(self, at: str, text: str, code: str = "not-supported") -> None:
        """Notes what cannot be kept."""
        self.issues.append(Issue(code, text, at, "consent"))


class Place(NamedTuple):
    """What every reader of an element is given."""

    consent: Json
    policy: Policy
    zone: str
    at: str
    faulty: Faulty


#: Elements that say nothing of the scope, or are read elsewhere.
_APART = frozenset({"id", "type", "provision", "extension"})


def narrowed(
    provision: Json, parent: Scope, consent: Json, policy: Policy, zone: str, at: str,
    faulty: Faulty,
) -> Scope:  # fmt: skip
    """The scope of a provision inside its parent's; faults are noted."""
    scope = parent
    for name, value in provision.items():
        if name in _APART or name.startswith("_"):
            continue
        read = _ELEMENTS.get(name)
        place = Place(consent, policy, zone, f"{at}.{name}", faulty)
        if read is None:
            faulty.add(
                place.at, f"{name} cannot be kept: leave it out, or say it by class or actor"
            )
        else:
            scope = read(value, scope, place)
    return scope


def _period(value: Json, scope: Scope, place: Place) -> Scope:
    since, until = scope.since, scope.until
    try:
        if "start" in value:
            since = max(since, date_range(value["start"], place.zone)[0])
        if "end" in value:
            until = min(until, date_range(value["end"], place.zone)[1] + 1)
    except Invalid:
        place.faulty.add(place.at, "This is no period of FHIR dates", "invalid")
    if until <= since:
        place.faulty.add(place.at, "The period is empty, or lies outside its parent's", "invalid")
    return scope._replace(since=since, until=until)


def _actor(value: list[Json], scope: Scope, place: Place) -> Scope:
    found: dict[str, list[str]] = {"recipient": [], "source": []}
    for number, one in enumerate(value):
        at = f"{place.at}[{number}]"
        role = next((_ROLES[pair] for pair in _pairs(one.get("role")) if pair in _ROLES), None)
        if role is None:
            known = ", ".join(sorted({code for _, code in _ROLES}))
            place.faulty.add(f"{at}.role", f"The role of an actor must be one of {known}")
            continue
        institution = _institution(one.get("reference", {}), place, f"{at}.reference")
        if institution:
            found[role].append(institution)
    recipients = _inside(scope.recipients, found["recipient"], place, "recipients")
    sources = _inside(scope.sources, found["source"], place, "sources")
    return scope._replace(recipients=recipients, sources=sources)


def _inside(
    outer: tuple[str, ...] | None, inner: list[str], place: Place, what: str
) -> tuple[str, ...] | None:
    """The institutions of a nested provision, which must be among its parent's."""
    if not inner:
        return outer
    if outer is None:
        return tuple(dict.fromkeys(inner))
    if not set(inner) <= set(outer):
        place.faulty.add(place.at, f"The provision around it is about other {what}", "invalid")
    return tuple(one for one in outer if one in inner)


def _institution(reference: Json, place: Place, at: str) -> str:
    """The institution that an actor is or belongs to; "" when that is not said."""
    text = str(reference.get("reference", ""))
    if text.startswith("#"):
        inner: Json = next(
            (one for one in place.consent.get("contained", ()) if one.get("id") == text[1:]), {}
        )
        if inner.get("resourceType") == "PractitionerRole":
            text = str(inner.get("organization", {}).get("reference", ""))
    type, _, id = text.partition("/")
    if type == "Organization" and id and "/" not in id:
        return id
    place.faulty.add(
        at,
        "Records are opened to institutions: name Organization/[id], or a contained "
        "PractitionerRole with its organization",
    )
    return ""


def _action(value: list[Json], scope: Scope, place: Place) -> Scope:
    codes = {code for one in value for system, code in _pairs(one) if system == _ACTION}
    if not codes & {"access", "use", "disclose"}:
        place.faulty.add(place.at, "Only access, use and disclose are decided here")
    return scope


def _purpose(value: list[Json], scope: Scope, place: Place) -> Scope:
    codes = {one.get("code") for one in value if one.get("system") == _ACT_REASON}
    if "TREAT" not in codes:
        place.faulty.add(
            place.at, "Records are opened for treatment alone: name TREAT, or no purpose"
        )
    return scope


def _classes(value: list[Json], scope: Scope, place: Place) -> Scope:
    """Sensitive classes by their code here or by the security label of v3."""
    numbers = set()
    for number, one in enumerate(value):
        found = _class_of(one, place.policy)
        if found is None:
            known = ", ".join(["ordinary", *(row.code for row in place.policy.classes.rows)])
            at = f"{place.at}[{number}]"
            place.faulty.add(at, f"Classes of this site, in {CLASS_SYSTEM}, are {known}")
        else:
            numbers.add(found)
    return _of_classes(numbers, scope, place)


def _class_of(coding: Json, policy: Policy) -> int | None:
    system, code = coding.get("system"), str(coding.get("code", ""))
    if system == CLASS_SYSTEM:
        return 0 if code == "ordinary" else policy.classes.numbered(code)
    return policy.classes.labels.get(code) if system == _ACT_CODE else None


def _code(value: list[Json], scope: Scope, place: Place) -> Scope:
    """Items, LOINC codes and diagnoses, where they make up a sensitive class."""
    numbers = set()
    for number, one in enumerate(value):
        codings = one.get("coding", ())
        found = max((place.policy.classes.of_coding(coding) for coding in codings), default=0)
        if not found:
            text = "This code belongs to no sensitive class of the site; name the class or an actor"
            place.faulty.add(f"{place.at}[{number}]", text)
        else:
            numbers.add(found)
    return _of_classes(numbers, scope, place)


def _of_classes(numbers: set[int], scope: Scope, place: Place) -> Scope:
    if scope.classes is None:
        return scope._replace(classes=frozenset(numbers))
    if not numbers <= scope.classes:
        place.faulty.add(place.at, "The provision around it is about other classes", "invalid")
    return scope._replace(classes=scope.classes & numbers)


def _data(value: list[Json], scope: Scope, place: Place) -> Scope:
    references = [str(one.get("reference", {}).get("reference", "")) for one in value]
    if len(references) != 1 or not references[0].startswith("Encounter/"):
        text = "Data of a consent is the one encounter that it was given for; name classes instead"
        place.faulty.add(place.at, text)
        return scope
    if scope.encounter not in ("", references[0]):
        place.faulty.add(place.at, "The provision around it is about another encounter", "invalid")
    return scope._replace(encounter=references[0])


def _pairs(concept: Any) -> Iterator[tuple[str, str]]:
    for one in (concept or {}).get("coding", ()):
        yield str(one.get("system", "")), str(one.get("code", ""))


_ELEMENTS: Mapping[str, Callable[[Any, Scope, Place], Scope]] = {
    "period": _period,
    "actor": _actor,
    "action": _action,
    "securityLabel": _classes,
    "purpose": _purpose,
    "class": _classes,
    "code": _code,
    "data": _data,
}
