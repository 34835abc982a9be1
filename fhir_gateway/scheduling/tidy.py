"""Tidying: holds that are over, bookings that no hospital confirmed, offers that nobody took.

A seat that is over is nobody's by comparison of time, without this (docs/adr/0049). What is done
here is to say so: the Appointment becomes cancelled with its reason, or an entry of the waiting
list waits again, in one commit with the seat's release, under the version that was read. Whoever
books or renews in that moment wins. docs/adr/0053-jobs-of-the-pools.md
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, NamedTuple

from fhir_gateway.audit.events_parts import event, operation_head, patient_entity, resource_entity
from fhir_gateway.context import Gateway
from fhir_gateway.errors import Conflict, PreconditionFailed
from fhir_gateway.fhir.wire import parse
from fhir_gateway.interactions.audit import call_of, entry
from fhir_gateway.interactions.prepare import put_of
from fhir_gateway.scheduling.appointment import Marks, Standing, standing_of, with_step
from fhir_gateway.scheduling.booking_rules import booking_rules
from fhir_gateway.scheduling.notice import RELEASED, Notice, put_of_notice
from fhir_gateway.scheduling.states import GATEWAY, step
from fhir_gateway.scheduling.waitlist_entry import after_offer
from fhir_gateway.security import actor
from fhir_gateway.security.actor import SYSTEM_ACCESS
from fhir_gateway.store.changes import ChangeSet, Put, VersionIs
from fhir_gateway.store.claim_refusals import ClaimRefused
from fhir_gateway.store.claim_rows import Give
from fhir_gateway.store.claim_state import BookingState
from fhir_gateway.store.seat_sql import expired_holds
from fhir_gateway.store.store import Stored

#: Bookings of a look at the store.
PAGE = 200

#: What becomes of one.
HOLD, UNCONFIRMED, OFFER, SEAT, OVERTAKEN = (
    "hold-over", "unconfirmed", "offer-over", "seat-over", "overtaken"
)  # fmt: skip

_WORDS = {
    HOLD: "占位已过期，未完成预约 (the hold ended before the booking was made)",
    UNCONFIRMED: "医院未在期限内确认，号源已释放，请另行预约 "
    "(the hospital did not confirm in time; the seat was released, please book another one)",
}
_REASONS = {HOLD: "other", UNCONFIRMED: "prov"}


class Tidied(NamedTuple):
    """What became of one Appointment."""

    appointment: str
    outcome: str


async def tidy(gateway: Gateway, *, dry_run: bool = False) -> AsyncIterator[Tidied]:
    """Tidies what is over by now, the oldest first. Raises Unavailable as commits do."""
    now = gateway.clock.now()
    seen: set[tuple[int, int]] = set()
    while True:
        async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
            limit = PAGE + len(seen)
            rows = await reader.steps(lambda _, limit=limit: expired_holds(now, limit))  # type: ignore[misc]
        for booking in rows:
            if booking[:2] not in seen:
                seen.add(booking[:2])
                yield Tidied(booking.id, await _one(gateway, booking, dry_run))
        if len(rows) < limit:
            return


async def is_due(gateway: Gateway) -> bool:
    """Whether there is anything to tidy."""
    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        now = gateway.clock.now()
        return bool(await reader.steps(lambda _: expired_holds(now, 1)))


async def _one(gateway: Gateway, booking: BookingState, dry_run: bool) -> str:
    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        stored = await reader.read("Appointment", booking.id)
    outcome, puts = _after(gateway, stored)
    if dry_run:
        return outcome
    guards = [] if stored is None else [VersionIs("Appointment", booking.id, stored.version)]
    patient = _standing(gateway, stored).patient if stored and not stored.deleted else ""
    told = event(
        operation_head("expire"), call_of(gateway, actor.GATEWAY), "0", "write",
        (patient_entity(patient or None), resource_entity(f"Appointment/{booking.id}")), outcome,
    )  # fmt: skip
    change_set = ChangeSet(
        id=gateway.random(16),
        guards=list(guards),
        puts=puts,
        claims=[Give(f"Appointment/{booking.id}")],
        journal=[entry(gateway, told, patient=patient or None)],
    )
    try:
        await gateway.store.commit(change_set)
    except (PreconditionFailed, Conflict, ClaimRefused):  # others were faster: booked, cancelled …
        return OVERTAKEN
    gateway.count("pool_tidied", 1)
    return outcome


def _standing(gateway: Gateway, stored: Stored) -> Standing:
    return standing_of(parse(stored.whole()), gateway.settings.zone)


def _after(gateway: Gateway, stored: Stored | None) -> tuple[str, list[Put]]:
    """What becomes of an Appointment whose hold is over, with the resources that say so."""
    if stored is None or stored.deleted:
        return SEAT, []
    appointment = parse(stored.whole())
    standing = standing_of(appointment, gateway.settings.zone)
    if standing.status == "waitlist":
        resource, told = after_offer(gateway, appointment, "expire")
        put = put_of(gateway, resource, op="update", owner=stored.owner)
        return OFFER, [put, put_of_notice(gateway, told)]
    if standing.status != "pending":
        return SEAT, []
    outcome = UNCONFIRMED if standing.marks.confirm_by else HOLD
    puts = [_cancelled(gateway, appointment, standing, stored, outcome)]
    if outcome == UNCONFIRMED:
        puts.append(put_of_notice(gateway, _notice(gateway, standing, stored.version)))
    return outcome, puts


def _cancelled(
    gateway: Gateway, appointment: dict[str, Any], standing: Standing, stored: Stored, why: str
) -> Put:
    marks = Marks(standing.marks.channel, standing.marks.booked_by)
    resource = with_step(
        appointment, status=step("pending", "expire", GATEWAY), marks=marks,
        zone=booking_rules(gateway).zone, reason=_REASONS[why], text=_WORDS[why],
    )  # fmt: skip
    return put_of(gateway, resource, op="update", owner=stored.owner)


def _notice(gateway: Gateway, standing: Standing, version: int) -> Notice:
    return Notice(
        RELEASED, (standing.id, str(version)), f"Appointment/{standing.id}",
        standing.marks.booked_by, _WORDS[UNCONFIRMED], gateway.clock.now(), standing.patient,
        priority="urgent", labels=standing.labels,
    )  # fmt: skip
