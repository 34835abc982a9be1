"""A result is taken back because it was another person's: the alarm, in the commit that voids it.

HL7 table 0085 and 0123, W: "post original as wrong, e.g. transmitted for wrong patient". Whoever
relied on the result is told as of any correction (recognition.relied_watch). Beside that somebody
has to find out whose result it is, at the institution that sent it: a Task in the record in which
it stood, owned by that institution, open until a named person takes note. Whose it is, is never
guessed: the alarm names the results and the record, nothing else. docs/adr/0048
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from fhir_gateway.audit.events import update_event
from fhir_gateway.context import Gateway
from fhir_gateway.errors import Conflict, Forbidden, NotFound, PreconditionFailed
from fhir_gateway.fhir.keys import key64
from fhir_gateway.fhir.wire import instant, parse
from fhir_gateway.interactions.audit import call_of, entry
from fhir_gateway.interactions.prepare import put_of
from fhir_gateway.interactions.steps import Guards, Step
from fhir_gateway.mapping.doors import INTAKE_SYSTEM, WRONG_PATIENT, intake_tags
from fhir_gateway.mapping.ids import business_id
from fhir_gateway.security.actor import Actor
from fhir_gateway.store.changes import ChangeSet, Put, VersionIs
from fhir_gateway.store.store import Reader

LOG = logging.getLogger("fhir_gateway.intake")

Json = Mapping[str, Any]

#: What can be taken back.
_RESULTS = frozenset({"Observation", "DiagnosticReport", "ImagingStudy"})
_MARKER = INTAKE_SYSTEM.encode()

_SAYS = (
    "机构撤回了本记录中的下列结果：报错患者（HL7 0085 W）。结果属于谁，本平台不作推断；"
    "请在机构系统中核实，并以正确的患者重新发送。 / The institution took these results of this"
    " record back: wrong patient. Whose they are is not known here: find out at the source, and"
    " send them again under the right patient."
)

ATTEMPTS = 16


def is_alarm(resource: Json) -> bool:
    """Whether a resource is one of these Tasks."""
    if resource.get("resourceType") != "Task":
        return False
    return any(
        one.get("system") == INTAKE_SYSTEM and one.get("code") == WRONG_PATIENT
        for one in resource.get("code", {}).get("coding", ())
    )


async def alarm(
    gateway: Gateway, reader: Reader, actor: Actor, steps: Sequence[Step], guards: Guards
) -> None:
    """Adds to a write the alarms of the results that it takes back as another person's.

    Raises Forbidden for a step that would write an alarm, whoever asks.
    """
    taken: dict[str, list[str]] = {}
    for step in steps:
        if step.type == "Task" and not step.matched:
            _check_own(step)
        elif _is_taken_back(step):
            assert step.current is not None
            subject = parse(step.current.whole()).get("subject", {}).get("reference", "")
            version = f"{step.name}/_history/{step.current.version + 1}"
            taken.setdefault(subject, []).append(version)
    for subject, versions in taken.items():
        put = _put(gateway, _task(gateway, actor.institution or "", subject, versions))
        guards.add(VersionIs("Task", put.id, 0), ours=True)
        guards.puts.append(put)
    if taken:
        gateway.count("wrong_patient_alarms", len(taken))
        line = {"event": "wrong-patient", "institution": actor.institution, "alarms": len(taken)}
        LOG.warning(json.dumps(line))


def _check_own(step: Step) -> None:
    current = step.current
    stored = current is not None and not current.deleted and _MARKER in current.tail
    if (step.resource is not None and is_alarm(step.resource)) or (
        stored and current is not None and is_alarm(msgspec.json.decode(current.whole()))
    ):
        raise Forbidden(
            "The gateway alone writes alarms about results of a wrong patient: close one by "
            "Task/[id]/$acknowledge",
            expression=step.root,
            rule="governed",
        )


def _is_taken_back(step: Step) -> bool:
    """Whether a step marks a stored result as another person's that was not marked so before."""
    current = step.current
    if current is None or current.deleted:
        return False  # nobody has seen it here
    if step.type not in _RESULTS or step.resource is None or step.matched:
        return False
    if WRONG_PATIENT not in intake_tags(step.resource):
        return False
    return WRONG_PATIENT not in intake_tags(parse(current.whole()))


