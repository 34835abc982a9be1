"""Processes that are killed or put to sleep while they sign: the tree goes on, and no size has two
heads."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from audit_logs import SmallLog
from databases import Databases
from effort import TORTURE

from fhir_gateway.store import log

CHILD = str(Path(__file__).with_name("crash_signer.py"))


def started(database: str, key: Path, what: str, point: str = "-") -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, CHILD, database, str(key), what, point],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": "/tmp"},
    )


@pytest.mark.drivers("sqlite")
@pytest.mark.parametrize(
    "point",
    ["log-tiles-written"] + ["before-commit", "after-commit"] * TORTURE,
)
def test_101_a_process_that_is_killed_while_it_signs_leaves_one_tree(
    point: str, database: Databases, tmp_path: Path
) -> None:
    key = tmp_path / "log.key"
    small = SmallLog(database.url(), key)
    small.record(5)
    small.sign()
    small.record(300)
    small.run(small.sequencer.vacate())
    small.close()
    child = started(database.url(), key, "kill", point)
    child.communicate(timeout=60)
    assert child.returncode == -signal.SIGKILL
    small = SmallLog(database.url(), key)
    try:
        committed = small.head().size
        assert committed == (305 if point == "after-commit" else 5)
        small.clock.time += 400_000_000_000  # the dead one's lease is over
        small.sign()
        sizes = [head.size for head in small.run(log.heads(small.gateway.store))]
        assert sizes == sorted(set(sizes))
        assert small.head().size >= 305
        assert small.verify().findings == []
    finally:
        small.close()


@pytest.mark.drivers("sqlite", *["postgresql"] * TORTURE)
def test_101_a_process_that_slept_while_another_signed_changes_nothing(
    small: SmallLog, database: Databases
) -> None:
    small.record(6)
    child = started(database.url(), small.key, "sleep")
    try:
        assert child.stdout is not None
        assert _line(small, child) == "asleep\n"
        small.clock.time += 11_000_000  # its lease is over
        small.record(2)
        assert small.sign() == 8
        head = small.head()
        os.kill(child.pid, signal.SIGCONT)
        assert _line(small, child) == "signed 0\n"
        assert small.head() == head
        assert len(small.run(log.heads(small.gateway.store))) == 1
        assert small.verify().findings == []
    finally:
        child.kill()
        child.communicate()


def _line(small: SmallLog, child: subprocess.Popen[str]) -> str:
    """The child's next line; this process is its writer meanwhile and must answer."""
    assert child.stdout is not None
    return small.run(asyncio.to_thread(child.stdout.readline))
