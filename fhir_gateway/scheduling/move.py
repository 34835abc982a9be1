"""A booking moves to another seat: the new one is taken before the old one is given back.

Both are one commit: without the new seat the old one stays. Within a hospital the Appointment stays
the same. At another hospital it cannot, since the hospital owns it: a new Appointment takes its
place and names the one that it replaces, which is cancelled. Only the patient and who booked do
that: a hospital has no business with the seats of another one. docs/booking.md, docs/adr/0058
"""

from __future__ import annotations

from typing import Any

from fhir_gateway.context import Gateway, new_id
from fhir_gateway.errors import Forbidden, Issue, Unprocessable
from fhir_gateway.interactions.prepare import put_of
from fhir_gateway.scheduling import extensions as ext
from fhir_gateway.scheduling import states
from fhir_gateway.scheduling.appointment import Marks, appointment_of, with_step
from fhir_gateway.scheduling.booking_parties import (
    Stands,
    check_begun,
    parties_of,
    stands,
    step,
)
from fhir_gateway.scheduling.booking_person import person_of
from fhir_gateway.scheduling.seat_choice import (
    BY_HOSPITAL,
    HoldRequest,
    Look,
    Seat,
    check_person,
    given_back,
    look_at,
    marks_of,
    seat_of,
    take_of,
    told_of,
    turned,
)
from fhir_gateway.scheduling.seat_commit import Asked, Done, Planned, Sources, carry_out
from fhir_gateway.security.actor import Actor
from fhir_gateway.store.changes import VersionIs
from fhir_gateway.store.claim_refusals import refused
from fhir_gateway.store.claim_rows import CANCELLED, Give
from fhir_gateway.store.store import Reader

_REBOOK = Asked("$rebook")

#: What a new Appointment takes over from the one that it replaces; numbers are the hospital's.
_KEPT = ("meta", "reasonCode", "comment", "basedOn")
_WORDS = "改约到另一家医院"


async def rebook(
    gateway: Gateway, actor: Actor, id: str, slot: str, asked: Asked = _REBOOK, *,
    channel: str = "", patient: str = "", across: bool = False,
) -> Done:  # fmt: skip
    """Moves a booking to another Slot. `patient` is compared with its own, where it is said;
    `across` lets it go to another hospital. Raises as `hold`; the old seat stays then."""

    async def plan(sources: Sources) -> Planned:
        one = await stands(sources.own, sources.whole, id, zone=gateway.settings.zone,
                           if_match=asked.if_match)  # fmt: skip
        if patient:
            check_person(one, await person_of(sources.own, patient))
        return await _plan_move(gateway, actor, one, slot, sources, channel, across)

    return await carry_out(gateway, actor, asked, f"Slot/{slot}", plan)


async def _plan_move(
    gateway: Gateway, actor: Actor, one: Stands, slot: str, sources: Sources, channel: str,
    across: bool,
) -> Planned:  # fmt: skip
    status = step(actor, one, "rebook")
    check_begun(actor, one, gateway.clock.now())
    if slot == one.said.slot:
        raise Unprocessable("The booking has a seat of this Slot already; choose another Slot",
                            expression="slot", rule="rebook-same")  # fmt: skip
    based_on = tuple(str(ref.get("reference", "")) for ref in one.resource.get("basedOn") or ())
    seen = [ref for ref in based_on if await _is_seen(sources.own, ref)]
    request = HoldRequest(slot, one.said.patient, seen, channel=channel)
    look = await look_at(gateway, actor, request, sources, old=f"Appointment/{one.stored.id}")
    seat = await seat_of(look)
    asks = seat.view.schedule.master == BY_HOSPITAL
    is_hold = bool(one.said.marks.hold_until) and status == "pending"
    marks = marks_of(look, seat, is_hold=is_hold, asks=asks)._replace(
        booked_by=one.said.marks.booked_by, renewals=one.said.marks.renewals if is_hold else 0
    )
    if is_hold:  # it moves, and lives no longer: only $renew does that, and is counted
        marks = marks._replace(hold_until=min(marks.hold_until, one.said.marks.hold_until))
    seat = seat._replace(offer=seat.offer._replace(based_on=based_on))
    if one.view is not None and one.view.slot.home != seat.view.slot.home:
        _check_across(actor, one, across, look.now)
        return await _replaced(look, one, seat, marks)
    return await _moved(look, one, seat, marks)


