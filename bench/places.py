"""Where the bench keeps its stores: files for SQLite, one cluster of its own for PostgreSQL.

The cluster is made once, with durable settings, listens on a local socket only, and runs while a
bench runs. Its programs come from the system's packages (`make services`).
"""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import asyncpg

from bench.measure import OUT

ROLE = "gateway"
_OPTIONS = (
    "fsync=on", "synchronous_commit=on", "full_page_writes=on", "shared_buffers=1GB",
    "max_wal_size=8GB", "checkpoint_timeout=15min", "listen_addresses=", "max_connections=100",
)  # fmt: skip


class Place(NamedTuple):
    """A kind of store. `pid` is the database server's process, None when there is none."""

    name: str
    pid: int | None

    def folder(self, scale: int) -> Path:
        """Where the notes of a store are, and the store itself when it is a file."""
        return OUT / f"{self.name}-{scale}"

    def database(self, scale: int) -> str:
        """The url of the store."""
        if self.name == "sqlite":
            return f"sqlite:///{self.folder(scale)}/bench.sqlite"
        return f"postgresql://{ROLE}@/bench_{scale}?host={_CLUSTER}"

    def size(self, scale: int) -> int:
        """Bytes on the disk, indexes and all."""
        if self.name == "sqlite":
            return (self.folder(scale) / "bench.sqlite").stat().st_size
        return asyncio.run(_ask(f"SELECT pg_database_size('bench_{scale}')"))


_CLUSTER = Path(os.environ.get("BENCH_CLUSTER", "/var/tmp/fhir-gateway-bench"))


def places(names: Sequence[str], stack: ExitStack) -> Iterator[Place]:
    """The stores to measure; one that cannot be had is said and left out."""
    for name in names:
        if name == "sqlite":
            yield Place(name, None)
            continue
        pid = _start(stack)
        if pid is None:
            print("\npostgresql: not measured, `make services` installs the server", flush=True)
        else:
            yield Place(name, pid)


def _start(stack: ExitStack) -> int | None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    if not found:
        return None
    programs, user = found[-1].parent, _user()
    _CLUSTER.mkdir(parents=True, exist_ok=True)
    data = _CLUSTER / "data"
    if user:
        shutil.chown(_CLUSTER, user)
    if not data.exists():
        _run([programs / "initdb", "-D", data, "-U", ROLE, "--auth=trust", "--encoding=UTF8",
              "--locale=C"], user)  # fmt: skip
        shutil.rmtree(OUT / "postgresql-notes", ignore_errors=True)
    options = " ".join(
        f"-c {option}" for option in (*_OPTIONS, f"unix_socket_directories={_CLUSTER}")
    )
    _run([programs / "pg_ctl", "-D", data, "-w", "-t", "120", "-l", _CLUSTER / "log",
          "-o", options, "start"], user)  # fmt: skip
    stack.callback(_run, [programs / "pg_ctl", "-D", data, "-w", "-m", "fast", "stop"], user)
    asyncio.run(_databases())
    return int((data / "postmaster.pid").read_text().split("\n")[0])


async def _databases() -> None:
    """Empty databases for the stores that have no note yet."""
    connection = await asyncpg.connect(user=ROLE, host=str(_CLUSTER), database="postgres")
    for scale in (1, 4, 16, 64):
        there = await connection.fetchval(
            "SELECT 1 FROM pg_database WHERE datname = $1", f"bench_{scale}"
        )
        noted = (OUT / f"postgresql-{scale}" / "seeded.json").exists()
        if there and not noted:
            await connection.execute(f"DROP DATABASE bench_{scale}")
        if not (there and noted):
            shutil.rmtree(OUT / f"postgresql-{scale}", ignore_errors=True)
            await connection.execute(f"CREATE DATABASE bench_{scale}")
    await connection.close()


def empty_database(name: str) -> str:
    """The url of a database of the cluster that has nothing in it."""
    asyncio.run(_create(name))
    return f"postgresql://{ROLE}@/{name}?host={_CLUSTER}"


async def _create(name: str) -> None:
    connection = await asyncpg.connect(user=ROLE, host=str(_CLUSTER), database="postgres")
    await connection.execute(f"DROP DATABASE IF EXISTS {name}")
    await connection.execute(f"CREATE DATABASE {name}")
    await connection.close()


async def _ask(question: str) -> int:
    connection = await asyncpg.connect(user=ROLE, host=str(_CLUSTER), database="postgres")
    answer: int = await connection.fetchval(question)
    await connection.close()
    return answer


def _run(command: list[str | Path], user: str | None) -> None:
    done = subprocess.run(
        command,
        user=user,
        cwd=_CLUSTER,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{command[0]}: {done.stderr.decode()}")


def _user() -> str | None:
    """The user that the server runs as: it refuses root."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"
