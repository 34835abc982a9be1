"""Documents of WS/T 500 become the facts that they state, and the same record as by v2."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from cda_cases import (
    MAPPINGS,
    SECOND,
    document,
    element,
    exam,
    item,
    lab,
    of,
    panel,
    replaces,
    results_document,
    rules,
    section,
    st,
    taken,
)

from fhir_gateway.errors import GatewayError
from fhir_gateway.fhir.validate import issues
from fhir_gateway.fhir.wire import parse as parse_json
from fhir_gateway.fhir.wire import render
from fhir_gateway.mapping.cda_document import binary, document_reference, provenance, series_id
from fhir_gateway.mapping.v2 import parse as parse_v2
from fhir_gateway.mapping.v2_oru import map_oru

_OBR = {
    1: "1", 2: "O1", 3: "R1", 4: "SHQT^生化全套^L", 7: "202611180812", 14: "202611180900",
    15: "&血清", 22: "202611181130", 24: "检验", 25: "F", 32: "&报告员甲",
}  # fmt: skip
V2 = (
    "MSH|^~\\&|LIS|示范二院|GW|CITY|20261118113100||ORU^R01^ORU_R01|1|P|2.5.1||||||UNICODE UTF-8\r"
    "PID|1||700123^^^^病案号||示例甲||19580312|1\r"
    f"OBR|{'|'.join(_OBR.get(n, '') for n in range(1, 33))}\r"
    "OBX|1|NM|ALT^丙氨酸氨基转移酶^L||32|U/L|||||F\r"
)


def observation(found: Any, name: str) -> dict[str, Any]:
    (one,) = [one for one in of(found, "Observation") if one["code"].get("text") == name]
    return one


def value(raw: bytes) -> dict[str, Any]:
    (one,) = of(taken(raw), "Observation")
    return {name: one[name] for name in one if name.startswith("value")}


# -- laboratory ------------------------------------------------------------------------------------


def test_a_laboratory_report_says_what_the_document_says() -> None:
    found = taken(lab())
    (report,) = of(found, "DiagnosticReport")
    assert report["identifier"][0]["value"] == "R1"
    assert (report["status"], report["code"]["text"]) == ("final", "生化全套")
    assert report["category"][0]["coding"][0]["code"] == "LAB"
    assert report["effectiveDateTime"] == "2026-11-18T08:12:00+08:00"
    assert report["issued"] == "2026-11-18T11:30:00+08:00"
    assert report["resultsInterpreter"] == [{"display": "报告员甲"}]
    alt = observation(found, "丙氨酸氨基转移酶")
    assert alt["valueQuantity"] == {
        "value": Decimal(32), "unit": "U/L", "system": "http://unitsofmeasure.org", "code": "U/L",
    }  # fmt: skip
    (specimen,) = of(found, "Specimen")
    assert specimen["type"] == {"text": "血清"}
    assert specimen["receivedTime"] == "2026-11-18T09:00:00+08:00"
    (order,) = of(found, "ServiceRequest")
    assert order["identifier"][0]["value"] == "O1"
    assert rules(found) == []


def test_the_same_report_by_v2_is_the_same_record() -> None:
    """Faults 5 and 6: one report by two doors is one report, with the same ids and content."""
    message = parse_v2(V2.encode(), default_charset="UTF-8", folder=f"{MAPPINGS}/v2")
    by_v2 = map_oru(message, SECOND, folder=f"{MAPPINGS}/v2").resources
    by_cda = taken(lab()).mapped.resources
    names = [(one["resourceType"], one["id"]) for one in by_v2]
    assert [(one["resourceType"], one["id"]) for one in by_cda] == names
    assert by_cda == by_v2


def test_every_resource_is_sound_by_the_definitions() -> None:
    faults = set()
    for raw in (lab(item(flag="异常")), exam(), lab(set="S", version=2, related=replaces("D0"))):
        found = taken(raw)
        head = series_id(SECOND, found.read.header)
        own = [
            document_reference(SECOND, found.read.header, raw, found.told, head=head,
                               structured=True),
            binary(SECOND, found.read.header, raw, head),
            provenance(SECOND, found.read.header, found.told, head=head,
                       recorded="2026-11-18T00:00:00Z"),
        ]  # fmt: skip
        for resource in (*found.mapped.resources, *own):
            faults |= {
                f"{resource['resourceType']}: {issue.diagnostics}"
                for issue in issues(parse_json(render(resource)))
            }
    assert faults == set()


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"quantity": '<value xsi:type="PQ" value="5.10" unit="mmol/L"/>', "unit": ""}, "5.10"),
        ({"quantity": st("＜0.05"), "unit": "ng/mL"}, "<0.05"),
        ({"quantity": '<value xsi:type="REAL" value="7.10"/>'}, "7.10"),
    ],
)
def test_quantities_keep_their_spelling(said: dict[str, str], expected: str) -> None:
    quantity = value(lab(item(**said)))["valueQuantity"]
    assert f"{quantity.get('comparator', '')}{quantity['value']}" == expected


def test_results_in_words_stay_words_and_codes_stay_codes() -> None:
    words = value(lab(item(quantity="", result=st("阴性（-）"))))
    assert words == {"valueString": "阴性（-）"}
    code = (
        '<value xsi:type="CD" code="260385009" codeSystem="2.16.840.1.113883.6.96"'
        ' displayName="阴性"/>'
    )
    coded = value(lab(item(quantity="", result=code)))["valueCodeableConcept"]
    assert coded["coding"][0] == {
        "system": "http://snomed.info/sct", "code": "260385009", "display": "阴性",
    }  # fmt: skip


def test_a_result_code_is_a_flag_of_a_quantity_and_a_result_by_itself() -> None:
    flagged = observation(taken(lab(item(flag="异常"))), "丙氨酸氨基转移酶")
    assert flagged["interpretation"][0]["coding"][0]["code"] == "A"
    assert flagged["valueQuantity"]["value"] == 32
    alone = observation(taken(lab(item(flag="正常", quantity=""))), "丙氨酸氨基转移酶")
    assert alone["valueCodeableConcept"]["text"] == "正常"


def test_a_result_code_of_no_table_is_kept_as_its_text() -> None:
    found = observation(taken(lab(item(flag="复查"))), "丙氨酸氨基转移酶")
    assert found["interpretation"] == [{"text": "复查"}]


def test_what_is_no_number_is_kept_as_text_and_flagged() -> None:
    found = taken(lab(item(quantity='<value xsi:type="REAL" value="3.2.1"/>')))
    (one,) = of(found, "Observation")
    assert one["valueString"] == "3.2.1"
    assert [tag["code"] for tag in one["meta"]["tag"]] == ["unparsed-value"]


def test_a_time_that_is_none_is_kept_as_a_note_and_told() -> None:
    found = taken(lab(item(collected="2026111808129")))
    (report,) = of(found, "DiagnosticReport")
    assert "effectiveDateTime" not in report
    assert "2026111808129" in str(report["extension"])
    assert "cda-time" in rules(found)


def test_reference_ranges_and_interpretations_of_hl7_are_read_too() -> None:
    more = (
        '<interpretationCode code="H"/><referenceRange><observationRange>'
        '<value xsi:type="IVL_PQ"><low value="9" unit="U/L"/><high value="50" unit="U/L"/></value>'
        "</observationRange></referenceRange>"
    )
    (one,) = of(taken(lab(item(more=more))), "Observation")
    (limits,) = one["referenceRange"]
    assert (limits["low"]["value"], limits["high"]["value"]) == (9, 50)
    assert one["interpretation"][0]["coding"][0]["code"] == "H"


def test_panels_are_reports_of_their_own_with_their_own_specimens() -> None:
    raw = document(section(
        "30954-2",
        panel(item()),
        panel(item("WBC", "白细胞", unit="10^9/L", specimen="全血"), code="XCG", name="血常规"),
    ))  # fmt: skip
    found = taken(raw)
    assert [one["code"]["text"] for one in of(found, "DiagnosticReport")] == ["生化全套", "血常规"]
    assert [one["type"]["text"] for one in of(found, "Specimen")] == ["血清", "全血"]


def test_two_specimens_in_one_panel_are_refused() -> None:
    with pytest.raises(GatewayError) as caught:
        taken(lab(item(), item("GLU", "葡萄糖", specimen="尿液")))
    assert caught.value.issues[0].rule == "cda-specimen"
    assert caught.value.issues[0].diagnostics.startswith("line ")


def test_items_without_a_panel_are_one_report_under_the_category() -> None:
    category = element("DE02.10.027.00", st("酶法"), element("DE04.30.018.00", st("生化检验")))
    raw = document(section("30954-2", f"<entry>{category}</entry>", panel(item(), code="")))
    found = taken(raw)
    (report,) = of(found, "DiagnosticReport")
    assert report["code"]["text"] == "生化检验"
    assert observation(found, "丙氨酸氨基转移酶")["method"]["text"] == "酶法"


def test_conclusion_remark_and_performing_laboratory_are_kept() -> None:
    words = element("DE04.50.130.00", st("肝功能正常"))
    remark = element("DE06.00.179.00", st("标本轻度溶血"))
    elsewhere = element("DE08.10.013.00", st("示范独立实验室"))
    around = section("", *(f"<entry>{one}</entry>" for one in (words, remark, elsewhere)))
    found = taken(document(section("30954-2", panel(item())), around))
    (report,) = of(found, "DiagnosticReport")
    assert report["conclusion"] == "肝功能正常"
    assert "标本轻度溶血" in str(report["extension"])
    alt = observation(found, "丙氨酸氨基转移酶")
    assert alt["performer"][0] == {"display": "示范独立实验室"}


def test_who_is_not_signed_for_is_preliminary_and_told() -> None:
    found = taken(lab(signed=False))
    assert of(found, "DiagnosticReport")[0]["status"] == "preliminary"
    assert of(found, "Observation")[0]["status"] == "preliminary"
    assert rules(found) == ["cda-unsigned"]


@pytest.mark.parametrize(
    ("status", "expected"), [("active", "preliminary"), ("aborted", "cancelled")]
)
def test_the_status_of_an_item_is_read(status: str, expected: str) -> None:
    (one,) = of(taken(lab(item(status=status))), "Observation")
    assert one["status"] == expected


# -- persons ---------------------------------------------------------------------------------------


def test_persons_are_known_by_the_oids_of_their_numbers() -> None:
    numbers = (
        '<id root="2.16.156.10011.1.11" extension="MZ1"/>'
        '<id root="2.16.156.10011.1.13" extension="BA1"/>'
        '<id root="2.16.156.10011.1.19" extension="JK1"/>'
        '<id root="2.16.156.10011.1.12" nullFlavor="NI"/>'
    )
    (patient,) = of(taken(lab(patient=numbers, document_number="11990019580312001X")), "Patient")
    values = {one["value"]: one["system"] for one in patient["identifier"]}
    assert patient["id"] == of(taken(lab(patient=numbers)), "Patient")[0]["id"]
    assert values["11990019580312001X"] == "urn:oid:2.16.840.1.113883.2.23.1.19.1"
    assert values["JK1"] == "urn:oid:2.16.156.10011.1.19"
    assert patient["identifier"][0]["value"] == "BA1"  # 病案号 before 门诊号
    assert (patient["gender"], patient["birthDate"]) == ("male", "1958-03-12")
    assert patient["name"] == [{"text": "示例甲"}]


def test_a_document_that_names_nobody_by_a_number_is_refused() -> None:
    with pytest.raises(GatewayError) as caught:
        taken(lab(patient='<id root="2.16.156.10011.1.13" nullFlavor="NI"/>'))
    assert caught.value.issues[0].rule == "cda-patient"


def test_a_visit_is_the_encounter_of_its_number() -> None:
    visit = (
        '<componentOf><encompassingEncounter><id root="2.999.1" extension="V7"/>'
        '<effectiveTime><low value="202611180800"/></effectiveTime><location><healthCareFacility>'
        "<serviceProviderOrganization><name>内科</name><asOrganizationPartOf><wholeOrganization>"
        "<name>示范市第二医院</name></wholeOrganization></asOrganizationPartOf>"
        "</serviceProviderOrganization></healthCareFacility></location></encompassingEncounter>"
        "</componentOf>"
    )
    found = taken(lab(visit=visit))
    (encounter,) = of(found, "Encounter")
    assert encounter["identifier"][0]["value"] == "V7"
    assert encounter["class"]["code"] == "AMB"
    assert encounter["location"][0]["location"]["display"] == "内科"
    assert of(found, "DiagnosticReport")[0]["encounter"]["reference"].endswith(encounter["id"])


def test_another_custodian_is_refused() -> None:
    with pytest.raises(GatewayError) as caught:
        taken(lab(custodian="000", custodian_name="示范市第三医院"))
    assert (caught.value.status, caught.value.issues[0].rule) == (403, "cda-custodian")


# -- examinations ----------------------------------------------------------------------------------


def test_an_examination_says_findings_impression_and_item() -> None:
    found = taken(exam())
    (report,) = of(found, "DiagnosticReport")
    assert report["code"]["coding"][0]["code"] == "CT-CHEST"
    assert report["category"][0]["coding"][0]["code"] == "CT"
    assert report["conclusion"] == "未见异常。"
    assert observation(found, "检查所见")["valueString"] == "双肺纹理清晰。"
    assert report["effectiveDateTime"] == "2026-11-18T08:12:00+08:00"


def test_the_part_that_was_examined_is_kept() -> None:
    part = (
        '<entry><procedure><code/><targetSiteCode code="2" displayName="胸部"/></procedure></entry>'
    )
    found = taken(exam(section("47519-4", part)))
    assert observation(found, "操作部位名称")["valueCodeableConcept"]["text"] == "胸部"


def test_an_examination_type_of_no_table_is_kept_as_text() -> None:
    (report,) = of(taken(exam(category="脑电图")), "DiagnosticReport")
    assert report["category"] == [{"text": "脑电图"}]


def test_a_study_that_is_named_becomes_an_imaging_study() -> None:
    act = """<entry><act classCode="ACT" moodCode="EVN"><id root="2.999.10.1"/>
