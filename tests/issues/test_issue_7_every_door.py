"""Issue 7: "exactly the same record, provably": one report by five doors into five fresh stores.

HL7 v2 by HTTP and over a socket, a file, a view of the hospital's database, a document. What is
stored must be the same to the last element, but for what says by which door and when it came.
"""

from __future__ import annotations

import asyncio
import csv
import io
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from running import Running

from fhir_gateway.fhir.wire import parse, render
from fhir_gateway.hl7v2.mllp import Mllp
from fhir_gateway.hl7v2.mllp_client import MllpClient
from fhir_gateway.interactions.institutions import issue_token, register
from fhir_gateway.interactions.intake_tabular_load import Order, load_table
from fhir_gateway.interactions.intake_view import Pull, pull_view
from fhir_gateway.mapping.tabular_map import TableMap, read_map
from fhir_gateway.security.institution import Institution
from fhir_gateway.security.mllp_senders import read_senders
from fhir_gateway.settings import Settings

SECOND = Institution(id="second", name="示范市第二医院", facilities=("S2",))
TYPES = ("Patient", "ServiceRequest", "Specimen", "Observation", "DiagnosticReport", "Encounter")
ITEMS = (
    ("ALT", "丙氨酸氨基转移酶", "NM", "5.10", "U/L", "9--50", "H"),
    ("HBSAG", "乙肝表面抗原", "ST", "阴性（-）", "", "阴性", ""),
    ("CRP", "C反应蛋白", "NM", "<0.50", "mg/L", "0--5", ""),
    ("WBC", "白细胞", "NM", "6.0", "10^9/L", "3.5--9.5", ""),
    ("ALT", "丙氨酸氨基转移酶", "NM", "5.2", "U/L", "9--50", ""),
)

_OBR = {1: "1", 2: "O1", 3: "R1", 4: "SHQT^生化全套^L", 7: "202611180000", 14: "202611180900",
        15: "&血清", 22: "202611190000", 24: "检验", 25: "F", 32: "&报告员甲"}  # fmt: skip
V2 = "\r".join((
    "MSH|^~\\&|LIS|S2|GW|CITY|20261119000100||ORU^R01^ORU_R01|1|P|2.5.1||||||UNICODE UTF-8",
    "PID|1||700123^^^^病案号||示例甲||19580312|1",
    f"OBR|{'|'.join(_OBR.get(n, '') for n in range(1, 33))}",
    *(f"OBX|{n}|{kind}|{code}^{name}^L||{value}|{unit.replace('^', chr(92) + 'S' + chr(92))}|"
      f"{limits}|{flag}|||F"
      for n, (code, name, kind, value, unit, limits, flag) in enumerate(ITEMS, start=1)),
)).encode()  # fmt: skip

COLUMNS = {
    "patient.number": "病案号", "patient.name": "姓名", "patient.sex": "性别",
    "patient.birth_date": "出生日期", "order.number": "申请单号", "report.number": "报告单号",
    "report.code": "组合代码", "report.name": "组合名称", "report.collected": "采集时间",
    "report.received": "接收时间", "report.issued": "审核时间", "report.section": "类别",
    "report.doctor": "审核者", "report.status": "状态", "specimen.name": "标本",
    "result.code": "项目代码", "result.name": "项目名称", "result.type": "类型",
    "result.value": "结果", "result.unit": "单位", "result.range": "参考范围",
    "result.flag": "提示", "result.status": "状态",
}  # fmt: skip
ROWS = [
    ["700123", "示例甲", "1", "19580312", "O1", "R1", "SHQT", "生化全套", "2026-11-18 00:00",
     "2026-11-18 09:00", "2026-11-19 00:00:00", "检验", "报告员甲", "F", "血清", *item]
    for item in [(code, name, kind, value, unit, limits, flag)
                 for code, name, kind, value, unit, limits, flag in ITEMS]
]  # fmt: skip
HEADER = list(dict.fromkeys(COLUMNS.values()))
MAP = "\n".join((
    'institution = "second"', 'kind = "results"', "[columns]",
    *(f'"{field}" = "{column}"' for field, column in COLUMNS.items()),
    "[database]", 'url_env = "WARD_URL"', 'view = "v 检验"', 'order = ["序号"]',
))  # fmt: skip


