"""DICOM headers: real files, character sets, studies of several files, hostile bytes."""

from __future__ import annotations

import struct
from collections import Counter
from dataclasses import replace
from functools import cache
from io import BytesIO
from pathlib import Path

import pydicom
import pytest
from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from mapping_cases import MAPPINGS, SECOND
from pydicom.data import get_charset_files, get_testdata_file
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from fhir_gateway.errors import GatewayError
from fhir_gateway.fhir.validate import issues
from fhir_gateway.fhir.wire import parse, render
from fhir_gateway.mapping.dicom import Image, join_studies, read_image
from fhir_gateway.mapping.doors import CONTRAST_URL, INTAKE_SYSTEM, UNKNOWN_ZONE
from fhir_gateway.security.institution import Institution

UTF8 = Institution(id="second", name="示范市第二医院", charset="UTF-8")


def read(raw: bytes, institution: Institution = SECOND) -> Image:
    return read_image(raw, institution, mappings=MAPPINGS)


def header(**elements: object) -> bytes:
    """A file of one CT image; None leaves an element out."""
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.file_meta.MediaStorageSOPClassUID = CTImageStorage
    data.file_meta.MediaStorageSOPInstanceUID = "1.2.3.4.5"
    values = {
        "SOPClassUID": CTImageStorage, "SOPInstanceUID": "1.2.3.4.5",
        "StudyInstanceUID": "1.2.3", "SeriesInstanceUID": "1.2.3.4", "PatientID": "700123",
        "PatientName": "ZHANG^Shiyi", "PatientSex": "M", "PatientBirthDate": "19580312",
        "StudyDate": "20261118", "StudyTime": "081200.5", "Modality": "CT",
        "BodyPartExamined": "CHEST", "SeriesNumber": 1, "InstanceNumber": 1,
    } | elements  # fmt: skip
    for name, value in values.items():
        if value is not None:
            setattr(data, name, value)
    out = BytesIO()
    data.save_as(out, enforce_file_format=True)
    return out.getvalue()


def named(text: bytes, charset: str | None) -> bytes:
    """A header whose patient name is these bytes, whatever its character set says."""
    marker = "N" * (len(text) + len(text) % 2)
    raw = header(PatientName=marker, SpecificCharacterSet=charset)
    return raw.replace(marker.encode(), text.ljust(len(marker)))


def test_a_header_becomes_a_study_with_one_instance() -> None:
    found = read(header(AccessionNumber="A77", StudyDescription="胸部CT平扫",
                        SpecificCharacterSet="ISO_IR 192"))  # fmt: skip
    assert found.patient["name"] == [{"text": "ZHANG Shiyi", "family": "ZHANG", "given": ["Shiyi"]}]
    study = found.study
    assert study["started"] == "2026-11-18T08:12:00.5+08:00"
    assert study["identifier"][0]["value"] == "urn:oid:1.2.3"
    assert study["identifier"][1]["value"] == "A77"
    assert study["procedureCode"] == [{"text": "胸部CT平扫"}]
    (series,) = study["series"]
    assert series["bodySite"] == {
        "system": "http://snomed.info/sct", "code": "51185008", "display": "CHEST",
    }  # fmt: skip
    assert series["performer"] == [{"actor": {"reference": "Organization/second"}}]
    assert (series["uid"], series["instance"][0]["uid"]) == ("1.2.3.4", "1.2.3.4.5")


def test_the_contrast_agent_stands_on_its_series() -> None:
    agent = {"url": CONTRAST_URL, "valueString": "ISOVUE 300"}
    given = read(header(ContrastBolusAgent="ISOVUE 300", SeriesInstanceUID="1.2.3.9")).study
    (series,) = given["series"]
    assert series["extension"] == [agent]
    plain = read(header()).study
    assert "extension" not in plain["series"][0]
    joined = join_studies(plain, given)
    assert [one.get("extension") for one in joined["series"]] == [None, [agent]]
    # an image without the element does not take back what another one of its series says
    more = read(header(SeriesInstanceUID="1.2.3.9", SOPInstanceUID="1.2.3.4.6")).study
    assert join_studies(given, more)["series"][0]["extension"] == [agent]


def test_a_time_of_an_institution_without_a_registered_zone_is_doubted() -> None:
    nowhere = replace(SECOND, zone_registered=False)
    tag = [{"system": INTAKE_SYSTEM, "code": UNKNOWN_ZONE}]
    assert read(header(), nowhere).study["meta"] == {"tag": tag}
    assert "meta" not in read(header(), SECOND).study
    assert "meta" not in read(header(TimezoneOffsetFromUTC="+0800"), nowhere).study
    assert "meta" not in read(header(StudyTime=None), nowhere).study


def test_the_patient_is_the_one_of_the_institutions_v2_messages() -> None:
    from mapping_cases import HEADER, ORDER, PERSON, mapped

    by_v2 = mapped(HEADER, PERSON, ORDER, "OBX|1|NM|A||1||||||F").resources[0]
    assert read(header()).patient["id"] == by_v2["id"]
    assert read(header(IssuerOfPatientID="another hospital")).patient["id"] != by_v2["id"]


