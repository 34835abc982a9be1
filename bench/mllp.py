"""What an HL7 v2 report costs over MLLP: `python -m bench.mllp`, part of `make bench`.

N connections send ORU^R01 of 20 OBX to `fhir-gateway mllp`, each waits for its AA: to one process
and to two on the same store, on SQLite and on PostgreSQL, and to the floor (frames and fdatasync
alone). Nearly every message is a new report of a known person, every fiftieth a correction.
Only loopback is loaded; what was started here is stopped here.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import random
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from itertools import cycle
from pathlib import Path

from bench.load import Load
from bench.machine import cpu_seconds, describe, measure_fdatasync
from bench.measure import OUT, Served, served
from bench.places import Place, empty_database, places
from fhir_gateway.app import open_gateway
from fhir_gateway.hl7v2.mllp_client import MllpClient
from fhir_gateway.interactions.institutions import register
from fhir_gateway.interactions.intake import receive_v2
from fhir_gateway.security.actor import Actor
from fhir_gateway.security.institution import Institution
from fhir_gateway.settings import load_settings

RESULTS = 20
SENDER = "bench"
SENDERS = f"[[sender]]\ninstitution = '{SENDER}'\nnetworks = ['127.0.0.0/8']\n"
CODES = ("ALT", "AST", "TP", "ALB", "GLU", "UREA", "CREA", "UA", "K", "NA", "CL", "CA", "TG",
         "CHOL", "HDL", "LDL", "GGT", "ALP", "TBIL", "DBIL")  # fmt: skip
HEAD = f"{'':<40}{'per s':>8}{'p50 ms':>9}{'p95 ms':>9}{'p99 ms':>9}{'CPU ms':>9}"


class Messages:
    """Reports of a made-up hospital, one after the other."""

    def __init__(self, seed: int, run: str) -> None:
        self._chance, self._run, self._count = random.Random(seed), run, 0
        self._last = (0, 0)

    def next(self) -> bytes:
        """The next message: a new report, or the correction of the last one."""
        self._count += 1
        corrects = self._count % 50 == 0
        number, person = self._last if corrects else (self._count, self._chance.randrange(5_000))
        self._last = number, person
        status, hour = ("C", 12) if corrects else ("F", 11)
        lines = [
            f"MSH|^~\\&|LIS|{SENDER}|GW|CITY|20261118{hour}3100||ORU^R01^ORU_R01|"
            f"{self._run}-{self._count}|P|2.5.1||||||UNICODE UTF-8",
            f"PID|1||{person:06d}^^^{SENDER}^PI||示例{person}||19580312|M",
            f"OBR|1|O{self._run}{number}|R{self._run}{number}|SHQT^生化全套^L|||202611180812"
            f"|||||||||||||||20261118{hour}30||CH|{status}",
        ]
        for n, code in enumerate(CODES[:RESULTS], 1):
            value = f"{self._chance.uniform(3, 90):.1f}"
            lines.append(f"OBX|{n}|NM|{code}^{code}项目^^^{code}||{value}|U/L|9--50||||{status}")
        return "\r".join(lines).encode() + b"\r"


async def one_client(port: int, make: Callable[[], bytes], load: Load, deadline: float) -> None:
    """Sends one message after the other and waits for each answer."""
    async with MllpClient("127.0.0.1", port) as client:
        while time.perf_counter() < deadline:
            message = make()
            began = time.perf_counter()
            (answer,) = await client.send(message)
            load.latencies.append(time.perf_counter() - began)
            if b"\rMSA|AA|" not in answer:
                code = answer.split(b"\r")[1][:40].decode("utf-8", "replace")
                load.failures[code] = load.failures.get(code, 0) + 1


async def run(
    ports: Sequence[int], make: Callable[[], bytes], clients: int, seconds: float
) -> Load:
    """The load of so many connections, in turn to each of the ports."""
    load = Load()
    began = time.perf_counter()
    deadline = began + seconds
    turns = cycle(ports)
    await asyncio.gather(*(one_client(next(turns), make, load, deadline) for _ in range(clients)))
    load.seconds = time.perf_counter() - began
    return load


def measured(
    servers: Sequence[Served], name: str, messages: Messages, clients: int, seconds: float,
    also: int | None = None,
) -> Load:  # fmt: skip
    """Loads a door after a short warm-up and prints its line. The processor time is that of the
    door's processes, and of the database server `also`."""
    ports, pids = [one.port for one in servers], [one.pid for one in servers]
    pids += [also] if also else []
    asyncio.run(run(ports, messages.next, clients, min(1.0, seconds)))
    before = sum(map(cpu_seconds, pids))
    load = asyncio.run(run(ports, messages.next, clients, seconds))
    cpu = (sum(map(cpu_seconds, pids)) - before) / max(1, len(load.latencies)) * 1000
    row = f"{name:<40}{load.rate:8,.0f}"
    for share in (0.5, 0.95, 0.99):
        row += f"{load.percentile(share):9.2f}"
    print("  " + row + f"{cpu:9.2f}", flush=True)
    if load.failures:
        print(f"    failures: {load.failures}")
    return load


