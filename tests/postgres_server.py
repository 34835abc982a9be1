"""PostgreSQL for the tests: one private cluster for each test process, in its scratch folder.

The server's programs come from the system's packages (`make services`); the cluster is made by
`initdb`, listens on 127.0.0.1 and on a socket of its own, and ends with the process that made it,
also when that process is killed. Databases are copies of templates, so that a new one takes a
twentieth of a second.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

import asyncpg

_T = TypeVar("_T")

#: The password of the only role; connections by the socket need none.
ROLE, PASSWORD = "gateway", "p@ss/wörd"

START_SECONDS = 60.0

#: For tests that look at results; what a crash leaves behind is tested with `durable=True`.
_QUICK = (
    "fsync=off", "full_page_writes=off", "autovacuum=off", "shared_buffers=32MB",
    "max_wal_size=128MB",
)  # fmt: skip
_DURABLE = ("fsync=on", "shared_buffers=32MB")
_ALWAYS = (
    "max_connections=200",
    "logging_collector=off",
    "log_min_messages=log",
    "log_checkpoints=off",
)

#: Starts the server, and ends and removes it when this end of standard input breaks off without
#: a word: when the test process is gone, however it went.
_GUARD = """
exec 3<&0
"$@" </dev/null 3<&- & server=$!
{ read -r word <&3 || { kill -QUIT $server; sleep 1; rm -rf "$PWD"; }; } 2>/dev/null &
exec 3<&-
wait $server"""


def programs() -> Path | None:
    """Folder of the newest server's programs on this machine, None when there is none."""
    found = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda file: int(file.parts[-3])
    )
    if found:
        return found[-1].parent
    on_path = shutil.which("postgres")
    return Path(on_path).resolve().parent if on_path else None


