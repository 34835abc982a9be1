"""What the gateway takes of the machine: bytes on disk, memory, and nothing that grows for ever."""

from __future__ import annotations

import gc
import json
import os
import signal
import socket
import subprocess
import sys
import tracemalloc
from contextlib import closing, suppress
from pathlib import Path

import pytest
from running import Running

from fhir_gateway.errors import GatewayError
from fhir_gateway.fhir.validate import read_resource

ROOT = Path(__file__).parents[2]

#: Bytes on disk for each Observation of 1 kB, index, history and audit included.
MOST_BYTES = 2_500

#: Memory of each process of a server that has answered something, in kB.
MOST_MEMORY = 300_000


def result(number: int) -> dict:
    """A laboratory result as hospitals send it, of about 1 kB."""
    day = f"2026-{1 + number % 12:02}-{1 + number % 28:02}"
    return {
        "resourceType": "Observation",
        "identifier": [{"system": "urn:hospital:result", "value": f"R-2026{number:09}"}],
        "status": "final",
        "category": [{"coding": [{
            "system": "http://terminology.hl7.org/CodeSystem/observation-category",
            "code": "laboratory", "display": "Laboratory"}]}],
        "code": {"coding": [{"system": "http://loinc.org", "code": f"{2000 + number % 90}-1",
                             "display": f"Analyte {number % 90} in Serum or Plasma"}],
                 "text": f"项目{number % 90}"},
        "subject": {"reference": f"Patient/p{number % 20}"},
        "effectiveDateTime": f"{day}T08:{number % 60:02}:00+08:00",
        "issued": f"{day}T10:{number % 60:02}:00+08:00",
        "performer": [{"reference": "Organization/lab", "display": "市第一医院检验科"}],
        "valueQuantity": {"value": number % 977 / 10, "unit": "mmol/L",
                          "system": "http://unitsofmeasure.org", "code": "mmol/L"},
        "interpretation": [{"coding": [{
            "system": "http://terminology.hl7.org/CodeSystem/v3-ObservationInterpretation",
            "code": "HNL"[number % 3]}]}],
        "referenceRange": [{"low": {"value": 3.5, "unit": "mmol/L"},
                            "high": {"value": 5.3, "unit": "mmol/L"}, "text": "3.5-5.3 mmol/L"}],
    }  # fmt: skip


def transaction(*resources: dict) -> dict:
    entries = [
        {
            "resource": one,
            "request": {"method": "PUT", "url": f"{one['resourceType']}/{one['id']}"}
            if "id" in one
            else {"method": "POST", "url": one["resourceType"]},
        }
        for one in resources
    ]
    return {"resourceType": "Bundle", "type": "transaction", "entry": entries}


@pytest.mark.drivers("sqlite")
def test_8_an_observation_takes_little_more_than_itself(database):
    batches, each = 12, 100
    sizes = [len(json.dumps(result(n), ensure_ascii=False).encode()) for n in range(100)]
    assert 1_000 <= sum(sizes) / len(sizes) <= 1_200
    with closing(Running(database.url(), open_access=True)) as server:
        people = [{"resourceType": "Patient", "id": f"p{number}"} for number in range(20)]
        first = server.post(
            "/fhir",
            transaction({"resourceType": "Organization", "id": "lab", "name": "x"}, *people),
        )
        assert first.status_code == 200
    before = stored(database)
    with closing(Running(database.url(), open_access=True)) as server:
        for batch in range(batches):
            numbers = range(batch * each, (batch + 1) * each)
            assert server.post("/fhir", transaction(*map(result, numbers))).status_code == 200
        found = server.get("/fhir/Observation?patient=p3&_summary=count").json()["total"]
        assert found == batches * each // 20
    assert (stored(database) - before) / (batches * each) <= MOST_BYTES


def stored(database) -> int:
    """Bytes of the database, checkpointed when the last process left it."""
    assert not [file for file in database.folder.glob("*-wal") if file.stat().st_size]
    ((pages,),), ((size,),) = database.rows("PRAGMA page_count"), database.rows("PRAGMA page_size")
    return pages * size


