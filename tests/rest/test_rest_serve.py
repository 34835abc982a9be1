"""`fhir-gateway serve` as an operator meets it: start, stop, workers, clear messages."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import httpx
import pytest
from rest_samples import patient
from rest_server import ROOT, Served

FHIR = {"content-type": "application/fhir+json"}


def _run(*arguments, timeout=20, **environment):
    return subprocess.run(
        [sys.executable, "-m", "fhir_gateway", *arguments],
        capture_output=True, text=True, timeout=timeout, cwd=ROOT,
        env={**os.environ, **environment}, check=False,
    )  # fmt: skip


def test_start_and_clean_stop(tmp_path):
    served = Served(tmp_path / "g.sqlite")
    assert served.ready["event"] == "ready"
    assert served.ready["port"] > 0
    answer = httpx.post(f"{served.fhir}/Patient", json=patient(), headers=FHIR)
    assert answer.status_code == 201
    assert httpx.get(f"{served.url}/readyz").json()["status"] == "ready"
    assert served.stop() == 0
    log = (tmp_path / "serve.log").read_text().splitlines()
    assert all(json.loads(line)["event"] for line in log)
    again = Served(tmp_path / "g.sqlite")
    place = answer.headers["location"].split("/fhir/")[1]
    assert httpx.get(f"{again.fhir}/{place}").status_code == 200
    assert again.stop() == 0


def test_sigterm_finishes_what_was_asked(tmp_path):
    """faults.md 142: stop accepting, finish, no answer cut off."""
    served = Served(tmp_path / "g.sqlite")
    codes, stopped = [], threading.Event()

    def work():
        with httpx.Client(timeout=20) as http:
            while not stopped.is_set():
                try:
                    answer = http.post(f"{served.fhir}/Patient", json=patient(), headers=FHIR)
                    codes.append((answer.status_code, answer.json()["resourceType"]))
                except (httpx.ConnectError, httpx.RemoteProtocolError, httpx.ReadError):
                    return  # refused, or closed before an answer began

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    patience = time.monotonic() + 30
    while len(codes) <= 20 and time.monotonic() < patience:
        time.sleep(0.02)
    code = served.stop()
    stopped.set()
    for thread in threads:
        thread.join()
    assert code == 0
    assert len(codes) > 20
    assert set(codes) == {(201, "Patient")}


def test_workers_share_a_port_and_replace_one_that_dies(tmp_path):
    served = Served(tmp_path / "g.sqlite", "--workers", "2")
    try:
        assert served.ready["workers"] == 2
        with httpx.Client() as http:
            created = [
                http.post(f"{served.fhir}/Patient", json=patient(), headers=FHIR).status_code
                for _ in range(10)
            ]
        assert created == [201] * 10
        children = _children(served.process.pid)
        assert len(children) == 2
        os.kill(children[0], signal.SIGKILL)
        for _ in range(100):
            time.sleep(0.1)
            if len(_children(served.process.pid)) == 2 and _answers(served):
                break
        assert _answers(served)
    finally:
        assert served.stop() == 0


def _children(pid):
    path = f"/proc/{pid}/task/{pid}/children"
    with open(path) as file:
        return [int(child) for child in file.read().split()]


def _answers(served):
    try:
        return all(
            httpx.post(f"{served.fhir}/Patient", json=patient(), headers=FHIR).status_code == 201
            for _ in range(5)
        )
    except httpx.TransportError:
        return False


def test_open_access_beyond_loopback_is_refused():
    done = _run("serve", "--host", "0.0.0.0", "--open-access")
    assert done.returncode == 1
    assert "loopback" in done.stderr


def test_a_port_in_use_is_said_clearly():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = _run("serve", "--port", str(taken.getsockname()[1]))
    assert done.returncode == 1
    assert "cannot listen: Address already in use" in done.stderr


def test_a_database_that_is_none_is_said_clearly(tmp_path):
    (tmp_path / "text").write_text("this is no database, but it is long enough to be read" * 100)
    done = _run("serve", "--port", "0", "--database", f"sqlite:///{tmp_path}/text")
    assert done.returncode == 1
    assert "cannot start" in done.stderr
    assert "Traceback" not in done.stderr
    done = _run("serve", "--port", "0", "--database", "mysql://x")
    assert (done.returncode, "sqlite:///" in done.stderr) == (1, True)


def test_a_misspelt_setting_stops_the_start():
    done = _run("serve", "--port", "0", FHIR_GATEWAY_OPENACCESS="true")
    assert done.returncode == 1
    assert "FHIR_GATEWAY_OPENACCESS is not a setting" in done.stderr


def test_check_says_what_it_found(tmp_path):
    database = ("--database", f"sqlite:///{tmp_path}/g.sqlite")
    assert _run("institution", "add", "h1", "x", "--area", "110105", *database).returncode == 0
    done = _run("check", *database, "--json")
    assert done.returncode == 0
    found = json.loads(done.stdout)
    assert all(one["ok"] for one in found.values())
    assert found["integrity"]["found"] == "ok"
    assert "146 types" in found["definitions"]["found"]


def test_check_says_what_is_wrong(tmp_path):
    done = _run("check", "--database", f"sqlite:///{tmp_path}/g.sqlite",
                FHIR_GATEWAY_TERMINOLOGY=str(tmp_path))  # fmt: skip
    assert done.returncode == 1
    assert "FAILED  terminology" in done.stdout
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("arguments", [(), ("serve",), ("check",)])
def test_help_is_worth_reading(arguments):
    done = _run(*arguments, "--help")
    assert done.returncode == 0
    assert "Usage: python -m fhir_gateway" in done.stdout
    assert len(done.stdout.splitlines()) > 8
