"""OBX as Observation (HL7 v2.5.1 7.4.2; v2-to-FHIR): one result, one resource.

The number keeps its spelling; what is no number stays the text that was sent, with a tag. OBX-11
is required; where a sender leaves it out the report's own status stands in, with a tag, but never
at the end of a message, which may have been cut off inside OBX-5 (docs/adr/0048).
"""

from __future__ import annotations

from typing import Any, NamedTuple

from fhir_gateway.mapping import v2_value
from fhir_gateway.mapping.doors import UNSTATED_STATUS, WRONG_PATIENT
from fhir_gateway.mapping.tables import Row, look_up, normal
from fhir_gateway.mapping.v2 import Segment, missing, wrong
from fhir_gateway.mapping.v2_draft import Draft, clean, named, notes_of
from fhir_gateway.mapping.v2_kits import Kit, kit_of, part
from fhir_gateway.mapping.v2_time import read_clock, read_time

#: Types whose field is one text however many `^` it holds.
_TEXTS = frozenset({"ST", "TX", "FT", ""})
_ABSENT = "http://terminology.hl7.org/CodeSystem/data-absent-reason"
_CATEGORY = "http://terminology.hl7.org/CodeSystem/observation-category"
_UNSEEN = ("registered", "cancelled", "entered-in-error", "preliminary")


class Frame(NamedTuple):
    """What an Observation takes from its report."""

    key: tuple[str, ...]  # business key of the report
    kind: str  # lab, imaging or ""
    patient: dict[str, str]
    encounter: dict[str, str] | None
    order: dict[str, str] | None
    specimen: dict[str, str] | None
    collected: str  # FHIR dateTime, "" when unknown
    received: str  # when the specimen reached the laboratory, as FHIR dateTime
    issued: str  # FHIR instant, "" when unknown
    finalised: list[tuple[str, str]]  # results whose value came before, and the place that says so
    removed: list[str]  # results that were deleted or posted as wrong
    stated: str = ""  # the status of the report, where OBR-25 says it


def observation(
    draft: Draft, obx: Segment, notes: list[Segment], frame: Frame, occurrence: int
) -> dict[str, str]:
    """Adds the Observation; the reference to it. Raises Unprocessable for a segment cut short."""
    kit = kit_of(draft, obx)
    status = status_of(draft, obx, frame)
    code = part(kit, "code", _code, draft, obx)
    if not code:
        raise missing(obx, 3, "The code of the result")
    name, sub = part(kit, "name", name_of, obx)
    resource: dict[str, Any] = {
        "resourceType": "Observation",
        "id": draft.id("Observation", *frame.key, name, sub, str(occurrence)),
        "basedOn": [frame.order] if frame.order else [],
        "extension": draft.extensions(obx),
        "status": status.code,
        "category": _category(frame.kind),
        "code": dict(code),
        "subject": frame.patient,
        "encounter": frame.encounter,
        "effectiveDateTime": _effective(draft, obx, frame),
        "issued": frame.issued,
        "performer": _performers(draft, obx),
    }
    value, doubts, flag = _value(draft, obx, kit)
    resource |= value
    resource["interpretation"] = _interpretation(draft, obx, flag, kit)
    resource["note"] = notes_of(notes)
    resource |= part(kit, "method", _method, draft, obx)
    resource["specimen"] = frame.specimen
    resource["referenceRange"] = _range(obx, value, kit)
    resource = clean(resource)
    _mark(obx, resource, status, frame)
    if not value and resource["status"] not in _UNSEEN and status.extra != "finalises":
        resource["dataAbsentReason"] = {"coding": [{"system": _ABSENT, "code": "unknown"}]}
    for doubt in (*doubts, *_DOUBTS.get(status.extra, ())):
        draft.doubt(resource, doubt)
    return draft.add(resource)


def _code(draft: Draft, obx: Segment) -> dict[str, Any]:
    return draft.concept(obx.parts(obx.repetitions(3)[0])) if obx.field(3) else {}


def type_of(obx: Segment) -> str:
    """OBX-2."""
    return obx.text(2).upper()


def name_of(obx: Segment) -> tuple[str, str]:
    """By what results of one report are told apart: code or name, and sub-ID."""
    return obx.text(3) or obx.text(3, 2), obx.text(4)


def _range(obx: Segment, value: dict[str, Any], kit: Kit) -> list[dict[str, Any]]:
    """OBX-7 in the unit of the value; a range of a value that is no quantity has none."""
    found = value.get("valueQuantity", {})
    name = ("range", *[found.get(k) for k in _UNIT_PARTS])
    if name in kit:
        known: list[dict[str, Any]] = kit[name]
        return known
    unit = {k: v for k, v in found.items() if k in _UNIT_PARTS}
    return part(kit, name, v2_value.read_range, obx.plain(7), unit)