def test_10_validation_keeps_nothing():
    """Sound and unsound resources by the thousand leave no more behind than by the hundred."""

    def judge(numbers: range) -> None:
        for number in numbers:
            for resource in (result(number), {**result(number), "status": f"odd-{number}"}):
                try:
                    read_resource(json.dumps(resource).encode(), type="Observation")
                except GatewayError as error:
                    assert len(error.issues) == 1

    judge(range(50))
    gc.collect()
    tracemalloc.start()
    try:
        judge(range(50, 100))
        gc.collect()
        few = tracemalloc.get_traced_memory()[0]
        judge(range(100, 300))
        gc.collect()
        many = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert many - few < 40_000  # a tenth of a kilobyte for each of four hundred


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A server of its own, with the worker of its jobs, that has answered something."""
    folder = tmp_path_factory.mktemp("served")
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "fhir_gateway", "serve", "--open-access", "--port", "0",
             "--database", f"sqlite:///{folder}/gateway.sqlite"],
            stdout=subprocess.PIPE, stderr=log, cwd=ROOT, start_new_session=True,
            env={**os.environ, "FHIR_GATEWAY_JOB_WORKER": "true"},
        )  # fmt: skip
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())
        yield ready
        os.killpg(process.pid, signal.SIGTERM)
        assert process.wait(timeout=30) == 0
        process.stdout.close()


def memory_of(pid: int) -> int:
    """Resident memory of a process and of those that it started, the largest, in kB."""
    status = Path(f"/proc/{pid}/status").read_text()
    own = int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS")))
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return max([own, *(memory_of(int(child)) for child in children)])


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_15_a_server_starts_small(served):
    address = ("127.0.0.1", served["port"])
    for path in ("metadata", "Patient?name=x", "Observation?patient=p", "_history"):
        status, _ = raw(address, f"GET /fhir/{path} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
        assert status == 200
    assert memory_of(served["pid"]) < MOST_MEMORY


def raw(address: tuple[str, int], request: bytes, *, ends: bool = False) -> tuple[int, bytes]:
    """The status of what comes back for these bytes, 0 when the connection is just closed."""
    answer = b""
    with socket.create_connection(address, timeout=10) as connection:
        try:
            connection.sendall(request)
            if ends:
                with suppress(OSError):  # the server may have hung up already; its answer is there
                    connection.shutdown(socket.SHUT_WR)
            while b"\r\n\r\n" not in answer and (piece := connection.recv(65_536)):
                answer += piece
        except ConnectionError:
            pass
    return int(answer.split(b" ", 2)[1]) if answer else 0, answer


HEAD = b"POST /fhir/Patient HTTP/1.1\r\nhost: x\r\ncontent-type: application/fhir+json\r\n"
BODY = b'{"resourceType":"Patient","id":"p"}'
BROKEN = {
    "a body that is cut off": HEAD + b"content-length: 500\r\n\r\n" + BODY,
    "a negative length": HEAD + b"content-length: -5\r\n\r\n" + BODY,
    "a length that is no number": HEAD + b"content-length: many\r\n\r\n" + BODY,
    "two lengths": HEAD + b"content-length: 35\r\ncontent-length: 5\r\n\r\n" + BODY,
    "a length and chunks": HEAD
    + b"content-length: 35\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "a chunk that is no number": HEAD + b"transfer-encoding: chunked\r\n\r\nzz\r\n" + BODY,
    "a length over the limit": HEAD + b"content-length: 99999999999999999999\r\n\r\n" + BODY,
    "a header of a megabyte": b"GET /fhir/metadata HTTP/1.1\r\nhost: x\r\nx: " + b"a" * 1_000_000,
    "ten thousand headers": b"GET /fhir/Patient/p HTTP/1.1\r\nhost: x\r\n"
    + b"".join(b"x-%d: a\r\n" % number for number in range(10_000))
    + b"\r\n",
    "a path of a megabyte": b"GET /fhir/Patient/" + b"a" * 1_000_000 + b" HTTP/1.1\r\n\r\n",
    "no request at all": b"\x00\xff\x16\x03\x01" * 200 + b"\r\n\r\n",
    "a name with a space": b"GET /fhir/metadata HTTP/1.1\r\nhost : x\r\n\r\n",
    "an old version": b"GET /fhir/metadata HTTP/9.9\r\nhost: x\r\n\r\n",
    "nested parts": HEAD.replace(b"application/fhir+json", b"multipart/mixed; boundary=x")
    + b"content-length: 20000\r\n\r\n"
    + b"--x\r\n\r\n" * 2_857
    + b"x",
}


#: Requests that wait for more, which never comes.
UNFINISHED = {"a body that is cut off", "a header of a megabyte", "nested parts"}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_request_is_refused_and_the_server_lives(served, name):
    address = ("127.0.0.1", served["port"])
    status, answer = raw(address, BROKEN[name], ends=name in UNFINISHED)
    assert status in {0, 400, 404, 413, 414, 415, 431}, answer[:300]
    status, answer = raw(address, b"GET /fhir/Patient?_id=p HTTP/1.1\r\nhost: x\r\n\r\n")
    assert status == 200
    assert b'"entry"' not in answer  # nothing was stored
