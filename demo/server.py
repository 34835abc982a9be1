"""A real server for the demonstration, and the command line beside it: separate processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
_PROGRAM = [sys.executable, "-m", "fhir_gateway"]
#: The city is under the policy that is shipped, whatever the caller's environment says.
_ENVIRONMENT = {
    **os.environ, "FHIR_GATEWAY_POLICY": str(ROOT / "profiles" / "access" / "policy.toml")
}  # fmt: skip


class Running(NamedTuple):
    """A served gateway."""

    url: str
    process: subprocess.Popen[str]


def command(database: Path, *words: str, calls: str = "") -> str:
    """What a fhir-gateway command prints; raises SystemExit with its complaint when it fails.

    `calls` is the address of a server on this machine that it may call.
    """
    allowed = {
        "FHIR_GATEWAY_OUTBOUND_ORIGINS": "/".join(calls.split("/")[:3]),
        "FHIR_GATEWAY_OUTBOUND_NETWORKS": "127.0.0.0/8",
    }
    done = subprocess.run(
        [*_PROGRAM, *words, "--database", f"sqlite:///{database}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={**_ENVIRONMENT, **allowed} if calls else _ENVIRONMENT,
    )
    if done.returncode:
        raise SystemExit(f"fhir-gateway {' '.join(words)}: {done.stderr or done.stdout}")
    return done.stdout


def register(database: Path, row: dict[str, str]) -> str:
    """Registers an institution and returns its token."""
    facility = ["--facility", row["facility"]] if row["facility"] else []
    answer: dict[str, Any] = json.loads(
        command(
            database, "institution", "add", row["id"], row["name"], "--level", row["level"],
            "--area", row["area"], "--charset", row["charset"], *facility,
            "--system", f"patient=urn:{row['id']}:patient",
            "--system", f"report=urn:{row['id']}:report", "--json",
        )
    )  # fmt: skip
    return str(answer["token"])


@contextmanager
def serving(database: Path, log: Path, *options: str) -> Iterator[Running]:
    """Serves the database on a free loopback port until the block is left."""
    with log.open("a", encoding="utf-8") as errors:
        process = subprocess.Popen(
            [*_PROGRAM, "serve", "--database", f"sqlite:///{database}", *options],
            cwd=ROOT,
            env=_ENVIRONMENT,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        try:
            line = process.stdout.readline() if process.stdout else ""
            if not line:
                time.sleep(0.2)
                raise SystemExit(f"the server did not start:\n{log.read_text(encoding='utf-8')}")
            yield Running(json.loads(line)["url"], process)
        finally:
            process.terminate()
            process.wait(timeout=20)
