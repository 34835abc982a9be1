"""ORU^R01 -> FHIR: whole messages, ids that stay, habits of Chinese laboratories, refusals."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from mapping_cases import (
    DATA,
    HEADER,
    ORDER,
    PERSON,
    SECOND,
    TABLES,
    mapped,
    message,
    only,
    results,
)

from fhir_gateway.errors import GatewayError
from fhir_gateway.fhir.validate import issues
from fhir_gateway.fhir.wire import parse as parse_json
from fhir_gateway.fhir.wire import render
from fhir_gateway.mapping.v2 import parse
from fhir_gateway.mapping.v2_oru import Mapped, map_oru
from fhir_gateway.settings import CANONICAL

RESULT = "OBX|1|NM|ALT^丙氨酸氨基转移酶^L||32|U/L|9--50||||F"
SAMPLES = Path(__file__).resolve().parents[3] / "shared/data/samples/hl7v2/messages"


def liver() -> Mapped:
    raw = (DATA / "liver.hl7").read_bytes()
    return map_oru(parse(raw, default_charset="UTF-8", folder=TABLES), SECOND, folder=TABLES)


def test_a_report_becomes_the_resources_that_are_written_down() -> None:
    expected = (DATA / "liver.expected.json").read_text(encoding="utf-8")
    found = [render(resource).decode() for resource in liver().resources]
    assert found == expected.replace("{CANONICAL}", CANONICAL).splitlines()


def test_every_mapped_resource_is_sound_by_the_definitions() -> None:
    faults = {
        f"{resource['resourceType']}: {issue.diagnostics}"
        for resource in liver().resources
        for issue in issues(parse_json(render(resource)))
    }
    assert faults == set()


def test_ids_come_from_the_institution_and_its_numbers_alone() -> None:
    first = {r["id"] for r in mapped(HEADER, PERSON, ORDER, RESULT).resources}
    again = {r["id"] for r in mapped(HEADER.replace("|1|P", "|2|P"), PERSON.replace("张", "李"),
                                     ORDER.replace("|F", "|C"),
                                     RESULT.replace("|32|", "|33|")).resources}  # fmt: skip
    other = {r["id"] for r in mapped(HEADER, PERSON, ORDER.replace("R1", "R2"), RESULT).resources}
    assert first == again
    assert len(first & other) == 2  # the patient and the order stay


def test_lines_that_shift_keep_their_ids() -> None:
    before = results("OBX|1|NM|A||1||||||F", "OBX|2|NM|B||2||||||F")
    after = results("OBX|1|NM|C||9||||||F", "OBX|2|NM|A||1||||||F", "OBX|3|NM|B||2||||||F")
    assert [r["id"] for r in before] == [r["id"] for r in after[1:]]


def test_the_same_code_twice_is_two_results() -> None:
    found = results("OBX|1|NM|A||1||||||F", "OBX|2|NM|A||2||||||F", "OBX|3|NM|A|1|3||||||F")
    assert len({r["id"] for r in found}) == 3


def test_two_panels_of_one_tube_are_two_reports() -> None:
    found = mapped(HEADER, PERSON, ORDER, RESULT, ORDER.replace("SHQT^生化全套", "CRP^CRP"),
                   RESULT).resources  # fmt: skip
    assert Counter(r["resourceType"] for r in found) == Counter(
        {"DiagnosticReport": 2, "Observation": 2, "ServiceRequest": 2, "Patient": 1}
    )


def test_two_patients_in_one_message_keep_their_own_reports() -> None:
    other = PERSON.replace("700123", "700456")
    found = mapped(HEADER, PERSON, ORDER, RESULT, other, ORDER.replace("R1", "R2"), RESULT)
    subjects = [r["subject"] for r in found.resources if r["resourceType"] == "DiagnosticReport"]
    assert len({subject["reference"] for subject in subjects}) == 2


def test_the_identity_number_is_read_from_pid_19_and_from_pid_3() -> None:
    in_19 = only(mapped(HEADER, f"{PERSON}|||||||||||119900195803120010", ORDER, RESULT).resources,
                 "Patient")  # fmt: skip
    listed = PERSON.replace("^PI", "^PI~119900195803120010^^^^身份证号")
    in_3 = only(mapped(HEADER, listed, ORDER, RESULT).resources, "Patient")
    assert in_19["identifier"] == in_3["identifier"]
    assert in_19["identifier"][1]["system"] == "urn:oid:2.16.840.1.113883.2.23.1.19.1"


@pytest.mark.parametrize(
    ("sent", "system", "code"),
    [
        ("E12345678^^^^PPN", f"{CANONICAL}/NamingSystem/passport", "PPN"),
        ("E12345678^^^^护照", f"{CANONICAL}/NamingSystem/passport", "PPN"),
        ("E12345678^^^&2.16.840.1.113883.4.330.156&ISO^PPN",
         "http://hl7.org/fhir/sid/passport-CHN", "PPN"),
        ("119900195803120010^^^卫健委&2.16.156.10011.1.3&ISO^NI",
         "urn:oid:2.16.840.1.113883.2.23.1.19.1", "NI"),
        ("119900195803120010^^^&2.16.156.10011.1.3&ISO",
         "urn:oid:2.16.840.1.113883.2.23.1.19.1", "NI"),
        ("H12345678^^^^06", f"{CANONICAL}/NamingSystem/hk-macao-travel-permit", ""),
        ("7^^^&1.2.3&ISO^居民健康卡", "urn:oid:2.16.156.10011.1.19", "HC"),
        ("7^^^&2.16.156.10011.1.19&DNS^HC", "urn:oid:2.16.156.10011.1.19", "HC"),
    ],
)  # fmt: skip
def test_a_national_number_has_the_preferred_system_of_its_kind(
    sent: str, system: str, code: str
) -> None:
    listed = PERSON.replace("^PI", f"^PI~{sent}")
    found = only(mapped(HEADER, listed, ORDER, RESULT).resources, "Patient")["identifier"][1]
    assert found["system"] == system
    codes = [coding["code"] for coding in found["type"].get("coding", [])]
    assert codes == ([code] if code else [])


@pytest.mark.parametrize(
    ("sent", "name"),
    [
        ("张示一", {"text": "张示一"}),
        ("张^示一", {"text": "张示一", "family": "张", "given": ["示一"]}),
        ("ZHANG^Shiyi", {"text": "ZHANG Shiyi", "family": "ZHANG", "given": ["Shiyi"]}),
    ],
)
def test_a_name_is_joined_as_it_is_written(sent: str, name: dict[str, object]) -> None:
    found = mapped(HEADER, PERSON.replace("张示一", sent), ORDER, RESULT).resources
    assert only(found, "Patient")["name"] == [name]


@pytest.mark.parametrize(
    ("sex", "gender"), [("M", "male"), ("2", "female"), ("女", "female"), ("9", "unknown")]
)
def test_sex_is_read_in_either_table(sex: str, gender: str) -> None:
    found = mapped(HEADER, PERSON[:-1] + sex, ORDER, RESULT).resources
    assert only(found, "Patient")["gender"] == gender


def test_an_impossible_birth_date_is_left_out_with_a_warning() -> None:
    found = mapped(HEADER, PERSON.replace("19580312", "00000000"), ORDER, RESULT)
    assert "birthDate" not in only(found.resources, "Patient")
    assert [issue.expression for issue in found.warnings] == ["PID[1]-7"]


@pytest.mark.parametrize(
    ("code", "status"),
    [("F", "final"), ("C", "corrected"), ("P", "preliminary"), ("A", "partial"), ("X", "cancelled"),
     ("D", "entered-in-error"), ("I", "registered"), ("f", "final")],
)  # fmt: skip
def test_obr_25_is_the_status_of_the_report(code: str, status: str) -> None:
    found = mapped(HEADER, PERSON, ORDER[:-1] + code, RESULT).resources
    assert only(found, "DiagnosticReport")["status"] == status


@pytest.mark.parametrize(
    ("codes", "status"),
    [("FF", "final"), ("FC", "corrected"), ("FP", "preliminary"), ("FI", "partial"),
     ("II", "registered"), ("XX", "cancelled"), ("FX", "final"), ("FA", "amended")],
)  # fmt: skip
def test_without_obr_25_the_results_say_the_status(codes: str, status: str) -> None:
    lines = [f"OBX|{n}|NM|{n}||1||||||{code}" for n, code in enumerate(codes, start=1)]
    found = mapped(HEADER, PERSON, ORDER.removesuffix("|F"), *lines).resources
    assert only(found, "DiagnosticReport")["status"] == status


def test_a_result_is_true_of_the_time_of_collection() -> None:
    order = "|".join(
        field if n != 14 else "202611180840" for n, field in enumerate(ORDER.split("|"))
    )
    stated = mapped(HEADER, PERSON, order, f"{RESULT}|||202611180810").resources
    tested = mapped(HEADER, PERSON, order, f"{RESULT}|||202611181050")
    silent = mapped(HEADER, PERSON, order, RESULT).resources
    assert only(stated, "Observation")["effectiveDateTime"] == "2026-11-18T08:10:00+08:00"
    assert only(silent, "Observation")["effectiveDateTime"] == "2026-11-18T08:12:00+08:00"
    assert only(tested.resources, "Observation")["effectiveDateTime"] == "2026-11-18T08:12:00+08:00"
    assert [issue.rule for issue in tested.warnings] == ["v2-observation-time"]


def test_a_zone_that_contradicts_the_institution_is_told() -> None:
    found = mapped(HEADER, PERSON, ORDER.replace("202611181130", "202611181130+0000"), RESULT)
    assert [issue.rule for issue in found.warnings] == ["v2-zone"]


def test_a_result_of_another_laboratory_is_not_the_institutions() -> None:
    own, other = results(f"{RESULT}||||||||||||S2", "OBX|2|NM|B||1||||||F||||||||||||金域检验")
    assert own["performer"][0]["reference"] == "Organization/second"
    assert other["performer"] == [{"display": "金域检验"}]


def test_a_specimen_segment_names_the_tube() -> None:
    spm = "SPM|1|^T-77||SER^血清^HL70487|||||||||||||202611180805|202611180840"
    found = mapped(HEADER, PERSON, ORDER, RESULT, spm).resources
    specimen = only(found, "Specimen")
    assert specimen["identifier"][0]["value"] == "T-77"
    assert specimen["collection"] == {"collectedDateTime": "2026-11-18T08:05:00+08:00"}
    assert only(found, "Observation")["specimen"] == {
        "reference": f"Specimen/{specimen['id']}", "display": "血清",
    }  # fmt: skip


def test_the_impression_of_an_imaging_report_is_its_conclusion() -> None:
    order = ORDER.replace("|CH|", "|放射|")
    found = mapped(HEADER, PERSON, order, "OBX|1|TX|A^影像所见||两肺纹理清晰||||||F",
                   "OBX|2|TX|B^诊断意见||未见明显异常||||||F").resources  # fmt: skip
    report = only(found, "DiagnosticReport")
    assert report["conclusion"] == "未见明显异常"
    assert len(report["result"]) == 2
    assert report["category"][0]["coding"][0]["code"] == "RAD"


def test_a_file_in_a_result_is_a_form_of_the_report() -> None:
    found = mapped(
        HEADER,
        PERSON,
        ORDER,
        RESULT,
        "OBX|2|ED|PDF^报告||^application^pdf^Base64^JVBERi0=||||||F",
        "OBX|3|RP|IMG^影像||https://pacs.example.org/1^^image^jpeg||||||F",
    ).resources
    assert only(found, "DiagnosticReport")["presentedForm"] == [
        {"contentType": "application/pdf", "data": "JVBERi0=", "title": "报告"},
        {"contentType": "image/jpeg", "url": "https://pacs.example.org/1", "title": "影像"},
    ]


def refusal(*lines: str) -> tuple[str, str, str | None]:
    with pytest.raises(GatewayError) as caught:
        mapped(*lines)
    error = caught.value
    return error.acknowledgement, error.condition, error.issues[0].expression


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([HEADER.replace("ORU^R01^ORU_R01", "ADT^A01"), PERSON], ("AR", "200", "MSH[1]-9")),
        ([HEADER.replace("R01^", "R30^"), PERSON], ("AR", "201", "MSH[1]-9")),
        ([HEADER.replace("|P|", "|T|"), PERSON], ("AR", "202", "MSH[1]-11")),
        ([HEADER.replace("2.5.1", "3.0"), PERSON], ("AR", "203", "MSH[1]-12")),
        ([HEADER.replace("|1|P", "||P"), PERSON], ("AR", "101", "MSH[1]-10")),
        ([HEADER.replace("|S2|", "|S3|"), PERSON], ("AR", "103", "MSH[1]-4")),
        ([HEADER, ORDER, RESULT], ("AE", "100", "OBR[1]")),
        ([HEADER], ("AE", "100", "PID[1]")),
        ([HEADER, PERSON], ("AE", "100", "OBR[1]")),
        ([HEADER, PERSON, RESULT], ("AE", "100", "OBX[1]")),
        ([HEADER, PERSON, ORDER, "ORC|RE", RESULT], ("AE", "100", "OBX[1]")),
        ([HEADER, "PID|1||||张示一", ORDER], ("AE", "101", "PID[1]-3")),
        ([HEADER, PERSON, ORDER.replace("|O1|R1|", "|||"), RESULT], ("AE", "101", "OBR[1]-3")),
        ([HEADER, PERSON, "OBR|1|O1|R1", RESULT], ("AE", "101", "OBR[1]-4")),
        ([HEADER, PERSON, "OBR|1|O1|R1|A"], ("AE", "101", "OBR[1]-25")),
        ([HEADER, PERSON, ORDER[:-1] + "?", RESULT], ("AE", "103", "OBR[1]-25")),
        ([HEADER, PERSON, ORDER, RESULT, "OBX|2|NM|B||5.1"], ("AE", "101", "OBX[2]-11")),
        ([HEADER, PERSON, ORDER, RESULT[:-1] + "?"], ("AE", "103", "OBX[1]-11")),
        ([HEADER, PERSON, ORDER, "OBX|1|NM|||5||||||F"], ("AE", "101", "OBX[1]-3")),
        ([HEADER, PERSON, ORDER.replace("202611180812", "20261118240000"), RESULT],
         ("AE", "102", "OBR[1]-7")),
        ([HEADER, PERSON, ORDER, f"{RESULT}|||yesterday"], ("AE", "102", "OBX[1]-14")),
        ([HEADER, PERSON, ORDER, RESULT, ORDER, RESULT], ("AE", "205", "OBR")),
        ([HEADER, PERSON, ORDER, "OBX|1|ED|A||^^PDF^Base64^!||||||F"], ("AE", "102", "OBX[1]-5")),
        ([HEADER, PERSON, ORDER, "OBX|1|RP|A||file:///etc/passwd||||||F"],
         ("AE", "102", "OBX[1]-5")),
        ([HEADER, PERSON, ORDER, RESULT, "DSC|1"], ("AR", "200", "MSH[1]-14")),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_by_place_and_condition(
    lines: list[str], expected: tuple[str, str, str]
) -> None:
    assert refusal(*lines) == expected


def test_every_cut_of_the_last_result_is_refused_or_leaves_the_whole_value() -> None:
    whole = message(HEADER, PERSON, ORDER, RESULT)
    start = whole.index(b"OBX")
    values = set()
    for end in range(start + 4, len(whole)):
        try:
            cut = parse(whole[:end], default_charset="UTF-8", folder=TABLES)
            found = map_oru(cut, SECOND, folder=TABLES)
        except GatewayError:
            continue
        values |= {
            str(r["valueQuantity"]["value"]) for r in found.resources if "valueQuantity" in r
        }
    assert values == set()


def test_a_segment_of_ten_megabytes_is_read_in_a_moment() -> None:
    text = "血" * 3_000_000
    found = mapped(HEADER, PERSON, ORDER, f"OBX|1|TX|A||{text}||||||F").resources
    assert len(only(found, "Observation")["valueString"]) == 3_000_000


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="the folder of shared v2 samples is not here")
def test_messages_of_other_countries_are_mapped_or_refused_with_a_place() -> None:
    outcomes: Counter[str] = Counter()
    for path in sorted(SAMPLES.glob("*.hl7")):
        try:
            read = parse(path.read_bytes(), default_charset="UTF-8", folder=TABLES)
            outcomes["mapped"] += bool(map_oru(read, SECOND, folder=TABLES).resources)
        except GatewayError as error:
            outcomes[error.condition] += 1
    assert set(outcomes) <= {"mapped", "100", "101", "200", "201", "202"}
