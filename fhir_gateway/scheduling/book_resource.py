"""Appointment/$book with the whole Appointment, as IHE Scheduling lets a client book and change.

`status` says what is meant: pending (or proposed) books a seat, by the number of a proposal, by a
hold or by `slot`; booked changes what is booked, to another Slot or in what it says; cancelled
cancels it. Each is the verb of that name; what the resource says beside is not taken over.
profiles.ihe.net/ITI/Scheduling 1.0 (appointment-book), docs/booking.md, docs/adr/0058
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from fhir_gateway.context import Gateway
from fhir_gateway.errors import GatewayError, Invalid, Unprocessable
from fhir_gateway.fhir.datatypes import Reference, date_range, parse_reference
from fhir_gateway.fhir.wire import parse
from fhir_gateway.scheduling.alternatives import with_alternatives
from fhir_gateway.scheduling.amend import Amendment, amend
from fhir_gateway.scheduling.appointment import CANCEL_REASONS, cancel_reasons
from fhir_gateway.scheduling.book import BookRequest, HoldRequest, book, cancel
from fhir_gateway.scheduling.booking_parties import view_of
from fhir_gateway.scheduling.move import rebook
from fhir_gateway.scheduling.proposal import Proposal, is_proposal, read_proposal
from fhir_gateway.scheduling.seat_commit import Asked, Done
from fhir_gateway.security.actor import SYSTEM_ACCESS, Actor
from fhir_gateway.store.claim_refusals import refused

Json = Mapping[str, Any]

PARAMETER = "appointment-resource"


class Said(NamedTuple):
    """What an Appointment says: logical ids and "" for what it does not name, its begin in µs."""

    status: str
    id: str
    slot: str
    patient: str
    orders: tuple[str, ...]  # references
    reason: Json | None
    comment: str
    start: int


async def book_resource(
    gateway: Gateway, actor: Actor, resource: Json, asked: Asked, base: str = ""
) -> Done:
    """What an Appointment asks for by its status; `base` is the address that the caller knows.

    Raises Invalid for one that asks for nothing here, and what the verbs raise.
    """
    said = _said(gateway, resource, base)
    if said.status == "cancelled":
        _check_patient(said, await _stored(gateway, actor, _known(said.id)), gateway)
        concept: Json = resource.get("cancelationReason") or {}
        reason, words = _reason(concept), str(concept.get("text") or "") or said.comment
        return await cancel(gateway, actor, said.id, asked, reason=reason, text=words)
    if said.status == "booked":
        return await _changed(gateway, actor, said, asked)
    if said.status not in ("pending", "proposed"):
        text = f"status {said.status} asks for nothing here: say pending to book, booked to change "
        raise _wrong("status", f"{text}what is booked, cancelled to cancel it")
    if said.id and not is_proposal(said.id) and await _stored(gateway, actor, said.id):
        request = BookRequest(said.id, None, said.orders, said.comment, said.patient)
        return await book(gateway, actor, request, asked)
    return await _taken(gateway, actor, said, asked)


async def _taken(gateway: Gateway, actor: Actor, said: Said, asked: Asked) -> Done:
    """A new booking of the Slot, or of the proposal, that is named."""
    proposal = Proposal(said.slot)
    async with gateway.store.snapshot(SYSTEM_ACCESS) as whole:
        if is_proposal(said.id):
            proposal = await read_proposal(gateway, actor, whole, said.id)
        view = await view_of(whole, proposal.slot) if proposal.slot else None
    if not proposal.slot:
        raise _wrong("slot", "slot names what is to be booked: a Slot that $find gave")
    others = ((said.slot, proposal.slot), (said.patient, proposal.patient))
    if any(one and other and one != other for one, other in others):
        raise _wrong("id", "The proposal was made for another Slot or patient; leave the id out, "
                     "or send the proposal as $find gave it")  # fmt: skip
    patient = said.patient or proposal.patient or (actor.patient if actor.role == "patient" else "")
    if not patient:
        raise _wrong("participant", "A participant names the Patient who is to come")
    if view is not None and said.start not in (0, view.slot.start):
        raise refused("slot-changed", expression=f"{PARAMETER}.start")
    orders = said.orders or proposal.orders
    take = HoldRequest(proposal.slot, patient, orders, said.reason, said.comment)
    try:
        return await book(gateway, actor, BookRequest(take=take), asked)
    except GatewayError as error:
        raise await with_alternatives(gateway, actor, take, error) from None


async def _changed(gateway: Gateway, actor: Actor, said: Said, asked: Asked) -> Done:
    """A booking at another Slot, or one that says something else."""
    id = _known(said.id)
    stored = await _stored(gateway, actor, id)
    before = _said(gateway, stored, "") if stored else None
    if said.slot and (before is None or said.slot != before.slot):
        try:
            return await rebook(gateway, actor, id, said.slot, asked, patient=said.patient,
                                across=True)  # fmt: skip
        except GatewayError as error:
            raise await with_alternatives(
                gateway, actor, HoldRequest(said.slot, ""), error
            ) from None
    _check_patient(said, stored, gateway)
    if before is not None and said.start not in (0, before.start):
        raise _wrong("start", "A booking moves to another Slot: name it in slot, with its times")
    return await amend(gateway, actor, id, Amendment(
        said.reason if before is None or said.reason != before.reason else None,
        said.comment if before is None or said.comment != before.comment else "",
        said.orders if before is None or said.orders != before.orders else (),
    ), asked)  # fmt: skip


def _reason(concept: Json) -> str:
    """The code of why it is cancelled, "" for none. Raises Invalid for one that the system does not
    have; codes of other systems say it beside."""
    for one in concept.get("coding") or ():
        if one.get("system") == CANCEL_REASONS or not one.get("system"):
            code = str(one.get("code") or "")
            if code in cancel_reasons():
                return code
            raise _wrong("cancelationReason", f"This is no code of {CANCEL_REASONS}; take pat, "
                         "prov, maint or other, and say the rest in text")  # fmt: skip
    return ""


def _check_patient(said: Said, stored: Json, gateway: Gateway) -> None:
    """Raises Unprocessable where the Appointment that is meant is another patient's."""
    if stored and said.patient not in ("", _said(gateway, stored, "").patient):
        raise Unprocessable(
            "The appointment is another person's; name the patient that it was made for",
            expression=f"{PARAMETER}.participant",
            rule="appointment-other-person",
        )