def by_http(running: Running, _: Path) -> None:
    token = running.run(issue_token(running.gateway, SECOND.id))
    headers = {"authorization": f"Bearer {token}"}
    assert running.request("POST", "/hl7v2", content=V2, headers=headers).status_code == 200


def by_mllp(running: Running, _: Path) -> None:
    async def send() -> bytes:
        here = "[[sender]]\ninstitution = 'second'\nnetworks = ['127.0.0.0/8']"
        door = Mllp(running.gateway, read_senders(here))
        port = await door.begin("127.0.0.1", 0, None)
        try:
            async with MllpClient("127.0.0.1", port) as client:
                (answer,) = await asyncio.wait_for(client.send(V2), 30)
                return answer
        finally:
            await door.end(5)

    assert b"MSA|AA|1" in running.run(send())


def mapped(folder: Path) -> TableMap:
    (folder / "lab.toml").write_text(MAP, encoding="utf-8")
    return read_map(folder / "lab.toml", mappings=Settings().mappings)


def by_file(running: Running, folder: Path) -> None:
    text = io.StringIO()
    csv.writer(text).writerows([HEADER, *ROWS])
    raw = text.getvalue().encode("gb18030")
    order = Order("lab.csv", mapped(folder))
    loaded = running.run(
        load_table(running.gateway, lambda: io.BytesIO(raw), order, lambda *_: None)
    )
    assert (loaded.figures.stored, loaded.figures.refusals) == (1, [])


def by_view(running: Running, folder: Path) -> None:
    file = folder / "hospital.sqlite"
    with sqlite3.connect(file) as connection:
        names = ", ".join(f'"{name}" TEXT' for name in HEADER)
        connection.execute(f'CREATE TABLE "v 检验" (序号 INT, {names})')
        marks = ", ".join("?" * (len(HEADER) + 1))
        for n, row in enumerate(ROWS):
            connection.execute(f'INSERT INTO "v 检验" VALUES ({marks})', [n, *row])
    connection.close()
    pull = Pull(mapped(folder), f"sqlite:///{file}")
    (part,) = running.run(
        pull_view(running.gateway, pull, lambda *_: None, lambda *_: pytest.fail("away"))
    )
    assert (part.loaded.figures.stored, part.loaded.figures.refusals) == (1, [])


_DE = "2.16.156.10011.2.2.1"


def element(code: str, value: str, *inner: str, time: str = "", more: str = "") -> str:
    related = "".join(f'<entryRelationship typeCode="COMP">{one}</entryRelationship>'
                      for one in inner)  # fmt: skip
    return (f'<observation classCode="OBS" moodCode="EVN"><code code="{code}" codeSystem="{_DE}"/>'
            f"{time}{value}{more}{related}</observation>")  # fmt: skip


def item(code: str, name: str, kind: str, value: str, unit: str, limits: str, flag: str) -> str:
    times = '<effectiveTime><low value="202611180000"/><high value="202611180900"/></effectiveTime>'
    text = value.replace("<", "&lt;")
    if kind == "NM":
        units = element("DE04.30.016.00", f'<value xsi:type="ST">{unit}</value>')
        said = element("DE04.30.015.00", f'<value xsi:type="REAL" value="{text}"/>', units)
    else:
        said = element("DE04.30.017.00", f'<value xsi:type="ST">{text}</value>')
    found = f'<interpretationCode code="{flag}"/>' if flag else ""
    limit = f"<observationRange><text>{limits}</text></observationRange>"
    body = element(
        "DE04.30.019.00", f'<value xsi:type="CD" code="{code}" displayName="{name}"/>',
        element("DE04.50.134.00", '<value xsi:type="ST">血清</value>', time=times), said,
        more=f"{found}<referenceRange>{limit}</referenceRange>",
    )  # fmt: skip
    return f"<component>{body}</component>"


