"""The doctor's answer to a reminder: recognised, or repeated, and on what ground.

A decision never changes; each answer is a Communication of its own, `basedOn` the decision, in the
patient's home, so that it is found from both (docs/adr/0013). Its id is a hash of what it says:
the same answer sent again is the same resource. A missing ground or text is flagged and counted,
never refused: no order waits for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any, Literal, NamedTuple

import msgspec

from fhir_gateway.audit.events import answer_event
from fhir_gateway.context import Gateway
from fhir_gateway.errors import Issue, Unprocessable
from fhir_gateway.fhir.wire import instant
from fhir_gateway.interactions.audit import call_of, entry
from fhir_gateway.interactions.prepare import prepare
from fhir_gateway.recognition.answered import AnsweredLine, answered_lines, answers_of
from fhir_gateway.recognition.record import logical_id
from fhir_gateway.recognition.recorded import Recorded, RecordedLine, read_decision
from fhir_gateway.recognition.vocabulary import catalogue_of, coding_of, vocabulary_of
from fhir_gateway.security.actor import Actor
from fhir_gateway.settings import CANONICAL
from fhir_gateway.store.changes import ChangeSet, Entry, Put
from fhir_gateway.terminology.reason import REASON_SYSTEM, Reason

__all__ = ["AnsweredLine", "Reply", "answered_lines", "answers_of", "record_answers"]

ANSWER_SYSTEM = f"{CANONICAL}/CodeSystem/recognition-answer"
LINE_SYSTEM = f"{CANONICAL}/NamingSystem/decision-line"


class Reply(NamedTuple):
    """One answer to one order line of one decision.

    `line` is the number of the line, or its key, or None for the only one. `expression` is where
    the answer stands in the request. `reason` is a Coding; of another system than ours it is kept
    as it is. `answered` is a FHIR dateTime, "" for now.
    """

    expression: str
    decision: str
    line: int | str | None
    outcome: Literal["accepted", "repeated"]
    result: str = ""
    reason: dict[str, str] | None = None
    text: str = ""
    informed: bool | None = None
    user: str = ""
    answered: str = ""


class _Given(NamedTuple):
    """A reply with the line that it answers, found to be in order."""

    reply: Reply
    recorded: Recorded
    line: RecordedLine
    number: int
    results: tuple[str, ...]
    ground: Reason | None


async def record_answers(
    gateway: Gateway, actor: Actor, replies: Sequence[Reply], *, operation: str
) -> list[str]:
    """Stores the answers in one commit and returns the ids of their Communications.

    Raises NotFound for a decision that is not this institution's, Unprocessable with every fault
    of every answer. Nothing is stored then.
    """
    grounds = vocabulary_of(gateway).reasons
    decisions: dict[str, Recorded] = {}
    async with gateway.store.snapshot(actor.access) as reader:
        for id in dict.fromkeys(reply.decision for reply in replies):
            decisions[id] = await read_decision(reader, actor, id)
    issues: list[Issue] = []
    given = [_check(reply, decisions[reply.decision], grounds, issues) for reply in replies]
    if issues:
        raise Unprocessable(issues=tuple(issues))
    puts: dict[str, Put] = {}
    journal: list[Entry] = []
    ids = []
    for one in given:
        if one is None:
            continue
        resource = _communication(gateway, actor, one)
        ids.append(resource["id"])
        puts[resource["id"]] = prepare(
            gateway, resource, op="create", institution=actor.institution, only_if_changed=True
        )
        if gateway.audit:
            journal.append(_audit(gateway, actor, one, operation))
    await gateway.store.commit(
        ChangeSet(id=gateway.random(16), puts=list(puts.values()), journal=journal)
    )
    for one in given:
        if one is not None:
            gateway.count(f"answers_{one.reply.outcome}", 1)
    return ids


def _check(
    reply: Reply, recorded: Recorded, grounds: Mapping[str, Reason], issues: list[Issue]
) -> _Given | None:
    found = _line(reply, recorded)
    if found is None:
        text = "The decision has no such order line; name one of its keys"
        issues.append(Issue("not-found", text, reply.expression, "order-line"))
        return None
    number, line = found
    ground = None
    if reply.reason and reply.reason.get("system", REASON_SYSTEM) == REASON_SYSTEM:
        ground = grounds.get(reply.reason.get("code", ""))
        if ground is None:
            text = f"The ground must be one of {', '.join(grounds)}"
            issues.append(Issue("code-invalid", text, reply.expression, "ground"))
    results = _results(reply, line)
    if reply.outcome == "accepted" and not results:
        text = "An accepted answer names a result that the decision weighed for this order line"
        issues.append(Issue("business-rule", text, reply.expression, "result"))
    return _Given(reply, recorded, line, number, results, ground)


def _line(reply: Reply, recorded: Recorded) -> tuple[int, RecordedLine] | None:
    lines = recorded.lines
    if reply.line is None:
        return (0, lines[0]) if len(lines) == 1 else None
    if isinstance(reply.line, int):
        return (reply.line, lines[reply.line]) if reply.line < len(lines) else None
    keys = [line.key for line in lines]
    if reply.line not in keys:
        return None
    number = keys.index(reply.line)
    return number, lines[number]


def _results(reply: Reply, line: RecordedLine) -> tuple[str, ...]:
    """The results an answer is about: the one it names, else those that the card proposed."""
    if reply.result:
        known = any(reply.result in item.named for item in line.items)
        return (reply.result,) if known else ()
    return tuple(dict.fromkeys(item.result for item in line.items if item.result))


def _communication(gateway: Gateway, actor: Actor, given: _Given) -> dict[str, Any]:
    """hl7.org/fhir/R4/communication.html; codes in profiles/CodeSystem/recognition-answer.json."""
    reply, recorded = given.reply, given.recorded
    resource: dict[str, Any] = {
        "resourceType": "Communication",
        "identifier": [{"system": LINE_SYSTEM, "value": f"{reply.decision}#{given.number}"}],
        "basedOn": [{"reference": f"GuidanceResponse/{reply.decision}"}],
        "status": "completed",
        "category": [_category(code) for code in _categories(given)],
    }
    if recorded.inputs.query.patient:
        resource["subject"] = {"reference": f"Patient/{recorded.inputs.query.patient}"}
    if topics := _topics(gateway, given.line):
        resource["topic"] = {"coding": topics}
    if given.results:
        resource["about"] = [{"reference": result} for result in given.results]
    resource["sent"] = reply.answered or instant(gateway.clock.now())
    resource["sender"] = _sender(actor, given)
    if reason := _reason(given):
        resource["reasonCode"] = [reason]
    if reply.text:
        resource["payload"] = [{"contentString": reply.text}]
    digest = sha256(msgspec.json.encode(resource)).digest()
    return {**resource, "id": logical_id(int.from_bytes(digest[:16], "big"))}


def _categories(given: _Given) -> list[str]:
    reply = given.reply
    codes: list[str] = [reply.outcome]
    if reply.outcome == "repeated":
        if reply.reason is None and not reply.text:
            codes.append("reason-missing")
        if given.ground is not None and given.ground.text_required and not reply.text:
            codes.append("text-missing")
    if reply.informed is not None:
        codes.append("patient-informed" if reply.informed else "patient-not-informed")
    return codes


def _category(code: str) -> dict[str, Any]:
    return {"coding": [{"system": ANSWER_SYSTEM, "code": code}]}


def _topics(gateway: Gateway, line: RecordedLine) -> list[dict[str, Any]]:
    items = catalogue_of(gateway).items
    return [items[item.code].coding() for item in line.items if item.code in items]


def _sender(actor: Actor, given: _Given) -> dict[str, str]:
    """The institution; the person at its workstation by the name that the workstation gives."""
    sender = {"display": given.reply.user or given.recorded.user or actor.name}
    if actor.institution:
        sender["reference"] = f"Organization/{actor.institution}"
    return sender


def _reason(given: _Given) -> dict[str, Any] | None:
    if given.ground is not None:
        return {"coding": [coding_of(given.ground)]}
    return {"coding": [given.reply.reason]} if given.reply.reason else None


def _audit(gateway: Gateway, actor: Actor, given: _Given, operation: str) -> Entry:
    query = given.recorded.inputs.query
    reason = given.ground.code if given.ground else ""
    event = answer_event(
        call_of(gateway, actor)._replace(user=given.reply.user or given.recorded.user),
        id=given.reply.decision,
        patient=query.patient or None,
        operation=operation,
        summary=f"{given.reply.outcome} {reason}".strip(),
    )
    return entry(gateway, event, home=query.home)
