"""Treatment relations: what a stored resource says of who treats a person, and until when.

An open encounter, an active order or referral, a booked appointment and a running episode of care
open the person's record to an institution for a time; a resource that says no more of it, by a
later version or by its dates, ends it. Pure: nothing is read but the resource and the policy, so
an expired relation ends by the comparison of times alone. docs/consent.md, docs/adr/0037
hl7.org/fhir/R4/encounter.html, servicerequest.html, appointment.html, episodeofcare.html, task.html
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from fhir_gateway.errors import Invalid
from fhir_gateway.fhir.datatypes import date_range
from fhir_gateway.fhir.keys import key64
from fhir_gateway.security.policy import Policy
from fhir_gateway.settings import CANONICAL
from fhir_gateway.store.changes import ConsentRow, Derived, Opening

Json = Mapping[str, Any]

#: On an Encounter: the institution asked the patient, who agreed that earlier results be looked at.
CONSENT_OBTAINED = f"{CANONICAL}/StructureDefinition/consent-obtained"

#: On an Appointment: the institution at which it was booked; on an answer all that it is for.
BOOKED_BY = f"{CANONICAL}/StructureDefinition/booking-institution"

_HOUR, _DAY = 3_600_000_000, 86_400_000_000
_OPEN_ENCOUNTER = frozenset({"arrived", "triaged", "in-progress", "onleave", "finished"})
_OPEN_TASK = frozenset({"requested", "received", "accepted", "ready", "in-progress"})
_KEPT_APPOINTMENT = frozenset({"booked", "arrived", "checked-in", "fulfilled"})


class Span(NamedTuple):
    """From when until before when (µs)."""

    since: int
    until: int


def derive_relations(
    resource: dict[str, Any], derived: Derived, *, owner: int, policy: Policy, zone: str
) -> None:
    """Adds the openings of a resource of this owner, and the consent that an encounter tells of.

    What belongs to no institution opens nothing, and neither does what does not say when.
    """
    if resource["resourceType"] == "AppointmentResponse":
        _add_answer(resource, derived, policy, zone)
    reader = _READERS.get(resource["resourceType"])
    if reader is None:
        return
    for kind, party, span in reader(resource, owner, policy, zone):
        if party and span.until > span.since:
            derived.openings.append(Opening(0, party, kind, 0, span.since, span.until))
    if resource["resourceType"] == "Appointment":
        _add_shared(resource, derived, owner, policy, zone)
    if resource["resourceType"] == "Encounter":
        _add_obtained(resource, derived, owner, policy)


def _encounter(
    resource: Json, owner: int, policy: Policy, zone: str
) -> Iterator[tuple[str, int, Span]]:
    if resource.get("status") not in _OPEN_ENCOUNTER:
        return
    relation = policy.relation
    start, end = _period(resource.get("period"), zone)
    if start is None or (end is None and resource["status"] == "finished"):
        return
    until = start + relation.encounter_days * _DAY
    if end is not None:
        until = min(until, end + relation.encounter_hours_after * _HOUR)
    yield "encounter", owner, Span(start, until)


def _episode(
    resource: Json, owner: int, policy: Policy, zone: str
) -> Iterator[tuple[str, int, Span]]:
    if resource.get("status") not in ("active", "onhold"):
        return
    start, end = _period(resource.get("period"), zone)
    if start is None:
        return
    until = start + policy.relation.episode_days * _DAY
    yield "encounter", owner, Span(start, min(until, end) if end is not None else until)


def _request(
    resource: Json, owner: int, policy: Policy, zone: str
) -> Iterator[tuple[str, int, Span]]:
    if resource.get("status") != "active" or resource.get("doNotPerform") is True:
        return
    start = _first(resource, ("authoredOn", "occurrenceDateTime"), zone)
    if start is None:
        return
    span = Span(start, start + policy.relation.request_days * _DAY)
    yield "order", owner, span
    for performer in resource.get("performer", ()):
        party = _organization(performer)
        if party != owner:
            yield "referral", party, span


def _task(resource: Json, owner: int, policy: Policy, zone: str) -> Iterator[tuple[str, int, Span]]:
    """A Task that asks another institution to carry out a request."""
    if resource.get("status") not in _OPEN_TASK or not _is_of_request(resource):
        return
    start = _first(resource, ("authoredOn", "lastModified"), zone)
    if start is None:
        return
    span = Span(start, start + policy.relation.request_days * _DAY)
    party = _organization(resource.get("owner", {}))
    if party and owner:
        yield "referral", party, span


def _is_of_request(resource: Json) -> bool:
    asked = [resource.get("focus", {}), *resource.get("basedOn", ())]
    return any(str(one.get("reference", "")).startswith("ServiceRequest/") for one in asked)


def _appointment(
    resource: Json, owner: int, policy: Policy, zone: str
) -> Iterator[tuple[str, int, Span]]:
    if resource.get("status") not in _KEPT_APPOINTMENT:
        return
    start = _first(resource, ("start",), zone)
    if start is None:
        return
    relation = policy.relation
    since = start - relation.appointment_days_before * _DAY
    if _booked_by(resource):  # here, so it is known since when
        since = min(since, _first(resource, ("created",), zone) or since)
    until = _end_of(resource, start, policy, zone) + relation.appointment_days_after * _DAY
    yield "appointment", owner, Span(since, until)


def _end_of(resource: Json, start: int, policy: Policy, zone: str) -> int:
    """When an appointment ends; one that never does lasts as long as a visit may."""
    end = _last(resource.get("end"), zone)
    return start if end is None else min(end, start + policy.relation.encounter_days * _DAY)


def _booked_by(resource: Json) -> int:
    """The institution at which an appointment was booked, 0 for none."""
    for one in resource.get("extension", ()):
        if one.get("url") == BOOKED_BY:
            return _organization(one.get("valueReference") or {})
    return 0


def _add_shared(resource: Json, derived: Derived, owner: int, policy: Policy, zone: str) -> None:
    """A booking is known to who made it and to who carries it out, whatever the consent: each sees
    this one row. It ends when nobody can have a question about it any more."""
    booked_by = _booked_by(resource)
    if not booked_by or not owner or resource.get("status") == "entered-in-error":
        return
    since = _first(resource, ("created",), zone) or 0
    last = _first(resource, ("start",), zone) or _waits_until(resource, zone) or since
    until = _end_of(resource, last, policy, zone) + policy.relation.encounter_days * _DAY
    for party in dict.fromkeys((booked_by, owner)):
        if until > since:
            derived.openings.append(Opening(0, party, "booking", -1, since, until))


def _add_answer(resource: Json, derived: Derived, policy: Policy, zone: str) -> None:
    """An answer to a booking is known to its institutions, which the gateway names in it."""
    start = _first(resource, ("start",), zone)
    if start is None:
        return
    until = _end_of(resource, start, policy, zone) + policy.relation.encounter_days * _DAY
    for one in resource.get("extension", ()):
        party = _organization(one.get("valueReference") or {})
        if party and one.get("url") == BOOKED_BY:
            derived.openings.append(Opening(0, party, "booking", -1, 0, until))


def _waits_until(resource: Json, zone: str) -> int | None:
    """Until when a waiting list may still offer something."""
    ends = [_last(one.get("end"), zone) for one in resource.get("requestedPeriod", ())]
    return max((end for end in ends if end is not None), default=None)


_Reader = Callable[[Json, int, Policy, str], Iterator[tuple[str, int, Span]]]
_READERS: Mapping[str, _Reader] = {
    "Encounter": _encounter,
    "EpisodeOfCare": _episode,
    "ServiceRequest": _request,
    "Task": _task,
    "Appointment": _appointment,
}


def obtained_at(encounter: Json) -> bool:
    """Whether an encounter says that the patient agreed in it."""
    found = (
        one.get("valueBoolean")
        for one in encounter.get("extension", ())
        if one.get("url") == CONSENT_OBTAINED
    )
    return next(found, False) is True


def _add_obtained(resource: Json, derived: Derived, owner: int, policy: Policy) -> None:
    """The consent that an encounter tells of: below whatever the person said in a Consent."""
    if not owner or not obtained_at(resource) or policy.rule().permits == "none":
        return
    for one in derived.openings:
        derived.consents.append(ConsentRow(owner, 0, 0, 0, True, one.since, one.until))


def _organization(reference: Json) -> int:
    text = str(reference.get("reference", ""))
    type, _, id = text.partition("/")
    return key64(text) if type == "Organization" and id and "/" not in id else 0


def _period(period: Json | None, zone: str) -> tuple[int | None, int | None]:
    period = period or {}
    return _first(period, ("start",), zone), _last(period.get("end"), zone)


def _first(resource: Json, names: tuple[str, ...], zone: str) -> int | None:
    """The first moment of the first of these elements that is there."""
    for name in names:
        if isinstance(text := resource.get(name), str):
            try:
                return date_range(text, zone)[0]
            except Invalid:
                return None
    return None


def _last(text: Any, zone: str) -> int | None:
    if not isinstance(text, str):
        return None
    try:
        return date_range(text, zone)[1] + 1
    except Invalid:
        return None
