"""The operations on waiting lists, missed appointments and a hospital's nightly list.

Appointment/$waitlist, Appointment/[id]/$decline and $appeal, Task/[id]/$decide-appeal,
Patient/[id]/$missed-appointments, Organization/[id]/$reconcile-pool. docs/pools-operation.md
"""

from __future__ import annotations

from typing import Any
from zoneinfo import ZoneInfo

from fhir_gateway.audit.events import search_event
from fhir_gateway.context import Gateway
from fhir_gateway.errors import Forbidden, Invalid
from fhir_gateway.fhir.datatypes import date_range
from fhir_gateway.fhir.wire import instant
from fhir_gateway.interactions.audit import call_of, disclose, entry
from fhir_gateway.interactions.operation_definitions import MANY, Call, Definition
from fhir_gateway.interactions.operation_definitions import Parameter as P
from fhir_gateway.scheduling.booking_operations import asked_of, id_of, orders_of
from fhir_gateway.scheduling.no_shows import appeal, decide, missed_of
from fhir_gateway.scheduling.reconcile_pool import reconcile
from fhir_gateway.scheduling.waitlist import WaitRequest, decline, wait
from fhir_gateway.security.actor import Actor
from fhir_gateway.store.claim_rows import EXCUSED

#: Differences of one answer; the Tasks have all.
MOST_TOLD = 500

_KEY = P(
    "idempotency-key", "string", "Number of this request, in place of the Idempotency-Key header: "
    "the same request under the same key is answered as the first time",
)  # fmt: skip
_RETURN = P("return", "Appointment", "The Appointment as it stands now", 1)

WAITLIST = Definition(
    code="waitlist",
    title="Wait for a seat",
    says=(
        "Puts a patient on the waiting list of a service: an Appointment with status waitlist. "
        "When a seat comes free it is held for who is next, by the urgency of the order and then "
        "by age, and told by a Task: $book the entry in time, or $decline. $cancel leaves."
    ),
    types=("Appointment",),
    levels=("type",),
    takes=(
        P("patient-reference", "Reference string", "Patient who is to come", 1),
        P("service", "Reference string", "HealthcareService: where", 1),
        P("item", "code", "Item of the catalogue", 0, MANY),
        P("start", "dateTime", "Not before", 1),
        P("end", "dateTime", "Not after, half a year at most", 1),
        P("based-on", "Reference string", "ServiceRequest; its priority says how urgent it is", 0,
          MANY),
        P("channel", "code", "Channel; the first that is open to you when left out"),
        _KEY,
    ),
    gives=(_RETURN,),
    affects=True,
)  # fmt: skip

DECLINE = Definition(
    code="decline",
    title="Decline what is offered",
    says="The seat goes to who is next; the entry waits on.",
    types=("Appointment",),
    levels=("instance",),
    takes=(_KEY,),
    gives=(_RETURN,),
    affects=True,
)

APPEAL = Definition(
    code="appeal",
    title="Appeal against a missed appointment",
    says=(
        "Asks the hospital not to count a missed appointment; by the patient or who booked, once "
        "for each. The hospital decides by Task/[id]/$decide-appeal."
    ),
    types=("Appointment",),
    levels=("instance",),
    takes=(P("text", "string", "Why it was missed", 1), _KEY),
    gives=(P("task", "Reference", "The Task that the hospital decides", 1),),
    affects=True,
)

DECIDE = Definition(
    code="decide-appeal",
    title="Decide an appeal",
    says="A named person of the hospital decides; an excused appointment counts no more.",
    types=("Task",),
    levels=("instance",),
    takes=(
        P("decision", "code", "excused or upheld", 1),
        P("person", "string", "Who decides, by name", 1),
        P("text", "string", "Why"),
        _KEY,
    ),
    gives=(_RETURN,),
    affects=True,
)

MISSED = Definition(
    code="missed-appointments",
    title="Missed appointments of a person",
    says=(
        "Which appointments were missed, how many count, and until when booking is barred. Each "
        "that counts can be appealed by Appointment/[id]/$appeal."
    ),
    types=("Patient",),
    levels=("instance",),
    gives=(
        P("counted", "integer", "Missed and not excused", 1),
        P("most", "integer", "So many bar booking", 1),
        P("months", "integer", "… within so many months", 1),
        P("barred-until", "instant", "No booking before; absent when not barred"),
        P("missed", "", "One that the caller sees", 0, MANY, parts=(
            P("appointment", "Reference", "The Appointment", 1),
            P("start", "instant", "When it began", 1),
            P("excused", "boolean", "Whether it counts no more", 1))),
    ),
)  # fmt: skip

RECONCILE = Definition(
    code="reconcile-pool",
    title="Compare a hospital's list of slots and bookings",
    says=(
        "The hospital's own list (CSV or NDJSON, for a night's check) against what is stored here, "
        "on the days and Schedules that it names. Every difference becomes a Task, which closes "
        "when the difference is gone. No person is named in the answer."
    ),
    types=("Organization",),
    levels=("instance",),
    takes=(
        P("list", "string", "Rows with schedule,start,end,status,booking,person", 1),
        P("dryRun", "boolean", "Only compare; store no Tasks"),
    ),
    gives=(
        P("rows", "integer", "Rows of the list", 1),
        P("slots", "integer", "Slots here", 1),
        P("bookings", "integer", "Bookings here", 1),
        P("differences", "integer", "Differences in all", 1),
        P("opened", "integer", "Tasks opened", 1),
        P("open", "integer", "Tasks open still", 1),
        P("closed", "integer", "Tasks closed: the difference is gone", 1),
        P("difference", "", f"The first {MOST_TOLD}", 0, MANY, parts=(
            P("kind", "code", "Such as booking-missing-there", 1),
            P("about", "Reference", "The Slot, Appointment or Schedule", 1),
            P("start", "instant", "Begin", 1),
            P("row", "integer", "Row of the list"))),
    ),
    affects=True,
)  # fmt: skip


