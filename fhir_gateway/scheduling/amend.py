"""What a booking says beside its place: why the patient comes, words for the hospital, its order.

Its seat, time and channel stay; those change by moving it (move.py). SRM^S03 is this, too.
docs/booking.md, docs/booking-v2.md, docs/adr/0058
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from fhir_gateway.context import Gateway
from fhir_gateway.errors import Unprocessable
from fhir_gateway.scheduling.appointment import with_step
from fhir_gateway.scheduling.booking_parties import Stands, stands, step
from fhir_gateway.scheduling.booking_person import check_orders, orders_named, person_of
from fhir_gateway.scheduling.booking_rules import booking_rules
from fhir_gateway.scheduling.seat_commit import Asked, Done, Planned, Sources, Told, carry_out
from fhir_gateway.security.actor import Actor
from fhir_gateway.store.claim_refusals import refused

_AMEND = Asked("$amend")


class Amendment(NamedTuple):
    """What is to be said from now on; what is left out stays. `based_on` are references of
    ServiceRequests, in place of those that were named."""

    reason: Mapping[str, Any] | None = None
    comment: str = ""
    based_on: Sequence[str] = ()


async def amend(
    gateway: Gateway, actor: Actor, id: str, amendment: Amendment, asked: Asked = _AMEND
) -> Done:
    """Changes what a hold or a booking says. Raises NotFound, Forbidden, Conflict (it is over),
    Unprocessable (nothing to change, an order that does not fit), PreconditionFailed."""

    async def plan(sources: Sources) -> Planned:
        one = await stands(sources.own, sources.whole, id, zone=gateway.settings.zone,
                           if_match=asked.if_match)  # fmt: skip
        status, marks = step(actor, one, "amend"), one.said.marks
        if one.booking is None or not one.booking.is_live(gateway.clock.now()):
            raise refused("hold-expired")
        changed = await _changed(sources, one, amendment)
        resource = with_step(
            one.resource | changed, status=status, marks=marks, zone=booking_rules(gateway).zone
        )
        return Planned(
            id, resource, one.stored.version, one.stored.owner, one.said.patient, (),
            Told(marks.channel), summary=f"amended {' '.join(sorted(changed))}",
            counts="bookings_amended",
        )  # fmt: skip

    return await carry_out(gateway, actor, asked, f"Appointment/{id}", plan)


async def _changed(sources: Sources, one: Stands, amendment: Amendment) -> dict[str, Any]:
    """The elements that become others."""
    changed: dict[str, Any] = {}
    if amendment.reason:
        changed["reasonCode"] = [dict(amendment.reason)]
    if amendment.comment:
        changed["comment"] = amendment.comment
    if amendment.based_on:
        orders = await orders_named(sources.own, amendment.based_on)
        person = await person_of(sources.own, one.said.patient)
        check_orders(orders, person, one.view.items if one.view is not None else ())
        changed["basedOn"] = [{"reference": each} for each in amendment.based_on]
    if not changed:
        raise Unprocessable(
            "Nothing is said that could be changed: give reason, comment or based-on; time and "
            "slot change by $rebook",
            rule="amend-nothing",
        )
    return changed