<code code="113014" codeSystem="1.2.840.10008.2.16.4"/><effectiveTime value="20261118081200"/>
<entryRelationship typeCode="COMP"><act><id root="2.999.10.1.1"/><code code="113015">
<qualifier><name code="121139"/><value code="CT"/></qualifier></code>
<targetSiteCode displayName="CHEST"/><entryRelationship><observation classCode="DGIMG">
<id root="2.999.10.1.1.1"/><code code="1.2.840.10008.5.1.4.1.1.2"/></observation>
</entryRelationship></act></entryRelationship></act></entry>"""
    found = taken(exam(section("", act)))
    (study,) = found.studies
    assert study["identifier"][0]["value"] == "urn:oid:2.999.10.1"
    assert study["series"][0]["modality"]["code"] == "CT"
    assert study["series"][0]["bodySite"]["code"] == "51185008"
    (report,) = of(found, "DiagnosticReport")
    assert report["imagingStudy"] == [{"reference": f"ImagingStudy/{study['id']}"}]


def test_a_study_without_numbers_is_left_out_and_told() -> None:
    act = '<entry><act><code code="113014"/></act></entry>'
    found = taken(exam(section("", act)))
    assert found.studies == []
    assert rules(found) == ["cda-study"]


def test_a_report_without_its_number_is_refused() -> None:
    with pytest.raises(GatewayError) as caught:
        taken(exam(report=""))
    issue = caught.value.issues[0]
    assert (issue.rule, issue.expression) == (
        "cda-report-number", "ClinicalDocument/recordTarget/patientRole",
    )  # fmt: skip


# -- other documents -------------------------------------------------------------------------------


def test_results_of_c_cda_are_structured() -> None:
    fragment = """<section><templateId root="2.16.840.1.113883.10.20.22.2.3.1"/><text>
