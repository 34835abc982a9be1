"""Missed appointments: what a person sees of the own ones, what a hospital's ledger has, appeals.

Three missed within twelve months bar booking for three (limits.toml); one that is excused counts no
more. An appeal is a Task by the patient or by who booked, for the hospital: requested until a named
person decides, then completed, in one commit with the excuse where it is granted.
docs/pools-operation.md, docs/adr/0053-jobs-of-the-pools.md
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from fhir_gateway.context import Gateway
from fhir_gateway.errors import Conflict, Forbidden, Invalid, NotFound
from fhir_gateway.fhir.home import institution_home
from fhir_gateway.fhir.wire import instant, parse
from fhir_gateway.scheduling import states
from fhir_gateway.scheduling.booking_parties import parties_of, stands
from fhir_gateway.scheduling.booking_person import person_of
from fhir_gateway.scheduling.booking_rules import booking_rules
from fhir_gateway.scheduling.limits import barred_until
from fhir_gateway.scheduling.notice import (
    APPEAL,
    AT,
    BY,
    Notice,
    concept,
    kind_of,
    put_of_task,
    task_of,
)
from fhir_gateway.scheduling.seat_commit import Asked, Done, Planned, Sources, Told, carry_out
from fhir_gateway.security.actor import SYSTEM_ACCESS, Actor
from fhir_gateway.store.changes import VersionIs
from fhir_gateway.store.claim_refusals import refused
from fhir_gateway.store.claim_rows import EXCUSED, NOSHOW, Excuse
from fhir_gateway.store.claim_state import BookingState
from fhir_gateway.store.missed_sql import missed_at
from fhir_gateway.store.seat_sql import bookings_of
from fhir_gateway.store.store import Reader, Stored

Json = Mapping[str, Any]

#: What is decided on an appeal.
GRANTED, UPHELD = "excused", "upheld"


class Missed(NamedTuple):
    """What a person has missed, as far as the caller sees the Appointments; how many there are that
    were not excused, whoever sees them, and until when (µs) they bar the person, 0 for not at
    all."""

    bookings: Sequence[BookingState]
    counted: int
    barred_until: int
    most: int
    months: int


async def missed_of(gateway: Gateway, actor: Actor, patient: str) -> Missed:
    """The missed appointments of a person, those by name that the caller sees. Raises NotFound."""
    rules, now = booking_rules(gateway), gateway.clock.now()
    async with gateway.store.snapshot(SYSTEM_ACCESS) as whole:
        own = whole.under(actor.access)
        person = await person_of(own, patient)
        every = await whole.steps(lambda seen: bookings_of(seen.dialect, person.homes))
        missed = [one for one in every if one.state in (NOSHOW, EXCUSED)]
        seen = [one for one in missed if await own.read("Appointment", one.id) is not None]
    counted = [one.start for one in missed if one.state == NOSHOW]
    until, limits = barred_until(rules.limits, counted, rules.zone), rules.limits
    return Missed(
        seen, len(counted), until if until > now else 0, limits.no_shows, limits.window_months
    )


async def ledger_of(
    gateway: Gateway, institution: str, since: int, until: int
) -> list[tuple[BookingState, str]]:
    """What was missed at a hospital, each with the status of its appeal, "" for none."""
    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        home = institution_home(institution)
        missed = await reader.steps(lambda _: missed_at(home, since, until))
        found = []
        for one in missed:
            task = await reader.read("Task", _appeal_id(one.id, institution))
            found.append((one, _said_of(task)))
    return found


def _said_of(task: Stored | None) -> str:
    if task is None or task.deleted:
        return ""
    resource = parse(task.whole())
    codings: Sequence[Json] = (resource.get("businessStatus") or {}).get("coding") or ({},)
    return str(codings[0].get("code") or resource.get("status", ""))


def _appeal_id(appointment: str, hospital: str) -> str:
    return _notice(appointment, hospital, "", 0, "").id


def _notice(
    appointment: str, hospital: str, text: str, at: int, patient: str, labels: Sequence[Json] = ()
) -> Notice:
    about = f"Appointment/{appointment}"
    return Notice(APPEAL, (appointment,), about, hospital, text, at, patient, labels=labels)


# -- an appeal ------------------------------------------------------------------------------------


async def appeal(gateway: Gateway, actor: Actor, id: str, text: str, asked: Asked) -> str:
    """Asks the hospital not to count a missed appointment; the logical id of the Task. One for
    each appointment. Raises NotFound, Forbidden, Invalid without words, Unprocessable for what was
    not missed, Conflict for one that was decided."""
    if not text.strip():
        raise Invalid("Say why the appointment was missed", expression="text", rule="required")
    made: list[str] = []

    async def plan(sources: Sources) -> Planned:
        one = await stands(sources.own, sources.whole, id, zone=gateway.settings.zone)
        if not {states.PATIENT, states.BOOKER} & set(parties_of(actor, one)):
            raise Forbidden(
                "An appeal is for the patient or for who booked", rule="appointment-party"
            )
        if one.booking is None or one.booking.state != NOSHOW or one.view is None:
            raise refused("no-show-unknown")
        hospital = one.view.hospital
        now, said = gateway.clock.now(), one.said
        notice = _notice(id, hospital, text.strip(), now, said.patient, said.labels)
        made[:] = [notice.id]
        before = await sources.whole.read("Task", notice.id)
        if before is not None and not before.deleted:
            raise _appealed(notice.id, _said_of(before))
        task = task_of(notice)
        booked_by = one.said.marks.booked_by
        if actor.role == "patient" or not booked_by:
            task["requester"] = {"reference": f"Patient/{one.said.patient}"}
        else:
            task["requester"] = {"reference": f"Organization/{booked_by}"}
        return Planned(
            id, None, one.stored.version, one.stored.owner, one.said.patient, [], Told(),
            puts=[put_of_task(gateway, task, hospital)], summary="appeal",
            counts="no_show_appeals", guards=[VersionIs("Task", notice.id, 0)],
        )  # fmt: skip

    await carry_out(gateway, actor, asked, f"Appointment/{id}", plan)
    return made[0] if made else await _made_before(gateway, id)


async def _made_before(gateway: Gateway, id: str) -> str:
    """The Task of an appeal that was made by the same request before."""
    async with gateway.store.snapshot(SYSTEM_ACCESS) as whole:
        one = await stands(whole, whole, id, zone=gateway.settings.zone)
    return _appeal_id(id, one.view.hospital if one.view is not None else "")


def _appealed(task: str, said: str) -> Conflict:
    return Conflict(
        f"This was appealed already (Task/{task}, {said}); one appeal is decided for each "
        "appointment",
        rule="appeal-made",
    )


async def decide(
    gateway: Gateway, actor: Actor, task: str, decision: str, by: str, text: str, asked: Asked
) -> Done:
    """Decides an appeal in the name of a person: excused or upheld. With the excuse the Task is
    completed in one commit. Raises NotFound, Forbidden, Invalid, Conflict for one that is decided.
    """
    if not by.strip():
        raise Invalid("Name the person who decides", expression="person", rule="required")
    if decision not in (GRANTED, UPHELD):
        raise Invalid(
            f"decision is {GRANTED} or {UPHELD}", expression="decision", rule="appeal-decision"
        )

    async def plan(sources: Sources) -> Planned:
        stored, resource = await _appeal(sources.own, task)
        id = str(resource["focus"]["reference"]).partition("/")[2]
        one = await stands(sources.whole, sources.whole, id, zone=gateway.settings.zone)
        if states.HOSPITAL not in parties_of(actor, one):
            raise Forbidden(
                "An appeal is decided by the hospital whose slot it was", rule="appointment-party"
            )
        if resource.get("status") not in ("requested", "in-progress"):
            raise _appealed(task, _said_of(stored))
        after = _decided(resource, decision, by.strip(), text.strip(), gateway.clock.now())
        hospital = one.view.hospital if one.view is not None else ""
        return Planned(
            id, None, one.stored.version, one.stored.owner, one.said.patient,
            [Excuse(f"Appointment/{id}")] if decision == GRANTED else [], Told(),
            puts=[put_of_task(gateway, after, hospital)], summary=f"appeal {decision}",
            counts="no_show_appeals_decided",
            guards=[VersionIs("Task", stored.id, stored.version)],
        )  # fmt: skip

    return await carry_out(gateway, actor, asked, f"Task/{task}", plan)


async def _appeal(own: Reader, id: str) -> tuple[Stored, dict[str, Any]]:
    stored = await own.read("Task", id)
    resource = parse(stored.whole()) if stored is not None and not stored.deleted else {}
    if stored is None or kind_of(resource) != APPEAL:
        raise NotFound("There is no such appeal that you may see", rule="appeal-unknown")
    return stored, resource


def _decided(
    task: dict[str, Any], decision: str, by: str, text: str, now: int
) -> dict[str, Any]:  # fmt: skip
    after = dict(task)
    after["status"] = "completed"
    after["businessStatus"] = concept(decision)
    after["output"] = [
        {"type": concept(BY), "valueString": by},
        {"type": concept(AT), "valueInstant": instant(now)},
    ]
    if text:
        after["note"] = [{"authorString": by, "time": instant(now), "text": text}]
    return after
