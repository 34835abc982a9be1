"""Links between records as resources: Linkage, Patient.link and the Task of an open question.

A Linkage with `active` true says that its Patients are one person's; with `active` false it is a
proposal, or a link that was taken back. A Task asks a reviewer about one Linkage. What they say is
derived for the store (`derive`), which says who is who. Both lie in the home of the first Patient,
and are shown to nobody who may only see the rows of its own institution.
hl7.org/fhir/R4/linkage.html, task.html, patient-definitions.html#Patient.link; docs/adr/0026
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from typing import Any, NamedTuple

from fhir_gateway.fhir.datatypes import Reference, parse_reference
from fhir_gateway.fhir.keys import key64
from fhir_gateway.settings import CANONICAL
from fhir_gateway.store.changes import Derived
from fhir_gateway.store.linking import MERGE

TASK_SYSTEM = f"{CANONICAL}/CodeSystem/identity-task"
INPUT_SYSTEM = f"{CANONICAL}/CodeSystem/identity-task-input"
GRADE_SYSTEM = "http://terminology.hl7.org/CodeSystem/match-grade"

#: Is it one person? — and: one document under two names, whose is it?
CONFIRM, SETTLE = "confirm-identity", "settle-identity"
QUESTIONS = frozenset({CONFIRM, SETTLE})

#: Statuses of a Task that still waits for somebody.
OPEN = frozenset({"requested", "received", "accepted", "ready", "in-progress", "on-hold"})

#: What a merge says: the record was replaced, or took another's place.
MERGES = frozenset({"replaced-by", "replaces"})

#: The owner of links and questions: nobody's institution, see store.visible.
REVIEW = key64("Organization/identity-review")

Resource = dict[str, Any]


class Question(NamedTuple):
    """An open or decided question: are the two records one person's?

    `levels` are the fields of the comparison with their levels, such as "birth=same name=same";
    `edition` says by which weights they were scored, `source` who asked: this gateway, or the name
    of a batch tool. `owner` is the logical id of the Organization that is to answer, where the
    operator has named one.
    """

    id: str
    code: str
    status: str
    records: tuple[str, str]
    grade: str
    score: float
    levels: str
    edition: str
    source: str
    authored: str
    owner: str = ""

    @property
    def is_open(self) -> bool:
        """Whether it waits for an answer."""
        return self.status in OPEN

    @property
    def linkage(self) -> str:
        """The logical id of its Linkage."""
        return pair_id(self.records)


def derive(resource: Mapping[str, Any], derived: Derived) -> None:
    """Adds what a resource says of Patients: links, merges, open questions."""
    type = resource["resourceType"]
    if type == "Linkage" and resource.get("active") is True:
        first, *others = patients_of(resource) or [""]
        derived.aliases += [(first, other, "linkage") for other in others]
    elif type == "Patient":
        me = resource.get("id", "")
        merges = dict.fromkeys(other for kind, other in links_of(resource) if kind in MERGES)
        derived.aliases += [(me, other, MERGE) for other in merges if other != me]
    elif type == "Task":
        question = read_question(resource)
        if question is not None and question.is_open:
            derived.proposals.append((*question.records, question.grade))


def patients_of(linkage: Mapping[str, Any]) -> list[str]:
    """Logical ids of the Patients of a Linkage, each once; none when it is about anything else."""
    found: dict[str, None] = {}
    for item in linkage.get("item", ()):
        named = parse_reference((item.get("resource") or {}).get("reference") or "")
        if not isinstance(named, Reference) or named.type != "Patient":
            return []
        found[named.id] = None
    return list(found)


def links_of(patient: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(type, logical id) of the links of a Patient with Patients of this server."""
    for link in patient.get("link", ()):
        named = parse_reference((link.get("other") or {}).get("reference") or "")
        if isinstance(named, Reference) and named.type == "Patient":
            yield link.get("type", ""), named.id


def replacement(patient: Mapping[str, Any]) -> str:
    """The logical id of the Patient that took this one's place, "" when none did."""
    return next((other for kind, other in links_of(patient) if kind == "replaced-by"), "")


# -- pairs -----------------------------------------------------------------------------------------


