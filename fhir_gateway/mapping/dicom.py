"""DICOM headers -> Patient and ImagingStudy (PS3.3 C.7, PS3.10; FHIR R4 ImagingStudy).

Only the header is read: parsing stops before the pixels, and what is longer than a header has any
reason to be is refused before it is parsed. Text is in the file's own character set (0008,0005).
The study's id comes from its StudyInstanceUID, so that file after file adds to the same study.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import BytesIO
from typing import Any, NamedTuple

import pydicom
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset

from fhir_gateway.errors import NotSupported, Structure, TooLong, Unprocessable
from fhir_gateway.mapping.doors import CONTRAST_URL, INTAKE_SYSTEM, UNKNOWN_ZONE
from fhir_gateway.mapping.ids import business_id
from fhir_gateway.mapping.tables import look_up, table
from fhir_gateway.mapping.v2_charset import choose, codec_of
from fhir_gateway.mapping.v2_draft import clean, join_name, local_system
from fhir_gateway.mapping.v2_time import read_date, read_time
from fhir_gateway.security.institution import Institution

_DCM = "http://dicom.nema.org/resources/ontology/DCM"
_SCT = "http://snomed.info/sct"
_UID = re.compile(r"[0-2](?:\.(?:0|[1-9][0-9]*))+")

#: Longest value of LO (PS3.5 6.2).
_LONG_STRING = 64

#: How many images the series has, where a header names none of them.
_IN_SERIES = "NumberOfSeriesRelatedInstances"

#: Enough for any header with its sequences; pixels do not count.
MAX_HEADER = 8_000_000

#: Inflating has no bound that the header states: a file of kilobytes can hold gigabytes.
_DEFLATED = b"1.2.840.10008.1.2.1.99"

_TAGS = [
    "SpecificCharacterSet", "SOPClassUID", "SOPInstanceUID", "StudyInstanceUID",
    "SeriesInstanceUID", "StudyDate", "StudyTime", "SeriesDate", "SeriesTime",
    "TimezoneOffsetFromUTC", "AccessionNumber", "Modality", "PatientID", "IssuerOfPatientID",
    "PatientName", "PatientBirthDate", "PatientSex", "StudyDescription", "SeriesDescription",
    "SeriesNumber", "InstanceNumber", "BodyPartExamined", "Laterality", "ReferringPhysicianName",
    "ProcedureCodeSequence", "RequestedProcedureDescription", "RequestedProcedureCodeSequence",
    "ContrastBolusAgent",
]  # fmt: skip


class Image(NamedTuple):
    """One file: its Patient, its ImagingStudy of one series and one instance, and the bytes that
    they were read from."""

    patient: dict[str, Any]
    study: dict[str, Any]
    header: bytes


def is_dicom(head: bytes) -> bool:
    """Whether a file begins as PS3.10 says: 128 bytes of preamble and DICM."""
    return head[128:132] == b"DICM"


def read_image(raw: bytes, institution: Institution, *, mappings: str) -> Image:
    """The resources of one file, by the tables of the folder `mappings`.

    Raises Structure, TooLong, NotSupported or Unprocessable.
    """
    header, length = _read(raw, codec_of(institution.charset, f"{mappings}/v2"))
    _uid(header, "SOPInstanceUID")
    subject = _patient(header, institution)
    reference = {"reference": f"Patient/{subject['id']}"}
    study = study_of_header(header, institution, f"{mappings}/dicom", reference)
    if not institution.zone_registered and _has_local_time(header):
        study["meta"] = {"tag": [{"system": INTAKE_SYSTEM, "code": UNKNOWN_ZONE}]}
    return Image(subject, study, raw[:length])


#: A header by its keywords: pydicom's, or what a table says of a series or an image.
Header = Dataset | Mapping[str, Any]


def study_of_header(
    header: Header, institution: Institution, folder: str, subject: dict[str, str]
) -> dict[str, Any]:
    """The ImagingStudy of one series and, where the header names one, of one image.

    Raises Unprocessable for a number of study, series or image that is none.
    """
    study_uid, series_uid = _uid(header, "StudyInstanceUID"), _uid(header, "SeriesInstanceUID")
    instance_uid = _uid(header, "SOPInstanceUID") if _text(header, "SOPInstanceUID") else ""
    series = _series(header, folder, series_uid, instance_uid, institution)
    description = _text(header, "StudyDescription")
    study = {
        "resourceType": "ImagingStudy",
        "id": business_id(institution.id, "ImagingStudy", study_uid),
        "identifier": _identifiers(header, institution, study_uid),
        "status": "available",
        "modality": [series["modality"]],
        "subject": subject,
        "started": _started(header, institution, "StudyDate", "StudyTime"),
        "referrer": _display(header, "ReferringPhysicianName"),
        "numberOfSeries": 1,
        "numberOfInstances": series.get("numberOfInstances"),
        "procedureCode": _procedures(header, institution, description),
        "description": description,
        "series": [series],
    }
    return clean(study)


def _has_local_time(header: Dataset) -> bool:
    return bool(_text(header, "StudyTime")) and not _text(header, "TimezoneOffsetFromUTC")


def _identifiers(header: Header, institution: Institution, study_uid: str) -> list[dict[str, Any]]:
    """The study's UID, and the number of the order it was made for."""
    identifiers: list[dict[str, Any]] = [
        {"system": "urn:dicom:uid", "value": f"urn:oid:{study_uid}"}
    ]
    if accession := _text(header, "AccessionNumber"):
        coding = {"system": "http://terminology.hl7.org/CodeSystem/v2-0203", "code": "ACSN"}
        identifiers.append(
            {
                "type": {"coding": [coding]},
                "system": institution.system("order"),
                "value": accession,
            }
        )
    return identifiers


