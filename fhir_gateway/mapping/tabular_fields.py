"""The fields that a column map may name, and the place of HL7 v2 that each stands for.

A row of a table says what a v2 message would say, so it is put into the same segments and mapped by
the same functions: what comes of it cannot differ. `PID-7` is a field, `OBX-3.2` a component,
`OBR-15.1.2` a subcomponent. What a hospital calls its columns stands in its map, never here.
"""

from __future__ import annotations

from typing import NamedTuple

KINDS = ("results", "reports", "orders", "studies", "patients")
RESULTS, REPORTS, ORDERS, STUDIES, PATIENTS = KINDS


class Place(NamedTuple):
    """A place of HL7 v2: segment, field, component, subcomponent (1 where none is said)."""

    segment: str
    field: int
    component: int = 1
    subcomponent: int = 1


#: Fields of the person and the visit: for every kind.
PERSON: dict[str, Place] = {
    "patient.number": Place("PID", 3),
    "patient.document": Place("PID", 19),
    "patient.name": Place("PID", 5),
    "patient.birth_date": Place("PID", 7),
    "patient.sex": Place("PID", 8),
    "patient.address": Place("PID", 11),
    "patient.phone": Place("PID", 13),
}
#: Further numbers of the person: field -> the type that CX.5 gives them (identifier-types.csv).
#: `patient.document_type` names the type of `patient.document`, where it is no resident's number.
NUMBERS: dict[str, str] = {
    "patient.health_card": "HC",
    "patient.social_card": "SIN",
    "patient.insurance": "医保号",
}
DOCUMENT_TYPE = "patient.document_type"

VISIT: dict[str, Place] = {
    "visit.class": Place("PV1", 2),
    "visit.place": Place("PV1", 3),
    "visit.number": Place("PV1", 19),
    "visit.admitted": Place("PV1", 44),
    "visit.discharged": Place("PV1", 45),
}

_ORDER: dict[str, Place] = {
    "order.number": Place("OBR", 2),
    "order.placed": Place("OBR", 6),
    "order.priority": Place("OBR", 5),
    "order.doctor": Place("OBR", 16, 2),
}

REPORT: dict[str, Place] = {
    **_ORDER,
    "report.number": Place("OBR", 3),
    "report.code": Place("OBR", 4),
    "report.name": Place("OBR", 4, 2),
    "report.system": Place("OBR", 4, 3),
    "report.collected": Place("OBR", 7),
    "report.ended": Place("OBR", 8),
    "report.received": Place("OBR", 14),
    "report.issued": Place("OBR", 22),
    "report.section": Place("OBR", 24),
    "report.status": Place("OBR", 25),
    "report.doctor": Place("OBR", 32, 1, 2),
    "report.note": Place("NTE", 3),
    "specimen.number": Place("SPM", 2),
    "specimen.code": Place("OBR", 15),
    "specimen.name": Place("OBR", 15, 1, 2),
    "specimen.system": Place("OBR", 15, 1, 3),
}

RESULT: dict[str, Place] = {
    "result.type": Place("OBX", 2),
    "result.code": Place("OBX", 3),
    "result.name": Place("OBX", 3, 2),
    "result.system": Place("OBX", 3, 3),
    "result.abbreviation": Place("OBX", 3, 5),
    "result.sub_id": Place("OBX", 4),
    "result.value": Place("OBX", 5),
    "result.unit": Place("OBX", 6),
    "result.range": Place("OBX", 7),
    "result.flag": Place("OBX", 8),
    "result.status": Place("OBX", 11),
    "result.time": Place("OBX", 14),
    "result.doctor": Place("OBX", 16, 2),
    "result.method": Place("OBX", 17, 2),
    "result.device": Place("OBX", 18),
    "result.analysed": Place("OBX", 19),
    "result.laboratory": Place("OBX", 23),
    "result.note": Place("NTE", 3),
}
#: The two halves of a range that stands in two columns; together they are `result.range`.
RANGE_HALVES = ("result.low", "result.high")

