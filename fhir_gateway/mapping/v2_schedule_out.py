"""A stored Appointment -> SIU^S12, S13, S14, S15, S17, S26, to tell its hospital (HL7 v2.5.1 10.3).

    MSH SCH {NTE} PID RGS AIS [AIG] [AIL] [AIP]

What the hospital's own reader of SIU would send us for the same booking: read back by
`mapping.v2_schedule` it is the same appointment. Numbers are those of the hospital where it has
given any; the gateway's own id of the booking is the placer's (SCH-1). Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from fhir_gateway.errors import Invalid, Unprocessable
from fhir_gateway.mapping.tables import table
from fhir_gateway.mapping.v2_draft import TABLE_SYSTEM, local_system
from fhir_gateway.mapping.v2_write import SIGNS, encoded, label_of, repeated, time_of
from fhir_gateway.security.institution import Institution

Json = Mapping[str, Any]

#: What is told -> the event, and its name in words (SCH-6).
EVENTS: Mapping[str, tuple[str, str]] = {
    "booked": ("S12", "New appointment booked"),
    "rescheduled": ("S13", "Appointment rescheduled"),
    "modified": ("S14", "Appointment modified"),
    "cancelled": ("S15", "Appointment cancelled"),
    "deleted": ("S17", "Appointment deleted"),
    "noshow": ("S26", "Patient did not come"),
}

#: Appointment.status -> SCH-25 (table 0278).
_STATUSES = {
    "pending": "Pending", "booked": "Booked", "arrived": "Started", "checked-in": "Started",
    "fulfilled": "Complete", "cancelled": "Cancelled", "noshow": "Noshow",
    "waitlist": "Waitlist", "entered-in-error": "Deleted",
}  # fmt: skip
_SEXES = {"male": "M", "female": "F", "other": "O", "unknown": "U"}
_ENDED = frozenset({"cancelled", "noshow", "entered-in-error"})

#: What the gateway calls codes that are neither the hospital's nor of a system that HL7 names.
OUR_SYSTEM = "99GW"


class Notice(NamedTuple):
    """What is told: the event (a key of EVENTS), the booking and what it names.

    `patient` is the Patient as the hospital may see it; `number` that person's number at the
    hospital, "" where it has given none. `order` is the number of the order, "" for none.
    """

    event: str
    appointment: Json
    patient: Json
    schedule: Json | None = None
    slot: Json | None = None
    number: str = ""
    order: str = ""


class Header(NamedTuple):
    """Who tells it, when (a FHIR instant), and under which control id (MSH-10)."""

    control_id: str
    time: str
    application: str = "FHIR-GATEWAY"
    facility: str = ""


def event_of(before: str, after: str, *, moved: bool = False) -> str:
    """What became of a booking, as a key of EVENTS, by its status before ("" for new) and after.

    "" where there is nothing to tell: holds and waiting lists are nobody's but the gateway's.
    """
    if after in ("cancelled", "noshow"):
        told = before in ("booked", "arrived", "checked-in", "pending")
        return after if told and before != after else ""
    if after == "entered-in-error":
        return "deleted" if before not in ("", after) else ""
    if after not in ("pending", "booked", "arrived", "checked-in", "fulfilled"):
        return ""
    if before in ("", "proposed", "waitlist"):
        return "booked"
    return "rescheduled" if moved else "modified"


def write_schedule(notice: Notice, hospital: Institution, header: Header, *, folder: str) -> bytes:
    """The bytes of the message, in the hospital's character set and zone.

    Raises Invalid for an event that is none of EVENTS, Unprocessable for a booking without times
    or a text that the character set cannot write.
    """
    if notice.event not in EVENTS:
        raise Invalid(f"{notice.event} is none of {', '.join(EVENTS)}", rule="v2-event")
    codec, label = label_of(hospital.charset, folder)
    out = _Out(notice, hospital, folder)
    lines = [
        _msh(notice, hospital, header, label),
        out.sch(),
        *out.nte(),
        out.pid(),
        SIGNS.segment("RGS", {1: "1", 2: "A"}),
        *out.ais(),
        *out.resources(),
    ]
    return encoded(lines, codec, label)


def _msh(notice: Notice, hospital: Institution, header: Header, label: str) -> str:
    event = EVENTS[notice.event][0]
    to = hospital.facilities[0] if hospital.facilities else hospital.id
    fields = {
        2: SIGNS.text(header.application),
        3: SIGNS.text(header.facility),
        5: SIGNS.text(to),
        6: time_of(header.time, hospital.zone),
        8: SIGNS.components("SIU", event, "SIU_S12"),
        9: SIGNS.text(header.control_id),
        10: "P",
        11: "2.5.1",
        17: label,
    }
    return SIGNS.segment("MSH", {1: SIGNS.encoding, **fields})


class _Out:
    """The segments of one booking."""

    def __init__(self, notice: Notice, hospital: Institution, folder: str) -> None:
        self.notice, self.hospital, self.folder = notice, hospital, folder
        self.booking = notice.appointment
        self.start, self.end = self._times()

    def _times(self) -> tuple[str, str]:
        zone, source = self.hospital.zone, self.booking
        start, end = time_of(source.get("start"), zone), time_of(source.get("end"), zone)
        if not (start and end) and self.notice.event in ("booked", "rescheduled", "modified"):
            raise Unprocessable(
                "A booking that nobody can attend is not told: it has no start and end",
                expression="Appointment.start",
                rule="v2-required",
            )
        return start, end

    def _minutes(self) -> str:
        if not (self.start and self.end):
            return ""
        start, end = (datetime.fromisoformat(str(self.booking[name])) for name in ("start", "end"))
        return str(max(1, round((end - start).total_seconds() / 60)))

    def sch(self) -> str:
        """The booking: its two numbers, reason, kind, time, who made it, how far it is."""
        booking, minutes = self.booking, self._minutes()
        status = _STATUSES.get(str(booking.get("status", "")), "")
        if self.notice.event == "deleted":
            status = "Deleted"
        timing = f"^^^{self.start}^{self.end}" if self.start and self.end else ""
        return SIGNS.segment("SCH", {
            1: SIGNS.text(str(booking.get("id", ""))),
            2: SIGNS.text(self._filler()),
            5: SIGNS.text(str((self.notice.schedule or {}).get("id", ""))),
            6: SIGNS.components(*EVENTS[self.notice.event]),
            7: self._concept(_first(booking.get("reasonCode"))
                             or _first([booking.get("cancelationReason")])),
            8: self._concept(_first([booking.get("appointmentType")])),
            9: minutes,
            10: SIGNS.components("MIN", "minutes") if minutes else "",
            11: timing,
            16: SIGNS.components("", self._department()),
            20: SIGNS.components("", self._booked_by()),
            25: status,
            26: SIGNS.text(self.notice.order),
        })  # fmt: skip

    def _filler(self) -> str:
        """The hospital's own number of the booking, "" before it has given one."""
        system = self.hospital.system("appointment")
        for one in self.booking.get("identifier") or ():
            if one.get("system") == system and one.get("value"):
                return str(one["value"])
        return ""

    def _department(self) -> str:
        return next((one for kind, one in self._actors() if kind == "HealthcareService"), "")

    def _booked_by(self) -> str:
        """Who made it, by the words that the booking has for it."""
        for one in self.booking.get("extension") or ():
            if str(one.get("url", "")).endswith("/StructureDefinition/booking-institution"):
                reference = one.get("valueReference") or {}
                return str(reference.get("display") or reference.get("reference") or "")
        return ""

    def nte(self) -> list[str]:
        """What the patient was told, and remarks."""
        texts = [self.booking.get(name) for name in ("patientInstruction", "comment")]
        found = [str(text) for text in texts if text]
        return [
            SIGNS.segment("NTE", {1: str(n), 2: "P", 3: SIGNS.text(text)})
            for n, text in enumerate(found, start=1)
        ]

    def pid(self) -> str:
        """The person. Raises Unprocessable for one whom no number names."""
        patient = self.notice.patient
        names = [_name(one) for one in patient.get("name") or ()]
        phones = [one.get("value") for one in patient.get("telecom") or ()
                  if one.get("system", "phone") == "phone"]  # fmt: skip
        address = [str(one.get("text") or "") for one in patient.get("address") or ()]
        return SIGNS.segment("PID", {
            1: "1",
            3: repeated(SIGNS, self._numbers()),
            5: repeated(SIGNS, [SIGNS.components(*name) for name in names if any(name)]),
            7: str(patient.get("birthDate", "")).replace("-", ""),
            8: _SEXES.get(str(patient.get("gender", "")), ""),
            11: repeated(SIGNS, [SIGNS.text(text) for text in address]),
            13: repeated(SIGNS, [SIGNS.text(str(text)) for text in phones if text]),
        })  # fmt: skip

    def _numbers(self) -> list[str]:
        """CX of the person's number here, and of the documents that HL7 has a type for."""
        found: list[str] = []
        own, ours = self.notice.number, self.hospital.system("patient")
        types = _types(self.folder)
        for one in self.notice.patient.get("identifier") or ():
            system, value = str(one.get("system", "")), str(one.get("value", ""))
            if system == ours and value:
                own = own or value
            elif value and system in types:
                found.append(SIGNS.components(value, "", "", "", types[system]))
        if own:
            facility = self.hospital.facilities[0] if self.hospital.facilities else ""
            found.insert(0, SIGNS.components(own, "", "", facility, "PI"))
        if not found:
            raise Unprocessable(
                "No number names this person at the hospital, neither its own nor a document's",
                expression="Patient.identifier",
                rule="v2-required",
            )
        return found

    def ais(self) -> list[str]:
        """What is done, one segment for each service."""
        services = self.booking.get("serviceType") or (self.notice.slot or {}).get("serviceType")
        minutes = self._minutes()
        return [
            SIGNS.segment("AIS", {
                1: str(n), 2: "D" if self.booking.get("status") in _ENDED else "A",
                3: self._concept(service), 4: self.start, 7: minutes,
                8: SIGNS.components("MIN", "minutes") if minutes else "",
            })
            for n, service in enumerate(services or (), start=1)
        ]  # fmt: skip

    def resources(self) -> list[str]:
        """Machines (AIG), places (AIL) and persons (AIP), in words."""
        counts: dict[str, int] = {}
        lines = []
        for kind, words in self._actors():
            name = _SEGMENTS.get(kind)
            if name is None:
                continue
            counts[name] = n = counts.get(name, 0) + 1
            what = SIGNS.components("", words) if name == "AIP" else SIGNS.components(words)
            lines.append(SIGNS.segment(name, {1: str(n), 2: "A", 3: what, 4: ""}))
        return sorted(lines, key=lambda line: line[:3])

    def _actors(self) -> list[tuple[str, str]]:
        """(type, words) of who and what takes part beside the patient, the Schedule's first."""
        named = list((self.notice.schedule or {}).get("actor") or ())
        named += [one.get("actor") or {} for one in self.booking.get("participant") or ()]
        found: dict[tuple[str, str], None] = {}
        for one in named:
            type, _, id = str(one.get("reference") or "").partition("/")
            if words := str(one.get("display") or id):
                found.setdefault((type, words))
        return list(found)

    def _concept(self, concept: Json | None) -> str:
        """A CodeableConcept as CE: the hospital's own code first, then one of another system."""
        if not concept:
            return ""
        codings = [one for one in concept.get("coding") or () if one.get("code")]
        codings.sort(key=lambda one: one.get("system") != local_system(self.hospital))
        texts: list[str] = []
        for one in codings[:2]:
            words = str(one.get("display") or concept.get("text") or "")
            texts += [str(one["code"]), words, self._system(str(one.get("system", "")))]
        return SIGNS.components(*texts) if texts else SIGNS.components("", concept.get("text", ""))

    def _system(self, system: str) -> str:
        if system == local_system(self.hospital):
            return "L"
        if system.startswith(TABLE_SYSTEM):
            return f"HL7{system.removeprefix(TABLE_SYSTEM)}"
        rows = table(self.folder, "coding-systems").items()
        return next((name for name, row in rows if row.code == system), OUR_SYSTEM)


_SEGMENTS = {"Device": "AIG", "HealthcareService": "AIG", "Location": "AIL",
             "Practitioner": "AIP", "PractitionerRole": "AIP"}  # fmt: skip


def _types(folder: str) -> dict[str, str]:
    """Type (table 0203) of each system of numbers, whichever of its names a system goes by: those
    of the table that are OIDs are systems too. The first name of a system wins."""
    known = table(folder, "identifier-types", "system")
    rows = [(name.upper(), row.extra) for name, row in known.items()]
    named = {system: name for name, system in reversed(rows) if system and name.isalpha()}
    others = {f"urn:oid:{name}": system for name, system in rows if name[:2] in ("1.", "2.")}
    return {**{oid: named[one] for oid, one in others.items() if one in named}, **named}


def _name(name: Json) -> tuple[str, ...]:
    """XPN: family and given where they are told apart, else the whole name as family."""
    given = [str(one) for one in name.get("given") or ()]
    if name.get("family") and given:
        return (str(name["family"]), " ".join(given))
    return (str(name.get("text") or name.get("family") or " ".join(given)),)


def _first(concepts: Sequence[Json | None] | None) -> Json | None:
    return next((one for one in concepts or () if one), None)
