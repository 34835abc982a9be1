"""What booking adds to R4: addresses of extensions and code systems, and how they are read.

Definitions: profiles/StructureDefinition and profiles/CodeSystem; docs/scheduling-fhir.md says
which element or extension carries what, docs/adr/0051 why.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from fhir_gateway.interactions import relations
from fhir_gateway.settings import CANONICAL

Json = Mapping[str, Any]

_DEFINITIONS = f"{CANONICAL}/StructureDefinition"

#: On a Schedule: who sells its slots, the key of its department, the district it lies in.
MASTER = f"{_DEFINITIONS}/schedule-master"
DEPARTMENT = f"{_DEFINITIONS}/booking-department"
AREA = f"{_DEFINITIONS}/area"

#: On a Slot: how many bookings it takes, what its quotas are counted in, what a patient must know.
CAPACITY = f"{_DEFINITIONS}/slot-capacity"
BUCKET = f"{_DEFINITIONS}/slot-bucket"
QUOTA = f"{_DEFINITIONS}/slot-quota"
REQUIREMENT = f"{_DEFINITIONS}/exam-requirement"

#: On an Appointment.
CHANNEL = f"{_DEFINITIONS}/booking-channel"
HOLD_UNTIL = f"{_DEFINITIONS}/hold-until"
HOLD_RENEWALS = f"{_DEFINITIONS}/hold-renewals"
CONFIRM_BY = f"{_DEFINITIONS}/confirm-by"
BOOKED_BY = relations.BOOKED_BY
OFFER = f"{_DEFINITIONS}/waitlist-offer"
REPLACES = f"{_DEFINITIONS}/booking-replaces"

#: Code systems: class of a slot (Slot.appointmentType), kind of booking (Schedule.serviceCategory).
SLOT_CLASS = f"{CANONICAL}/CodeSystem/slot-class"
BOOKING_KIND = f"{CANONICAL}/CodeSystem/booking-kind"

MASTERS = ("gateway", "allotment", "hospital")
#: Masters whose slots nobody but the gateway sells: no double booking there.
SOLD_HERE = frozenset({"gateway", "allotment"})


def extensions(resource: Json, url: str) -> Iterator[Json]:
    """The extensions of this address on an element."""
    for one in resource.get("extension") or ():
        if isinstance(one, Mapping) and one.get("url") == url:
            yield one


def value_of(resource: Json, url: str) -> Any:
    """The value of the first extension of this address, None where there is none."""
    for one in extensions(resource, url):
        return next((one[name] for name in one if name.startswith("value")), None)
    return None


def part_of(resource: Json, url: str, part: str) -> Any:
    """The value of a part of the first complex extension of this address, None for none."""
    for one in extensions(resource, url):
        return value_of(one, part)
    return None


def coded(concepts: Any, system: str) -> str:
    """The first code of a system in a CodeableConcept or a list of them, "" for none."""
    several = [concepts] if isinstance(concepts, Mapping) else concepts or ()
    for concept in several:
        for coding in concept.get("coding") or ():
            if coding.get("system") == system and coding.get("code"):
                return str(coding["code"])
    return ""