#: The texts of a report that is one row, each an OBX of its own: field -> code and name of OBX-3,
#: which report-parts.csv knows. A map may say others.
PARTS: dict[str, tuple[str, str]] = {
    "report.findings": ("GDT", "检查所见"),
    "report.conclusion": ("IMP", "检查结论"),
}

ORDER: dict[str, Place] = {
    **_ORDER,
    "order.code": Place("OBR", 4),
    "order.name": Place("OBR", 4, 2),
    "order.system": Place("OBR", 4, 3),
    "order.control": Place("ORC", 1),
    "order.report": Place("ORC", 3),
    "order.status": Place("ORC", 5),
    "order.stated": Place("ORC", 9),
}

#: The fields of a study by the attribute of DICOM that says the same (PS3.6).
STUDY: dict[str, str] = {
    "study.uid": "StudyInstanceUID",
    "study.accession": "AccessionNumber",
    "study.date": "StudyDate",
    "study.description": "StudyDescription",
    "study.doctor": "ReferringPhysicianName",
    "series.uid": "SeriesInstanceUID",
    "series.number": "SeriesNumber",
    "series.modality": "Modality",
    "series.body_part": "BodyPartExamined",
    "series.side": "Laterality",
    "series.description": "SeriesDescription",
    "series.contrast": "ContrastBolusAgent",
    "instance.uid": "SOPInstanceUID",
    "instance.class": "SOPClassUID",
    "instance.number": "InstanceNumber",
}
#: Fields of a study that DICOM's header has no attribute for: its code, and how many images.
STUDY_MORE = ("study.code", "study.name", "series.instances")

_PATIENT = frozenset({*PERSON, *NUMBERS, DOCUMENT_TYPE})

#: kind -> the fields that its maps may name.
FIELDS: dict[str, frozenset[str]] = {
    RESULTS: _PATIENT | {*VISIT, *REPORT, *RESULT, *RANGE_HALVES},
    REPORTS: _PATIENT | {*VISIT, *REPORT, *PARTS},
    ORDERS: _PATIENT | {*VISIT, *ORDER},
    STUDIES: _PATIENT | {*STUDY, *STUDY_MORE},
    PATIENTS: _PATIENT,
}

#: kind -> fields of which a map must name at least one of each tuple.
REQUIRED: dict[str, tuple[tuple[str, ...], ...]] = {
    RESULTS: (
        ("report.number",), ("report.code", "report.name"), ("result.code", "result.name"),
        ("result.value",), ("result.status",),
    ),
    REPORTS: (
        ("report.number",), ("report.code", "report.name"), ("report.status",), tuple(PARTS),
    ),
    ORDERS: (("order.number",), ("order.code", "order.name"), ("order.status", "order.control")),
    STUDIES: (("study.uid",), ("series.uid",), ("series.modality",), ("study.date",)),
    PATIENTS: (("patient.name",),),
}  # fmt: skip
OWN_NUMBER = ("patient.number", "patient.document")

#: kind -> the fields whose columns tell which rows belong together, where a map says no others.
KEYS: dict[str, tuple[str, ...]] = {
    RESULTS: ("report.number", "report.code", "report.name"),
    REPORTS: ("report.number", "report.code", "report.name"),
    ORDERS: ("order.number", "order.code", "order.name"),
    STUDIES: ("study.uid",),
    PATIENTS: ("patient.number", "patient.document"),
}

#: Fields that may differ between the rows of one group; all others must say the same in each.
VARYING: dict[str, frozenset[str]] = {
    RESULTS: frozenset({*RESULT, *RANGE_HALVES}),
    STUDIES: frozenset(name for name in (*STUDY, *STUDY_MORE) if not name.startswith("study.")),
}

#: Fields that hold a time.
TIMES = frozenset({
    "patient.birth_date", "visit.admitted", "visit.discharged", "order.placed", "order.stated",
    "report.collected", "report.ended", "report.received", "report.issued", "result.time",
    "result.analysed", "study.date",
})  # fmt: skip

#: field -> its place in a message, for all kinds that become one.
PLACES: dict[str, Place] = {**PERSON, **VISIT, **REPORT, **RESULT, **ORDER}
