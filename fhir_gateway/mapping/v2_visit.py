"""ADT of visits and persons -> Patient and Encounter (HL7 v2.5.1 3.3; v2-to-FHIR ADT maps).

    A01 A03 A04 A08 A11 A13: EVN PID [PD1] {NK1} PV1 …      A28 A31: EVN PID [PD1] {NK1} [PV1] …

What the event says of the visit stands in mappings/v2/visit-events.csv. A status goes with the time
at which it was said (EVN-2, else MSH-7) into Encounter.statusHistory, so that messages which
overtake each other end with the same status (mapping.merge). Next of kin, allergies, diagnoses and
insurance are passed over; the message itself is kept as it came.
"""

from __future__ import annotations

from typing import Any

from fhir_gateway.errors import Unprocessable
from fhir_gateway.mapping.v2 import Message, Segment, flaw, missing
from fhir_gateway.mapping.v2_draft import Draft, draft_of
from fhir_gateway.mapping.v2_oru import Mapped, check_header
from fhir_gateway.mapping.v2_person import encounter, patient
from fhir_gateway.mapping.v2_time import Moment
from fhir_gateway.security.institution import Institution

#: Events of a visit, and events of a person alone.
VISIT_EVENTS = ("A01", "A03", "A04", "A08", "A11", "A13")
PERSON_EVENTS = ("A28", "A31")


def map_visit(
    message: Message,
    institution: Institution,
    *,
    folder: str,
    others: frozenset[str] = frozenset(),
) -> Mapped:
    """The Patient of an ADT message, and the Encounter of its visit.

    Raises NotSupported, Forbidden or Unprocessable with the place that is wrong.
    """
    check_header(message, institution, kind="ADT", events=(*VISIT_EVENTS, *PERSON_EVENTS))
    draft = draft_of(message, institution, folder, others)
    subject = patient(draft, _only(message, "PID"))
    event = message.header.text(9, 2)
    if event in VISIT_EVENTS:
        _visit(draft, message, event, subject)
    return Mapped(draft.resources, [], draft.warnings)


def _visit(draft: Draft, message: Message, event: str, subject: dict[str, str]) -> None:
    """Adds the Encounter. Raises Unprocessable where an event of a visit names none."""
    found = [segment for segment in message.segments if segment.name == "PV1"]
    reference = encounter(draft, found[0], subject) if found else None
    if reference is None:
        if event == "A08":  # says something of the person, whose visit has no number
            return
        pv1 = found[0] if found else _only(message, "PV1")
        raise flaw(missing(pv1, 19, "The number of the visit"), "101")
    resource = draft.resources[-1]
    status = draft.rows("visit-events")[event].code
    if not status:
        resource.pop("status")
        return
    said = _said_at(draft, message)
    resource["status"] = status
    resource["statusHistory"] = [{"status": status, "period": {"start": said.text}}]
    if status != "finished":
        resource.get("period", {}).pop("end", None)
    elif "end" not in resource.get("period", {}):
        occurred = _evn(draft, message, 6) or said
        resource["period"] = {**resource.get("period", {}), "end": occurred.text}
    if not resource.get("period"):
        resource.pop("period", None)


def _said_at(draft: Draft, message: Message) -> Moment:
    """When the event was recorded. Raises Unprocessable when neither EVN nor MSH says it."""
    said = _evn(draft, message, 2) or draft.time(message.header, 7)
    if said is None or not said.exact:
        raise flaw(missing(message.header, 7, "The time of the message"), "101")
    return said


def _evn(draft: Draft, message: Message, n: int) -> Moment | None:
    for segment in message.segments:
        if segment.name == "EVN":
            moment = draft.loose_time(segment, n)
            return moment if moment is not None and moment.exact else None
    return None


def _only(message: Message, name: str) -> Segment:
    """The first segment of that name. Raises Unprocessable when there is none."""
    for segment in message.segments:
        if segment.name == name:
            return segment
    raise flaw(
        Unprocessable(
            f"There is no {name} segment", expression=f"{name}[1]", rule="v2-segment-missing"
        ),
        "100",
    )


def stated(resource: dict[str, Any]) -> tuple[str, str]:
    """The status that an Encounter was given last, and when that was said; "" for never."""
    history = resource.get("statusHistory") or [{}]
    last = history[-1]
    return str(last.get("status", "")), str(last.get("period", {}).get("start", ""))
