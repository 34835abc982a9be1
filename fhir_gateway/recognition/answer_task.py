"""A doctor's answer as a Task, and back (hl7.org/fhir/R4/task.html, docs/adr/0030).

Task `recognition-answer`: `focus` the decision, `for` the patient, `owner` the institution,
`requester` the person, `code` with the items, `businessStatus` with answer, ground and flags, so
that the search parameters of R4 find all of them; results with their versions are `input`. What
was stored as a Communication by an earlier release is read on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fhir_gateway.recognition.answer_model import (
    ALERT,
    ANSWER,
    ANSWER_SYSTEM,
    LINE_SYSTEM,
    NOTICE,
    REASON_MISSING,
    RELYING,
    TASK_SYSTEM,
    TEXT_MISSING,
    DoctorAnswer,
    Kind,
    State,
    coding,
    concept,
    unversioned,
)
from fhir_gateway.settings import CANONICAL
from fhir_gateway.terminology.catalogue import SYSTEMS, Catalogue

Json = Mapping[str, Any]

PROFILE = f"{CANONICAL}/StructureDefinition/recognition-answer"
_HASH = "urn:sha256:"
_FLAGS = (REASON_MISSING, TEXT_MISSING)
_STATES: Mapping[str, tuple[Kind, State]] = {
    "accepted": ("choice", "accepted"),
    "repeated": ("choice", "repeated"),
    "cited": ("citation", "cited"),
    "viewed": ("view", "viewed"),
}


def user_system(institution: str) -> str:
    """The system of the names that an institution's workstations give their users."""
    return f"{CANONICAL}/NamingSystem/{institution}-user"


def task_code(resource: Json) -> str:
    """`recognition-answer`, `recognition-alert` or `booked-result`; "" for a Task of anybody
    else's."""
    if resource.get("resourceType") != "Task":
        return ""
    codes = {one.get("code") for one in _codings(resource.get("code"), TASK_SYSTEM)}
    return next((code for code in (ANSWER, ALERT, NOTICE) if code in codes), "")


# -- from the value to the Task ---------------------------------------------------------------


def task_of(answer: DoctorAnswer, catalogue: Catalogue) -> dict[str, Any]:
    """The Task that keeps an answer."""
    items = catalogue.items
    codes = [coding(ANSWER, task=True)]
    codes += [items[item].coding() for item in answer.items if item in items]
    resource: dict[str, Any] = {
        "resourceType": "Task",
        "id": answer.id,
        "meta": {"profile": [PROFILE]},
        "identifier": [{"system": LINE_SYSTEM, "value": f"{answer.decision}#{answer.line}"}],
        "status": "cancelled" if answer.state == "revoked" else "completed",
        "statusReason": _status_reason(answer),
        "businessStatus": {"coding": _business(answer)},
        "intent": "proposal",
        "code": {"coding": codes},
        "focus": {"reference": f"GuidanceResponse/{answer.decision}"},
        "for": _reference(f"Patient/{answer.patient}") if answer.patient else None,
        "encounter": _encounter(answer),
        "authoredOn": answer.authored,
        "requester": _requester(answer),
        "owner": _reference(f"Organization/{answer.institution}") if answer.institution else None,
        "note": list(_notes(answer)),
        "input": list(_inputs(answer)),
        "output": list(_outputs(answer)),
    }
    return {name: value for name, value in resource.items() if value not in (None, [], {})}


def _reference(text: str) -> dict[str, str] | None:
    return {"reference": text} if text else None


def _status_reason(answer: DoctorAnswer) -> dict[str, Any] | None:
    if answer.state == "revoked":
        return {"text": answer.text} if answer.text else None
    return {"coding": [dict(answer.ground)]} if answer.ground else None


def _business(answer: DoctorAnswer) -> list[dict[str, Any]]:
    codings: list[dict[str, Any]] = [dict(coding(answer.state))]
    if answer.ground and answer.state == "repeated":
        codings.append(dict(answer.ground))
    return codings + [dict(coding(flag)) for flag in answer.flags]


def _requester(answer: DoctorAnswer) -> dict[str, Any] | None:
    if not answer.user:
        return None
    who: dict[str, Any] = {"reference": answer.practitioner} if answer.practitioner else {}
    if answer.institution:
        who["identifier"] = {"system": user_system(answer.institution), "value": answer.user}
    return {**who, "display": answer.user}


def _encounter(answer: DoctorAnswer) -> dict[str, Any] | None:
    if not answer.encounter:
        return None
    system = f"{CANONICAL}/NamingSystem/{answer.institution or 'gateway'}-encounter"
    who: dict[str, Any] = {"identifier": {"system": system, "value": answer.encounter}}
    return {"reference": answer.encounter, **who} if answer.encounter_here else who


def _notes(answer: DoctorAnswer) -> Iterator[dict[str, str]]:
    if answer.text and answer.state != "revoked":
        yield {"text": answer.text}


def _part(code: str, **value: Any) -> dict[str, Any]:
    return {"type": concept(code, task=True), **value}


def _inputs(answer: DoctorAnswer) -> Iterator[dict[str, Any]]:
    yield _part("order-line", valueString=answer.key)
    for name, references in (("result", answer.results), ("report", answer.reports)):
        for reference in references:
            yield _part(name, valueReference={"reference": reference})


