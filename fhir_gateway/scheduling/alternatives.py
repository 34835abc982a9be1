"""The next offers, told with a refusal: whoever came too late need not search again.

ITI-116 answers a lost race by an OperationOutcome that is fatal and not-found; ours says beside it
why, and which seats the caller could have instead. docs/booking.md
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from fhir_gateway.context import Gateway
from fhir_gateway.errors import Conflict, GatewayError, Issue
from fhir_gateway.scheduling.booking_parties import view_of
from fhir_gateway.scheduling.booking_rules import booking_rules
from fhir_gateway.scheduling.calendar import day_at, instant_at, moment_at
from fhir_gateway.scheduling.find import FindRequest, find
from fhir_gateway.scheduling.offered import Offered
from fhir_gateway.scheduling.seat_channels import NoChannel
from fhir_gateway.scheduling.seat_choice import HoldRequest
from fhir_gateway.security.actor import SYSTEM_ACCESS, Actor
from fhir_gateway.store.claim_state import SlotState

_SHOWN = 3
_DAYS = 28
_DAY = 86_400_000_000

#: The seat is gone: what ITI-116 calls a lost race.
_GONE = frozenset({"slot-full", "slot-closed", "slot-unknown", "slot-past", "slot-changed"})
_OTHER = frozenset({
    "quota-full", "channel-closed", "channel-not-open", "person-overlap", "person-limit",
    "order-other-item",
})  # fmt: skip


class SeatGone(Conflict):
    """Somebody else has the seat, or it is not there any more."""

    code = "not-found"


async def with_alternatives(
    gateway: Gateway, actor: Actor, request: HoldRequest, error: GatewayError
) -> GatewayError:
    """The refusal with the next offers, where others may help; else as it is."""
    rule = error.issues[0].rule
    if rule not in _GONE and rule not in _OTHER and not isinstance(error, NoChannel):
        return error
    try:
        offers = await _next(gateway, actor, request, rule)
    except GatewayError:
        offers = ()  # what is asked for may be no Patient, or no order: the refusal says enough
    issues = [*error.issues, *(_told(gateway, one) for one in offers)]
    if rule in _GONE:
        first = issues[0]
        issues[0] = Issue("not-found", first.diagnostics, "slot", rule, "fatal")
        return _instead(SeatGone(issues=tuple(issues)), error)
    kind = type(error)
    return _instead(kind(issues=tuple(issues)), error)


def _instead(told: GatewayError, error: GatewayError) -> GatewayError:
    """A refusal in place of another one, of the same Patient."""
    vars(told)["patient"] = vars(error).get("patient", "")
    return told


async def _next(
    gateway: Gateway, actor: Actor, request: HoldRequest, rule: str | None
) -> Sequence[Offered]:
    """Seats of the same items that begin about then, or else soon."""
    async with gateway.store.snapshot(SYSTEM_ACCESS) as whole:
        view = await view_of(whole, request.slot)
    now = gateway.clock.now()
    if view is None:
        return ()
    start = max(now, min(_from(gateway, view.slot, rule), now + _DAYS * _DAY))
    items = () if rule == "order-other-item" else view.items  # those of the order are looked for
    found = await find(gateway, actor, FindRequest(
        start, start + _DAYS * _DAY, items=items, patient=request.patient,
        based_on=tuple(request.based_on), limit=_SHOWN + 1, leave=request.slot,
        departments=() if view.items else (view.schedule.department,),
        hospitals=() if view.items else (view.hospital,),
    ))  # fmt: skip
    return found.offers[:_SHOWN]


def _from(gateway: Gateway, slot: SlotState, rule: str | None) -> int:
    """From when on another seat may help: a limit of a day is not met on that day."""
    if rule == "person-limit":
        zone = booking_rules(gateway).zone
        return instant_at(day_at(slot.start, zone) + timedelta(days=1), 0, zone)
    return slot.end if rule == "person-overlap" else slot.start


def _told(gateway: Gateway, one: Offered) -> Issue:
    zone = booking_rules(gateway).zone
    when = f"{moment_at(one.free.place[0], zone):%Y-%m-%d %H:%M}"
    text = f"Slot/{one.id} at {one.hospital}, {when}, through {one.channel or 'ordinary'}"
    return Issue("informational", text, "slot", "offer", "information")
