"""What the audit log costs: how fast entries are numbered and signed, how fast a whole log is
checked, how fast an entry is proved.

`python -m bench.transparency [--leaves N] [--jobs N] [--postgres URL]`. Records are AuditEvents of
reads as the gateway writes them, in commits of eight. The rate of the sequencer says what a process
could do that does nothing else; its part of one processor at a load of R entries a second is R
divided by it. Verifying reads and hashes every stored byte again. Standard output: one object JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from fhir_gateway.audit.events import read_event
from fhir_gateway.context import Gateway, SystemClock
from fhir_gateway.interactions.audit import call_of, entry
from fhir_gateway.security.actor import Actor
from fhir_gateway.settings import Settings
from fhir_gateway.store import log
from fhir_gateway.store.changes import ChangeSet
from fhir_gateway.store.opening import open_store
from fhir_gateway.transparency import keys, proofs
from fhir_gateway.transparency.sequencer import Sequencer
from fhir_gateway.transparency.verify import Wanted, verify

#: Entries of one commit, and commits that wait together.
ENTRIES, TOGETHER = 8, 64

PROOFS = 500

#: Bytes a leaf that the tree may take, and what the issue asks for.
PROOF_MS, VERIFY_LEAVES_PER_SECOND = 5.0, 1_000_000 / 30

CLINIC = Actor("institution", "Clinic of the bench", "bench-clinic")


async def record(gateway: Gateway, leaves: int) -> float:
    """Writes so many AuditEvents; seconds."""
    began, done = time.perf_counter(), 0
    while done < leaves:
        sets = []
        for _ in range(min(TOGETHER, -(-(leaves - done) // ENTRIES))):
            entries = [_entry(gateway, done + n) for n in range(min(ENTRIES, leaves - done))]
            done += len(entries)
            sets.append(ChangeSet(id=b"", journal=entries, urgent=True))
        await asyncio.gather(*map(gateway.store.commit, sets))
    return time.perf_counter() - began


def _entry(gateway: Gateway, number: int) -> Any:
    patient = f"p{number % 5_000:05}"
    event = read_event(
        call_of(gateway, CLINIC), type="Observation", id=f"o{number}", patient=patient
    )
    return entry(gateway, event, home=1 + number % 5_000)


async def sign(gateway: Gateway) -> tuple[float, int]:
    """Numbers and signs everything; seconds, and heads."""
    sequencer, heads = Sequencer(gateway), 0
    began = time.perf_counter()
    while await sequencer.step():
        heads += 1
    seconds = time.perf_counter() - began
    await sequencer.vacate()
    return seconds, heads


async def prove(gateway: Gateway, size: int) -> dict[str, float]:
    """Milliseconds of an inclusion proof of a leaf by its number, and of a consistency proof."""
    inclusion, consistency = [], []
    for at in range(min(PROOFS, size)):
        began = time.perf_counter()
        await proofs.prove(gateway.store, at * 7_919 % size)
        inclusion.append((time.perf_counter() - began) * 1e3)
        began = time.perf_counter()
        await proofs.extend(gateway.store, 1 + at * 104_729 % size)
        consistency.append((time.perf_counter() - began) * 1e3)
    return {
        "inclusion_p50_ms": statistics.median(inclusion),
        "inclusion_p99_ms": statistics.quantiles(inclusion, n=100)[98],
        "consistency_p50_ms": statistics.median(consistency),
        "consistency_p99_ms": statistics.quantiles(consistency, n=100)[98],
    }


async def tree_bytes(gateway: Gateway, size: int) -> float:
    """Bytes of hashes that the tree keeps for each leaf."""
    total, number, level = 0, 0, 0
    while (tile := await log.tile(gateway.store, level, number)) is not None:
        total += len(tile.hashes)
        number += 1
        if len(tile.hashes) < 8_192:
            number, level = 0, level + 1
    return total / size


async def measure(database: str, folder: Path, leaves: int) -> dict[str, float]:
    """All figures but those of the check."""
    clock = SystemClock()
    key = folder / "log.key"
    if not key.exists():
        keys.write_new(key, keys.new_signer("bench.example/audit-log"))
    store = await open_store(database, clock=clock, random=os.urandom, rows=None)
    settings = Settings(database=database, log_key=str(key))
    gateway = Gateway(settings=settings, store=store, extractor=None, clock=clock)  # type: ignore[arg-type]
    try:
        wrote = await record(gateway, leaves)
        signed, heads = await sign(gateway)
        figures = {
            "leaves": float(leaves),
            "recorded_per_s": leaves / wrote,
            "numbered_per_s": leaves / signed,
            "heads": float(heads),
            "tree_bytes_per_leaf": await tree_bytes(gateway, leaves),
            **await prove(gateway, leaves),
        }
    finally:
        await store.close()
    return figures


def main(arguments: list[str] | None = None) -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--leaves", type=int, default=100_000)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--postgres", help="an empty database; default: a file of SQLite")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        database = given.postgres or f"sqlite:///{folder}/bench.sqlite"
        figures = asyncio.run(measure(database, Path(folder), given.leaves))
        began = time.perf_counter()
        report = verify(database, Wanted(jobs=given.jobs))
        seconds = time.perf_counter() - began
    if [one for one in report.findings if one.kind != "index"]:
        sys.exit(f"the log does not hold: {report.findings[0]}")
    rate = given.leaves / seconds
    figures |= {"verify_s": seconds, "verified_per_s": rate, "verify_million_s": 1_000_000 / rate}
    print(json.dumps({name: round(value, 3) for name, value in figures.items()}))
    good = rate >= VERIFY_LEAVES_PER_SECOND and figures["inclusion_p99_ms"] < PROOF_MS
    print("within the budget" if good else "OVER the budget", file=sys.stderr)


if __name__ == "__main__":
    main()
