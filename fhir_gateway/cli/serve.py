"""`fhir-gateway serve`: the server, in one process or several that share a socket.

Starts with one line of JSON on the standard output when requests are answered; logs go to the
standard error. SIGTERM and SIGINT stop it cleanly: no new connections, running requests finish,
the store is closed. With several workers the first process only watches over the others; which of
them writes to the database is decided by the store.
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from importlib.metadata import version
from typing import Any

import click
import uvicorn
import uvloop

from fhir_gateway.app import build, check_open_access
from fhir_gateway.cli.serve_connections import Connections
from fhir_gateway.cli.worker_child import WorkerChild
from fhir_gateway.errors import GatewayError
from fhir_gateway.security.origin import FHIR_PATH
from fhir_gateway.settings import Settings, load_settings, masked

#: Seconds that running requests have to finish after SIGTERM.
GRACE = 10


_SIGNALS = (signal.SIGTERM, signal.SIGINT)


@click.command("serve")
@click.option("--database", help="Where the data is: sqlite:///PATH or postgresql://…")
@click.option("--host", help="Address to listen on (default 127.0.0.1).")
@click.option("--port", type=click.IntRange(0, 65535), help="Port (default 8080); 0: a free one.")
@click.option("--workers", default=1, show_default=True, type=click.IntRange(1, 64))
@click.option("--base-url", help="FHIR base as clients see it, e.g. https://gw.example/fhir.")
@click.option(
    "--open-access/--no-open-access",
    default=None,
    help="NO AUTHENTICATION, loopback only: for demonstrations, never for data of real persons.",
)
def command(workers: int, **chosen: Any) -> None:
    """Serve the gateway over HTTP: FHIR at /fhir, CDS Hooks at /cds-services, HL7 v2 at /hl7v2.

    Every request but /fhir/metadata, the SMART configuration, GET /cds-services, /healthz and
    /readyz needs an access token, unless --open-access is given: systems get theirs at /oauth/token
    (`fhir-gateway clients`), people with an OpenID provider; `institution token` makes one for this
    machine alone. Put a reverse proxy with TLS in front for callers from elsewhere; docs/auth.md.

    \b
    Examples:
      fhir-gateway serve --database sqlite:///var/gateway.sqlite
      fhir-gateway serve --port 0 --open-access
      fhir-gateway serve --workers 2 --base-url https://gw.example/fhir
    """
    log_to_stderr()
    _warn_of_secrets(sys.argv)
    try:
        settings = load_settings(**chosen)
        check_open_access(settings)
        listener = listen(settings.host, settings.port)
    except GatewayError as error:
        raise click.ClickException(str(error)) from None
    except OSError as error:
        raise click.ClickException(f"cannot listen: {error.strerror}") from None
    if workers == 1:
        sys.exit(_work(settings, listener, ready=None))
    sys.exit(_watch(settings, listener, workers))


def log_to_stderr() -> None:
    """Log lines are JSON already; they go out as they are."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    logging.getLogger("uvicorn").setLevel(logging.WARNING)


def _warn_of_secrets(arguments: list[str]) -> None:
    """Says so when a password stands where everybody on the machine can read it."""
    if any(masked(one) != one for one in arguments):
        advice = "give the address in FHIR_GATEWAY_DATABASE_FILE: anybody here can list arguments"
        said = {"event": "secret-in-arguments", "advice": advice}
        print(json.dumps(said), file=sys.stderr, flush=True)


def listen(host: str, port: int) -> socket.socket:
    """A listening socket that workers can share. Raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(2048)
        listener.set_inheritable(True)
    except OSError:
        listener.close()
        raise
    return listener


def _ready_line(settings: Settings, listener: socket.socket, workers: int) -> str:
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    return json.dumps({
        "event": "ready",
        "url": f"http://{shown}:{port}",
        "fhir": settings.base_url or f"http://{shown}:{port}{FHIR_PATH}",
        "port": port,
        "pid": os.getpid(),
        "workers": workers,
        "open_access": settings.open_access,
        "tzdata": version("tzdata"),
    })  # fmt: skip


class _Server(uvicorn.Server):
    """A server that says when it answers, and for which a signal is a clean stop: exit code 0."""

    def __init__(self, config: uvicorn.Config, on_started: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_started = on_started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Starts to listen, then says so."""
        await super().startup(sockets)
        self._on_started()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """SIGTERM and SIGINT stop it; a second SIGINT does not wait for running requests."""
        loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            loop.add_signal_handler(number, self.handle_exit, number, None)
        yield


