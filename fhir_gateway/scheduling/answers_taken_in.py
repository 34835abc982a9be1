"""An AppointmentResponse that somebody writes about a booking: it is the step that it says.

The hospital accepts or declines what it is asked for, the patient or who booked declines what was
booked: the answer and what becomes of the Appointment are one commit, by the same tables and claims
as `$confirm`, `$refuse` and `$cancel`. What is no such step is refused with the operation that is;
another time that is proposed is kept, and changes nothing. An answer stays as it was given.
hl7.org/fhir/R4/appointmentresponse.html, docs/booking.md, docs/adr/0058
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fhir_gateway.audit.events import booking_event
from fhir_gateway.context import Gateway
from fhir_gateway.errors import Conflict, Forbidden, Unprocessable
from fhir_gateway.fhir.datatypes import Reference, parse_reference
from fhir_gateway.fhir.wire import parse
from fhir_gateway.interactions.audit import call_of, entry
from fhir_gateway.interactions.narrowing import insufficient, scopes_of
from fhir_gateway.interactions.steps import Guards, Step
from fhir_gateway.scheduling import extensions as ext
from fhir_gateway.scheduling import states
from fhir_gateway.scheduling.appointment import meta_of
from fhir_gateway.scheduling.book import plan_cancel
from fhir_gateway.scheduling.booking_answer import institutions_of
from fhir_gateway.scheduling.booking_parties import Stands, parties_of, stands
from fhir_gateway.scheduling.freed import settled
from fhir_gateway.scheduling.seat_commit import Asked, Planned, Sources, pieces_of
from fhir_gateway.scheduling.visit import Said, plan_step
from fhir_gateway.security import scopes as smart
from fhir_gateway.security.actor import Actor
from fhir_gateway.store.changes import Entry

Json = Mapping[str, Any]

TYPE = "AppointmentResponse"

_KEPT = "An answer to a booking stays as it was given: give another one"
_HOSPITALS = ("HealthcareService", "Location", "Device")


async def take_answer(
    gateway: Gateway, actor: Actor, sources: Sources, step: Step, before: Json | None,
    guards: Guards,
) -> None:  # fmt: skip
    """Judges an answer, and adds to the write what becomes of the booking.

    Raises Forbidden, Conflict and Unprocessable with the operation that does what is meant.
    """
    if before is not None and ext.value_of(before, ext.BOOKED_BY):
        raise Forbidden(_KEPT, expression=step.root, rule="booking-governed")
    if step.resource is None:
        return
    one = await _booking(gateway, sources, step)
    if one is None:
        return
    if before is not None:
        raise Forbidden(_KEPT, expression=step.root, rule="booking-governed")
    parties = parties_of(actor, one)
    _check_actor(step, one, parties)
    verb = _verb(step, one, parties)
    marks = institutions_of(one)
    others = [x for x in step.resource.get("extension", ()) if x.get("url") != ext.BOOKED_BY]
    step.resource["extension"] = [*others, *marks]
    for name in ("start", "end"):
        step.resource.setdefault(name, one.resource.get(name))
    if one.said.labels:  # what is said of a sensitive booking is as sensitive
        meta = step.resource.setdefault("meta", {})
        meta["security"] = meta_of("", step.resource, one.resource)["security"]
    if verb:
        await _check_scopes(gateway, actor, sources, one)
        planned = await _planned(gateway, actor, sources, one, verb, step.resource)
        _add(gateway, actor, guards, Asked(f"${verb}"), planned, step)
        await _settle(gateway, sources, guards, planned)
    elif gateway.audit:
        guards.journal.append(_told(gateway, actor, one, step.resource))


def _told(gateway: Gateway, actor: Actor, one: Stands, answer: Json) -> Entry:
    """The AuditEvent of an answer that changes nothing, so that the patient finds it."""
    event = booking_event(
        call_of(gateway, actor), id=one.stored.id, version=one.stored.version,
        patient=one.said.patient, operation="answer",
        summary=f"answer {answer.get('participantStatus', '')}",
    )  # fmt: skip
    return entry(gateway, event, patient=one.said.patient)


async def _booking(gateway: Gateway, sources: Sources, step: Step) -> Stands | None:
    """The booking that is answered; None where the answer is about another Appointment."""
    resource: Json = step.resource or {}
    found = parse_reference(str((resource.get("appointment") or {}).get("reference") or ""))
    stored = None
    if isinstance(found, Reference) and found.type == "Appointment":
        stored = await sources.whole.read("Appointment", found.id)
    if stored is None or stored.deleted or not _is_booked_here(parse(stored.whole())):
        if ext.value_of(resource, ext.BOOKED_BY):
            raise Forbidden(
                "Which institutions a booking has is said by the gateway alone: leave it out",
                expression=f"{step.root}.extension",
                rule="booking-governed",
            )
        return None
    return await stands(sources.own, sources.whole, stored.id, zone=gateway.settings.zone)


def _is_booked_here(appointment: Json) -> bool:
    return any(ext.value_of(appointment, url) for url in (ext.CHANNEL, ext.BOOKED_BY))


def _check_actor(step: Step, one: Stands, parties: Sequence[str]) -> None:
    """Nobody answers for another one."""
    resource: Json = step.resource or {}
    text = str((resource.get("actor") or {}).get("reference") or "")
    actor = parse_reference(text) if text else None
    named = actor if isinstance(actor, Reference) else None
    if named is not None and named.type == "Patient" and named.id != one.said.patient:
        raise Unprocessable(
            "The appointment is another person's; name the patient that it was made for",
            expression=f"{step.root}.actor",
            rule="appointment-other-person",
        )
    if not parties:
        raise Forbidden(
            "Only the patient, the institution that booked and the hospital answer to this "
            "appointment",
            expression=step.root,
            rule="appointment-party",
        )
    if named is not None and _is_hospitals(named, one) and states.HOSPITAL not in parties:
        raise Forbidden(
            f"A {named.type} answers for the hospital, which you are not: name the patient",
            expression=f"{step.root}.actor",
            rule="appointment-party",
        )


def _is_hospitals(actor: Reference, one: Stands) -> bool:
    """Whether an actor answers for the hospital: its services, places and machines, and whoever
    takes part for it."""
    taking_part = [each.get("actor") or {} for each in one.resource.get("participant") or ()]
    named = {str(each.get("reference", "")) for each in taking_part}
    return actor.type in _HOSPITALS or (actor.type != "Patient" and actor.key in named)


def _verb(step: Step, one: Stands, parties: Sequence[str]) -> str:
    """The step that an answer is, "" where nothing becomes of it."""
    said = str((step.resource or {}).get("participantStatus", ""))
    status, is_hold = one.said.status, bool(one.said.marks.hold_until)
    if said not in ("accepted", "declined"):
        return ""  # another time that is proposed, or no answer yet
    if status in states.OVER:
        raise Conflict(f"This appointment is {status}; there is nothing to answer any more",
                       expression=step.root, rule="appointment-state")  # fmt: skip
    if status == "waitlist":
        raise _named(step, "An offer of the waiting list is taken by Appointment/$book, and "
                     "declined by Appointment/[id]/$decline")  # fmt: skip
    if said == "accepted" and is_hold:
        raise _named(step, "This seat is held and not booked: book it by Appointment/$book")
    return states.ANSWER.get((said, status, states.HOSPITAL in parties), "")


def _named(step: Step, text: str) -> Unprocessable:
    return Unprocessable(text, expression=f"{step.root}.participantStatus", rule="booking-answer")


async def _check_scopes(gateway: Gateway, actor: Actor, sources: Sources, one: Stands) -> None:
    """Who changes a booking by an answer needs what the operation would need (booking_scopes.py);
    on this snapshot, which holds its connection."""
    if actor.scopes is None:
        return
    grant = smart.allowed(scopes_of(gateway, actor), "Appointment", "u", smart.levels_of(actor))
    if isinstance(grant, smart.Refused):
        raise insufficient(grant.needs)
    if isinstance(grant, smart.Whole):
        return
    person = await sources.whole.person(actor.patient) if actor.patient else None
    if person is None or one.stored.home not in (person.homes or (person.home,)):
        raise Forbidden("This token is bound to another patient", rule="launch-patient")


async def _planned(
    gateway: Gateway, actor: Actor, sources: Sources, one: Stands, verb: str, answer: Json
) -> Planned:
    text = str(answer.get("comment") or "")
    if verb == "cancel":
        return await plan_cancel(gateway, actor, one.stored.id, sources, text=text)
    said = Said(one.stored.id, verb, text=text, answered=False)
    return await plan_step(gateway, actor, said, sources)


def _add(
    gateway: Gateway, actor: Actor, guards: Guards, asked: Asked, planned: Planned, step: Step
) -> None:
    """The step goes into the commit of the answer."""
    pieces = pieces_of(gateway, actor, asked, planned)
    there = {(put.type, put.id) for put in guards.puts}
    if there & {(put.type, put.id) for put in pieces.puts}:
        raise Unprocessable(
            "Two answers of one request are about the same booking or the same Slot: send them "
            "one after the other",
            expression=step.root,
            rule="booking-answer",
        )
    guards.puts += pieces.puts
    guards.claims += planned.claims
    guards.journal += pieces.journal
    guards.counts += [planned.counts] if planned.counts else []
    for guard in pieces.guards:
        guards.add(guard, ours=True)


async def _settle(gateway: Gateway, sources: Sources, guards: Guards, planned: Planned) -> None:
    """Whoever gives up a seat that was withdrawn is asked no more to book it anew."""
    if planned.freed is None:
        return
    done = await settled(gateway, sources.whole, planned.freed)
    if done.task is not None and done.guard is not None:
        guards.puts.append(done.task)
        guards.add(done.guard, ours=True)
