"""The judging of claims: one state machine over small rows, the same for every database.

Claims are judged in order, each seeing what those before it have done, by the time of the batch.
What is refused says why and what would work instead (claim_refusals.py). docs/adr/0049
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from fhir_gateway.errors import GatewayError
from fhir_gateway.fhir.keys import key64
from fhir_gateway.store.claim_person import check_elsewhere, check_person, day_of
from fhir_gateway.store.claim_refusals import refused
from fhir_gateway.store.claim_rows import (
    BOOKED,
    CANCELLED,
    EXCUSED,
    EXPIRED,
    FULFILLED,
    HELD,
    NOSHOW,
    Claim,
    Excuse,
    Fall,
    Give,
    Keep,
    Take,
)
from fhir_gateway.store.claim_state import BookingState, Key, SeatState, SlotState
from fhir_gateway.store.claims_draft import NO_BUCKET, Draft


@dataclass(slots=True)
class Places:
    """Where what claims name lies: the home of a Slot, an Appointment or a Patient; None when
    there is none."""

    home: Callable[[str, str], int | None]

    def key(self, reference: str) -> Key | None:
        """(home, key64) of "Type/id"."""
        type, _, id = reference.partition("/")
        home = self.home(type, id)
        return None if home is None else (home, key64(reference))


@dataclass(slots=True)
class Asked:
    """What all claims of a change set may look at."""

    draft: Draft
    places: Places
    given: frozenset[str]  # appointments that the change set gives back


def judge_claims(draft: Draft, places: Places, claims: Sequence[Claim]) -> None:
    """Judges all claims but those that settle quotas, which follow the Slots of the change set.

    Raises what the first claim that fails says; its number stands in `guard` then.
    """
    given = frozenset(claim.appointment for claim in claims if isinstance(claim, Give))
    asked = Asked(draft, places, given)
    for number, claim in enumerate(claims):
        judge = _JUDGES.get(type(claim))
        if judge is None:
            continue
        try:
            judge(asked, claim)
        except GatewayError as error:
            vars(error)["guard"] = number
            raise


# -- a seat is taken ------------------------------------------------------------------------------


def _take(asked: Asked, claim: Take) -> None:
    draft = asked.draft
    slot = _slot_to_take(asked, claim)
    person = asked.places.home("Patient", claim.patient)
    _check_channel(draft, slot, claim.channel, _seat_that_moves(draft, claim, person))
    if person is None:
        raise refused("person-unproved")
    booking = _booking_to_be(draft, slot, claim, person)
    _check_instead(asked, claim)
    check_person(draft, claim, booking)
    old = _seat_before(draft, claim, booking)
    seats = draft.seats(slot.key)
    number = next(number for number in range(1, slot.capacity + 1) if number not in seats)
    if slot.bucket != NO_BUCKET:
        draft.use(slot.group, claim.channel)
    if old:
        draft.free(old)
    seat = SeatState(*slot.key, number, booking.state, booking.until, slot.bucket, slot.kind,
                     claim.channel, person, booking.appointment)  # fmt: skip
    draft.put_seat(seat)
    draft.put_booking(booking)
    if claim.state == BOOKED:
        draft.booked.add(slot.key)


def _seat_that_moves(draft: Draft, claim: Take, person: int | None) -> SeatState | None:
    """The seat that this appointment leaves for the one that is claimed."""
    if person is None or claim.instead_of != claim.appointment:
        return None
    before = draft.booking((person, key64(claim.appointment)))
    return draft.seat_of(before) if before is not None and before.is_live(draft.now) else None


def _seat_before(draft: Draft, claim: Take, booking: BookingState) -> SeatState | None:
    """The seat that this very appointment has; a hold that is over is swept, wherever it was."""
    before = draft.booking((booking.home, booking.appointment))
    if before is None:
        return None
    if before.state in (FULFILLED, NOSHOW, EXCUSED):
        raise refused("booking-ended")
    moves = claim.instead_of == claim.appointment
    if moves and before.state in (HELD, EXPIRED) and not before.is_live(draft.now):
        raise refused("hold-expired")
    return draft.seat_of(before) if before.state in (HELD, BOOKED) else None


def _slot_to_take(asked: Asked, claim: Take) -> SlotState:
    """The Slot, where one of its seats is free."""
    draft = asked.draft
    key = asked.places.key(claim.slot)
    slot = draft.slot(key) if key is not None else None
    if slot is None:
        raise refused("slot-unknown")
    seen, is_ = (claim.start, claim.end), (slot.start, slot.end)
    if any(seen) and seen != is_:
        raise refused("slot-changed")
    if not slot.open or not draft.stored.schedule(slot.home, slot.schedule)[1]:
        raise refused("slot-closed")
    if slot.start <= draft.now:
        raise refused("slot-past")
    taken = len(draft.seats(slot.key))
    if taken >= slot.capacity or (slot.busy and slot.key not in draft.booked):
        raise refused("slot-full")  # a hospital may say that it is busy without telling of whom
    if claim.state != BOOKED and claim.until <= draft.now:
        raise refused("hold-expired")
    return draft.slot(slot.key) or slot


def _check_channel(draft: Draft, slot: SlotState, channel: str, left: SeatState | None) -> None:
    """Raises where the channel may not sell. A seat that is left counts no more: who moves within
    the part of a channel needs no second seat of it."""
    if slot.bucket == NO_BUCKET:
        return
    row = draft.group(slot.group).get(channel)
    if row is None or row.is_closed(draft.now):
        raise refused("channel-closed")
    if draft.now < row.opens:
        raise refused("channel-not-open")
    if row.left > 0 or (left is not None and left.group == slot.group and left.channel == channel):
        return
    draft.sweep_group(slot.group)
    if draft.group(slot.group)[channel].left <= 0:
        raise refused("quota-full")


def _booking_to_be(draft: Draft, slot: SlotState, claim: Take, person: int) -> BookingState:
    return BookingState(
        person, key64(claim.appointment), claim.appointment.removeprefix("Appointment/"),
        *_standing(claim), *slot.key, slot.start, slot.end,
        day_of(slot.start, claim.limits.zone),
        draft.stored.schedule(slot.home, slot.schedule)[0], claim.channel,
    )  # fmt: skip


def _standing(claim: Take | Keep) -> tuple[str, int]:
    """State and end of what is held or booked."""
    return (BOOKED, 0) if claim.state == BOOKED else (HELD, claim.until)


def _check_instead(asked: Asked, claim: Take) -> None:
    """What is given up has to be given back with it, or be the same appointment that moves."""
    if claim.instead_of in ("", claim.appointment):
        return
    if claim.instead_of not in asked.given:
        raise refused("rebook-alone")


# -- what becomes of it ---------------------------------------------------------------------------


def _found(asked: Asked, appointment: str) -> BookingState:
    key = asked.places.key(appointment)
    booking = asked.draft.booking(key) if key is not None else None
    if booking is None:
        raise refused("hold-unknown")
    return booking


def _keep(asked: Asked, claim: Keep) -> None:
    draft = asked.draft
    booking = _found(asked, claim.appointment)
    if booking.state in (HELD, EXPIRED) and not booking.is_live(draft.now):
        raise refused("hold-expired")
    seat = draft.seat_of(booking) if booking.state == HELD else None
    if seat is None:
        raise refused("hold-unknown")
    if booking.start <= draft.now:
        raise refused("slot-past")
    state, until = _standing(claim)
    if state == HELD and until <= draft.now:
        raise refused("hold-expired")
    if claim.patient:
        check_elsewhere(draft, booking)
    draft.put_seat(seat._replace(state=state, until=until))
    draft.put_booking(booking._replace(state=state, until=until))
    if claim.state == BOOKED:
        draft.booked.add((seat.home, seat.slot))


def _give(asked: Asked, claim: Give) -> None:
    draft = asked.draft
    booking = _found(asked, claim.appointment)
    if booking.state == claim.state:
        return  # told twice
    if claim.state == CANCELLED and booking.state in (HELD, EXPIRED, BOOKED):
        seat = draft.seat_of(booking)
        if seat is not None:
            draft.free(seat)
    elif claim.state in (FULFILLED, NOSHOW) and booking.state == BOOKED:
        if claim.state == NOSHOW and booking.start > draft.now:
            raise refused("slot-not-begun")
    elif booking.state == HELD:
        raise refused("hold-unconfirmed")
    else:
        raise refused("booking-ended")
    draft.put_booking(booking._replace(state=claim.state, until=0))


def _excuse(asked: Asked, claim: Excuse) -> None:
    booking = _found(asked, claim.appointment)
    if booking.state == NOSHOW:
        asked.draft.put_booking(booking._replace(state=EXCUSED))
    elif booking.state != EXCUSED:
        raise refused("no-show-unknown")


def _fall(asked: Asked, claim: Fall) -> None:
    """Loading the quotas lets fall what is due; holds that are over fall with it."""
    group = (claim.home, claim.bucket, claim.kind)
    row = asked.draft.group(group).get(claim.channel)
    if row is None:
        raise refused("channel-closed")
    if row.is_closed(asked.draft.now):
        asked.draft.sweep_group(group)


_JUDGES: dict[type[Any], Callable[[Asked, Any], None]] = {
    Take: _take,
    Keep: _keep,
    Give: _give,
    Fall: _fall,
    Excuse: _excuse,
}
