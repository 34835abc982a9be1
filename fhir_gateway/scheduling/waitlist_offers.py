"""Offers of the waiting lists: a seat that is free is held for who is next, for a limited time.

Entries are served by urgency, then by age. An offer is a claim on a seat through the channel of
the entry, so it can never take more than the channel's quota, and the person's limits hold for it
as for any booking. The entry, the claim, the Task that tells of it and the AuditEvent are one
commit under the version of the entry: run twice, or two at a time, an entry has one offer.
docs/adr/0053-jobs-of-the-pools.md
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import NamedTuple

from fhir_gateway.audit.events_parts import event, operation_head, patient_entity, resource_entity
from fhir_gateway.context import Gateway
from fhir_gateway.errors import PreconditionFailed
from fhir_gateway.fhir.wire import parse
from fhir_gateway.interactions.audit import call_of, entry
from fhir_gateway.interactions.prepare import put_of
from fhir_gateway.scheduling.booking_rules import booking_rules
from fhir_gateway.scheduling.limits import offer_until
from fhir_gateway.scheduling.notice import put_of_notice
from fhir_gateway.scheduling.states import GATEWAY, entry_step
from fhir_gateway.scheduling.waitlist_entry import (
    WAITING,
    Waiting,
    ended,
    notice_of,
    offered_to,
    waiting_of,
)
from fhir_gateway.security import actor
from fhir_gateway.security.actor import SYSTEM_ACCESS
from fhir_gateway.store.changes import ChangeSet, Put, VersionIs
from fhir_gateway.store.claim_refusals import ClaimLost, ClaimRefused
from fhir_gateway.store.claim_rows import HELD, Claim, Take
from fhir_gateway.store.slot_sql import FreeSlot, Wish, find_slots
from fhir_gateway.store.store import Stored

#: Entries of a look at the store, and Slots that are tried for one entry.
PAGE, TRIED = 100, 5

ORDINARY = "ordinary"

_MILLISECOND = 1_000

#: What became of one entry.
OFFERED, NOTHING_FREE, OVER, NOT_NOW, OVERTAKEN = (
    "offered", "nothing-free", "days-over", "not-now", "overtaken"
)  # fmt: skip


class Looked(NamedTuple):
    """What became of one entry. `rule` says why nobody could be booked for it now."""

    appointment: str
    outcome: str
    slot: str = ""
    rule: str = ""


async def offer(gateway: Gateway, *, dry_run: bool = False) -> AsyncIterator[Looked]:
    """Offers what is free to those who wait, in their order. Raises Unavailable as commits do."""
    after: int | None = None
    nothing: set[tuple[object, ...]] = set()
    while True:
        async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
            groups = await reader.listed(
                "Appointment", WAITING, after=after, limit=PAGE, examples=PAGE
            )
        for stored in (one for group in groups for one in group.examples.values()):
            found = waiting_of(parse(stored.whole()), gateway.settings.zone)
            if found is not None and not found.offered:
                yield await _look(gateway, stored, found, nothing, dry_run)
        if not groups:
            return
        after = groups[-1].value


async def is_due(gateway: Gateway) -> bool:
    """Whether anybody waits."""
    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        return bool(
            await reader.listed("Appointment", WAITING, after=None, limit=1, examples=1)
        )  # fmt: skip


async def _look(
    gateway: Gateway, stored: Stored, waiting: Waiting, nothing: set[tuple[object, ...]],
    dry_run: bool,
) -> Looked:  # fmt: skip
    """One entry in its turn. `nothing` are wishes for which there was no seat in this run."""
    if waiting.end <= gateway.clock.now():
        if not dry_run:
            entry_step(waiting.state, "end", GATEWAY)
            resource = ended(parse(stored.whole()))
            await _store(gateway, stored, waiting, [_put(gateway, stored, resource)], [], OVER)
        return Looked(waiting.id, OVER)
    wish = (waiting.service, waiting.items, waiting.start, waiting.end, waiting.marks.channel)
    past = {slot for slot, _ in waiting.past}
    found = [] if wish in nothing else await _free(gateway, waiting, TRIED + len(past))
    if not found:
        nothing.add(wish)
    slots = [one for one in found if one.id not in past]
    if not slots:
        return Looked(waiting.id, NOTHING_FREE)
    if dry_run:
        return Looked(waiting.id, OFFERED, slots[0].id)
    return await _offer(gateway, stored, waiting, slots)


async def _free(gateway: Gateway, waiting: Waiting, limit: int) -> Sequence[FreeSlot]:
    now = gateway.clock.now()
    wish = Wish(
        max(waiting.start, now + 1), waiting.end, _channels(waiting), waiting.items,
        services=[waiting.service] if waiting.service else (),
    )  # fmt: skip
    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        found = await reader.steps(
            lambda seen: find_slots(seen.dialect, wish, now=now, limit=limit)
        )
    return found.slots


def _channels(waiting: Waiting) -> tuple[str, ...]:
    """The entry's own channel, then the one that is open to everybody."""
    return tuple(dict.fromkeys((waiting.marks.channel, ORDINARY)))


async def _offer(
    gateway: Gateway, stored: Stored, waiting: Waiting, slots: Sequence[FreeSlot]
) -> Looked:
    """The first of these Slots that the person can have is held and offered."""
    rules, rule = booking_rules(gateway), ""
    entry_step(waiting.state, "offer", GATEWAY)
    for slot in slots:
        now = gateway.clock.now()
        until = offer_until(rules.limits, now, slot.place[0])
        until -= until % _MILLISECOND  # as the entry says it
        channel = next((one for one in _channels(waiting) if one in slot.channels), ORDINARY)
        claim = Take(
            f"Slot/{slot.id}", f"Appointment/{waiting.id}", waiting.patient, channel, HELD, until,
            rules.claims,
        )  # fmt: skip
        resource = offered_to(parse(stored.whole()), slot.id, until, rules.zone)
        puts = [
            _put(gateway, stored, resource),
            put_of_notice(gateway, notice_of(waiting, slot.id, until, now)),
        ]
        try:
            await _store(gateway, stored, waiting, puts, [claim], f"{OFFERED} Slot/{slot.id}")
        except PreconditionFailed:
            return Looked(waiting.id, OVERTAKEN)
        except (ClaimLost, ClaimRefused) as error:
            rule = error.issues[0].rule or ""
            continue
        gateway.count("waitlist_offers", 1)
        return Looked(waiting.id, OFFERED, slot.id)
    return Looked(waiting.id, NOT_NOW, rule=rule)


def _put(gateway: Gateway, stored: Stored, resource: dict[str, object]) -> Put:
    return put_of(gateway, resource, op="update", owner=stored.owner)


async def _store(
    gateway: Gateway, stored: Stored, waiting: Waiting, puts: list[Put], claims: list[Claim],
    summary: str,
) -> None:  # fmt: skip
    told = event(
        operation_head("waitlist-offer"), call_of(gateway, actor.GATEWAY), "0", "write",
        (patient_entity(waiting.patient), resource_entity(f"Appointment/{waiting.id}")), summary,
    )  # fmt: skip
    await gateway.store.commit(ChangeSet(
        id=gateway.random(16),
        guards=[VersionIs("Appointment", stored.id, stored.version)],
        puts=puts,
        claims=claims,
        journal=[entry(gateway, told, patient=waiting.patient)],
    ))  # fmt: skip
