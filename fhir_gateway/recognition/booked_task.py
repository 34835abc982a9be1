"""A notice as a Task, and back: an examination is booked, and a result of it can be recognised.

Task `booked-result` (hl7.org/fhir/R4/task.html, docs/adr/0054): `focus` the result in the version
that was found, `for` the patient, `owner` the institution that booked, `restriction.recipient` who
is told (the patient, and the clinician who ordered), `input` the appointment and the result,
`status` requested until a named person takes note, or cancelled when the result is such no more.
One for each Appointment and result. It decides nothing: whoever is responsible cancels, or not.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from fhir_gateway.recognition.answer_model import NOTICE, coding, concept, hashed_id
from fhir_gateway.recognition.answer_task import task_code
from fhir_gateway.settings import CANONICAL
from fhir_gateway.terminology.catalogue import Catalogue

Json = Mapping[str, Any]

PROFILE = f"{CANONICAL}/StructureDefinition/booked-result"

_GATEWAY = "fhir-gateway"


class Found(NamedTuple):
    """A result that was found for a booked examination.

    `result` is "Type/id/_history/1", `item` its catalogue code, `day` when it was examined and
    `issuer` by whom, in words. `institution` is who is told, "" for nobody but the patient;
    `clinician` a reference to the person who ordered, "" for nobody. `start` is the booked time as
    the Appointment says it; `others` are ordered items for which nothing was found.
    """

    appointment: str  # logical id
    result: str
    item: str
    day: str
    issuer: str
    patient: str
    institution: str
    clinician: str
    start: str
    others: tuple[str, ...] = ()


def notice_id(appointment: str, result: str) -> str:
    """The logical id of the notice about an Appointment and a result ("Type/id")."""
    return hashed_id("booked-result", appointment, result)


def task_of_notice(found: Found, id: str, at: str, catalogue: Catalogue) -> dict[str, Any]:
    """The Task of a result that was found at a moment."""
    codes = [coding(NOTICE, task=True)]
    if found.item in catalogue.items:
        codes.append(catalogue.items[found.item].coding())
    told = [f"Patient/{found.patient}", found.clinician]
    resource: dict[str, Any] = {
        "resourceType": "Task",
        "id": id,
        "meta": {"profile": [PROFILE]},
        "status": "requested",
        "intent": "proposal",
        "priority": "routine",
        "code": {"coding": codes},
        "description": _words(found, catalogue),
        "focus": {"reference": found.result},
        "for": {"reference": f"Patient/{found.patient}"},
        "authoredOn": at,
        "requester": {"display": _GATEWAY},
        "owner": {"reference": f"Organization/{found.institution}"} if found.institution else None,
        "restriction": {"recipient": [{"reference": one} for one in told if one]},
        "input": [
            {"type": concept("appointment", task=True),
             "valueReference": {"reference": f"Appointment/{found.appointment}"}},
            {"type": concept("result", task=True),
             "valueReference": {"reference": found.result}},
        ],
    }  # fmt: skip
    return {name: value for name, value in resource.items() if value is not None}


def _words(found: Found, catalogue: Catalogue) -> str:
    """What a doctor and a patient read; no value stands in it."""
    name = _name(found.item, catalogue)
    text = (
        f"已预约{found.start[:10]}的{name}，现有{found.issuer}{found.day}的{name}结果，"
        "按现行规则可互认（未考虑患者的具体情形）。"
    )
    if found.others:
        names = "、".join(_name(one, catalogue) for one in found.others)
        return f"{text}同一预约中的{names}没有可互认的结果。是否保留预约，由接诊医师与患者决定。"
    return f"{text}如不再需要，可取消本次预约；是否采用由接诊医师决定，预约未作任何变更。"


def _name(item: str, catalogue: Catalogue) -> str:
    return catalogue.items[item].name_zh if item in catalogue.items else item


def is_notice(resource: Json) -> bool:
    """Whether a Task is such a notice."""
    return task_code(resource) == NOTICE


def appointment_of(resource: Json) -> str:
    """The Appointment that a notice is about: "Appointment/id", "" for none."""
    for one in resource.get("input") or ():
        reference = str((one.get("valueReference") or {}).get("reference", ""))
        if reference.startswith("Appointment/"):
            return reference
    return ""


def result_of(resource: Json) -> str:
    """The result that a notice tells of, without its version: "Type/id"."""
    return str((resource.get("focus") or {}).get("reference", "")).partition("/_history/")[0]


def closed_notice(resource: Json, *, by: str, at: str, text: str) -> dict[str, Any]:
    """The notice after a named person took note of it."""
    kept = {**resource, "meta": {"profile": [PROFILE]}}
    outputs = [
        {"type": concept("acknowledged-by", task=True), "valueString": by},
        {"type": concept("acknowledged-at", task=True), "valueInstant": at},
    ]
    note = {"note": [{"authorString": by, "time": at, "text": text}]} if text else {}
    return {**kept, "status": "completed", **note, "output": outputs}


def withdrawn_notice(resource: Json) -> dict[str, Any]:
    """The notice of a result that can no longer be recognised or was followed by a newer one, or of
    a booking that is over."""
    kept = {**resource, "meta": {"profile": [PROFILE]}}
    words = "该结果目前不再可互认、已有更新的结果，或预约已结束：本提示作废"
    return {**kept, "status": "cancelled", "statusReason": {"text": words}}
