"""Slots and quotas as a change set leaves them: what stands against it, and what follows.

The quotas of a bucket and kind always add up to the capacity of its open Slots. Where a change set
changes that capacity without settling the quotas anew, the last channel gets what is added, and
what is taken away is taken from the last channels that have something left.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from fhir_gateway.store.claim_refusals import refused
from fhir_gateway.store.claim_rows import BOOKED, QuotaRow, Settle
from fhir_gateway.store.claim_state import Group, Key, QuotaState, SlotState, pool_of
from fhir_gateway.store.claims_draft import NO_BUCKET, Draft

#: What a Slot of which somebody has a seat must keep.
_KEPT = ("start", "end", "open", "kind", "bucket", "schedule")


def turn_slots(draft: Draft, turned: Iterable[tuple[Key, SlotState | None]]) -> dict[Group, int]:
    """Puts Slots, or takes them away (None); returns by how much capacities change.

    Raises `slot-taken` where persons have seats that the new Slot would not have.
    """
    changed: dict[Group, int] = {}
    for key, slot in turned:
        before = draft.slot(key)
        if before is not None:
            _check_seats(draft, key, before, slot)
            _add(changed, before, -1)
        if slot is not None:
            _add(changed, slot, 1)
        draft.put_slot(key, slot)
    return changed


def _add(changed: dict[Group, int], slot: SlotState, sign: int) -> None:
    if slot.open and slot.bucket != NO_BUCKET:
        changed[slot.group] = changed.get(slot.group, 0) + sign * slot.capacity


def _check_seats(draft: Draft, key: Key, before: SlotState, slot: SlotState | None) -> None:
    """Seats beyond a smaller capacity get the numbers that are free."""
    seats = draft.seats(key)
    if not seats:
        return
    draft.booked.add(key)
    if slot is None or len(seats) > slot.capacity:
        raise refused("slot-taken")
    if any(getattr(before, name) != getattr(slot, name) for name in _KEPT):
        raise refused("slot-taken")
    free = (number for number in range(1, slot.capacity + 1) if number not in seats)
    for seat in [seat for seat in seats.values() if seat.seat > slot.capacity]:
        draft.move(seat, next(free))


def settle_quotas(draft: Draft, claims: Sequence[Settle], changed: dict[Group, int]) -> None:
    """Settles quotas anew, and lets the others follow the capacity of their Slots."""
    settled = set()
    for claim in claims:
        group = (claim.home, claim.bucket, claim.kind)
        _settle(draft, claim, group, draft.stored.capacity(group) + changed.get(group, 0))
        settled.add(group)
    for group, more in changed.items():
        if more and group not in settled:
            _follow(draft, group, more)


def check_busy(draft: Draft) -> None:
    """Raises `slot-changed` where Slot.status would not say whether all seats are booked."""
    for key in draft.booked:
        slot = draft.slot(key)
        if slot is None:
            continue
        booked = sum(seat.state == BOOKED for seat in draft.seats(key).values())
        if bool(slot.busy) != (booked >= slot.capacity):
            raise refused("slot-changed")


# -- quotas ---------------------------------------------------------------------------------------


def _settle(draft: Draft, claim: Settle, group: Group, capacity: int) -> None:
    _check_rows(claim.rows)
    draft.sweep_group(group)
    stored = draft.group(group)
    if any(row.serial > claim.serial for row in stored.values()):
        raise refused("quota-stale")
    if sum(row.cap for row in claim.rows) != capacity:
        raise refused("quota-capacity")
    named = {row.channel for row in claim.rows}
    kept = [row for row in stored.values() if row.used and row.channel not in named]
    rows = [
        _row(group, place, row, stored[row.channel].used if row.channel in stored else 0, claim)
        for place, row in enumerate(claim.rows)
    ]
    rows += [
        row._replace(place=len(rows) + place, cap=row.used, serial=claim.serial)
        for place, row in enumerate(kept)
    ]
    draft.put_group(group, _balanced(rows, capacity))
    for row in rows:  # a plan may have been made before a cut-off and be stored after it
        draft.fall(group, row.channel)


def _row(group: Group, place: int, row: QuotaRow, used: int, claim: Settle) -> QuotaState:
    return QuotaState(
        *group, row.channel, place, max(row.cap, used), used, row.opens, row.closes, row.falls_to,
        claim.serial, pool_of(group),
    )  # fmt: skip


def _balanced(rows: list[QuotaState], capacity: int) -> list[QuotaState]:
    """What is above the capacity is taken from the last channels that have something left."""
    over = sum(row.cap for row in rows) - capacity
    for place in range(len(rows) - 1, -1, -1):
        row = rows[place]
        part = min(max(over, 0), row.left)
        rows[place] = row._replace(cap=row.cap - part)
        over -= part
    if over > 0:
        raise refused("quota-below-used")
    return rows


def _follow(draft: Draft, group: Group, more: int) -> None:
    rows = list(draft.group(group).values())
    if not rows:
        return
    capacity = sum(row.cap for row in rows) + more
    if more > 0:
        last = max((at for at, row in enumerate(rows) if not row.falls_to), default=-1)
        rows[last] = rows[last]._replace(cap=rows[last].cap + more)
    draft.put_group(group, _balanced(rows, capacity))


def _check_rows(rows: Sequence[QuotaRow]) -> None:
    by_channel = {row.channel: row for row in rows}
    if len(by_channel) != len(rows) or any(row.cap < 0 for row in rows):
        raise refused("quota-rows")
    for row in rows:
        passed, heir = {row.channel}, row.falls_to
        while heir:
            if heir in passed or heir not in by_channel:
                raise refused("quota-rows")
            passed.add(heir)
            heir = by_channel[heir].falls_to
