"""An alert as a Task, and back: what an institution relied on is not what it was.

Task `recognition-alert` (hl7.org/fhir/R4/task.html, docs/adr/0030): `focus` what has changed, with
its version of now; `partOf` the answer that relied on it; `for` the patient; `owner` the
institution that is told; `businessStatus` the change; `status` requested until a named person
takes note, then completed. One for each answer, however much changes and however often.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from fhir_gateway.recognition.answer_model import (
    ALERT,
    TASK_SYSTEM,
    coding,
    concept,
    hashed_id,
)
from fhir_gateway.recognition.answer_task import task_code
from fhir_gateway.settings import CANONICAL
from fhir_gateway.terminology.catalogue import SYSTEMS, Catalogue

Json = Mapping[str, Any]

PROFILE = f"{CANONICAL}/StructureDefinition/recognition-alert"
CHANGE_SYSTEM = f"{CANONICAL}/CodeSystem/relied-change"
GATEWAY = "fhir-gateway"

#: What may become of a result, the gravest first.
CHANGES = (
    "wrong-patient", "other-person", "other-patient", "voided", "deleted", "corrected",
    "other-issuer",
)  # fmt: skip


class Alert(NamedTuple):
    """One alert as it stands. `answer` is a reference to the answer that relied on a result.

    `changes` are pairs of a code of CodeSystem/relied-change and the version that stands now
    ("Observation/x/_history/2"), the gravest first; `relied` the versions that were relied on.
    `how` is the state of the answer: accepted, cited or viewed. `at` is when it was noticed,
    `closed` when `closed_by` took note of it ("" while it is open), as FHIR instants.
    """

    id: str
    answer: str
    how: str
    changes: tuple[tuple[str, str], ...]
    relied: tuple[str, ...]
    patient: str
    institution: str
    items: tuple[str, ...]
    at: str
    closed: str = ""
    closed_by: str = ""
    text: str = ""
    version: int = 0

    @property
    def is_open(self) -> bool:
        """Whether nobody has taken note of it yet."""
        return not self.closed

    @property
    def change(self) -> str:
        """The gravest of the changes."""
        return self.changes[0][0]

    @property
    def now(self) -> str:
        """What has changed most gravely, as it stands now."""
        return self.changes[0][1]


def alert_id(answer: str) -> str:
    """The logical id of the alert about what an answer relies on."""
    return hashed_id("alert", answer)


def gravest_first(changes: Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """Changes in the order in which they are told, results before the report that carries them."""
    return tuple(sorted(changes, key=_rank))


def _rank(change: tuple[str, str]) -> tuple[int, bool, str]:
    code, reference = change
    return CHANGES.index(code), reference.startswith("DiagnosticReport/"), reference


def task_of_alert(alert: Alert, catalogue: Catalogue) -> dict[str, Any]:
    """The Task that keeps an alert."""
    codes = [coding(ALERT, task=True)]
    codes += [catalogue.items[one].coding() for one in alert.items if one in catalogue.items]
    resource: dict[str, Any] = {
        "resourceType": "Task",
        "id": alert.id,
        "meta": {"profile": [PROFILE]},
        "partOf": [{"reference": alert.answer}] if alert.answer.startswith("Task/") else None,
        "status": "requested" if alert.is_open else "completed",
        "businessStatus": {"coding": [{"system": CHANGE_SYSTEM, "code": alert.change}]},
        "intent": "proposal",
        "priority": "urgent" if alert.how == "accepted" or alert.change in _GRAVE else "routine",
        "code": {"coding": codes},
        "focus": {"reference": alert.now},
        "for": {"reference": f"Patient/{alert.patient}"} if alert.patient else None,
        "authoredOn": alert.at,
        "requester": {"display": GATEWAY},
        "owner": {"reference": f"Organization/{alert.institution}"},
        "note": list(_notes(alert)),
        "input": [
            {"type": concept("answer", task=True), "valueReference": {"reference": alert.answer}},
            {"type": concept("relied-by", task=True), "valueCode": alert.how},
            *({"type": _RELIED, "valueReference": {"reference": one}} for one in alert.relied),
            *(
                {"type": _changed(code), "valueReference": {"reference": one}}
                for code, one in alert.changes
            ),
        ],
        "output": list(_outputs(alert)),
    }
    return {name: value for name, value in resource.items() if value not in (None, [])}


#: Changes that are urgent however the result was used: what was read was somebody else's.
_GRAVE = frozenset({"wrong-patient"})

_RELIED = concept("relied-on", task=True)


def _changed(code: str) -> dict[str, Any]:
    return {"coding": [{"system": CHANGE_SYSTEM, "code": code}]}


def _notes(alert: Alert) -> Iterator[dict[str, str]]:
    if alert.text:
        yield {"authorString": alert.closed_by, "time": alert.closed, "text": alert.text}


def _outputs(alert: Alert) -> Iterator[dict[str, Any]]:
    if alert.closed:
        yield {"type": concept("acknowledged-by", task=True), "valueString": alert.closed_by}
        yield {"type": concept("acknowledged-at", task=True), "valueInstant": alert.closed}


def alert_of(resource: Json) -> Alert | None:
    """The alert that a stored Task keeps; None for one that keeps none."""
    if task_code(resource) != ALERT:
        return None
    parts = [
        (*_type(one), _value(one)) for name in ("input", "output") for one in resource.get(name, ())
    ]
    single = {code: value for system, code, value in parts if system == TASK_SYSTEM}
    items = [one for one in resource["code"]["coding"] if one.get("system") in SYSTEMS]
    note: Json = next(iter(resource.get("note", ())), {})
    return Alert(
        id=resource["id"],
        answer=single.get("answer", ""),
        how=single.get("relied-by", ""),
        changes=tuple((code, value) for system, code, value in parts if system == CHANGE_SYSTEM),
        relied=tuple(value for _, code, value in parts if code == "relied-on"),
        patient=resource.get("for", {}).get("reference", "").partition("/")[2],
        institution=resource["owner"]["reference"].partition("/")[2],
        items=tuple(one["code"] for one in items),
        at=resource["authoredOn"],
        closed=single.get("acknowledged-at", ""),
        closed_by=single.get("acknowledged-by", ""),
        text=note.get("text", ""),
        version=int(resource.get("meta", {}).get("versionId", 0)),
    )


def _type(part: Json) -> tuple[str, str]:
    one = part["type"]["coding"][0]
    return one["system"], one["code"]


def _value(part: Json) -> str:
    value = next(value for name, value in part.items() if name.startswith("value"))
    return str(value["reference"] if isinstance(value, dict) else value)
