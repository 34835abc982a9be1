"""A seat for a person: what is asked for, and how a Slot is taken by this caller.

Everything here is read on a snapshot and only plans; what holds is what the claims say under the
write lock. What can be seen to fail is refused at once, without a commit. docs/booking.md
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from fhir_gateway.context import Gateway
from fhir_gateway.errors import Forbidden, Issue, Unprocessable
from fhir_gateway.fhir.wire import parse
from fhir_gateway.scheduling.appointment import Marks, Offer
from fhir_gateway.scheduling.booking_parties import Stands, around_of
from fhir_gateway.scheduling.booking_person import (
    Order,
    Person,
    check_orders,
    orders_named,
    person_around,
    unfit,
)
from fhir_gateway.scheduling.booking_rules import BookingRules, booking_rules
from fhir_gateway.scheduling.calendar import day_at
from fhir_gateway.scheduling.limits import confirm_by, hold_until
from fhir_gateway.scheduling.other_bookings import warnings_of
from fhir_gateway.scheduling.seat_channels import (
    Asker,
    because,
    candidates,
    explained,
    no_channel,
    site_of,
)
from fhir_gateway.scheduling.seat_commit import Sources, Told, Turned
from fhir_gateway.security.actor import Actor
from fhir_gateway.store.claim_refusals import refused
from fhir_gateway.store.claim_rows import BOOKED, HELD, Take
from fhir_gateway.store.seat_around_sql import Around
from fhir_gateway.store.slot_view_sql import SlotView
from fhir_gateway.store.store import Reader, Stored

Json = Mapping[str, Any]

#: The master of a Schedule whose hospital sells itself.
BY_HOSPITAL = "hospital"


class HoldRequest(NamedTuple):
    """A seat of a Slot for a patient. `slot` and `patient` are logical ids, `based_on` references
    of ServiceRequests. `appointment` is an entry of the waiting list that becomes the booking.
    The gateway itself may say the `channel`, and the `institution` for which it books; `id` is the
    logical id of the new Appointment where it follows from something, which is booked once."""

    slot: str
    patient: str
    based_on: Sequence[str] = ()
    reason: Json | None = None
    comment: str = ""
    appointment: str = ""
    channel: str = ""
    institution: str = ""
    id: str = ""


class Seat(NamedTuple):
    """A Slot that is to be taken: its view, its resources, and through which channel."""

    view: SlotView
    slot: Stored
    offer: Offer
    channel: str
    because: str
    others: bool


class Look(NamedTuple):
    """What a seat is chosen by: `around` is all of the Slot and the person that a snapshot has.
    `old` is the appointment that moves there."""

    gateway: Gateway
    actor: Actor
    rules: BookingRules
    now: int
    sources: Sources
    request: HoldRequest
    person: Person
    orders: Sequence[Order]
    around: Around
    old: str = ""


async def look_at(
    gateway: Gateway, actor: Actor, request: HoldRequest, sources: Sources, old: str = ""
) -> Look:
    if (request.channel or request.institution) and actor.bound:
        raise Forbidden("The gateway chooses the channel of a caller", rule="channel")
    around = await around_of(sources.whole, request.slot, request.patient)
    seen = sources.whole if old else sources.own  # a party to a booking moves its person
    person = await person_around(seen, request.patient, around)
    orders = await orders_named(sources.own, request.based_on)
    rules, now = booking_rules(gateway), gateway.clock.now()
    return Look(gateway, actor, rules, now, sources, request, person, orders, around, old)


async def seat_of(look: Look) -> Seat:
    """The Slot that is asked for, as the caller may take it. Raises what stands in the way."""
    whole, request = look.sources.whole, look.request
    view, stored, schedule = look.around.view, look.around.slot, look.around.schedule
    if view is None or stored is None or schedule is None:
        raise refused("slot-unknown", expression="slot")
    _check_slot(view, look.now)
    check_orders(look.orders, look.person, view.items)
    slot, planned = parse(stored.whole()), parse(schedule.whole())
    misfits = unfit(look.person.resource, day_at(view.slot.start, look.rules.zone), slot, planned)
    if any(one.severity == "error" for one in misfits):
        raise Unprocessable(issues=tuple(misfits))
    ordered = tuple(item for one in look.orders for item in one.items)
    offer = Offer(
        slot, planned, request.patient, request.based_on, request.reason, request.comment, ordered
    )
    if request.channel:
        return Seat(view, stored, offer, request.channel, "", False)
    asker = Asker(
        look.gateway, look.actor, look.sources.own, whole, person=look.person, orders=look.orders,
        institution=request.institution,
    )  # fmt: skip
    verdicts = await asker.verdicts(site_of(view))
    able = [one for one in candidates(view, verdicts, look.now) if one not in look.sources.tried]
    if not able:
        raise no_channel(explained(look.gateway, view, verdicts))
    return Seat(view, stored, offer, able[0], because(verdicts, able[0]), len(able) > 1)


def _check_slot(view: SlotView, now: int) -> None:
    """What a snapshot shows already needs no lock to be refused."""
    slot = view.slot
    if not view.open:
        raise refused("slot-closed", expression="slot")
    if slot.start <= now:
        raise refused("slot-past", expression="slot")
    if slot.busy or len(view.taken(now)) >= slot.capacity:
        raise refused("slot-full", expression="slot")


def marks_of(look: Look, seat: Seat, *, is_hold: bool, asks: bool) -> Marks:
    by = look.request.institution or look.actor.institution or ""
    marks = Marks(seat.channel, "" if look.actor.role == "patient" else by)
    limits = look.rules.limits
    if is_hold:
        until = min(hold_until(limits, look.now), seat.view.slot.start)
        return marks._replace(hold_until=until)
    if asks:
        return marks._replace(confirm_by=confirm_by(limits, look.now, seat.view.slot.start))
    return marks


def take_of(look: Look, seat: Seat, id: str, until: int) -> Take:
    slot = seat.view.slot
    return Take(
        f"Slot/{slot.id}", f"Appointment/{id}", look.request.patient, seat.channel,
        HELD if until else BOOKED, until, look.rules.claims, look.old, slot.start, slot.end,
    )  # fmt: skip


def turned(view: SlotView, stored: Stored, until: int, more: int) -> list[Turned]:
    """The Slot, where its status turns with `more` booked seats."""
    if until:
        return []
    busy = view.booked + more >= view.slot.capacity
    return [Turned(stored, busy)] if busy != bool(view.slot.busy) else []


async def told_of(look: Look, seat: Seat, *, asks: bool = False) -> Told:
    issues = list(unfit(look.person.resource, day_at(seat.view.slot.start, look.rules.zone),
                        seat.offer.slot, seat.offer.schedule))  # fmt: skip
    issues += await warnings_of(
        look.sources,
        look.around,
        look.now,
        look.rules.limits,
        look.gateway.policy.classes,
        leave=look.old,
    )
    if asks:
        issues.append(Issue(
            "informational", "The hospital sells these slots itself: the booking is pending until "
            "it confirms, and is released when it does not in time", "slot", "to-be-confirmed",
            "information",
        ))  # fmt: skip
    return Told(seat.channel, seat.because, tuple(issues))


def check_person(one: Stands, person: Person) -> None:
    if one.stored.home not in person.homes:
        raise Unprocessable(
            "The appointment is another person's; name the patient that it was made for",
            expression="patient-reference",
            rule="appointment-other-person",
        )


async def given_back(whole: Reader, one: Stands) -> list[Turned]:
    """The Slot of a booking, where its status turns when the seat is given back."""
    if one.view is None or one.slot is None or one.booking is None or one.booking.state != BOOKED:
        return []
    return turned(one.view, one.slot, 0, -1)
