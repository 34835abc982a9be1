"""Bookings whose slot is not offered any more: proposals and a Task for each, and moving them.

The slot sells to nobody from the commit of its withdrawal (supply.py); whoever has booked keeps the
seat until it is moved or cancelled. A Task for the booking institution and the patient proposes
other slots of the same hospital; the hospital can move all of them at once. Nothing is dropped: who
cannot be moved is told with the rule. docs/pools-operation.md
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import suppress
from typing import NamedTuple
from zoneinfo import ZoneInfo

from fhir_gateway.context import Gateway
from fhir_gateway.errors import Conflict, GatewayError, NotFound, PreconditionFailed
from fhir_gateway.fhir.home import institution_home
from fhir_gateway.fhir.wire import parse
from fhir_gateway.scheduling.appointment import Standing, standing_of
from fhir_gateway.scheduling.booking_parties import view_of
from fhir_gateway.scheduling.calendar import day_at, instant_at
from fhir_gateway.scheduling.move import rebook
from fhir_gateway.scheduling.notice import REBOOK, Notice, put_of_notice, put_of_task
from fhir_gateway.scheduling.seat_commit import Asked
from fhir_gateway.scheduling.supply_change import REASONS, Affected
from fhir_gateway.security.actor import GATEWAY, SYSTEM_ACCESS
from fhir_gateway.store.changes import ChangeSet, VersionIs
from fhir_gateway.store.missed_sql import Taken, seats_listed
from fhir_gateway.store.slot_sql import FreeSlot, Wish, find_slots
from fhir_gateway.store.slot_view_sql import SlotView

#: Slots that are proposed for one booking, and how long (µs) after its day they may be.
PROPOSED, _DAYS_AFTER = 3, 60 * 24 * 3_600_000_000

#: Slots that are tried for one booking that is moved.
_TRIED = 20

_ORDINARY = "ordinary"


class Told(NamedTuple):
    """A booking that has to be made anew: told, told-already, or gone; and what is proposed."""

    appointment: str
    outcome: str
    slots: tuple[str, ...] = ()


class Moved(NamedTuple):
    """A booking that was to be moved: moved to `slot`, would-move, or left with a rule."""

    appointment: str
    outcome: str
    slot: str = ""
    rule: str = ""


async def tell_affected(gateway: Gateway, affected: Iterable[Affected]) -> AsyncIterator[Told]:
    """Stores a Task with proposals for each affected booking; telling again stores nothing."""
    for one in affected:
        for name in one.appointments:
            yield await _tell(gateway, name.partition("/")[2], one)


async def _tell(gateway: Gateway, id: str, one: Affected) -> Told:
    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        stored = await reader.read("Appointment", id)
        view = await view_of(reader, one.slot)
    if stored is None or stored.deleted or view is None:
        return Told(id, "gone")
    said = standing_of(parse(stored.whole()), gateway.settings.zone)
    if said.slot != one.slot:
        return Told(id, "gone")
    notice = await _notice(gateway, said, view, one.reason)
    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        before = await reader.read("Task", notice.id)
    if before is not None and not before.deleted:
        return Told(id, "told-already")
    try:
        await gateway.store.commit(ChangeSet(
            id=gateway.random(16),
            guards=[
                VersionIs("Task", notice.id, 0),
                VersionIs("Appointment", id, stored.version),
            ],
            puts=[put_of_notice(gateway, notice)],
        ))  # fmt: skip
    except (PreconditionFailed, Conflict):
        return Told(id, "told-already")
    return Told(id, "told", tuple(notice.slots))


async def _notice(gateway: Gateway, said: Standing, view: SlotView, reason: str) -> Notice:
    chinese, english = REASONS[reason]
    proposed = await _free(gateway, view, said, (), PROPOSED)
    return Notice(
        REBOOK, (said.id, view.slot.id), f"Appointment/{said.id}", said.marks.booked_by,
        f"{chinese}，请改约；原号源保留至改约或取消 ({english}; the seat is kept until you "
        "rebook or cancel)",
        gateway.clock.now(), said.patient, tuple(one.id for one in proposed), said.start,
        priority="urgent", labels=said.labels,
    )  # fmt: skip


async def _free(
    gateway: Gateway, view: SlotView, said: Standing, schedules: tuple[str, ...], limit: int
) -> list[FreeSlot]:
    """Free slots of the same hospital for the same items, through the booking's own channel or the
    one that is open to everybody; on the booked day or later, the earliest first."""
    now, zone = gateway.clock.now(), ZoneInfo(gateway.settings.zone)
    since = instant_at(day_at(said.start, zone), 0, zone)
    wish = Wish(
        max(now + 1, since), said.start + _DAYS_AFTER,
        tuple(dict.fromkeys((said.marks.channel, _ORDINARY))), view.items,
        homes=[view.slot.home], schedules=schedules,
        departments=() if schedules else [view.schedule.department],
    )  # fmt: skip
    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        found = await reader.steps(
            lambda seen: find_slots(seen.dialect, wish, now=now, limit=limit)
        )
    return [one for one in found.slots if one.id != view.slot.id]


# -- moved by the hospital ------------------------------------------------------------------------


async def bookings_on(
    gateway: Gateway, institution: str, schedule: str, since: int, until: int
) -> list[Taken]:
    """The bookings of a Schedule that begin between two times and have not begun. Raises NotFound
    for a Schedule that is not the institution's."""
    home = institution_home(institution)
    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        if await reader.home("Schedule", schedule) != home:
            raise NotFound(f"{institution} has no Schedule {schedule} here", rule="schedule")
        taken = await reader.steps(
            lambda _: seats_listed(home, max(since, gateway.clock.now() + 1), until)
        )
    return [one for one in taken if one.schedule == schedule]


