"""kill -9 of a worker that follows a map: the next one ends where an undisturbed one ends."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from city import POTASSIUM, SODIUM
from databases import Databases
from effort import TORTURE
from remap_cases import LAB_SYSTEM, Mapped
from running import Running

CLIENT = Path(__file__).parent / "remap_client.py"
POINTS = ("batch-begun", "change-set-applied", "before-commit", "after-commit")
COUNT = 6

#: (point, at which time it is reached)
KILLS = [(point, count) for point in POINTS for count in (1, 4, 9)] if TORTURE else [
    ("change-set-applied", 3), ("after-commit", 5)]  # fmt: skip


@pytest.mark.parametrize(("point", "count"), KILLS)
def test_a_killed_worker_leaves_nothing_half_done(
    point: str, count: int, database: Databases, tmp_path: Path
) -> None:
    url, nothing = database.url("gateway"), tmp_path / "mappings"
    nothing.mkdir()
    running = Running(url, mappings=str(nothing))
    try:
        mapped = Mapped(running)
        mapped.store({"K": SODIUM})
        mapped.follow()
        patient = mapped.city.patient()
        ids = {mapped.result(patient, report="").partition("/")[2] for _ in range(COUNT)}
        before = [running.get(f"/fhir/Observation/{id}", headers=mapped.city.sender).content
                  for id in sorted(ids)]  # fmt: skip
        mapped.store({"K": POTASSIUM})
    finally:
        running.close()
    words = [sys.executable, str(CLIENT), url, str(nothing)]
    killed = subprocess.run([*words, point, str(count)], check=False, capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert subprocess.run(words, check=False).returncode == 0
    held = database.rows("SELECT source, item FROM fact WHERE t_to > (SELECT t FROM clock)",
                         "gateway")  # fmt: skip
    assert sorted(held) == sorted((f"Observation/{id}", POTASSIUM) for id in ids)
    ended = database.rows("SELECT count(*), count(DISTINCT source) FROM fact "
                          "WHERE t_to <= (SELECT t FROM clock)", "gateway")  # fmt: skip
    assert ended == [(COUNT, COUNT)]  # each once, whatever was done twice
    running = Running(url, mappings=str(nothing))
    try:
        headers = Mapped(running).city.sender
        asked = f"/fhir/Observation?code={LAB_SYSTEM}|{POTASSIUM}"
        entries = running.get(asked, headers=headers).json()["entry"]
        assert {one["resource"]["id"] for one in entries} == ids
        after = [running.get(f"/fhir/Observation/{id}", headers=headers).content
                 for id in sorted(ids)]  # fmt: skip
        assert after == before
    finally:
        running.close()
    assert database.rows("SELECT state FROM job WHERE id LIKE 'remap_sender_%' "
                         "ORDER BY id DESC", "gateway")[0] == ("done",)  # fmt: skip
