"""The ledger, the packet and retention: figures, forms, what is removed (faults 29, 71, 157)."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from base64 import b64decode
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from databases import Databases
from running import BASE, Running

from fhir_gateway.accountability import retention as room
from fhir_gateway.accountability.incident import Asked, packet
from fhir_gateway.accountability.retention_file import load_retention, shipped
from fhir_gateway.audit.events import read_event
from fhir_gateway.audit.tree import includes, leaf
from fhir_gateway.cli import main
from fhir_gateway.cli.incident import _proving
from fhir_gateway.errors import Conflict, Invalid
from fhir_gateway.fhir.keys import type_key
from fhir_gateway.interactions.audit import call_of, disclose, entry
from fhir_gateway.interactions.jobs import work_once
from fhir_gateway.rest.later import WORKS
from fhir_gateway.security.actor import Actor
from fhir_gateway.store import blobs
from fhir_gateway.store.log import Purge
from fhir_gateway.store.query import Query
from fhir_gateway.transparency import keys
from fhir_gateway.transparency.note import Signer, read_checkpoint, read_note
from fhir_gateway.transparency.sequencer import Sequencer

Json = dict[str, Any]
NAME = "ledger"
DAY = 86_400_000_000

EVIL = Actor(
    "clinician", '=HYPERLINK("http://x")\x1b[2J', "demo-a", user="+cmd|' /C calc'!A0",
    client="his-a", token="jti-7", purpose="TREAT",
)  # fmt: skip


@pytest.fixture(scope="module")
def server(shared_database: Databases) -> Iterator[Running]:
    one = Running(shared_database.url(NAME), open_access=True)
    for id in ("p1", "p2"):
        one.put(f"/fhir/Patient/{id}", {"resourceType": "Patient", "id": id})
    for id in ("p1", "p1", "p2"):
        event = read_event(call_of(one.gateway, EVIL), type="Patient", id=id, patient=id)
        one.run(disclose(one.gateway, [entry(one.gateway, event, patient=id)]))
    kicked = one.get("/fhir/Patient/$export?_type=Patient", headers={"prefer": "respond-async"})
    place = kicked.headers["content-location"].removeprefix(BASE)
    while one.run(work_once(one.gateway, WORKS)):
        pass
    (file,) = one.get(place).json()["output"]
    one.get(file["url"].removeprefix(BASE))
    yield one
    one.close()


def command(database: Databases, *arguments: str, name: str = NAME) -> Any:
    done = CliRunner().invoke(main, [*arguments, "--database", database.url(name)])
    assert done.exit_code == 0, (done.output, done.exception)
    return done


def test_029_the_ledger_is_complete_and_no_cell_is_a_formula(
    server: Running, shared_database: Databases
) -> None:
    done = command(shared_database, "disclosures", "export")
    text = done.stdout_bytes.decode("utf-8-sig")
    rows = list(csv.DictReader(io.StringIO(text)))
    assert done.stdout_bytes.startswith(b"\xef\xbb\xbf")
    read = [row for row in rows if row["类别 kind"] == "read"]
    assert [row["患者 patient"] for row in read if "his-a" in row["客户端 client"]] == [
        "p1", "p1", "p2",
    ]  # fmt: skip
    mine = read[0]
    assert mine["机构名称 recipient name"].startswith("'=HYPERLINK")
    assert mine["人员 who"].startswith("'+cmd")
    assert "\x1b" not in text
    handed = [row for row in rows if row["类别 kind"] == "disclosure" and row["患者 patient"]]
    assert sorted(row["患者 patient"] for row in handed) == ["p1", "p2"]  # the export names both
    assert not any(cell[:1] in ("=", "+", "-", "@") for row in rows for cell in row.values())


def test_029_the_ledger_in_the_encoding_of_old_spreadsheets_and_as_lines(
    server: Running, shared_database: Databases, tmp_path: Path
) -> None:
    out = tmp_path / "ledger.csv"
    command(shared_database, "disclosures", "export", "--encoding", "gb18030", "--output", str(out))
    assert "读取" in out.read_bytes().decode("gb18030")
    lines = command(
        shared_database, "disclosures", "export", "--format", "ndjson", "--institution", "demo-a"
    )
    found = [json.loads(line) for line in lines.stdout_bytes.splitlines()]
    assert [one["patient"] for one in found] == ["p1", "p1", "p2"]
    assert {one["recipient"] for one in found} == {"demo-a"}
    none = command(
        shared_database, "disclosures", "export", "--format", "ndjson", "--to", "2001-01-01"
    )
    assert none.stdout_bytes == b""


@pytest.mark.parametrize(
    ("sign", "value", "records", "persons"),
    [("client", "his-a", 3, 2), ("token", "jti-7", 3, 2), ("institution", "demo-a", 3, 2),
     ("user", "+cmd|' /C calc'!A0", 3, 2), ("client", "nobody", 0, 0),
     ("resource", "Patient/p2", 3, 2)],
)  # fmt: skip
def test_an_incident_packet_says_who_what_and_how_many(
    server: Running, sign: str, value: str, records: int, persons: int
) -> None:
    made = server.run(packet(server.gateway, Asked(0, 1 << 62, **{sign: value})))
    if sign == "resource":  # created, read, and in an export beside the other one
        assert made.tally.records >= records
        assert "p2" in made.tally.persons
        return
    assert (made.tally.records, len(made.tally.persons)) == (records, persons)
    summary = made.files["summary.md"].decode()
    assert f"- 记录数 / records: {records}" in summary
    assert "\x1b" not in summary
    events = [json.loads(line) for line in made.files["events.ndjson"].splitlines()]
    assert len(events) == records
    for line in made.files["SHA256SUMS"].decode().splitlines():
        digest, name = line.split("  ")
        assert sha256(made.files[name]).hexdigest() == digest


def test_an_incident_packet_is_one_command(
    server: Running, shared_database: Databases, tmp_path: Path
) -> None:
    folder, archive = tmp_path / "packet", tmp_path / "packet.zip"
    for output in (folder, archive):
        command(
            shared_database, "incident", "packet", "--since", "2020-01-01", "--client", "his-a",
            "--output", str(output),
        )  # fmt: skip
    with zipfile.ZipFile(archive) as packed:
        names = sorted(packed.namelist())
    assert names == sorted(one.name for one in folder.iterdir())
    assert {"summary.md", "events.ndjson", "persons.csv", "SHA256SUMS"} <= set(names)
    again = CliRunner().invoke(
        main,
        ["incident", "packet", "--since", "2020-01-01", "--output", str(folder), "--database",
         shared_database.url(NAME)],
    )  # fmt: skip
    assert again.exit_code == 1
    assert "is there" in again.output


# -- retention -------------------------------------------------------------------------------------


class Late:
    """A clock that is ahead by years."""

    def __init__(self, days: int) -> None:
        from fhir_gateway.context import SystemClock

        self._clock, self.ahead = SystemClock(), days * DAY

    def now(self) -> int:
        return self._clock.now() + self.ahead


def old(start: Callable[..., Running], days: int) -> Running:
    """A gateway whose clock is set on after some acts."""
    from fhir_gateway.app import build

    server = start(open_access=True)
    server.put("/fhir/Patient/p1", {"resourceType": "Patient", "id": "p1"})
    for _ in range(3):
        server.get("/fhir/Patient/p1")
    server.get("/fhir/AuditEvent?_count=1")
    server.run(server.application.close())
    server.application = server.run(build(server.settings, clock=Late(days)))
    server.gateway = server.application.gateway
    import httpx

    server.http = httpx.AsyncClient(
        transport=httpx.ASGITransport(app=server.application.asgi), base_url=BASE
    )
    return server


def journal(server: Running) -> list[Any]:
    rows: list[Any] = server.run(
        server.gateway.store.log_rows(
            Query("SELECT id, leaf, nonce, enc, body FROM journal WHERE type = ? ORDER BY t, n, i",
                  (type_key("AuditEvent"),))
        )
    )  # fmt: skip
    return rows


async def carried_out(server: Running, number: str) -> int:
    total = 0
    table = load_retention(shipped())
    async for piece in room.apply(server.gateway, table, plan=number, by="示例保护官"):
        total += piece.records
    return total


def test_157_what_is_purged_leaves_its_leaf_and_a_record(
    start: Callable[..., Running], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = old(start, 2_000)
    monkeypatch.setattr(room, "PIECE", 2)
    table = load_retention(shipped())
    before = {row[0]: bytes(row[1]) for row in journal(server)}
    plan = server.run(room.plan_of(server.gateway, table))
    (audit,) = [due for due in plan.due if due.kept.name == "audit"]
    assert audit.records == len(before)
    due = sum(one.records for one in plan.due)  # the bytes of the one write too
    assert server.run(carried_out(server, plan.number)) == due == len(before) + 1
    rows = journal(server)
    assert {row[0]: bytes(row[1]) for row in rows if row[0] in before} == before
    gone = [row for row in rows if row[0] in before]
    assert all((row[3], bytes(row[2]), bytes(row[4])) == (blobs.PURGED, b"", b"") for row in gone)
    for row in rows:
        if row[0] not in before:  # what was removed is on record, whole
            assert leaf(bytes(row[2]), blobs.unpack(row[3], bytes(row[4]))) == bytes(row[1])
    assert server.run(room.unaccounted(server.gateway)) == 0
    for id in before:
        assert server.get(f"/fhir/AuditEvent/{id}").status_code == 410
    found = server.get("/fhir/AuditEvent?patient=Patient/p1&subtype=read").json()
    assert found.get("entry", []) == []
    assert server.get("/fhir/AuditEvent/_history?_count=50").status_code == 200
    assert server.get("/fhir/Patient/p1/$accesses").status_code == 200
    again = server.run(room.plan_of(server.gateway, table))
    assert [due.records for due in again.due] == [0, 0]


def test_157_nothing_is_removed_early_or_without_the_plan(start: Callable[..., Running]) -> None:
    server = old(start, 1_000)
    plan = server.run(room.plan_of(server.gateway, load_retention(shipped())))
    assert server.run(carried_out(server, plan.number)) == 0
    with pytest.raises(Conflict):
        server.run(carried_out(server, "0123456789ab"))
    everything = (1 << 62, 0, 0)
    with pytest.raises(Conflict, match="younger"):  # whoever asks the store itself
        now = server.gateway.clock.now()
        server.run(server.gateway.store.log(Purge((-1, -1, -1), everything, now)))
    assert not any(row[3] == blobs.PURGED for row in journal(server))


def test_157_a_row_that_nobody_accounts_for_is_counted(
    start: Callable[..., Running], database: Databases
) -> None:
    server = old(start, 0)
    assert server.run(room.unaccounted(server.gateway)) == 0
    server.run(server.gateway.store.drain())  # a loop that stands must hold no lock
    database.execute(
        f"UPDATE journal SET enc = {blobs.PURGED} WHERE t = (SELECT max(t) FROM journal)", "gateway"
    )
    assert server.run(room.unaccounted(server.gateway)) == 1


def test_the_commands_of_retention(server: Running, shared_database: Databases) -> None:
    shown = command(shared_database, "retention", "show").output
    assert "审计事件" in shown
    assert "export_hours" in shown
    number = command(shared_database, "retention", "plan").output.split()[-1]
    done = command(shared_database, "retention", "apply", "--plan", number, "--by", "示例保护官")
    assert "audit: 0 removed" in done.output


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [("days = 1826", "days = 30", "the law asks for"), ("days = 1826", "", "how long"),
     ('action = "keep"', 'action = "purge"', "can be removed"),
     ('action = "outside"', 'action = "burn"', "action is one of"),
     ("[classes.audit]", "[classes.other]", "must be in the table"),
     ("[", "[[[", "cannot be read")],
)  # fmt: skip
def test_a_table_that_keeps_too_short_is_refused(
    tmp_path: Path, before: str, after: str, said: str
) -> None:
    path = tmp_path / "retention.toml"
    path.write_text(shipped().read_text("utf-8").replace(before, after, 1), "utf-8")
    with pytest.raises(Invalid) as refused:
        load_retention(path)
    assert any(said in (issue.diagnostics or "") for issue in refused.value.issues)


def test_157_an_incident_packet_bears_proofs_that_lead_to_its_head(
    start: Callable[..., Running], tmp_path: Path
) -> None:
    key = tmp_path / "log.key"
    keys.write_new(key, Signer("gw.example/audit-log", bytes(32)))
    server = start(open_access=True, log_key=str(key))
    server.put("/fhir/Patient/p1", {"resourceType": "Patient", "id": "p1"})
    for _ in range(4):
        server.get("/fhir/Patient/p1")
    sequencer = Sequencer(server.gateway)
    server.run(sequencer.all())
    server.run(sequencer.vacate())
    head, prover = server.run(_proving(server.gateway, 3))
    asked = Asked(0, 1 << 62, resource="Patient/p1")
    made = server.run(packet(server.gateway, asked, prover=prover, head=head))
    root = read_checkpoint(read_note(made.files["head.txt"].decode()).text).root
    proofs = [json.loads(line) for line in made.files["proofs.ndjson"].splitlines()]
    assert made.tally.records == 5
    assert len(proofs) == 3  # as many as were asked for
    for proof in proofs:
        path = [b64decode(one) for one in proof["path"]]
        assert b64decode(proof["root"]) == root
        assert includes(b64decode(proof["leaf"]), proof["index"], proof["size"], path, root)
