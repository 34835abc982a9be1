"""Slot/[id]/$why-not: everything that stands between a caller and a Slot, and what would work.

The same state and the same rules by which a booking is chosen and judged (seat_channels.py,
channel_reasons.py), all of them at once. Nothing is claimed and nothing changes.
"""

from __future__ import annotations

from typing import Any

from fhir_gateway.context import Gateway
from fhir_gateway.errors import Invalid, Issue, NotFound
from fhir_gateway.fhir.wire import parse
from fhir_gateway.interactions.audit import disclose_search
from fhir_gateway.interactions.operation_definitions import Call
from fhir_gateway.scheduling.booking_operations import id_of, orders_of
from fhir_gateway.scheduling.booking_parties import view_of
from fhir_gateway.scheduling.booking_person import (
    Person,
    order_faults,
    orders_named,
    person_of,
    unfit,
)
from fhir_gateway.scheduling.booking_rules import booking_rules
from fhir_gateway.scheduling.calendar import day_at
from fhir_gateway.scheduling.channel_reasons import Answer
from fhir_gateway.scheduling.seat_channels import Asker, explained, site_of
from fhir_gateway.security.actor import SYSTEM_ACCESS, Actor
from fhir_gateway.store.claim_state import BookingState
from fhir_gateway.store.slot_view_sql import SlotView, bookings_of
from fhir_gateway.store.store import Reader


async def why_not(gateway: Gateway, actor: Actor, call: Call) -> dict[str, Any]:
    """Whether a booking would go through now, by which channel, and every obstacle.

    Raises NotFound for a Slot or a Patient that there is not.
    """
    patient = _patient(call) or (actor.patient if actor.role == "patient" else "")
    async with gateway.store.snapshot(SYSTEM_ACCESS) as whole:
        own = whole.under(actor.access)
        view = await view_of(whole, call.id)
        if view is None:
            raise NotFound("This Slot is not sold here; search with Appointment/$find",
                           rule="slot-unknown")  # fmt: skip
        person = await person_of(own, patient) if patient else None
        orders = await orders_named(own, orders_of(call))
        asker = Asker(gateway, actor, own, whole, person=person, orders=orders)
        verdicts = await asker.verdicts(site_of(view))
        bookings = await _bookings(whole, person)
        home = person.homes[0] if person is not None else 0
        known = await own.person(patient) if patient else None
        answer = explained(
            gateway, view, verdicts, bookings, person=home,
            documented=known is None or known.documented,
        )  # fmt: skip
        misfits = await _misfits(gateway, whole, view, person)
        if person is not None:
            misfits += order_faults(orders, person, view.items)
    asked = f"Slot/{call.id}/$why-not"
    await disclose_search(
        gateway, actor, asked=asked, bound=[patient] if patient else [], matches=[],
        interaction="operation",
    )  # fmt: skip
    return _told(answer, misfits)


def _patient(call: Call) -> str:
    """The Patient that is named, by either of its two names."""
    named = [
        id_of(call.one(name), "Patient", call.base) for name in ("patient-reference", "patient")
    ]
    if all(named) and named[0] != named[1]:
        raise Invalid(
            "patient-reference and patient name different Patients; send one of them",
            expression="patient",
            rule="required",
        )
    return named[0] or named[1]


async def _bookings(whole: Reader, person: Person | None) -> list[BookingState]:
    if person is None:
        return []
    found = await whole.steps(lambda seen: bookings_of(seen.dialect, person.homes))
    return [one.booking for one in found]


async def _misfits(
    gateway: Gateway, whole: Reader, view: SlotView, person: Person | None
) -> list[Issue]:
    if person is None:
        return []
    stored = await whole.shared([("Schedule", view.schedule.id), ("Slot", view.slot.id)])
    resources = [parse(one.whole()) for one in sorted(stored, key=lambda one: one.type != "Slot")]
    day = day_at(view.slot.start, booking_rules(gateway).zone)
    found = unfit(person.resource, day, *resources)
    return [one for one in found if one.severity == "error"]


def _told(answer: Answer, misfits: list[Issue]) -> dict[str, Any]:
    bookable = bool(answer.channel) and not misfits
    parameters: list[dict[str, Any]] = [{"name": "bookable", "valueBoolean": bookable}]
    if bookable:
        parameters.append({"name": "channel", "valueCode": answer.channel})
        if answer.because is not None:
            text = f"{answer.because.zh} ({answer.because.en})"
            parameters.append({"name": "because", "valueString": text})
    for one in answer.reasons:
        parameters.append(_reason(one.rule, one.channel, one.zh, one.en))
    for issue in misfits:
        zh = "医嘱不能用于此预约" if issue.expression == "based-on" else "患者不符合检查要求"
        parameters.append(_reason(issue.rule or "", "", zh, issue.diagnostics))
    return {"resourceType": "Parameters", "parameter": parameters}


def _reason(rule: str, channel: str, zh: str, en: str) -> dict[str, Any]:
    parts: list[dict[str, Any]] = [{"name": "rule", "valueCode": rule}]
    if channel:
        parts.append({"name": "channel", "valueCode": channel})
    parts += [{"name": "zh", "valueString": zh}, {"name": "en", "valueString": en}]
    return {"name": "reason", "part": parts}