async def waitlist_operation(gateway: Gateway, actor: Actor, call: Call) -> bytes:
    """Appointment/$waitlist: the entry. Raises as waitlist.wait."""
    request = WaitRequest(
        id_of(call.one("patient-reference"), "Patient", call.base),
        id_of(call.one("service"), "HealthcareService", call.base),
        tuple(dict.fromkeys(map(str, call.values("item")))),
        _moment(gateway, call, "start")[0],
        _moment(gateway, call, "end")[1],
        orders_of(call),
        str(call.value("channel") or ""),
    )
    return (await wait(gateway, actor, request, asked_of(call))).body


async def decline_operation(gateway: Gateway, actor: Actor, call: Call) -> bytes:
    """Appointment/[id]/$decline: the entry, which waits again. Raises as waitlist.decline."""
    return (await decline(gateway, actor, call.id, asked_of(call))).body


async def appeal_operation(gateway: Gateway, actor: Actor, call: Call) -> dict[str, Any]:
    """Appointment/[id]/$appeal: the Task. Raises as no_shows.appeal."""
    task = await appeal(gateway, actor, call.id, str(call.value("text")), asked_of(call))
    return _parameters([_part("task", valueReference={"reference": f"Task/{task}"})])


async def decide_operation(gateway: Gateway, actor: Actor, call: Call) -> bytes:
    """Task/[id]/$decide-appeal: the Appointment. Raises as no_shows.decide."""
    done = await decide(
        gateway, actor, call.id, str(call.value("decision")), str(call.value("person")),
        str(call.value("text") or ""), asked_of(call),
    )  # fmt: skip
    return done.body


async def missed_operation(gateway: Gateway, actor: Actor, call: Call) -> dict[str, Any]:
    """Patient/[id]/$missed-appointments: what counts and until when it bars. Raises NotFound."""
    missed = await missed_of(gateway, actor, call.id)
    event = search_event(
        call_of(gateway, actor), query=f"Patient/{call.id}/$missed-appointments", patient=call.id,
        count=len(missed.bookings), interaction="operation",
    )  # fmt: skip
    await disclose(gateway, [entry(gateway, event, patient=call.id)])
    parts = [
        _part("counted", valueInteger=missed.counted),
        _part("most", valueInteger=missed.most),
        _part("months", valueInteger=missed.months),
    ]
    if missed.barred_until:
        parts.append(_part("barred-until", valueInstant=instant(missed.barred_until)))
    for one in missed.bookings:
        parts.append({"name": "missed", "part": [
            _part("appointment", valueReference={"reference": f"Appointment/{one.id}"}),
            _part("start", valueInstant=instant(one.start)),
            _part("excused", valueBoolean=one.state == EXCUSED),
        ]})  # fmt: skip
    return _parameters(parts)


async def reconcile_operation(gateway: Gateway, actor: Actor, call: Call) -> dict[str, Any]:
    """Organization/[id]/$reconcile-pool: counts and differences. Raises as reconcile."""
    if actor.bound and actor.institution != call.id:
        raise Forbidden("An institution compares its own list", rule="not-own")
    content = str(call.value("list")).encode()
    report = await reconcile(
        gateway, actor, call.id, content, dry_run=bool(call.value("dryRun"))
    )  # fmt: skip
    parts = [
        _part("rows", valueInteger=report.rows),
        _part("slots", valueInteger=report.slots),
        _part("bookings", valueInteger=report.bookings),
        _part("differences", valueInteger=len(report.differences)),
        _part("opened", valueInteger=report.tasks.get("opened", 0)),
        _part("open", valueInteger=report.tasks.get("open-still", 0)),
        _part("closed", valueInteger=report.tasks.get("closed", 0)),
    ]
    for one in report.differences[:MOST_TOLD]:
        parts.append({"name": "difference", "part": [
            _part("kind", valueCode=one.kind),
            _part("about", valueReference={"reference": one.about}),
            _part("start", valueInstant=instant(one.start)),
            *([_part("row", valueInteger=one.line)] if one.line else ()),
        ]})  # fmt: skip
    return _parameters(parts)


def _moment(gateway: Gateway, call: Call, name: str) -> tuple[int, int]:
    """The range (µs) that a dateTime means."""
    taken = call.one(name)
    try:
        return date_range(str(call.value(name)), ZoneInfo(gateway.settings.zone).key)[:2]
    except Invalid:
        raise Invalid(
            f"{name} must be a day or a time", expression=taken.expression if taken else name,
            rule="waitlist-days",
        ) from None  # fmt: skip


def _part(name: str, **value: Any) -> dict[str, Any]:
    return {"name": name, **value}


def _parameters(parts: list[dict[str, Any]]) -> dict[str, Any]:
    return {"resourceType": "Parameters", "parameter": parts}
