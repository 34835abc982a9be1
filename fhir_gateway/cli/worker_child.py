"""The worker process that a server starts beside itself, and starts again when it ends."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time

from fhir_gateway.settings import Settings, environment_of

#: A worker that lived so long is started again at once; one that did not waits longer each time.
_LONG, _SHORTEST, _LONGEST = 60.0, 1.0, 60.0

#: How often a server that has no watcher looks after its worker; how long and how often it looks
#: whether the worker has ended.
_LOOK_SECONDS, _GRACE, _PAUSE = 0.5, 10.0, 0.02


class WorkerChild:
    """A `fhir-gateway worker` that ends when this process and all its forks have ended."""

    def __init__(self, settings: Settings) -> None:
        self._environment = {**os.environ, **environment_of(settings)}
        self._process: subprocess.Popen[bytes] | None = None
        self._started = 0.0
        self._delay = 0.0

    @property
    def pid(self) -> int:
        """Of the process that runs now; 0 when there is none."""
        return self._process.pid if self._process is not None else 0

    def start(self) -> None:
        """Starts the worker; again when it has ended, later each time when it ends soon."""
        now = time.monotonic()
        if self._started:
            soon = now - self._started < _LONG
            self._delay = min(max(_SHORTEST, self._delay * 2), _LONGEST) if soon else 0.0
        self._started = now + self._delay
        self._process = subprocess.Popen(  # noqa: S603 - this program itself
            [sys.executable, "-m", "fhir_gateway", "worker", "--with-server",
             "--delay", str(self._delay)],
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, env=self._environment,
        )  # fmt: skip

    def start_again(self, code: int, *, stopping: bool = False) -> None:
        """The process has ended, whoever found out: says so in the log and starts another.

        When the server is stopping that was to be expected.
        """
        if stopping:
            self._let_go(code)
            return
        said = {"event": "job-worker-died", "code": code}
        print(json.dumps(said), file=sys.stderr, flush=True)
        self._let_go(code)
        self.start()

    async def keep(self) -> None:
        """Keeps a worker running until cancelled; then ends it, which may need this process to
        write that a job was given back."""
        self.start()
        try:
            while True:
                await asyncio.sleep(_LOOK_SECONDS)
                code = self._process.poll() if self._process is not None else None
                if code is not None:
                    self.start_again(code)
        finally:
            if self._process is not None:
                self._process.terminate()
                for _ in range(int(_GRACE / _PAUSE)):
                    if self._process.poll() is not None:
                        break
                    await asyncio.sleep(_PAUSE)
            self.stop()

    def stop(self) -> None:
        """Ends the worker, at once if it has not ended yet."""
        if self._process is not None:
            self._process.kill()
            self._let_go(self._process.wait())

    def _let_go(self, code: int) -> None:
        """Of a process that was waited for, here or elsewhere."""
        process, self._process = self._process, None
        if process is not None:
            process.returncode = code
            if process.stdin is not None:
                process.stdin.close()
