"""ORC and OBR as ServiceRequest, Specimen and DiagnosticReport (HL7 v2.5.1 4.5, 7.4.1).

A report is known by its filler number (OBR-3) and the code of its service (OBR-4): laboratories
use one number for several panels of one tube. A second message with both updates it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from fhir_gateway.mapping.doors import WRONG_PATIENT
from fhir_gateway.mapping.tables import Row, look_up, normal
from fhir_gateway.mapping.v2 import Segment, missing
from fhir_gateway.mapping.v2_draft import TABLE_SYSTEM, Draft, clean, named, notes_of
from fhir_gateway.mapping.v2_kits import kit_of, part
from fhir_gateway.mapping.v2_result import (
    FILES,
    Frame,
    document,
    is_document,
    name_of,
    observation,
    status_of,
    type_of,
)
from fhir_gateway.mapping.v2_time import Moment

_REPORT_NOTE = "http://hl7.org/fhir/5.0/StructureDefinition/extension-DiagnosticReport.note"
_ORDER_STATUS = {
    "final": "completed", "amended": "completed", "corrected": "completed",
    "appended": "completed", "cancelled": "revoked", "entered-in-error": "unknown",
}  # fmt: skip
_VOID = ("cancelled", "entered-in-error")


class Order(NamedTuple):
    """One order group of an ORU: its segments, each with the notes that follow it."""

    orc: Segment | None
    obr: Segment
    notes: list[Segment]
    results: list[tuple[Segment, list[Segment]]]
    specimens: list[Segment]


class Report(NamedTuple):
    """What intake needs to know of a mapped report to let it replace an earlier one."""

    id: str
    issued: str  # FHIR instant, "" when unknown
    status: str
    results: list[str]  # "Observation/x" of this message
    names: list[str]  # every resource of the report, "Type/id"
    finalised: tuple[tuple[str, str], ...] = ()  # results whose value came before, and the place
    removed: tuple[str, ...] = ()  # results that were deleted or posted as wrong


def report(
    draft: Draft, order: Order, patient: dict[str, str], encounter: dict[str, str] | None
) -> Report:
    """Adds the resources of one report. Raises Unprocessable naming the field that is wrong."""
    start = len(draft.resources)
    obr = order.obr
    number, placer = _number(order, 3), _number(order, 2)
    code = obr.text(4)
    if not number and not placer:
        raise missing(obr, 3, "The number of the report")
    if not obr.field(4) or not draft.concept(obr.parts(obr.repetitions(4)[0])):
        raise missing(obr, 4, "The service that was ordered")
    key = ("report", number, code) if number else ("order", placer, code)
    status, effect = _status(draft, order)
    asked = _ORDER_STATUS.get(status, "active")
    placed = service_request(draft, order, patient, encounter, asked) if placer else None
    said = status if obr.text(25) else ""
    frame = _frame(draft, order, key, patient, encounter, placed)._replace(stated=said)
    results, files = _observations(draft, order, frame)
    resource = {
        "resourceType": "DiagnosticReport",
        "id": draft.id("DiagnosticReport", *key),
        "extension": [*_notes(order.notes), *draft.extensions(obr)],
        "identifier": [{"system": draft.institution.system("report"), "value": number or placer}],
        "basedOn": [placed] if placed else [],
        "status": status,
        "category": _category(draft, obr),
        "code": draft.concept(obr.parts(obr.repetitions(4)[0])),
        "subject": patient,
        "encounter": encounter,
        **_when(draft, obr, frame.collected),
        "issued": frame.issued,
        "performer": [_performer(draft)],
        "resultsInterpreter": _interpreter(obr),
        "specimen": [frame.specimen] if frame.specimen else [],
        "result": results,
        "conclusion": _conclusion(draft, order),
        "presentedForm": files,
    }
    resource = clean(resource)
    if effect == WRONG_PATIENT:
        draft.doubt(resource, WRONG_PATIENT)
    draft.add(resource)
    names = [f"{item['resourceType']}/{item['id']}" for item in draft.resources[start:]]
    references = [item["reference"] for item in results]
    finalised, removed = tuple(frame.finalised), tuple(frame.removed)
    return Report(str(resource["id"]), frame.issued, status, references, names, finalised, removed)


def _number(order: Order, n: int) -> str:
    """OBR-2/OBR-3, or the same field of ORC."""
    return order.obr.text(n) or (order.orc.text(n) if order.orc else "")


def _status(draft: Draft, order: Order) -> tuple[str, str]:
    """OBR-25 and its effect; without it what the results say. A group that says neither was cut
    short."""
    if order.obr.text(25):
        row = draft.status(order.obr, 25, "report-status")
        return row.code, row.extra
    return _status_of_results(draft, order), ""


def _status_of_results(draft: Draft, order: Order) -> str:
    statuses = {
        draft.status(obx, 11, "observation-status").code for obx, _ in order.results if obx.text(11)
    } - set(_VOID)
    if not order.results:
        raise missing(order.obr, 25, "The status of the report")
    for status in ("registered", "preliminary", "corrected", "amended"):
        if status in statuses:
            return "partial" if status == "registered" and len(statuses) > 1 else status
    return "final" if statuses else "cancelled"


def _frame(
    draft: Draft,
    order: Order,
    key: tuple[str, ...],
    patient: dict[str, str],
    encounter: dict[str, str] | None,
    placed: dict[str, str] | None,
) -> Frame:
    obr = order.obr
    spm = order.specimens[0] if order.specimens else None
    collected = draft.time(obr, 7) or (draft.time(spm, 17) if spm else None)
    received = draft.loose_time(obr, 14) or (draft.loose_time(spm, 18) if spm else None)
    specimen = _specimen(draft, order, key, patient, collected, received)
    row = _section(draft, obr)
    kind = row.code if row else ("lab" if specimen else "")
    return Frame(
        key=key,
        kind=kind,
        patient=patient,
        encounter=encounter,
        order=placed,
        specimen=specimen,
        collected=collected.text if collected else "",
        received=received.text if received and received.exact else "",
        issued=_issued(draft, obr),
        finalised=[],
        removed=[],
    )


def _issued(draft: Draft, obr: Segment) -> str:
    moment = draft.time(obr, 22)
    if moment is None:
        return ""
    if not moment.exact:
        draft.warn(obr, 22, "a day is no instant; the time of issue was left out", "v2-issued")
        return ""
    return moment.text


def _when(draft: Draft, obr: Segment, collected: str) -> dict[str, Any]:
    """OBR-7 to OBR-8 as effectivePeriod, or the one time that there is."""
    end = draft.loose_time(obr, 8)
    if collected and end and end.text[:19] > collected[:19]:
        return {"effectivePeriod": {"start": collected, "end": end.text}}
    return {"effectiveDateTime": collected}


def _observations(
    draft: Draft, order: Order, frame: Frame
) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """One Observation for each OBX that is no file, and the files. The same code again counts its
    occurrences, because OBX-1 shifts when a correction adds a line."""
    seen: dict[tuple[str, str], int] = {}
    references: list[dict[str, str]] = []
    files: list[dict[str, str]] = []
    for obx, notes in order.results:
        kit = kit_of(draft, obx)
        if part(kit, "type", type_of, obx) in FILES:
            file = document(obx)
            if status_of(draft, obx, frame).code not in _VOID:
                files.append(file)
            continue
        key = part(kit, "name", name_of, obx)
        seen[key] = seen.get(key, 0) + 1
        reference = observation(draft, obx, notes, frame, seen[key])
        if reference["reference"] not in frame.removed:
            references.append(reference)
    return references, files


def _specimen(
    draft: Draft,
    order: Order,
    key: tuple[str, ...],
    patient: dict[str, str],
    collected: Moment | None,
    received: Moment | None,
) -> dict[str, str] | None:
    """Specimen of SPM, else of OBR-15; its reference displays the type, which facts are read of."""
    if order.specimens:
        references = [
            _specimen_of_spm(draft, spm, key, patient, collected, received)
            for spm in order.specimens
        ]
        return references[0]
    obr = order.obr
    raw = obr.repetitions(15)
    if not raw:
        return None
    first = raw[0].split(obr.delimiters.component)[0].split(obr.delimiters.subcomponent)
    parts = [obr.unescape(part).strip() for part in (*first, "", "")[:3]]
    if not any(parts):
        return None
    return _add_specimen(draft, (*key, ""), "", parts, patient, collected, received)


def _specimen_of_spm(
    draft: Draft,
    spm: Segment,
    key: tuple[str, ...],
    patient: dict[str, str],
    collected: Moment | None,
    received: Moment | None,
) -> dict[str, str]:
    number = spm.text(2, 2) or spm.text(2)
    parts = spm.parts(spm.repetitions(4)[0]) if spm.repetitions(4) else [""]
    own = draft.loose_time(spm, 17) or collected
    return _add_specimen(
        draft,
        ("number", number) if number else (*key, str(spm.number)),
        number,
        [part.strip() for part in (*parts, "", "")[:3]],
        patient,
        own,
        draft.loose_time(spm, 18) or received,
    )


def _add_specimen(
    draft: Draft,
    key: tuple[str, ...],
    number: str,
    parts: list[str],
    patient: dict[str, str],
    collected: Moment | None,
    received: Moment | None,
) -> dict[str, str]:
    code, name, system = parts
    type: dict[str, Any] = {}
    if code and code.isascii():
        uri = draft.system_of(system) if system else f"{TABLE_SYSTEM}0487"
        type["coding"] = [clean({"system": uri, "code": code, "display": name})]
    if name or not code.isascii():
        type["text"] = name or code
    resource = {
        "resourceType": "Specimen",
        "id": draft.id("Specimen", *key),
        "identifier": [{"system": draft.institution.system("specimen"), "value": number}]
        if number
        else [],
        "type": type,
        "subject": patient,
        "receivedTime": received.text if received else "",
        "collection": {"collectedDateTime": collected.text} if collected else {},
    }
    shown = name or code
    return draft.add(clean(resource)) | ({"display": shown} if shown else {})


def service_request(
    draft: Draft,
    order: Order,
    patient: dict[str, str],
    encounter: dict[str, str] | None,
    status: str,
) -> dict[str, str]:
    """Adds the order with this status; the reference to it."""
    obr, orc = order.obr, order.orc
    number = _number(order, 2)
    written = (draft.loose_time(orc, 9) if orc else None) or draft.loose_time(obr, 6)
    priority = look_up(draft.rows("priorities"), obr.text(27, 6) or obr.text(5))
    resource = {
        "resourceType": "ServiceRequest",
        "id": draft.id("ServiceRequest", number, obr.text(4)),
        "identifier": [{"system": draft.institution.system("order"), "value": number}],
        "status": status,
        "intent": "order",
        "priority": priority.code if priority else "",
        "code": draft.concept(obr.parts(obr.repetitions(4)[0])),
        "subject": patient,
        "encounter": encounter,
        "authoredOn": written.text if written else "",
        "requester": named(obr, 16) or (named(orc, 12) if orc else {}),
        "performer": [_performer(draft)],
    }
    return draft.add(clean(resource))


def _performer(draft: Draft) -> dict[str, str]:
    own = draft.institution
    return {"reference": f"Organization/{own.id}", "display": own.name}


def _category(draft: Draft, obr: Segment) -> list[dict[str, Any]]:
    """OBR-24 by table 0074, in whatever spelling it came, which stays as the text."""
    section = obr.text(24)
    row = _section(draft, obr)
    if row is None:
        return [{"text": section}] if section else []
    coding = {"system": f"{TABLE_SYSTEM}0074", "code": row.extra, "display": row.display}
    return [{"coding": [coding], "text": section}]


def _section(draft: Draft, obr: Segment) -> Row | None:
    """What sections.csv says of OBR-24."""
    section = obr.text(24)
    return look_up(draft.rows("sections", "section"), section) if section else None


def _interpreter(obr: Segment) -> list[dict[str, str]]:
    raw = obr.repetitions(32)
    first = obr.pieces(raw[0])[0] if raw else []
    name = next((part for part in reversed(first[:2]) if part), "")
    if raw and obr.delimiters.component in raw[0]:  # as a person's field, not as NDL has it
        name = named(obr, 32).get("display", "") or name
    return [{"display": name}] if name else []


def _notes(notes: list[Segment]) -> list[dict[str, Any]]:
    """R4's DiagnosticReport has no note: R5's element as its cross-version extension."""
    return [{"url": _REPORT_NOTE, "valueAnnotation": note} for note in notes_of(notes)]


def _conclusion(draft: Draft, order: Order) -> str:
    """The impression of an imaging report: the OBX that report-parts.csv says is one."""
    texts = [
        obx.whole(5)
        for obx, _ in order.results
        if part(kit_of(draft, obx), "concludes", _concludes, draft, obx)
    ]
    return "\n".join(text for text in texts if text)


def _concludes(draft: Draft, obx: Segment) -> bool:
    """Whether an OBX holds the impression, or a part of it."""
    rows = draft.rows("report-parts")
    names = {normal(obx.text(3, c)) for c in (1, 2)} | {normal(obx.text(3, 1, 2))}
    found = {row.code for name in names if name and (row := look_up(rows, name))}
    return "conclusion" in found and not is_document(obx)