class PostgresServer:
    """A cluster. Made by its constructor, gone after `close`; may be stopped and started between.

    Raises RuntimeError when the server's programs are missing or it does not start.
    """

    def __init__(self, *, durable: bool = False) -> None:
        folder = programs()
        if folder is None:
            raise RuntimeError("PostgreSQL is not installed; `make services` installs it")
        self._programs = folder
        self._options = _DURABLE if durable else _QUICK
        self._user = _unprivileged()
        self._names = itertools.count(1)
        self._templates: set[str] = set()
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0
        self.folder = Path(tempfile.mkdtemp(prefix="pg-"))
        try:
            self._initdb()
            self.start()
        except BaseException:
            self.close()
            raise

    # -- the server --------------------------------------------------------------------------

    def start(self) -> None:
        """Starts the server, on the port that it had before."""
        for _ in range(3):
            port = self.port or _free_port()
            self._spawn(port)
            if self._answers(port):
                self.port = port
                return
            self.kill()
        raise RuntimeError(f"PostgreSQL does not start: {self._log().read_text('utf-8')[-2_000:]}")

    def stop(self) -> None:
        """Ends the server and its connections in order."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """Ends the server without a word, as a power cut would end it for its clients."""
        self._end(signal.SIGQUIT)

    def close(self) -> None:
        """Ends the server and removes all that it wrote."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _initdb(self) -> None:
        if self._user is not None:
            shutil.chown(self.folder, self._user)
        secret = self.folder / "secret"
        secret.write_text(PASSWORD, "utf-8")
        if self._user is not None:
            shutil.chown(secret, self._user)
        command = [
            self._programs / "initdb", "--pgdata", self._data(), "--username", ROLE,
            "--pwfile", secret, "--auth-host=scram-sha-256", "--auth-local=trust",
            "--encoding=UTF8", "--locale=C", "--no-sync",
        ]  # fmt: skip
        made = subprocess.run(
            command, user=self._user, cwd=self.folder, capture_output=True, check=False
        )
        if made.returncode:
            raise RuntimeError(f"initdb failed: {made.stderr.decode()}")

    def _spawn(self, port: int) -> None:
        options = (*_ALWAYS, *self._options, f"port={port}", "listen_addresses=127.0.0.1",
                   f"unix_socket_directories={self._sockets()}")  # fmt: skip
        settings = [part for option in options for part in ("-c", option)]
        server = [self._programs / "postgres", "-D", self._data(), *settings]
        with self._log().open("ab") as log:
            self._process = subprocess.Popen(
                ["sh", "-c", _GUARD, "sh", *server],
                user=self._user,
                cwd=self.folder,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
            )

    def _end(self, kind: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        server = self._pid()
        if server is not None:
            os.kill(server, kind)
            process.wait(START_SECONDS)
            process.stdin.write(b"stopped\n")
        process.stdin.close()  # without a word the guard ends what never came up
        process.wait(START_SECONDS)
        (self._data() / "postmaster.pid").unlink(missing_ok=True)  # SIGQUIT may leave it

    def _answers(self, port: int) -> bool:
        process = self._process
        assert process is not None
        _await(lambda: self._is_ready(port) or process.poll() is not None)
        return process.poll() is None and self._is_ready(port)

    def _is_ready(self, port: int) -> bool:
        file = self._data() / "postmaster.pid"
        try:
            lines = file.read_text().split("\n")
        except OSError:
            return False
        return len(lines) > 7 and lines[3] == str(port) and lines[7].strip() == "ready"

    def _pid(self) -> int | None:
        try:
            return int((self._data() / "postmaster.pid").read_text().split("\n")[0])
        except (OSError, ValueError):
            return None

    def _data(self) -> Path:
        return self.folder / "data"

    def _log(self) -> Path:
        return self.folder / "log"

    def _sockets(self) -> Path | str:
        """The folder of the socket; none where its path is longer than a socket's may be."""
        return self.folder if len(str(self.folder)) < 80 else ""

    # -- databases ---------------------------------------------------------------------------

    def url(self, name: str, *, password: str = PASSWORD) -> str:
        """The address of a database over the network, where the password is asked for."""
        return f"postgresql://{ROLE}:{quote(password, safe='')}@127.0.0.1:{self.port}/{name}"

    def local(self, name: str) -> str:
        """The address by the socket, which saves 10 ms of hashing the password."""
        folder = self._sockets()
        if not folder:
            return self.url(name)
        return f"postgresql://{ROLE}@/{name}?host={quote(str(folder), safe='')}&port={self.port}"

    def store(self, name: str) -> str:
        """The address for the gateway, which wants to be told that nobody relies on it."""
        url = self.local(name)
        if self._options is not _QUICK:
            return url
        return f"{url}{'&' if '?' in url else '?'}durability=test"

    def create(self, template: str = "template1") -> str:
        """A new database, a copy of the template; its name."""
        name = f"d{next(self._names)}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        return name

    def drop(self, name: str) -> None:
        """Removes a database with all who are connected to it."""
        self.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def template(self, name: str, fill: Callable[[str], Awaitable[None]]) -> str:
        """The template of that name; `fill` is called with its address when it is made."""
        if name not in self._templates:
            self.execute(f"CREATE DATABASE {name}")
            apart(fill(self.local(name)))
            self._templates.add(name)
        return name

    def version(self) -> str:
        """The server's version, such as "15.10"."""
        done = subprocess.run(
            [self._programs / "postgres", "--version"], capture_output=True, check=True
        )
        return done.stdout.decode().split()[2]  # postgres (PostgreSQL) 15.10 (Debian 15.10-0)

    def execute(self, statement: str) -> None:
        """Runs one statement outside any test's database."""

        async def run() -> None:
            connection = await asyncpg.connect(self.local("postgres"))
            try:
                await connection.execute(statement)
            finally:
                await connection.close()

        apart(run())


def apart(work: Awaitable[_T]) -> _T:
    """The result of a coroutine, from a loop of its own: whoever asks may be inside of one."""

    async def awaited() -> _T:
        return await work

    with ThreadPoolExecutor(1) as beside:
        return beside.submit(asyncio.run, awaited()).result()


def _unprivileged() -> str | None:
    """The user that the server runs as: it refuses root."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _await(condition: Callable[[], bool]) -> bool:
    """True when the condition holds before the start is given up."""
    deadline = time.monotonic() + START_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True
