"""Index rows of answers and alerts beside those of their search parameters: who relies on what.

`derive` runs when a resource is stored and is pure. A choice gives a row by the time at which it
was made, so that a hook finds what was answered lately; an answer that relies on results a row for
each of them; an alert that is open a row for its institution.
"""

from __future__ import annotations

from typing import Any

from fhir_gateway.errors import Invalid
from fhir_gateway.fhir.datatypes import date_range
from fhir_gateway.fhir.keys import key64, parameter_key
from fhir_gateway.recognition.answer_model import ALERT, ANSWER, RELYING
from fhir_gateway.recognition.answer_task import answer_of, relied_on, task_code
from fhir_gateway.store.changes import Derived

#: (when, when) of a choice, and of an answer that relies on results; (key of what is relied on, key
#: of the institution); (key of the institution, key of the Patient) of an open alert.
CHOSEN_AT = parameter_key("Task", "recognition-chosen")
RELYING_AT = parameter_key("Task", "recognition-relying")
RELIED = parameter_key("Task", "recognition-relied")
OPEN_ALERT = parameter_key("Task", "recognition-alerted")


def derive(resource: dict[str, Any], derived: Derived) -> None:
    """Adds the rows of an answer or an alert; other resources have none."""
    type = resource["resourceType"]
    if type not in ("Task", "Communication"):
        return
    kind = task_code(resource)
    if kind == ANSWER or type == "Communication":
        _answer(resource, derived)
    elif kind == ALERT and resource.get("status") == "requested":
        owner = resource.get("owner", {}).get("reference", "")
        patient = resource.get("for", {}).get("reference", "")
        derived.global_ints.append((OPEN_ALERT, key64(owner), key64(patient)))


def _answer(resource: dict[str, Any], derived: Derived) -> None:
    answer = answer_of(resource)
    if answer is None:
        return
    at = moment(answer.authored)
    if answer.state in RELYING:
        derived.ints.append((RELYING_AT, at, at))
    if answer.kind == "choice" and answer.state in ("accepted", "repeated"):
        derived.ints.append((CHOSEN_AT, at, at))
    owner = key64(f"Organization/{answer.institution}")
    derived.global_ints += [(RELIED, key64(one), owner) for one in relied_on(answer)]


#: How far a workstation's clock may be ahead of ours (µs).
CLOCK_SKEW = 5 * 60 * 1_000_000

AHEAD = "lies in the future: say when it was, by a clock that is right to five minutes"


def is_ahead(text: str, now: int) -> bool:
    """Whether a FHIR dateTime lies in the future, by more than clocks differ. An answer of then
    would silence its order line, and stand above later ones, until that time has come."""
    return moment(text) > now + CLOCK_SKEW


def moment(text: str) -> int:
    """The first moment (µs) of a FHIR dateTime, 0 for what is none."""
    try:
        found = date_range(text)
    except Invalid:
        return 0
    return found[0] if found is not None else 0
