"""Warnings for what else a person has booked, at whichever hospital: the same item again, or two
places at nearly one time.

A warning never stops a booking. What the caller may not see is not told: neither where nor what,
only that the patient should be asked. docs/booking.md
"""

from __future__ import annotations

from fhir_gateway.errors import Issue
from fhir_gateway.scheduling.limits import BookingLimits
from fhir_gateway.scheduling.seat_commit import Sources
from fhir_gateway.security.classes import Classes
from fhir_gateway.store.seat_around_sql import Around
from fhir_gateway.store.slot_view_sql import Other, SlotView

_MINUTE = 60_000_000
_DAY = 24 * 60 * _MINUTE


async def warnings_of(
    sources: Sources, around: Around, now: int, limits: BookingLimits, classes: Classes, *,
    leave: str = "",
) -> list[Issue]:  # fmt: skip
    """Warnings on other live bookings of the person, by how near they are (limits.toml); `leave` is
    the one that is being changed. That somebody else examines the person for an item of a sensitive
    class is not told at all."""
    left = leave.removeprefix("Appointment/")
    issues: list[Issue] = []
    for one in around.others:
        if around.view is None or one.booking.id == left or not one.booking.is_live(now):
            continue
        if not _warning(one, around.view, limits, set())[0]:
            continue
        seen = await sources.own.read("Appointment", one.booking.id) is not None
        hidden = set() if seen else {item for item in one.items if classes.of_item(item)}
        rule, text = _warning(one, around.view, limits, hidden)
        if rule:
            issues.append(_said(one, rule, text, is_seen=seen))
    return issues


def _warning(
    one: Other, view: SlotView, limits: BookingLimits, hidden: set[str]
) -> tuple[str, str]:
    """The rule and its sentence; `hidden` are items of which nothing is told."""
    slot, other = view.slot, one.booking
    days, minutes = limits.same_item_days, limits.way_minutes
    same = set(one.items) & set(view.items) - hidden
    if days and same and abs(other.start - slot.start) <= days * _DAY:
        return "booking-same-item", (
            f"The patient has another booking of this item within {days} days"
        )
    gap = max(other.start - slot.end, slot.start - other.end)
    if other.slot_home != slot.home and gap < minutes * _MINUTE:
        return "booking-near", (
            f"The patient has a booking at another hospital less than {minutes} minutes away in "
            "time"
        )
    return "", ""


def _said(one: Other, rule: str, text: str, *, is_seen: bool) -> Issue:
    """Where the caller sees the other booking it is named, else the patient knows of it."""
    if is_seen:
        text = f"{text}: Appointment/{one.booking.id}; cancel or rebook one of them"
    else:
        text = f"{text}; ask the patient whether both are needed"
    return Issue("business-rule", text, "slot", rule, "warning")
