"""An alert as a Task, and back: what an institution relied on is not what it was.

Task `recognition-alert` (hl7.org/fhir/R4/task.html, docs/adr/0030): `focus` what has changed, with
its version of now; `partOf` the answer that relied on it; `for` the patient; `owner` the
institution that is told; `businessStatus` the change; `status` requested until a named person
takes note, then completed. One for each answer and result, however often it changes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from fhir_gateway.recognition.answer_model import (
    ALERT,
    TASK_SYSTEM,
    coding,
    concept,
    hashed_id,
    unversioned,
)
from fhir_gateway.recognition.answer_task import task_code
from fhir_gateway.settings import CANONICAL
from fhir_gateway.terminology.catalogue import SYSTEMS, Catalogue

Json = Mapping[str, Any]

PROFILE = f"{CANONICAL}/StructureDefinition/recognition-alert"
CHANGE_SYSTEM = f"{CANONICAL}/CodeSystem/relied-change"
GATEWAY = "fhir-gateway"


class Alert(NamedTuple):
    """One alert as it stands.

    `relied` is the version that was relied on and `now` the one that stands, both references
    ("Observation/x/_history/2"). `how` is the state of the answer: accepted, cited or viewed.
    `change` is a code of CodeSystem/relied-change. `at` is when it was noticed, `closed` when
    `closed_by` took note of it ("" while it is open), as FHIR instants.
    """

    id: str
    answer: str
    how: str
    change: str
    relied: str
    now: str
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


def alert_id(answer: str, reference: str) -> str:
    """The logical id of the alert about what an answer relies on; the reference has no version."""
    return hashed_id("alert", answer, unversioned(reference))


def task_of_alert(alert: Alert, catalogue: Catalogue) -> dict[str, Any]:
    """The Task that keeps an alert."""
    codes = [coding(ALERT, task=True)]
    codes += [catalogue.items[one].coding() for one in alert.items if one in catalogue.items]
    resource: dict[str, Any] = {
        "resourceType": "Task",
        "id": alert.id,
        "meta": {"profile": [PROFILE]},
        "partOf": [{"reference": f"Task/{alert.answer}"}],
        "status": "requested" if alert.is_open else "completed",
        "businessStatus": {"coding": [{"system": CHANGE_SYSTEM, "code": alert.change}]},
        "intent": "proposal",
        "priority": "urgent" if alert.how == "accepted" else "routine",
        "code": {"coding": codes},
        "focus": {"reference": alert.now},
        "for": {"reference": f"Patient/{alert.patient}"} if alert.patient else None,
        "authoredOn": alert.at,
        "requester": {"display": GATEWAY},
        "owner": {"reference": f"Organization/{alert.institution}"},
        "note": list(_notes(alert)),
        "input": [
            {
                "type": concept("relied-on", task=True),
                "valueReference": {"reference": alert.relied},
            },
            {"type": concept("relied-by", task=True), "valueCode": alert.how},
        ],
        "output": list(_outputs(alert)),
    }
    return {name: value for name, value in resource.items() if value not in (None, [])}


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
    parts = {
        _type(one): _value(one) for name in ("input", "output") for one in resource.get(name, ())
    }
    items = [one for one in resource["code"]["coding"] if one.get("system") in SYSTEMS]
    note: Json = next(iter(resource.get("note", ())), {})
    return Alert(
        id=resource["id"],
        answer=resource["partOf"][0]["reference"].partition("/")[2],
        how=parts.get("relied-by", ""),
        change=resource["businessStatus"]["coding"][0]["code"],
        relied=parts.get("relied-on", ""),
        now=resource["focus"]["reference"],
        patient=resource.get("for", {}).get("reference", "").partition("/")[2],
        institution=resource["owner"]["reference"].partition("/")[2],
        items=tuple(one["code"] for one in items),
        at=resource["authoredOn"],
        closed=parts.get("acknowledged-at", ""),
        closed_by=parts.get("acknowledged-by", ""),
        text=note.get("text", ""),
        version=int(resource.get("meta", {}).get("versionId", 0)),
    )


def _type(part: Json) -> str:
    codings = part["type"]["coding"]
    return next((one["code"] for one in codings if one.get("system") == TASK_SYSTEM), "")


def _value(part: Json) -> str:
    value = next(value for name, value in part.items() if name.startswith("value"))
    return str(value["reference"] if isinstance(value, dict) else value)
