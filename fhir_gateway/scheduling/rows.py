"""Rows of Schedules and Slots: what is sold here, read from the resource when it is stored.

A Schedule gives a row when it says who its master is, a Slot when it says in which bucket it is
counted; others are shown and not booked here. Pure. What is wrong with either is refused by
scheduling.governor and by validation: nothing is refused here, and what cannot be read is no row.
hl7.org/fhir/R4/schedule.html, slot.html, docs/scheduling-fhir.md
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from fhir_gateway.errors import Invalid
from fhir_gateway.fhir.datatypes import Reference, date_range, parse_reference
from fhir_gateway.scheduling.extensions import (
    AREA,
    BOOKING_KIND,
    BUCKET,
    CAPACITY,
    DEPARTMENT,
    MASTER,
    MASTERS,
    SLOT_CLASS,
    coded,
    part_of,
    value_of,
)
from fhir_gateway.store.changes import Derived
from fhir_gateway.store.claim_rows import ScheduleRow, SlotRow
from fhir_gateway.terminology.catalogue import SYSTEMS, Catalogue

Json = Mapping[str, Any]

EXPERT, ORDINARY = "expert", "ordinary"
VISIT, EXAM = "visit", "exam"

#: Of the rest nothing is sold: busy-unavailable, busy-tentative, entered-in-error.
_OPEN = frozenset({"free", "busy"})
_DOCTORS = frozenset({"Practitioner", "PractitionerRole"})


def derive(
    resource: dict[str, Any],
    derived: Derived,
    *,
    zone: str = "Asia/Shanghai",
    catalogue: Catalogue | None = None,
) -> None:
    """Adds the row of a Schedule or a Slot to `derived`. Other types add nothing.

    With a catalogue only its items are named: a code that it does not have finds nobody a slot.
    """
    if not resource.get("id"):
        return
    type = resource.get("resourceType")
    if type == "Schedule":
        schedule = schedule_row(resource, catalogue)
        if schedule is not None:
            derived.schedules.append(schedule)
    elif type == "Slot":
        slot = slot_row(resource, zone, catalogue)
        if slot is not None:
            derived.slots.append(slot)


def schedule_row(schedule: Json, catalogue: Catalogue | None = None) -> ScheduleRow | None:
    """The row of a Schedule, None for one without a master. Its doctor and place are "Type/id"."""
    master = value_of(schedule, MASTER)
    if master not in MASTERS:
        return None
    actors = list(_references(schedule.get("actor")))
    items = items_of(schedule, catalogue)
    district = value_of(schedule, AREA)
    return ScheduleRow(
        master=master,
        department=str(value_of(schedule, DEPARTMENT) or ""),
        kind=kind_of(schedule, items),
        items=items,
        services=[one.id for one in actors if one.type == "HealthcareService"],
        district=str(district.get("code", "")) if isinstance(district, Mapping) else "",
        practitioner=next((one.key for one in actors if one.type in _DOCTORS), ""),
        location=next((one.key for one in actors if one.type == "Location"), ""),
        active=schedule.get("active") is not False,
    )


def kind_of(schedule: Json, items: list[str]) -> str:
    """What a Schedule is booked for: what it says, else an examination where it names an item."""
    said = coded(schedule.get("serviceCategory"), BOOKING_KIND)
    return said if said in (VISIT, EXAM) else EXAM if items else VISIT


def slot_row(
    slot: Json, zone: str = "Asia/Shanghai", catalogue: Catalogue | None = None
) -> SlotRow | None:
    """The row of a Slot, None for one without bucket, Schedule or times."""
    bucket = value_of(slot, BUCKET)
    schedule = next(_references([slot.get("schedule") or {}]), None)
    start, end = _moment(slot.get("start"), zone), _moment(slot.get("end"), zone)
    if not isinstance(bucket, str) or not bucket or schedule is None or not 0 < start < end:
        return None
    status = slot.get("status")
    return SlotRow(
        schedule=schedule.key,
        start=start,
        end=end,
        capacity=capacity_of(slot),
        open=status in _OPEN,
        kind=class_of(slot),
        items=items_of(slot, catalogue),
        bucket=bucket,
        busy=status == "busy",
    )


def capacity_of(slot: Json) -> int:
    """How many bookings a Slot takes: one, where it does not say."""
    total = part_of(slot, CAPACITY, "total")
    return total if isinstance(total, int) and total > 0 else 1


def class_of(slot: Json) -> str:
    """Whose time a Slot is: expert or ordinary."""
    return EXPERT if coded(slot.get("appointmentType"), SLOT_CLASS) == EXPERT else ORDINARY


def items_of(resource: Json, catalogue: Catalogue | None = None) -> list[str]:
    """The catalogue codes among the serviceType of a resource, sorted, each once."""
    return sorted({code for code in _codes(resource) if catalogue is None or _is(catalogue, code)})


def unknown_items(resource: Json, catalogue: Catalogue) -> Iterator[tuple[str, str]]:
    """(FHIRPath below the resource, code) of each catalogue coding that the catalogue lacks."""
    for n, concept in enumerate(resource.get("serviceType") or ()):
        for m, coding in enumerate(concept.get("coding") or ()):
            if coding.get("system") in SYSTEMS and not _is(catalogue, str(coding.get("code"))):
                yield f"serviceType[{n}].coding[{m}].code", str(coding.get("code", ""))


def _codes(resource: Json) -> Iterator[str]:
    for concept in resource.get("serviceType") or ():
        for coding in concept.get("coding") or ():
            if coding.get("system") in SYSTEMS and coding.get("code"):
                yield str(coding["code"])


def _is(catalogue: Catalogue, code: str) -> bool:
    return code in catalogue.items


def _references(values: Iterable[Json] | None) -> Iterator[Reference]:
    for one in values or ():
        found = parse_reference(str(one.get("reference") or ""))
        if isinstance(found, Reference):
            yield found


def _moment(text: Any, zone: str) -> int:
    """A moment in µs, 0 for none."""
    if not isinstance(text, str):
        return 0
    try:
        return date_range(text, zone)[0]
    except Invalid:
        return 0