#: What an effect of a status is told by.
_DOUBTS = {WRONG_PATIENT: (WRONG_PATIENT,), UNSTATED_STATUS: (UNSTATED_STATUS,)}

#: What the report's status says of a result that states none.
_OF_REPORT = {"partial": "preliminary", "appended": "amended"}


def status_of(draft: Draft, obx: Segment, frame: Frame) -> Row:
    """The status of a result, `extra` its effect: OBX-11, else the report's.

    Raises Unprocessable where neither says it, or where the message may have been cut off.
    """
    if obx.text(11):
        return part(kit_of(draft, obx), "status", draft.status, obx, 11, "observation-status")
    ends = obx is draft.last and not any(obx.fields[12:])
    if ends or not frame.stated:
        raise missing(obx, 11, "The status of the result")
    draft.warn(obx, 11, "the status is missing; that of the report was stored", "v2-status")
    return Row(_OF_REPORT.get(frame.stated, frame.stated), "", UNSTATED_STATUS)


def _mark(obx: Segment, resource: dict[str, Any], status: Row, frame: Frame) -> None:
    """Notes for intake what a status does to what is stored."""
    name = f"Observation/{resource['id']}"
    if status.extra in ("removes", WRONG_PATIENT):
        frame.removed.append(name)
    elif status.extra == "finalises" and not obx.field(5):
        frame.finalised.append((name, obx.where(11)))


_UNIT_PARTS = ("unit", "system", "code")


def _category(kind: str) -> list[dict[str, Any]]:
    code = {"lab": "laboratory", "imaging": "imaging"}.get(kind)
    return [{"coding": [{"system": _CATEGORY, "code": code}]}] if code else []


def _effective(draft: Draft, obx: Segment, frame: Frame) -> str:
    """When the result was true of the patient: OBX-14, else the collection (OBR-7, SPM-17).

    Some laboratories put the time of analysis into OBX-14. A time after the specimen was received,
    or equal to OBX-19, cannot be its collection; then the collection stands.
    """
    moment = draft.time(obx, 14)
    if moment is None:
        return frame.collected
    analysed = draft.loose_time(obx, 19)
    late = bool(frame.received) and moment.text[:19] > frame.received[:19]
    if frame.collected and frame.collected != moment.text and (
        late or (analysed is not None and analysed.text == moment.text)
    ):  # fmt: skip
        draft.warn(
            obx,
            14,
            "this is after the specimen was received; the time of collection was stored",
            "v2-observation-time",
        )
        return frame.collected
    return moment.text


def _performers(draft: Draft, obx: Segment) -> list[dict[str, str]]:
    """The institution, unless OBX-23 says that another organisation did the work."""
    own = draft.institution
    elsewhere = obx.text(23)
    if elsewhere and normal(elsewhere) not in {normal(n) for n in (own.name, *own.facilities)}:
        first = {"display": elsewhere}
    else:
        first = {"reference": f"Organization/{own.id}", "display": own.name}
    person = named(obx, 16)
    return [first, person] if person else [first]


def _interpretation(draft: Draft, obx: Segment, flag: str, kit: Kit) -> list[dict[str, Any]]:
    """OBX-8, else a flag written beside the value, else what a result in words says."""
    if flags := part(kit, "flags", _flags, draft, obx):
        return flags
    if flag:
        return [v2_value.interpretation(flag, draft.rows("abnormal-flags"))]
    row = look_up(draft.rows("qualitative"), obx.whole(5)) if obx.text(2) in _TEXTS else None
    if row is None:
        return []
    coding = {"system": v2_value.INTERPRETATION, "code": row.code, "display": row.display}
    return [{"coding": [coding]}]


def _flags(draft: Draft, obx: Segment) -> list[dict[str, Any]]:
    rows = draft.rows("abnormal-flags")
    texts = [obx.parts(raw)[0].strip() for raw in obx.repetitions(8)]
    return [v2_value.interpretation(text, rows) for text in texts if text]


def _method(draft: Draft, obx: Segment) -> dict[str, Any]:
    method = obx.repetitions(17)
    device = obx.text(18)
    return clean({
        "method": draft.concept(obx.parts(method[0])) if method else {},
        "device": {"display": device} if device else {},
    })  # fmt: skip


