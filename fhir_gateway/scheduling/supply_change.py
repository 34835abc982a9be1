"""What a plan means for the slots that exist: to create, to change, to withdraw; who is affected.

Pure. A changed template, calendar, closure or capacity is always the same question: what is meant
to be, against what is. A slot with live bookings is never moved or withdrawn under them: its
capacity is lowered to what is taken, so that nobody else books it, its bookings are listed for
re-booking, and once they are gone the next run does the rest. Slots that have begun, and slots
that no plan of the gateway made, are not touched.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from fhir_gateway.scheduling import extensions as ext
from fhir_gateway.scheduling.generate_fhir import ORIGIN, with_capacity
from fhir_gateway.scheduling.rows import capacity_of, class_of
from fhir_gateway.terminology.mapped_by import MAPPED_BY

Slot = Mapping[str, Any]

#: Why bookings of a slot are affected.
WITHDRAWN, MOVED, OTHER, FEWER = "withdrawn", "moved", "other-service", "fewer-seats"
REASONS: Mapping[str, tuple[str, str]] = {
    WITHDRAWN: ("号源停诊或取消", "the slot is not offered any more"),
    MOVED: ("时间调整", "the slot has another time"),
    OTHER: ("服务内容调整", "the slot is of another service, class or place"),
    FEWER: ("号源数减少", "the slot takes fewer patients than have booked"),
}

#: What is withdrawn; a plan that wants the slot again opens it again.
CLOSED = "busy-unavailable"
#: What counts in its bucket.
OPEN = ("free", "busy")


class Existing(NamedTuple):
    """A Slot as it is stored, with its version, its begin (µs) and its live appointments, oldest
    first; `held` of them are holds that may still end, the others are booked."""

    slot: Slot
    version: int
    start: int
    live: tuple[str, ...] = ()
    held: int = 0


class Affected(NamedTuple):
    """Bookings that have to be made anew, and why."""

    slot: str
    reason: str
    appointments: tuple[str, ...]


class Write(NamedTuple):
    """One Slot to be written: created (version 0) or changed from its version."""

    slot: Slot
    version: int
    action: str  # create, change, withdraw, keep-back


class SupplyChange(NamedTuple):
    """The difference. `same` and `past` are counted; `stands` has every open slot as the writes
    leave it, begun ones and a hospital's too: what quotas are counted from."""

    writes: tuple[Write, ...]
    affected: tuple[Affected, ...]
    same: int
    past: int
    stands: Mapping[str, Slot]


def changes_to(wanted: Mapping[str, Slot], existing: Iterable[Existing], now: int,
               starts: Mapping[str, int], within: tuple[int, int] | None = None
               ) -> SupplyChange:  # fmt: skip
    """The difference between slots that are meant to be and those that are, both of one horizon.

    `starts` are the beginnings (µs) of the wanted ones: what has begun is not made any more.
    `within` are the begins of which something is meant at all.
    """
    writes: list[Write] = []
    affected: list[Affected] = []
    stands: dict[str, Slot] = {}
    same = past = 0
    known = {str(one.slot["id"]): one for one in existing}
    for id, one in known.items():
        write, told = None, None
        if one.start <= now:
            past += 1
        elif _ours(one.slot) and (within is None or within[0] <= one.start < within[1]):
            write, told = _step(wanted.get(id), one)
        if told is not None:
            affected.append(told)
        if write is not None:
            writes.append(write)
        elif one.start > now:
            same += 1
        stays = write.slot if write else one.slot
        if stays["status"] in OPEN:
            stands[id] = stays
    for id, slot in wanted.items():
        if id not in known and starts[id] > now:
            writes.append(Write(slot, 0, "create"))
            stands[id] = slot
    return SupplyChange(tuple(writes), tuple(affected), same, past, stands)


def _step(wanted: Slot | None, one: Existing) -> tuple[Write | None, Affected | None]:
    """What becomes of one slot of the gateway's that has not begun."""
    id, slot = str(one.slot["id"]), one.slot
    live = len(one.live)
    if wanted is None:
        if not live:
            withdrawn = {**slot, "status": CLOSED}
            same = slot["status"] == CLOSED
            return (None if same else Write(withdrawn, one.version, "withdraw")), None
        return _kept_back(one), Affected(id, WITHDRAWN, one.live)
    reason = _moved(wanted, slot) if live else ""
    if reason:
        return _kept_back(one), Affected(id, reason, one.live)
    if live:  # seats stay counted where they were taken
        wanted = _with_bucket(wanted, ext.value_of(slot, ext.BUCKET))
    capacity = capacity_of(wanted)
    told = Affected(id, FEWER, one.live[capacity:]) if live > capacity else None
    after = _with_status(with_capacity(wanted, max(capacity, live)), one)
    return (None if _alike(after, slot) else Write(after, one.version, "change")), told


def _kept_back(one: Existing) -> Write | None:
    """The slot as it is, taking nobody but those who have booked; None where it does already."""
    after = _with_status(with_capacity(one.slot, len(one.live)), one)
    return None if _alike(after, one.slot) else Write(after, one.version, "keep-back")


def _with_bucket(slot: Slot, bucket: Any) -> Slot:
    others = [one for one in slot["extension"] if one.get("url") != ext.BUCKET]
    return {**slot, "extension": [*others, {"url": ext.BUCKET, "valueString": bucket}]}


def _with_status(slot: dict[str, Any], one: Existing) -> dict[str, Any]:
    """The slot, busy when all of its seats are booked; a hold alone fills none for good."""
    booked = len(one.live) - one.held
    return {**slot, "status": "busy" if booked >= capacity_of(slot) else "free"}


def _moved(wanted: Slot, slot: Slot) -> str:
    """Why those who have booked have to know; "" when nothing that they booked is other."""
    if (wanted["start"], wanted["end"]) != (slot["start"], slot["end"]):
        return MOVED
    return "" if _offered(wanted) == _offered(slot) else OTHER


def _offered(slot: Slot) -> tuple[frozenset[tuple[Any, Any]], str, Any]:
    """What is done, in which class, by whom. Codings that the gateway added beside the hospital's
    own come and go with its maps, and are no other service."""
    own = frozenset(
        (coding.get("system"), coding.get("code"))
        for concept in slot.get("serviceType") or ()
        for coding in concept.get("coding") or ()
        if not any(True for _ in ext.extensions(coding, MAPPED_BY))
    )
    return own, class_of(slot), slot.get("schedule")


def _ours(slot: Slot) -> bool:
    return any(True for _ in ext.extensions(slot, ORIGIN))


def _alike(one: Slot, other: Slot) -> bool:
    """Whether two slots say the same, whoever wrote them last and by whichever calendar."""
    return _said(one) == _said(other)


def _said(slot: Slot) -> Mapping[str, Any]:
    kept = {key: value for key, value in slot.items() if key not in ("meta", "extension")}
    others = [one for one in slot.get("extension") or () if one.get("url") != ORIGIN]
    kept["extension"] = sorted(others, key=lambda one: str(one.get("url")))
    kept["template"] = ext.part_of(slot, ORIGIN, "template")
    return kept
