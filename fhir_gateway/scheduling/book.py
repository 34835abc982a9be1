"""The verbs that take a seat, keep it or give it back: hold, book, renew, cancel. Called by the
operations (booking_operations.py) and by whatever else books: waiting lists, SRM messages, cards.
What moves to another seat stands in move.py.

Each is one change set (seat_commit.py): the Appointment, the claim, the Slot where its status
turns, the AuditEvent. IHE Scheduling ITI-116, ITI-117; docs/booking.md, docs/adr/0052.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

from fhir_gateway.context import Gateway, new_id
from fhir_gateway.errors import Conflict, Unprocessable
from fhir_gateway.fhir.wire import parse
from fhir_gateway.scheduling.appointment import appointment_of, with_step
from fhir_gateway.scheduling.booking_parties import Stands, around_of, check_begun, stands, step
from fhir_gateway.scheduling.booking_person import check_orders, orders_named, person_around
from fhir_gateway.scheduling.booking_rules import booking_rules
from fhir_gateway.scheduling.limits import confirm_by, hold_until
from fhir_gateway.scheduling.other_bookings import warnings_of
from fhir_gateway.scheduling.seat_choice import (
    BY_HOSPITAL,
    HoldRequest,
    check_person,
    given_back,
    look_at,
    marks_of,
    seat_of,
    take_of,
    told_of,
    turned,
)
from fhir_gateway.scheduling.seat_commit import Asked, Done, Planned, Sources, Told, carry_out
from fhir_gateway.scheduling.waitlist import accept, is_waiting, offered_to_entry
from fhir_gateway.scheduling.waitlist_entry import waiting_of, withdrawn_offer
from fhir_gateway.security.actor import Actor
from fhir_gateway.store.changes import VersionIs
from fhir_gateway.store.claim_refusals import refused
from fhir_gateway.store.claim_rows import BOOKED, CANCELLED, HELD, Give, Keep

__all__ = ["BookRequest", "Booked", "Held", "HoldRequest", "book", "cancel", "hold", "renew"]

#: What became of it: the names by which others know an answer.
Held: TypeAlias = Done
Booked: TypeAlias = Done

_HOLD, _BOOK, _RENEW = Asked("$hold"), Asked("$book"), Asked("$renew")
_CANCEL = Asked("$cancel")


class BookRequest(NamedTuple):
    """A hold, or an entry of the waiting list with an offer, that is booked (`hold`, a logical
    id), or a seat that is taken straight (`take`)."""

    hold: str = ""
    take: HoldRequest | None = None
    based_on: Sequence[str] = ()
    comment: str = ""
    patient: str = ""  # compared with the hold's where it is said


async def hold(gateway: Gateway, actor: Actor, request: HoldRequest, asked: Asked = _HOLD) -> Held:
    """Holds a seat for the minutes of limits.toml (ITI-116): an Appointment that is pending.

    Raises NotFound, Unprocessable and Conflict, each with what would work instead.
    """

    async def plan(sources: Sources) -> Planned:
        return await _planseat_of(gateway, actor, request, sources, is_hold=True)

    return await carry_out(gateway, actor, asked, f"Slot/{request.slot}", plan)


async def book(
    gateway: Gateway, actor: Actor, request: BookRequest, asked: Asked = _BOOK
) -> Booked:
    """Books a hold, or a seat straight (ITI-117). Where the hospital is master of its Slots it is
    pending until `$confirm`. Raises as `hold`."""
    if request.take is None:
        if await is_waiting(gateway, actor, request.hold):
            return await accept(gateway, actor, request.hold, asked)
        return await _book_hold(gateway, actor, request, asked)
    take = request.take

    async def plan(sources: Sources) -> Planned:
        return await _planseat_of(gateway, actor, take, sources, is_hold=False)

    return await carry_out(gateway, actor, asked, f"Slot/{take.slot}", plan)


async def _planseat_of(
    gateway: Gateway, actor: Actor, request: HoldRequest, sources: Sources, *, is_hold: bool
) -> Planned:
    if request.id and await sources.whole.read("Appointment", request.id) is not None:
        raise Conflict("This booking was made already", rule="appointment-exists")
    look = await look_at(gateway, actor, request, sources)
    seat = await seat_of(look)
    waiting = None
    if request.appointment:
        zone = gateway.settings.zone
        waiting = await stands(sources.own, sources.whole, request.appointment, zone=zone)
        check_person(waiting, look.person)
        step(actor, waiting, "hold" if is_hold and waiting.said.status == "proposed" else "accept")
    asks = not is_hold and seat.view.schedule.master == BY_HOSPITAL
    marks = marks_of(look, seat, is_hold=is_hold, asks=asks)
    until = marks.hold_until or marks.confirm_by
    id = request.appointment or request.id or new_id(gateway)
    status = "pending" if until else "booked"
    resource = appointment_of(
        seat.offer, id=id, status=status, marks=marks, created=look.now,
        zone=look.rules.zone, before=waiting.resource if waiting else None,
    )  # fmt: skip
    take = take_of(look, seat, id, until)
    return Planned(
        id, resource, waiting.stored.version if waiting else 0, seat.slot.owner, request.patient,
        [take], await told_of(look, seat, asks=asks), turned(seat.view, seat.slot, until, 1),
        summary=f"{status} Slot/{seat.slot.id} {seat.channel}",
        counts="bookings_held" if is_hold else "bookings_asked" if asks else "bookings_made",
        others=seat.others, guards=[VersionIs("Appointment", id, 0)] if request.id else (),
    )  # fmt: skip


# -- a hold becomes a booking, or lives longer ----------------------------------------------------


async def _book_hold(gateway: Gateway, actor: Actor, request: BookRequest, asked: Asked) -> Booked:
    rules = booking_rules(gateway)

    async def plan(sources: Sources) -> Planned:
        one = await stands(
            sources.own, sources.whole, request.hold, zone=gateway.settings.zone,
            if_match=asked.if_match,
        )  # fmt: skip
        status, marks = step(actor, one, "book"), one.said.marks
        patient, around, reader = one.said.patient, one.around, sources.whole
        if request.patient and request.patient != patient:
            patient, reader = request.patient, sources.own
            around = await around_of(sources.whole, one.said.slot, patient)
        person = await person_around(reader, patient, around)
        check_person(one, person)
        now = gateway.clock.now()
        if one.view is None or one.slot is None or one.booking is None:
            raise refused("hold-unknown")
        if not marks.hold_until:
            raise Unprocessable(
                "This booking waits for its hospital, which answers by $confirm or $refuse",
                rule="to-be-confirmed",
            )
        if not one.booking.is_live(now):
            raise refused("hold-expired")
        orders = await orders_named(sources.own, request.based_on)
        check_orders(orders, person, one.view.items)
        asks = one.master == BY_HOSPITAL
        until = confirm_by(rules.limits, now, one.said.start) if asks else 0
        resource = with_step(
            one.resource | _more(request), status=status, zone=rules.zone,
            marks=marks._replace(hold_until=0, renewals=0, confirm_by=until),
        )  # fmt: skip
        issues = await warnings_of(
            sources, one.around, now, rules.limits, gateway.policy.classes, leave=request.hold
        )
        return Planned(
            one.stored.id, resource, one.stored.version, one.stored.owner, one.said.patient,
            [_booked(one, until)],
            Told(marks.channel, "", tuple(issues)), turned(one.view, one.slot, until, 1),
            summary=f"{status} Slot/{one.said.slot} {marks.channel}",
            counts="bookings_asked" if asks else "bookings_made",
        )  # fmt: skip

    line = await _line(gateway, actor, request.hold)
    return await carry_out(gateway, actor, asked, line, plan)


def _booked(one: Stands, until: int) -> Keep:
    """The hold as it is booked, or waits for its hospital until a moment."""
    return Keep(f"Appointment/{one.stored.id}", HELD if until else BOOKED, until, one.said.patient)


def _more(request: BookRequest) -> dict[str, Any]:
    """What a booking says beyond its hold."""
    more: dict[str, Any] = {}
    if request.comment:
        more["comment"] = request.comment
    if request.based_on:
        more["basedOn"] = [{"reference": one} for one in request.based_on]
    return more


async def _line(gateway: Gateway, actor: Actor, id: str) -> str:
    """The Slot of an Appointment, which others may want at the same moment."""
    async with gateway.store.snapshot(actor.access) as own:
        stored = await own.read("Appointment", id)
    if stored is None or stored.deleted:
        return f"Appointment/{id}"
    slots: Any = parse(stored.whole()).get("slot") or [{}]
    return str(slots[0].get("reference") or f"Appointment/{id}")


async def renew(gateway: Gateway, actor: Actor, id: str, asked: Asked = _RENEW) -> Held:
    """Holds a seat for longer, as often as limits.toml says. Raises Unprocessable beyond that."""
    rules = booking_rules(gateway)

    async def plan(sources: Sources) -> Planned:
        one = await stands(sources.own, sources.whole, id, zone=gateway.settings.zone,
                           if_match=asked.if_match)  # fmt: skip
        status, marks = step(actor, one, "hold"), one.said.marks
        if not marks.hold_until:
            raise refused("hold-unknown")
        if marks.renewals >= rules.limits.hold_renewals:
            raise Unprocessable(
                f"A hold is renewed {rules.limits.hold_renewals} times at most; book it now, or "
                "let it end and hold anew",
                rule="hold-renewals",
            )
        until = min(hold_until(rules.limits, gateway.clock.now()), one.said.start)
        later = marks._replace(hold_until=until, renewals=marks.renewals + 1)
        resource = with_step(one.resource, status=status, marks=later, zone=rules.zone)
        return Planned(
            id, resource, one.stored.version, one.stored.owner, one.said.patient,
            [Keep(f"Appointment/{id}", HELD, until)], Told(marks.channel),
            summary=f"renewed Slot/{one.said.slot}", counts="bookings_renewed",
        )  # fmt: skip

    return await carry_out(gateway, actor, asked, f"Appointment/{id}", plan)


# -- the seat is given back -----------------------------------------------------------------------


async def cancel(
    gateway: Gateway, actor: Actor, id: str, asked: Asked = _CANCEL, *, reason: str = "",
    text: str = "",
) -> Booked:  # fmt: skip
    """Cancels a hold, a booking or a wish of the waiting list; its seat is free at once, for its
    own channel before the cut-off. Raises NotFound, Forbidden, Conflict, PreconditionFailed."""

    async def plan(sources: Sources) -> Planned:
        return await plan_cancel(gateway, actor, id, sources, asked.if_match, reason, text)

    return await carry_out(gateway, actor, asked, await _line(gateway, actor, id), plan)


async def plan_cancel(
    gateway: Gateway, actor: Actor, id: str, sources: Sources, if_match: int | None = None,
    reason: str = "", text: str = "",
) -> Planned:  # fmt: skip
    """What a cancellation would store. Raises as `cancel`."""
    zone = gateway.settings.zone
    one = await stands(sources.own, sources.whole, id, zone=zone, if_match=if_match)
    status, marks = step(actor, one, "cancel"), one.said.marks
    check_begun(actor, one, gateway.clock.now())
    ended = marks._replace(hold_until=0, renewals=0, confirm_by=0)
    code = reason or ("pat" if actor.role == "patient" else "prov")
    resource = with_step(
        one.resource, status=status, marks=ended, zone=booking_rules(gateway).zone, reason=code,
        text=text,
    )  # fmt: skip
    claims = [Give(f"Appointment/{id}", CANCELLED)] if one.booking is not None else []
    slots, puts = await given_back(sources.whole, one), []
    if waiting := waiting_of(one.resource, zone):
        one = await offered_to_entry(sources.whole, one, waiting)
        puts = withdrawn_offer(gateway, waiting)
    return Planned(
        id, resource, one.stored.version, one.stored.owner, one.said.patient, claims,
        Told(marks.channel), slots, puts,
        summary=f"{status} Slot/{one.said.slot} {code}", counts="bookings_cancelled", freed=one,
    )  # fmt: skip