def _value(draft: Draft, obx: Segment, kit: Kit) -> tuple[dict[str, Any], list[str], str]:
    """(value[x], doubts, flag written beside the value) of OBX-2, OBX-5 and OBX-6."""
    whole = obx.whole(5)
    if not whole:
        return {}, [], ""
    unit, known = part(kit, "unit", _unit, draft, obx)
    doubts = [] if known else ["unmapped-unit"]
    type = part(kit, "type", type_of, obx)
    if type == "NM":  # most results are a number and nothing else
        plain = v2_value.read_number(whole)
        if plain is not None and len(obx.repetitions(5)) == 1:
            return {"valueQuantity": {"value": plain, **unit}}, doubts, ""
    repetitions = obx.repetitions(5)
    parts = obx.parts(repetitions[0])
    if type == "NM" or type in _TEXTS:
        number, flag = v2_value.split_flag(whole)
        value = v2_value.quantity(number, unit) if len(repetitions) == 1 else None
        if value is not None and (type == "NM" or _is_measured(obx, unit, kit)):
            return {"valueQuantity": value}, doubts, flag
        unread = ["unparsed-value"] if type == "NM" else []
        return {"valueString": whole}, unread, ""
    if type == "SN":
        found = v2_value.structured(parts, unit)
        return (found, doubts, "") if found else ({"valueString": whole}, ["unparsed-value"], "")
    found = _coded_or_timed(draft, obx, type, parts) if len(repetitions) == 1 else None
    return (found, [], "") if found else ({"valueString": whole}, ["unparsed-value"], "")


def _unit(draft: Draft, obx: Segment) -> tuple[dict[str, str], bool]:
    repetitions = obx.repetitions(6)
    parts = obx.parts(repetitions[0]) if repetitions else []
    return v2_value.read_unit(parts, draft.rows("units"))


def _is_measured(obx: Segment, unit: dict[str, str], kit: Kit) -> bool:
    """A number sent as text is a measurement when it has a unit or a range of numbers."""
    if unit:
        return True
    ranges = _range(obx, {}, kit)
    return bool(ranges) and len(ranges[0]) > 1


def _coded_or_timed(
    draft: Draft, obx: Segment, type: str, parts: list[str]
) -> dict[str, Any] | None:
    """CE, CWE, CNE, CF, DT, TS, DTM, TM; None for any other type."""
    if type in ("CE", "CWE", "CNE", "CF", "IS", "ID"):
        concept = draft.concept(parts)
        return {"valueCodeableConcept": concept} if concept else None
    if type in ("DT", "TS", "DTM"):
        moment = read_time(parts[0].strip(), draft.institution.zone)
        return {"valueDateTime": moment.text} if moment else None
    if type == "TM":
        clock = read_clock(parts[0].strip())
        return {"valueTime": clock} if clock else None
    return None


def is_document(obx: Segment) -> bool:
    """Whether an OBX carries a file or a pointer to one, which belongs to the report."""
    return type_of(obx) in FILES


#: Types of OBX-2 that are a file or lead to one.
FILES = ("ED", "RP")


def document(obx: Segment) -> dict[str, str]:
    """The Attachment of an ED or RP. Raises Unprocessable when its data is not what it says."""
    raw = obx.repetitions(5)
    parts = [part.strip() for part in (*(obx.parts(raw[0]) if raw else []), *[""] * 5)[:5]]
    title = obx.text(3, 2) or obx.text(3)
    if obx.text(2).upper() == "RP":
        kind, subtype = parts[2], parts[3]
        if not parts[0].lower().startswith(("http://", "https://")):
            raise wrong(obx, 5, "a reference pointer must be an http or https URL")
        return clean({"contentType": _media(kind, subtype), "url": parts[0], "title": title})
    data = v2_value.attachment_data(parts[3], parts[4])
    if data is None:
        raise wrong(obx, 5, "encapsulated data must be Base64, Hex or A (text)")
    return clean({"contentType": _media(parts[1], parts[2]), "data": data, "title": title})


#: HL7 tables 0191 and 0291 -> media type.
_MEDIA = {
    "pdf": "application/pdf", "jpeg": "image/jpeg", "jpg": "image/jpeg", "png": "image/png",
    "gif": "image/gif", "tiff": "image/tiff", "html": "text/html", "xml": "text/xml",
    "rtf": "text/rtf", "dicom": "application/dicom", "plain": "text/plain", "text": "text/plain",
    "x-hl7-cda-level-one": "text/xml",
}  # fmt: skip


def _media(kind: str, subtype: str) -> str:
    return _MEDIA.get(subtype.lower(), "") or _MEDIA.get(kind.lower(), "application/octet-stream")
