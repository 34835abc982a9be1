"""An entry of a waiting list as an Appointment, and back: for what, which days, what is offered.

The Appointment has status `waitlist`, `requestedPeriod`, the service, and the extension
waitlist-offer while a seat is held for it (profile waitlist-entry). Who is next is the order of a
row in the global index: by the urgency of the referral, then by when the entry was made. Pure.
docs/pools-operation.md, docs/adr/0053-jobs-of-the-pools.md
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from fhir_gateway.context import Gateway
from fhir_gateway.errors import Invalid
from fhir_gateway.fhir.datatypes import Reference, date_range, parse_reference
from fhir_gateway.fhir.keys import parameter_key
from fhir_gateway.scheduling import extensions as ext
from fhir_gateway.scheduling.appointment import (
    CANCEL_REASONS,
    Marks,
    meta_of,
    said,
    standing_of,
)
from fhir_gateway.scheduling.appointment import PROFILE as BOOKING_PROFILE
from fhir_gateway.scheduling.booking_rules import booking_rules
from fhir_gateway.scheduling.notice import OFFERED, Notice, put_of_notice
from fhir_gateway.scheduling.rows import items_of
from fhir_gateway.scheduling.states import GATEWAY, entry_step
from fhir_gateway.settings import CANONICAL
from fhir_gateway.store.changes import Derived, Put
from fhir_gateway.terminology.catalogue import Catalogue

Json = Mapping[str, Any]

PROFILE = f"{CANONICAL}/StructureDefinition/waitlist-entry"

#: The global row of an entry that waits: (parameter, 0), then its place.
WAITING = (parameter_key("Appointment", "waiting"), 0)

#: Request.priority in the order in which entries are served; routine where none is said.
URGENCY = ("stat", "asap", "urgent", "routine")
_RANK_BITS = 52  # µs of a moment fit below until the year 2112

#: What became of earlier offers; the same Slot is not offered to the same entry again.
UNANSWERED, DECLINED = "unanswered", "declined"

#: After the last day, and after so many offers without answer, an entry ends.
_UNANSWERED = (
    "多次候补通知未应答，候补已结束 (several offers were not answered; the entry has ended)"
)
_OVER = "候补日期已过 (the days that were asked for are over)"


class Waiting(NamedTuple):
    """One entry. Times are µs; `offered` is a Slot and `until` the end of the offer, "" and 0 for
    none; `past` are Slots that were offered before: each with what became of it."""

    id: str
    patient: str
    service: str  # logical id of the HealthcareService
    items: tuple[str, ...]
    start: int
    end: int
    urgency: str
    created: int
    marks: Marks
    offered: str = ""
    until: int = 0
    past: tuple[tuple[str, str], ...] = ()
    labels: tuple[Json, ...] = ()  # of security

    @property
    def state(self) -> str:
        """waiting or offered, as states.ENTRY names them."""
        return "offered" if self.offered else "waiting"

    @property
    def place(self) -> int:
        """Whoever has the smallest is served first."""
        return (URGENCY.index(self.urgency) << _RANK_BITS) | self.created


class Wanted(NamedTuple):
    """What an entry is made from. `concepts` are the serviceType, `offered` is the
    HealthcareService: what it is labelled, its entries are."""

    id: str
    patient: str
    service: str
    concepts: Sequence[Json]
    start: int
    end: int
    marks: Marks
    urgency: str = "routine"
    based_on: Sequence[str] = ()
    offered: Json = MappingProxyType({})


def entry_of(wanted: Wanted, now: int, zone: ZoneInfo) -> dict[str, Any]:
    """The Appointment of a new entry."""
    resource: dict[str, Any] = {
        "resourceType": "Appointment",
        "id": wanted.id,
        "meta": meta_of(PROFILE, {}, wanted.offered),
        "extension": list(_marked(wanted.marks)),
        "status": "waitlist",
        "serviceType": list(wanted.concepts),
        "priority": URGENCY.index(wanted.urgency),
        "created": said(now, zone),
        "requestedPeriod": [{"start": said(wanted.start, zone), "end": said(wanted.end, zone)}],
        "basedOn": [{"reference": one} for one in wanted.based_on],
        "participant": [
            {"actor": {"reference": f"Patient/{wanted.patient}"}, "status": "accepted"},
            {
                "actor": {"reference": f"HealthcareService/{wanted.service}"},
                "status": "needs-action",
            },
        ],
    }
    return {name: value for name, value in resource.items() if value != []}


def waiting_of(appointment: Json, zone: str, catalogue: Catalogue | None = None) -> Waiting | None:
    """The entry that an Appointment is, None for another one."""
    if appointment.get("status") != "waitlist":
        return None
    standing = standing_of(appointment, zone)
    period: Json = next(iter(appointment.get("requestedPeriod") or ()), {})
    offered = parse_reference(
        str((ext.part_of(appointment, ext.OFFER, "slot") or {}).get("reference", ""))
    )
    return Waiting(
        standing.id, standing.patient, _service(appointment),
        tuple(items_of(appointment, catalogue)), _moment(period.get("start"), zone),
        _moment(period.get("end"), zone), _urgency(appointment.get("priority")),
        _moment(appointment.get("created"), zone), standing.marks,
        offered.id if isinstance(offered, Reference) else "",
        _moment(ext.part_of(appointment, ext.OFFER, "until"), zone),
        tuple((str(one.get("reference", "")).removeprefix("Slot/"), str(one.get("display", "")))
              for one in appointment.get("supportingInformation") or ()),
        standing.labels,
    )  # fmt: skip


def offered_to(appointment: Json, slot: str, until: int, zone: ZoneInfo) -> dict[str, Any]:
    """The entry with a Slot that is held for it."""
    offer = {
        "url": ext.OFFER,
        "extension": [
            {"url": "slot", "valueReference": {"reference": f"Slot/{slot}"}},
            {"url": "until", "valueInstant": said(until, zone)},
        ],
    }
    return {**_bare(appointment), "extension": [*_others(appointment), offer]}


def notice_of(entry: Waiting, slot: str, until: int, now: int, status: str = "requested") -> Notice:
    """The Task that tells of an offer; its id follows from entry, Slot and end."""
    return Notice(
        OFFERED, (entry.id, slot, str(until)), f"Appointment/{entry.id}", entry.marks.booked_by,
        "候补号源已为您保留，请在时限内预约 (a seat is held for you; book it in time)",
        now, entry.patient, (slot,), until, priority="urgent", status=status, labels=entry.labels,
    )  # fmt: skip


def after_offer(gateway: Gateway, appointment: Json, verb: str) -> tuple[dict[str, Any], Notice]:
    """What an entry is after its offer was declined or has expired, and the Task of the offer: it
    waits again, or ends when it was asked often enough without answer. Raises Conflict where
    nothing is offered."""
    entry = waiting_of(appointment, gateway.settings.zone)
    assert entry is not None
    entry_step(entry.state, verb, GATEWAY if verb == "expire" else "booker")
    resource = {**_bare(appointment), "extension": _others(appointment)}
    status = "failed" if verb == "expire" else "rejected"
    told = notice_of(entry, entry.offered, entry.until, gateway.clock.now(), status)
    past = (*entry.past, (entry.offered, UNANSWERED if verb == "expire" else DECLINED))
    resource["supportingInformation"] = [
        {"reference": f"Slot/{slot}", "display": became} for slot, became in past
    ]
    unanswered = sum(became == UNANSWERED for _, became in past)
    if verb == "expire" and unanswered >= booking_rules(gateway).limits.offers:
        resource = ended(resource, _UNANSWERED)
    return resource, told


def withdrawn_offer(gateway: Gateway, entry: Waiting) -> list[Put]:
    """The Task of an offer whose entry was cancelled; nothing where nothing is offered."""
    if not entry.offered:
        return []
    now = gateway.clock.now()
    return [put_of_notice(gateway, notice_of(entry, entry.offered, entry.until, now, "cancelled"))]


def ended(appointment: Json, text: str = _OVER) -> dict[str, Any]:
    """The entry that has ended, with its reason."""
    reason = {"coding": [{"system": CANCEL_REASONS, "code": "other"}], "text": text}
    return {
        **_bare(appointment), "extension": _others(appointment), "status": "cancelled",
        "meta": meta_of(BOOKING_PROFILE, appointment),
        "cancelationReason": reason,
        "participant": [
            {**one, "status": _ended(one)} for one in appointment.get("participant") or ()
        ],
    }  # fmt: skip


def derive_waiting(resource: dict[str, Any], derived: Derived, *, zone: str) -> None:
    """Adds the row by which an entry is found in its turn; one with an offer has no turn."""
    if resource["resourceType"] != "Appointment" or resource.get("status") != "waitlist":
        return
    entry = waiting_of(resource, zone)
    if entry is not None and not entry.offered and entry.marks.channel:
        derived.global_ints.append((*WAITING, entry.place))


def _marked(marks: Marks) -> Iterator[dict[str, Any]]:
    yield {"url": ext.CHANNEL, "valueCode": marks.channel}
    if marks.booked_by:
        by = {"reference": f"Organization/{marks.booked_by}"}
        yield {"url": ext.BOOKED_BY, "valueReference": by}


def _bare(appointment: Json) -> dict[str, Any]:
    """The resource without what the store says of its version."""
    kept = {name: value for name, value in appointment.items() if name != "meta"}
    return {**kept, "meta": meta_of(PROFILE, appointment)}


def _others(appointment: Json) -> list[Json]:
    return [one for one in appointment.get("extension") or () if one.get("url") != ext.OFFER]


def _ended(participant: Json) -> str:
    reference = str((participant.get("actor") or {}).get("reference", ""))
    return "accepted" if reference.startswith("Patient/") else "declined"


def _urgency(priority: Any) -> str:
    known = isinstance(priority, int) and 0 <= priority < len(URGENCY)
    return URGENCY[priority] if known else "routine"


def _service(appointment: Json) -> str:
    for one in appointment.get("participant") or ():
        found = parse_reference(str((one.get("actor") or {}).get("reference", "")))
        if isinstance(found, Reference) and found.type == "HealthcareService":
            return found.id
    return ""


def _moment(text: Any, zone: str) -> int:
    try:
        return date_range(text, zone)[0] if isinstance(text, str) else 0
    except Invalid:
        return 0