def document() -> bytes:
    number = '<id root="2.16.156.10011.1.{}" extension="{}"/>'.format
    person = "<assignedPerson><name>报告员甲</name></assignedPerson>"
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<ClinicalDocument xmlns="urn:hl7-org:v3" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">
<templateId root="2.16.156.10011.2.1.1.27"/>{number(1, "D1")}
<code code="C0007" codeSystem="2.16.156.10011.2.4"/><title>检验报告</title>
<effectiveTime value="20261119000100"/>
<recordTarget><patientRole>{number(13, "700123")}{number(33, "R1")}{number(24, "O1")}
<patient><name>示例甲</name><administrativeGenderCode code="1"/><birthTime value="19580312"/>
</patient></patientRole></recordTarget>
<author><time value="202611190000"/><assignedAuthor>{person}</assignedAuthor></author>
<custodian><assignedCustodian><representedCustodianOrganization><name>示范市第二医院</name>
</representedCustodianOrganization></assignedCustodian></custodian>
<legalAuthenticator><time value="202611190000"/><assignedEntity>{person}</assignedEntity>
</legalAuthenticator><component><structuredBody><component><section>
<code code="30954-2" codeSystem="2.16.840.1.113883.6.1"/><text/>
<entry><organizer classCode="CLUSTER" moodCode="EVN"><code code="SHQT" displayName="生化全套"/>
{"".join(item(*one) for one in ITEMS)}</organizer></entry>
</section></component></structuredBody></component></ClinicalDocument>""".encode()


def by_document(running: Running, _: Path) -> None:
    token = running.run(issue_token(running.gateway, SECOND.id))
    headers = {"authorization": f"Bearer {token}", "content-type": "application/xml"}
    answer = running.request("POST", "/cda", content=document(), headers=headers)
    assert answer.status_code == 200, answer.text
    assert len(answer.json()["issue"]) == 1, answer.text


DOORS: dict[str, Callable[[Running, Path], None]] = {
    "v2": by_http, "mllp": by_mllp, "file": by_file, "view": by_view, "cda": by_document,
}  # fmt: skip


def record(running: Running) -> dict[str, bytes]:
    """All that is clinical, by name, without when and by which door it came."""
    token = running.run(issue_token(running.gateway, SECOND.id))
    found: dict[str, bytes] = {}
    for type in TYPES:
        page = running.get(f"/fhir/{type}?_count=100",
                           headers={"authorization": f"Bearer {token}"})  # fmt: skip
        for entry in parse(page.content).get("entry", ()):
            one = entry["resource"]
            if one["resourceType"] != type:
                continue
            for name in ("source", "lastUpdated", "versionId"):
                one["meta"].pop(name, None)
            found[f"{one['resourceType']}/{one['id']}"] = render(one)  # 5.10 is not 5.1
    return found


@pytest.mark.drivers("sqlite")
def test_one_report_is_one_record_by_every_door(
    start: Callable[..., Running], tmp_path: Path
) -> None:
    """Faults 5 and 6."""
    records = {}
    for name, send in DOORS.items():
        running = start(name=name, open_access=True)
        running.run(register(running.gateway, SECOND))
        send(running, tmp_path)
        records[name] = record(running)
    said = records["v2"]
    types = [name.partition("/")[0] for name in said]
    assert {type: types.count(type) for type in types} == {
        "Patient": 1, "ServiceRequest": 1, "Specimen": 1, "Observation": 5, "DiagnosticReport": 1,
    }  # fmt: skip
    assert any(b'"value":5.10,' in one for one in said.values())
    for name, found in records.items():
        assert found == said, name
