"""A mixed day, replayed from its kept bytes into a fresh store of either kind: the same store."""

from __future__ import annotations

import json
from io import BytesIO
from pathlib import Path
from typing import Any

import apsw
import pytest
from click.testing import CliRunner
from databases import Databases
from intake_cases import OTHER, SECOND, opened

from fhir_gateway.cli import main
from fhir_gateway.context import Gateway
from fhir_gateway.fhir.wire import instant
from fhir_gateway.interactions.institutions import register
from fhir_gateway.interactions.intake_tabular_load import Order, load_table
from fhir_gateway.mapping.tabular_map import read_map
from fhir_gateway.security.actor import Actor
from fhir_gateway.security.institution import Institution
from fhir_gateway.store.blobs import pack, unpack

MSH = "MSH|^~\\&|LIS|{facility}|GW|CITY|20261118113100||{kind}|{id}|P|2.5.1||||||UNICODE UTF-8"
PID = "PID|1||70012{n}^^^{facility}^PI||张示{n}||1958031{n}|M|||||||||||11990019580312001{n}"
ORDER = (
    "OBR|1|O{n}|R{n}|SHQT^生化全套^L|||202611180812|||||||||||||||2026111811{minute}||CH|{status}"
)
OBX = "OBX|1|NM|1742-6^丙氨酸氨基转移酶^LN||{value}|U/L|9--50||||{status}"
OBX2 = "OBX|2|ST|HBSAG^乙肝表面抗原^L||阴性（-）||||||{status}"


class Day:
    """Messages of a day, numbered, as two hospitals sent them."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, bytes]] = []

    def add(self, facility: str, kind: str, *lines: str, **said: Any) -> None:
        whole = "\r".join([MSH, *lines])
        values = {"facility": facility, "kind": kind, "id": len(self.sent) + 1, **said}
        self.sent.append((facility, whole.format(**values).encode()))


def mixed() -> Day:
    """60 messages: orders, reports, corrections, visits, duplicates, refused ones."""
    day = Day()
    for n in range(8):
        day.add("S2", "ORM^O01", PID, "ORC|NW|O{n}", "OBR|1|O{n}||SHQT^生化全套^L", n=n)
        day.add("S2", "ORU^R01", PID, ORDER, OBX, n=n, status="P", value="31", minute="10")
    for n in range(8):
        facility = "S3" if n % 3 else "S2"
        day.add(facility, "ORU^R01", PID, ORDER, OBX, OBX2, n=n, status="F", value=f"3{n}.0",
                minute="30")  # fmt: skip
        day.add(facility, "ORU^R01", PID, ORDER, OBX, n=n, status="C", value=f"4{n}.0",
                minute="45")  # fmt: skip
        day.add(facility, "ORU^R01", PID, ORDER, OBX, n=n, status="F", value="9", minute="05")
    for n in range(4):
        day.add("S2", "ADT^A01", "EVN||2026111808{n}000", PID,
                "PV1|1|I|B5^501^2||||||||||||||||V7{n}", n=n)  # fmt: skip
        day.add("S2", "ORU^R01", ORDER, OBX, n=n, status="F", value="1", minute="30")
    day.sent += day.sent[3:15]
    assert len(day.sent) == 60
    return day


ROW = {
    "病案号": "80000{n}", "身份证号": "", "姓名": "张示{n}", "性别": "女", "出生日期": "1958/03/12",
    "就诊号": "", "就诊类型": "", "申请单号": "OT{n}", "申请医生": "", "报告单号": "RT{n}",
    "组合代码": "SHQT", "组合名称": "生化全套", "采集时间": "2026/11/18 08:12", "接收时间": "",
    "审核时间": "2026-11-18 11:30:00", "报告状态": "{status}", "审核者": "", "标本": "血清",
    "项目代码": "1742-6", "项目名称": "丙氨酸氨基转移酶", "结果": "32", "单位": "U/L",
    "参考下限": "9", "参考上限": "50", "提示": "", "报告类别": "生化",
    "更新时间": "2026-11-18 11:31:00",
}  # fmt: skip


def rows() -> bytes:
    """A report of a table, and one whose status nobody knows."""
    lines = [",".join(ROW)]
    for n, status in enumerate(("已审核", "怪状态")):
        lines.append(",".join(ROW.values()).format(n=n, status=status))
    return "".join(f"{line}\r\n" for line in lines).encode("gb18030")


TABLES = Institution(id="demo-second", name="示范市第四医院")


async def load_rows(gateway: Gateway) -> None:
    """Loads a table of a hospital that is registered in the middle of the day."""
    await register(gateway, TABLES)
    mappings = gateway.settings.mappings
    named = read_map(Path(mappings, "tabular", "demo-second-results.toml"), mappings=mappings)
    order = Order("lis.csv", named)
    loaded = await load_table(gateway, lambda: BytesIO(rows()), order, lambda *_: None)
    assert (loaded.figures.stored, loaded.figures.refused) == (1, 1)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a store that took the day in."""
    folder = tmp_path_factory.mktemp("day")
    own = {"S2": SECOND, "S3": OTHER}
    codes: list[str] = []
    with opened(folder) as one:
        for number, (facility, raw) in enumerate(mixed().sent):
            if number == 30:
                one.runner.run(load_rows(one.gateway))
            who = own[facility]
            actor = Actor("institution", who.name, institution=who.id)
            codes.append(one.send(raw, actor).code)
    assert (codes.count("AA"), codes.count("AE")) == (56, 4)
    return folder


