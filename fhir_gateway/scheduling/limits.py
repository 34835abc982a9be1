"""Limits of bookings and the policy on missed ones: data (profiles/scheduling/limits.toml).

Months are calendar months of the site's zone: three months after 30 November is the last day of
February. The store judges by the same numbers (store/claim_person.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from fhir_gateway.scheduling.files import Page, read_page
from fhir_gateway.store import claim_person
from fhir_gateway.store.claim_rows import Limits

_MINUTE = 60_000_000

#: table -> key -> (least, most)
_NUMBERS: Mapping[str, Mapping[str, tuple[int, int]]] = {
    "person": {"per_day": (0, 100), "per_department_day": (0, 100)},
    "hold": {"minutes": (1, 240), "renewals": (0, 20)},
    "confirm": {"minutes": (1, 14_400)},
    "no_show": {"count": (0, 100), "months": (1, 120), "bar_months": (1, 120)},
    "waitlist": {"offer_minutes": (1, 2_880), "offers": (1, 100)},
    "warning": {"same_item_days": (0, 366), "way_minutes": (0, 1_440)},
}


class BookingLimits(NamedTuple):
    """Every number of the file."""

    version: str
    effective_from: date
    per_day: int
    per_department_day: int
    documented: bool
    hold_minutes: int
    hold_renewals: int
    confirm_minutes: int
    no_shows: int
    window_months: int
    bar_months: int
    offer_minutes: int
    offers: int
    same_item_days: int
    way_minutes: int


def load_limits(path: Path) -> BookingLimits:
    """The limits in a file. Raises Invalid with every fault of it."""
    page = read_page(path)
    limits = limits_of(page)
    page.check()
    return limits


def limits_of(page: Page) -> BookingLimits:
    """The limits of a page; to be used only when it has no fault."""
    page.unknown("", page.document, ("version", "effective_from", *_NUMBERS))
    version = page.text("", page.document, "version")
    since = page.day("", page.document, "effective_from", need=True) or date.min
    found: dict[str, dict[str, int]] = {}
    for name, numbers in _NUMBERS.items():
        table = _table(page, name, numbers)
        found[name] = {
            key: page.number(name, table, key, least=least, most=most)
            for key, (least, most) in numbers.items()
        }
    person = page.document.get("person")
    documented = page.flag("person", person if isinstance(person, dict) else {}, "documented")
    whole, one = found["person"]["per_day"], found["person"]["per_department_day"]
    if whole and one > whole:
        page.fault("person.per_department_day", "limits-order",
                   f"{one} in one department cannot be reached with {whole} in all: lower it, or "
                   "raise per_day")  # fmt: skip
    return BookingLimits(
        version, since, whole, one, documented is not False,
        *found["hold"].values(), *found["confirm"].values(), *found["no_show"].values(),
        *found["waitlist"].values(), *found["warning"].values(),
    )  # fmt: skip


def _table(page: Page, name: str, numbers: Mapping[str, Any]) -> Mapping[str, Any]:
    table = page.document.get(name)
    if not isinstance(table, dict):
        page.fault(name, "limits-missing", f"[{name}] must say {' and '.join(numbers)}")
        return {key: least for key, (least, _) in numbers.items()}
    own = ("documented",) if name == "person" else ()
    page.unknown(name, table, (*numbers, *own, "source"))
    if not page.text(name, table, "source", need=False):
        page.fault(name, "limits-source", f"[{name}] must name the source of its numbers; numbers "
                   "that no rule gives say so there")  # fmt: skip
    return table


def hold_until(limits: BookingLimits, now: int) -> int:
    """When a hold ends that is made or renewed now (µs)."""
    return now + limits.hold_minutes * _MINUTE


def confirm_by(limits: BookingLimits, now: int, start: int) -> int:
    """By when a hospital has to confirm: in time, and before the slot begins."""
    return min(now + limits.confirm_minutes * _MINUTE, start)


def offer_until(limits: BookingLimits, now: int, start: int) -> int:
    """Until when an offer of the waiting list stands: never beyond the slot's begin."""
    return min(now + limits.offer_minutes * _MINUTE, start)


def claim_limits(limits: BookingLimits, zone: ZoneInfo) -> Limits:
    """What a claim on a seat is judged by: the store holds to it under its own lock."""
    return Limits(
        limits.per_day, limits.per_department_day, limits.no_shows, limits.window_months,
        limits.bar_months, limits.documented, zone.key,
    )  # fmt: skip


def barred_until(limits: BookingLimits, missed: Iterable[int], zone: ZoneInfo) -> int:
    """Until when (µs) somebody is barred, by the begins of what he missed and was not excused; 0
    for not at all. The store's own rule, so that what is told is what is held to."""
    return claim_person.barred_until(missed, claim_limits(limits, zone))
