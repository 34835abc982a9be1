"""SRM^S01 to S05 -> a booking request, and the SRR that answers it (HL7 v2.5.1 10.2, 10.6.1).

    ARQ [APR] {NTE} [PID [PV1]] {RGS {AIS} {AIG} {AIL} {AIP}}

S01 asks for a new booking, S02 moves one, S03 changes what it says, S04 cancels it before its time,
S05 ends what is left of it. A slot that a client has found stands in ARQ-5 as `id^^SLOT`, a
Schedule there as `id`; without either a service and a range of time are asked for. Nothing is
booked here: the request is a value, and whoever books answers with what came of it. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from fhir_gateway.errors import GatewayError, Issue, Unprocessable
from fhir_gateway.fhir.datatypes import date_range
from fhir_gateway.mapping import v2_ack
from fhir_gateway.mapping.v2 import Message, Segment, flaw, missing, wrong
from fhir_gateway.mapping.v2_draft import Draft, draft_of, notes_of
from fhir_gateway.mapping.v2_oru import check_header
from fhir_gateway.mapping.v2_person import patient
from fhir_gateway.mapping.v2_time import Moment, later
from fhir_gateway.mapping.v2_write import Signs, time_of
from fhir_gateway.security.institution import Institution

#: Event -> what is asked for.
ACTIONS: Mapping[str, str] = {
    "S01": "new", "S02": "reschedule", "S03": "modify", "S04": "cancel", "S05": "discontinue",
}  # fmt: skip
REQUEST_EVENTS = tuple(ACTIONS)

#: Actions that need a time to book.
_TIMED = frozenset({"new", "reschedule"})

#: Appointment.status -> SCH-25 (table 0278).
_STATUSES = {
    "pending": "Pending", "booked": "Booked", "waitlist": "Waitlist", "arrived": "Started",
    "checked-in": "Started", "fulfilled": "Complete", "noshow": "Noshow", "cancelled": "Cancelled",
    "entered-in-error": "Deleted",
}  # fmt: skip
_ID = re.compile(r"[A-Za-z0-9\-.]{1,64}")
_MINUTES = {"M": 1.0, "H": 60.0, "S": 1 / 60, "D": 1440.0}


class BookingRequest(NamedTuple):
    """What an SRM asks for.

    `action` is a value of ACTIONS. `placer` and `filler` are the two numbers of the booking; the
    filler's is the logical id of the Appointment. `resources` are the Patient that the message
    describes, `patient` the reference to it, "" where the message names nobody. `slot` and
    `schedule` are "Type/id". Times are FHIR texts: the very time that is wanted has `start` and
    `end`, a range to look in `since` and `until`, which may be days; "" is not said. `services` are
    CodeableConcepts.
    """

    action: str
    placer: str
    filler: str
    resources: list[dict[str, Any]]
    patient: str
    slot: str
    schedule: str
    start: str
    end: str
    since: str
    until: str
    services: list[dict[str, Any]]
    places: list[str]
    persons: list[str]
    order: str
    reason: dict[str, Any]
    note: str
    warnings: list[Issue]


def map_request(
    message: Message,
    institution: Institution,
    *,
    folder: str,
    others: frozenset[str] = frozenset(),
) -> BookingRequest:
    """What an SRM of this institution asks for.

    Raises NotSupported, Forbidden or Unprocessable with the place that is wrong.
    """
    check_header(message, institution, kind="SRM", events=REQUEST_EVENTS)
    draft = draft_of(message, institution, folder, others)
    groups: dict[str, list[Segment]] = {}
    for segment in message.segments:
        groups.setdefault(segment.name, []).append(segment)
    if "ARQ" not in groups:
        error = Unprocessable(
            "The message asks for no appointment: there is no ARQ segment",
            expression="ARQ[1]",
            rule="v2-segment-missing",
        )
        raise flaw(error, "100")
    return _request(draft, groups, ACTIONS[message.header.text(9, 2)])


def _request(draft: Draft, groups: dict[str, list[Segment]], action: str) -> BookingRequest:
    arq, services = groups["ARQ"][0], groups.get("AIS", [])
    placer, filler = arq.text(1), arq.text(2)
    if action == "new" and not placer:
        raise missing(arq, 1, "The placer's number of the appointment")
    if action != "new" and not (placer or filler):
        raise missing(arq, 2, "The number of the appointment")
    subject = patient(draft, groups["PID"][0]) if "PID" in groups else {}
    if action == "new" and not subject:
        error = Unprocessable(
            "A booking is for a patient: there is no PID segment",
            expression="PID[1]",
            rule="v2-segment-missing",
        )
        raise flaw(error, "100")
    slot, schedule = _named_supply(arq)
    start, end = _moment(draft, services)
    since, until = _range(draft, arq)
    concepts = [draft.concept(one.parts(one.repetitions(3)[0])) for one in services if one.field(3)]
    if action in _TIMED and not slot:
        _check_time(arq, since, start)
        if not concepts and not schedule and action == "new":
            raise missing(services[0] if services else arq, 3 if services else 5,
                          "A slot (ARQ-5), or the service that is wanted (AIS-3)")  # fmt: skip
    return BookingRequest(
        action=action,
        placer=placer,
        filler=filler,
        resources=draft.resources,
        patient=subject.get("reference", ""),
        slot=slot,
        schedule=schedule,
        start=start,
        end=end,
        since=since,
        until=until,
        services=concepts,
        places=_words(groups.get("AIL", ())),
        persons=_words(groups.get("AIP", ())),
        order=arq.text(24),
        reason=_reason(draft, arq),
        note="\n".join(note["text"] for note in notes_of(groups.get("NTE", []))),
        warnings=draft.warnings,
    )


def _named_supply(arq: Segment) -> tuple[str, str]:
    """(Slot, Schedule) of ARQ-5. Raises Unprocessable for what can be the id of neither."""
    id = arq.text(5)
    if not id:
        return "", ""
    if not _ID.fullmatch(id):
        raise wrong(arq, 5, "this is no id of a Slot (id^^SLOT) or a Schedule here")
    is_slot = arq.text(5, 3).upper() == "SLOT"
    return (f"Slot/{id}", "") if is_slot else ("", f"Schedule/{id}")


def _check_time(arq: Segment, since: str, start: str) -> None:
    if not since and not start:
        raise missing(arq, 11, "A slot (ARQ-5), a range of time (ARQ-11) or a time (AIS-4)")


def _range(draft: Draft, arq: Segment) -> tuple[str, str]:
    """ARQ-11: from when until when a time is looked for. A day is the whole of it."""
    since, until = draft.time(arq, 11), draft.time(arq, 11, component=2)
    if until is not None and since is None:
        raise missing(arq, 11, "The begin of the range of time")
    zone = draft.institution.zone
    if since and until and date_range(until.text, zone)[1] < date_range(since.text, zone)[0]:
        raise wrong(arq, 11, "the range ends before it begins")
    return _text(since), _text(until)


def _text(moment: Moment | None) -> str:
    return moment.text if moment is not None else ""


def _moment(draft: Draft, services: Sequence[Segment]) -> tuple[str, str]:
    """AIS-4 with the duration of AIS-7: the very time that is wanted."""
    if not services:
        return "", ""
    ais = services[0]
    start = draft.time(ais, 4)
    if start is None:
        return "", ""
    if not start.exact:
        raise wrong(ais, 4, "a day is no time of an appointment; ask for it in ARQ-11")
    try:
        minutes = float(ais.text(7) or 0) * _MINUTES.get((ais.text(8)[:1] or "M").upper(), 1.0)
    except ValueError:
        raise wrong(ais, 7, "this is no duration") from None
    if not 0 <= minutes <= 1440:
        raise wrong(ais, 7, "a booking takes a day at most")
    return start.text, later(start, minutes).text if minutes else ""


def _reason(draft: Draft, arq: Segment) -> dict[str, Any]:
    """ARQ-7, why the patient comes, else ARQ-6, why it is asked for now."""
    for n in (7, 6):
        if arq.field(n):
            return draft.concept(arq.parts(arq.repetitions(n)[0]))
    return {}


def _words(segments: Sequence[Segment]) -> list[str]:
    """Who or where in words: AIP-3, AIL-3."""
    found = []
    for one in segments:
        parts = one.parts(one.repetitions(3)[0]) if one.field(3) else []
        if text := " ".join(part.strip() for part in parts[:3] if part.strip()):
            found.append(text)
    return found


# -- the answer ----------------------------------------------------------------------------------


class Booking(NamedTuple):
    """How a booking stands, for the answer: its numbers, status (Appointment.status), times (FHIR
    instants), and in words what should be known, at which department and at which hospital, "" for
    nothing."""

    placer: str
    filler: str
    status: str
    start: str = ""
    end: str = ""
    words: str = ""
    department: str = ""
    hospital: str = ""


def answer(
    header: v2_ack.Header,
    booking: Booking,
    *,
    time: str,
    control_id: str,
    zone: str,
    warnings: Sequence[Issue] = (),
) -> bytes:
    """The SRR of a request that was granted: AA, and the booking as it stands now."""
    said = v2_ack.acknowledge(header, time=time, control_id=control_id, warnings=warnings)
    return said + _sch(header, booking, zone) + _place(header, booking)


def refuse(
    header: v2_ack.Header,
    error: GatewayError,
    *,
    time: str,
    control_id: str,
    zone: str,
    booking: Booking | None = None,
) -> bytes:
    """The SRR of a request that was not: AE or AR, an ERR for each issue by table 0357, and the
    booking as it stands, where there is one."""
    said = v2_ack.refuse(header, error, time=time, control_id=control_id)
    return said + (_sch(header, booking, zone) if booking is not None else b"")


def _place(header: v2_ack.Header, booking: Booking) -> bytes:
    """RGS and AIL: where the patient is to come, as department and facility (PL.1, PL.4)."""
    if not booking.hospital:
        return b""
    signs = Signs(header.separator, *header.encoding[:4])
    lines = [
        signs.segment("RGS", {1: "1"}),
        signs.segment("AIL", {
            1: "1", 3: signs.components(booking.department, "", "", booking.hospital),
        }),
    ]  # fmt: skip
    return "".join(f"{line}\r" for line in lines).encode(header.codec, "replace")


def _sch(header: v2_ack.Header, booking: Booking, zone: str) -> bytes:
    """The segment SCH with the request's own delimiters and character set."""
    signs = Signs(header.separator, *header.encoding[:4])
    start, end = time_of(booking.start, zone), time_of(booking.end, zone)
    line = signs.segment("SCH", {
        1: signs.text(booking.placer),
        2: signs.text(booking.filler),
        6: signs.components("", booking.words),
        11: signs.component.join(("", "", "", start, end)) if start and end else "",
        25: signs.text(_STATUSES.get(booking.status, "")),
    })  # fmt: skip
    return f"{line}\r".encode(header.codec, "replace")
