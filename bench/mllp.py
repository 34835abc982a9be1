"""What an HL7 v2 report costs over MLLP: `python -m bench.mllp`, part of `make bench`.

N connections send ORU^R01 of 20 OBX to a process of `fhir-gateway mllp`, each waits for its AA.
Two tables: on a file that holds a day's reports already, and the floor (frames and fdatasync
alone). Every second message is a new report of a known person, every fiftieth a correction.
Only loopback is loaded; what was started here is stopped here.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bench.load import Load
from bench.machine import cpu_seconds, describe, measure_fdatasync
from bench.measure import OUT, Served, served
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
HEAD = f"{'':<34}{'per s':>8}{'p50 ms':>9}{'p95 ms':>9}{'p99 ms':>9}{'CPU ms':>9}"


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


async def run(port: int, make: Callable[[], bytes], clients: int, seconds: float) -> Load:
    """The load of so many connections."""
    load = Load()
    began = time.perf_counter()
    deadline = began + seconds
    await asyncio.gather(*(one_client(port, make, load, deadline) for _ in range(clients)))
    load.seconds = time.perf_counter() - began
    return load


def measured(server: Served, name: str, messages: Messages, clients: int, seconds: float) -> Load:
    """Loads a door after a short warm-up and prints its line."""
    asyncio.run(run(server.port, messages.next, clients, min(1.0, seconds)))
    before = cpu_seconds(server.pid)
    load = asyncio.run(run(server.port, messages.next, clients, seconds))
    cpu = (cpu_seconds(server.pid) - before) / max(1, len(load.latencies)) * 1000
    row = f"{name:<34}{load.rate:8,.0f}"
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
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument(
        "--profile", default="", help="write a profile of 400 messages here instead"
    )
    arguments = parser.parse_args()
    OUT.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=OUT) as name:
        folder = Path(name)
        database = f"sqlite:///{folder / 'mllp.sqlite'}"
        asyncio.run(prepare(database))
        if arguments.profile:
            asyncio.run(profiled(database, 400, arguments.profile))
            return 0
        print(f"machine    {describe()}")
        sync = measure_fdatasync(folder)
        print(f"fdatasync of 4 KiB: p50 {sync.p50:.2f} ms, p99 {sync.p99:.2f} ms")
        print(f"\nORU of {RESULTS} OBX over MLLP, SQLite, {arguments.seconds:.0f} s each\n  {HEAD}")
        failed = _doors(folder, database, arguments)
    return int(failed)


def _doors(folder: Path, database: str, arguments: argparse.Namespace) -> bool:
    failed = False
    senders = folder / "senders.toml"
    senders.write_text(SENDERS, encoding="utf-8")
    words = ("fhir_gateway", "mllp", "--port", "0", "--database", database,
             "--senders", str(senders))  # fmt: skip
    with served(*words) as door:
        for n, clients in enumerate(arguments.clients):
            messages = Messages(n, f"b{n}")
            load = measured(door, f"gateway, {clients} connections", messages, clients,
                            arguments.seconds)  # fmt: skip
            failed = failed or bool(load.failures)
    with served("bench.mllp_floor", str(folder / "floor.log")) as floor:
        for n, clients in enumerate(arguments.clients):
            measured(floor, f"floor, {clients} connections", Messages(n, f"f{n}"), clients,
                     min(arguments.seconds, 3.0))  # fmt: skip
    return failed


if __name__ == "__main__":
    raise SystemExit(main())