def _read(raw: bytes, default_codec: str) -> tuple[Dataset, int]:
    """The header and where it ends; every element that we use is read, so that a lie shows now."""
    if not is_dicom(raw[:132]):
        raise Structure("This is no DICOM file: DICM is missing at byte 128", rule="dicom")
    if _DEFLATED in raw[:MAX_HEADER]:
        raise NotSupported("Deflated DICOM files are not read", rule="dicom-deflated")
    file = BytesIO(raw[:MAX_HEADER])
    try:
        with _strict():
            header = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=_TAGS)
            length = file.tell()
            header.decode()
            elements = list(header.iterall())
    except (RecursionError, MemoryError):
        raise TooLong("The DICOM header is too deep or too long", rule="dicom") from None
    except Exception:  # pydicom raises a dozen kinds for a damaged file
        raise Structure(
            "The DICOM header cannot be read: it is damaged or not DICOM", rule="dicom"
        ) from None
    charset = str(header.get("SpecificCharacterSet") or "")
    codec = _CODECS.get(charset, "") if charset else default_codec
    for element in elements:
        if element.VR in _TEXTS and element.value:
            _respell(element, codec, declared=charset)
    return header, length


#: Specific Character Set whose text pydicom gives back byte by byte, and so can be tried again.
_CODECS = {"ISO_IR 6": "latin-1", "ISO_IR 100": "latin-1", "GB18030": "gb18030", "GBK": "gb18030"}
_TEXTS = frozenset({"PN", "LO", "SH", "LT", "ST", "UT", "UC"})


def _respell(element: DataElement, codec: str, *, declared: str) -> None:
    """Reads a text in the character set that its bytes prove; many files declare none, or Latin.

    Raises Structure when they prove none.
    """
    text = str(element.value)
    if text.isascii() or element.VM > 1:
        return
    if "\ufffd" in text:
        raise Structure(
            "A text of the DICOM header is not in the character set that (0008,0005) names",
            expression=element.keyword,
            rule="dicom-charset",
        )
    if codec:
        raw = text.encode(_CODECS.get(declared, "latin-1") if declared else "latin-1", "replace")
        element.value = choose(raw, codec)[0]


