"""The resources of a plan: HealthcareService, Schedule and Slot, always the same for the same plan.

Which element says what is told in docs/scheduling-fhir.md. Where a Slot comes from stands in an
extension (slot-origin): the template and the version of the calendar, so that a later plan can
tell its own slots from a hospital's and from slots that were planned by another calendar.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any
from zoneinfo import ZoneInfo

from fhir_gateway.scheduling import extensions as ext
from fhir_gateway.scheduling.calendar import instant_at, moment_at
from fhir_gateway.scheduling.generate import Plan, PlannedSlot
from fhir_gateway.scheduling.template import Department, Requirements, Service, Supply, Template
from fhir_gateway.settings import CANONICAL

Resource = dict[str, Any]

ORIGIN = f"{CANONICAL}/StructureDefinition/slot-origin"
AREA_SYSTEM = f"{CANONICAL}/CodeSystem/area"


def services_of(supply: Supply) -> dict[str, Resource]:
    """The HealthcareService of each department that has templates, by id."""
    used = {one.department.id: one.department for one in supply.templates}
    return {one.service: _service(supply, one) for one in used.values()}


def _service(supply: Supply, department: Department) -> Resource:
    return {
        "resourceType": "HealthcareService",
        "id": department.service,
        "meta": _meta("healthcare-service"),
        "extension": [
            {"url": ext.DEPARTMENT, "valueId": department.id}, *_area(department.district),
        ],
        "active": True,
        "providedBy": {"reference": f"Organization/{supply.site.id}"},
        "category": [_coded(ext.BOOKING_KIND, department.kind)],
        "name": department.name_zh,
    }  # fmt: skip


def schedules_of(plan: Plan, zone: ZoneInfo) -> dict[str, Resource]:
    """The Schedules of a plan by id; each says what its templates of these days offer together."""
    used: dict[str, dict[str, Template]] = {}
    for slot in plan.slots:
        used.setdefault(slot.schedule, {})[slot.template.id] = slot.template
    return {id: _schedule(plan, id, [*several.values()], zone) for id, several in used.items()}


def _schedule(plan: Plan, id: str, templates: list[Template], zone: ZoneInfo) -> Resource:
    department, resource = templates[0].department, templates[0].resource
    services = {one.code: one for template in templates for one in template.services}
    end = instant_at(plan.last + timedelta(days=1), 0, zone) - 1_000_000
    return {
        "resourceType": "Schedule",
        "id": id,
        "meta": _meta("schedule"),
        "extension": [
            {"url": ext.MASTER, "valueCode": templates[0].master},
            {"url": ext.DEPARTMENT, "valueId": department.id},
            *_area(department.district),
        ],
        "active": True,
        "serviceCategory": [_coded(ext.BOOKING_KIND, department.kind)],
        "serviceType": [_concept(one) for _, one in sorted(services.items())],
        "actor": [
            {"reference": f"HealthcareService/{department.service}",
             "display": department.name_zh},
            *({"reference": one, "display": resource.name} for one in resource.references),
        ],
        "planningHorizon": {
            "start": _instant(instant_at(plan.first, 0, zone), zone), "end": _instant(end, zone),
        },
    }  # fmt: skip


def slots_of(plan: Plan, zone: ZoneInfo) -> dict[str, Resource]:
    """The Slots of a plan by id, all free."""
    return {one.id: slot_of(plan, one, zone) for one in plan.slots}


def slot_of(plan: Plan, slot: PlannedSlot, zone: ZoneInfo) -> Resource:
    """One Slot of a plan."""
    template = slot.template
    return {
        "resourceType": "Slot",
        "id": slot.id,
        "meta": _meta("slot"),
        "extension": [
            {"url": ext.CAPACITY,
             "extension": [{"url": "total", "valuePositiveInt": slot.capacity}]},
            {"url": ext.BUCKET, "valueString": slot.bucket},
            *_requirement(template.requires),
            {"url": ORIGIN, "extension": [
                {"url": "template", "valueString": template.id},
                {"url": "calendar", "valueString": plan.calendar},
            ]},
        ],
        "serviceType": [_concept(one) for one in template.services],
        "appointmentType": _coded(ext.SLOT_CLASS, template.slot_class),
        "schedule": {"reference": f"Schedule/{slot.schedule}"},
        "status": "free",
        "start": _instant(slot.start, zone),
        "end": _instant(slot.end, zone),
    }  # fmt: skip


def with_capacity(slot: Mapping[str, Any], capacity: int) -> Resource:
    """A Slot that takes so many bookings and is otherwise the same."""
    said = {"url": ext.CAPACITY, "extension": [{"url": "total", "valuePositiveInt": capacity}]}
    kept: Iterable[Any] = slot.get("extension") or ()
    others = [one for one in kept if one.get("url") != ext.CAPACITY]
    return {**slot, "extension": [said, *others]}


def _meta(profile: str) -> dict[str, Any]:
    return {"profile": [f"{CANONICAL}/StructureDefinition/{profile}"]}


def _area(code: str) -> list[dict[str, Any]]:
    coding = {"system": AREA_SYSTEM, "code": code}
    return [{"url": ext.AREA, "valueCoding": coding}] if code else []


def _coded(system: str, code: str) -> dict[str, Any]:
    return {"coding": [{"system": system, "code": code}]}


def _concept(service: Service) -> dict[str, Any]:
    coding = {"system": service.system, "code": service.code, "display": service.display}
    return {"coding": [coding], "text": service.display}


def _requirement(requires: Requirements) -> list[dict[str, Any]]:
    parts = (
        ("preparation", "valueString", requires.preparation or None),
        ("fasting", "valueUnsignedInt", requires.fasting),
        ("contrast", "valueBoolean", requires.contrast),
        ("device", "valueString", requires.device or None),
        ("sex", "valueCode", requires.sex or None),
        ("minAge", "valueUnsignedInt", requires.min_age),
        ("maxAge", "valueUnsignedInt", requires.max_age),
    )
    said = [{"url": url, name: value} for url, name, value in parts if value is not None]
    return [{"url": ext.REQUIREMENT, "extension": said}] if said else []


def _instant(us: int, zone: ZoneInfo) -> str:
    return moment_at(us, zone).isoformat(timespec="seconds")
