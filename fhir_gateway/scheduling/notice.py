"""Tasks of the pools: what somebody has to know, or has to do, about a booking or a slot.

A notice is stored in the commit of what it tells of, so that neither is ever without the other. It
is a Task (hl7.org/fhir/R4/task.html): `focus` what it is about, `for` the patient, `owner` the
institution that is told, `reasonCode` why, in words of both languages. One that names a patient
lies in the patient's home, so that the patient sees it; another one lies with its institution.
CodeSystem booking-task has the kinds. docs/adr/0053-jobs-of-the-pools.md
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from fhir_gateway.context import Gateway
from fhir_gateway.fhir.home import institution_home
from fhir_gateway.fhir.keys import key64, parameter_key
from fhir_gateway.fhir.wire import instant
from fhir_gateway.interactions.prepare import put_of
from fhir_gateway.mapping.ids import business_id
from fhir_gateway.settings import CANONICAL
from fhir_gateway.store.changes import Derived, Put

Json = Mapping[str, Any]

SYSTEM = f"{CANONICAL}/CodeSystem/booking-task"

#: Kinds of Tasks.
RELEASED, OFFERED, REBOOK = "booking-released", "waitlist-offered", "booking-rebook"
DIFFERENCE, APPEAL = "pool-difference", "no-show-appeal"

DISPLAYS: Mapping[str, str] = {
    RELEASED: "预约未获确认，号源已释放",
    OFFERED: "候补号源待确认",
    REBOOK: "号源停诊，请改约",
    DIFFERENCE: "号源对账差异",
    APPEAL: "爽约申诉",
}

#: What parts of a Task are: a slot that is proposed, until when, the kind of a difference, who
#: decided and when.
SLOT, UNTIL, KIND, BY, AT = "slot", "until", "difference", "decided-by", "decided-at"

#: What Tasks of a comparison belong to: "schedule|day".
GROUP = f"{CANONICAL}/pool-comparison"

#: The global row of an open difference, then the key of its institution.
OPEN_DIFFERENCE = parameter_key("Task", "open-pool-difference")


class Notice(NamedTuple):
    """One Task. `about` is "Type/id"; `key` makes it the same one when it is told again. `slots`
    are Slots that are proposed or offered, `until` the moment (µs) by which to answer, 0 for none;
    `group` keeps Tasks together, `labels` are the security labels of what it is about.
    Without an institution ("") the patient alone is told.
    """

    kind: str
    key: tuple[str, ...]
    about: str
    institution: str
    text: str
    at: int
    patient: str = ""
    slots: Sequence[str] = ()
    until: int = 0
    detail: str = ""
    priority: str = "routine"
    status: str = "requested"
    by: str = ""
    group: str = ""
    labels: Sequence[Json] = ()

    @property
    def id(self) -> str:
        """The logical id: the same for the same kind and key."""
        return business_id(self.institution, "Task", self.kind, *self.key)


def concept(code: str) -> dict[str, Any]:
    """A CodeableConcept of CodeSystem booking-task."""
    coding = {"system": SYSTEM, "code": code}
    return {"coding": [{**coding, "display": DISPLAYS[code]} if code in DISPLAYS else coding]}


def task_of(notice: Notice) -> dict[str, Any]:
    """The Task of a notice."""
    owner = {"reference": f"Organization/{notice.institution}"}
    closed = notice.status not in ("requested", "in-progress")
    resource: dict[str, Any] = {
        "resourceType": "Task",
        "id": notice.id,
        "meta": {"security": [dict(one) for one in notice.labels]} if notice.labels else None,
        "groupIdentifier": {"system": GROUP, "value": notice.group} if notice.group else None,
        "status": notice.status,
        "intent": "order",
        "priority": notice.priority,
        "code": concept(notice.kind),
        "focus": {"reference": notice.about},
        "for": {"reference": f"Patient/{notice.patient}"} if notice.patient else None,
        "authoredOn": instant(notice.at),
        "requester": {"display": "fhir-gateway"},
        "owner": owner if notice.institution else None,
        "reasonCode": {"text": notice.text},
        "restriction": {"period": {"end": instant(notice.until)}} if notice.until else None,
        "input": [
            *({"type": concept(SLOT), "valueReference": {"reference": f"Slot/{one}"}}
              for one in notice.slots),
            *([{"type": concept(KIND), "valueCode": notice.detail}] if notice.detail else ()),
        ],
        "output": [{"type": concept(BY), "valueString": notice.by}] if closed and notice.by else [],
    }  # fmt: skip
    return {name: value for name, value in resource.items() if value not in (None, [])}


def put_of_notice(gateway: Gateway, notice: Notice) -> Put:
    """The Task as a Put; telling the same again makes no new version."""
    return put_of_task(gateway, task_of(notice), notice.institution)


def put_of_task(gateway: Gateway, task: dict[str, Any], institution: str) -> Put:
    """A Task of ours that belongs to an institution: in its patient's home, else in its own."""
    owner = key64(f"Organization/{institution}") if institution else 0
    put = put_of(gateway, task, op="update", owner=owner, only_if_changed=True)
    put.follow = None
    if put.patient is None:
        put.home = institution_home(institution)
    return put


def kind_of(task: Json) -> str:
    """Which of our kinds a Task is, "" for another one."""
    codings: Sequence[Json] = (task.get("code") or {}).get("coding") or ()
    return next(
        (one.get("code", "") for one in codings
         if one.get("system") == SYSTEM and one.get("code") in DISPLAYS), ""
    )  # fmt: skip


def derive_notices(resource: dict[str, Any], derived: Derived) -> None:
    """Adds the row by which open differences of an institution are found."""
    if resource["resourceType"] != "Task" or kind_of(resource) != DIFFERENCE:
        return
    if resource.get("status") in ("requested", "in-progress"):
        owner = str((resource.get("owner") or {}).get("reference", ""))
        place = key64(str(resource.get("id", "")))
        derived.global_ints.append((OPEN_DIFFERENCE, key64(owner), place))