@contextmanager
def _strict() -> Iterator[None]:
    """pydicom warns of values that it repairs; what matters to us is checked below."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _text(header: Header, name: str) -> str:
    """One value as text, without padding or control characters; "" when absent."""
    value = header.get(name)
    if value is None:
        return ""
    if isinstance(value, pydicom.multival.MultiValue):
        value = value[0] if value else ""
    text = str(value).replace("\0", " ")
    return " ".join("".join(c if c >= " " else " " for c in text).split())


def _uid(header: Header, name: str) -> str:
    uid = _text(header, name)
    if len(uid) > 64 or not _UID.fullmatch(uid):
        raise Unprocessable(f"{name} is missing or no UID", expression=name, rule="dicom-uid")
    return uid


def _patient(header: Dataset, institution: Institution) -> dict[str, Any]:
    """The Patient of the header. PatientID is the institution's patient number (IHE SWF), unless
    IssuerOfPatientID says that somebody else gave it."""
    number = _text(header, "PatientID")
    if not number:
        raise Unprocessable("PatientID is missing", expression="PatientID", rule="dicom-patient")
    issuer = _text(header, "IssuerOfPatientID")
    own = not issuer or issuer in (institution.id, institution.name, *institution.facilities)
    key = (number,) if own else ("issuer", issuer, number)
    system = institution.system("patient" if own else "foreign-patient")
    birth = _text(header, "PatientBirthDate")
    gender = {"M": "male", "F": "female", "O": "other"}.get(_text(header, "PatientSex"))
    return clean(
        {
            "resourceType": "Patient",
            "id": business_id(institution.id, "Patient", *key),
            "identifier": [{"system": system, "value": number}],
            "name": _names(header),
            "gender": gender,
            "birthDate": read_date(birth) if birth else None,
            "managingOrganization": {"reference": f"Organization/{institution.id}"},
        }
    )


def _names(header: Dataset) -> list[dict[str, Any]]:
    """PN has up to three groups: alphabetic=ideographic=phonetic; the ideographic one is first."""
    groups = _text(header, "PatientName").split("=")
    names = []
    for group in [*groups[1:2], *groups[:1]]:
        parts = [part.strip() for part in group.split("^")]
        given = [part for part in parts[1:3] if part]
        text = join_name(parts[0], " ".join(given))
        if text:
            split = {"family": parts[0], "given": given} if given and parts[0] else {}
            names.append(clean({"text": text, **split}))
    return names


def _started(header: Header, institution: Institution, day: str, time: str) -> str:
    """Date and time of the study as dateTime; without a time, the day."""
    date = _text(header, day).replace(".", "")
    clock = _text(header, time).replace(":", "")
    clock = clock[:6] + (clock[6:11] if clock[6:7] == "." else "")
    offset = _text(header, "TimezoneOffsetFromUTC")
    moment = read_time(date + clock + (offset if clock else ""), institution.zone)
    moment = moment or read_time(date, institution.zone)
    return moment.text if moment else ""


def _series(
    header: Header, folder: str, series_uid: str, instance_uid: str, institution: Institution
) -> dict[str, Any]:
    modality = _text(header, "Modality") or "OT"
    row = look_up(table(folder, "modalities"), modality)
    coding = {"system": _DCM, "code": row.code if row else "".join(modality.split())}
    if row and row.display:
        coding["display"] = row.display
    sop_class = _text(header, "SOPClassUID")
    instance = {
        "uid": instance_uid,
        "sopClass": {"system": "urn:ietf:rfc:3986", "code": f"urn:oid:{sop_class}"}
        if _UID.fullmatch(sop_class)
        else {"display": "unknown"},
        "number": _number(header, "InstanceNumber"),
    }
    agent = _text(header, "ContrastBolusAgent")[:_LONG_STRING]
    return clean(
        {
            "extension": [{"url": CONTRAST_URL, "valueString": agent}] if agent else [],
            "uid": series_uid,
            "number": _number(header, "SeriesNumber"),
            "modality": coding,
            "description": _text(header, "SeriesDescription"),
            "numberOfInstances": 1 if instance_uid else _number(header, _IN_SERIES),
            "bodySite": _body_site(header, folder),
            "laterality": _laterality(header),
            "started": _started(header, institution, "SeriesDate", "SeriesTime"),
            "performer": [{"actor": {"reference": f"Organization/{institution.id}"}}],
            "instance": [clean(instance)] if instance_uid else [],
        }
    )


def _number(header: Header, name: str) -> int | None:
    text = _text(header, name)
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None


def _body_site(header: Header, folder: str) -> dict[str, str]:
    """Body Part Examined (PS3.16 Annex L) as SNOMED CT where the table knows it."""
    text = _text(header, "BodyPartExamined")
    if not text:
        return {}
    row = look_up(table(folder, "body-parts"), text)
    if row is None:
        return {"display": text}
    return {"system": _SCT, "code": row.code, "display": text}


def _laterality(header: Header) -> dict[str, str]:
    side = {"R": ("24028007", "Right"), "L": ("7771000", "Left"), "B": ("51440002", "Both")}
    found = side.get(_text(header, "Laterality"))
    return {"system": _SCT, "code": found[0], "display": found[1]} if found else {}


def _display(header: Header, name: str) -> dict[str, str]:
    text = _text(header, name).split("=")[0].replace("^", " ").strip()
    return {"display": text} if text else {}


def _procedures(header: Header, institution: Institution, description: str) -> list[dict[str, Any]]:
    """Procedure codes for the coder: of the file, in the institution's system unless coded."""
    systems = {"LN": "http://loinc.org", "SCT": _SCT, "DCM": _DCM, "SRT": ""}
    concepts: list[dict[str, Any]] = []
    for name in ("ProcedureCodeSequence", "RequestedProcedureCodeSequence"):
        for item in list(header.get(name) or [])[:20]:
            code, meaning = _text(item, "CodeValue"), _text(item, "CodeMeaning")
            scheme = _text(item, "CodingSchemeDesignator")
            system = systems.get(scheme) or local_system(institution)
            coding = clean({"system": system, "code": code, "display": meaning}) if code else {}
            concept = clean({"coding": [coding] if coding else [], "text": meaning})
            if concept and concept not in concepts:
                concepts.append(concept)
    text = _text(header, "RequestedProcedureDescription") or description
    return concepts or ([{"text": text}] if text else [])