async def prepare(database: str) -> None:
    """A store that knows the sender."""
    gateway = await open_gateway(load_settings({}, database=database))
    await register(gateway, Institution(id=SENDER, name="示例医院", facilities=(SENDER,)))
    await gateway.store.close()


async def profiled(database: str, count: int, path: str) -> None:
    """Writes where the time of so many messages goes, in one process."""
    gateway = await open_gateway(load_settings({}, database=database))
    actor, messages = Actor("institution", SENDER, institution=SENDER), Messages(3, "profile")
    ready = [messages.next() for _ in range(count)]
    profile = cProfile.Profile()
    profile.enable()
    for raw in ready:
        await receive_v2(gateway, actor, raw)
    profile.disable()
    profile.dump_stats(path)
    await gateway.store.close()


def main() -> int:
    """Prints the table; returns 1 when a message was refused."""
    arguments = _arguments()
    OUT.mkdir(exist_ok=True)
    failed = False
    with tempfile.TemporaryDirectory(dir=OUT) as name, ExitStack() as stack:
        folder = Path(name)
        if arguments.profile:
            database = f"sqlite:///{folder / 'mllp.sqlite'}"
            asyncio.run(prepare(database))
            asyncio.run(profiled(database, 400, arguments.profile))
            return 0
        print(f"machine    {describe()}")
        sync = measure_fdatasync(folder)
        print(f"fdatasync of 4 KiB: p50 {sync.p50:.2f} ms, p99 {sync.p99:.2f} ms")
        print(f"\nORU of {RESULTS} OBX over MLLP, {arguments.seconds:.0f} s each\n  {HEAD}")
        for place in places(arguments.stores, stack):
            for processes in arguments.processes:
                failed = _doors(folder, place, processes, arguments) or failed
        _floor(folder, arguments)
    return int(failed)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument(
        "--processes", type=int, nargs="+", default=[1, 2], help="of `fhir-gateway mllp`"
    )
    parser.add_argument("--stores", nargs="+", default=["sqlite", "postgresql"],
                        choices=["sqlite", "postgresql"])  # fmt: skip
    parser.add_argument(
        "--profile", default="", help="write a profile of 400 messages here instead"
    )
    return parser.parse_args()


def _doors(folder: Path, place: Place, processes: int, arguments: argparse.Namespace) -> bool:
    """Loads so many processes on an empty store; whether a message was refused."""
    database = f"sqlite:///{folder / f'mllp-{processes}.sqlite'}"
    if place.name == "postgresql":
        database = empty_database(f"bench_mllp_{processes}")
    asyncio.run(prepare(database))
    senders = folder / "senders.toml"
    senders.write_text(SENDERS, encoding="utf-8")
    words = ("fhir_gateway", "mllp", "--port", "0", "--database", database,
             "--senders", str(senders))  # fmt: skip
    failed = False
    with ExitStack() as stack:
        doors = [stack.enter_context(served(*words)) for _ in range(processes)]
        for clients in arguments.clients:
            if clients < processes:
                continue
            name = f"{place.name}, {processes} of mllp, {clients} connections"
            messages = Messages(clients, f"b{processes}.{clients}")
            load = measured(doors, name, messages, clients, arguments.seconds, place.pid)
            failed = failed or bool(load.failures)
    return failed


def _floor(folder: Path, arguments: argparse.Namespace) -> None:
    with served("bench.mllp_floor", str(folder / "floor.log")) as floor:
        for clients in arguments.clients:
            name, messages = f"floor, {clients} connections", Messages(clients, f"f{clients}")
            measured([floor], name, messages, clients, min(arguments.seconds, 3.0))


if __name__ == "__main__":
    raise SystemExit(main())