@pytest.mark.parametrize(
    ("text", "charset", "institution"),
    [
        ("张三".encode(), "ISO_IR 192", SECOND), ("张三".encode("gb18030"), "GB18030", SECOND),
        ("张三".encode("gb18030"), "GBK", SECOND), ("张三".encode("gb18030"), None, SECOND),
        ("张三".encode("gb18030"), "ISO_IR 100", SECOND), ("张三".encode(), None, UTF8),
        ("张三".encode(), "ISO_IR 100", SECOND),
    ],
)  # fmt: skip
def test_a_name_is_read_in_the_character_set_that_its_bytes_prove(
    text: bytes, charset: str | None, institution: Institution
) -> None:
    assert read(named(text, charset), institution).patient["name"] == [{"text": "张三"}]


def test_a_name_that_is_not_in_the_declared_set_is_refused() -> None:
    with pytest.raises(GatewayError) as caught:
        read(named("张三".encode("gb18030"), "ISO_IR 192"))
    assert caught.value.issues[0].expression == "PatientName"


@pytest.mark.parametrize(
    "path", sorted(map(Path, get_charset_files("*.dcm"))), ids=lambda p: p.stem
)
def test_the_names_of_other_alphabets_are_read(path: Path) -> None:
    raw = path.read_bytes()
    try:
        text = read(raw).patient["name"][0]["text"]
    except GatewayError as error:
        assert error.issues[0].rule in ("dicom-uid", "dicom")
    else:
        assert "�" not in text and text.isprintable()


def test_files_of_a_study_join_in_any_order_and_any_number_of_times() -> None:
    files = [
        header(SeriesInstanceUID=f"1.2.3.{s}", SOPInstanceUID=f"1.2.3.{s}.{n}", SeriesNumber=s,
               InstanceNumber=n, Modality="CT" if s < 3 else "SR")
        for s in (1, 2, 3) for n in (1, 2)
    ]  # fmt: skip
    studies = [read(file).study for file in files]

    def joined(order: list[int]) -> dict[str, object]:
        study = studies[order[0]]
        for n in order[1:]:
            study = join_studies(study, studies[n])
        return study

    study = joined([0, 1, 2, 3, 4, 5])
    assert (study["numberOfSeries"], study["numberOfInstances"]) == (3, 6)
    assert [coding["code"] for coding in study["modality"]] == ["CT", "SR"]
    assert joined([5, 0, 3, 1, 4, 2, 2, 0]) == study


def test_mapped_headers_are_sound_by_the_definitions() -> None:
    found = read(Path(get_testdata_file("CT_small.dcm")).read_bytes())
    faults = [
        issue for resource in (found.patient, found.study)
        for issue in issues(parse(render(resource)))
    ]  # fmt: skip
    assert faults == []


@pytest.mark.parametrize(
    ("elements", "rule"),
    [
        ({"StudyInstanceUID": None}, "dicom-uid"), ({"SeriesInstanceUID": None}, "dicom-uid"),
        ({"SOPInstanceUID": None}, "dicom-uid"), ({"PatientID": None}, "dicom-patient"),
    ],
)  # fmt: skip
def test_a_header_without_what_makes_its_ids_is_refused(
    elements: dict[str, object], rule: str
) -> None:
    with pytest.raises(GatewayError) as caught:
        read(header(**elements))
    assert caught.value.issues[0].rule == rule


def nested(depth: int) -> bytes:
    """Sequences of undefined length inside each other, none of them closed."""
    item = (
        struct.pack("<HH", 0x0008, 0x1032)
        + b"SQ\0\0"
        + b"\xff" * 4
        + b"\xfe\xff\0\xe0"
        + b"\xff" * 4
    )
    return header() + item * depth


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"\0" * 132, b"\0" * 128 + b"DICM", header()[:300], nested(20_000),
        header() + struct.pack("<HH", 0x0010, 0x4000) + b"LT" + b"\0\0" + b"\xf0" * 4,
        header().replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.1.99"),
    ],
    ids=["empty", "no magic", "magic alone", "cut", "nested", "length lies", "deflated"],
)  # fmt: skip
def test_hostile_files_are_refused_or_read_but_never_crash(raw: bytes) -> None:
    try:
        found = read(raw)
    except GatewayError as error:
        assert error.status < 500
    else:
        assert found.patient["id"]


@cache
def sample() -> bytes:
    return header()


@settings(max_examples=examples(150), deadline=None)
@given(st.lists(st.tuples(st.integers(128, 900), st.integers(0, 255)), min_size=1, max_size=8))
def test_a_damaged_header_is_refused_or_read(changes: list[tuple[int, int]]) -> None:
    raw = bytearray(sample())
    for place, value in changes:
        raw[place % len(raw)] = value
    try:
        read(bytes(raw))
    except GatewayError as error:
        assert error.status < 500


def test_all_files_that_pydicom_ships_are_read_or_refused() -> None:
    outcomes: Counter[str] = Counter()
    for path in sorted(Path(pydicom.__file__).parent.glob("data/test_files/*.dcm")):
        try:
            read(path.read_bytes())
            outcomes["read"] += 1
        except GatewayError as error:
            outcomes[str(error.issues[0].rule)] += 1
    assert outcomes["read"] > 40
    assert set(outcomes) <= {"read", "dicom", "dicom-uid", "dicom-patient", "dicom-deflated"}
