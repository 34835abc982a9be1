"""Exports of a served gateway: its worker is killed again and again, and nothing is lost."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from rest_server import ROOT, Served

PATIENTS = 300
ASYNC = {"prefer": "respond-async"}


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    one = Served(tmp_path / "g.sqlite", worker=True)
    yield one
    one.stop()


def fill(url: str) -> None:
    """Patients with two observations each."""
    for start in range(0, PATIENTS, 100):
        entries: list[dict[str, Any]] = []
        for number in range(start, start + 100):
            resources: list[dict[str, Any]] = [{"resourceType": "Patient", "id": f"p{number}"}]
            resources += [
                {"resourceType": "Observation", "id": f"o{number}-{k}", "status": "final",
                 "code": {"text": "x"}, "subject": {"reference": f"Patient/p{number}"}}
                for k in range(2)
            ]  # fmt: skip
            entries += [
                {"resource": one,
                 "request": {"method": "PUT", "url": f"{one['resourceType']}/{one['id']}"}}
                for one in resources
            ]  # fmt: skip
        bundle = {"resourceType": "Bundle", "type": "transaction", "entry": entries}
        headers = {"content-type": "application/fhir+json"}
        answer = httpx.post(url, content=json.dumps(bundle), headers=headers, timeout=60)
        assert answer.status_code == 200, answer.text


def worker_of(pid: int) -> int:
    """The worker that a server started; 0 when there is none."""
    listed = subprocess.run(
        ["ps", "-o", "pid=,args=", "--ppid", str(pid)], capture_output=True, text=True, check=False
    ).stdout
    found = re.search(r"(\d+) .*fhir_gateway worker", listed)
    return int(found[1]) if found else 0


def until(what: Callable[[], Any], seconds: float = 60.0) -> Any:
    """What comes true within the time."""
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found


def result(place: str) -> dict[str, Any] | None:
    answer = httpx.get(place, timeout=30)
    assert answer.status_code in (200, 202), answer.text
    found: dict[str, Any] | None = answer.json() if answer.status_code == 200 else None
    return found


def exported(place: str) -> list[str]:
    """The names in all files of an export that comes to an end."""
    manifest = until(lambda: result(place))
    found = []
    for file in manifest["output"]:
        lines = httpx.get(file["url"], timeout=30).text.splitlines()
        assert len(lines) == file["count"]
        found += [f"{one['resourceType']}/{one['id']}" for one in map(json.loads, lines)]
    return sorted(found)


EVERYTHING = sorted(
    name for n in range(PATIENTS) for name in (f"Patient/p{n}", f"Observation/o{n}-0",
                                               f"Observation/o{n}-1")
)  # fmt: skip


def test_the_server_has_a_worker_that_is_replaced_and_goes_with_it(served: Served) -> None:
    fill(served.fhir)
    first = until(lambda: worker_of(served.process.pid))
    os.kill(first, signal.SIGKILL)
    second = until(lambda: worker_of(served.process.pid) not in (0, first) and worker_of(
        served.process.pid))  # fmt: skip
    place = httpx.get(f"{served.fhir}/$export?_type=Patient,Observation", headers=ASYNC).headers[
        "content-location"
    ]
    assert exported(place) == EVERYTHING
    assert served.stop() == 0
    with pytest.raises(ProcessLookupError):
        os.kill(second, 0)


def test_a_worker_ends_when_its_server_is_killed(tmp_path: Path) -> None:
    one = Served(tmp_path / "g.sqlite", worker=True)
    worker = until(lambda: worker_of(one.process.pid))
    os.kill(one.process.pid, signal.SIGKILL)
    one.process.wait()

    def is_gone() -> bool:
        try:
            os.kill(worker, 0)
        except ProcessLookupError:
            return True
        state = Path(f"/proc/{worker}/stat").read_text(encoding="ascii").rpartition(")")[2]
        return state.split()[0] == "Z"  # nobody waits for it here

    until(is_gone)
    one.stop()


#: A worker that is killed at its third step, which is in the middle of the files.
_KILLED = """
import os, signal, sys
from fhir_gateway.interactions import export_job, jobs
export_job.PAGE, jobs.LEASE = 100, 1
count = 0
step = jobs.Held.step
def dying(*arguments):
    global count
    count += 1
    if count == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return step(*arguments)
jobs.Held.step = dying
from fhir_gateway.cli import main
sys.argv[0] = "fhir-gateway"
main()
"""


def test_a_worker_that_is_killed_is_followed_by_one_that_ends_the_work(tmp_path: Path) -> None:
    served = Served(tmp_path / "g.sqlite")
    fill(served.fhir)
    place = httpx.get(f"{served.fhir}/$export?_type=Patient,Observation", headers=ASYNC).headers[
        "content-location"
    ]
    words = ["worker", "--database", f"sqlite:///{tmp_path}/g.sqlite"]
    killed = subprocess.run(
        [sys.executable, "-c", _KILLED, *words], cwd=ROOT, check=False, timeout=60
    )
    assert killed.returncode == -signal.SIGKILL
    waiting = httpx.get(place)
    assert (waiting.status_code, waiting.headers["x-progress"]) == (202, "200 resources (Patient)")
    last = subprocess.Popen([sys.executable, "-m", "fhir_gateway", *words], cwd=ROOT)
    try:
        assert exported(place) == EVERYTHING
    finally:
        last.terminate()
        assert last.wait(30) == 0
    served.stop()
