"""What recognition costs: deciding, asking, looking back, replaying, publishing.

    python -m bench.recognition                     100,000 people with 50 facts each, both stores
    python -m bench.recognition --people 1000000    the large store, by `make bench-large`

Stores are seeded once and kept in bench/out for a day. Beside each rate stands the processor time
per request of the server's processes (database server included), which a shared machine changes
less. Only loopback is loaded; everything that is started is stopped.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import sys
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime
from itertools import cycle
from pathlib import Path
from typing import Any, NamedTuple

from bench.cases import Cases
from bench.load import Load, run_load
from bench.machine import bare_call_ns, cpu_seconds, describe, measure_fdatasync
from bench.measure import CLIENTS, HEAD, OUT, Row, Served, line, measure, served
from bench.people import RECEIVER
from bench.places import Place, empty_database, places
from bench.prepare import registered, write_maps
from bench.recognition_alone import decision_alone, record_bytes
from bench.recognition_publish import publishing
from bench.recognition_replay import replayed
from bench.recognition_seed import MANY, NOBODY, is_fresh, seed
from fhir_gateway.app import open_gateway
from fhir_gateway.settings import load_settings

PEOPLE = 100_000


class Store(NamedTuple):
    """A seeded store."""

    place: Place
    database: str
    mappings: Path
    token: str
    people: int
    facts: int


class Asked(Cases):
    """Requests about the people of these stores."""

    def prior_results(self) -> bytes:
        """All earlier results of somebody who has 200."""
        number = self._chance.randrange(self._people // MANY) * MANY + MANY - 1
        return self._get(f"Patient/p{number:07d}/$prior-results?_count=200")


class Nobody(Cases):
    """Requests about people of whom nothing is on file."""

    def _person(self) -> int:
        return self._people + self._chance.randrange(NOBODY)


def main() -> int:
    """Prints the tables; returns 1 when any request failed or a replay differed."""
    arguments = _arguments()
    OUT.mkdir(exist_ok=True)
    sync = measure_fdatasync(OUT, 1.0)
    print(f"machine    {describe()}")
    print(f"python     an empty call takes {bare_call_ns():.0f} ns of processor time")
    print(f"disk       fdatasync p50 {sync.p50:.2f} ms, p99 {sync.p99:.2f} ms")
    print(f"p99 aim    order-sign {15 + 4 * sync.p99:.1f} ms (15 + 4 x fdatasync p99)")
    print(*decision_alone(), sep="\n", flush=True)
    failed = False
    with ExitStack() as stack:
        for place in places(arguments.stores, stack):
            store = prepare(place, arguments.people, fresh=arguments.fresh)
            failed |= table(store, arguments)
    return 1 if failed else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench.recognition", description=__doc__)
    parser.add_argument("--people", type=int, default=PEOPLE, help="each with 50 facts")
    parser.add_argument("--stores", nargs="+", default=["sqlite", "postgresql"])
    parser.add_argument("--seconds", type=float, default=3.0, help="of each case")
    parser.add_argument("--workers", type=int, default=2, help="processes of the product")
    parser.add_argument("--fresh", action="store_true", help="seed again")
    return parser.parse_args()


def prepare(place: Place, people: int, *, fresh: bool) -> Store:
    """The seeded store, made when it is not there or not of these days."""
    folder = OUT / f"recognition-{place.name}-{people}"
    note, mappings = folder / "seeded.json", folder / "mappings"
    made = json.loads(note.read_text()) if note.exists() else {}
    if fresh or not made or not is_fresh(made["day"]):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        write_maps(mappings)
        database = _empty(place, folder, people)
        made = asyncio.run(_seeded(folder, database, mappings, people))
        note.write_text(json.dumps(made))
    return Store(place, made["database"], mappings, made["token"], people, made["facts"])


def _empty(place: Place, folder: Path, people: int) -> str:
    if place.name == "sqlite":
        return f"sqlite:///{folder}/bench.sqlite"
    return empty_database(f"recognition_{people}")


async def _seeded(folder: Path, database: str, mappings: Path, people: int) -> dict[str, Any]:
    tokens = await registered(folder, database, mappings)
    gateway = await open_gateway(load_settings({}, database=database, mappings=str(mappings)))
    await gateway.store.close()  # the sink writes past the store
    facts = await seed(gateway, database, people)
    day = datetime.now(UTC).date().isoformat()
    return {"database": database, "token": tokens[RECEIVER], "facts": facts, "day": day}


def table(store: Store, arguments: argparse.Namespace) -> bool:
    """The rows of one store; True when something failed."""
    print(
        f"\n{store.place.name}: {store.people:,} people, {store.facts:,} facts, "
        f"{arguments.workers} processes\n  {HEAD}",
        flush=True,
    )
    began = datetime.now(UTC)
    cases, nobody = Asked(store.people, store.token, ""), Nobody(store.people, store.token, "")
    words = (
        "bench.product", str(store.mappings), "--database", store.database, "--port", "0",
        "--workers", str(arguments.workers),
    )  # fmt: skip
    failures = 0
    with served(*words) as server:
        for name, make in (
            ("order-sign, 5 items", cases.order_sign),
            ("order-sign, nothing on file", nobody.order_sign),
            ("$recognize, 5 items", cases.recognize),
            ("$prior-results, 200 results", cases.prior_results),
        ):
            row = measure(server, name, make, arguments.seconds, also=store.place.pid)
            failures += sum(row.load.failures.values())
        with publishing(store.database):
            row = loaded(server, "order-sign while rules are published", cases.order_sign,
                         arguments.seconds, store.place.pid)  # fmt: skip
        failures += sum(row.load.failures.values())
    print(*record_bytes(store.database, began), sep="\n", flush=True)
    return replay(store, began, arguments.workers) or failures > 0


def loaded(
    server: Served, name: str, make: Callable[[], bytes], seconds: float, also: int | None
) -> Row:
    """A load without a warm-up before it: what happens beside it counts too."""
    ready: Callable[[], bytes] = cycle([make() for _ in range(5_000)]).__next__
    before = _cpu(server, also)
    load: Load = asyncio.run(run_load(server.port, ready, clients=CLIENTS, seconds=seconds))
    row = Row(name, load, _cpu(server, also) - before, None)
    print("  " + line(row), flush=True)
    return row


def _cpu(server: Served, also: int | None) -> float:
    return cpu_seconds(server.pid) + (cpu_seconds(also) if also else 0.0)


def replay(store: Store, began: datetime, jobs: int) -> bool:
    """Decides again what was decided since, in several processes; True when something differed."""
    told = replayed(store.database, int(began.timestamp() * 1_000_000), jobs)
    print(
        f"  replay, {jobs} processes: {told.decisions:,} decisions, {told.differ} differ, "
        f"{told.decisions / told.seconds:,.0f}/s, {told.cpu / max(1, told.decisions) * 1e6:,.0f} "
        "us each, the start of the processes not counted",
        flush=True,
    )
    return bool(told.differ)


if __name__ == "__main__":
    sys.exit(main())
