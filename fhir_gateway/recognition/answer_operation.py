"""The operations $answer, $document and $acknowledge; answer_definitions.py says what they take."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast, get_args

from fhir_gateway.context import Gateway
from fhir_gateway.errors import Invalid
from fhir_gateway.fhir.wire import render
from fhir_gateway.interactions.operation_definitions import Call, Taken
from fhir_gateway.interactions.wrong_patient import acknowledge_alarm
from fhir_gateway.recognition.answer import Kept, Reply, record_answers
from fhir_gateway.recognition.answer_fetch import fetch_document
from fhir_gateway.recognition.answer_model import Verb
from fhir_gateway.recognition.answer_model import unversioned as bare
from fhir_gateway.recognition.answer_rows import AHEAD, is_ahead
from fhir_gateway.recognition.booked_job import acknowledge_notice
from fhir_gateway.recognition.relied import acknowledge_alert
from fhir_gateway.security.actor import Actor

VERBS: tuple[Verb, ...] = get_args(Verb)


async def answer(gateway: Gateway, actor: Actor, call: Call) -> bytes:
    """GuidanceResponse/[id]/$answer: stores what the doctor did with one order line.

    Raises Invalid for the parameters, NotFound for the decision, Unprocessable when the answer
    does not fit it. A missing ground is no fault: it is flagged.
    """
    outcome = call.parameters["outcome"][0]
    if outcome.value not in VERBS:
        text = f"outcome is required: one of {', '.join(VERBS)}"
        raise Invalid(text, expression=outcome.expression, rule="outcome")
    reply = Reply(
        expression="Parameters",
        decision=call.id,
        line=call.value("line"),
        outcome=cast(Verb, outcome.value),
        result=bare(_reference(call.value("result"))),
        reason=_reason(call.one("reason")),
        text=(call.value("text") or "").strip(),
        informed=call.value("patientInformed"),
        user=_person(call.value("practitioner")),
        answered=_answered(gateway, call.one("answered")),
        informed_at=call.value("informedAt") or "",
        encounter=_reference(call.value("encounter")),
        answer=bare(_reference(call.value("answer"))).removeprefix("Task/"),
    )
    (kept,) = await record_answers(gateway, actor, [reply], operation="$answer")
    return _told(kept)


def _answered(gateway: Gateway, taken: Taken | None) -> str:
    if taken is None:
        return ""
    if is_ahead(taken.value, gateway.clock.now()):
        raise Invalid(f"answered {AHEAD}", expression=taken.expression, rule="time-ahead")
    return str(taken.value)


def _told(kept: Kept) -> bytes:
    """The Parameters of an answer; the document stands in it byte by byte."""
    one = kept.answer
    version = one.version + kept.changed
    parameters: list[dict[str, Any]] = [
        {"name": "answer", "valueReference": {"reference": f"Task/{one.id}/_history/{version}"}},
        {"name": "state", "valueCode": one.state},
        *({"name": "missing", "valueCode": flag} for flag in one.flags),
    ]
    if kept.document:
        parameters.append({"name": "sha256", "valueString": one.digest})
    if kept.alert is not None:
        reference = {"reference": f"Task/{kept.alert.id}"}
        parameters.append({"name": "alert", "valueReference": reference})
    body = render({"resourceType": "Parameters", "parameter": parameters})
    if not kept.document:
        return body
    return b'%b,{"name":"document","resource":%b}]}' % (body[:-2], kept.document)


def _reference(value: Mapping[str, Any] | None) -> str:
    return str((value or {}).get("reference", ""))


def _person(value: Mapping[str, Any] | None) -> str:
    """A person by reference, else by name."""
    return _reference(value) or str((value or {}).get("display", "")).strip()


def _reason(taken: Taken | None) -> dict[str, str] | None:
    if taken is None:
        return None
    return {"code": taken.value} if taken.element == "valueCode" else dict(taken.value)


async def fetch(gateway: Gateway, actor: Actor, call: Call) -> bytes:
    """Task/[id]/$document: the document that goes with an answer, byte by byte as before.

    Raises NotFound, Unprocessable for a Task that has none, Deleted when it was erased.
    """
    return await fetch_document(gateway, actor, call.id)


async def acknowledge(gateway: Gateway, actor: Actor, call: Call) -> dict[str, Any]:
    """Task/[id]/$acknowledge: an alert, the alarm about a result of a wrong patient, or the notice
    of a result for a booked examination, is closed in the name of a person.

    Raises Invalid without a name, NotFound, Unprocessable for what is no alert.
    """
    person = _person(call.value("practitioner"))
    if not person:
        at = call.parameters["practitioner"][0].expression
        text = "practitioner names a person, by reference or display"
        raise Invalid(text, expression=at, rule="person")
    text = (call.value("text") or "").strip()
    reference = await acknowledge_alarm(gateway, actor, call.id, by=person, text=text)
    if reference is None:
        reference = await acknowledge_notice(gateway, actor, call.id, by=person, text=text)
    if reference is None:
        alert = await acknowledge_alert(gateway, actor, call.id, by=person, text=text)
        reference = f"Task/{alert.id}/_history/{alert.version}"
    return {
        "resourceType": "Parameters",
        "parameter": [{"name": "alert", "valueReference": {"reference": reference}}],
    }
