"""What a plain write may do to bookable time, on the one path of every write.

Slots and Schedules whose master is the gateway are made from templates by the pool's commands.
Those of the masters `allotment` and `hospital` are submitted by their hospital: they are taken in
here, with their bucket, and its quotas are divided anew in the same commit (slots_taken_in.py).
An Appointment that holds a seat changes by booking operations alone, and memberships of consortia
are the operator's. The gateway's own commands are not asked. docs/scheduling-fhir.md
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fhir_gateway.context import Gateway
from fhir_gateway.errors import Forbidden, GatewayError, Unprocessable
from fhir_gateway.fhir.datatypes import Reference, parse_reference
from fhir_gateway.fhir.wire import parse
from fhir_gateway.interactions.shared_reader import shared_reader
from fhir_gateway.interactions.steps import Guards, Step
from fhir_gateway.scheduling import extensions as ext
from fhir_gateway.scheduling.answers_taken_in import TYPE as ANSWER
from fhir_gateway.scheduling.answers_taken_in import take_answer
from fhir_gateway.scheduling.membership import TYPE as AFFILIATION
from fhir_gateway.scheduling.membership import is_membership
from fhir_gateway.scheduling.notice import APPEAL, kind_of
from fhir_gateway.scheduling.seat_commit import Sources
from fhir_gateway.scheduling.slots_taken_in import Intake, Written
from fhir_gateway.security.actor import SYSTEM_ACCESS, Actor
from fhir_gateway.store.changes import Settled
from fhir_gateway.store.store import Reader
from fhir_gateway.store.supply_sql import schedules_with

Json = Mapping[str, Any]

_APPEAL_MARK = APPEAL.encode()
_GOVERNED = frozenset({"Schedule", "Slot", "Appointment", AFFILIATION, ANSWER})

#: What Schedules rest on, and how many of them a refusal names.
_CARRYING, _NAMED = frozenset({"HealthcareService", "Location"}), 3

#: What an Appointment says that holds a seat or waits for one: the gateway alone says it.
_OURS = (
    ext.CHANNEL, ext.HOLD_UNTIL, ext.HOLD_RENEWALS, ext.CONFIRM_BY, ext.BOOKED_BY, ext.OFFER,
    ext.REPLACES,
)  # fmt: skip
#: What a booking operation answers for; from `created` on who booked sees it.
_KEPT = ("status", "slot", "start", "end", "participant", "created")
#: By what a waiting list is served, and what was offered from it: nobody sorts it by hand.
_TURN = ("priority", "created", "requestedPeriod", "supportingInformation")
_LIVE = frozenset({"pending", "booked", "arrived", "checked-in", "fulfilled"})

_BOOK = (
    "bookings are made, moved and cancelled by Appointment/$hold and Appointment/$book, which "
    "count the seat"
)


async def govern_bookings(
    gateway: Gateway, reader: Reader, actor: Actor, steps: Sequence[Step], guards: Guards
) -> None:
    """Judges the Schedules, Slots, Appointments and memberships among the steps of a write.

    Raises Forbidden for what is not written so, Unprocessable for what cannot be sold, each with
    the element and what to do instead.
    """
    mine = [step for step in steps if _is_governed(step) and not step.matched]
    if actor.role == "system":
        return
    _check_appeals(steps)
    if not mine:
        return
    async with shared_reader(gateway, reader) as whole:
        written = Written(whole, {step.name: step for step in steps})
        intake = Intake(gateway, written, actor)
        for step in mine:
            try:
                if step.type in _CARRYING:
                    await _check_carrying(reader, step, guards)
                    continue
                if step.type == ANSWER:
                    sources = Sources(reader, reader.under(SYSTEM_ACCESS), frozenset())
                    await take_answer(gateway, actor, sources, step, _before(step), guards)
                    continue
                await _judge(intake, written, actor, step)
            except GatewayError as error:
                raise step.placed(error) from None
        await intake.settle(guards)


def _is_governed(step: Step) -> bool:
    return step.type in _GOVERNED or (step.op == "delete" and step.type in _CARRYING)


def _check_appeals(steps: Sequence[Step]) -> None:
    """An appeal is made and decided by its operations, which name the person and excuse."""
    for step in steps:
        if step.type != "Task" or step.matched:
            continue
        stored = step.current is not None and _APPEAL_MARK in step.current.tail
        before = _before(step) if stored else None
        if any(kind_of(one) == APPEAL for one in (step.resource, before) if one is not None):
            raise Forbidden(
                "An appeal is made by Appointment/[id]/$appeal and decided by "
                "Task/[id]/$decide-appeal, in the name of a person",
                expression=step.root,
                rule="booking-governed",
            )


async def _judge(intake: Intake, written: Written, actor: Actor, step: Step) -> None:
    if step.type == AFFILIATION:
        _check_membership(actor, step)
    elif step.type == "Appointment":
        await _check_appointment(written, step)
    elif step.type == "Schedule":
        await intake.schedule(step, _before(step))
    else:
        await intake.slot(step, _before(step))


async def _check_carrying(reader: Reader, step: Step, guards: Guards) -> None:
    """Schedules rest on their service, which says whose they are, and on their place."""
    service = step.id if step.type == "HealthcareService" else ""
    location = step.name if step.type == "Location" else ""
    found = await reader.steps(lambda _: schedules_with(service=service, location=location))
    if found:
        named = ", ".join(f"Schedule/{id}" for id in found[:_NAMED])
        more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
        way = "active false" if step.type == "HealthcareService" else "status inactive"
        raise Unprocessable(
            f"{named}{more} of it {'are' if found[1:] else 'is'} sold here, with what was booked: "
            f"it is not deleted; say {way}, and active false of the Schedules that end",
            expression=step.root,
            rule="schedule-rests",
        )
    guards.add(Settled(("Schedule",), (), reader.t), ours=True)


def _before(step: Step) -> dict[str, Any] | None:
    """What stood, as it was stored."""
    if step.current is None or step.current.deleted:
        return None
    return parse(step.current.whole())


def _check_membership(actor: Actor, step: Step) -> None:
    """Who belongs to a consortium decides through which channel it books: nobody says it of
    itself."""
    stored = _before(step)
    said = [one for one in (step.resource, stored) if one is not None]
    if actor.bound and any(is_membership(one) for one in said):
        raise Forbidden(
            "Memberships of consortia are kept by the gateway's operator: fhir-gateway consortium "
            "import",
            expression=step.root,
            rule="governed",
        )


async def _check_appointment(written: Written, step: Step) -> None:
    """Raises Forbidden where a write would take a seat, free one, or change who has it."""
    before, after = _before(step), step.resource
    if before is not None and _is_ours(before):
        if after is None:
            raise _refused(f"This booking holds a seat and is not deleted: {_BOOK}", step.root)
        kept = (*_KEPT, *_TURN) if before.get("status") == "waitlist" else _KEPT
        changed = [name for name in kept if before.get(name) != after.get(name)]
        if changed:
            text = f"{', '.join(changed)} of a booking do not change by a plain write: {_BOOK}"
            raise _refused(text, f"{step.root}.{changed[0]}")
        if _said(before) != _said(after):
            raise _refused(
                f"What a booking says of channel, hold and institution is the gateway's: {_BOOK}",
                f"{step.root}.extension",
            )
        return
    if after is None:
        return
    if _is_ours(after):
        text = f"Channel, hold and booking institution are said by the gateway alone: {_BOOK}"
        raise _refused(text, f"{step.root}.extension")
    if after.get("status") in _LIVE:
        await _check_slots(written, step, after)


async def _check_slots(written: Written, step: Step, after: Json) -> None:
    """A plain Appointment may name a Slot that is only shown here, not one that is sold here."""
    for number, one in enumerate(after.get("slot") or ()):
        found = parse_reference(str(one.get("reference") or ""))
        slot = await written.resource(found.key) if isinstance(found, Reference) else None
        if slot is not None and ext.value_of(slot, ext.BUCKET):
            text = f"This Slot is sold here: {_BOOK}"
            raise _refused(text, f"{step.root}.slot[{number}]")


def _is_ours(appointment: Json) -> bool:
    return bool(_said(appointment))


def _said(appointment: Json) -> list[Any]:
    return [one for url in _OURS for one in ext.extensions(appointment, url)]


def _refused(text: str, expression: str) -> Forbidden:
    return Forbidden(text, expression=expression, rule="booking-governed")
