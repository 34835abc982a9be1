"""SRM^S01 to S05 carried out: a booking request by v2 becomes a booking, a move or a cancellation.

Who sends is who books. The same verbs are called as by REST (book.py), so channels, quotas, limits
and persons are judged alike; what is refused is refused in the same words. A request is carried
out once for its MSH-10, however often it comes. The placer's number (ARQ-1) is kept beside the
booking, so that it is known by either number afterwards. docs/booking-v2.md, docs/adr/0054
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from hashlib import sha256
from typing import Any
from zoneinfo import ZoneInfo

from fhir_gateway.context import Gateway, new_id
from fhir_gateway.errors import (
    Conflict,
    Issue,
    NotFound,
    NotSupported,
    PreconditionFailed,
    Unprocessable,
)
from fhir_gateway.fhir.datatypes import date_range
from fhir_gateway.interactions.institutions import institutions
from fhir_gateway.interactions.intake import ONCE_KIND, V2_MEDIA, Sent, entries_of
from fhir_gateway.interactions.intake_merge import assigned_by_others
from fhir_gateway.interactions.letters import stored_row, under_way
from fhir_gateway.interactions.local_codes import follow
from fhir_gateway.interactions.prepare import add_codings
from fhir_gateway.interactions.reconcile import reconcile
from fhir_gateway.interactions.transaction import transaction
from fhir_gateway.mapping.v2_oru import Mapped
from fhir_gateway.mapping.v2_schedule_out import OUR_SYSTEM
from fhir_gateway.mapping.v2_srm import Booking, BookingRequest, answer, map_request
from fhir_gateway.scheduling.book import Booked, BookRequest, HoldRequest, book, cancel
from fhir_gateway.scheduling.find import FindRequest, find
from fhir_gateway.scheduling.move import rebook
from fhir_gateway.scheduling.seat_commit import Asked
from fhir_gateway.security.actor import SYSTEM_ACCESS, Actor
from fhir_gateway.store.blobs import pack
from fhir_gateway.store.changes import ChangeSet, Once, Received
from fhir_gateway.terminology.catalogue import SYSTEMS

_PLACER = "srm-placer"
_DIGEST = 32
#: µs in which a slot is looked for that the request gave no end for, and offers that are looked at.
_DAYS, _MOST = 30 * 86_400_000_000, 50

#: How often a Patient that others change meanwhile is planned anew.
_ATTEMPTS = 6


async def carry_out_request(gateway: Gateway, actor: Actor, sent: Sent) -> bytes:
    """Does what an SRM asks for; the SRR that says so, once that is durable.

    Raises what the mapper and the verbs raise, NotSupported for what no booking can do here.
    """
    folder = f"{gateway.settings.mappings}/v2"
    others = assigned_by_others(sent.sender, await institutions(gateway))
    request = map_request(sent.message, sent.sender, folder=folder, others=others)
    asked = Asked(f"SRM^{sent.header.event}", f"v2 {sent.key.hex()}", sent.digest)
    done = await _VERBS[request.action](gateway, actor, sent, request, asked)
    said_so = _answer(gateway, sent, request, done)
    await _register(gateway, sent, request, done, said_so)
    gateway.count("booking_requests", 1)
    return said_so


def _answer(gateway: Gateway, sent: Sent, request: BookingRequest, done: Booked) -> bytes:
    """The SRR: the booking as it stands, and what should be known."""
    said = done.resource
    booking = Booking(
        request.placer,
        done.id,
        done.status,
        str(said.get("start", "")),
        str(said.get("end", "")),
        str(said.get("patientInstruction", ""))[:200],
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
    known = await _by_placer(gateway, sent, request.placer)
    if known is not None and known[1] != sent.digest:
        raise Conflict(
            "This placer number (ARQ-1) has a booking already: move it by S02, cancel it by S04, "
            "or take a new number for a new booking",
            expression="ARQ[1]-1",
            rule="srm-placer",
        )
    patient = await _patient(gateway, actor, sent, request)
    slot = request.slot.partition("/")[2]
    if not slot and known is None:
        slot = await _free(gateway, actor, sent, request, patient)
    take = HoldRequest(
        slot or "repeat", patient, reason=request.reason or None, comment=request.note
    )
    return await book(gateway, actor, BookRequest(take=take), asked)


async def _move(
    gateway: Gateway, actor: Actor, sent: Sent, request: BookingRequest, asked: Asked
) -> Booked:
    id = await _booking(gateway, sent, request)
    slot = request.slot.partition("/")[2]
    if not slot:
        slot = await _free(gateway, actor, sent, request, "", moving=id)
    return await rebook(gateway, actor, id, slot, asked)


async def _cancel(
    gateway: Gateway, actor: Actor, sent: Sent, request: BookingRequest, asked: Asked
) -> Booked:
    id = await _booking(gateway, sent, request)
    text = str((request.reason or {}).get("text", "")) or request.note
    return await cancel(gateway, actor, id, asked, text=text)


async def _modify(
    gateway: Gateway, actor: Actor, sent: Sent, request: BookingRequest, asked: Asked
) -> Booked:
    raise NotSupported(
        "What a booking says is not changed by S03: move it by S02, or cancel it by S04 and ask "
        "for a new one by S01",
        expression="MSH[1]-9.2",
        rule="srm-modify",
    )


_VERBS = {
    "new": _new, "reschedule": _move, "modify": _modify, "cancel": _cancel, "discontinue": _cancel,
}  # fmt: skip


# -- which booking, which person, which slot ------------------------------------------------------


async def _by_placer(gateway: Gateway, sent: Sent, placer: str) -> tuple[str, bytes] | None:
    """The Appointment that a placer's number of this sender names, and the digest of the message
    that made it; None for a number that is new."""
    if not placer:
        return None
    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        kept = await reader.once(_PLACER, _placer_key(sent, placer))
    return (kept[_DIGEST:].decode(), kept[:_DIGEST]) if kept is not None else None


def _placer_key(sent: Sent, placer: str) -> bytes:
    return sha256("\x1f".join(("srm", sent.sender.id, placer)).encode()).digest()


async def _booking(gateway: Gateway, sent: Sent, request: BookingRequest) -> str:
    """The logical id of the booking that is meant: by our number (ARQ-2), else by the sender's."""
    known = await _by_placer(gateway, sent, request.placer)
    if request.filler:
        if known is not None and known[0] != request.filler:
            raise Unprocessable(
                "ARQ-1 and ARQ-2 name two bookings; send the number of one, or both of the same",
                expression="ARQ[1]-2",
                rule="srm-numbers",
            )
        return request.filler
    if known is None:
        raise NotFound(
            "No booking has this placer number (ARQ-1); send our number in ARQ-2, which stands in "
            "SCH-2 of the answer to its request",
            expression="ARQ[1]-1",
            rule="srm-placer",
        )
    return known[0]


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


