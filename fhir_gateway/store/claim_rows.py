"""Schedules, slots and claims on them as data: what a change set says of bookable time.

A Slot and a Schedule give one row each; what is taken of a Slot is claimed (`ChangeSet.claims`) and
judged under the write lock with the batch's own time. A claim that loses takes its whole change set
with it. Times are µs since 1970 UTC; references are "Type/id". docs/adr/0049-seats-and-quotas.md
"""

from __future__ import annotations

import msgspec

#: What a seat or a booking is: held until a moment, booked, or what became of it.
HELD, BOOKED, FULFILLED, NOSHOW = "held", "booked", "fulfilled", "noshow"
CANCELLED, EXPIRED, EXCUSED = "cancelled", "expired", "excused"


class ScheduleRow(msgspec.Struct, frozen=True, array_like=True):
    """What a Schedule says: one row for each. Its home is that of the institution."""

    master: str  # gateway, allotment or hospital
    department: str
    kind: str
    items: list[str]  # catalogue codes
    services: list[str]  # HealthcareService ids
    district: str
    practitioner: str
    location: str
    active: bool


class SlotRow(msgspec.Struct, frozen=True, array_like=True):
    """What a Slot says: one row for each.

    `open` is false when nothing may be sold of it (busy-unavailable, entered in error); a Slot that
    is `busy` because its seats are booked stays open. `busy` says that Slot.status is `busy`: the
    change set that books the last seat, or gives one of a full Slot back, has to put the Slot with
    the status that it has then, else it is refused as `slot-changed`. One that its hospital calls
    busy without a seat that is booked here is not sold.

    `bucket` is what its quotas are counted in ("h-1|radiology-ct|2026-12-07"), "" for none.
    """

    schedule: str  # "Schedule/id"
    start: int
    end: int
    capacity: int
    open: bool
    kind: str  # expert or ordinary
    items: list[str]  # catalogue codes
    bucket: str
    busy: bool = False


class Limits(msgspec.Struct, frozen=True, array_like=True):
    """What one person may book; 0 is no limit. Days and months are of the time zone `zone`.

    A person who has missed `no_shows` bookings within `window_months` is barred until `bar_months`
    after the last of them. `documented`: the person must bear an identity document.
    """

    per_day: int = 0
    per_department_day: int = 0
    no_shows: int = 0
    window_months: int = 12
    bar_months: int = 3
    documented: bool = False
    zone: str = "Asia/Shanghai"


class Take(msgspec.Struct, frozen=True, array_like=True, tag_field="claim", tag="take"):
    """A seat of a Slot for a person, through a channel: held until `until`, or booked (until 0).

    `appointment` is put in the same change set, in the person's home. `start` and `end` are what
    the caller saw of the Slot (0: not compared). `instead_of` is an appointment of the same person
    that a Give in the same change set gives up: it counts neither as overlap nor by the limits.
    """

    slot: str  # "Slot/id"
    appointment: str  # "Appointment/id"
    patient: str  # logical id of the Patient
    channel: str
    state: str = BOOKED
    until: int = 0
    limits: Limits = Limits()
    instead_of: str = ""
    start: int = 0
    end: int = 0


class Keep(msgspec.Struct, frozen=True, array_like=True, tag_field="claim", tag="keep"):
    """A hold that still lives is held longer (state held, `until`) or booked (until 0).

    `patient` (a logical id, "" for not asked) is booked only where the person has no booking at
    that time: two Patients may have become one person since the seat was held.
    """

    appointment: str
    state: str = BOOKED
    until: int = 0
    patient: str = ""


class Give(msgspec.Struct, frozen=True, array_like=True, tag_field="claim", tag="give"):
    """What became of an appointment: cancelled, noshow or fulfilled.

    Cancelled gives the seat back: to its channel before the cut-off, afterwards to the channel that
    its unused reserve falls to. What is told twice has no second effect; an appointment that ended
    otherwise is not ended again.
    """

    appointment: str
    state: str = CANCELLED


class QuotaRow(msgspec.Struct, frozen=True, array_like=True):
    """The part of one channel in a bucket: `cap` seats, sold from `opens` until before `closes`
    (0: to the end); what is unused then falls to the channel `falls_to` ("": it stays)."""

    channel: str
    cap: int
    opens: int = 0
    closes: int = 0
    falls_to: str = ""


class Settle(msgspec.Struct, frozen=True, array_like=True, tag_field="claim", tag="settle"):
    """All quotas of a bucket and kind anew; `serial` is the version of the plan they are made by.

    Their sum must be the capacity of its open Slots as the change set leaves them. A channel that
    has used more keeps what it used, and the others give way, those named last first. An older
    serial than the stored one is refused.
    """

    home: int  # the institution's (fhir.home.institution_home)
    bucket: str
    kind: str
    rows: list[QuotaRow]
    serial: int = 0


class Fall(msgspec.Struct, frozen=True, array_like=True, tag_field="claim", tag="fall"):
    """After its cut-off what a channel has not used goes where it falls to; twice is once."""

    home: int
    bucket: str
    kind: str
    channel: str


class Excuse(msgspec.Struct, frozen=True, array_like=True, tag_field="claim", tag="excuse"):
    """A missed appointment that does not count any more."""

    appointment: str


Claim = Take | Keep | Give | Settle | Fall | Excuse