def _work(
    settings: Settings, listener: socket.socket, ready: int | None, processes: int = 1
) -> int:
    """Serves until a signal; returns the exit code. `ready` is a pipe to tell a watcher."""
    try:
        uvloop.run(_serve(settings, listener, ready, processes))
    except GatewayError as error:
        print(f"fhir-gateway: cannot start: {error}", file=sys.stderr, flush=True)
        return 1
    return 0


async def _serve(
    settings: Settings, listener: socket.socket, ready: int | None, processes: int
) -> None:
    application = await build(settings, processes=processes)
    settle()
    keeping = None
    if ready is None and settings.job_worker:  # of several processes the watcher keeps it
        keeping = asyncio.create_task(WorkerChild(settings).keep())
    connections = Connections(settings)
    sweeping = asyncio.create_task(connections.sweep())
    try:
        announce = partial(_announce, settings, listener, ready)
        config = server_config(application.asgi, connections)
        await _Server(config, announce).serve(sockets=[listener])
    finally:
        sweeping.cancel()
        if keeping is not None:
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)
        await application.close()


def settle() -> None:
    """What the start has built stays for good: the garbage collector need not look at it again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


def server_config(asgi: Any, connections: Connections | None = None) -> uvicorn.Config:
    """How uvicorn serves the gateway. No proxy headers: --base-url says what clients see."""
    connections = connections or Connections(Settings())
    http: Any = connections.protocol  # uvicorn calls it as it would call a class
    return uvicorn.Config(
        asgi,
        http=http,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=60,
        timeout_graceful_shutdown=GRACE,
    )


def _announce(settings: Settings, listener: socket.socket, ready: int | None) -> None:
    """Tells whoever started it, or the watcher, that requests are answered."""
    if ready is None:
        print(_ready_line(settings, listener, 1), flush=True)
    else:
        os.write(ready, b"+")


# -- several workers ------------------------------------------------------------------------------


def _watch(settings: Settings, listener: socket.socket, workers: int) -> int:
    """Starts the workers, replaces one that dies, stops them all on a signal."""
    read_end, write_end = os.pipe()
    stopping: list[int] = []
    pids: set[int] = set()
    child = WorkerChild(settings)

    def stop(number: int, frame: Any) -> None:
        stopping.append(number)
        for pid in (*pids, *filter(None, [child.pid])):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)

    for number in _SIGNALS:
        signal.signal(number, stop)
    for _ in range(workers):
        pids.add(_fork(settings, listener, write_end, workers))
    code = _await_ready(read_end, workers, pids)
    if code == 0 and not stopping:
        print(_ready_line(settings, listener, workers), flush=True)
        if settings.job_worker:
            child.start()
    else:
        stop(0, None)
    while pids:
        pid, status = os.waitpid(-1, 0)
        pids.discard(pid)
        died = os.waitstatus_to_exitcode(status)
        if pid == child.pid:
            child.start_again(died, stopping=bool(stopping))
        elif not stopping:
            print(json.dumps({"event": "worker-died", "code": died}), file=sys.stderr, flush=True)
            pids.add(_fork(settings, listener, write_end, workers))
    child.stop()
    return code


def _fork(settings: Settings, listener: socket.socket, ready: int, processes: int) -> int:
    """A worker process, made before this process has any thread or loop."""
    pid = os.fork()
    if pid:
        return pid
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    code = 1
    try:
        code = _work(settings, listener, ready, processes)
    finally:
        sys.stderr.flush()
        os._exit(code)


def _await_ready(read_end: int, workers: int, pids: set[int]) -> int:
    """Waits until all workers serve; 1 when one of them ends instead."""
    os.set_blocking(read_end, False)
    ready = 0
    while ready < workers:
        with suppress(BlockingIOError):
            ready += len(os.read(read_end, workers))
        pid, _ = os.waitpid(-1, os.WNOHANG)
        if pid:
            pids.discard(pid)
            return 1
        signal.sigtimedwait([], 0.01)
    return 0
