"""What one person may book: no two at a time, limits of a day, missed appointments, documents.

All homes of the person count, however they were linked. Holds that are over count no more.
"""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo

from fhir_gateway.store.claim_refusals import refused
from fhir_gateway.store.claim_rows import BOOKED, FULFILLED, NOSHOW, Limits, Take
from fhir_gateway.store.claim_state import BookingState
from fhir_gateway.store.claims_draft import Draft

_BEGIN = datetime(1970, 1, 1, tzinfo=UTC)
_MICRO = timedelta(microseconds=1)


@cache
def _zone(name: str) -> ZoneInfo:
    return ZoneInfo(name)


def local(at: int, zone: str) -> datetime:
    """A moment (µs) as a local time."""
    return (_BEGIN + at * _MICRO).astimezone(_zone(zone))


def day_of(at: int, zone: str) -> int:
    """The local day of a moment, as a number that counts days."""
    return local(at, zone).toordinal()


def months_after(at: int, months: int, zone: str) -> int:
    """The same local time so many calendar months later or earlier, the last day of a month where
    it has no such day (µs)."""
    here = local(at, zone)
    year, month = divmod(here.year * 12 + here.month - 1 + months, 12)
    day = min(here.day, monthrange(year, month + 1)[1])
    return (here.replace(year=year, month=month + 1, day=day) - _BEGIN) // _MICRO


def barred_until(missed: Iterable[int], limits: Limits) -> int:
    """Until when a person who missed appointments at these times may not book; 0 for not at all.

    Each missed appointment that is the last of so many within the window bars from its own time.
    """
    if not limits.no_shows:
        return 0
    times, until = sorted(missed), 0
    for last in range(limits.no_shows - 1, len(times)):
        first = times[last - limits.no_shows + 1]
        if first > months_after(times[last], -limits.window_months, limits.zone):
            until = months_after(times[last], limits.bar_months, limits.zone)
    return until


def check_person(draft: Draft, claim: Take, wanted: BookingState) -> None:
    """Raises why the person may not have this booking."""
    if claim.limits.documented and not draft.stored.is_documented(wanted.home):
        raise refused("person-unproved")
    bookings = list(draft.bookings(draft.stored.homes_of(wanted.home)))
    own = claim.appointment.removeprefix("Appointment/")
    instead = claim.instead_of.removeprefix("Appointment/")
    if own != instead and any(one.id == own and one.is_live(draft.now) for one in bookings):
        raise refused("appointment-seated")
    others = [one for one in bookings if one.id not in (own, instead)]
    for rule in reasons_of_person(others, wanted, claim.limits, draft.now):
        raise refused(rule)


def check_elsewhere(draft: Draft, held: BookingState) -> None:
    """Raises `person-overlap` where the person of a hold has a booking at its time."""
    for one in draft.bookings(draft.stored.homes_of(held.home)):
        if one.state == BOOKED and one.start < held.end and held.start < one.end:
            raise refused("person-overlap")


def reasons_of_person(
    bookings: Sequence[BookingState], wanted: BookingState, limits: Limits, now: int
) -> Iterator[str]:
    """Every rule by which a person with these other bookings may not have this one."""
    live = [one for one in bookings if one.is_live(now)]
    if any(one.start < wanted.end and wanted.start < one.end for one in live):
        yield "person-overlap"
    had = [one for one in bookings if one.state in (FULFILLED, NOSHOW)]
    if _is_over_a_day([*live, *had], wanted, limits):
        yield "person-limit"
    missed = (one.start for one in bookings if one.state == NOSHOW)
    if now < barred_until(missed, limits):
        yield "person-barred"


def _is_over_a_day(others: Sequence[BookingState], wanted: BookingState, limits: Limits) -> bool:
    same_day = [one for one in others if one.day == wanted.day]
    here = (wanted.slot_home, wanted.department)
    same = [one for one in same_day if (one.slot_home, one.department) == here]
    return bool(
        (limits.per_day and len(same_day) >= limits.per_day)
        or (limits.per_department_day and len(same) >= limits.per_department_day)
    )
