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
from fhir_gateway.scheduling.booking_parties import around_of
from fhir_gateway.scheduling.booking_person import unfit
from fhir_gateway.scheduling.booking_rules import booking_rules
from fhir_gateway.scheduling.calendar import day_at
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
from fhir_gateway.store.changes import ChangeSet, Entry, Put, VersionIs
from fhir_gateway.store.claim_refusals import ClaimLost, ClaimRefused
from fhir_gateway.store.claim_rows import HELD, Take
from fhir_gateway.store.seat_around_sql import Around
from fhir_gateway.store.slot_sql import FreeSlot, Wish, find_slots
from fhir_gateway.store.store import Reader, Stored

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
        return Looked(waiting.id, OVER) if dry_run else await _end(gateway, stored, waiting)
    wish = (waiting.service, waiting.items, waiting.start, waiting.end, waiting.marks.channel)
    past = {slot for slot, _ in waiting.past}
    found = [] if wish in nothing else await _free(gateway, waiting, TRIED + len(past))
    if not found:
        nothing.add(wish)
    slots = await _suited(gateway, waiting, [one for one in found if one.id not in past])
    if not slots:
        return Looked(waiting.id, NOTHING_FREE)
    if dry_run:
        return Looked(waiting.id, OFFERED, slots[0].id)
    return await _offer(gateway, stored, waiting, slots)


async def _end(gateway: Gateway, stored: Stored, waiting: Waiting) -> Looked:
    """An entry whose days are over."""
    entry_step(waiting.state, "end", GATEWAY)
    try:
        await gateway.store.commit(ChangeSet(
            id=gateway.random(16),
            guards=[VersionIs("Appointment", stored.id, stored.version)],
            puts=[_put(gateway, stored, ended(parse(stored.whole())))],
            journal=[_told(gateway, waiting, OVER)],
        ))  # fmt: skip
    except PreconditionFailed:  # it is cancelled in this moment
        return Looked(waiting.id, OVERTAKEN)
    return Looked(waiting.id, OVER)


class Offering(NamedTuple):
    """An offer as it is stored: the entry's claim on a seat, its resources, and its AuditEvent."""

    entry: str  # logical id
    claim: Take
    puts: list[Put]
    guard: VersionIs
    journal: Entry


def offering(
    gateway: Gateway, stored: Stored, waiting: Waiting, slot: str, start: int, channel: str
) -> Offering:
    """A Slot that begins at `start`, held for an entry and offered to it from now on."""
    rules, now = booking_rules(gateway), gateway.clock.now()
    entry_step(waiting.state, "offer", GATEWAY)
    until = offer_until(rules.limits, now, start)
    until -= until % _MILLISECOND  # as the entry says it
    claim = Take(
        f"Slot/{slot}", f"Appointment/{waiting.id}", waiting.patient, channel, HELD, until,
        rules.claims,
    )  # fmt: skip
    resource = offered_to(parse(stored.whole()), slot, until, rules.zone)
    puts = [
        _put(gateway, stored, resource),
        put_of_notice(gateway, notice_of(waiting, slot, until, now)),
    ]
    return Offering(
        waiting.id, claim, puts, VersionIs("Appointment", stored.id, stored.version),
        _told(gateway, waiting, f"{OFFERED} Slot/{slot}"),
    )  # fmt: skip


async def _free(gateway: Gateway, waiting: Waiting, limit: int) -> Sequence[FreeSlot]:
    now = gateway.clock.now()
    wish = Wish(
        max(waiting.start, now + 1), waiting.end, channels_of(waiting), waiting.items,
        services=[waiting.service] if waiting.service else (),
    )  # fmt: skip
    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        found = await reader.steps(
            lambda seen: find_slots(seen.dialect, wish, now=now, limit=limit)
        )
    return found.slots


async def _suited(gateway: Gateway, waiting: Waiting, slots: Sequence[FreeSlot]) -> list[FreeSlot]:
    """Those of the Slots that are for who waits."""
    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        return [
            one for one in slots
            if await suits(gateway, reader, waiting, await around_of(reader, one.id))
        ]  # fmt: skip


async def suits(gateway: Gateway, whole: Reader, waiting: Waiting, there: Around) -> bool:
    """Whether a Slot may be booked for who waits, by sex and age: an offer that he cannot take
    would keep the seat from the next one. Who is registered as deceased is offered nothing."""
    patient = await whole.read("Patient", waiting.patient)
    if patient is None or patient.deleted or there.view is None:
        return False
    day = day_at(there.view.slot.start, booking_rules(gateway).zone)
    asked = [parse(one.whole()) for one in (there.slot, there.schedule) if one is not None]
    issues = unfit(parse(patient.whole()), day, *asked)
    return all(one.severity != "error" for one in issues)


def channels_of(waiting: Waiting) -> tuple[str, ...]:
    """The entry's own channel, then the one that is open to everybody."""
    return tuple(dict.fromkeys((waiting.marks.channel, ORDINARY)))


async def _offer(
    gateway: Gateway, stored: Stored, waiting: Waiting, slots: Sequence[FreeSlot]
) -> Looked:
    """The first of these Slots that the person can have is held and offered."""
    rule = ""
    for slot in slots:
        channel = next((one for one in channels_of(waiting) if one in slot.channels), ORDINARY)
        one = offering(gateway, stored, waiting, slot.id, slot.place[0], channel)
        try:
            await gateway.store.commit(ChangeSet(
                id=gateway.random(16), guards=[one.guard], puts=one.puts, claims=[one.claim],
                journal=[one.journal],
            ))  # fmt: skip
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


def _told(gateway: Gateway, waiting: Waiting, summary: str) -> Entry:
    """The AuditEvent of what became of an entry."""
    told = event(
        operation_head("waitlist-offer"), call_of(gateway, actor.GATEWAY), "0", "write",
        (patient_entity(waiting.patient), resource_entity(f"Appointment/{waiting.id}")), summary,
    )  # fmt: skip
    return entry(gateway, told, patient=waiting.patient)
