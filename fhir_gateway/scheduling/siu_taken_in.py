"""SIU of a hospital about a booking that was made here: its answer, and what became of it.

A hospital's system answers in the language in which it was told: SCH-1 has our number of the
booking, SCH-2 its own. Where it is master of its slots S12 or S14 confirms and S15 refuses; later
S14 tells by SCH-25 that the patient came or was examined, S15 cancels, S17 voids, S26 tells that
nobody came. The steps are those of `$confirm` and the others (visit.py, book.py), judged alike.
What is so already is answered AA: a message may come twice. No booking moves by an SIU. What names
no booking of ours is the hospital's own appointment (mapping/v2_schedule.py). docs/booking-v2.md
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from fhir_gateway.context import Gateway, new_id
from fhir_gateway.errors import Conflict, Issue, Unprocessable
from fhir_gateway.fhir.datatypes import date_range
from fhir_gateway.fhir.keys import key64
from fhir_gateway.fhir.wire import parse
from fhir_gateway.interactions.institutions import institutions
from fhir_gateway.interactions.intake import Sent
from fhir_gateway.interactions.intake_merge import assigned_by_others
from fhir_gateway.mapping.v2 import Segment
from fhir_gateway.mapping.v2_ack import acknowledge
from fhir_gateway.mapping.v2_schedule import map_schedule
from fhir_gateway.scheduling.appointment import standing_of
from fhir_gateway.scheduling.book import plan_cancel
from fhir_gateway.scheduling.booking_parties import stands
from fhir_gateway.scheduling.seat_commit import Asked, Planned, Sources, Told, carry_out
from fhir_gateway.scheduling.visit import Said, plan_step
from fhir_gateway.security.actor import SYSTEM_ACCESS, Actor

#: (status here, status there) -> the step that it is; the same status on both sides is none.
_STEPS: Mapping[tuple[str, str], str] = {
    ("pending", "booked"): "confirm",
    ("pending", "cancelled"): "refuse",
    ("booked", "cancelled"): "cancel",
    ("booked", "arrived"): "arrive",
    **{(status, "fulfilled"): "fulfil" for status in ("booked", "arrived", "checked-in")},
    **{(status, "noshow"): "no-show" for status in ("booked", "arrived", "checked-in")},
    **{(status, "entered-in-error"): "void" for status in (
        "pending", "booked", "arrived", "checked-in", "fulfilled", "noshow", "cancelled")},
}  # fmt: skip

#: What a hospital that sends "booked" or "waiting" does not deny.
_SAME = frozenset({
    ("arrived", "booked"), ("checked-in", "booked"), ("checked-in", "arrived"),
    ("pending", "pending"),
})  # fmt: skip


class Answer(NamedTuple):
    """What an SIU says of a booking of ours: its logical id, status and begin (µs, 0 not said), the
    hospital's own number, the Patient whom it describes, and what was doubtful."""

    id: str
    status: str
    start: int
    number: str
    patient: dict[str, Any]
    warnings: list[Issue]


async def answer_of(gateway: Gateway, sent: Sent) -> Answer | None:
    """What the message says of a booking of ours; None where it names none of this hospital's."""
    sch = next((one for one in sent.message.segments if one.name == "SCH"), None)
    id = sch.text(1) if sch is not None else ""
    async with gateway.store.snapshot(SYSTEM_ACCESS) as whole:
        stored = await whole.read("Appointment", id) if id else None
    if sch is None or stored is None or stored.deleted:
        return None
    if stored.owner != key64(f"Organization/{sent.sender.id}"):
        return None
    if not standing_of(parse(stored.whole()), gateway.settings.zone).marks.channel:
        return None
    return await _read(gateway, sent, sch, id)


async def _read(gateway: Gateway, sent: Sent, sch: Segment, id: str) -> Answer:
    others = assigned_by_others(sent.sender, await institutions(gateway))
    folder = f"{gateway.settings.mappings}/v2"
    mapped = map_schedule(sent.message, sent.sender, folder=folder, others=others)
    told = next(one for one in mapped.resources if one["resourceType"] == "Appointment")
    person = next(one for one in mapped.resources if one["resourceType"] == "Patient")
    start = date_range(told["start"], sent.sender.zone)[0] if told.get("start") else 0
    number = sch.text(2) if sch.text(2) != id else ""
    return Answer(id, told["status"], start, number, person, mapped.warnings)


