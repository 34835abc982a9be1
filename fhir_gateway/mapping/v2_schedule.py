"""SIU^S12 to S15, S17, S26 -> Appointment (HL7 v2.5.1 10.3; v2-to-FHIR SIU maps).

    SCH {NTE} {PID [PV1]} {RGS {AIS} {AIG} {AIL} {AIP}}

Notification only: the hospital's own system has booked, moved or cancelled, and the gateway keeps
what it says. Nothing is taken from a pool of slots by it.
"""

from __future__ import annotations

from typing import Any

from fhir_gateway.errors import Unprocessable
from fhir_gateway.mapping.stated_at import stated_at
from fhir_gateway.mapping.tables import look_up
from fhir_gateway.mapping.v2 import Message, Segment, flaw, missing
from fhir_gateway.mapping.v2_draft import Draft, clean, draft_of, named, notes_of
from fhir_gateway.mapping.v2_oru import Mapped, check_header
from fhir_gateway.mapping.v2_person import patient
from fhir_gateway.mapping.v2_time import Moment, later
from fhir_gateway.security.institution import Institution

SCHEDULE_EVENTS = ("S12", "S13", "S14", "S15", "S17", "S26")

#: Units of SCH-10 and AIS-8 in minutes, by their first letter.
_MINUTES = {"M": 1.0, "H": 60.0, "S": 1 / 60, "D": 1440.0}


def map_schedule(
    message: Message,
    institution: Institution,
    *,
    folder: str,
    others: frozenset[str] = frozenset(),
) -> Mapped:
    """The Appointment of an SIU message.

    Raises NotSupported, Forbidden or Unprocessable with the place that is wrong.
    """
    check_header(message, institution, kind="SIU", events=SCHEDULE_EVENTS)
    draft = draft_of(message, institution, folder, others)
    groups: dict[str, list[Segment]] = {}
    for segment in message.segments:
        groups.setdefault(segment.name, []).append(segment)
    for name, what in (("SCH", "appointment"), ("PID", "patient")):
        if name not in groups:
            text = f"The message names no {what}: there is no {name} segment"
            error = Unprocessable(text, expression=f"{name}[1]", rule="v2-segment-missing")
            raise flaw(error, "100")
    subject = patient(draft, groups["PID"][0])
    resource = _appointment(draft, groups, subject, message.header.text(9, 2))
    stated_at(resource, draft.time(message.header, 7))
    draft.add(clean(resource))
    return Mapped(draft.resources, [], draft.warnings)


def _appointment(
    draft: Draft, groups: dict[str, list[Segment]], subject: dict[str, str], event: str
) -> dict[str, Any]:
    sch = groups["SCH"][0]
    number = sch.text(2) or sch.text(1)
    if not number:
        raise missing(sch, 2, "The number of the appointment")
    start, end = _times(draft, sch, groups)
    status = _status(draft, sch, event)
    services = [draft.concept(ais.parts(ais.repetitions(3)[0]))
                for ais in groups.get("AIS", ()) if ais.field(3)]  # fmt: skip
    notes = [note["text"] for note in notes_of(groups.get("NTE", []))]
    return {
        "resourceType": "Appointment",
        "id": draft.id("Appointment", number),
        "extension": draft.extensions(sch),
        "identifier": [{"system": draft.institution.system("appointment"), "value": number}],
        "status": status,
        "serviceType": services,
        "appointmentType": draft.concept(sch.parts(sch.repetitions(8)[0])) if sch.field(8) else {},
        "reasonCode": [draft.concept(sch.parts(sch.repetitions(7)[0]))] if sch.field(7) else [],
        "start": start.text if start and end else "",
        "end": end.text if start and end else "",
        "comment": "\n".join(notes),
        "participant": _participants(draft, groups, subject, status),
    }


def _status(draft: Draft, sch: Segment, event: str) -> str:
    """What the event says; for bookings SCH-25 may say more."""
    status = draft.rows("schedule-events")[event].code
    if status != "booked" or not sch.text(25):
        return status
    row = look_up(draft.rows("appointment-status"), sch.text(25))
    if row is None:
        draft.warn(sch, 25, "this status is not in its HL7 table; booked was stored", "v2-status")
        return status
    return row.code


def _times(
    draft: Draft, sch: Segment, groups: dict[str, list[Segment]]
) -> tuple[Moment | None, Moment | None]:
    """Start and end: SCH-11.4 and .5, else AIS-4 with a duration."""
    start, end = draft.time(sch, 11, component=4), draft.time(sch, 11, component=5)
    ais = groups.get("AIS", [])
    if start is None and ais:
        start = draft.time(ais[0], 4)
    start, end = (_exact(draft, sch, moment) for moment in (start, end))
    if start is not None and end is None:
        minutes = _minutes(sch, 9, 10) or (_minutes(ais[0], 7, 8) if ais else 0)
        end = later(start, minutes) if minutes else None
    return start, end


def _exact(draft: Draft, sch: Segment, moment: Moment | None) -> Moment | None:
    if moment is None or moment.exact:
        return moment
    draft.warn(sch, 11, "a day is no time of an appointment; it was left out", "v2-time")
    return None


def _minutes(segment: Segment, n: int, unit: int) -> float:
    """A duration in minutes, 0 for none."""
    try:
        amount = float(segment.text(n) or 0)
    except ValueError:
        return 0
    return amount * _MINUTES.get((segment.text(unit)[:1] or "M").upper(), 1.0)


def _participants(
    draft: Draft, groups: dict[str, list[Segment]], subject: dict[str, str], status: str
) -> list[dict[str, Any]]:
    """The patient, the persons of AIP, the places of AIL, the devices of AIG."""
    said = "declined" if status == "cancelled" else "accepted"
    actors = [subject]
    actors += [named(aip, 3) for aip in groups.get("AIP", ())]
    for name in ("AIL", "AIG"):
        for segment in groups.get(name, ()):
            parts = segment.parts(segment.repetitions(3)[0]) if segment.field(3) else []
            text = " ".join(part.strip() for part in parts[:3] if part.strip())
            actors.append({"display": text} if text else {})
    return [{"actor": actor, "status": said} for actor in actors if actor]