def pair(one: str, other: str) -> tuple[str, str]:
    """Two records in the order in which their link names them, whoever asks."""
    return (one, other) if one < other else (other, one)


def pair_id(records: Sequence[str]) -> str:
    """The logical id of the Linkage and of the Task of two records: two records have one link, so
    that it has one history, and two processes that propose it at once make one."""
    digest = sha256("\x1f".join(("identity", *records)).encode()).hexdigest()
    return f"identity-{digest[:32]}"


def linkage(records: Sequence[str], *, active: bool, author: Mapping[str, Any]) -> Resource:
    """The Linkage of records: the first goes on, the others are alternatives of it."""
    kinds = ["source", *["alternate"] * (len(records) - 1)]
    return {
        "resourceType": "Linkage",
        "id": pair_id(records),
        "active": active,
        "author": dict(author),
        "item": [
            {"type": kind, "resource": {"reference": f"Patient/{id}"}}
            for kind, id in zip(kinds, records, strict=True)
        ],
    }


# -- questions -------------------------------------------------------------------------------------


def task(question: Question, institutions: Sequence[str], *, modified: str) -> Resource:
    """The Task of a question; `institutions` are those whose records they are."""
    one, other = question.records
    inputs = [
        _input("record", {"valueReference": {"reference": f"Patient/{one}"}}),
        _input("record", {"valueReference": {"reference": f"Patient/{other}"}}),
        _input("score", {"valueDecimal": question.score}),
    ]
    for name in ("levels", "edition", "source"):
        if value := getattr(question, name):
            inputs.append(_input(name, {"valueString": value}))
    resource: Resource = {
        "resourceType": "Task",
        "id": question.id,
        "status": question.status,
        "businessStatus": {"coding": [{"system": GRADE_SYSTEM, "code": question.grade}]},
        "intent": "order",
        "code": {"coding": [{"system": TASK_SYSTEM, "code": question.code}]},
        "focus": {"reference": f"Linkage/{question.linkage}"},
        "for": {"reference": f"Patient/{one}"},
        "authoredOn": question.authored,
        "lastModified": modified,
        "requester": {"display": question.source},
        "input": inputs,
    }
    if question.owner:
        resource["owner"] = {"reference": f"Organization/{question.owner}"}
    if institutions:
        recipients = [{"reference": f"Organization/{id}"} for id in institutions]
        resource["restriction"] = {"recipient": recipients}
    return resource


def _input(name: str, value: Mapping[str, Any]) -> Resource:
    return {"type": {"coding": [{"system": INPUT_SYSTEM, "code": name}]}, **value}


def read_question(resource: Mapping[str, Any]) -> Question | None:
    """The question that a Task asks; None for any other Task."""
    code = _code(resource.get("code"), TASK_SYSTEM)
    if resource.get("resourceType") != "Task" or code not in QUESTIONS:
        return None
    records: list[str] = []
    values: dict[str, Any] = {}
    for one in resource.get("input", ()):
        name = _code(one.get("type"), INPUT_SYSTEM)
        if name == "record":
            named = parse_reference((one.get("valueReference") or {}).get("reference") or "")
            records += [named.id] if isinstance(named, Reference) else []
        else:
            values[name] = one.get("valueString", one.get("valueDecimal", ""))
    if len(records) != 2:
        return None
    owner = parse_reference((resource.get("owner") or {}).get("reference") or "")
    return Question(
        id=resource.get("id", ""),
        code=code,
        status=resource.get("status", ""),
        records=(records[0], records[1]),
        grade=_code(resource.get("businessStatus"), GRADE_SYSTEM),
        score=float(values.get("score", 0)),
        levels=values.get("levels", ""),
        edition=values.get("edition", ""),
        source=values.get("source", ""),
        authored=resource.get("authoredOn", ""),
        owner=owner.id if isinstance(owner, Reference) and owner.type == "Organization" else "",
    )


def _code(concept: Mapping[str, Any] | None, system: str) -> str:
    for coding in (concept or {}).get("coding", ()):
        if coding.get("system") == system:
            code: str = coding.get("code", "")
            return code
    return ""
