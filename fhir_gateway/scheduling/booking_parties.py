"""Who takes a step with an appointment, and whether it is one that he may take.

The table is in states.py; here a caller is matched with the patient, the institution that booked
and the hospital of an Appointment. docs/booking.md
"""

from __future__ import annotations

from typing import Any, NamedTuple

from fhir_gateway.errors import Conflict, Forbidden, NotFound, PreconditionFailed, Unprocessable
from fhir_gateway.fhir.home import institution_home
from fhir_gateway.fhir.keys import key64
from fhir_gateway.fhir.wire import parse
from fhir_gateway.interactions.etag import ANY_VERSION
from fhir_gateway.scheduling import states
from fhir_gateway.scheduling.appointment import Standing, standing_of
from fhir_gateway.security.actor import Actor
from fhir_gateway.store.claim_state import BookingState
from fhir_gateway.store.seat_around_sql import Around, around
from fhir_gateway.store.slot_view_sql import SlotView, booking_of
from fhir_gateway.store.store import Reader, Stored


class Stands(NamedTuple):
    """An Appointment that a caller sees, with its Slot and its booking where it has a seat."""

    stored: Stored
    resource: dict[str, Any]
    said: Standing
    around: Around
    booking: BookingState | None

    @property
    def view(self) -> SlotView | None:
        """The Slot with what stands around it, None where none is sold here."""
        return self.around.view

    @property
    def slot(self) -> Stored | None:
        """The Slot as a resource."""
        return self.around.slot

    @property
    def master(self) -> str:
        """Who sells the Slot."""
        return self.view.schedule.master if self.view is not None else "gateway"


async def stands(
    own: Reader, whole: Reader, id: str, *, zone: str, if_match: int | None = None
) -> Stands:
    """The Appointment of an id. Raises NotFound, PreconditionFailed by If-Match, Unprocessable for
    one that is not booked here."""
    stored = await own.read("Appointment", id)
    if stored is None or stored.deleted:
        raise NotFound(
            "There is no such Appointment that you may see; search Appointment?patient=… for it",
            rule="appointment-unknown",
        )
    if if_match not in (None, ANY_VERSION, stored.version):
        raise PreconditionFailed(
            "If-Match names a version that is not the current one; read the Appointment again",
            rule="if-match",
        )
    resource = parse(stored.whole())
    said = standing_of(resource, zone)
    if not said.marks.channel and said.status not in ("waitlist", "proposed"):
        raise Unprocessable(
            "This Appointment was not booked here and has no seat: its hospital changes it by a "
            "plain write",
            rule="booking-not-ours",
        )
    here = await around_of(whole, said.slot, said.patient) if said.slot else Around()
    return Stands(stored, resource, said, here, await _booking(whole, stored, here))


async def _booking(whole: Reader, stored: Stored, here: Around) -> BookingState | None:
    """What became of an Appointment that had a seat: among the person's, as a rule."""
    key = (stored.home, key64(f"Appointment/{stored.id}"))
    if stored.home in here.homes:
        every = (one.booking for one in here.others)
        return next((one for one in every if (one.home, one.appointment) == key), None)
    return await whole.steps(lambda _: booking_of(key))


async def around_of(whole: Reader, slot: str, patient: str = "") -> Around:
    """A Slot with all that stands around it, and who the person of a Patient is."""
    return await whole.steps(lambda seen: around(seen.dialect, slot, patient))


async def view_of(whole: Reader, slot: str) -> SlotView | None:
    """A Slot with what stands around it, None for one that is not sold here."""
    return (await around_of(whole, slot)).view


def parties_of(actor: Actor, one: Stands) -> tuple[str, ...]:
    """Which parties of an appointment a caller is."""
    if not actor.bound:
        return states.PARTIES
    if actor.role == "patient":
        return (states.PATIENT,)  # it would not be seen otherwise
    institution = actor.institution or ""
    found = []
    if one.stored.owner == key64(f"Organization/{institution}") or (
        one.view is not None and one.view.slot.home == institution_home(institution)
    ):
        found.append(states.HOSPITAL)
    if one.said.marks.booked_by == institution:
        found.append(states.BOOKER)
    return tuple(found)


def check_begun(actor: Actor, one: Stands, now: int) -> None:
    """Raises Conflict where what is given up has begun already: whoever did not come cannot undo
    that, and what became of the visit is for its hospital to say."""
    if one.said.status != "booked" or one.said.start > now:
        return
    if states.HOSPITAL not in parties_of(actor, one):
        raise Conflict(
            "The appointment has begun: its hospital says what became of it, and may cancel or "
            "move it; book another one for a later time",
            rule="appointment-begun",
        )


def step(actor: Actor, one: Stands, verb: str) -> str:
    """The status after a step of the caller. Raises Forbidden and Conflict by the table."""
    parties = parties_of(actor, one)
    if not parties:
        raise Forbidden(
            "Only the patient, the institution that booked and the hospital take steps with this "
            "appointment",
            rule="appointment-party",
        )
    able = states.WHO.get(verb, frozenset())
    party = next((party for party in parties if party in able), parties[0])
    return states.step(one.said.status, verb, party, master=one.master)