def replayed(folder: Path, target: str, *more: str) -> tuple[int, dict[str, Any]]:
    source = f"sqlite:///{folder}/gateway.sqlite"
    result = CliRunner().invoke(
        main, ["messages", "replay", "--from", source, "--to", target, "--json", *more]
    )
    assert result.exit_code in (0, 1), result.output
    return result.exit_code, json.loads(result.stdout)


def test_a_day_replayed_gives_the_identical_store(recorded: Path, database: Databases) -> None:
    code, told = replayed(recorded, database.url("again"))
    assert told["differences"] == []
    assert (code, told["identical"]) == (0, True)
    assert told["recorded"] == told["replayed"]
    assert told["messages"] == 50  # two rows of a table; a repeat is the same message
    assert told["versions"] > 100
    assert told["facts"] >= 8
    assert told["left_out"] == {}


def copied(recorded: Path, folder: Path) -> Path:
    (folder / "gateway.sqlite").write_bytes((recorded / "gateway.sqlite").read_bytes())
    return folder


def connection_of(folder: Path) -> apsw.Connection:
    return apsw.Connection(str(folder / "gateway.sqlite"))


def change_a_message(connection: apsw.Connection) -> None:
    """Another digit in the kept bytes of a correction."""
    hash = connection.execute(
        "SELECT hash FROM message WHERE kind = 'ORU^R01 correction' ORDER BY t LIMIT 1"
    ).get
    enc, body = connection.execute("SELECT enc, body FROM received WHERE hash = ?", (hash,)).get
    raw = bytearray(unpack(enc, body))
    raw[raw.index(b".0|U/L") - 1] ^= 1
    changed = (*pack(bytes(raw)), hash)
    connection.execute("UPDATE received SET enc = ?, body = ? WHERE hash = ?", changed)


def change_a_version(connection: apsw.Connection) -> str:
    """Another day in the last resource that was made of a message; its id."""
    home, type, rid, id, enc, body = connection.execute(
        "SELECT home, type, rid, id, enc, body FROM resource WHERE enc < 2 AND home > 0"
        " AND source IS NOT NULL AND body IS NOT NULL ORDER BY rid DESC LIMIT 1"
    ).get
    tail = unpack(enc, body).replace(b"2026-11-18", b"2026-11-19")
    changed = (*pack(tail), home, type, rid)
    connection.execute(
        "UPDATE resource SET enc = ?, body = ? WHERE home = ? AND type = ? AND rid = ?", changed
    )
    return str(id)


@pytest.mark.drivers("sqlite")
def test_one_byte_changed_in_a_message_or_a_version_is_found(
    recorded: Path, tmp_path: Path
) -> None:
    folder = copied(recorded, tmp_path)
    connection = connection_of(folder)
    change_a_message(connection)
    id = change_a_version(connection)
    connection.close()
    code, told = replayed(folder, f"sqlite:///{tmp_path}/again.sqlite")
    assert (code, told["identical"]) == (1, False)
    differences = {one["what"]: one["how"] for one in told["differences"]}
    assert told["differences"][0]["how"] == "its kept bytes are not those that were received"
    assert "not there after the replay" in differences.values()
    assert [how for what, how in differences.items() if id in what] == ["another content"]
    assert told["recorded"] != told["replayed"]


@pytest.mark.drivers("sqlite")
def test_a_part_of_a_day_says_what_rests_on_earlier_messages(
    recorded: Path, tmp_path: Path
) -> None:
    connection = connection_of(recorded)
    middle = connection.execute("SELECT received FROM message ORDER BY t LIMIT 1 OFFSET 40").get
    connection.close()
    target = f"sqlite:///{tmp_path}/again.sqlite"
    _, told = replayed(recorded, target, "--since", instant(middle))
    assert told["resting"] > 0
    assert 0 < told["messages"] < 12
    assert told["versions"] > 0


@pytest.mark.drivers("sqlite")
def test_a_store_that_has_messages_is_no_fresh_one(recorded: Path, tmp_path: Path) -> None:
    folder = copied(recorded, tmp_path)
    source = f"sqlite:///{recorded}/gateway.sqlite"
    for target in (f"sqlite:///{folder}/gateway.sqlite", source):
        result = CliRunner().invoke(main, ["messages", "replay", "--from", source, "--to", target])
        assert result.exit_code == 2
        assert "store" in result.stderr
