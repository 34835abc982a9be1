"""Rows of a table -> FHIR: put into the segments of a v2 message, and mapped as that message is.

    results, reports  ORU^R01: PID [PV1] OBR [NTE] { OBX [NTE] } [SPM]
    orders            ORM^O01: PID [PV1] ORC OBR
    patients          ADT^A31: PID
    studies           PID, and the header of DICOM (PS3.3 C.7) for each row

So a table and a message that say the same become the same resources, with the same ids. The
separators are control characters, which no cell holds: nothing in a cell is ever one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from fhir_gateway.errors import GatewayError, Issue, Unprocessable
from fhir_gateway.mapping.doors import INTAKE_SYSTEM, UNKNOWN_ZONE
from fhir_gateway.mapping.tabular_fields import (
    DOCUMENT_TYPE,
    NUMBERS,
    ORDERS,
    PARTS,
    PATIENTS,
    PLACES,
    RESULTS,
    STUDIES,
    STUDY,
    Place,
)
from fhir_gateway.mapping.tabular_map import TableMap
from fhir_gateway.mapping.tabular_rows import (
    Group,
    Row,
    placer,
    rows_of,
    study_place,
    told,
    told_issue,
)
from fhir_gateway.mapping.v2 import Delimiters, Message, Segment
from fhir_gateway.mapping.v2_charset import Decoded
from fhir_gateway.mapping.v2_draft import Draft
from fhir_gateway.mapping.v2_messages import map_message
from fhir_gateway.mapping.v2_oru import Mapped
from fhir_gateway.mapping.v2_person import patient
from fhir_gateway.mapping.v2_time import read_time
from fhir_gateway.security.institution import Institution

#: No text of a table holds one of these; NUL as escape sign never occurs.
_SIGNS = Delimiters("\x01", "\x02", "\x03", "\x00", "\x04")

_EVENTS = {ORDERS: ("ORM", "O01"), PATIENTS: ("ADT", "A31")}
_REPORT_EVENT = ("ORU", "R01")


class Taken(NamedTuple):
    """What a group of rows becomes, and the rows as they were read. `study` is an ImagingStudy
    that adds to what is stored of it."""

    mapped: Mapped
    rows: list[Row]
    study: dict[str, Any] | None = None


def map_group(table: TableMap, group: Group, institution: Institution, *, mappings: str) -> Taken:
    """The resources of a group. Raises with the lines and columns that are wrong."""
    rows = rows_of(table, group)
    try:
        if table.kind == STUDIES:
            return _study(table, rows, institution, mappings)
        mapped = map_message(_message(table, rows), institution, folder=f"{mappings}/v2")
    except GatewayError as error:
        raise told(table, rows, error) from None
    assert isinstance(mapped, Mapped)  # only ADT^A40 and A37 are statements
    placed = placer(table, rows)
    warnings = [told_issue(issue, placed) for issue in mapped.warnings]
    return Taken(mapped._replace(warnings=warnings), rows)


# -- the message -----------------------------------------------------------------------------------


def _message(table: TableMap, rows: Sequence[Row]) -> Message:
    first = rows[0].said
    kind, event = _EVENTS.get(table.kind, _REPORT_EVENT)
    msh = _segment("MSH", 1, {Place("MSH", 1): "\x01", Place("MSH", 9): kind,
                              Place("MSH", 9, 2): event, Place("MSH", 10): "table",
                              Place("MSH", 12): "2.5.1"})  # fmt: skip
    segments = [msh, _pid(first)]
    if visit := _said(first, "PV1"):
        segments.append(_segment("PV1", 1, visit))
    if table.kind == ORDERS:
        segments += _order(first)
    elif table.kind != PATIENTS:
        segments += _report(table, rows)
    return Message(msh, segments, Decoded("", "utf-8", "", None))


def _order(said: Mapping[str, str]) -> list[Segment]:
    """ORC and OBR. A status alone is the answer to a request for it (ORC-1 SR, ORC-5)."""
    orc = {Place("ORC", 1): "SR"} | _said(said, "ORC")
    return [_segment("ORC", 1, orc), _segment("OBR", 1, _said(said, "OBR", "order."))]


def _report(table: TableMap, rows: Sequence[Row]) -> list[Segment]:
    first = rows[0].said
    report = {name: text for name, text in first.items() if not name.startswith("result.")}
    obr = _said(report, "OBR")
    spm: dict[Place, str] = {}
    if "specimen.number" in report:
        spm = _said(report, "SPM")
        for component in (1, 2, 3):
            spm[Place("SPM", 4, component)] = obr.pop(Place("OBR", 15, 1, component), "")
    segments = [_segment("OBR", 1, obr)]
    if note := report.get("report.note"):
        segments.append(_segment("NTE", 1, {Place("NTE", 3): note}))
    segments += _results(rows) if table.kind == RESULTS else _texts(table, report)
    return [*segments, _segment("SPM", 1, spm)] if spm else segments


def _results(rows: Sequence[Row]) -> list[Segment]:
    """An OBX for each row, with its note."""
    segments: list[Segment] = []
    for number, row in enumerate(rows, start=1):
        segments.append(_segment("OBX", number, _said(row.said, "OBX")))
        if note := row.said.get("result.note"):
            segments.append(_segment("NTE", number + 1, {Place("NTE", 3): note}))
    return segments


#: Codes that table 0123 (reports) and table 0085 (results) use for different things.
_TEXT_STATUS = {"A": "P", "M": "C", "N": "I", "S": "I"}


def _texts(table: TableMap, report: Mapping[str, str]) -> list[Segment]:
    """An OBX for each text of a report; they have the status of the report."""
    status = report.get("report.status", "")
    status = _TEXT_STATUS.get(status.upper(), status)
    segments: list[Segment] = []
    for field in PARTS:
        if text := report.get(field):
            code, name = table.parts[field]
            segments.append(_segment("OBX", len(segments) + 1, {
                Place("OBX", 2): "TX", Place("OBX", 3): code, Place("OBX", 3, 2): name,
                Place("OBX", 5): text, Place("OBX", 11): status,
            }))  # fmt: skip
    return segments


def _pid(said: Mapping[str, str]) -> Segment:
    """PID, with further numbers as repetitions of PID-3 that name their type (CX.5)."""
    places = _said(said, "PID")
    typed = [(said[field], type) for field, type in NUMBERS.items() if field in said]
    if said.get(DOCUMENT_TYPE) and "patient.document" in said:
        del places[PLACES["patient.document"]]
        typed.insert(0, (said["patient.document"], said[DOCUMENT_TYPE]))
    own = places.pop(PLACES["patient.number"], "")
    numbers = [own] if own else []
    numbers += [f"{value}{_SIGNS.component * 4}{type}" for value, type in typed]
    if numbers:
        places[Place("PID", 3)] = _SIGNS.repetition.join(numbers)
    return _segment("PID", 1, places)


def _said(said: Mapping[str, str], segment: str, prefix: str = "") -> dict[Place, str]:
    """The places of a segment that a row fills."""
    return {
        place: text
        for field, text in said.items()
        if (place := PLACES.get(field)) is not None
        and place.segment == segment
        and field.startswith(prefix)
    }


def _segment(name: str, number: int, places: Mapping[Place, str]) -> Segment:
    fields: dict[int, dict[int, dict[int, str]]] = {}
    for place, text in places.items():
        component = fields.setdefault(place.field, {}).setdefault(place.component, {})
        component[place.subcomponent] = text
    written = [name, *[""] * max(fields, default=0)]
    for n, components in fields.items():
        written[n] = _joined(
            {c: _joined(subs, _SIGNS.subcomponent) for c, subs in components.items()},
            _SIGNS.component,
        )
    return Segment(name, number, written, _SIGNS)


def _joined(parts: Mapping[int, str], sign: str) -> str:
    return sign.join(parts.get(n, "") for n in range(1, max(parts) + 1))


# -- studies ---------------------------------------------------------------------------------------


def _study(table: TableMap, rows: Sequence[Row], institution: Institution, mappings: str) -> Taken:
    """The Patient, and the ImagingStudy of all rows: each is a series, or an image of one."""
    from fhir_gateway.mapping.dicom import join_studies, study_of_header  # noqa: PLC0415 - half a second

    draft = Draft(institution, f"{mappings}/v2")
    subject = patient(draft, _pid(rows[0].said))
    joined: dict[str, Any] | None = None
    for row in rows:
        try:
            study = study_of_header(_header(row), institution, f"{mappings}/dicom", subject)
        except GatewayError as error:
            raise type(error)(issues=tuple(
                Issue(one.code, f"{(place := study_place(table, row, one.expression or ''))}: "
                      f"{one.diagnostics}", place, one.rule)
                for one in error.issues
            )) from None  # fmt: skip
        if "started" not in study:
            place = study_place(table, row, "StudyDate")
            raise Unprocessable(f"{place}: the time of the study is missing", expression=place,
                                rule="table-required")  # fmt: skip
        joined = study if joined is None else join_studies(joined, study)
    assert joined is not None
    _doubt_zone(draft, joined, rows[0])
    return Taken(Mapped(draft.resources, [], draft.warnings), list(rows), joined)


def _doubt_zone(draft: Draft, study: dict[str, Any], row: Row) -> None:
    moment = read_time(row.said.get("study.date", ""), draft.institution.zone)
    if moment is not None and moment.local and not draft.institution.zone_registered:
        study["meta"] = {"tag": [{"system": INTAKE_SYSTEM, "code": UNKNOWN_ZONE}]}


def _header(row: Row) -> dict[str, Any]:
    """The row as the header of an image; what DICOM has as a sequence is one here too."""
    said = row.said
    header: dict[str, Any] = {STUDY[name]: text for name, text in said.items() if name in STUDY}
    if "series.instances" in said:
        header["NumberOfSeriesRelatedInstances"] = said["series.instances"]
    code, name = said.get("study.code", ""), said.get("study.name", "")
    if code:
        header["ProcedureCodeSequence"] = [{"CodeValue": code, "CodeMeaning": name}]
    elif name:
        header["RequestedProcedureDescription"] = name
    return header
