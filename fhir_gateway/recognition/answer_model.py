"""What a doctor's answer is: its kinds, its states, and the table that leads from one to the next.

docs/adr/0030. The answers to one order line of one decision are kept by kind: one *choice*
(accepted or repeated, revoked, changed), and citations and views beside it, one for each result
and person. Pure values.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import Any, Literal, NamedTuple

from fhir_gateway.recognition.record import logical_id
from fhir_gateway.settings import CANONICAL

Kind = Literal["choice", "citation", "view"]
Verb = Literal["accepted", "repeated", "cited", "viewed", "revoked", "completed"]
State = Literal["", "accepted", "repeated", "cited", "viewed", "revoked"]

ANSWER_SYSTEM = f"{CANONICAL}/CodeSystem/recognition-answer"
TASK_SYSTEM = f"{CANONICAL}/CodeSystem/recognition-task"
LINE_SYSTEM = f"{CANONICAL}/NamingSystem/decision-line"

ANSWER, ALERT = "recognition-answer", "recognition-alert"
#: A result was found for an examination that is booked (booked_task.py).
NOTICE = "booked-result"
REASON_MISSING, TEXT_MISSING = "reason-missing", "text-missing"

#: Which kind a verb belongs to; the others are about a kind that is there already.
KINDS: Mapping[Verb, Kind] = {
    "accepted": "choice",
    "repeated": "choice",
    "completed": "choice",
    "cited": "citation",
    "viewed": "view",
}

#: (state, verb) -> state, by kind. What does not stand here is refused with `WHY_NOT`.
STATES: Mapping[Kind, Mapping[tuple[State, Verb], State]] = {
    "choice": {
        ("", "accepted"): "accepted",
        ("", "repeated"): "repeated",
        ("accepted", "accepted"): "accepted",
        ("accepted", "repeated"): "repeated",
        ("accepted", "revoked"): "revoked",
        ("repeated", "repeated"): "repeated",
        ("repeated", "accepted"): "accepted",
        ("repeated", "completed"): "repeated",
        ("repeated", "revoked"): "revoked",
        ("revoked", "accepted"): "accepted",
        ("revoked", "repeated"): "repeated",
        ("revoked", "revoked"): "revoked",
    },
    "citation": {
        ("", "cited"): "cited",
        ("cited", "cited"): "cited",
        ("cited", "revoked"): "revoked",
        ("revoked", "cited"): "cited",
        ("revoked", "revoked"): "revoked",
    },
    "view": {
        ("", "viewed"): "viewed",
        ("viewed", "viewed"): "viewed",
    },
}

#: Why a step is not in the table, by verb and state.
WHY_NOT: Mapping[tuple[Verb, State], str] = {
    ("completed", ""): "This order line has no answer yet: send repeated with its ground",
    ("completed", "accepted"): "This order line was recognised: there is no repeat to complete",
    ("completed", "revoked"): "The answer to this order line was revoked: send repeated anew",
    ("revoked", ""): "This order line has no answer that could be revoked",
    ("revoked", "viewed"): "What was viewed was viewed: a view cannot be revoked",
}

#: States in which an institution relies on a result.
RELYING: frozenset[State] = frozenset({"accepted", "cited", "viewed"})


class DoctorAnswer(NamedTuple):
    """One answer as it stands, or as an earlier version said it.

    `line` is the number of the order line and `key` its key; `results` and `reports` are
    references with the version that was decided on. `ground` is a Coding. `user` is the person by
    the name that the workstation gives, `practitioner` a reference to one that is stored here;
    `encounter` is the visit as the workstation names it, `encounter_here` that it is stored here.
    `authored` is a FHIR dateTime; `was` what was revoked. `digest` is the SHA-256 of the document
    that goes with it, `base` the address that its entries are under.
    """

    id: str
    decision: str
    line: int
    key: str
    kind: Kind
    state: State
    patient: str
    institution: str
    items: tuple[str, ...]
    results: tuple[str, ...]
    reports: tuple[str, ...]
    authored: str
    user: str = ""
    practitioner: str = ""
    encounter: str = ""
    encounter_here: bool = False
    ground: Mapping[str, Any] | None = None
    flags: tuple[str, ...] = ()
    text: str = ""
    informed: bool | None = None
    informed_at: str = ""
    completed_by: str = ""
    completed_at: str = ""
    was: State = ""
    digest: str = ""
    base: str = ""
    version: int = 0
    former: bool = False  # read from the Communication of an earlier release


def answer_id(decision: str, line: int, kind: Kind, result: str = "", user: str = "") -> str:
    """The logical id of an answer. A choice is one for its order line; citations and views are
    told apart by result and person."""
    parts = (decision, str(line), kind, *((result, user) if kind != "choice" else ()))
    return hashed_id(*parts)


def hashed_id(*parts: str) -> str:
    """A logical id that is the same for the same parts."""
    digest = sha256("\n".join(parts).encode()).digest()
    return logical_id(int.from_bytes(digest[:16], "big"))


def unversioned(reference: str) -> str:
    """The reference without its version."""
    return reference.partition("/_history/")[0]


def coding(code: str, *, task: bool = False) -> dict[str, str]:
    """One of our codes: of an answer, or with `task` of the Tasks and their parts."""
    return {"system": TASK_SYSTEM if task else ANSWER_SYSTEM, "code": code}


def concept(code: str, *, task: bool = False) -> dict[str, Any]:
    """The same as a CodeableConcept."""
    return {"coding": [coding(code, task=task)]}
