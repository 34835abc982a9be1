"""OBR-24 in the spellings of senders: the category has a code of table 0074, whatever came."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fhir_gateway.mapping.tables import table
from fhir_gateway.mapping.v2 import parse
from fhir_gateway.mapping.v2_oru import map_oru
from fhir_gateway.security.institution import Institution
from fhir_gateway.terminology.builtin import builtin_systems
from fhir_gateway.terminology.value_set import load_vocabulary

ROOT = Path(__file__).resolve().parents[2]
TABLES = str(ROOT / "mappings" / "v2")
V2_0074 = "http://terminology.hl7.org/CodeSystem/v2-0074"
ROWS = table(TABLES, "sections", "section")


def _section_codes(kind: str) -> set[str]:
    name = {"lab": "laboratory", "imaging": "imaging"}[kind]
    path = ROOT / "profiles" / "ValueSet" / f"{name}-section.json"
    (include,) = json.loads(path.read_text(encoding="utf-8"))["compose"]["include"]
    assert include["system"] == V2_0074
    return {one["code"] for one in include["concept"]}


@pytest.mark.parametrize("received", sorted(ROWS))
def test_every_section_is_a_code_of_the_table_and_of_its_profile(received: str) -> None:
    """MR, US, DX … were written as they came, and our own profile refused the report."""
    systems = builtin_systems(load_vocabulary(str(ROOT / "terminology")))
    (known,) = [one for one in systems if one.url == V2_0074]
    row = ROWS[received]
    concept = known.find(row.extra)
    assert concept is not None
    assert concept.display == row.display
    assert row.extra in _section_codes(row.code)


@pytest.mark.parametrize(
    ("sent", "code"), [("MR", "NMR"), ("US", "RUS"), ("dx", "RX"), ("超声科", "RUS"), ("CH", "CH")]
)
def test_what_was_sent_stays_as_the_text(sent: str, code: str) -> None:
    lines = (
        "MSH|^~\\&|RIS|S1|GW||20261118||ORU^R01|1|P|2.5.1||||||UNICODE UTF-8",
        "PID|1||P1^^^^PI||某某",
        f"OBR|1|O1|R1|X1^检查^L|||202611180812|||||||||||||||202611181130||{sent}|F",
        "OBX|1|TX|1^所见^L||未见异常||||||F",
    )
    raw = "\r".join(lines).encode()
    own = Institution(id="sample", name="示例医院", facilities=("S1",))
    found = map_oru(parse(raw, default_charset="UTF-8", folder=TABLES), own, folder=TABLES)
    (report,) = [one for one in found.resources if one["resourceType"] == "DiagnosticReport"]
    (category,) = report["category"]
    assert (category["coding"][0]["code"], category["text"]) == (code, sent)