async def _is_seen(own: Reader, reference: str) -> bool:
    type, _, id = reference.partition("/")
    return type == "ServiceRequest" and await own.read(type, id) is not None


async def _moved(look: Look, one: Stands, seat: Seat, marks: Marks) -> Planned:
    """The same Appointment at another time."""
    id, until = one.stored.id, marks.hold_until or marks.confirm_by
    resource = appointment_of(
        seat.offer, id=id, status="pending" if until else "booked", marks=marks,
        created=look.now, zone=look.rules.zone, before=one.resource,
    )  # fmt: skip
    slots = turned(seat.view, seat.slot, until, 1)
    slots += await given_back(look.sources.whole, one)
    told = await told_of(look, seat, asks=bool(marks.confirm_by))
    return Planned(
        id, resource, one.stored.version, one.stored.owner, one.said.patient,
        [take_of(look, seat, id, until)], told, slots,
        summary=f"rebooked Slot/{one.said.slot} to Slot/{seat.slot.id} {seat.channel}",
        counts="bookings_moved", others=seat.others, freed=one,
    )  # fmt: skip


# -- to another hospital --------------------------------------------------------------------------


def _check_across(actor: Actor, one: Stands, across: bool, now: int) -> None:
    parties = parties_of(actor, one)
    if not across:
        raise Unprocessable(
            "This moves within its hospital; use Appointment/[id]/$rebook, or book at the other "
            "one and cancel this",
            expression="slot",
            rule="rebook-other-hospital",
        )
    if states.PATIENT not in parties and states.BOOKER not in parties:
        raise Forbidden(
            "Only the patient and who booked move a booking to another hospital; move it within "
            "yours, or cancel it",
            expression="slot",
            rule="rebook-other-hospital",
        )
    if one.booking is None or not one.booking.is_live(now):
        raise refused("hold-expired")


async def _replaced(look: Look, one: Stands, seat: Seat, marks: Marks) -> Planned:
    """A new Appointment of the other hospital, and the old one cancelled with it."""
    gateway, old = look.gateway, one.stored
    id, until = new_id(gateway), marks.hold_until or marks.confirm_by
    kept = {name: one.resource[name] for name in _KEPT if name in one.resource}
    resource = appointment_of(
        seat.offer, id=id, status="pending" if until else "booked", marks=marks,
        created=look.now, zone=look.rules.zone, before=kept,
    )  # fmt: skip
    reference = {"reference": f"Appointment/{old.id}"}
    resource["extension"].append({"url": ext.REPLACES, "valueReference": reference})
    ended = _ended(look, one)
    told = await told_of(look, seat, asks=bool(marks.confirm_by))
    text = f"Appointment/{old.id} is cancelled; Appointment/{id} of the other hospital replaces it"
    replaced = Issue("informational", text, "slot", "rebook-replaced", "information")
    slots = turned(seat.view, seat.slot, until, 1)
    slots += await given_back(look.sources.whole, one)
    return Planned(
        id, resource, 0, seat.slot.owner, one.said.patient,
        [take_of(look, seat, id, until), Give(look.old, CANCELLED)],
        told._replace(issues=(replaced, *told.issues)), slots,
        [put_of(gateway, ended, op="update", owner=old.owner)],
        summary=f"rebooked Slot/{one.said.slot} to Slot/{seat.slot.id} {seat.channel}",
        counts="bookings_moved", others=seat.others,
        guards=[VersionIs("Appointment", old.id, old.version)],
        along=[(old.id, old.version + 1, f"cancelled Slot/{one.said.slot} replaced")], freed=one,
    )  # fmt: skip


def _ended(look: Look, one: Stands) -> dict[str, Any]:
    """The old Appointment. It does not say where its patient went: that is not its hospital's."""
    marks = one.said.marks._replace(hold_until=0, renewals=0, confirm_by=0)
    return with_step(
        one.resource, status="cancelled", marks=marks, zone=look.rules.zone,
        reason="pat" if look.actor.role == "patient" else "prov", text=_WORDS,
    )  # fmt: skip
