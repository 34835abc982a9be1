"""Checks of Endpoints: what is asked, what has passed, what is kept, by job and by command."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from typing import Any

import pytest
from click.testing import CliRunner
from databases import Databases
from running import Running

from fhir_gateway.cli import main
from fhir_gateway.errors import Invalid
from fhir_gateway.interactions import endpoints, endpoints_job
from fhir_gateway.interactions.endpoint_rows import CHECK, STATE, check_id, serves
from fhir_gateway.interactions.jobs import work_once
from fhir_gateway.rest.later import WORKS
from fhir_gateway.security.actor import SYSTEM_ACCESS
from fhir_gateway.store import jobs

STUDY = "1.2.826.0.1.3680043.8.498.1"
METADATA = f"/dicom-web/studies/{STUDY}/metadata"


class Server:
    """A server of the test's own: `answers` gives a status by (method, path), `asked` is kept."""

    def __init__(self) -> None:
        self.answers: dict[tuple[str, str], int] = {}
        self.asked: list[tuple[str, str, str]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                outer.asked.append(("HEAD", self.path, self.headers["accept"]))
                self._answer(outer.answers.get(("HEAD", self.path), 404))

            def do_GET(self) -> None:
                outer.asked.append(("GET", self.path, self.headers["accept"]))
                self._answer(outer.answers.get(("GET", self.path), 404))

            def _answer(self, status: int) -> None:
                self.send_response(status)
                if 300 <= status < 400:
                    self.send_header("Location", "http://127.0.0.1:1/")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                """Says nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@contextmanager
def serving() -> Iterator[Server]:
    server = Server()
    try:
        yield server
    finally:
        server.close()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving() as one:
        yield one


@pytest.fixture(scope="module")
def running(shared_database: Databases, server: Server) -> Iterator[Running]:
    one = shared_database.running(
        "endpoints",
        open_access=True,
        outbound_origins=f"{server.url},http://127.0.0.1:1",
        outbound_networks="127.0.0.0/8",
    )
    yield one
    one.close()


@pytest.fixture
def id(server: Server) -> str:
    """A new Endpoint's logical id; the server has forgotten what it knew."""
    server.answers.clear()
    server.asked.clear()
    return f"pacs{next(_numbers)}"


_numbers = count(1)


def endpoint(running: Running, id: str, **fields: Any) -> None:
    resource = {
        "resourceType": "Endpoint",
        "id": id,
        "status": "active",
        "connectionType": {
            "system": "http://terminology.hl7.org/CodeSystem/endpoint-connection-type",
            "code": fields.pop("connection", "dicom-wado-rs"),
        },
        "payloadType": [{"text": "DICOM"}],
        **fields,
    }
    assert running.put(f"/fhir/Endpoint/{id}", resource).status_code in (200, 201)


def study(running: Running, endpoint: str) -> None:
    patient = {"resourceType": "Patient", "id": "p", "name": [{"text": "测试甲"}]}
    image = {
        "resourceType": "ImagingStudy",
        "id": f"s-{endpoint}",
        "status": "available",
        "identifier": [{"system": "urn:dicom:uid", "value": f"urn:oid:{STUDY}"}],
        "subject": {"reference": "Patient/p"},
        "endpoint": [{"reference": f"Endpoint/{endpoint}"}],
    }
    for resource in (patient, image):
        path = f"/fhir/{resource['resourceType']}/{resource['id']}"
        assert running.put(path, resource).status_code in (200, 201)


def checked(running: Running, *ids: str) -> list[tuple[bool | None, str, bool]]:
    found = running.run(endpoints.check(running.gateway, ids))
    return [(one.result.passed, one.result.why, one.stored) for one in found]


def served(running: Running, id: str, as_of: int | None = None) -> tuple[bool | None, int]:
    """What the register says at a commit, and the commit of now."""

    async def read() -> tuple[bool | None, int]:
        pairs = [(f"Endpoint/{id}", STATE), (f"Endpoint/{id}", CHECK)]
        async with running.gateway.store.snapshot(SYSTEM_ACCESS) as reader:
            rows = await reader.evaluations(pairs, reader.t if as_of is None else as_of)
        register = {pair: [one for one in rows if one.item == pair[1]] for pair in pairs}
        return serves(id, register), reader.t

    result: tuple[bool | None, int] = running.run(read())
    return result


def test_the_metadata_of_a_study_are_asked_for(running: Running, server: Server, id: str) -> None:
    endpoint(running, id, address=f"{server.url}/dicom-web/")
    study(running, id)
    server.answers[("HEAD", METADATA)] = 200
    unknown, before = served(running, id)
    assert unknown is None
    assert checked(running, id) == [(True, "answered", True)]
    assert server.asked == [("HEAD", METADATA, "application/dicom+json")]
    serving_now, after = served(running, id)
    assert serving_now is True
    # what holds now did not hold at the commit before
    assert served(running, id, as_of=before)[0] is None
    server.answers[("HEAD", METADATA)] = 503
    assert checked(running, id) == [(False, "status-503", True)]
    assert served(running, id)[0] is False
    assert served(running, id, as_of=after)[0] is True


def test_who_asks_for_a_login_or_has_nothing_has_not_passed(
    running: Running, server: Server, id: str
) -> None:
    endpoint(running, id, address=f"{server.url}/dicom-web")
    study(running, id)
    for status in (401, 403, 404, 410, 500):
        server.answers[("HEAD", METADATA)] = status
        assert checked(running, id)[0][:2] == (False, f"status-{status}")
    assert served(running, id)[0] is False
    server.answers[("HEAD", METADATA)] = 302
    assert checked(running, id) == [(False, "outbound-redirect", False)]  # failed as before
    server.asked.clear()
    server.answers |= {("HEAD", METADATA): 405, ("GET", METADATA): 200}
    assert checked(running, id) == [(True, "answered", True)]
    assert [one[0] for one in server.asked] == ["HEAD", "GET"]  # a server that knows no HEAD


def test_other_connections_have_other_questions(running: Running, server: Server, id: str) -> None:
    for connection, path, status, passed in (
        ("hl7-fhir-rest", "/x/metadata", 200, True),
        ("ihe-xds", "/x", 405, True),
        ("dicom-wado-uri", "/x", 400, True),
        ("dicom-wado-uri", "/x", 404, False),
    ):
        endpoint(running, id, connection=connection, address=f"{server.url}/x")
        server.answers |= {("HEAD", path): status, ("GET", path): status}
        assert checked(running, id)[0][0] is passed


def test_what_cannot_be_asked_leaves_the_last_check(
    running: Running, server: Server, id: str
) -> None:
    here = {"address": f"{server.url}/dicom-web"}
    for name, fields in {
        "mllp": {"connection": "hl7v2-mllp", "address": "mllp://h.example:2575"},
        "empty": here,
        "off": {"status": "off", **here},
        "inner": {"connection": "hl7-fhir-rest", "address": "http://169.254.169.254/x"},
        "odd": {"connection": "hl7-fhir-rest", "address": "http://u:p@h.example/x"},
    }.items():
        endpoint(running, name, **fields)
    assert checked(running, "mllp", "empty", "off", "inner", "odd") == [
        (None, "connection-type", False),
        (None, "no-study", False),
        (None, "not-active", False),
        (None, "outbound-origin", False),
        (None, "outbound-url", False),
    ]
    assert server.asked == []
    found = [served(running, name)[0] for name in ("mllp", "off", "nobody")]
    assert found == [None, False, None]
    with pytest.raises(Invalid) as caught:
        checked(running, "nobody")
    assert caught.value.issues[0].rule == "endpoint"


def test_an_endpoint_that_is_over_or_silent_has_failed(running: Running, id: str) -> None:
    nobody = "http://127.0.0.1:1"
    endpoint(running, id, address=nobody, period={"end": "2020-12-31"})
    assert checked(running, id) == [(False, "period-over", True)]
    endpoint(running, id, connection="hl7-fhir-rest", address=nobody)
    assert checked(running, id) == [(False, "outbound-unreachable", False)]  # failed as before


def test_only_news_is_stored(
    running: Running, server: Server, id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint(running, id, connection="hl7-fhir-rest", address=server.url)
    server.answers[("HEAD", "/metadata")] = 200
    assert [one[2] for one in checked(running, id) + checked(running, id)] == [True, False]
    endpoint(running, id, connection="hl7-fhir-rest", address=f"{server.url}/r4")
    assert served(running, id)[0] is None  # another address was never checked
    server.answers[("HEAD", "/r4/metadata")] = 200
    assert [one[2] for one in checked(running, id) + checked(running, id)] == [True, False]
    monkeypatch.setattr(endpoints, "AGAIN", 0)
    assert checked(running, id) == [(True, "answered", True)]
    history = running.get(f"/fhir/VerificationResult/{check_id(id)}/_history").json()
    assert history["total"] == 3


def test_checks_at_once_are_one_version(running: Running, server: Server, id: str) -> None:
    endpoint(running, id, connection="hl7-fhir-rest", address=server.url)
    server.answers[("HEAD", "/metadata")] = 200

    async def together() -> list[bool]:
        found = await asyncio.gather(*(endpoints.check(running.gateway, [id]) for _ in range(6)))
        return [one.stored for (one,) in found]

    assert sorted(running.run(together())) == [False] * 5 + [True]
    path = f"/fhir/VerificationResult/{check_id(id)}/_history"
    assert running.get(path).json()["total"] == 1


def test_who_was_overtaken_goes_on_from_the_check_that_came(
    running: Running, server: Server, id: str
) -> None:
    endpoint(running, id, connection="hl7-fhir-rest", address=server.url)

    async def both() -> None:
        (before,) = [one for one in await endpoints.endpoints(running.gateway) if one.id == id]
        for passed, by in ((True, "甲"), (False, "乙")):  # both know of no check
            await endpoints.record(running.gateway, before, passed=passed, process="-", by=by)

    running.run(both())
    history = running.get(f"/fhir/VerificationResult/{check_id(id)}/_history").json()
    said = [one["resource"]["validator"][0]["organization"]["display"] for one in history["entry"]]
    assert said == ["乙", "甲"]
    assert running.delete(f"/fhir/VerificationResult/{check_id(id)}").status_code == 204
    server.answers[("HEAD", "/metadata")] = 200
    assert checked(running, id) == [(True, "answered", True)]


def test_a_check_is_a_resource_that_can_be_searched(
    running: Running, server: Server, id: str
) -> None:
    endpoint(running, id, connection="hl7-fhir-rest", address=server.url)
    server.answers[("HEAD", "/metadata")] = 200
    checked(running, id)
    found = running.get(f"/fhir/VerificationResult?target=Endpoint/{id}").json()["entry"]
    (one,) = [entry["resource"] for entry in found if entry["search"]["mode"] == "match"]
    assert (one["status"], one["targetLocation"]) == ("validated", ["Endpoint.address"])
    assert one["validationProcess"] == [{"text": "HEAD application/fhir+json: answered"}]
    body = {name: value for name, value in one.items() if name != "meta"}
    answer = running.post("/fhir/VerificationResult/$validate", body)
    assert {issue["severity"] for issue in answer.json()["issue"]} <= {"information", "warning"}


def test_the_worker_asks_once_in_a_slot_of_time(running: Running, server: Server, id: str) -> None:
    endpoint(running, id, connection="hl7-fhir-rest", address=server.url)
    server.answers[("HEAD", "/metadata")] = 200
    timer, other = endpoints_job.Timer(running.gateway), endpoints_job.Timer(running.gateway)

    async def slot() -> list[str]:
        for look in (endpoints_job.both(timer.look, other.look), timer.look):
            await look()
        while await work_once(running.gateway, WORKS):
            pass
        found = await jobs.find_all(running.gateway.store, kind=endpoints_job.KIND, limit=9)
        return [one.state for one in found if "endpoints: " in one.progress]

    assert running.run(slot()) == ["done"]
    assert served(running, id)[0] is True


@pytest.mark.drivers("sqlite")
@pytest.mark.parametrize("chosen", [{}, {"outbound_origins": "https://h.example",
                                         "endpoint_check_minutes": 0}])  # fmt: skip
def test_without_servers_or_minutes_there_is_no_job(
    start: Callable[..., Running], chosen: dict[str, Any]
) -> None:
    running = start(open_access=True, **chosen)

    async def looked() -> int:
        await endpoints_job.Timer(running.gateway).look()
        return len(await jobs.find_all(running.gateway.store, kind=endpoints_job.KIND, limit=9))

    assert running.run(looked()) == 0


@pytest.mark.drivers("sqlite")
def test_the_command_lists_checks_and_records(
    database: Databases, server: Server, id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = database.running("command", open_access=True)
    endpoint(running, "pacs", connection="hl7-fhir-rest", address=server.url)
    endpoint(running, "dimse", connection="hl7v2-mllp", address="mllp://h.example")
    running.close()
    monkeypatch.setenv("FHIR_GATEWAY_OUTBOUND_ORIGINS", server.url)
    monkeypatch.setenv("FHIR_GATEWAY_OUTBOUND_NETWORKS", "127.0.0.0/8")

    def command(*words: str) -> tuple[int, str]:
        where = ("--database", running.settings.database)
        done = CliRunner().invoke(main, ["endpoints", *words, *where])
        return done.exit_code, done.output

    code, said = command("check")
    assert (code, "pacs: failed: it does not have what was asked for" in said) == (1, True)
    assert "dimse: not asked: this connection is not asked over HTTP" in said
    server.answers[("HEAD", "/metadata")] = 200
    assert command("check", "pacs") == (
        0, "pacs: passed: it answered\n1 endpoints: 1 passed, 0 failed, 0 not asked\n",
    )  # fmt: skip
    by = ("--by", "影像科", "--how", "C-ECHO")
    assert command("record", "dimse", "--passed", *by) == (0, "dimse: passed, by 影像科\n")
    code, said = command("list", "--json")
    rows = {one["id"]: one for one in json.loads(said)}
    assert (rows["pacs"]["retrievable"], rows["dimse"]["by"]) == (True, "影像科")
    assert "unknown" not in command("list")[1]
    for words, complaint in (
        (("record", "nobody", "--passed", *by), "There is no Endpoint nobody"),
        (("record", "dimse", *by), "Say --passed or --failed"),
        (("record", "dimse", "--failed", "--by", " ", "--how", "x"), "--by and --how want words"),
        (("check", "nobody"), "There is no Endpoint nobody"),
    ):
        code, said = command(*words)
        assert (code, complaint in said) == (1, True)
