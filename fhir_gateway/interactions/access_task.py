"""Tasks that keep who was let into a record without consent: break-glass, its notices, cases.

A Task is the work list of FHIR R4 (hl7.org/fhir/R4/task.html): `for` the patient, `requester` the
person who looked, `reasonCode` the ground, `executionPeriod` for how long. The gateway alone
writes them; whoever would write one by PUT, PATCH or a Bundle is refused. docs/consent.md
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from fhir_gateway.context import Gateway
from fhir_gateway.errors import Forbidden
from fhir_gateway.fhir.datatypes import date_range
from fhir_gateway.fhir.keys import key64, parameter_key
from fhir_gateway.fhir.wire import instant
from fhir_gateway.interactions.prepare import put_of
from fhir_gateway.interactions.steps import Guards, Step
from fhir_gateway.security.actor import Actor
from fhir_gateway.settings import CANONICAL
from fhir_gateway.store.changes import Derived, Put
from fhir_gateway.store.store import Reader

Json = Mapping[str, Any]

ACCESS_SYSTEM = f"{CANONICAL}/CodeSystem/access-task"
REASON_SYSTEM = f"{CANONICAL}/CodeSystem/break-glass-reason"
BREAK_GLASS, NOTICE, CASE = "break-glass", "break-glass-notice", "case-access"
#: The global row of a break-glass that waits for its review: (parameter, 0), then when it was.
OPEN_BREAK_GLASS = (parameter_key("Task", "open-break-glass"), 0)
#: What a reviewer finds.
JUSTIFIED, NOT_JUSTIFIED = "justified", "not-justified"

_DISPLAYS = {
    BREAK_GLASS: "Break-glass: a record was opened in an emergency",
    NOTICE: "A record was opened in an emergency, for your information",
    CASE: "A record was opened to the regulator on a case",
}


class Opened(NamedTuple):
    """One record that was opened to one institution. `user` is the person who looks, a reference
    or a name; `since` and `until` are µs; `alarms` are the limits that were reached."""

    id: str
    code: str
    patient: str
    institution: str
    user: str
    reason: str
    text: str
    since: int
    until: int
    owner: str = ""  # the institution that reviews it
    alarms: tuple[str, ...] = ()
    number: str = ""  # of a case
    outcome: str = ""
    reviewed_by: str = ""
    reviewed_at: str = ""
    note: str = ""
    version: int = 0

    @property
    def is_open(self) -> bool:
        """Whether nobody has looked at it yet."""
        return not self.outcome


def task_of(one: Opened) -> dict[str, Any]:
    """The Task that keeps an opening."""
    status = "completed" if one.outcome or one.code == CASE else "requested"
    resource: dict[str, Any] = {
        "resourceType": "Task",
        "id": one.id,
        "status": status,
        "businessStatus": _concept(one.outcome) if one.outcome else None,
        "intent": "order",
        "priority": "stat" if one.alarms else "urgent",
        "code": _concept(one.code, _DISPLAYS[one.code]),
        "for": {"reference": f"Patient/{one.patient}"},
        "executionPeriod": {"start": instant(one.since), "end": instant(one.until)},
        "authoredOn": instant(one.since),
        "requester": person(one.user),
        "owner": {"reference": f"Organization/{one.owner}"} if one.owner else None,
        "reasonCode": _reason(one),
        "note": [{"authorString": one.reviewed_by, "text": one.note}] if one.note else None,
        "input": list(_inputs(one)),
        "output": list(_outputs(one)),
    }
    return {name: value for name, value in resource.items() if value not in (None, [], {})}


def notice_of(one: Opened, id: str, institution: str) -> dict[str, Any]:
    """The Task that tells an institution of somebody else's break-glass."""
    return {
        "resourceType": "Task",
        "id": id,
        "status": "requested",
        "intent": "order",
        "priority": "stat" if one.alarms else "urgent",
        "code": _concept(NOTICE, _DISPLAYS[NOTICE]),
        "focus": {"reference": f"Task/{one.id}"},
        "for": {"reference": f"Patient/{one.patient}"},
        "authoredOn": instant(one.since),
        "owner": {"reference": f"Organization/{institution}"},
        "reasonCode": _reason(one),
        "input": list(_inputs(one)),
    }


def _concept(code: str, display: str = "") -> dict[str, Any]:
    coding = {"system": ACCESS_SYSTEM, "code": code}
    return {"coding": [{**coding, "display": display} if display else coding]}


def _reason(one: Opened) -> dict[str, Any]:
    reason: dict[str, Any] = {}
    if one.reason:
        reason["coding"] = [{"system": REASON_SYSTEM, "code": one.reason}]
    if one.text:
        reason["text"] = one.text
    return reason


