"""Consents at the door and in the index: what may be written, and the rows that come of it.

The deriver flattens a Consent (security.consent); the governor, on the one path of every write,
refuses what cannot be kept whole, what the site's basis does not count, what somebody else should
have said, and what the wrong person said: a guardian consents for a child, everybody else for
themselves (Personal Information Protection Law of China, article 31). docs/consent.md
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fhir_gateway.context import Gateway
from fhir_gateway.errors import Forbidden, Issue, Unprocessable
from fhir_gateway.fhir.datatypes import date_range, local_day
from fhir_gateway.fhir.wire import parse
from fhir_gateway.interactions.steps import Guards, Step
from fhir_gateway.security.actor import SYSTEM_ACCESS, Actor
from fhir_gateway.security.age import ages_on
from fhir_gateway.security.consent import (
    Flat,
    Said,
    closed,
    encounters_of,
    flatten,
    is_about_privacy,
    issues_of_uncounted,
)
from fhir_gateway.security.policy import Policy
from fhir_gateway.store.changes import ConsentRow, Derived
from fhir_gateway.store.store import Reader

#: A clock of a hospital may be ahead of ours by so much (µs).
_AHEAD = 300_000_000


def derive_consents(
    resource: dict[str, Any], derived: Derived, *, policy: Policy, zone: str
) -> None:
    """Adds the rows of a Consent. One that cannot be said in rows, which the door lets nobody
    write but an earlier release may have stored, closes the record until it is corrected."""
    if resource["resourceType"] != "Consent":
        return
    flat = flatten(resource, policy, zone)
    rows: Sequence[Said] = closed(resource, zone) if flat.issues else flat.rows
    for one in rows:
        row = ConsentRow(
            one.party, one.owner, one.number, one.rank, one.permit, one.since, one.until
        )
        derived.consents.append(row)


async def govern_consents(
    gateway: Gateway, reader: Reader, actor: Actor, steps: Sequence[Step], guards: Guards
) -> None:
    """Raises Unprocessable for a Consent that cannot be kept whole or that the wrong person gave,
    Forbidden for one that another institution should have obtained."""
    if gateway.policy.is_open:
        return
    for step in steps:
        consent = step.resource
        if step.type != "Consent" or step.op == "delete" or step.matched or consent is None:
            continue
        if consent.get("status") != "active" or not is_about_privacy(consent):
            continue
        flat = flatten(consent, gateway.policy, gateway.settings.zone)
        issues = [*flat.issues, *issues_of_uncounted(flat, gateway.policy)]
        issues += _of_time(gateway, consent)
        issues += await _of_encounters(gateway, steps, consent)
        issues += await _of_person(gateway, steps, consent)
        if issues:
            raise Unprocessable(issues=tuple(_placed(one, step.root) for one in issues))
        _check_writer(actor, flat, step)


def _placed(issue: Issue, root: str) -> Issue:
    place = (issue.expression or "Consent").removeprefix("Consent")
    return Issue(issue.code, issue.diagnostics, f"{root}{place}", issue.rule)


def _of_time(gateway: Gateway, consent: Mapping[str, Any]) -> Iterator[Issue]:
    """A consent of the future would outrank all that is said until then."""
    text = consent.get("dateTime")
    if not isinstance(text, str):
        return
    if date_range(text, gateway.settings.zone)[0] > gateway.clock.now() + _AHEAD:
        yield Issue(
            "invalid", "A consent is not given in the future", "Consent.dateTime", "consent"
        )


async def _of_encounters(
    gateway: Gateway, steps: Sequence[Step], consent: Mapping[str, Any]
) -> list[Issue]:
    """An encounter that a consent is bound to is the same patient's."""
    patient = consent.get("patient", {}).get("reference")
    issues = []
    for at, reference in encounters_of(consent):
        if not reference.startswith("Encounter/"):
            continue
        encounter = await _stored(gateway, steps, reference)
        if encounter is None or encounter.get("subject", {}).get("reference") != patient:
            text = "This is no encounter of the patient who consents"
            issues.append(Issue("business-rule", text, at, "consent"))
    return issues


async def _of_person(
    gateway: Gateway, steps: Sequence[Step], consent: Mapping[str, Any]
) -> list[Issue]:
    """Whether the one who consents is the one who decides, on the day of the consent."""
    patient = str(consent.get("patient", {}).get("reference", ""))
    stored = await _stored(gateway, steps, patient)
    birth = str((stored or {}).get("birthDate", ""))
    age = _ages(gateway, consent, birth)
    age_of_consent = gateway.policy.guardian_age
    named = [str(one.get("reference", "")) for one in consent.get("performer", ())]
    guardians = [one for one in named if one.startswith("RelatedPerson/")]
    at = "Consent.performer"
    if age is not None and age[1] < age_of_consent and not guardians:
        text = f"The patient is under {age_of_consent}: performer names a guardian (RelatedPerson)"
        return [Issue("business-rule", text, at, "guardian")]
    if age is not None and age[0] >= age_of_consent and named and patient not in named:
        text = f"The patient is {age_of_consent} or older and decides: performer names the patient"
        return [Issue("business-rule", text, at, "guardian")]
    if age is None and not named:
        text = "The age is not known: performer names the patient, or a guardian (RelatedPerson)"
        return [Issue("business-rule", text, at, "guardian")]
    issues = []
    for number, one in enumerate(named):
        if one in guardians:
            guardian = await _stored(gateway, steps, one)
            if (guardian or {}).get("patient", {}).get("reference") != patient:
                text = "This is nobody who is related to the patient"
                issues.append(Issue("business-rule", text, f"{at}[{number}]", "guardian"))
        elif one != patient:
            text = "A consent is given by the patient, or by a guardian (RelatedPerson)"
            issues.append(Issue("business-rule", text, f"{at}[{number}]", "guardian"))
    return issues


def _ages(gateway: Gateway, consent: Mapping[str, Any], birth: str) -> tuple[int, int] | None:
    """The age on the day of the consent, which is a calendar day of the site's zone."""
    zone, text = gateway.settings.zone, consent.get("dateTime")
    if not isinstance(text, str):
        return ages_on(birth, local_day(gateway.clock.now(), zone))
    return ages_on(birth, local_day(date_range(text, zone)[0], zone))


async def _stored(gateway: Gateway, steps: Sequence[Step], reference: str) -> dict[str, Any] | None:
    """A resource of this very request, or one that is stored; read by the gateway for itself."""
    for step in steps:
        if step.name == reference and step.resource is not None:
            return step.resource
    type, _, id = reference.partition("/")
    if not id:
        return None
    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        stored = await reader.read(type, id)
    return parse(stored.whole()) if stored is not None and not stored.deleted else None


def _check_writer(actor: Actor, flat: Flat, step: Step) -> None:
    """An institution records what it was told about itself: whom it may be shown, and who may see
    what it holds itself. A patient records what concerns the own record alone."""
    if actor.role in ("institution", "clinician"):
        for one in flat.rows:
            if one.recipient == actor.institution:
                continue
            if not one.permit and one.source == actor.institution:
                continue
            raise Forbidden(
                "An institution records consents to what it receives itself, and denials of what "
                "it holds itself: name it as actor of every provision",
                expression=f"{step.root}{one.at.removeprefix('Consent')}.actor",
                rule="consent-writer",
            )
    if actor.role == "patient":
        assert step.resource is not None
        if step.resource.get("patient", {}).get("reference") != f"Patient/{actor.patient}":
            raise Forbidden(
                "A patient consents for the own record alone",
                expression=f"{step.root}.patient",
                rule="consent-writer",
            )
