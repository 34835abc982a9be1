"""What becomes of a booking: confirmed, refused, arrived, checked in, fulfilled, missed, excused.

Each is one step of the table in states.py, with the claim that goes with it: a seat that is given
back or kept, a missed appointment that counts, or does not any more. docs/booking.md
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple
from zoneinfo import ZoneInfo

from fhir_gateway.context import Gateway
from fhir_gateway.errors import Conflict, Forbidden, PreconditionFailed
from fhir_gateway.interactions.etag import ANY_VERSION
from fhir_gateway.scheduling import states
from fhir_gateway.scheduling.appointment import Marks, with_step
from fhir_gateway.scheduling.booking_answer import ANSWERS, put_of_answer
from fhir_gateway.scheduling.booking_parties import Stands, parties_of, stands, step
from fhir_gateway.scheduling.booking_rules import booking_rules
from fhir_gateway.scheduling.calendar import day_at
from fhir_gateway.scheduling.seat_choice import given_back, turned
from fhir_gateway.scheduling.seat_commit import (
    Asked,
    Done,
    Planned,
    Sources,
    Told,
    Turned,
    carry_out,
)
from fhir_gateway.security.actor import Actor
from fhir_gateway.store.claim_refusals import refused
from fhir_gateway.store.claim_rows import (
    BOOKED,
    CANCELLED,
    FULFILLED,
    NOSHOW,
    Claim,
    Excuse,
    Give,
    Keep,
)


class Step(NamedTuple):
    """What a verb claims, given the name of an Appointment and its patient; None claims nothing."""

    claim: Callable[[str, str], Claim] | None
    counts: str
    frees: bool = False  # the seat is given back
    takes: bool = False  # a held seat is booked


def _cancelled(name: str, _: str) -> Claim:
    return Give(name, CANCELLED)


STEPS: Mapping[str, Step] = MappingProxyType(
    {
        "confirm": Step(
            lambda name, patient: Keep(name, BOOKED, 0, patient), "bookings_confirmed", takes=True
        ),
        "refuse": Step(_cancelled, "bookings_refused", frees=True),
        "arrive": Step(None, "bookings_arrived"),
        "check-in": Step(None, "bookings_checked_in"),
        "fulfil": Step(lambda name, _: Give(name, FULFILLED), "bookings_fulfilled"),
        "no-show": Step(lambda name, _: Give(name, NOSHOW), "bookings_missed"),
        "void": Step(_cancelled, "bookings_void", frees=True),
    }
)


async def take_step(
    gateway: Gateway, actor: Actor, id: str, verb: str, asked: Asked, *, reason: str = "",
    text: str = "",
) -> Done:  # fmt: skip
    """One of the STEPS of an Appointment. Raises NotFound, Forbidden, PreconditionFailed, Conflict
    by the table and by the claim."""
    said = Said(id, verb, reason, text, asked.if_match)

    async def plan(sources: Sources) -> Planned:
        return await plan_step(gateway, actor, said, sources)

    return await carry_out(gateway, actor, asked, f"Appointment/{id}", plan)


class Said(NamedTuple):
    """A step that somebody takes: of which Appointment (a logical id), why, in which version, and
    whether the hospital's answer is written down by the gateway."""

    id: str
    verb: str
    reason: str = ""
    text: str = ""
    if_match: int | None = None
    answered: bool = True


async def plan_step(gateway: Gateway, actor: Actor, said: Said, sources: Sources) -> Planned:
    """What a step would store. Raises as `take_step`."""
    row, zone = STEPS[said.verb], gateway.settings.zone
    one = await stands(sources.own, sources.whole, said.id, zone=zone, if_match=said.if_match)
    status = step(actor, one, said.verb)
    if row.takes:
        _check_waits(one, gateway.clock.now())
    if said.verb == "check-in" and actor.role == "patient":
        _check_day(one, gateway.clock.now(), booking_rules(gateway).zone)
    marks = one.said.marks._replace(hold_until=0, renewals=0, confirm_by=0)
    code = (said.reason or "prov") if status == "cancelled" else ""
    resource = with_step(
        one.resource, status=status, marks=marks, zone=booking_rules(gateway).zone, reason=code,
        text=said.text,
    )  # fmt: skip
    has_seat = one.booking is not None and not (row.frees and one.booking.state not in _LIVE)
    name = f"Appointment/{said.id}"
    claims = [row.claim(name, one.said.patient)] if row.claim and has_seat else []
    if said.verb == "void" and one.booking is not None and one.booking.state == NOSHOW:
        claims = [Excuse(name)]  # what was missed in error counts no more
    answer = said.verb in ANSWERS and said.answered
    return Planned(
        said.id, resource, one.stored.version, one.stored.owner, one.said.patient, claims,
        Told(marks.channel), await _turned(sources, one, row),
        [put_of_answer(gateway, one, said.verb, said.text)] if answer else (),
        summary=f"{said.verb} Slot/{one.said.slot}", counts=row.counts,
        freed=one if row.frees else None,
    )  # fmt: skip


_LIVE = frozenset({BOOKED, "held", "expired"})


def _check_day(one: Stands, now: int, zone: ZoneInfo) -> None:
    """A patient who is ready weeks ahead could not cancel any more."""
    if day_at(now, zone) < day_at(one.said.start, zone):
        raise Conflict(
            f"Check in on the day of the appointment, {day_at(one.said.start, zone)}; until then "
            "it can be rebooked or cancelled",
            rule="check-in-early",
        )


def _check_waits(one: Stands, now: int) -> None:
    """A hospital confirms what it was asked for, in time."""
    marks: Marks = one.said.marks
    if not marks.confirm_by:
        raise refused("hold-unconfirmed")
    if one.booking is None or not one.booking.is_live(now):
        raise refused("hold-expired")


async def _turned(sources: Sources, one: Stands, row: Step) -> list[Turned]:
    if row.frees:
        return await given_back(sources.whole, one)
    if not row.takes or one.view is None or one.slot is None:
        return []
    return turned(one.view, one.slot, 0, 1)


async def excuse(gateway: Gateway, actor: Actor, id: str, asked: Asked, *, said: str = "") -> Done:
    """A missed appointment counts no more: the appeal was accepted. The Appointment stays as it
    is, with what was said of it. Raises Unprocessable for what was not missed."""
    rules = booking_rules(gateway)

    async def plan(sources: Sources) -> Planned:
        one = await stands(sources.own, sources.whole, id, zone=gateway.settings.zone,
                           if_match=asked.if_match)  # fmt: skip
        if states.HOSPITAL not in parties_of(actor, one):
            raise Forbidden(
                "excuse is for the hospital whose slot it was", rule="appointment-party"
            )
        if one.said.status != "noshow":
            raise refused("no-show-unknown")
        resource = with_step(one.resource, status="noshow", marks=one.said.marks, zone=rules.zone)
        if said:
            resource["comment"] = said
        return Planned(
            id, resource, one.stored.version, one.stored.owner, one.said.patient,
            [Excuse(f"Appointment/{id}")], Told(one.said.marks.channel),
            summary=f"excused Slot/{one.said.slot}", counts="bookings_excused",
        )  # fmt: skip

    return await carry_out(gateway, actor, asked, f"Appointment/{id}", plan)


def check_if_match(gateway: Gateway, asked: Asked) -> None:
    """Raises PreconditionFailed where the site insists on If-Match and there is none."""
    if gateway.settings.booking_if_match and asked.if_match in (None, ANY_VERSION):
        raise PreconditionFailed(
            "This site asks for If-Match with the version that you have read; read the Appointment "
            "and send its ETag",
            rule="if-match-required",
        )
