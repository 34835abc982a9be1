"""`make bench`: seeds a store, serves it, loads it from the same machine, prints the table.

At most about eight minutes. `--patients N` makes it smaller; a seeded store of the same size in
bench/out is used again. Only loopback is loaded; everything started here is stopped here.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from typing import NamedTuple

from bench.cases import REPORT_RESULTS, Cases
from bench.load import Load, run_load
from bench.machine import (
    bare_call_ns,
    cpu_seconds,
    describe,
    measure_fdatasync,
    resident_mib,
)
from bench.prepare import Seeded, prepare_store

OUT = Path(__file__).with_name("out")
CLIENTS = 16
#: Requests made before a case begins; they are sent over and over.
PREPARED = 5_000


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
    per_request: int = 1  # resources stored per request, ingest only


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
            yield Served(port, process.pid, time.perf_counter() - began)
        finally:
            process.terminate()
            process.wait(timeout=30)


def measure(
    server: Served, name: str, make: Callable[[], bytes], seconds: float,
    floor: float | None = None, per_request: int = 1,
) -> Row:  # fmt: skip
    """Loads the server; a short warm-up is not counted, nor is housework left from before."""
    ready = cycle([make() for _ in range(PREPARED)]).__next__  # the load shares the machine
    asyncio.run(run_load(server.port, ready, clients=CLIENTS, seconds=1.0))
    settle_down(server)
    before = cpu_seconds(server.pid)
    load = asyncio.run(run_load(server.port, ready, clients=CLIENTS, seconds=seconds))
    row = Row(name, load, cpu_seconds(server.pid) - before, floor, per_request)
    print("  " + line(row), flush=True)
    if load.failures:
        print(f"    failures: {load.failures} {load.sample[:300]!r}", flush=True)
    return row


def settle_down(server: Served) -> None:
    """Waits until the server has no housework left: its processor time stands still."""
    for _ in range(200):
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
        f"{row.name:<38}{rate}{load.percentile(0.5):9.2f}{load.percentile(0.95):9.2f}"
        f"{load.percentile(0.99):9.2f}{cpu:9.0f} {floor}"
        + (f"  {sum(load.failures.values())} FAILED" if load.failures else "")
    )


HEAD = (
    f"{'case, 16 clients':<38}{'per s':>9}{'p50 ms':>9}{'p95 ms':>9}{'p99 ms':>9}"
    f"{'CPU µs':>9} {'floor µs':>8}"
)


def main() -> int:
    """Prints the table; returns 1 when any request failed."""
    parser = argparse.ArgumentParser(prog="bench.run", description=__doc__)
    parser.add_argument("--patients", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each case")
    parser.add_argument("--workers", type=int, default=1, help="processes of the product")
    parser.add_argument("--fresh", action="store_true", help="seed again")
    arguments = parser.parse_args()
    OUT.mkdir(exist_ok=True)
    if arguments.fresh:
        shutil.rmtree(OUT / f"{arguments.patients}", ignore_errors=True)
    seeded = prepare_store(OUT / f"{arguments.patients}", arguments.patients)
    sync = measure_fdatasync(OUT)
    print(f"\nmachine    {describe()}")
    print(f"python     an empty call takes {bare_call_ns():.0f} ns of processor time")
    print(
        f"disk       fdatasync p50 {sync.p50:.2f} ms, p99 {sync.p99:.2f} ms, "
        f"{sync.per_second:,.0f}/s"
    )
    print(f"data       {seeded.told}")
    print(f"\n  {HEAD}")
    cases = Cases(arguments.patients, seeded.tokens["receiver"], seeded.tokens["issuer"])
    rows = run_cases(cases, seeded, arguments.seconds, arguments.workers)
    return 1 if any(row.load.failures for row in rows) else 0


def run_cases(cases: Cases, seeded: Seeded, seconds: float, workers: int) -> list[Row]:
    """All rows, floor first. Reads are served by one process, as the floor is."""
    database, mappings = seeded.database, seeded.mappings
    with served("bench.floor", str(database)) as floor:
        read = measure(floor, "floor: read by id", cases.floor_read, seconds / 2)
        search = measure(floor, "floor: patient+code+date", cases.floor_search, seconds / 2)
    rows = [read, search]
    low, high = per_answer(read), per_answer(search)
    with served("bench.serve", str(database), str(mappings)) as bare:
        rows.append(measure(bare, "read by id, audit off", cases.read, seconds, low))
        rows.append(measure(bare, "patient+code+date, audit off", cases.search, seconds, high))
    options = ("--database", f"sqlite:///{database}", "--port", "0")
    with served("bench.product", str(mappings), *options) as product:
        print(
            f"  started in {product.start:.2f} s, {resident_mib(product.pid):.0f} MiB", flush=True
        )
        rows.append(measure(product, "read by id", cases.read, seconds, low))
        rows.append(measure(product, "patient+code+date", cases.search, seconds, high))
    options = (*options, "--workers", str(workers))
    with served("bench.product", str(mappings), *options) as product:
        rows.append(measure(product, "$recognize, 5 items", cases.recognize, seconds))
        sign = cases.order_sign("recognition-order-sign")
        rows.append(measure(product, "order-sign, 5 items", sign, seconds))
        name = f"ingest, reports of {REPORT_RESULTS} (resources/s)"
        rows.append(measure(product, name, cases.report, seconds, per_request=REPORT_RESULTS + 3))
        print(
            f"  {workers} processes, after the load {resident_mib(product.pid):.0f} MiB resident",
            flush=True,
        )
    return rows


if __name__ == "__main__":
    sys.exit(main())
