"""What booking costs at the store: seats taken by many clients at once, and free Slots found.

`python -m bench.slots [--slots N] [--clients N] [--wanting N] [--find N] [--stores NAME ...]`. A
booking is what a server commits for one: an Appointment, its Slot with its new status, the claim on
the seat, its quota and its person, and an audit entry, durable when it is acknowledged. Every Slot
is wanted by two clients at the same time, or as many as `--wanting` says. Finding asks for an item
within two weeks, in two channels, with the exact total and a page of twenty.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import shutil
import statistics
import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from typing import Any

from bench.machine import describe, measure_fdatasync
from bench.measure import OUT
from bench.places import Place, empty_database, places
from fhir_gateway.context import SystemClock
from fhir_gateway.errors import GatewayError
from fhir_gateway.fhir.home import institution_home
from fhir_gateway.security.actor import SYSTEM_ACCESS
from fhir_gateway.store.changes import ChangeSet, Derived, Entry, Put
from fhir_gateway.store.claim_rows import Limits, QuotaRow, ScheduleRow, Settle, SlotRow, Take
from fhir_gateway.store.opening import open_store
from fhir_gateway.store.seat_audit import audit
from fhir_gateway.store.slot_sql import Wish, find_slots

HOUR = 3_600_000_000
DAY = 24 * HOUR
HOSPITALS, PEOPLE = 20, 5_000
#: Catalogue items; each Slot offers one.
ITEMS = [f"I{number:03}" for number in range(120)]
KIND = "ordinary"
_SLOT_BODY = (
    b'},"schedule":{"reference":"Schedule/s"},"status":"%s","start":"2026-12-07T08:00:00+08:00",'
    b'"end":"2026-12-07T08:15:00+08:00","serviceType":[{"coding":[{"code":"%s"}]}]}'
)
_APPOINTMENT_BODY = (
    b'},"status":"booked","participant":[{"actor":{"reference":"Patient/p"},"status":"accepted"}],'
    b'"slot":[{"reference":"Slot/s"}],"start":"2026-12-07T08:00:00+08:00","created":"2026-11-22"'
    b',"basedOn":[{"reference":"ServiceRequest/order"}],"comment":"' + b"x" * 400 + b'"}'
)
_LIMITS = Limits(per_day=3, per_department_day=1, no_shows=3)


def slot(number: int, start: int, *, busy: bool = False) -> Put:
    """A Slot of a quarter of an hour; its place decides hospital, item and bucket."""
    hospital = number % HOSPITALS
    item = ITEMS[number // HOSPITALS % len(ITEMS)]
    week = start // (7 * DAY)
    row = SlotRow(
        f"Schedule/s{hospital}", start, start + HOUR // 4, 1, True, KIND, [item],
        f"h{hospital}|ct|{week}", busy,
    )  # fmt: skip
    body = _SLOT_BODY % (b"busy" if busy else b"free", item.encode())
    return Put(
        "Slot", f"slot-{number}", "update", 0, body, home=institution_home(f"h{hospital}"),
        derived=Derived(slots=[row]),
    )  # fmt: skip


def starts(count: int, begin: int, days: int) -> list[int]:
    """Times in the hours of work of so many days, the same number in each quarter of an hour."""
    quarters = [begin + day * DAY + quarter * HOUR // 4 for day in range(days)
                for quarter in range(36)]  # fmt: skip
    return [quarters[number // HOSPITALS % len(quarters)] for number in range(count)]


async def fill(store: Any, times: Sequence[int]) -> None:
    """Stores Schedules, Slots and quotas, as a plan that is generated does."""
    schedules = [
        Put("Schedule", f"s{n}", "update", 0, b"}", home=institution_home(f"h{n}"),
            derived=Derived(schedules=[ScheduleRow(
                "gateway", "ct", KIND, [], ["ct"], f"1101{n % 16:02}", "", "", True)]))
        for n in range(HOSPITALS)
    ]  # fmt: skip
    await store.commit(ChangeSet(os.urandom(16), puts=schedules))
    counts: dict[tuple[int, str], int] = {}
    for begin in range(0, len(times), 500):
        piece = [slot(n, times[n]) for n in range(begin, min(begin + 500, len(times)))]
        await store.commit(ChangeSet(os.urandom(16), puts=piece))
        for put in piece:
            group = put.home, put.derived.slots[0].bucket
            counts[group] = counts.get(group, 0) + 1
    for (home, bucket), count in counts.items():
        reserved = count * 3 // 10
        rows = [QuotaRow("grassroots-referral", reserved), QuotaRow("ordinary", count - reserved)]
        settle = Settle(home, bucket, KIND, rows, 1)
        await store.commit(ChangeSet(os.urandom(16), claims=[settle]))


async def people(store: Any) -> None:
    """Persons who book."""
    for begin in range(0, PEOPLE, 500):
        puts = [
            Put("Patient", f"p{n}", "update", 0, b"}", patient=f"p{n}",
                derived=Derived(identity=[(b"p%d" % n, 1)]))
            for n in range(begin, begin + 500)
        ]  # fmt: skip
        await store.commit(ChangeSet(os.urandom(16), puts=puts))


def booking(number: int, start: int, client: int) -> ChangeSet:
    """The booking of one Slot, through the channel that has most of its seats."""
    person = (number * 4 + client) * 7 % PEOPLE
    name = f"a{number}-{client}"
    channel = "grassroots-referral" if number // HOSPITALS % 10 < 3 else "ordinary"
    event = Entry("AuditEvent", f"e-{name}", 0, 0, b"}", nonce=os.urandom(16), leaf=os.urandom(32))
    claim = Take(f"Slot/slot-{number}", f"Appointment/{name}", f"p{person}", channel,
                 limits=_LIMITS)  # fmt: skip
    put = Put("Appointment", name, "update", 0, _APPOINTMENT_BODY, patient=f"p{person}")
    return ChangeSet(
        os.urandom(16), puts=[put, slot(number, start, busy=True)], journal=[event], claims=[claim]
    )


async def book(store: Any, times: Sequence[int], clients: int, wanting: int) -> None:
    """Lets clients book all Slots, some after the same one; prints bookings a second."""
    told: dict[str, int] = {}
    waits: list[float] = []
    queues = max(1, clients // wanting)
    order = random.Random(1).sample(range(len(times)), len(times))

    async def client(number: int) -> None:
        for place in range(number % queues, len(order), queues):
            wanted = booking(order[place], times[order[place]], number // queues)
            began = time.perf_counter()
            try:
                await store.commit(wanted)
            except GatewayError as error:
                rule = error.issues[0].rule or ""
                told[rule] = told.get(rule, 0) + 1
            else:
                told["booked"] = told.get("booked", 0) + 1
            waits.append(time.perf_counter() - began)

    began = time.perf_counter()
    await asyncio.gather(*(client(number) for number in range(clients)))
    seconds = time.perf_counter() - began
    print(
        f"  book: {told.get('booked', 0) / seconds:,.0f} bookings/s, {len(waits) / seconds:,.0f}"
        f" requests/s, p50 {_ms(waits, 50)} ms, p99 {_ms(waits, 99)} ms; {told}",
        flush=True,
    )
    async with store.snapshot(SYSTEM_ACCESS) as reader:
        faults = await reader.steps(lambda _: audit())
    if faults:
        raise SystemExit(f"the audit found {faults}")
    print("  audit: every seat, quota and booking agrees", flush=True)


async def find(store: Any, times: Sequence[int], asked: int) -> None:
    """Asks for free Slots of an item within two weeks; prints how long that takes."""
    chance, now = random.Random(2), SystemClock().now()
    waits, found = [], 0
    for _ in range(asked):
        start = now + chance.randrange(14) * DAY
        wish = Wish(
            start, start + 14 * DAY, ("grassroots-referral", "ordinary"), (chance.choice(ITEMS),)
        )
        began = time.perf_counter()
        async with store.snapshot(SYSTEM_ACCESS) as reader:
            page = await reader.steps(
                lambda seen, wish=wish: find_slots(seen.dialect, wish, now=now, limit=20)
            )
        waits.append(time.perf_counter() - began)
        found += page.total
    print(
        f"  find among {len(times):,}: p50 {_ms(waits, 50)} ms, p99 {_ms(waits, 99)} ms,"
        f" {found // asked:,} found of each item and fortnight",
        flush=True,
    )


def _ms(waits: Iterable[float], part: int) -> str:
    return f"{statistics.quantiles(waits, n=100)[part - 1] * 1000:.1f}"


async def _measured(place: Place, arguments: argparse.Namespace) -> None:
    begin = SystemClock().now() // DAY * DAY + DAY
    for what, count in (("book", arguments.slots), ("find", arguments.find)):
        if not count:
            continue
        times = starts(count, begin, 28)
        url = await asyncio.to_thread(_database, place, what)
        store = await open_store(url, clock=SystemClock(), random=os.urandom, index=0)
        try:
            began = time.perf_counter()
            await fill(store, times)
            print(f"  {count:,} Slots stored in {time.perf_counter() - began:.1f} s", flush=True)
            if what == "book":
                await people(store)
                await book(store, times, arguments.clients, arguments.wanting)
            else:
                await find(store, times, arguments.asked)
        finally:
            await store.close()


def _database(place: Place, what: str) -> str:
    if place.name != "sqlite":
        return empty_database(f"bench_slots_{what}")
    folder = OUT / f"slots-{what}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return f"sqlite:///{folder}/bench.sqlite"


def main() -> None:
    """Measures what the arguments name."""
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m bench.slots")
    parser.add_argument("--slots", type=int, default=10_000, help="Slots that are booked")
    parser.add_argument("--clients", type=int, default=64, help="clients that book at once")
    parser.add_argument("--wanting", type=int, default=2, help="clients that want the same Slot")
    parser.add_argument("--find", type=int, default=1_000_000, help="Slots among which is searched")
    parser.add_argument("--asked", type=int, default=1_000, help="searches")
    parser.add_argument(
        "--stores", nargs="+", default=["sqlite", "postgresql"], choices=["sqlite", "postgresql"]
    )
    arguments = parser.parse_args()
    OUT.mkdir(exist_ok=True)
    sync = measure_fdatasync(OUT)
    print(f"{describe()}; fdatasync p50 {sync.p50:.2f} ms, {sync.per_second:,.0f}/s")
    with ExitStack() as stack:
        for place in places(arguments.stores, stack):
            print(place.name, flush=True)
            asyncio.run(_measured(place, arguments))


if __name__ == "__main__":
    main()