def join_studies(stored: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """One study of two halves: series by uid, instances by uid; counts and modalities again."""
    series = {item["uid"]: dict(item) for item in stored.get("series", ())}
    for item in new.get("series", ()):
        series[item["uid"]] = _join_series(series.get(item["uid"]), item)
    joined = {k: v for k, v in stored.items() if k != "meta"} | new
    ordered = sorted(series.values(), key=lambda item: (item.get("number", 0), item["uid"]))
    modalities = {item["modality"]["code"]: item["modality"] for item in ordered}
    joined["series"] = ordered
    joined["modality"] = [modalities[code] for code in sorted(modalities)]
    joined["numberOfSeries"] = len(ordered)
    joined["numberOfInstances"] = sum(item.get("numberOfInstances", 0) for item in ordered)
    if not joined["numberOfInstances"]:
        del joined["numberOfInstances"]
    return joined


def _join_series(stored: dict[str, Any] | None, new: dict[str, Any]) -> dict[str, Any]:
    instances = {item["uid"]: item for item in (stored or {}).get("instance", ())}
    instances |= {item["uid"]: item for item in new.get("instance", ())}
    ordered = sorted(instances.values(), key=lambda item: (item.get("number", 0), item["uid"]))
    said = max(one.get("numberOfInstances", 0) for one in (stored or {}, new))
    count = {"numberOfInstances": max(len(ordered), said), "instance": ordered}
    return (stored or {}) | new | {name: value for name, value in count.items() if value}
