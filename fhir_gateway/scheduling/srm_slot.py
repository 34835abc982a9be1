"""Which Slot an SRM means: the one that it names, or the earliest that fits what it asks for.

A service is sent with a local code that is mapped, or with a catalogue code as `code^name^99GW`,
as our own SIU writes it. Several services are wanted in one visit, so a Slot has to be for all of
them. What the message says beside a Slot that it names has to be true of that Slot. What moves
stays at its hospital and, where no service is said, with its own. docs/booking-v2.md
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from fhir_gateway.context import Gateway
from fhir_gateway.errors import Issue, NotFound, Unprocessable
from fhir_gateway.fhir.datatypes import date_range
from fhir_gateway.interactions.institutions import institutions
from fhir_gateway.interactions.intake import Sent
from fhir_gateway.interactions.local_codes import follow
from fhir_gateway.interactions.prepare import add_codings
from fhir_gateway.mapping.v2_schedule_out import OUR_SYSTEM
from fhir_gateway.mapping.v2_srm import BookingRequest
from fhir_gateway.scheduling.booking_parties import stands, view_of
from fhir_gateway.scheduling.booking_person import orders_seen, person_of
from fhir_gateway.scheduling.find import FindRequest, find
from fhir_gateway.security.actor import SYSTEM_ACCESS, Actor
from fhir_gateway.store.slot_view_sql import SlotView
from fhir_gateway.terminology.catalogue import SYSTEMS

#: µs in which a slot is looked for that the request gave no end for, and offers that are looked at.
_DAYS, _MOST = 30 * 86_400_000_000, 50


class Wanted(NamedTuple):
    """What is asked for: of each service its catalogue codes; and the booking that moves."""

    services: Sequence[frozenset[str]] = ()
    moving: SlotView | None = None
    patient: str = ""

    @property
    def items(self) -> tuple[str, ...]:
        """All catalogue codes."""
        return tuple(sorted(frozenset[str]().union(*self.services)))

    def fits(self, items: Sequence[str]) -> bool:
        """Whether a Slot of these items is for every service."""
        return all(one & set(items) for one in self.services)


async def slot_for_new(
    gateway: Gateway, actor: Actor, sent: Sent, request: BookingRequest, patient: str
) -> str:
    """The logical id of the Slot for a new booking. Raises Unprocessable when there is none."""
    wanted = Wanted(await _services(gateway, sent, request), patient=patient)
    return await _named(gateway, request, wanted) or await _free(
        gateway, actor, sent, request, wanted
    )


async def slot_to_move_to(
    gateway: Gateway, actor: Actor, sent: Sent, request: BookingRequest, id: str
) -> str:
    """The logical id of the Slot to which a booking moves. Raises NotFound for a booking that the
    sender does not see, Unprocessable when there is none."""
    services = await _services(gateway, sent, request)
    async with gateway.store.snapshot(SYSTEM_ACCESS) as whole:
        one = await stands(whole.under(actor.access), whole, id, zone=gateway.settings.zone)
    if not services and one.view is not None:
        services = [frozenset({item}) for item in one.view.items]
    wanted = Wanted(services, one.view, one.said.patient)
    return await _named(gateway, request, wanted) or await _free(
        gateway, actor, sent, request, wanted
    )


async def check_place_stays(
    gateway: Gateway, actor: Actor, sent: Sent, request: BookingRequest, id: str
) -> str:
    """The logical id of the patient of a booking that keeps its place. Raises Unprocessable where
    the message says another slot, time or service than it has."""
    services = await _services(gateway, sent, request)
    async with gateway.store.snapshot(SYSTEM_ACCESS) as whole:
        one = await stands(whole.under(actor.access), whole, id, zone=gateway.settings.zone)
    start, end = one.said.start, one.said.end
    says = {
        "ARQ[1]-5": request.slot not in ("", f"Slot/{one.said.slot}")
        or (request.schedule and (not one.view or request.schedule != _schedule_of(one.view))),
        "AIS[1]-4": request.start and date_range(request.start, sent.sender.zone)[0] != start,
        "ARQ[1]-11": (request.since and date_range(request.since, sent.sender.zone)[0] > start)
        or (request.until and date_range(request.until, sent.sender.zone)[1] < end - 1),
        "AIS[1]-3": one.view and not Wanted(services).fits(one.view.items),
    }
    if place := next((place for place, is_other in says.items() if is_other), ""):
        raise Unprocessable(
            "S03 leaves slot, time and service as they are: move the booking by S02, or cancel it "
            "by S04 and ask for another one by S01",
            expression=place,
            rule="srm-modify",
        )
    return one.said.patient


def _schedule_of(view: SlotView) -> str:
    return f"Schedule/{view.schedule.id}"


async def _named(gateway: Gateway, request: BookingRequest, wanted: Wanted) -> str:
    """The Slot of ARQ-5, "" for none. Raises Unprocessable where the message says something else
    of it than is so; that there is no such Slot says whoever books it."""
    slot = request.slot.partition("/")[2]
    if not slot:
        return ""
    async with gateway.store.snapshot(SYSTEM_ACCESS) as whole:
        view = await view_of(whole, slot)
    if view is None:
        return slot
    if not wanted.fits(view.items):
        raise Unprocessable(
            f"The slot of ARQ-5 is for {', '.join(view.items) or 'a visit'}, not for the service: "
            "name a slot of the service, or none",
            expression="ARQ[1]-5",
            rule="srm-service",
        )
    if request.start and date_range(request.start, gateway.settings.zone)[0] != view.slot.start:
        raise Unprocessable(
            "The slot of ARQ-5 begins at another time than AIS-4 says: look at the slot again, or "
            "leave one of them out",
            expression="AIS[1]-4",
            rule="slot-changed",
        )
    return slot


async def _free(
    gateway: Gateway, actor: Actor, sent: Sent, request: BookingRequest, wanted: Wanted
) -> str:
    """The earliest Slot that fits what is asked for. Raises Unprocessable when there is none."""
    start, end, exact = _times(gateway, sent, request)
    schedule, moving = request.schedule.partition("/")[2], wanted.moving
    asked = FindRequest(
        start, end, items=wanted.items, patient=wanted.patient,
        schedules=(schedule,) if schedule else (),
        limit=_MOST if exact or len(wanted.services) > 1 or moving else 1,
    )  # fmt: skip
    if moving is not None:
        services = () if schedule else tuple(msgspec.json.decode(moving.schedule.services))
        asked = asked._replace(
            hospitals=(moving.hospital,), leave=moving.slot.id,
            services=() if request.services else services,
        )  # fmt: skip
    found = await find(gateway, actor, asked)
    for one in found.offers:
        if wanted.fits(one.free.items) and (not exact or one.free.place[0] == start):
            return one.id
    hints = [Issue(one.code, one.diagnostics, "ARQ[1]-11", one.rule) for one in found.hints]
    raise Unprocessable(issues=tuple(hints) or (_nothing_free(),))


def _nothing_free() -> Issue:
    text = "Nothing that your channels sell is free then for all that is asked for: ask for "
    text += "another time, a wider range, or each service by a request of its own"
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


async def _services(gateway: Gateway, sent: Sent, request: BookingRequest) -> list[frozenset[str]]:
    """Of each service the catalogue codes that it means. Raises Unprocessable for one that means
    none: it would be left out."""
    await follow(gateway, sent.sender.id)
    known = gateway.local_codes.catalogue.items if gateway.local_codes is not None else {}
    segments = [one for one in sent.message.segments if one.name == "AIS" and one.field(3)]
    found: list[frozenset[str]] = []
    for segment, service in zip(segments, request.services, strict=True):
        codes: set[str] = set()
        if segment.text(3, 3) == OUR_SYSTEM and segment.text(3) in known:
            codes.add(segment.text(3))
        order: dict[str, Any] = {"resourceType": "ServiceRequest", "code": service}
        add_codings(gateway, order, sent.sender.id)
        codes |= {
            str(coding["code"])
            for coding in order["code"].get("coding", ())
            if coding.get("system") in SYSTEMS and coding.get("code")
        }
        if not codes:
            raise Unprocessable(
                "This service is none of the catalogue, and no local code map of yours knows it: "
                "send its catalogue code, map it, or name a slot in ARQ-5 alone",
                expression=f"AIS[{segment.number}]-3",
                rule="srm-service",
            )
        found.append(frozenset(codes))
    return found


async def orders_meant(
    gateway: Gateway, actor: Actor, request: BookingRequest, patient: str
) -> tuple[tuple[str, ...], list[Issue]]:
    """The active orders of the patient that ARQ-24 names, by their number or their id here; and a
    warning where none is known."""
    if not request.order:
        return (), []
    async with gateway.store.snapshot(SYSTEM_ACCESS) as whole:
        own = whole.under(actor.access)
        try:
            orders = await orders_seen(own, await person_of(own, patient))
        except NotFound:
            orders = []
    found = tuple(
        one.reference
        for one in orders
        if one.reference == f"ServiceRequest/{request.order}"
        or any(given.get("value") == request.order for given in one.resource.get("identifier", ()))
    )
    if found:
        return found, []
    text = "No active order of this patient has this number here; it was booked without an order"
    return (), [Issue("not-found", text, "ARQ[1]-24", "srm-order", "warning")]


async def where(gateway: Gateway, appointment: Mapping[str, Any]) -> tuple[str, str]:
    """Department and hospital of a booking in words, "" for what is not known."""
    actors = [one.get("actor") or {} for one in appointment.get("participant") or ()]
    of = (one for one in actors if str(one.get("reference", "")).startswith("HealthcareService/"))
    department = str(next(of, {}).get("display", ""))
    first: Mapping[str, Any] = next(iter(appointment.get("slot") or ()), {})
    slot = str(first.get("reference", ""))
    async with gateway.store.snapshot(SYSTEM_ACCESS) as whole:
        view = await view_of(whole, slot.partition("/")[2]) if slot else None
    known = await institutions(gateway)
    hospital = known.get(view.hospital) if view is not None else None
    return department, hospital.name if hospital is not None else ""
