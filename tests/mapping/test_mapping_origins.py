"""Origins: of each element of what a message becomes, the field that says it and how."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from mapping_cases import DATA, HEADER, MAPPINGS, ORDER, PERSON, SECOND, TABLES, message

from fhir_gateway.mapping.origins import Explained, Origin, explain
from fhir_gateway.mapping.origins_diff import differing, leaves
from fhir_gateway.mapping.origins_how import HOW
from fhir_gateway.mapping.origins_table import TableSource
from fhir_gateway.mapping.origins_v2 import V2Source
from fhir_gateway.mapping.origins_vary import variants
from fhir_gateway.mapping.tabular_map import read_map
from fhir_gateway.mapping.tabular_read import records
from fhir_gateway.mapping.tabular_rows import Group
from fhir_gateway.mapping.v2 import parse, split_messages
from fhir_gateway.mapping.v2_messages import map_message
from fhir_gateway.mapping.v2_oru import Mapped
from fhir_gateway.security.institution import Institution

LIVER = split_messages((DATA / "liver.hl7").read_bytes())[0]


def source_of(raw: bytes, institution: Institution = SECOND) -> V2Source:
    return V2Source(parse(raw, default_charset="utf-8", folder=TABLES), institution, folder=TABLES)


def explained(*lines: str) -> Explained:
    return explain(source_of(message(*lines)))


def the(found: Explained, element: str, n: int = 0) -> Origin:
    return [one for one in found.origins if one.element == element][n]


def places(origin: Origin) -> list[str]:
    return [atom.place for atom in origin.sources]


@pytest.fixture(scope="module")
def liver() -> Explained:
    return explain(source_of(LIVER))


def test_every_element_of_the_golden_message_has_an_origin(liver: Explained) -> None:
    """The elements are those of the mapping itself, each once, each with a way of its own."""
    mapped = map_message(source_of(LIVER).message, SECOND, folder=TABLES)
    assert isinstance(mapped, Mapped)
    assert liver.resources == mapped.resources
    expected = [(n, path) for n, one in enumerate(mapped.resources) for path, _ in leaves(one)]
    assert [(one.number, one.path) for one in liver.origins] == expected
    assert {one.how for one in liver.origins} <= HOW.keys()
    assert liver.left_out == []


@pytest.mark.parametrize(("element", "n", "how", "from_"), [
    ("Observation.valueQuantity.value", 0, "copied", ["OBX[1]-5"]),
    ("Observation.valueQuantity.unit", 0, "copied", ["OBX[1]-6"]),
    ("Observation.valueQuantity.code", 0, "copied", ["OBX[1]-6"]),
    ("Observation.code.coding[0].code", 1, "copied", ["OBX[2]-3.1"]),
    ("Observation.code.coding[0].display", 1, "copied", ["OBX[2]-3.2"]),
    ("Observation.effectiveDateTime", 0, "time", ["OBX[1]-14"]),
    ("Observation.effectiveDateTime", 2, "time", ["OBR[1]-7"]),
    ("Observation.issued", 0, "time", ["OBR[1]-22"]),
    ("Observation.valueString", 0, "copied", ["OBX[3]-5"]),
    ("Observation.note[0].text", 0, "copied", ["NTE[2]-3"]),
    ("Observation.status", 0, "table", ["OBX[1]-11"]),
    ("Observation.performer[0].display", 0, "institution", []),
    ("Observation.performer[0].reference", 0, "institution", []),
    ("Patient.identifier[0].value", 0, "copied", ["PID[1]-3.1"]),
    ("Patient.identifier[1].value", 0, "copied", ["PID[1]-19"]),
    ("Patient.name[0].text", 0, "copied", ["PID[1]-5"]),
    ("Patient.gender", 0, "table", ["PID[1]-8"]),
    ("Patient.birthDate", 0, "time", ["PID[1]-7"]),
    ("DiagnosticReport.status", 0, "table", ["OBR[1]-25"]),
    ("DiagnosticReport.code.coding[0].code", 0, "copied", ["OBR[1]-4.1"]),
    ("ServiceRequest.requester.display", 0, "copied", ["OBR[1]-16"]),
    ("Specimen.type.text", 0, "copied", ["OBR[1]-15"]),
])  # fmt: skip
def test_named_facts_come_from_their_fields(
    liver: Explained, element: str, n: int, how: str, from_: list[str]
) -> None:
    origin = the(liver, element, n)
    assert (origin.how, places(origin)) == (how, from_)


def test_a_table_is_named_with_its_row(liver: Explained) -> None:
    assert the(liver, "Patient.gender").detail == "sex.csv, row 男"
    assert the(liver, "Observation.status").detail == "observation-status.csv, row F"
    assert the(liver, "DiagnosticReport.status").detail == "report-status.csv, row F"
    flag = next(one for one in liver.origins if one.path == "interpretation[0].coding[0].code")
    assert flag.detail.startswith("abnormal-flags.csv, row ")


def test_an_id_is_made_of_the_fields_that_tell_the_resource_from_others(liver: Explained) -> None:
    assert places(the(liver, "Patient.id")) == ["PID[1]-3.1", "PID[1]-3.5"]
    assert places(the(liver, "Observation.id")) == ["OBR[1]-3", "OBR[1]-4.1", "OBX[1]-3.1"]
    assert the(liver, "Observation.subject.reference").how == "key"


def test_fields_tell_that_they_are_required_checked_or_passed_over(liver: Explained) -> None:
    by_place = {seen.atom.place: seen for seen in liver.fields}
    required = by_place["MSH[1]-10"].required
    assert required is not None
    assert required.issues[0].rule == "v2-required"
    assert by_place["OBX[1]-11"].checked is not None
    assert not by_place["OBX[1]-1"].is_used
    assert not by_place["MSH[1]-6"].is_used
    assert by_place["OBX[1]-5"].required is None


def test_an_explanation_is_the_same_each_time() -> None:
    lines = (HEADER, PERSON, ORDER, "OBX|1|NM|K^钾||5.6|mmol/L|||||F")
    assert explained(*lines).origins == explained(*lines).origins


@pytest.mark.parametrize(("obx", "path", "how", "from_"), [
    ("OBX|1|NM|K^钾||＜0.05|mg/L|||||F", "valueQuantity.comparator", "part", ["OBX[1]-5"]),
    ("OBX|1|NM|K^钾||5.6↑|mmol/L|||||F", "interpretation[0].text", "part", ["OBX[1]-5"]),
    ("OBX|1|NM|K^钾||+5.6|mmol/L|||||F", "valueQuantity.value", "number", ["OBX[1]-5"]),
    ("OBX|1|NM|K^钾||5.6|个/HP|||||F", "valueQuantity.code", "unit", ["OBX[1]-6"]),
    ("OBX|1|NM|K^钾||5.6|10^9/L|||||F", "valueQuantity.unit", "joined",
     ["OBX[1]-6.1", "OBX[1]-6.2"]),
    ("OBX|1|NM|K^钾||5.6|g/L|3.5--5.3||||F", "referenceRange[0].low.value", "part", ["OBX[1]-7"]),
    ("OBX|1|ST|K^钾||阴性（-）||||||F", "interpretation[0].coding[0].code", "table", ["OBX[1]-5"]),
    ("OBX|1|SN|K^钾||^1^:^80||||||F", "valueRatio.denominator.value", "copied", ["OBX[1]-5.4"]),
    ("OBX|1|TX|K^钾||未见||||||F", "valueString", "copied", ["OBX[1]-5"]),
])  # fmt: skip
def test_habits_of_laboratories_are_told(obx: str, path: str, how: str, from_: list[str]) -> None:
    origin = the(explained(HEADER, PERSON, ORDER, obx), f"Observation.{path}")
    assert (origin.how, places(origin)) == (how, from_)


def test_a_field_that_decides_is_named_beside_the_one_that_says_it() -> None:
    found = explained(HEADER, PERSON, ORDER, "OBX|1|NM|K^钾||5.6|mmol/L|||||F")
    assert "OBX[1]-2" in [atom.place for atom in the(found, "Observation.valueQuantity.value").also]


def test_what_is_added_behind_the_mapping_says_so() -> None:
    def finish(resources: list[dict[str, Any]]) -> None:
        for one in resources:
            if one["resourceType"] == "Observation":
                codings = one["code"].get("coding", [])
                codings += [{"code": f"L-{coding['code']}"} for coding in codings]

    lines = (HEADER, PERSON, ORDER, "OBX|1|NM|K^钾||5.6|mmol/L|||||F")
    origin = the(
        explain(source_of(message(*lines)), finish=finish), "Observation.code.coding[1].code"
    )
    assert (origin.how, places(origin)) == ("added", ["OBX[1]-3.1"])


def test_a_large_message_is_explained_as_far_as_it_goes_and_says_how_far() -> None:
    found = explain(source_of(LIVER), work=3_000)
    assert 0 < len(found.fields) < len(source_of(LIVER).atoms)
    assert len(found.fields) + len(found.left_out) == len(source_of(LIVER).atoms)
    assert the(found, "Observation.valueString").how == "unseen"


def test_one_field_alone_is_explained_without_the_others() -> None:
    source = source_of(LIVER)
    only = [atom for atom in source.atoms if atom.place == "OBX[2]-5"]
    (seen,) = explain(source, only=only).fields
    assert {path for _, path in seen.changed} >= {"valueQuantity.value"}


def test_another_message_is_not_mistaken_for_the_same_resources_in_another_order() -> None:
    base = [{"resourceType": "Patient", "id": "a", "x": [1, 2, 3]}]
    assert differing(base, [{"resourceType": "Patient", "id": "a", "x": [2, 3]}]) == {
        (0, "x[0]"): None
    }
    renamed = [{"resourceType": "Patient", "id": "b", "x": [1, 2, 3]}]
    assert differing(base, renamed) == {(0, "id"): "b"}
    assert differing(base, []) == {(0, path): None for path, _ in leaves(base[0])}


@pytest.mark.parametrize(("text", "expected"), [
    ("5.10", {"5.11"}),
    ("20260131", {"20260130"}),
    ("3.9~6.1", {"3.8~6.1", "3.9~6.0"}),
    ("", set()),
])  # fmt: skip
def test_a_variant_is_read_in_the_same_way(text: str, expected: set[str]) -> None:
    assert expected <= set(variants(text))
    assert text not in set(variants(text))


TABLE = """
institution = "second"
kind = "results"
code_page = "UTF-8"
[columns]
"patient.number" = "病案号"
"patient.name" = "姓名"
"report.number" = "报告单号"
"report.code" = "组合代码"
"report.collected" = "采集时间"
"report.issued" = "审核时间"
"report.status" = "状态"
"result.code" = "项目代码"
"result.value" = "结果"
"result.type" = "类型"
"result.unit" = "单位"
"result.status" = "状态"
[constants]
"report.section" = "CH"
[values."report.status"]
"已审核" = "F"
[values."result.status"]
"已审核" = "F"
"""
ROWS = """病案号,姓名,报告单号,组合代码,采集时间,审核时间,状态,项目代码,结果,类型,单位
700123,张示一,R1,SHQT,2026-11-18 08:12,2026-11-18 11:30,已审核,ALT,32.0,NM,U/L
700123,张示一,R1,SHQT,2026-11-18 08:12,2026-11-18 11:30,已审核,AST,28,NM,U/L
"""


def test_the_cells_of_a_table_are_origins_as_the_fields_of_a_message_are(tmp_path: Path) -> None:
    path = tmp_path / "lis.toml"
    path.write_text(TABLE, encoding="utf-8")
    table = read_map(path, mappings=MAPPINGS)
    rows = [*records(iter(ROWS.encode().splitlines(keepends=True)), table, "utf-8")]
    found = explain(TableSource(table, Group(("R1",), rows), SECOND, mappings=MAPPINGS))
    value = the(found, "Observation.valueQuantity.value", 1)
    assert (value.how, places(value)) == ("copied", ["line 3, column 结果"])
    name = the(found, "Patient.name[0].text")
    assert (name.how, places(name)[0]) == ("copied", "line 2, column 姓名")
    status = the(found, "Observation.status")
    assert status.how == "table"  # one column says the status of the report and of the result
    assert status.detail in ("observation-status.csv, row F", "report-status.csv, row F")
    assert status.sources[0].read == "F"
    assert places(status)[0] == "line 2, column 状态"
    category = the(found, "Observation.category[0].coding[0].code")
    assert (category.how, category.detail) == (
        "institution", "constant report.section of the map"
    )  # fmt: skip
