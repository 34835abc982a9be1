"""A seat that is given back is offered in the same commit to who waits for it.

So nobody who searches is faster than the waiting list. The offer is a claim behind the one that
gives the seat back: who cannot have it (a limit, an overlap, a quota) is passed over, and the next
one is asked; where nobody of the first entries can, the seat is on sale. A seat of a slot that was
withdrawn is offered to nobody, and the Task that asked for the re-booking is done.
docs/pools-operation.md, docs/adr/0053-jobs-of-the-pools.md
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import NamedTuple

import msgspec

from fhir_gateway.context import Gateway
from fhir_gateway.fhir.wire import parse
from fhir_gateway.scheduling.booking_parties import Stands
from fhir_gateway.scheduling.notice import REBOOK, Notice, put_of_task
from fhir_gateway.scheduling.waitlist_entry import WAITING, Waiting, waiting_of
from fhir_gateway.scheduling.waitlist_offers import Offering, channels_of, offering, suits
from fhir_gateway.store.changes import Put, VersionIs
from fhir_gateway.store.slot_view_sql import SlotView
from fhir_gateway.store.store import Reader, Stored

#: Entries that are looked at, and those that are tried: what is beyond waits for the next look.
LOOKED_AT, TRIED = 100, 4


class Freed(NamedTuple):
    """What follows when a seat is given back: a Task that is done, and an offer."""

    task: Put | None = None
    guard: VersionIs | None = None
    offering: Offering | None = None


async def follows(gateway: Gateway, whole: Reader, one: Stands, passed: frozenset[str]) -> Freed:
    """What follows from giving back the seat of a booking; `passed` are entries that could not
    have it."""
    now, view = gateway.clock.now(), one.view
    if view is None or one.booking is None or not one.booking.is_live(now):
        return Freed()
    if (done := await settled(gateway, whole, one)).task is not None:
        return done
    if not view.open or view.slot.start <= now or len(passed) >= TRIED:
        return Freed()
    async for stored, waiting in _waiting(gateway, whole):
        channel = _channel(waiting, one, view, now)
        if waiting.id in passed or stored.home == one.stored.home or not channel:
            continue
        if _fits(waiting, view) and await suits(gateway, whole, waiting, one.around):
            return Freed(None, None, offering(
                gateway, stored, waiting, view.slot.id, view.slot.start, channel
            ))  # fmt: skip
    return Freed()


async def settled(gateway: Gateway, whole: Reader, one: Stands) -> Freed:
    """The Task that asked to book this anew, done; nothing where none asks."""
    task = await _asked_to_rebook(whole, one)
    if task is None:
        return Freed()
    done = {**parse(task.whole()), "status": "completed"}
    done.pop("meta", None)
    return Freed(
        put_of_task(gateway, done, one.said.marks.booked_by),
        VersionIs("Task", task.id, task.version),
    )


async def _asked_to_rebook(whole: Reader, one: Stands) -> Stored | None:
    """The open Task that asked to book this anew, because the slot is offered no more."""
    notice = Notice(REBOOK, (one.said.id, one.said.slot), f"Appointment/{one.said.id}",
                    one.said.marks.booked_by, "", 0)  # fmt: skip
    stored = await whole.read("Task", notice.id)
    if stored is None or stored.deleted:
        return None
    return stored if parse(stored.whole()).get("status") == "requested" else None


async def _waiting(gateway: Gateway, whole: Reader) -> AsyncIterator[tuple[Stored, Waiting]]:
    """The first entries that wait, in their order."""
    groups = await whole.listed(
        "Appointment", WAITING, after=None, limit=LOOKED_AT, examples=LOOKED_AT
    )
    for stored in (one for group in groups for one in group.examples.values()):
        found = waiting_of(parse(stored.whole()), gateway.settings.zone)
        if found is not None and not found.offered:
            yield stored, found


def _fits(waiting: Waiting, view: SlotView) -> bool:
    """Whether the Slot is what somebody waits for, and was not offered to him before."""
    slot = view.slot
    services = msgspec.json.decode(view.schedule.services, type=list[str])
    return (
        waiting.start <= slot.start < waiting.end
        and (not waiting.service or waiting.service in services)
        and (not waiting.items or bool(set(waiting.items) & set(view.items)))
        and all(slot.id != before for before, _ in waiting.past)
    )


def _channel(waiting: Waiting, one: Stands, view: SlotView, now: int) -> str:
    """The channel of an entry that sells the seat once it is given back, "" for none: its own, else
    the one that is open to everybody. A channel whose cut-off has passed leaves it to its heirs."""
    rows = {row.channel: row for row in view.quotas}
    if not rows:
        return waiting.marks.channel
    before = one.booking.channel if one.booking is not None else ""
    falls = before in rows and rows[before].is_closed(now)
    for channel in channels_of(waiting):
        row = rows.get(channel)
        if row is None or now < row.opens or row.is_closed(now):
            continue
        if row.left > 0 or channel == before or falls:
            return channel
    return ""