async def move(
    gateway: Gateway, taken: Iterable[Taken], to_schedule: str, *, dry_run: bool = False
) -> AsyncIterator[Moved]:
    """Moves bookings to free slots of another Schedule of the hospital, the earliest first, each
    in one commit that takes the new seat before it gives back the old one; holds are left."""
    for one in taken:
        if one.state != "booked":
            yield Moved(one.appointment, "left", rule="hold-unconfirmed")
        else:
            yield await _move(gateway, one, to_schedule, dry_run)


async def _move(gateway: Gateway, one: Taken, to_schedule: str, dry_run: bool) -> Moved:
    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        stored = await reader.read("Appointment", one.appointment)
        view = await view_of(reader, one.slot)
    if stored is None or stored.deleted or view is None:
        return Moved(one.appointment, "left", rule="hold-unknown")
    said = standing_of(parse(stored.whole()), gateway.settings.zone)
    rule = "slot-full"
    for slot in await _free(gateway, view, said, (to_schedule,), _TRIED):
        if dry_run:
            return Moved(one.appointment, "would-move", slot.id)
        channel = _channel(said, slot)
        try:
            await rebook(gateway, GATEWAY, one.appointment, slot.id,
                         Asked("$rebook", if_match=stored.version), channel=channel)  # fmt: skip
        except GatewayError as error:
            rule = error.issues[0].rule or ""
            if rule == "if-match":
                break
            continue
        await _close(gateway, said, one)
        return Moved(one.appointment, "moved", slot.id)
    return Moved(one.appointment, "left", rule=rule)


def _channel(said: Standing, slot: FreeSlot) -> str:
    """The booking's own channel where it sells, else the one that is open to everybody."""
    return said.marks.channel if said.marks.channel in slot.channels else _ORDINARY


async def _close(gateway: Gateway, said: Standing, one: Taken) -> None:
    """The Task that asked for it is done."""
    notice = Notice(REBOOK, (said.id, one.slot), f"Appointment/{said.id}", said.marks.booked_by,
                    "", 0)  # fmt: skip
    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        stored = await reader.read("Task", notice.id)
    if stored is None or stored.deleted:
        return
    task = {**parse(stored.whole()), "status": "completed"}
    with suppress(PreconditionFailed):  # somebody settles it in this moment
        await gateway.store.commit(ChangeSet(
            id=gateway.random(16),
            guards=[VersionIs("Task", stored.id, stored.version)],
            puts=[put_of_task(gateway, task, said.marks.booked_by)],
        ))  # fmt: skip
