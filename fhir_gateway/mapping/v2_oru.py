"""ORU^R01 -> FHIR (HL7 v2.5.1 7.3.1): PID, PV1 and each order group become resources.

    {PID [PD1] [{NTE}] [PV1 [PV2]] { [ORC] OBR [{NTE}] { OBX [{NTE}] } [{SPM [{OBX}]}] }}

Ids come from the institution and its own numbers, so that a message sent again, a correction and
a later status change the same resources. Segments that say nothing of a result are passed over;
the message itself is kept as it came.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from fhir_gateway.errors import Forbidden, Issue, NotSupported, Unprocessable
from fhir_gateway.mapping.doors import STATED, UNKNOWN_ZONE
from fhir_gateway.mapping.tables import normal
from fhir_gateway.mapping.v2 import Message, Segment, flaw, missing
from fhir_gateway.mapping.v2_draft import MAX_WARNINGS, draft_of
from fhir_gateway.mapping.v2_person import encounter, patient
from fhir_gateway.mapping.v2_report import Order, Report, report
from fhir_gateway.security.institution import Institution


class Mapped(NamedTuple):
    """The resources of a message, its reports, and what was doubtful."""

    resources: list[dict[str, Any]]
    reports: list[Report]
    warnings: list[Issue]
    orders: tuple[tuple[str, str], ...] = ()  # placer and filler numbers that are answered for


@dataclass(slots=True)
class Person:
    """One patient of a message, with the orders or reports that follow."""

    pid: Segment
    pv1: Segment | None = None
    orders: list[Order] = field(default_factory=list)


def map_oru(
    message: Message,
    institution: Institution,
    *,
    folder: str,
    others: frozenset[str] = frozenset(),
) -> Mapped:
    """The resources of an ORU^R01, referring only to earlier ones.

    `others` are the names and OIDs by which other institutions assign numbers.

    Raises NotSupported, Forbidden or Unprocessable with the place that is wrong.
    """
    check_header(message, institution, kind="ORU", events=("R01", ""))
    found = persons(message)
    mapped = reports_of(message, institution, found, folder=folder, others=others)
    return mapped._replace(warnings=[*mapped.warnings, *passed_over(message)])


def reports_of(
    message: Message,
    institution: Institution,
    found: list[Person],
    *,
    folder: str,
    others: frozenset[str] = frozenset(),
) -> Mapped:
    """The resources of the reports of these patients."""
    draft = draft_of(message, institution, folder, others)
    reports = []
    for person in found:
        subject = patient(draft, person.pid)
        visit = encounter(draft, person.pv1, subject) if person.pv1 else None
        reports += [report(draft, order, subject, visit) for order in person.orders]
    if draft.guessed:
        for resource in draft.resources:
            if resource["resourceType"] in STATED:
                draft.doubt(resource, UNKNOWN_ZONE)
    return Mapped(_merged(draft.resources), reports, draft.warnings)


def check_header(
    message: Message, institution: Institution, *, kind: str, events: tuple[str, ...]
) -> None:
    """Raises for a message that is not for here: type, version, processing id, facility."""
    msh = message.header
    if not msh.text(10):
        raise flaw(missing(msh, 10, "The message control id"), "101", reject=True)
    if msh.text(9) != kind:
        raise _unsupported(
            msh, 9, "Messages of this type are not taken in here (docs/v2.md)", "200"
        )
    if msh.text(9, 2) not in events:
        which = ", ".join(event for event in events if event)
        raise _unsupported(msh, 9, f"Of {kind} only these events are taken in: {which}", "201")
    if msh.text(11) not in ("P", ""):
        raise _unsupported(msh, 11, "Only messages of production (P) are taken in", "202")
    if not msh.text(12).startswith("2."):
        raise _unsupported(msh, 12, "Only HL7 version 2.x is read here", "203")
    if any(segment.name in ("DSC", "ADD") for segment in message.segments):
        raise _unsupported(msh, 14, "Messages in several parts are not taken in", "200")
    _check_facility(msh, institution)


def _unsupported(msh: Segment, n: int, sentence: str, condition: str) -> Exception:
    place = msh.where(n)
    error = NotSupported(f"{sentence} ({place})", expression=place, rule="v2-unsupported")
    return flaw(error, condition, reject=True)


def _check_facility(msh: Segment, institution: Institution) -> None:
    """MSH-4 must be a name of the institution whose credential sends it; empty says nothing."""
    said = {normal(text) for text in (msh.text(4), msh.text(4, 2)) if text}
    known = (institution.id, institution.name, *institution.facilities,
             institution.credit_code, institution.institution_code)  # fmt: skip
    if said and said.isdisjoint(normal(name) for name in known if name):
        place = msh.where(4)
        raise flaw(Forbidden(f"The sending facility ({place}) is not the institution whose "
                             "credential was used", expression=place, rule="v2-facility"),
                   "103", reject=True)  # fmt: skip


_PERSON_SEGMENTS = ("PID", "PV1")
_REPORT_SEGMENTS = ("ORC", "OBR", "OBX", "SPM", "NTE")


def persons(message: Message) -> list[Person]:
    """The segments in their groups, one for each patient.

    Raises Unprocessable for a segment that stands outside of any.
    """
    persons: list[Person] = []
    grouping = _Grouping()
    besides = {(one.name, one.number) for one in no_results(message)}
    for segment in message.segments:
        if (segment.name, segment.number) in besides:
            continue
        if segment.name == "PID":
            grouping = _Grouping()
            persons.append(Person(segment, orders=grouping.orders))
        elif segment.name == "PV1" and persons:
            persons[-1].pv1 = persons[-1].pv1 or segment
        elif segment.name in _REPORT_SEGMENTS:
            if not persons:
                raise _sequence(segment, "a PID segment must come first")
            grouping.take(segment)
    if not persons:
        raise _absent("PID", "The message names no patient")
    if not any(person.orders for person in persons):
        raise _absent("OBR", "The message holds no report and no order")
    return persons


def no_results(message: Message) -> list[Segment]:
    """OBX that are no results of an order: those about the patient (between PID and PV1), and the
    document of an order (TXA follows; HL7 v2.8 7.3.1, ORDER_DOCUMENT)."""
    found: list[Segment] = []
    waiting: list[Segment] = []
    before = ""  # the last segment that says whose an OBX is
    for segment in message.segments:
        match segment.name:
            case "PID" | "ORC" | "OBR":
                before, waiting = segment.name, []
            case "PV1" if before == "PID":
                found += waiting
                before, waiting = "PV1", []
            case "OBX":
                waiting = [*waiting, segment] if before == "PID" else [segment]
            case "TXA" if before != "PID":
                found += waiting[-1:]
    return found


def passed_over(message: Message) -> list[Issue]:
    """What is told of OBX that are no results."""
    found = []
    for segment in no_results(message)[:MAX_WARNINGS]:
        place = f"{segment.name}[{segment.number}]"
        text = f"{place} tells of the patient or of an order, not of a report; it was passed over"
        found.append(Issue("informational", text, place, "v2-passed-over", "warning"))
    return found


class _Grouping:
    """Sorts the segments of one person into order groups, as they come."""

    def __init__(self) -> None:
        self.orders: list[Order] = []
        self.orc: Segment | None = None
        self.notes: list[Segment] | None = None  # where the next NTE belongs; None: nowhere

    def take(self, segment: Segment) -> None:
        """Puts a segment into its group."""
        match segment.name:
            case "ORC":
                self.orc, self.notes = segment, None
            case "OBR":
                order = Order(self.orc, segment, [], [], [])
                self.orders.append(order)
                self.orc, self.notes = None, order.notes
            case "NTE":
                if self.notes is not None:
                    self.notes.append(segment)
            case _:
                self._add_result(segment)

    def _add_result(self, segment: Segment) -> None:
        if not self.orders or self.orc is not None:
            raise _sequence(segment, "an OBR segment must come first")
        if segment.name == "SPM":
            self.orders[-1].specimens.append(segment)
            self.notes = None
            return
        notes: list[Segment] = []
        self.orders[-1].results.append((segment, notes))
        self.notes = notes


def _sequence(segment: Segment, why: str) -> Exception:
    place = f"{segment.name}[{segment.number}]"
    return flaw(Unprocessable(f"{place} is out of place: {why}", expression=place,
                              rule="v2-sequence"), "100")  # fmt: skip


def _absent(name: str, sentence: str) -> Exception:
    return flaw(Unprocessable(f"{sentence}: there is no {name} segment", expression=f"{name}[1]",
                              rule="v2-segment-missing"), "100")  # fmt: skip


def _merged(resources: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each resource once: a tube or an order that several reports share is the same one.

    Raises Unprocessable when two reports of one message have the same number and service.
    """
    merged: dict[tuple[str, str], dict[str, Any]] = {}
    for resource in resources:
        key = (resource["resourceType"], resource["id"])
        if key in merged and key[0] in ("DiagnosticReport", "Observation"):
            raise flaw(Unprocessable("Two OBR segments have the same report number (OBR-3) and "
                                     "service (OBR-4)", expression="OBR", rule="v2-report-twice"),
                       "205")  # fmt: skip
        merged[key] = merged.get(key, {}) | resource
    return list(merged.values())