async def take_in(gateway: Gateway, actor: Actor, sent: Sent, said: Answer) -> bytes:
    """Does what the hospital says; the AA, once that is durable. Raises Conflict for a step that
    is none now, Unprocessable for another time or person."""
    await _check_person(gateway, said)
    asked = Asked(f"SIU^{sent.header.event}", f"v2 {sent.key.hex()}", sent.digest, shared=True)

    async def plan(sources: Sources) -> Planned:
        return await _plan(gateway, actor, sent, said, sources)

    await carry_out(gateway, actor, asked, f"Appointment/{said.id}", plan)
    gateway.count("booking_answers", 1)
    now = datetime.fromtimestamp(gateway.clock.now() // 1_000_000, ZoneInfo(sent.sender.zone))
    return acknowledge(
        sent.header, time=now.strftime("%Y%m%d%H%M%S%z"), control_id=new_id(gateway)[-20:],
        warnings=said.warnings,
    )  # fmt: skip


async def _check_person(gateway: Gateway, said: Answer) -> None:
    """Raises Unprocessable for a message about somebody else: by the hospital's own record of the
    person where it is known here, else by the numbers of documents."""
    async with gateway.store.snapshot(SYSTEM_ACCESS) as whole:
        stored = await whole.read("Appointment", said.id)
        person = await whole.person(said.patient["id"])
        if stored is None or stored.deleted:
            return
        if person is not None:
            same = stored.home in (person.homes or (person.home,))
        else:
            patient = standing_of(parse(stored.whole()), gateway.settings.zone).patient
            record = await whole.read("Patient", patient)
            same = record is None or _may_be(parse(record.whole()), said.patient)
    if not same:
        raise Unprocessable(
            "The booking is for another person than PID names: nothing was changed. Check SCH-1",
            expression="PID[1]-3",
            rule="appointment-other-person",
        )


def _may_be(known: Mapping[str, Any], told: Mapping[str, Any]) -> bool:
    """Whether no document of the one has another number than that of the other."""
    ours, theirs = (_numbers(one) for one in (known, told))
    return all(ours[system] & theirs[system] for system in ours.keys() & theirs.keys())


def _numbers(patient: Mapping[str, Any]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for one in patient.get("identifier") or ():
        if one.get("system") and one.get("value"):
            found.setdefault(one["system"], set()).add(one["value"])
    return found


async def _plan(
    gateway: Gateway, actor: Actor, sent: Sent, said: Answer, sources: Sources
) -> Planned:
    zone = gateway.settings.zone
    one = await stands(sources.own, sources.whole, said.id, zone=zone)
    before = one.said.status
    if said.status == "booked" and said.start and said.start != one.said.start:
        raise Unprocessable(
            "The booking is at another time here, and no booking moves by an SIU: move it by "
            "Appointment/[id]/$rebook, or refuse it",
            expression="SCH[1]-11",
            rule="siu-time",
        )
    verb = _STEPS.get((before, said.status), "")
    if not verb and before != said.status and (before, said.status) not in _SAME:
        raise Conflict(
            f"The booking is {before} here, so it does not become {said.status}: read it by "
            f"Appointment/{said.id}",
            expression="SCH[1]-25",
            rule="appointment-state",
        )
    if verb == "cancel":
        planned = await plan_cancel(gateway, actor, said.id, sources, None, "prov")
    elif verb:
        planned = await plan_step(gateway, actor, Said(said.id, verb), sources)
    else:
        planned = Planned(
            said.id, None, one.stored.version, one.stored.owner, one.said.patient, [],
            Told(one.said.marks.channel), summary=f"SIU {before}",
        )  # fmt: skip
    return _numbered(planned, one.resource, sent.sender.system("appointment"), said.number)


def _numbered(planned: Planned, stored: dict[str, Any], system: str, number: str) -> Planned:
    """With the hospital's own number, where it has given one that is not known yet."""
    resource = planned.resource or {key: one for key, one in stored.items() if key != "meta"}
    known = [one for one in resource.get("identifier") or () if one.get("system") != system]
    named = [*known, {"system": system, "value": number}]
    if not number or named == resource.get("identifier"):
        return planned
    if planned.resource is None:
        resource["meta"] = {"profile": (stored.get("meta") or {}).get("profile") or []}
    return planned._replace(resource={**resource, "identifier": named})
