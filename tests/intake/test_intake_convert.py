"""`fhir-gateway convert`: the FHIR of a message, where each value came from; nothing is written."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from tabular_cases import RESULTS

from fhir_gateway.cli import main
from fhir_gateway.cli.institution_common import gateway_of
from fhir_gateway.fhir.xml_read import read_xml
from fhir_gateway.interactions.institutions import register
from fhir_gateway.mapping.origins import Atom, Origin
from fhir_gateway.mapping.origins_asked import fields_at, is_element
from fhir_gateway.security.actor import SYSTEM_ACCESS
from fhir_gateway.security.institution import Institution
from fhir_gateway.settings import load_settings

LINES = (
    "MSH|^~\\&|LIS|S2|GW|CITY|20261118113100||ORU^R01^ORU_R01|M1|P|2.5.1||||||UNICODE UTF-8",
    "PID|1||700123^^^S2^PI||张示一||19580312|M",
    "OBR|1|O1|R1|SHQT^生化全套^L|||202611180812|||||||||||||||202611181130||CH|F",
    "OBX|1|NM|K^钾||5.6|mmol/L|3.5--5.3||||F",
)


def run(*arguments: str, given: bytes | None = None) -> Result:
    return CliRunner().invoke(main, ["convert", *arguments], input=given)


@pytest.fixture
def oru(tmp_path: Path) -> str:
    path = tmp_path / "oru.hl7"
    path.write_bytes("\r".join(LINES).encode())
    return str(path)


def resources(result: Result) -> dict[str, dict[str, Any]]:
    bundle = json.loads(result.stdout)
    return {one["resource"]["resourceType"]: one["resource"] for one in bundle["entry"]}


def test_a_message_is_printed_as_a_bundle_that_could_be_sent(oru: str) -> None:
    result = run(oru)
    assert result.exit_code == 0
    found = resources(result)
    assert found["Observation"]["valueQuantity"]["value"] == 5.6
    assert found["Observation"]["meta"]["source"].endswith("/door/v2")
    requests = [one["request"] for one in json.loads(result.stdout)["entry"]]
    assert all(one["method"] == "PUT" for one in requests)


def test_xml_and_text_say_the_same(oru: str) -> None:
    bundle = read_xml(run(oru, "--format", "xml").stdout.encode())
    assert [one["resource"]["resourceType"] for one in bundle["entry"]][-1] == "DiagnosticReport"
    assert "  valueQuantity.value = 5.6\n" in run(oru, "--format", "text").stdout


def test_the_standard_input_is_read_and_a_code_page_declared() -> None:
    raw = "\r".join(LINES).replace("UNICODE UTF-8", "").encode("gb18030")
    result = run("-", "--charset", "GB18030", "--zone", "Asia/Urumqi", given=raw)
    assert result.exit_code == 0
    assert resources(result)["Patient"]["name"] == [{"text": "张示一"}]
    assert resources(result)["Observation"]["issued"].endswith("+06:00")


def test_each_value_is_explained_by_field_and_how(oru: str) -> None:
    told = json.loads(run(oru, "--explain", "--format", "json").stdout)
    value = next(one for one in told if one["element"] == "Observation.valueQuantity.value")
    assert value["from"] == [{"field": "OBX[1]-5", "content": "5.6"}]
    assert (value["how"], value["also"]) == ("copied", ["OBX[1]-2"])
    assert {one["resource"].split("/")[0] for one in told} >= {"Patient", "DiagnosticReport"}
    narrow = run(oru, "--element", "Observation.value")
    assert "OBX[1]-5 5.6" in narrow.stdout
    assert "Patient" not in narrow.stdout
    assert "copied: the field's own text" in narrow.stdout


def test_a_field_tells_what_becomes_of_it(oru: str) -> None:
    assert "PID[1]-8 Administrative Sex = M\n  becomes Patient.gender" in run(
        oru, "--explain-field", "PID-8"
    ).stdout  # fmt: skip
    assert "nothing is taken from it" in run(oru, "--explain-field", "OBX-1").stdout
    assert "  required: The message control id" in run(oru, "--explain-field", "MSH-10").stdout


def test_several_messages_are_lines_and_a_refused_one_is_told_with_its_place(oru: str) -> None:
    whole = Path(oru).read_bytes()
    both = whole + b"\r" + whole.replace(b"5.6", b"5.7").replace(b"R1|", b"|").replace(b"O1|", b"|")
    result = run("-", given=both)
    assert result.exit_code == 1
    assert len(result.stdout.splitlines()) == 1
    assert "refused: message 2: " in result.stderr
    assert "OBR[1]-3" in result.stderr
    assert "[v2-required]" in result.stderr
    assert run("-", "--message", "1", given=both).exit_code == 0


def test_the_rows_of_a_table_are_converted_by_their_map(tmp_path: Path) -> None:
    map, rows = tmp_path / "lis.toml", tmp_path / "lis.csv"
    map.write_text(RESULTS, encoding="utf-8")
    rows.write_text(
        "病案号,身份证号,姓名,性别,出生日期,申请单号,报告单号,组合代码,组合名称,采集时间,审核时间,"
        "状态,项目代码,项目名称,类型,结果,单位,参考范围,更新时间\n"
        "700123,,张示一,男,1958-03-12,O1,R1,SHQT,生化全套,2026-11-18 08:12,2026-11-18 11:30,"
        "已审核,K,钾,NM,5.6,mmol/L,3.5--5.3,2026-11-18 11:31\n",
        encoding="gb18030",
    )
    result = run(str(rows), "--map", str(map))
    assert result.exit_code == 0
    assert resources(result)["Observation"]["meta"]["source"].endswith("/door/table")
    told = run(str(rows), "--map", str(map), "--explain-field", "单位").stdout
    assert "line 2, column 单位 = mmol/L" in told
    assert "becomes Observation.valueQuantity.unit" in told


def test_with_a_store_its_institution_counts_and_nothing_is_written(
    oru: str, tmp_path: Path
) -> None:
    database = f"sqlite:///{tmp_path}/gateway.sqlite"
    own = Institution(id="second", name="示范市第二医院", facilities=("S2",), zone="Asia/Urumqi")

    async def state(*, begin: bool = False) -> int:
        async with gateway_of(load_settings(database=database), begin=begin) as gateway:
            if begin:
                await register(gateway, own)
            async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
                return reader.t

    before = asyncio.run(state(begin=True))
    found = resources(run(oru, "--store", database))
    assert found["Observation"]["performer"][0]["display"] == "示范市第二医院"
    assert found["Observation"]["issued"].endswith("+06:00")
    assert asyncio.run(state()) == before
    unknown = run(oru, "--store", database, "--institution", "nobody")
    assert unknown.exit_code == 2
    assert "No institution nobody is registered" in unknown.stderr


@pytest.mark.parametrize(("arguments", "said"), [
    (["--explain", "--format", "xml"], "An explanation is no FHIR"),
    (["--element", "Patient", "--explain-field", "PID"], "give one"),
    (["--explain-field", "ZZZ-9"], "The message has no ZZZ-9"),
    (["--element", "Observation.nothing"], "Nothing was made of"),
    (["--message", "7"], "the file holds 1"),
    (["--zone", "Nowhere/None"], "no such zone"),
    (["--map", "no-such-map"], "There is no map"),
    (["--store", "sqlite:////nowhere/gateway.sqlite"], ""),
])  # fmt: skip
def test_what_cannot_be_done_is_said(oru: str, arguments: list[str], said: str) -> None:
    result = run(oru, *arguments)
    assert result.exit_code == 2
    assert said in result.stderr


def test_what_is_no_message_is_said() -> None:
    result = run("-", given=b"hello")
    assert (result.exit_code, "no HL7 v2 message" in result.stderr) == (2, True)


@pytest.mark.parametrize(("element", "asked", "is_one"), [
    ("Observation.valueQuantity.value", "Observation.value", True),
    ("Observation.valueQuantity.value", "Observation.value.value", True),
    ("Observation.code.coding[1].code", "Observation.code.coding", True),
    ("Observation.code.coding[1].code", "Observation.code.coding[0]", False),
    ("Observation.valueQuantity.value", "Observation", True),
    ("Observation.status", "Observation.stat", False),
])  # fmt: skip
def test_elements_are_asked_for_as_people_write_them(
    element: str, asked: str, is_one: bool
) -> None:
    type, _, path = element.partition(".")
    origin = Origin(f"{type}/1", 0, path, "", "rule", "", (), ())
    assert is_element(origin, asked) is is_one


def test_fields_are_asked_for_as_people_write_them() -> None:
    names = ("OBX[1]", "OBX[1]-3.1", "OBX[1]-3.2", "OBX[2]-3.1", "OBX[1]-31", "PID[1]-3(2).1")
    atoms = [Atom(name, "x", ()) for name in names]

    def found(asked: str) -> list[str]:
        return [atom.place for atom in fields_at(atoms, asked)]

    assert found("OBX-3") == ["OBX[1]-3.1", "OBX[1]-3.2", "OBX[2]-3.1"]
    assert found("obx[1]-3.2") == ["OBX[1]-3.2"]
    assert found("PID-3(2)") == ["PID[1]-3(2).1"]
    assert found("OBX[1]") == ["OBX[1]", "OBX[1]-3.1", "OBX[1]-3.2", "OBX[1]-31"]
