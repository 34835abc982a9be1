"""SRM^S01 to S05 carried out: a booking request by v2 becomes a booking, a move or a cancellation.

Who sends is who books. The same verbs are called as by REST (book.py), so channels, quotas, limits
and persons are judged alike; what is refused is refused in the same words. A request is carried
out once for its MSH-10, however often it comes. The id of a booking follows from the placer's
number (ARQ-1): it is known by either number, and booked once. docs/booking-v2.md, docs/adr/0054
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from hashlib import sha256
from zoneinfo import ZoneInfo

from fhir_gateway.context import Gateway, new_id
from fhir_gateway.errors import (
    Conflict,
    Issue,
    NotFound,
    PreconditionFailed,
    Unprocessable,
)
from fhir_gateway.interactions.institutions import institutions
from fhir_gateway.interactions.intake import Sent, entries_of
from fhir_gateway.interactions.intake_merge import assigned_by_others
from fhir_gateway.interactions.letters import under_way
from fhir_gateway.interactions.reconcile import reconcile
from fhir_gateway.interactions.transaction import transaction
from fhir_gateway.mapping.ids import business_id
from fhir_gateway.mapping.v2_oru import Mapped
from fhir_gateway.mapping.v2_srm import Booking, BookingRequest, answer, map_request
from fhir_gateway.scheduling.amend import Amendment, amend
from fhir_gateway.scheduling.book import Booked, BookRequest, HoldRequest, book, cancel
from fhir_gateway.scheduling.move import rebook
from fhir_gateway.scheduling.seat_commit import Asked, answered
from fhir_gateway.scheduling.siu_taken_in import answer_of, take_in
from fhir_gateway.scheduling.srm_slot import (
    check_place_stays,
    orders_meant,
    slot_for_new,
    slot_to_move_to,
    where,
)
from fhir_gateway.scheduling.v2_kept import kept
from fhir_gateway.security.actor import SYSTEM_ACCESS, Actor

_PLACER = "srm-placer"
_DIGEST = 32
#: How often a Patient that others change meanwhile is planned anew.
_ATTEMPTS = 6


async def carry_out_request(gateway: Gateway, actor: Actor, sent: Sent) -> bytes | None:
    """Does what an SRM asks for, or what a hospital says by SIU of a booking of ours; the answer,
    once that is durable. None for an SIU about an appointment of the hospital's own.

    Raises what the mapper and the verbs raise, NotSupported for what no booking can do here.
    """
    if sent.header.kind != "SIU":
        return await _requested(gateway, actor, sent)
    told = await answer_of(gateway, sent)
    if told is None:
        return None
    return await kept(gateway, sent, await take_in(gateway, actor, sent, told), told.warnings)


async def _requested(gateway: Gateway, actor: Actor, sent: Sent) -> bytes:
    """The SRR of an SRM that was carried out."""
    folder = f"{gateway.settings.mappings}/v2"
    others = assigned_by_others(sent.sender, await institutions(gateway))
    request = map_request(sent.message, sent.sender, folder=folder, others=others)
    asked = Asked(f"SRM^{sent.header.event}", f"v2 {sent.key.hex()}", sent.digest, shared=True)
    done = await answered(gateway, actor, asked)  # carried out, and killed before its answer
    if done is None:
        done = await _VERBS[request.action](gateway, actor, sent, request, asked)
    said_so = _answer(gateway, sent, request, done, await where(gateway, done.resource))
    warnings = (*request.warnings, *_warned(done.told.issues))
    said_so = await kept(gateway, sent, said_so, warnings)
    gateway.count("booking_requests", 1)
    return said_so


def _answer(
    gateway: Gateway, sent: Sent, request: BookingRequest, done: Booked, place: tuple[str, str]
) -> bytes:
    """The SRR: the booking as it stands, and what should be known."""
    said = done.resource
    booking = Booking(
        request.placer,
        done.id,
        done.status,
        str(said.get("start", "")),
        str(said.get("end", "")),
        str(said.get("patientInstruction", ""))[:200],
        *place,
    )
    now = datetime.fromtimestamp(gateway.clock.now() // 1_000_000, ZoneInfo(sent.sender.zone))
    return answer(
        sent.header,
        booking,
        time=now.strftime("%Y%m%d%H%M%S%z"),
        control_id=new_id(gateway)[-20:],
        zone=sent.sender.zone,
        warnings=[*request.warnings, *_warned(done.told.issues)],
    )


def _warned(issues: tuple[Issue, ...]) -> list[Issue]:
    """Warnings of booking: their places are those of parameters, which no v2 sender knows."""
    return [replace(one, expression=None) for one in issues]


# -- the verbs ------------------------------------------------------------------------------------


async def _new(
    gateway: Gateway, actor: Actor, sent: Sent, request: BookingRequest, asked: Asked
) -> Booked:
    if await _by_placer(gateway, sent, request.placer):
        raise _placed()
    patient = await _patient(gateway, actor, sent, request)
    slot = await slot_for_new(gateway, actor, sent, request, patient)
    based_on, warnings = await orders_meant(gateway, actor, request, patient)
    take = HoldRequest(
        slot, patient, based_on, reason=request.reason or None, comment=request.note,
        id=_placed_id(sent, request.placer),
    )  # fmt: skip
    try:
        done = await book(gateway, actor, BookRequest(take=take), asked)
    except Conflict as error:
        raise _placed() if error.issues[0].rule == "appointment-exists" else error from None
    request.warnings.extend(warnings)
    return done


def _placed() -> Conflict:
    return Conflict(
        "This placer number (ARQ-1) has a booking already: move it by S02, cancel it by S04, or "
        "take a new number for a new booking",
        expression="ARQ[1]-1",
        rule="srm-placer",
    )


def _placed_id(sent: Sent, placer: str) -> str:
    """The logical id of what is booked under a placer's number: two at once cannot both be."""
    return business_id(sent.sender.id, "Appointment", "srm", placer)


