"""A served gateway in a process of its own, as an operator starts it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


class Served:
    """`fhir-gateway serve` on a free port; `ready` is its ready line.

    `database` is a file of SQLite or the address of any store; then the log goes to `folder`. Few
    tests need the worker of its jobs, and a process takes a while to start.
    """

    def __init__(
        self,
        database: Path | str,
        *options: str,
        open_access: bool = True,
        worker: bool = False,
        folder: Path | None = None,
    ) -> None:
        access = ["--open-access"] if open_access else []
        address = database if isinstance(database, str) else f"sqlite:///{database}"
        log = (folder or Path(database).parent) / "serve.log"
        self.log = log.open("ab")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "fhir_gateway", "serve", "--database", address,
             "--port", "0", *access, *options],
            stdout=subprocess.PIPE, stderr=self.log, cwd=ROOT, start_new_session=True,
            env={**os.environ, "FHIR_GATEWAY_JOB_WORKER": str(worker).lower()},
        )  # fmt: skip
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            self.stop()
            raise AssertionError(log.read_text())
        self.ready: dict[str, Any] = json.loads(line)
        self.url: str = self.ready["url"]
        self.fhir: str = self.ready["fhir"]

    def kill(self) -> None:
        """kill -9 of the whole process group."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self._reap()

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        if self.process.poll() is None:
            self.process.terminate()
        return self._reap()

    def _reap(self) -> int:
        code = self.process.wait(timeout=30)
        if self.process.stdout is not None:
            self.process.stdout.close()
        self.log.close()
        return code
