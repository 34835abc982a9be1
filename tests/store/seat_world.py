"""Slots, quotas and persons for the tests of claims: change sets that are short to write."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from store_builders import body, change, patient

from fhir_gateway.errors import GatewayError
from fhir_gateway.fhir.home import institution_home
from fhir_gateway.store.changes import ChangeSet, Derived, Put
from fhir_gateway.store.claim_rows import (
    BOOKED,
    HELD,
    Give,
    Keep,
    Limits,
    QuotaRow,
    ScheduleRow,
    Settle,
    SlotRow,
    Take,
)

HOME = institution_home("h-1")
BUCKET, KIND = "h-1|radiology-ct|2026-10-05", "ordinary"
HOUR = 3_600_000_000
DAY = 24 * HOUR
NO_LIMITS = Limits()
NOW = 1_790_000_000_000_000  # 2026-09-21 14:13 UTC, what TestClock says first


def schedule(id: str = "s", **members: Any) -> Put:
    """A Schedule of the hospital."""
    what = {
        "master": "gateway", "department": "ct", "kind": KIND, "items": ["I001"],
        "services": ["ct"], "district": "110101", "practitioner": "", "location": "room-1",
        "active": True, **members,
    }  # fmt: skip
    derived = Derived(schedules=[ScheduleRow(**what)])
    return Put("Schedule", id, "update", 0, body(id), home=HOME, derived=derived)


def slot(id: str, start: int = NOW + DAY, **members: Any) -> Put:
    """A Slot of an hour."""
    what = {
        "schedule": "Schedule/s", "start": start, "end": start + HOUR, "capacity": 1, "open": True,
        "kind": KIND, "items": ["I001"], "bucket": "", **members,
    }  # fmt: skip
    text = "busy" if what.get("busy") else "free"
    derived = Derived(slots=[SlotRow(**what)])
    return Put("Slot", id, "update", 0, body(text), home=HOME, derived=derived)


def appointment(id: str, person: str, text: str = "") -> Put:
    """An Appointment in the person's home."""
    return Put("Appointment", id, "update", 0, body(text), patient=person)


def persons(count: int) -> ChangeSet:
    """So many Patients, each with a document."""
    return change(*(patient(f"p{n}", (b"key%d" % n, 1)) for n in range(count)))


def settle(*rows: QuotaRow, serial: int = 1) -> Settle:
    """The quotas of the one bucket."""
    return Settle(HOME, BUCKET, KIND, list(rows), serial)


def take(
    slot_id: str, id: str, person: str, *, hold: int = 0, channel: str = "ordinary",
    puts: Sequence[Put] = (), limits: Limits = NO_LIMITS, **members: Any,
) -> ChangeSet:  # fmt: skip
    """A booking, or a hold until a moment."""
    claim = Take(
        f"Slot/{slot_id}", f"Appointment/{id}", person, channel, HELD if hold else BOOKED, hold,
        limits, **members,
    )  # fmt: skip
    return change(appointment(id, person), *puts, claims=[claim])


def keep(id: str, *puts: Put, hold: int = 0) -> ChangeSet:
    """A hold is confirmed, or held longer."""
    return change(*puts, claims=[Keep(f"Appointment/{id}", HELD if hold else BOOKED, hold)])


def give(id: str, *puts: Put, state: str = "cancelled") -> ChangeSet:
    """What became of an appointment."""
    return change(*puts, claims=[Give(f"Appointment/{id}", state)])


def again(change_set: ChangeSet) -> ChangeSet:
    """The same request under another id, as one who asks a second time sends it."""
    made = ChangeSet(**{name: getattr(change_set, name) for name in change_set.__struct_fields__})
    made.id = os.urandom(16)
    return made


async def rule_of(store: Any, change_set: ChangeSet) -> str:
    """The rule by which it is refused, "" when it is stored."""
    try:
        await store.commit(change_set)
    except GatewayError as error:
        return error.issues[0].rule or "?"
    return ""


async def begin(store: Any, *slots: Put, people: int = 4) -> None:
    """Stores persons, the Schedule and these Slots."""
    await store.commit(persons(people))
    await store.commit(change(schedule(), *slots))