async def _move(
    gateway: Gateway, actor: Actor, sent: Sent, request: BookingRequest, asked: Asked
) -> Booked:
    id = await _booking(gateway, actor, sent, request)
    slot = await slot_to_move_to(gateway, actor, sent, request, id)
    return await rebook(gateway, actor, id, slot, asked)


async def _cancel(
    gateway: Gateway, actor: Actor, sent: Sent, request: BookingRequest, asked: Asked
) -> Booked:
    id = await _booking(gateway, actor, sent, request)
    text = str((request.reason or {}).get("text", "")) or request.note
    return await cancel(gateway, actor, id, asked, text=text)


async def _modify(
    gateway: Gateway, actor: Actor, sent: Sent, request: BookingRequest, asked: Asked
) -> Booked:
    id = await _booking(gateway, actor, sent, request)
    patient = await check_place_stays(gateway, actor, sent, request, id)
    based_on, warnings = await orders_meant(gateway, actor, request, patient)
    said = Amendment(request.reason or None, request.note, based_on)
    if not any(said):
        raise Unprocessable(
            "S03 changes why the patient comes (ARQ-7), remarks (NTE) or the order (ARQ-24), and "
            "none is said: move a booking by S02, cancel it by S04",
            expression="ARQ[1]-7",
            rule="srm-modify",
        )
    done = await amend(gateway, actor, id, said, asked)
    request.warnings.extend(warnings)
    return done


_VERBS = {
    "new": _new, "reschedule": _move, "modify": _modify, "cancel": _cancel, "discontinue": _cancel,
}  # fmt: skip


# -- which booking, which person, which slot ------------------------------------------------------


async def _by_placer(gateway: Gateway, sent: Sent, placer: str) -> str:
    """The Appointment that a placer's number of this sender names, "" for a number that is new."""
    if not placer:
        return ""
    id = _placed_id(sent, placer)
    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        if await reader.read("Appointment", id) is not None:
            return id
        before = await reader.once(_PLACER, _placer_key(sent, placer))  # as it was kept before
    return before[_DIGEST:].decode() if before is not None else ""


def _placer_key(sent: Sent, placer: str) -> bytes:
    return sha256("\x1f".join(("srm", sent.sender.id, placer)).encode()).digest()


async def _booking(gateway: Gateway, actor: Actor, sent: Sent, request: BookingRequest) -> str:
    """The logical id of the booking that is meant: by our number (ARQ-2), else by the sender's."""
    known = await _by_placer(gateway, sent, request.placer)
    if request.filler and known and known != request.filler:
        raise Unprocessable(
            "ARQ-1 and ARQ-2 name two bookings; send the number of one, or both of the same",
            expression="ARQ[1]-2",
            rule="srm-numbers",
        )
    if not request.filler and not known:
        raise NotFound(
            "No booking has this placer number (ARQ-1); send our number in ARQ-2, which stands in "
            "SCH-2 of the answer to its request",
            expression="ARQ[1]-1",
            rule="srm-placer",
        )
    await _check_person(gateway, actor, request, request.filler or known)
    return request.filler or known


async def _check_person(gateway: Gateway, actor: Actor, request: BookingRequest, id: str) -> None:
    """Raises Unprocessable where the message names another person than the booking is for."""
    patient = request.patient.partition("/")[2]
    if not patient:
        return
    async with gateway.store.snapshot(SYSTEM_ACCESS) as whole:
        stored = await whole.under(actor.access).read("Appointment", id)
        person = await whole.person(patient)
    if stored is None or stored.deleted:
        return  # that there is none says whoever changes it
    if person is None or stored.home not in (person.homes or (person.home,)):
        raise Unprocessable(
            "The booking is for another person than PID names: nothing was changed. Check the "
            "number of the booking, or leave PID out",
            expression="PID[1]-3",
            rule="appointment-other-person",
        )


async def _patient(gateway: Gateway, actor: Actor, sent: Sent, request: BookingRequest) -> str:
    """The Patient that the message describes, stored first as any message of the sender stores
    one; its logical id."""
    folder, naming = f"{gateway.settings.mappings}/v2", gateway.extractor.naming
    people = [one for one in request.resources if one["resourceType"] == "Patient"]
    mapped = Mapped(people, [], [])
    letter = under_way()
    for _ in range(_ATTEMPTS):
        async with gateway.store.snapshot(actor.access) as reader:
            plan = await reconcile(reader, mapped, sent.sender, folder=folder, naming=naming)
        try:
            if letter is not None:
                letter.part = True  # the request is registered with its booking, not before
            await transaction(gateway, actor, entries_of(plan, "v2"), only_if_changed=True)
        except PreconditionFailed:
            continue
        finally:
            if letter is not None:
                letter.part = False
        return request.patient.partition("/")[2]
    raise Conflict("Other messages change the same patient; send it again", rule="overtaken")
