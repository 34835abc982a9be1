"""`make bench`: seeds stores of growing size, serves them, loads them, prints the tables.

At most eight minutes: what does not fit is named at the end. `make bench-large` takes hours and
everything. Seeded stores in bench/out are used again. Only loopback is loaded; everything that was
started here is stopped here.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import NamedTuple

from bench import matching
from bench.cases import REPORT_RESULTS, Cases
from bench.machine import bare_call_ns, describe, measure_fdatasync
from bench.measure import HEAD, OUT, Row, measure, per_answer, served
from bench.places import Place, places
from bench.prepare import Seeded, prepare_store

#: People of the store at 1×: 16× are 50,000 people with 2.5 million resources.
PEOPLE = 3_125
MINUTES = 8.0


class Case(NamedTuple):
    """A row to come: its name, the requests, resources stored per request."""

    name: str
    method: str
    stored: int = 1
    argument: int = 0


HOT = (
    Case("read by id", "read"),
    Case("patient + code + date", "code_date"),
    Case("patient + category + date, sorted", "category_date_sorted"),
)
SEARCHES = (
    Case("vread", "vread"),
    Case("report with its results and order", "report_includes"),
    Case("imaging by patient", "imaging"),
    Case("imaging by accession number", "accession"),
    Case("patient by identifier", "patient_identifier"),
    Case("patient by name", "patient_name"),
    Case("chained, by identity number", "chained"),
    Case("_has, by identity number", "has"),
    Case("composite", "composite"),
    Case("$everything, 50", "everything"),
)
DECISIONS = (
    Case("$recognize, 5 items", "recognize"),
    Case("order-sign, 5 items", "order_sign"),
)
WRITES = (
    Case("transaction of 2", "transaction", 2, 2),
    Case("transaction of 100", "transaction", 100, 100),
    Case(f"report of {REPORT_RESULTS} (12 resources)", "report", REPORT_RESULTS + 3),
)


def main() -> int:
    """Prints the tables; returns 1 when any request failed."""
    arguments = _arguments()
    OUT.mkdir(exist_ok=True)
    if arguments.fresh:
        shutil.rmtree(OUT, ignore_errors=True)
        OUT.mkdir()
    _tell_machine()
    deadline = time.monotonic() + arguments.minutes * 60
    failed, left_out = False, []
    with ExitStack() as stack:
        for place in places(arguments.stores, stack):
            for scale in arguments.scales:
                if time.monotonic() > deadline - _expected(scale, place, arguments.seconds):
                    left_out.append(f"{place.name} {scale}x")
                    continue
                rows = _table(place, scale, arguments)
                failed |= any(row.load.failures for row in rows)
    print("\nproposals for local codes (bench/matching.py)", *matching.lines(), sep="\n")
    if left_out:
        print(f"\nleft out for want of time: {', '.join(left_out)} (--minutes, make bench-large)")
    return 1 if failed else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench.run", description=__doc__)
    parser.add_argument("--stores", nargs="+", default=["sqlite", "postgresql"])
    parser.add_argument("--scales", nargs="+", type=int, default=[1, 4, 16])
    parser.add_argument("--seconds", type=float, default=2.0, help="of each case")
    parser.add_argument("--minutes", type=float, default=MINUTES)
    parser.add_argument("--workers", type=int, default=2, help="processes of the product")
    parser.add_argument("--only", help="cases whose name contains this")
    parser.add_argument("--fresh", action="store_true", help="seed again")
    return parser.parse_args()


def _tell_machine() -> None:
    sync = measure_fdatasync(OUT)
    print(f"machine    {describe()}")
    print(f"python     an empty call takes {bare_call_ns():.0f} ns of processor time")
    print(
        f"disk       fdatasync p50 {sync.p50:.2f} ms, p99 {sync.p99:.2f} ms, "
        f"{sync.per_second:,.0f}/s",
        flush=True,
    )


def _expected(scale: int, place: Place, seconds: float) -> float:
    """Seconds that a table takes, seeding included when it is still to do."""
    cases = 2 * len(HOT) + len(SEARCHES) + len(DECISIONS) + len(WRITES) + 2
    seeding = 0 if (place.folder(scale) / "seeded.json").exists() else 9 * scale
    return cases * (seconds + 1.6) + seeding


def _table(place: Place, scale: int, arguments: argparse.Namespace) -> list[Row]:
    people = PEOPLE * scale
    seeded = prepare_store(place.folder(scale), place.database(scale), people)
    size = place.size(scale)
    print(
        f"\n{place.name}, {scale}x: {people:,} people, {seeded.resources:,} resources, "
        f"{size / 1e9:.2f} GB, {size / seeded.resources:,.0f} bytes a resource, "
        f"{arguments.workers} processes\n  {HEAD}",
        flush=True,
    )
    cases = Cases(people, seeded.tokens["receiver"], seeded.tokens["issuer"])
    return list(_rows(place, seeded, cases, arguments))


def _rows(
    place: Place, seeded: Seeded, cases: Cases, arguments: argparse.Namespace
) -> Iterator[Row]:
    seconds, workers = arguments.seconds, str(arguments.workers)
    low = high = None
    if place.name == "sqlite" and not arguments.only:
        path = seeded.database.removeprefix("sqlite:///")
        with served("bench.floor", path) as floor:
            for name, make in (("read by id", cases.floor_read),
                               ("patient + code + date", cases.floor_search)):  # fmt: skip
                yield (row := measure(floor, f"floor: {name}", make, seconds))
                low, high = (per_answer(row), high) if low is None else (low, per_answer(row))
    floors = {"read": low, "code_date": high}
    bare = ("bench.serve", seeded.database, str(seeded.mappings), workers)
    product = (
        "bench.product", str(seeded.mappings), "--database", seeded.database, "--port", "0",
        "--workers", workers,
    )  # fmt: skip
    for words, label, some in (
        (bare, ", audit off", HOT),
        (product, "", (*HOT, *SEARCHES, *DECISIONS, *WRITES)),
    ):
        wanted = [case for case in some if not arguments.only or arguments.only in case.name]
        if not wanted:
            continue
        with served(*words) as server:
            for case in wanted:
                make = getattr(cases, case.method)
                make = make(case.argument) if case.argument else make
                yield measure(
                    server, case.name + label, make, seconds,
                    floor=floors.get(case.method), per_request=case.stored, also=place.pid,
                )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