def _outputs(answer: DoctorAnswer) -> Iterator[dict[str, Any]]:
    if answer.informed is not None:
        yield _part("patient-informed", valueBoolean=answer.informed)
    if answer.informed_at:
        yield _part("patient-informed-at", valueDateTime=answer.informed_at)
    if answer.completed_by:
        yield _part("completed-by", valueString=answer.completed_by)
    if answer.completed_at:
        yield _part("completed-at", valueDateTime=answer.completed_at)
    if answer.was:
        yield _part("revoked", valueCode=answer.was)
    if answer.digest:
        yield _part("document", valueUri=f"{_HASH}{answer.digest}")
        yield _part("document-base", valueUrl=answer.base)


# -- and back ---------------------------------------------------------------------------------


def answer_of(resource: Json) -> DoctorAnswer | None:
    """The answer that a stored resource keeps; None for one that keeps none of ours."""
    if resource.get("resourceType") == "Communication":
        return _former(resource)
    if task_code(resource) != ANSWER:
        return None
    given, line = _line(resource)
    outputs = {_type(one): _value(one) for one in resource.get("output", ())}
    business = [one.get("code", "") for one in _codings(resource.get("businessStatus"))]
    was: Any = outputs.get("revoked", "")
    kind, state = _STATES.get(was or next(iter(business), ""), ("choice", ""))
    note: Json = next(iter(resource.get("note", ())), {})
    reason = resource.get("statusReason", {})
    revoked = "revoked" in business
    return DoctorAnswer(
        id=resource["id"],
        decision=given,
        line=line,
        key=next(_inputs_of(resource, "order-line"), ""),
        kind=kind,
        state="revoked" if revoked else state,
        patient=_id(resource.get("for")),
        institution=_id(resource.get("owner")),
        items=tuple(one["code"] for one in _codings(resource.get("code"), *SYSTEMS)),
        results=tuple(_inputs_of(resource, "result")),
        reports=tuple(_inputs_of(resource, "report")),
        authored=resource.get("authoredOn", ""),
        user=resource.get("requester", {}).get("display", ""),
        practitioner=resource.get("requester", {}).get("reference", ""),
        encounter=resource.get("encounter", {}).get("identifier", {}).get("value", ""),
        encounter_here="reference" in resource.get("encounter", {}),
        ground=next(iter(reason.get("coding", ())), None),
        flags=tuple(code for code in business if code in _FLAGS),
        text=reason.get("text", "") if revoked else note.get("text", ""),
        informed=outputs.get("patient-informed"),
        informed_at=outputs.get("patient-informed-at", ""),
        completed_by=outputs.get("completed-by", ""),
        completed_at=outputs.get("completed-at", ""),
        was=was,
        digest=outputs.get("document", "").removeprefix(_HASH),
        base=outputs.get("document-base", ""),
        version=int(resource.get("meta", {}).get("versionId", 0)),
    )


def _former(resource: Json) -> DoctorAnswer | None:
    """An answer as the first release kept it: one Communication for each, none ever changed."""
    given, line = _line(resource)
    codes = [
        one.get("code", "")
        for category in resource.get("category", ())
        for one in _codings(category, ANSWER_SYSTEM)
    ]
    state = next((code for code in codes if code in _STATES), "")
    if not given or not state:
        return None
    informed = {"patient-informed": True, "patient-not-informed": False}
    reasons = (one for concept in resource.get("reasonCode", ()) for one in _codings(concept))
    texts = (one.get("contentString", "") for one in resource.get("payload", ()))
    sender = resource.get("sender", {})
    return DoctorAnswer(
        id=resource["id"],
        decision=given,
        line=line,
        key="",
        kind="choice",
        state=_STATES[state][1],
        patient=_id(resource.get("subject")),
        institution=_id(sender),
        items=tuple(one["code"] for one in _codings(resource.get("topic"), *SYSTEMS)),
        results=tuple(one.get("reference", "") for one in resource.get("about", ())),
        reports=(),
        authored=resource.get("sent", ""),
        user=sender.get("display", ""),
        ground=next(reasons, None),
        flags=tuple(code for code in codes if code in _FLAGS),
        text=next(texts, ""),
        informed=next((informed[code] for code in codes if code in informed), None),
        version=int(resource.get("meta", {}).get("versionId", 0)),
        former=True,
    )


def relied_on(answer: DoctorAnswer) -> tuple[str, ...]:
    """What an institution relies on by an answer that stands: results and reports, unversioned."""
    if answer.state not in RELYING:
        return ()
    return tuple(dict.fromkeys(unversioned(one) for one in (*answer.results, *answer.reports)))


def _line(resource: Json) -> tuple[str, int]:
    for identifier in resource.get("identifier", ()):
        if identifier.get("system") == LINE_SYSTEM:
            decision, _, number = identifier.get("value", "").partition("#")
            if number.isdigit():
                return decision, int(number)
    return "", 0


def _codings(concept: Json | None, *systems: str) -> list[Json]:
    codings: Sequence[Json] = (concept or {}).get("coding", ())
    return [one for one in codings if not systems or one.get("system") in systems]


def _type(part: Json) -> str:
    return next((one.get("code", "") for one in _codings(part.get("type"), TASK_SYSTEM)), "")


def _value(part: Json) -> Any:
    return next((value for name, value in part.items() if name.startswith("value")), None)


def _inputs_of(resource: Json, name: str) -> Iterator[str]:
    for part in resource.get("input", ()):
        if _type(part) == name:
            value = _value(part)
            yield value.get("reference", "") if isinstance(value, dict) else str(value)


def _id(reference: Json | None) -> str:
    return str((reference or {}).get("reference", "")).partition("/")[2]