def _task(
    gateway: Gateway, institution: str, subject: str, versions: Sequence[str]
) -> dict[str, Any]:
    owner = {"owner": {"reference": f"Organization/{institution}"}} if institution else {}
    about = {"for": {"reference": subject}} if subject else {}
    return {
        "resourceType": "Task",
        "id": business_id(institution, "Task", WRONG_PATIENT, subject, *versions),
        "status": "requested",
        "intent": "proposal",
        "priority": "stat",
        "code": _concept(WRONG_PATIENT, "报错患者 / Result of a wrong patient"),
        "description": _SAYS,
        "focus": {"reference": versions[0]},
        **about,
        "authoredOn": instant(gateway.clock.now()),
        "requester": {"display": "fhir-gateway"},
        **owner,
        "input": [
            {"type": _concept("result"), "valueReference": {"reference": one}} for one in versions
        ],
    }


def _concept(code: str, display: str = "") -> dict[str, Any]:
    coding = {"system": INTAKE_SYSTEM, "code": code}
    return {"coding": [coding | {"display": display} if display else coding]}


def _put(gateway: Gateway, task: dict[str, Any]) -> Put:
    reference = task.get("owner", {}).get("reference", "")
    put = put_of(gateway, task, op="create", owner=key64(reference) if reference else 0)
    put.follow = None  # a result about nobody is in no home that could be followed
    return put


async def acknowledge_alarm(
    gateway: Gateway, actor: Actor, id: str, *, by: str, text: str
) -> str | None:
    """Closes an alarm in the name of a person; the reference to the version that says so, None
    when the Task is none of these alarms.

    Raises NotFound for another institution's, Conflict when it changes again and again.
    """
    for _ in range(ATTEMPTS):
        async with gateway.store.snapshot(actor.access) as reader:
            stored = await reader.read("Task", id)
        before = parse(stored.whole()) if stored is not None and not stored.deleted else {}
        if stored is None or not is_alarm(before):
            return None
        owner = before.get("owner", {}).get("reference", "").partition("/")[2]
        if actor.bound and owner != actor.institution:
            raise NotFound("There is no such alert", rule="alert")
        if before["status"] != "requested":
            return f"Task/{id}/_history/{stored.version}"
        after = _closed(gateway, before, by, text)
        patient = after.get("for", {}).get("reference", "").partition("/")[2] or None
        call = call_of(gateway, actor)._replace(user=by)
        event = update_event(call, type="Task", id=id, version=stored.version + 1, patient=patient)
        change_set = ChangeSet(
            id=gateway.random(16),
            guards=[VersionIs("Task", id, stored.version)],
            puts=[_put(gateway, after)],
            journal=[entry(gateway, event, patient=patient)] if gateway.audit else [],
        )
        try:
            await gateway.store.commit(change_set)
        except PreconditionFailed:
            continue
        return f"Task/{id}/_history/{stored.version + 1}"
    raise Conflict("The alarm changes again and again; send it again", rule="overtaken")


def _closed(gateway: Gateway, before: Json, by: str, text: str) -> dict[str, Any]:
    at = instant(gateway.clock.now())
    note = {"note": [{"authorString": by, "time": at, "text": text}]} if text else {}
    said = (("acknowledged-by", "valueString", by), ("acknowledged-at", "valueInstant", at))
    outputs = [{"type": _concept(code), name: value} for code, name, value in said]
    kept = {name: value for name, value in before.items() if name != "meta"}
    return {**kept, "status": "completed", **note, "output": outputs}