def person(user: str) -> dict[str, str]:
    """A person as a Reference: by reference where the name is one."""
    return {"reference": user, "display": user} if "/" in user else {"display": user}


def _inputs(one: Opened) -> Iterator[dict[str, Any]]:
    party = {"reference": f"Organization/{one.institution}"}
    yield {"type": _concept("opened-to"), "valueReference": party}
    if one.number:
        yield {"type": _concept("case-number"), "valueString": one.number}
    for alarm in one.alarms:
        yield {"type": _concept("alarm"), "valueString": alarm}


def _outputs(one: Opened) -> Iterator[dict[str, Any]]:
    if one.reviewed_by:
        yield {"type": _concept("reviewed-by"), "valueString": one.reviewed_by}
        yield {"type": _concept("reviewed-at"), "valueInstant": one.reviewed_at}


def code_of(resource: Json) -> str:
    """Which of our Tasks a resource is; "" for anybody else's."""
    if resource.get("resourceType") != "Task":
        return ""
    codings: Sequence[Json] = resource.get("code", {}).get("coding", ())
    codes = (one.get("code", "") for one in codings if one.get("system") == ACCESS_SYSTEM)
    return next((code for code in codes if code in _DISPLAYS), "")


def opened_of(resource: Json) -> Opened | None:
    """The opening that a stored Task keeps; None for one that keeps none."""
    code = code_of(resource)
    if code not in (BREAK_GLASS, CASE):
        return None
    reason = resource.get("reasonCode", {})
    said = {_code(part.get("type")): part for part in resource.get("input", ())}
    done = {_code(part.get("type")): part for part in resource.get("output", ())}
    alarms = tuple(
        str(part.get("valueString", ""))
        for part in resource.get("input", ())
        if _code(part.get("type")) == "alarm"
    )
    requester = resource.get("requester", {})
    period: Json = resource.get("executionPeriod", {})
    note: Json = next(iter(resource.get("note", ())), {})
    return Opened(
        id=str(resource.get("id", "")),
        code=code,
        patient=_id(resource.get("for")),
        institution=_id(said.get("opened-to", {}).get("valueReference")),
        user=str(requester.get("reference") or requester.get("display", "")),
        reason=_code(reason),
        text=str(reason.get("text", "")),
        since=_moment(period.get("start")),
        until=_moment(period.get("end")),
        owner=_id(resource.get("owner")),
        alarms=alarms,
        number=str(said.get("case-number", {}).get("valueString", "")),
        outcome=_code(resource.get("businessStatus")),
        reviewed_by=str(done.get("reviewed-by", {}).get("valueString", "")),
        reviewed_at=str(done.get("reviewed-at", {}).get("valueInstant", "")),
        note=str(note.get("text", "")),
        version=int(resource.get("meta", {}).get("versionId", 0)),
    )


def _code(concept: Json | None) -> str:
    codings: Sequence[Json] = (concept or {}).get("coding", ())
    return str(codings[0].get("code", "")) if codings else ""


def _moment(text: Any) -> int:
    return date_range(str(text))[0] if text else 0


def _id(reference: Json | None) -> str:
    return str((reference or {}).get("reference", "")).partition("/")[2]


def derive_access(resource: dict[str, Any], derived: Derived) -> None:
    """Adds the row by which those are found that wait for a review."""
    if resource["resourceType"] != "Task" or code_of(resource) != BREAK_GLASS:
        return
    one = opened_of(resource)
    if one is not None and one.is_open:
        derived.global_ints.append((*OPEN_BREAK_GLASS, one.since))


def put_of_access(gateway: Gateway, task: dict[str, Any], institution: str, *, op: str) -> Put:
    """A Task of the gateway's own, in its patient's home, that an institution sees as its own."""
    owner = key64(f"Organization/{institution}") if institution else 0
    return put_of(gateway, task, op=op, owner=owner)


async def govern_access(
    gateway: Gateway, reader: Reader, actor: Actor, steps: Sequence[Step], guards: Guards
) -> None:
    """Raises Forbidden for a step that would write one of these Tasks, whoever asks."""
    for step in steps:
        if step.type != "Task" or step.matched:
            continue
        current = step.current
        stored = current is not None and not current.deleted and _MARKER in current.tail
        if (step.resource is not None and code_of(step.resource)) or (
            stored and current is not None and code_of(msgspec.json.decode(current.whole()))
        ):
            raise Forbidden(
                "The gateway alone writes who was let into a record: open one by "
                "Patient/[id]/$break-glass, review one by Task/[id]/$review",
                expression=step.root,
                rule="governed",
            )


_MARKER = ACCESS_SYSTEM.encode()
