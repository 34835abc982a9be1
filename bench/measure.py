"""Starting a server, loading it with one case, and the line that says what came out."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from typing import NamedTuple

from bench.load import Load, run_load
from bench.machine import cpu_seconds, resident_mib

OUT = Path(__file__).with_name("out")
CLIENTS = 16
#: Requests made before a case begins; they are sent over and over.
PREPARED = 5_000

HEAD = (
    f"{'case, 16 clients':<44}{'per s':>9}{'p50 ms':>9}{'p95 ms':>9}{'p99 ms':>9}"
    f"{'CPU µs':>9} {'floor µs':>8}"
)


class Served(NamedTuple):
    """A server under load."""

    port: int
    pid: int
    start: float


class Row(NamedTuple):
    """One line of the table."""

    name: str
    load: Load
    cpu: float  # seconds of the server's processes
    floor: float | None  # CPU per request of the floor, µs
    per_request: int = 1  # resources stored per request


@contextmanager
def served(*words: str) -> Iterator[Served]:
    """Starts a server process that prints its port (or a ready line) and stops it at the end."""
    began = time.perf_counter()
    with (OUT / "server.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *words], stdout=subprocess.PIPE, stderr=log, text=True
        )
        try:
            line = process.stdout.readline().strip() if process.stdout else ""
            if not line:
                raise SystemExit(f"{words[0]} did not start, see {OUT / 'server.log'}")
            port = int(line) if line.isdigit() else int(line.split('"port": ')[1].split(",")[0])
            one = Served(port, process.pid, time.perf_counter() - began)
            print(
                f"  {words[0]} started in {one.start:.2f} s, {resident_mib(one.pid):.0f} MiB",
                flush=True,
            )
            yield one
            print(f"  {words[0]} after the load {resident_mib(one.pid):.0f} MiB", flush=True)
        finally:
            process.terminate()
            process.wait(timeout=60)


def measure(
    server: Served, name: str, make: Callable[[], bytes], seconds: float,
    floor: float | None = None, per_request: int = 1, also: int | None = None,
) -> Row:  # fmt: skip
    """Loads the server; a short warm-up is not counted, nor is housework left from before.

    `also` is the process of a database server, whose processor time counts too.
    """
    count = max(50, PREPARED // max(1, per_request))
    ready = cycle([make() for _ in range(count)]).__next__  # the load shares the machine
    asyncio.run(run_load(server.port, ready, clients=CLIENTS, seconds=0.5))
    settle_down(server)
    before = _cpu(server, also)
    load = asyncio.run(run_load(server.port, ready, clients=CLIENTS, seconds=seconds))
    row = Row(name, load, _cpu(server, also) - before, floor, per_request)
    print("  " + line(row), flush=True)
    if load.failures:
        print(f"    failures: {load.failures} {load.sample[:300]!r}", flush=True)
    return row


def _cpu(server: Served, also: int | None) -> float:
    return cpu_seconds(server.pid) + (cpu_seconds(also) if also else 0.0)


def settle_down(server: Served) -> None:
    """Waits until the server has no housework left: its processor time stands still."""
    for _ in range(100):
        before = cpu_seconds(server.pid)
        time.sleep(0.3)
        if cpu_seconds(server.pid) - before < 0.02:
            return


def per_answer(row: Row) -> float:
    """CPU per request in µs."""
    return row.cpu / max(1, len(row.load.latencies)) * 1e6


def line(row: Row) -> str:
    """One line of the table."""
    load, cpu = row.load, per_answer(row)
    floor = f"{row.floor:7.0f} {cpu / row.floor:5.1f}x" if row.floor else " " * 14
    rate = f"{load.rate * row.per_request:9,.0f}"
    return (
        f"{row.name:<44}{rate}{load.percentile(0.5):9.2f}{load.percentile(0.95):9.2f}"
        f"{load.percentile(0.99):9.2f}{cpu:9.0f} {floor}"
        + (f"  {sum(load.failures.values())} FAILED" if load.failures else "")
    )
