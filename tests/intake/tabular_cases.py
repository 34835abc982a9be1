"""What the tests of tables share: a map of the second hospital, rows, and a load of them."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

from intake_cases import Opened

from fhir_gateway.context import Gateway
from fhir_gateway.interactions.institutions import register
from fhir_gateway.interactions.intake_tabular_load import Loaded, Order, load_table
from fhir_gateway.mapping.ids import business_id
from fhir_gateway.mapping.tabular_map import TableMap, read_map
from fhir_gateway.security.actor import Actor
from fhir_gateway.security.institution import Institution
from fhir_gateway.settings import Settings

MAPPINGS = Settings().mappings
TYPES = ("Patient", "ServiceRequest", "Observation", "DiagnosticReport")
RESULTS = """
institution = "second"
kind = "results"
watermark = "更新时间"
[columns]
"patient.number" = "病案号"
"patient.document" = "身份证号"
"patient.name" = "姓名"
"patient.sex" = "性别"
"patient.birth_date" = "出生日期"
"order.number" = "申请单号"
"report.number" = "报告单号"
"report.code" = "组合代码"
"report.name" = "组合名称"
"report.collected" = "采集时间"
"report.issued" = "审核时间"
"report.status" = "状态"
"result.code" = "项目代码"
"result.name" = "项目名称"
"result.type" = "类型"
"result.value" = "结果"
"result.unit" = "单位"
"result.range" = "参考范围"
"result.status" = "状态"
[constants]
"report.section" = "CH"
[values."report.status"]
"已审核" = "F"
"已更正" = "C"
[values."result.status"]
"已审核" = "F"
"已更正" = "C"
"""
STUDIES = """
institution = "second"
kind = "studies"
code_page = "UTF-8"
[columns]
"patient.number" = "patient"
"study.uid" = "study"
"study.date" = "date"
"study.name" = "name"
"series.uid" = "series"
"series.modality" = "modality"
"series.instances" = "images"
"""
HEADER = ("病案号,身份证号,姓名,性别,出生日期,申请单号,报告单号,组合代码,组合名称,采集时间,"
          "审核时间,状态,项目代码,项目名称,类型,结果,单位,参考范围,更新时间")  # fmt: skip
_ITEMS = {"ALT": "丙氨酸氨基转移酶,NM,{value},U/L,9--50", "CREA": "肌酐,NM,{value},μmol/L,57--111"}


def row(
    number: int = 1,
    item: str = "ALT",
    value: str = "32",
    *,
    status: str = "已审核",
    issued: str = "2026-11-18 11:30:00",
    marked: str = "2026-11-18 11:31:00",
    person: int = 0,
) -> str:
    """A row; the report R1 of person 0 is the one of `intake_cases.report`, apart from flags."""
    document = "" if person else "119900195803120010"
    who = f"70012{3 + person},{document},张示一,男,1958/3/12"
    what = _ITEMS[item].format(value=value)
    return (f"{who},O{number},R{number},SHQT,生化全套,2026-11-18 08:12,{issued},{status},{item},"
            f"{what},{marked}")  # fmt: skip


def file(*rows: str, codec: str = "gb18030") -> bytes:
    return "".join(f"{line}\r\n" for line in (HEADER, *rows)).encode(codec)


def table(folder: Path, text: str = RESULTS, name: str = "results") -> TableMap:
    path = folder / f"{name}.toml"
    path.write_text(text, encoding="utf-8")
    return read_map(path, mappings=MAPPINGS)


class Ward:
    """A hospital of its own in a gateway that tests share, and what is stored since it was made."""

    def __init__(self, opened: Opened, id: str, folder: Path) -> None:
        self.opened, self.id, self.folder = opened, id, folder
        self.sender = Institution(id=id, name="示范市第二医院", facilities=("S2",))
        opened.runner.run(register(opened.gateway, self.sender))
        self.map = self.mapped(RESULTS)
        self._before = opened.stored(*TYPES, "AuditEvent")

    def mapped(self, text: str) -> TableMap:
        return table(self.folder, text.replace('"second"', f'"{self.id}"'))

    def load(self, content: bytes, named: TableMap | None = None, **how: bool) -> Loaded:
        loaded = loading(self.opened.gateway, content, named or self.map, **how)
        return self.opened.runner.run(loaded)

    def send(self, raw: bytes) -> None:
        actor = Actor("institution", self.sender.name, institution=self.id)
        assert self.opened.send(raw, actor).error is None

    def stored(self) -> list[int]:
        """How many of each of TYPES, then of AuditEvents, are new."""
        now = self.opened.stored(*TYPES, "AuditEvent")
        return [now[type] - self._before[type] for type in now]

    def one(self, type: str, item: str = "ALT") -> dict[str, Any]:
        """A resource of the report R1, by its business key."""
        report = ("report", "R1", "SHQT")
        key = {
            "Patient": ("700123",), "ServiceRequest": ("O1", "SHQT"), "DiagnosticReport": report,
            "Observation": (*report, item, "", "1"),
        }[type]  # fmt: skip
        return self.opened.read(type, business_id(self.id, type, *key))


async def loading(
    gateway: Gateway, content: bytes, named: TableMap, *, dry_run: bool = False, again: bool = False
) -> Loaded:
    order = Order("results.csv", named, dry_run, again)
    return await load_table(gateway, lambda: BytesIO(content), order, lambda *_: None)


def bare(resource: dict[str, Any]) -> dict[str, Any]:
    """Without what says when it was stored and by which door."""
    return resource | {"meta": {"tag": resource["meta"].get("tag", [])}}
