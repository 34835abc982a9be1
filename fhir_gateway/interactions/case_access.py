"""The regulator's access to one person's record: `Patient/[id]/$open-case`.

A regulator sees decisions and figures of all, and a person's record only on a case: with its ground
and its number, for a time, kept as a Task in the patient's own record, where the patient sees it.
A case opens what the policy says, and no sensitive class unless it says so. docs/consent.md
"""

from __future__ import annotations

from typing import Any

from fhir_gateway.audit.events_parts import event, operation_head, patient_entity, resource_entity
from fhir_gateway.context import Gateway, new_id
from fhir_gateway.errors import Forbidden, Invalid, NotFound
from fhir_gateway.fhir.keys import key64
from fhir_gateway.fhir.wire import instant
from fhir_gateway.interactions.access_task import CASE, Opened, put_of_access, task_of
from fhir_gateway.interactions.audit import call_of, entry
from fhir_gateway.interactions.operation_definitions import Call, Definition
from fhir_gateway.interactions.operation_definitions import Parameter as P
from fhir_gateway.security.actor import SYSTEM_ACCESS, Actor
from fhir_gateway.security.rights import case_party
from fhir_gateway.store.changes import ChangeSet, Opening

_MINUTE = 60_000_000

OPEN_CASE = Definition(
    code="open-case",
    title="Open a record to the regulator on a case",
    says=(
        "Opens one person's record to the regulator for a time, on the ground of a case with a "
        "number. Kept as a Task in the person's own record."
    ),
    types=("Patient",),
    levels=("instance",),
    affects=True,
    takes=(
        P("ground", "string", "The ground in law, and what is looked into", 1, missing="ground"),
        P("caseNumber", "string", "The number of the case", 1, missing="case-number"),
        P("minutes", "positiveInt", "For how long; the site's usual time when left out"),
        P("user", "Reference string", "Who looks; needed where the credential names no person"),
    ),
    gives=(P("return", "Task", "What was opened", 1),),
)


async def open_case(gateway: Gateway, actor: Actor, call: Call) -> dict[str, Any]:
    """Patient/[id]/$open-case: the Task, once the record is open.

    Raises Forbidden for who is no regulator of a registered body, Invalid without ground, number
    or person and for too many minutes, NotFound for no such Patient.
    """
    if actor.role != "regulator" or not actor.institution:
        raise Forbidden(
            "A case is opened by a regulator whose body is in the registry", rule="case-role"
        )
    now = gateway.clock.now() // 1000 * 1000
    one = Opened(
        id=new_id(gateway),
        code=CASE,
        patient=call.id,
        institution=actor.institution,
        user=_who(actor, call),
        reason="",
        text=_text(call, "ground"),
        number=_text(call, "caseNumber"),
        since=now,
        until=now + _minutes(gateway, call) * _MINUTE,
    )
    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        person = await reader.person(call.id)
    if person is None:
        raise NotFound("There is no such Patient", rule="unknown-id")
    await gateway.store.commit(_change_set(gateway, actor, one, person.homes))
    gateway.count("cases", 1)
    return task_of(one)


def _text(call: Call, name: str) -> str:
    taken = call.parameters[name][0]
    text = str(taken.value).strip()
    if not text:
        raise Invalid(f"{name} says nothing", expression=taken.expression, rule="case")
    return text


def _who(actor: Actor, call: Call) -> str:
    value = call.value("user") or ""
    text = value.get("reference") or value.get("display", "") if isinstance(value, dict) else value
    user = actor.user or str(text).strip()
    if not user:
        raise Invalid("user names the person who looks", expression="user", rule="user")
    return user


def _minutes(gateway: Gateway, call: Call) -> int:
    case, given = gateway.policy.case, call.one("minutes")
    if given is None:
        return min(case.usual_minutes, case.minutes)
    if given.value > case.minutes:
        text = f"minutes may be {case.minutes} at most; open it again when that has passed"
        raise Invalid(text, expression=given.expression, rule="minutes")
    return int(given.value)


def _change_set(gateway: Gateway, actor: Actor, one: Opened, homes: tuple[int, ...]) -> ChangeSet:
    party, source = case_party(one.institution), key64(f"Task/{one.id}")
    grade = 2 if gateway.policy.case.sensitive else 1
    journal = []
    if gateway.audit:
        called = call_of(gateway, actor)._replace(purpose="HLEGAL", user=one.user)
        entities = [patient_entity(one.patient), resource_entity(f"Task/{one.id}")]
        said = f"case {one.number} until {instant(one.until)}"
        head = operation_head("$open-case")
        journal = [
            entry(gateway, event(head, called, "0", "query", entities, said), patient=one.patient)
        ]
    return ChangeSet(
        id=gateway.random(16),
        puts=[put_of_access(gateway, task_of(one), one.institution, op="create")],
        journal=journal,
        openings=[
            Opening(home, party, "case", grade, one.since, one.until, source) for home in homes
        ],
        institution=one.institution,
        urgent=True,
    )
