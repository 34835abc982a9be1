"""Local codes become catalogue codings, beside the hospital's own; doubts stay doubts."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from fhir_gateway.errors import Unprocessable
from fhir_gateway.fhir.validate import issues
from fhir_gateway.fhir.wire import parse, render
from fhir_gateway.terminology.catalogue import LAB_SYSTEM, load_catalogue, ordered_items
from fhir_gateway.terminology.coder import DATA_QUALITY, Coder
from fhir_gateway.terminology.concept_map import load_concept_map, load_concept_maps
from fhir_gateway.terminology.local_map_check import doubts
from fhir_gateway.terminology.local_map_resource import concept_maps_of
from fhir_gateway.terminology.mapped_by import mapped_by, ours

ROOT = Path(__file__).parents[2]
CATALOGUE = load_catalogue(ROOT / "terminology")
MAPS = load_concept_maps(Path(__file__).parent / "maps", CATALOGUE)
CODER = Coder(CATALOGUE, MAPS)
HEADER = "kind,local_system,local_code,local_name,item,specimen,unit,method,note\n"
UNMAPPED = {"tag": [{"system": DATA_QUALITY, "code": "unmapped-item"}]}


def observation(code: str, **more: Any) -> dict[str, Any]:
    coding = {"system": "urn:hospital-a:result", "code": code}
    return {"resourceType": "Observation", "code": {"coding": [coding]}, **more}


def items(concept: dict[str, Any]) -> list[str]:
    return [c["code"] for c in concept["coding"] if "catalogue" in c.get("system", "")]


def test_a_local_code_gets_the_catalogue_coding_beside_it() -> None:
    resource = observation("1001")
    own = copy.deepcopy(resource["code"]["coding"])
    assert CODER.add(resource, "hospital-a") == (["Observation.code"], [])
    source = MAPS["hospital-a"].rows[0].source
    assert resource["code"]["coding"] == [*own, ours(CATALOGUE.items["L016"], source)]
    assert source.partition("|")[0].endswith("/ConceptMap/hospital-a-result")
    assert "meta" not in resource


def test_a_coding_of_ours_that_comes_back_is_made_anew() -> None:
    resource = observation("1001")
    CODER.add(resource, "hospital-a")
    before = copy.deepcopy(resource)
    assert CODER.add(resource, "hospital-a") == (["Observation.code"], [])
    assert resource == before
    assert CODER.add(resource, "hospital-b") == ([], ["Observation.code"])
    assert resource == observation("1001", meta=UNMAPPED)


def test_a_coding_of_ours_that_comes_alone_is_the_senders_word() -> None:
    resource = observation("1001")
    CODER.add(resource, "hospital-a")
    resource["code"]["coding"] = resource["code"]["coding"][1:]
    assert CODER.add(resource, "hospital-b") == ([], [])
    assert resource["code"]["coding"] == [CATALOGUE.items["L016"].coding()]


def test_recoding_makes_a_copy_by_the_map_of_today() -> None:
    resource = observation("1001", meta={"tag": [{"system": "urn:x", "code": "y"}]})
    CODER.add(resource, "hospital-a")
    before = copy.deepcopy(resource)
    again, coded, unmapped = CODER.recode(resource, "hospital-b")
    assert (coded, unmapped, items(again["code"])) == ([], ["Observation.code"], [])
    assert [tag["code"] for tag in again["meta"]["tag"]] == ["y", "unmapped-item"]
    assert resource == before
    assert CODER.recode(again, "hospital-a")[0] == before


def test_what_is_known_by_loinc_is_mapped_by_the_catalogue() -> None:
    coding = {"system": "http://loinc.org", "code": "2823-3"}
    resource = {"resourceType": "Observation", "code": {"coding": [coding]}}
    CODER.add(resource, "hospital-b")
    assert mapped_by(resource["code"]["coding"][1]) == f"{LAB_SYSTEM}|{CATALOGUE.edition}"


def test_a_coding_of_the_catalogue_itself_is_accepted() -> None:
    resource = {
        "resourceType": "Observation",
        "code": {"coding": [{"system": LAB_SYSTEM, "code": "L016"}]},
    }
    assert CODER.add(resource, "") == ([], [])
    assert "meta" not in resource


def test_a_catalogue_coding_that_names_no_item_is_flagged() -> None:
    resource = {
        "resourceType": "Observation",
        "code": {"coding": [{"system": LAB_SYSTEM, "code": "L999"}]},
    }
    assert CODER.add(resource, "hospital-a") == ([], ["Observation.code"])
    assert resource["meta"] == UNMAPPED


def test_the_codes_of_one_hospital_say_nothing_in_another() -> None:
    resource = observation("1001")
    assert CODER.add(resource, "hospital-b") == ([], ["Observation.code"])
    assert resource["meta"] == UNMAPPED


@pytest.mark.parametrize(
    ("specimen", "expected"), [("血清", ["L033"]), ("尿液", []), ("脑脊液", [])]
)
def test_rows_of_one_code_are_told_apart_by_the_specimen(
    specimen: str, expected: list[str]
) -> None:
    resource = observation("GLU", specimen={"display": specimen})
    CODER.add(resource, "hospital-a")
    assert items(resource["code"]) == expected


def test_rows_that_fit_and_differ_are_a_doubt() -> None:
    resource = observation("GLU")  # serum or urine is not said
    assert CODER.add(resource, "hospital-a") == ([], ["Observation.code"])


@pytest.mark.parametrize(("unit", "expected"), [("mIU/L", ["L132"]), ("ng/dL", [])])
def test_a_row_with_a_unit_holds_only_for_it(unit: str, expected: list[str]) -> None:
    resource = observation("T1", valueQuantity={"value": 1, "unit": unit})
    CODER.add(resource, "hospital-a")
    assert items(resource["code"]) == expected


def test_a_code_that_is_known_to_mean_no_item_is_flagged_even_with_a_loinc_code() -> None:
    resource = observation("FFA")
    resource["code"]["coding"].append({"system": "http://loinc.org", "code": "2823-3"})
    assert CODER.add(resource, "hospital-a") == ([], ["Observation.code"])


def test_a_result_without_any_code_is_found_by_its_name() -> None:
    resource = {"resourceType": "Observation", "code": {"text": "血钾"}}
    assert CODER.add(resource, "hospital-a") == (["Observation.code"], [])
    assert items(resource["code"]) == ["L001"]


def test_a_name_never_overrules_a_code() -> None:
    resource = observation("????")
    resource["code"]["text"] = "血钾"
    assert CODER.add(resource, "hospital-a") == ([], ["Observation.code"])


def test_a_standard_code_is_nobodys_own() -> None:
    resource = {
        "resourceType": "Observation",
        "code": {"coding": [{"system": "http://snomed.info/sct", "code": "1001"}]},
    }
    assert CODER.add(resource, "hospital-a") == ([], ["Observation.code"])


@pytest.mark.parametrize(
    ("specimen", "expected"),
    [({}, ["L001"]), ({"display": "血清"}, ["L001"]), ({"display": "尿"}, [])],
)
def test_an_exact_loinc_code_is_taken_unless_the_specimen_contradicts(
    specimen: dict[str, str], expected: list[str]
) -> None:
    resource = {
        "resourceType": "Observation",
        "code": {"coding": [{"system": "http://loinc.org", "code": "2823-3"}]},
        "specimen": specimen,
    }
    CODER.add(resource, "hospital-b")
    assert items(resource["code"]) == expected


def test_a_wider_loinc_code_decides_nothing() -> None:
    wider = next(i for i in CATALOGUE.items.values() if i.loinc_relation == "broader")
    resource = {
        "resourceType": "Observation",
        "code": {"coding": [{"system": "http://loinc.org", "code": wider.loinc}]},
    }
    assert CODER.add(resource, "hospital-b") == ([], ["Observation.code"])


def test_vital_signs_are_not_flagged() -> None:
    category = [{"coding": [{"code": "vital-signs"}]}]
    resource = observation("BP", category=category)
    assert CODER.add(resource, "hospital-a") == ([], [])
    assert "meta" not in resource


def test_a_panel_report_is_an_envelope_but_an_examination_is_not() -> None:
    code = {"coding": [{"code": "SHQT"}]}
    envelope = {"resourceType": "DiagnosticReport", "code": code, "result": [{"reference": "x"}]}
    examination = {"resourceType": "DiagnosticReport", "code": copy.deepcopy(code)}
    assert CODER.add(envelope, "hospital-a") == ([], [])
    assert CODER.add(examination, "hospital-a") == ([], ["DiagnosticReport.code"])
    assert "meta" not in envelope
    assert examination["meta"] == UNMAPPED


def test_an_examination_may_carry_the_code_of_its_order() -> None:
    report = {"resourceType": "DiagnosticReport", "code": {"coding": [{"code": "XCT01"}]}}
    study = {"resourceType": "ImagingStudy", "procedureCode": [{"coding": [{"code": "XCT01"}]}]}
    assert CODER.add(report, "hospital-a") == (["DiagnosticReport.code"], [])
    assert CODER.add(study, "hospital-a") == (["ImagingStudy.procedureCode[0]"], [])
    assert items(report["code"]) == items(study["procedureCode"][0]) == ["I022"]


def test_a_study_without_a_procedure_code_is_not_flagged() -> None:
    assert CODER.add({"resourceType": "ImagingStudy"}, "hospital-a") == ([], [])


def test_a_panel_order_gets_its_items_as_details() -> None:
    order = {"resourceType": "ServiceRequest", "code": {"coding": [{"code": "SHQT"}]}}
    coded, unmapped = CODER.add(order, "hospital-a")
    assert coded == ["ServiceRequest.orderDetail[0]", "ServiceRequest.orderDetail[1]"]
    assert (unmapped, order["code"]) == ([], {"coding": [{"code": "SHQT"}]})
    assert ordered_items(order) == ["L016", "L017"]
    assert CODER.add(order, "hospital-a") == (coded, [])
    assert ordered_items(order) == ["L016", "L017"]
    assert CODER.add(order, "hospital-b") == ([], ["ServiceRequest.code"])
    assert "orderDetail" not in order


def test_an_order_that_nobody_knows_is_flagged_as_an_order() -> None:
    order = {"resourceType": "ServiceRequest", "code": {"coding": [{"code": "?"}]}}
    assert CODER.add(order, "hospital-a") == ([], ["ServiceRequest.code"])
    assert order["meta"] == {"tag": [{"system": DATA_QUALITY, "code": "unmapped-order"}]}


def test_an_operation_is_no_order_of_ours() -> None:
    category = [{"coding": [{"system": "http://snomed.info/sct", "code": "387713003"}]}]
    order = {"resourceType": "ServiceRequest", "category": category, "code": {"text": "手术"}}
    assert CODER.add(order, "hospital-a") == ([], [])


def test_a_flag_goes_when_the_code_becomes_known_and_other_tags_stay() -> None:
    mine = {"system": "urn:x", "code": "y"}
    resource = observation("1001", meta={"tag": [mine]})
    CODER.add(resource, "hospital-b")
    CODER.add(resource, "hospital-b")
    assert len(resource["meta"]["tag"]) == 2
    CODER.add(resource, "hospital-a")
    assert resource["meta"] == {"tag": [mine]}


def test_coding_keeps_the_spelling_of_numbers() -> None:
    code = b'"code":{"coding":[{"code":"1001"}]}'
    body = b'{"resourceType":"Observation",%b,"valueQuantity":{"value":5.10}}' % code
    resource = parse(body)
    CODER.add(resource, "hospital-a")
    assert b'"value":5.10' in render(resource)


def test_other_types_are_not_touched() -> None:
    resource = {"resourceType": "Patient", "code": {"coding": [{"code": "1001"}]}}
    assert CODER.add(resource, "hospital-a") == ([], [])


def test_every_fault_of_a_map_is_told_by_row_and_column(tmp_path: Path) -> None:
    path = tmp_path / "hospital-x.csv"
    path.write_text(
        HEADER
        + "result,,A,甲,L016,,,,\n"
        + "result,,A,甲,L017,,,,\n"
        + "reading,,B,乙,L016,,,,\n"
        + "result,,,,L016,,,,\n"
        + "result,,C,丙,L016;L017,,,,\n"
        + "order,,D,丁,Z1;L016,,,,\n"
        + "result,,E,戊,L016,神秘液,斤,,\n"
        + "result,,F,己,L016,尿液,,,\n",
        "utf-8",
    )
    with pytest.raises(Unprocessable) as caught:
        load_concept_map(path, CATALOGUE)
    where = [issue.diagnostics.partition(": ")[0] for issue in caught.value.issues]
    assert where == [
        "hospital-x.csv, row 3, column local_code",
        "hospital-x.csv, row 4, column kind",
        "hospital-x.csv, row 5, column local_code",
        "hospital-x.csv, row 6, column item",
        "hospital-x.csv, row 7, column item",
        "hospital-x.csv, row 8, column specimen",
        "hospital-x.csv, row 8, column unit",
        "hospital-x.csv, row 9, column specimen",
    ]


def test_a_unit_that_is_never_comparable_is_a_doubt_and_no_fault(tmp_path: Path) -> None:
    path = tmp_path / "hospital-x.csv"
    path.write_text(HEADER + "result,,A,肌酐,L027,,mg/dL,,\n", "utf-8")
    assert doubts(load_concept_map(path, CATALOGUE).rows) == [
        f"A: reported in mg/dL, but L027 {CATALOGUE.items['L027'].name_zh} is compared in umol/L"
    ]
    assert doubts(MAPS["hospital-a"].rows) == []


def test_a_map_is_served_as_valid_concept_maps() -> None:
    result, order = concept_maps_of(MAPS["hospital-a"], "甲医院", CATALOGUE)
    assert (issues(result), issues(order)) == ([], [])
    assert (result["id"], order["id"]) == ("hospital-a-result", "hospital-a-order")
    panel = next(e for g in order["group"] for e in g["element"] if e["code"] == "SHQT")
    assert [(t["code"], t["equivalence"]) for t in panel["target"]] == [
        ("L016", "narrower"),
        ("L017", "narrower"),
    ]


def test_the_maps_of_the_project_are_without_fault() -> None:
    maps = load_concept_maps(ROOT / "mappings" / "concepts", CATALOGUE)
    assert [line for one in maps.values() for line in doubts(one.rows)] == []


def test_bookable_time_is_coded_by_the_map_of_orders() -> None:
    """A hospital's own code of a service is sold as the item that it maps to; visits are not."""
    local = {"coding": [{"system": "urn:hospital-a:service", "code": "XCT01"}]}
    visit = {"coding": [{"system": "urn:hospital-a:service", "code": "VISIT"}], "text": "门诊"}
    for type, name in (("Schedule", "serviceType"), ("Slot", "serviceType"),
                       ("HealthcareService", "type")):  # fmt: skip
        resource: dict[str, Any] = {
            "resourceType": type, name: [copy.deepcopy(visit), copy.deepcopy(local)],
        }  # fmt: skip
        assert CODER.add(resource, "hospital-a") == ([f"{type}.{name}[1]"], [])
        assert resource[name][0] == visit and items(resource[name][1]) == ["I022"]
        before = copy.deepcopy(resource)
        assert CODER.add(resource, "hospital-a")[0] and resource == before
        assert CODER.add(resource, "hospital-b") == ([], [])
        assert resource[name][1] == local and "meta" not in resource
    panel = {"resourceType": "Slot", "serviceType": [{"coding": [{"code": "SHQT"}]}]}
    assert CODER.add(panel, "hospital-a") == ([], [])  # a panel is not one item
