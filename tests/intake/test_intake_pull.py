"""`fhir-gateway tabular pull`: the address as a secret, reports, status, and going on for good."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from intake_cases import opened
from tabular_cases import Ward, row
from view_cases import Hospital, mapped

from fhir_gateway.cli import tabular_pull
from fhir_gateway.cli.tabular import command

BOTH = (row(), row(item="CREA", value="79.0"))


@pytest.fixture
def hospital(tmp_path: Path) -> Iterator[Hospital]:
    with opened(tmp_path) as gateway:
        mapped(Ward(gateway, "ward", tmp_path))
    yield Hospital("sqlite", tmp_path)


def run(folder: Path, what: str, *arguments: str, **variables: str) -> Any:
    settings = ["--database", f"sqlite:///{folder}/gateway.sqlite"]
    return CliRunner().invoke(
        command, [what, f"{folder}/results.toml", *arguments, *settings], env=variables
    )


def test_the_command_pulls_reports_and_tells(hospital: Hospital, tmp_path: Path) -> None:
    hospital.fill(*BOTH, row(2, status="?", person=1))
    report = tmp_path / "report.json"
    found = run(tmp_path, "pull", "--report", str(report), WARD_URL=hospital.url)
    assert (found.exit_code, "refused: line 3, column 状态" in found.output) == (1, True)
    (said,) = json.loads(report.read_text("utf-8"))["files"]
    assert (said["file"], said["rows"], said["stored"]) == ("检验 结果 1", 3, 1)
    status = CliRunner().invoke(
        command, ["status", f"{tmp_path}/results.toml", "--database",
                  f"sqlite:///{tmp_path}/gateway.sqlite"]
    )  # fmt: skip
    assert "检验 结果" in status.output and "2026-11-18T11:31:00" in status.output
    dry = run(tmp_path, "pull", "--dry-run", "--again", WARD_URL=hospital.url)
    assert "dry run" in dry.output


def test_the_address_comes_from_where_the_map_says_and_is_never_told(
    hospital: Hospital, tmp_path: Path
) -> None:
    secret = "sqlite:////nowhere/s3cret-folder/x.sqlite?key=s3cret"
    checked = run(tmp_path, "check", "--connect", WARD_URL=hospital.url)
    assert (checked.exit_code, "检验 结果 can be read" in checked.output) == (0, True)
    for found in (
        run(tmp_path, "check", "--connect", WARD_URL=secret),
        run(tmp_path, "pull", WARD_URL=""),
        run(tmp_path, "pull", WARD_URL="user:s3cret"),
    ):
        assert found.exit_code in (1, 2)
        assert "s3cret" not in found.output
    named = tmp_path / "results.toml"
    text = named.read_text("utf-8").replace('url_env = "WARD_URL"', f'url_file = "{tmp_path}/url"')
    named.write_text(text, "utf-8")
    assert run(tmp_path, "pull").exit_code == 2
    (tmp_path / "url").write_text(hospital.url + "\n", "utf-8")
    hospital.fill(*BOTH)
    assert run(tmp_path, "pull").exit_code == 0
    assert run(tmp_path, "pull", "--follow", "5", "--again").exit_code == 2


def test_it_follows_a_view_until_a_signal(
    hospital: Hospital, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hospital's database is away at first, and writes twice."""
    away, there = hospital.file.with_suffix(".away"), hospital.file
    hospital.fill(*BOTH)
    there.rename(away)
    named, report = tmp_path / "results.toml", tmp_path / "report.json"
    named.write_text(named.read_text("utf-8") + "connect_attempts = 1\n", "utf-8")
    seen, told, say = list[int](), threading.Event(), tabular_pull._say

    def heard(text: str) -> None:
        say(text)
        told.set()

    monkeypatch.setattr(tabular_pull, "_say", heard)

    def writes() -> None:
        """What the hospital does meanwhile; at its end, the signal."""
        try:
            told.wait(60)
            away.rename(there)
            seen.append(_await(report))
            report.unlink()
            hospital.fill(row(2, person=1, marked="2026-11-18 12:31:00"))
            seen.append(_await(report))
        finally:
            os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=writes)
    thread.start()
    found = run(tmp_path, "pull", "--follow", "0.1", "--report", str(report),
                WARD_URL=hospital.url)  # fmt: skip
    thread.join()
    assert (found.exit_code, seen) == (0, [1, 1])
    assert "cannot be reached" in found.stderr and "1 stored" in found.stderr


def _stored(report: Path) -> int:
    try:
        files = json.loads(report.read_text("utf-8"))["files"]
    except (OSError, ValueError):
        return 0
    return sum(one["stored"] for one in files)


def _await(report: Path) -> int:
    """How many reports a round stored, when one has."""
    until = time.monotonic() + 60
    while not (found := _stored(report)) and time.monotonic() < until:
        time.sleep(0.02)
    return found