<table><tbody><tr ID="r1"><td ID="n1">Potassium</td></tr></tbody></table></text><entry>
<organizer classCode="BATTERY" moodCode="EVN"><id root="2.999.20" extension="P1"/>
<code code="51990-0" codeSystem="2.16.840.1.113883.6.1" displayName="Basic metabolic panel"/>
<statusCode code="completed"/><component><observation classCode="OBS" moodCode="EVN">
<id root="2.999.21"/><code code="6298-4" codeSystem="2.16.840.1.113883.6.1"><originalText>
<reference value="#n1"/></originalText></code><statusCode code="completed"/>
<effectiveTime value="201210020908+0800"/><value xsi:type="PQ" value="4.2" unit="mmol/L"/>
</observation></component></organizer></entry></section>"""
    found = taken(results_document(fragment))
    (report,) = of(found, "DiagnosticReport")
    assert report["code"]["coding"][0]["system"] == "http://loinc.org"
    potassium = observation(found, "Potassium")
    assert potassium["code"]["coding"][0]["code"] == "6298-4"
    assert potassium["valueQuantity"]["code"] == "mmol/L"
    assert potassium["effectiveDateTime"] == "2012-10-02T09:08:00+08:00"


def test_any_other_document_is_kept_whole_and_told() -> None:
    raw = lab(template="2.16.156.10011.2.1.1.99", code="C0099", title="出院小结")
    found = taken(raw)
    assert not found.structured
    assert rules(found) == ["cda-not-structured"]
    assert {one["resourceType"] for one in found.mapped.resources} == {"Patient"}
    kept = document_reference(
        SECOND, found.read.header, raw, found.told, head="x", structured=False
    )
    assert kept["meta"]["tag"][0]["code"] == "not-structured"


def test_gb_18030_is_read_where_it_is_declared_and_a_stylesheet_is_passed_over() -> None:
    prolog = '<?xml-stylesheet type="text/xsl" href="http://example.org/cda.xsl"?>'
    raw = lab(prolog=prolog).decode().replace('encoding="UTF-8"', 'encoding="GB2312"', 1)
    (patient,) = of(taken(raw.encode("gb18030")), "Patient")
    assert patient["name"] == [{"text": "示例甲"}]


DEMO = Path(__file__).parents[2] / "demo/city/documents"


@pytest.mark.parametrize(
    ("name", "items", "conclusion"),
    [
        ("01-second-laboratory-report.xml", 4, "肝肾功能未见异常"),
        ("02-second-chest-ct-report.xml", 2, "未见异常。"),
    ],
)
def test_the_documents_of_the_demonstration_are_read_whole(
    name: str, items: int, conclusion: str
) -> None:
    found = taken((DEMO / name).read_bytes())
    assert rules(found) == []
    assert len(of(found, "Observation")) == items
    assert of(found, "DiagnosticReport")[0]["conclusion"] == conclusion
