"""The audit log over HTTP and on the command line, with a whole gateway behind it."""

from __future__ import annotations

import json
import threading
from base64 import b64decode
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from audit_logs import SmallLog, standalone
from click.testing import CliRunner
from databases import Databases
from effort import TORTURE
from running import Running

from fhir_gateway.audit import tree
from fhir_gateway.audit.events import administration_event
from fhir_gateway.audit.tree_tiles import split
from fhir_gateway.cli.audit import command
from fhir_gateway.interactions.audit import call_of, disclose, entry
from fhir_gateway.security.actor import GATEWAY
from fhir_gateway.transparency.note import read_checkpoint, read_note
from fhir_gateway.transparency.sequencer import Sequencer
from fhir_gateway.transparency.verify import verify

OTHER = standalone()


def signed(client: Running) -> None:
    """Records of a few reads, numbered and signed."""
    for _ in range(2):
        client.get("/fhir/Patient")
    sequencer = Sequencer(client.gateway)
    client.run(sequencer.all())
    client.run(sequencer.vacate())


@pytest.fixture(scope="module")
def served(shared_database: Databases, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A gateway with open access and a key, and a log of some records."""
    key = tmp_path_factory.mktemp("key") / "log.key"
    made = CliRunner().invoke(command, ["key", "new", str(key), "--name", "gw.example/log"])
    assert made.exit_code == 0
    one = shared_database.running("gateway", open_access=True, log_key=str(key))
    event = administration_event(call_of(one.gateway, GATEWAY), act="test", summary="1")
    one.run(disclose(one.gateway, [entry(one.gateway, event) for _ in range(300)]))
    signed(one)
    yield one, made.output.strip()
    one.close()


def newest(client: Running) -> str:
    """The id of the newest AuditEvent."""
    found = client.get("/fhir/AuditEvent?_sort=-_lastUpdated&_count=1").json()
    return str(found["entry"][0]["resource"]["id"])


def told(client: Running, path: str, status: int = 200) -> Any:
    answer = client.get(f"/audit-log{path}")
    assert answer.status_code == status, answer.text
    return answer.json() if "json" in answer.headers["content-type"] else answer


def test_heads_and_statements_are_signed_by_the_key(served: tuple[Running, str]) -> None:
    client, key = served
    chain = OTHER.read_chain([each["note"] for each in told(client, "/statements")], OTHER.Key(key))
    text = told(client, "/checkpoint").text
    size, root, _ = OTHER.check_head(chain, text)
    status = told(client, "")
    assert (status["size"], status["late"], status["alarm"]) == (size, False, "")
    heads = told(client, "/heads")
    assert heads[-1]["note"] == text
    assert told(client, f"/heads?after={size}") == []
    assert told(client, f"/checkpoint?size={size}").text == text
    told(client, "/checkpoint?size=1", status=404)
    assert len(root) == 32


def test_tiles_give_the_root_of_the_head(served: tuple[Running, str]) -> None:
    client, _ = served
    said = read_checkpoint(read_note(told(client, "/checkpoint").text).text)
    first = told(client, "/tile/0/000").content
    rest = told(client, f"/tile/0/001.p/{said.size - 256}").content
    assert tree.root(split(first + rest)) == said.root
    assert told(client, "/tile/1/000.p/1").content == tree.root(split(first))
    assert "immutable" in told(client, "/tile/0/000").headers["cache-control"]
    for wrong in ("0/001", "0/1", "0/x000/000", "64/000", "0/001.p/0", "0/001.p/257", "0/000.p",
                  "-1/000", "0/000/", "../0/000", "0/002", "3/000.p/1"):  # fmt: skip
        told(client, f"/tile/{wrong}", status=200 if wrong == "0/x000/000" else 404)


def test_150_an_event_is_proved_over_http(served: tuple[Running, str]) -> None:
    client, _ = served
    id = newest(client)
    signed(client)
    whole = told(client, f"/entry?event={id}")
    proof = told(client, f"/proof/inclusion?event={id}")
    path = [b64decode(each) for each in proof["path"]]
    root = b64decode(proof["root"])
    assert OTHER.included(OTHER.leaf_of(whole), proof["index"], proof["size"], path, root)
    assert told(client, f"/proof/inclusion?index={proof['index']}") == proof
    assert told(client, f"/proof/inclusion?event=AuditEvent/{id}") == proof
    longer = told(client, "/proof/consistency?first=7")
    path = [b64decode(each) for each in longer["path"]]
    roots = [b64decode(longer[name]) for name in ("firstRoot", "secondRoot")]
    assert OTHER.extends(7, roots[0], longer["second"], roots[1], path)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/proof/inclusion", 400),
        ("/proof/inclusion?index=1&event=x", 400),
        ("/proof/inclusion?index=-1", 400),
        ("/proof/inclusion?index=99999999999999999999", 400),
        ("/proof/inclusion?index=999999", 404),
        ("/proof/inclusion?event=none", 404),
        ("/proof/inclusion?event=Patient/none", 404),
        ("/proof/inclusion?event=%00", 404),
        ("/proof/consistency", 400),
        ("/proof/consistency?first=x", 400),
        ("/proof/consistency?first=999999", 400),
        ("/proof/consistency?first=1&second=2", 404),
        ("/entry", 400),
        ("/entry?event=none", 404),
        ("/nothing", 404),
    ],
)
def test_150_what_cannot_be_proved_is_refused(
    path: str, status: int, served: tuple[Running, str]
) -> None:
    assert told(served[0], path, status)["resourceType"] == "OperationOutcome"


@pytest.mark.drivers("sqlite")
def test_an_institution_may_keep_heads_and_reads_no_records(start: Any, tmp_path: Path) -> None:
    made = CliRunner().invoke(command, ["key", "new", str(tmp_path / "k"), "--name", "gw/log"])
    client = start(log_key=str(tmp_path / "k"))
    headers = client.institution("h1")
    client.get("/fhir/Patient", headers=headers)
    assert made.exit_code == 0 and client.run(Sequencer(client.gateway).all()) > 0
    for path, status in (
        ("/checkpoint", 200), ("/heads", 200), ("/proof/consistency?first=1", 200),
        ("/entry?event=x", 403),
    ):  # fmt: skip
        assert client.get(f"/audit-log{path}", headers=headers).status_code == status
        assert client.get(f"/audit-log{path}").status_code == 401


def test_the_figures_tell_how_far_the_log_is(served: tuple[Running, str]) -> None:
    page = served[0].get("/metrics").text
    assert "fhir_gateway_audit_log_late 0.0" in page
    assert "fhir_gateway_audit_log_size 3" in page


#: What an attacker may do to the rows by which records are found.
INDEX = {
    "the record of accesses forgets one": (
        "DELETE FROM journal_home WHERE home > 0",
        "the record of accesses of its person does not name it",
    ),
    "the record of accesses names what was not": (
        "INSERT INTO journal_home VALUES (5, 99999, 0, 0)",
        "home 5 has it in its record of accesses",
    ),
    "a record is not found any more": (
        "DELETE FROM locator WHERE (type, id) IN (SELECT type, id FROM journal)",
        "it is not found by its id",
    ),
    "a record is found as another time's": (
        "UPDATE resource SET updated = updated - 1 WHERE enc = 9",
        "its index row is not what the journal says",
    ),
    "a record is found that was never written": (
        "UPDATE resource SET t = t + 100000 WHERE enc = 9",
        "its index row is not what the journal says",
    ),
}


@pytest.mark.drivers("sqlite", *["postgresql"] * TORTURE)
def test_146_rows_by_which_records_are_found_are_checked(
    start: Any, database: Databases, tmp_path: Path
) -> None:
    CliRunner().invoke(command, ["key", "new", str(tmp_path / "k"), "--name", "gw/log"])
    client = start(open_access=True, log_key=str(tmp_path / "k"))
    patient = {"resourceType": "Patient", "name": [{"text": "测试"}]}
    id = client.post("/fhir/Patient", patient).json()["id"]
    client.get(f"/fhir/Patient/{id}")
    client.get("/fhir/AuditEvent")
    sequencer = Sequencer(client.gateway)
    client.run(sequencer.all())
    client.run(sequencer.vacate())
    assert verify(client.settings.database).findings == []
    copy = [*INDEX.values()]
    for sql, said in copy if database.driver == "sqlite" else copy[:2]:
        database.execute(sql, "gateway")
        found = {finding.what for finding in verify(client.settings.database).findings}
        assert any(said in what for what in found), (sql, found)


@pytest.mark.drivers("sqlite")
def test_the_command_line_checks_proves_and_exports(
    database: Databases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = SmallLog(database.url(), tmp_path / "log.key")
    small.record(9)
    small.sign()
    small.stop()
    id = "none"
    monkeypatch.setenv("FHIR_GATEWAY_DATABASE", database.url())
    monkeypatch.setenv("FHIR_GATEWAY_LOG_KEY", str(small.key))

    def run(*arguments: str, code: int = 0) -> str:
        done = CliRunner().invoke(command, arguments)
        assert done.exit_code == code, done.output
        return done.output

    key = run("key", "show").strip()
    head = json.loads(run("head", "--json", code=3).strip())  # of two months ago: late
    assert (head["size"], head["late"]) == (9, True)
    assert json.loads(run("verify", "--json", "--jobs", "1", "--key", key))["sound"]
    heads = tmp_path / "heads"
    heads.write_text(head["note"].replace("\n9\n", "\n10\n") + "\n")
    said = run("verify", "--witness", str(heads), "--jobs", "1", code=1)
    assert "witness:" in said and "NOT as it was signed" in said
    assert "Error" in run("verify", "--key", "nonsense", code=2)
    assert "no such record" in run("prove", id, code=1)
    file = tmp_path / "log.jsonl"
    assert "9 records" in run("export", str(file))
    assert OTHER.main(["log", str(file), "--key", key]) == 0
    assert "exists" in run("export", str(file), code=1)
    assert "exists" in run("key", "new", str(small.key), code=1)
    small.restart()
    small.close()


@pytest.mark.drivers("sqlite")
def test_a_witness_looks_over_http_from_the_command_line(start: Any, tmp_path: Path) -> None:
    for name in ("log", "witness"):
        CliRunner().invoke(command, ["key", "new", str(tmp_path / name), "--name", f"gw/{name}"])
    client = start(open_access=True, log_key=str(tmp_path / "log"))
    signed(client)
    gateway = Behind(client)
    heads = tmp_path / "heads"

    def look(*more: str, code: int = 0) -> str:
        arguments = ["witness", "fetch", gateway.url, "--file", str(heads), "--key-file",
                     str(tmp_path / "witness"), *more]  # fmt: skip
        done = CliRunner().invoke(command, arguments)
        assert done.exit_code == code, done.output
        return done.output

    try:
        assert "kept" in look()
        assert json.loads(look("--json"))["new"] is False
        signed(client)
        assert "kept" in look("--log-key", OTHER.Key(_public(tmp_path / "log")).text)
        assert "trusted" in look("--log-key", _public(tmp_path / "witness"), code=1)
        for wrong in ("http://log.example/audit-log", "ftp://x", "nonsense"):
            gateway.url = wrong
            assert "Error" in look(code=1)
    finally:
        gateway.close()


def _public(key: Path) -> str:
    return CliRunner().invoke(command, ["key", "show", str(key)]).output.strip()


class Behind:
    """What a gateway answers to a few paths, over HTTP on this machine, from a thread."""

    def __init__(self, client: Running) -> None:
        answers = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                answer = answers.client.get(self.path)
                self.send_response(answer.status_code)
                self.send_header("content-length", str(len(answer.content)))
                self.end_headers()
                self.wfile.write(answer.content)

            def log_message(self, format: str, *arguments: object) -> None:
                return

        self.client = client
        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/audit-log"

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