async def _free(
    gateway: Gateway, actor: Actor, sent: Sent, request: BookingRequest, patient: str,
    moving: str = "",
) -> str:  # fmt: skip
    """The earliest Slot that fits what is asked for. Raises Unprocessable when there is none."""
    start, end, exact = _times(gateway, sent, request)
    items = await _items(gateway, sent, request)
    if request.services and not items:
        raise Unprocessable(
            "The service of AIS-3 is none of the catalogue, and no local code map of yours knows "
            "it: send its catalogue code, map it, or name a slot in ARQ-5",
            expression="AIS[1]-3",
            rule="srm-service",
        )
    schedule = request.schedule.partition("/")[2]
    wanted = FindRequest(
        start, end, items=items, patient=patient, schedules=(schedule,) if schedule else (),
        limit=_MOST if exact else 1,
    )  # fmt: skip
    found = await find(gateway, actor, wanted)
    offers = [one for one in found.offers if not exact or one.free.place[0] == start]
    if not offers:
        hints = [replace(one, severity="error", expression="ARQ[1]-11") for one in found.hints]
        raise Unprocessable(issues=tuple(hints) or (_nothing_free(),))
    return offers[0].id


def _nothing_free() -> Issue:
    text = "Nothing that your channels sell is free then: ask for another time, or a wider range"
    return Issue("business-rule", text, "ARQ[1]-11", "slot-none")


def _times(gateway: Gateway, sent: Sent, request: BookingRequest) -> tuple[int, int, bool]:
    """From when until when (µs) a slot is looked for, and whether it has to begin just then."""
    zone, now = sent.sender.zone, gateway.clock.now()
    if request.start:
        start = date_range(request.start, zone)[0]
        return start, start + 1, True
    start = max(now, date_range(request.since, zone)[0]) if request.since else now
    until = date_range(request.until, zone)[1] + 1 if request.until else start + _DAYS
    return start, max(until, start + 1), False


async def _items(gateway: Gateway, sent: Sent, request: BookingRequest) -> tuple[str, ...]:
    """Catalogue codes of the services: by their coding system, or as the sender's map knows them.

    A catalogue code is sent as `code^name^99GW`, as our own SIU writes it.
    """
    await follow(gateway, sent.sender.id)
    known = gateway.local_codes.catalogue.items if gateway.local_codes is not None else {}
    found: dict[str, None] = {}
    for segment in sent.message.segments:
        if segment.name == "AIS" and segment.text(3, 3) == OUR_SYSTEM and segment.text(3) in known:
            found.setdefault(segment.text(3))
    for service in request.services:
        order: dict[str, Any] = {"resourceType": "ServiceRequest", "code": service}
        add_codings(gateway, order, sent.sender.id)
        for coding in order["code"].get("coding", ()):
            if coding.get("system") in SYSTEMS and coding.get("code"):
                found.setdefault(str(coding["code"]))
    return tuple(found)


# -- the register of messages ---------------------------------------------------------------------


async def _register(
    gateway: Gateway, sent: Sent, request: BookingRequest, done: Booked, said: bytes
) -> None:
    """Keeps the placer's number of a new booking, then the message with its bytes and its answer.

    Whoever is killed before carries the request out again when it is repeated: the verbs know it.
    """
    store = gateway.store
    if request.action == "new":
        once = Once(_PLACER, _placer_key(sent, request.placer), sent.digest + done.id.encode())
        await store.commit(ChangeSet(id=gateway.random(16), once=once))
    change_set = ChangeSet(
        id=gateway.random(16),
        once=Once(ONCE_KIND, sent.key, sent.digest + said),
        received=[Received(sent.digest, V2_MEDIA, *pack(sent.raw))],
    )
    if (letter := under_way()) is not None:
        letter.warnings, letter.code = (*request.warnings, *_warned(done.told.issues)), "AA"
        letter.ack, letter.told = said, True
        change_set.messages = [stored_row(letter, (), ())]
    await store.commit(change_set)