async def _stored(gateway: Gateway, actor: Actor, id: str) -> dict[str, Any]:
    """The Appointment as the caller sees it, {} for none."""
    async with gateway.store.snapshot(actor.access) as own:
        stored = await own.read("Appointment", id)
    return {} if stored is None or stored.deleted else parse(stored.whole())


def _said(gateway: Gateway, resource: Json, base: str) -> Said:
    slots = _named(resource.get("slot"), base, "slot", "Slot")
    if len(slots) > 1:
        raise _wrong("slot", "One Appointment has one Slot here: book the others by their own")
    actors = [one.get("actor") for one in resource.get("participant") or ()]
    patients = [one for one in actors if "Patient/" in str((one or {}).get("reference"))]
    people = _named(patients, base, "participant", "Patient")
    if len({one.id for one in people}) > 1:
        raise _wrong("participant", "One Appointment is for one Patient here: name one")
    orders = _named(resource.get("basedOn"), base, "basedOn", "ServiceRequest")
    start = resource.get("start")
    return Said(
        str(resource.get("status", "")),
        str(resource.get("id") or ""),
        next((one.id for one in slots), ""),
        next((one.id for one in people), ""),
        tuple(one.key for one in orders),
        next(iter(resource.get("reasonCode") or ()), None),
        str(resource.get("comment") or "").strip(),
        date_range(start, gateway.settings.zone)[0] if isinstance(start, str) else 0,
    )


def _named(values: Any, base: str, element: str, type: str) -> list[Reference]:
    """References of this server. Raises Invalid for any other: it would be left out."""
    found = []
    for one in values or ():
        reference = parse_reference(str((one or {}).get("reference") or ""), base)
        if not isinstance(reference, Reference) or reference.type != type:
            raise _wrong(element, f"{element} names a {type} of this server, as {type}/[id]")
        found.append(reference)
    return found


def _known(id: str) -> str:
    if not id:
        raise _wrong("id", "id names the Appointment that is to be changed")
    return id


def _wrong(element: str, text: str) -> Invalid:
    return Invalid(text, expression=f"{PARAMETER}.{element}", rule="book-resource")
