"""Break-glass: a record is opened at once, for a reason and a time, and is looked at afterwards.

`Patient/[id]/$break-glass` stores, in one commit that is durable before it answers: the Task that
the privacy office reviews, the notices, the opening of every home of the person, the AuditEvent of
an emergency. Limits raise an alarm and refuse nobody: a true emergency is never held up.
DICOM PS3.15 A.5 Emergency Override; IHE ATNA; docs/consent.md, docs/adr/0037
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any, NamedTuple

from fhir_gateway.audit.events import emergency_event
from fhir_gateway.context import Gateway, new_id
from fhir_gateway.errors import Conflict, Forbidden, GatewayError, Invalid, NotFound
from fhir_gateway.fhir.keys import key64
from fhir_gateway.fhir.wire import instant
from fhir_gateway.interactions.access_task import (
    BREAK_GLASS,
    Opened,
    notice_of,
    put_of_access,
    task_of,
)
from fhir_gateway.interactions.audit import call_of, entry
from fhir_gateway.interactions.institutions import institutions_at
from fhir_gateway.interactions.operation_definitions import Call, Definition
from fhir_gateway.interactions.operation_definitions import Parameter as P
from fhir_gateway.security.actor import SYSTEM_ACCESS, Actor
from fhir_gateway.store.changes import ChangeSet, Counter, Guard, Opening
from fhir_gateway.store.store import Reader

_MINUTE, _HOUR = 60_000_000, 3_600_000_000
#: A counter that never runs out.
_ENDLESS = 1 << 40
#: Attempts until the limits that were reached are all known: one for each, and one more.
_ATTEMPTS = 3

BREAK_GLASS_OPERATION = Definition(
    code="break-glass",
    title="Open a record in an emergency",
    says=(
        "Opens the person's whole record to the caller's institution at once, for a time, whatever "
        "the person's consents say. Kept as a Task that the privacy office reviews; the "
        "institutions that hold the person's records are told. Limits raise an alarm and never "
        "refuse."
    ),
    types=("Patient",),
    levels=("instance",),
    affects=True,
    takes=(
        P("reason", "code Coding", "Ground: a code of the site's policy", 1, missing="reason"),
        P("text", "string", "What happened, in words; expected with the ground `other`"),
        P("minutes", "positiveInt", "For how long; the site's usual time when left out"),
        P("user", "Reference string", "Who looks; needed where the credential names no person"),
    ),
    gives=(P("return", "Task", "The break-glass, to be reviewed", 1),),
)


class _Limit(NamedTuple):
    """A number of break-glasses in a clock hour from which on each raises an alarm."""

    name: str
    key: bytes
    most: int


async def break_glass(gateway: Gateway, actor: Actor, call: Call) -> dict[str, Any]:
    """Patient/[id]/$break-glass: the Task, once the record is open and all is on file.

    Raises Invalid without a ground of the policy or for too many minutes, Forbidden for who is
    neither a clinician nor a system that names one, NotFound for no such Patient.
    """
    user = _who(gateway, actor, call)
    assert actor.institution is not None
    now = gateway.clock.now() // 1000 * 1000
    one = Opened(
        id=new_id(gateway),
        code=BREAK_GLASS,
        patient=call.id,
        institution=actor.institution,
        user=user,
        reason=_ground(gateway, call),
        text=(call.value("text") or "").strip(),
        since=now,
        until=now + _minutes(gateway, call) * _MINUTE,
        owner=next(iter(gateway.policy.break_glass.privacy_office), ""),
    )
    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        person = await reader.person(call.id)
        if person is None:
            raise NotFound("There is no such Patient", rule="unknown-id")
        told = await _to_be_told(gateway, reader, person.homes, one)
    one = await _commit(gateway, actor, one, person.homes, told)
    gateway.count("break_glass", 1)
    if one.alarms:
        gateway.count("break_glass_alarms", 1)
    return task_of(one)


def _who(gateway: Gateway, actor: Actor, call: Call) -> str:
    """The person who looks."""
    allowed = gateway.policy.break_glass.roles
    if actor.role not in allowed or not actor.institution:
        raise Forbidden(
            f"A record is opened in an emergency by {' or '.join(sorted(allowed))} of a "
            "registered institution",
            rule="break-glass-role",
        )
    if actor.role == "clinician" and actor.user:
        return actor.user
    given = call.one("user")
    value = given.value if given is not None else ""
    text = value.get("reference") or value.get("display", "") if isinstance(value, dict) else value
    user = str(text).strip() or actor.user
    if not user:
        raise Invalid(
            "user is required: name the person who looks, by reference or name",
            expression=given.expression if given is not None else "Parameters.parameter",
            rule="user",
        )
    return user


def _ground(gateway: Gateway, call: Call) -> str:
    given = call.parameters["reason"][0]
    code = given.value.get("code", "") if isinstance(given.value, dict) else given.value
    known = {one.code for one in gateway.policy.break_glass.reasons}
    if code not in known:
        raise Invalid(
            f"reason must be one of {', '.join(sorted(known))}",
            expression=given.expression,
            rule="reason",
        )
    return str(code)


def _minutes(gateway: Gateway, call: Call) -> int:
    glass = gateway.policy.break_glass
    given = call.one("minutes")
    if given is None:
        return min(glass.usual_minutes, glass.minutes)
    if given.value > glass.minutes:
        raise Invalid(
            f"minutes may be {glass.minutes} at most; open it again when that has passed",
            expression=given.expression,
            rule="minutes",
        )
    return int(given.value)


async def _to_be_told(
    gateway: Gateway, reader: Reader, homes: Sequence[int], one: Opened
) -> dict[str, str]:
    """The institutions that are told, each with the person's record as it knows it: privacy
    offices, and those that hold records of the person."""
    keys = {key64(f"Organization/{id}"): id for id in await institutions_at(gateway, reader)}
    told = dict.fromkeys(gateway.policy.break_glass.privacy_office[1:], one.patient)
    for patient in await reader.person_records(homes):
        stored = await reader.read("Patient", patient)
        if stored is not None and stored.owner in keys:
            told.setdefault(keys[stored.owner], patient)
    return {id: patient for id, patient in told.items() if id not in (one.owner, one.institution)}


async def _commit(
    gateway: Gateway, actor: Actor, one: Opened, homes: Sequence[int], told: Mapping[str, str]
) -> Opened:
    """One commit. A limit that is reached becomes an alarm of the same break-glass."""
    limits = _limits(gateway, one)
    reached: list[_Limit] = []
    for _ in range(_ATTEMPTS):
        one = one._replace(alarms=tuple(limit.name for limit in reached))
        change_set = _change_set(gateway, actor, one, homes, told)
        change_set.guards = _guards(limits, reached)
        try:
            await gateway.store.commit(change_set)
        except GatewayError as error:
            index = getattr(error, "guard", -1)
            if index not in range(len(limits)) or limits[index] in reached:
                raise
            reached.append(limits[index])
            continue
        return one
    raise Conflict("Other requests change the same; send it again", rule="overtaken")


def _limits(gateway: Gateway, one: Opened) -> list[_Limit]:
    glass, hour = gateway.policy.break_glass, one.since // _HOUR
    user = f"{one.institution} {one.user} {hour}"
    return [
        _Limit(
            f"{glass.alarm_user_hour} or more of this person in an hour",
            sha256(f"break-glass user {user}".encode()).digest()[:16],
            glass.alarm_user_hour,
        ),
        _Limit(
            f"{glass.alarm_institution_hour} or more of this institution in an hour",
            sha256(f"break-glass institution {one.institution} {hour}".encode()).digest()[:16],
            glass.alarm_institution_hour,
        ),
    ]


def _guards(limits: Sequence[_Limit], reached: Sequence[_Limit]) -> list[Guard]:
    return [
        Counter(limit.key, 1, _ENDLESS if limit in reached else limit.most - 1) for limit in limits
    ]


def _change_set(
    gateway: Gateway, actor: Actor, one: Opened, homes: Sequence[int], told: Mapping[str, str]
) -> ChangeSet:
    puts = [put_of_access(gateway, task_of(one), one.owner or one.institution, op="create")]
    for institution, patient in told.items():
        notice = notice_of(one._replace(patient=patient), new_id(gateway), institution)
        puts.append(put_of_access(gateway, notice, institution, op="create"))
    party, source = key64(f"Organization/{one.institution}"), key64(f"Task/{one.id}")
    grade = gateway.policy.break_glass.grade
    journal = []
    if gateway.audit:
        called = call_of(gateway, actor)._replace(purpose="BTG", basis="emergency", user=one.user)
        event = emergency_event(
            called,
            patient=one.patient,
            reason=one.reason,
            until=instant(one.until),
            resources=[f"{put.type}/{put.id}" for put in puts],
        )
        journal = [entry(gateway, event, patient=one.patient)]
    return ChangeSet(
        id=gateway.random(16),
        puts=puts,
        journal=journal,
        openings=[
            Opening(home, party, "break-glass", grade, one.since, one.until, source)
            for home in homes
        ],
        institution=one.institution,
        urgent=True,
    )
