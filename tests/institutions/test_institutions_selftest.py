"""`institution check ID` and `institution status`: what a vendor is told before going live."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from fhir_gateway.app import open_gateway
from fhir_gateway.cli import main
from fhir_gateway.interactions.institutions import register
from fhir_gateway.interactions.intake import receive_v2
from fhir_gateway.security.actor import Actor
from fhir_gateway.security.institution import Institution
from fhir_gateway.settings import Settings

HOSPITAL = Institution(
    id="vendor-1", name="示范市第一医院", level="三级甲等", area="110105", charset="UTF-8",
    facilities=("V1",), identifier_systems={"patient": "urn:vendor-1:patient"},
)  # fmt: skip
ACTOR = Actor("institution", HOSPITAL.name, institution=HOSPITAL.id)

Run = Callable[..., Result]


def report(id: str, *, status: str = "F", number: str = "119900195803120010") -> bytes:
    return "\r".join([
        f"MSH|^~\\&|LIS|V1|GW|CITY|20261122113100||ORU^R01^ORU_R01|{id}|P|2.4||||||UNICODE UTF-8",
        f"PID|1||{number[-6:]}^^^V1^PI||张示一||19580312|M|||||||||||{number}",
        "OBR|1|O1|R1|SHQT^生化^L|||20261120081200|||||||||||||||20261122113000||CH|F",
        f"OBX|1|NM|K01^钾^L||4.20|mmol/L|3.5--5.3||||{status}|||20261120081200",
    ]).encode()  # fmt: skip


@pytest.fixture
def operator(tmp_path: Path) -> Run:
    """Runs a command on a store with one hospital."""
    database = f"sqlite:///{tmp_path}/gateway.sqlite"

    async def begin() -> None:
        gateway = await open_gateway(Settings(database=database))
        await register(gateway, HOSPITAL)
        await gateway.store.close()

    asyncio.run(begin())

    def run(*words: str) -> Result:
        return CliRunner().invoke(main, ["institution", *words, "--database", database])

    return run


def send(tmp_path: Path, *messages: bytes) -> None:
    async def sent() -> None:
        gateway = await open_gateway(Settings(database=f"sqlite:///{tmp_path}/gateway.sqlite"))
        for message in messages:
            await receive_v2(gateway, ACTOR, message)
        await gateway.store.close()

    asyncio.run(sent())


def checks(found: Result) -> dict[str, str]:
    return {one["check"]: one["verdict"] for one in json.loads(found.stdout)["checks"]}


def test_a_new_institution_is_told_what_is_missing(operator: Run) -> None:
    found = operator("check", "vendor-1", "--json")
    assert found.exit_code == 1
    verdicts = checks(found)
    assert {one for one, verdict in verdicts.items() if verdict == "fail"} == {
        "credential", "code map",
    }  # fmt: skip
    assert verdicts["report seen"] == verdicts["clock"] == verdicts["messages"] == "unknown"
    assert operator("check", "nobody").exit_code == 1


def test_what_came_is_judged(operator: Run, tmp_path: Path) -> None:
    send(tmp_path, report("1"), report("2", status="C"), report("3", status="Q"))
    found = operator("check", "vendor-1", "--json")
    verdicts = checks(found)
    assert verdicts["identity numbers"] == verdicts["report seen"] == "pass"
    assert verdicts["hl7v2 ORU^R01"] == verdicts["dead letters"] == "fail"
    assert verdicts["codes of results"] == "fail"
    assert verdicts["merge of patients seen"] == "unknown"
    assert "张" not in found.stdout and "119900195803120010" not in found.stdout


def test_a_wrong_check_digit_is_told_and_not_shown(operator: Run, tmp_path: Path) -> None:
    send(tmp_path, report("1", number="119900195803120011"))
    found = operator("check", "vendor-1")
    line = next(line for line in found.output.splitlines() if "identity numbers" in line)
    assert "FAIL" in line and "0 of 1" in line
    assert "119900195803120011" not in found.output


def test_samples_are_judged_with_all_issues_and_not_stored(operator: Run, tmp_path: Path) -> None:
    good, bad, other = tmp_path / "good.hl7", tmp_path / "bad.hl7", tmp_path / "other.bin"
    good.write_bytes(report("1"))
    bad.write_bytes(report("2", status="Q"))
    other.write_bytes(b"\x00\x01")
    bundle = tmp_path / "bundle.json"
    bundle.write_text(json.dumps({
        "resourceType": "Bundle", "type": "collection",
        "entry": [{"resource": {"resourceType": "Patient", "gender": "m"}}],
    }))  # fmt: skip
    words = [word for path in (good, bad, other, bundle) for word in ("--sample", str(path))]
    verdicts = checks(operator("check", "vendor-1", *words, "--json"))
    assert {name: one for name, one in verdicts.items() if name.startswith("sample")} == {
        "sample good.hl7": "pass", "sample bad.hl7": "fail", "sample other.bin": "fail",
        "sample bundle.json": "fail",
    }  # fmt: skip
    assert "OBX[1]-11" in operator("check", "vendor-1", "--sample", str(bad)).output
    assert json.loads(operator("status", "vendor-1", "--json").stdout)["received"] == 0
    assert operator("check", "--sample", str(good)).exit_code == 1


def test_the_status_tells_counters_lag_and_what_waits(operator: Run, tmp_path: Path) -> None:
    send(tmp_path, report("1"), report("1"), report("2", status="Q"))
    told = json.loads(operator("status", "vendor-1", "--json").stdout)
    assert {name: told[name] for name in ("received", "flagged", "refused", "repeated")} == {
        "received": 3, "flagged": 1, "refused": 1, "repeated": 1,
    }  # fmt: skip
    (dead,) = told["dead"]
    assert dead["letters"] == 1
    assert (told["messageLag"]["of"], told["reportLag"]["of"]) == (2, 1)
    text = operator("status").output.splitlines()
    assert text[1].split()[:7] == ["vendor-1", "3", "0", "1", "1", "1", "1"]
    assert "dead letters" in operator("status", "vendor-1").output
    assert operator("status", "nobody").exit_code == 1
