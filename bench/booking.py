"""What booking costs: seats taken by many clients at once, free Slots found, slots on a card.

`python -m bench.booking [--slots N] [--stored N] [--clients N] [--wanting N] [--asked N]
[--cases NAME ...] [--stores NAME ...] [--folder DIR]`. The cases, on one store of `--stored` Slots:

    commit   the store alone: an Appointment, its Slot with its new status, the claim on seat, quota
             and person and an audit entry, durable when it is acknowledged
    book     the same through the product: `$book` behind the doors, one process
    find     `$find` of an item within a fortnight, exact total, page of twenty
    card     order-sign of one examination whose card tells the earliest slots

`--wanting` clients want the same Slot at one moment. CPU is that of this process and of the
database server. Floors: for seats one durable batch of the same number of rows and bytes for so
many clients, without the product; for `$find` the count in its index and twenty rows, for the card
the same call without slots. At the end all seats are audited by SQL. Everything is artificial.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import random
import shutil
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bench.booking_floor import find_floor, seat_floor
from bench.booking_world import DAY, HOSPITALS, ITEMS, PEOPLE, World, fill
from bench.load import Load
from bench.machine import bare_call_ns, cpu_seconds, describe, measure_fdatasync
from bench.measure import OUT
from bench.places import Place, empty_database, places
from fhir_gateway.app import build
from fhir_gateway.audit.events import booking_event
from fhir_gateway.errors import GatewayError
from fhir_gateway.fhir.wire import instant, parse
from fhir_gateway.interactions.audit import call_of
from fhir_gateway.security.actor import GATEWAY, SYSTEM_ACCESS
from fhir_gateway.settings import Settings
from fhir_gateway.store.blobs import pack
from fhir_gateway.store.changes import ChangeSet, Entry, Put
from fhir_gateway.store.claim_rows import Limits, Take
from fhir_gateway.store.seat_audit import audit
from fhir_gateway.terminology.catalogue import IMAGING_SYSTEM

CASES = ("commit", "book", "find", "card")
_HEAD = (
    f"  {'case':<34}{'per s':>8}{'p50 ms':>9}{'p95 ms':>9}{'p99 ms':>9}{'CPU µs':>9}"
    f"{'floor µs':>10}{'':>7}"
)
_APPOINTMENT_BODY = (
    b'},"status":"booked","participant":[{"actor":{"reference":"Patient/p"},"status":"accepted"}],'
    b'"slot":[{"reference":"Slot/s"}],"start":"2026-12-07T08:00:00+08:00","created":"2026-11-22"'
    b',"basedOn":[{"reference":"ServiceRequest/order"}],"comment":"' + b"x" * 400 + b'"}'
)
_LIMITS = Limits(per_day=3, per_department_day=1, no_shows=3)

#: What one client does with a number: how it ended.
Act = Callable[[int, int], Awaitable[str]]


class Bench:
    """A place with a world in it, and what is measured there."""

    def __init__(self, place: Place, world: World, arguments: argparse.Namespace) -> None:
        self.place, self.world, self.arguments = place, world, arguments

    def cpu(self) -> float:
        """CPU seconds so far, the database server's too."""
        server = cpu_seconds(self.place.pid) if self.place.pid else 0.0
        return time.process_time() + server

    def tell(self, name: str, load: Load, cpu: float, floor: float, made: int) -> None:
        """One line of the table; the rate and CPU are of what was made."""
        each = cpu / max(made, 1) * 1e6
        ratio = f"{each / floor:6.1f}×" if floor else ""
        print(
            f"  {name:<34}{made / load.seconds:8,.0f}{load.percentile(0.5):9.2f}"
            f"{load.percentile(0.95):9.2f}{load.percentile(0.99):9.2f}{each:9,.0f}{floor:10,.0f}"
            f"{ratio:>7}",
            flush=True,
        )


async def contend(bench: Bench, name: str, first: int, act: Act, floor: float) -> None:
    """Lets clients book Slots from a number on, `--wanting` of them after the same one."""
    asked, load, told = bench.arguments, Load(), Counter[str]()
    queues = max(1, asked.clients // asked.wanting)
    order = random.Random(1).sample(range(first, first + asked.slots), asked.slots)

    async def client(number: int) -> None:
        for place in range(number % queues, len(order), queues):
            began = time.perf_counter()
            told[await act(order[place], number // queues)] += 1
            load.latencies.append(time.perf_counter() - began)

    for number in range(asked.slots * 2, asked.slots * 2 + _WARM):
        await act(number, first)  # whoever comes first loads what all use
    began, cpu = time.perf_counter(), bench.cpu()
    await asyncio.gather(*(client(number) for number in range(asked.clients)))
    load.seconds, cpu = time.perf_counter() - began, bench.cpu() - cpu
    bench.tell(name, load, cpu, floor, told["booked"])
    if len(told) > 1:
        print(f"    {len(load.latencies) / load.seconds:,.0f} requests/s: {dict(told)}", flush=True)
    async with bench.world.gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        if faults := await reader.steps(lambda _: audit()):
            raise SystemExit(f"the audit found {faults}")


def _commit(world: World) -> Act:
    """Books at the store, through the channel that has most of the Slot's seats."""
    told = booking_event(call_of(world.gateway, GATEWAY), id="a", version=1, patient="p",
                         operation="$book", summary="booked Slot/slot ordinary")  # fmt: skip
    enc, body = pack(told)

    async def act(number: int, client: int) -> str:
        person, name = (number * 4 + client) * 7 % PEOPLE, f"a{number}-{client}"
        channel = "grassroots-referral" if number // HOSPITALS % 10 < 3 else "ordinary"
        event = Entry("AuditEvent", f"e-{name}", 0, enc, body, nonce=os.urandom(16),
                      leaf=os.urandom(32), patient=f"p{person}")  # fmt: skip
        claim = Take(f"Slot/slot-{number}", f"Appointment/{name}", f"p{person}", channel,
                     limits=_LIMITS)  # fmt: skip
        put = Put("Appointment", name, "update", 0, _APPOINTMENT_BODY, patient=f"p{person}")
        puts = [put, world.slot(number, busy=True)]
        try:
            await world.gateway.store.commit(
                ChangeSet(os.urandom(16), puts=puts, journal=[event], claims=[claim])
            )
        except GatewayError as error:
            return error.issues[0].rule or ""
        return "booked"

    return act


def _book(world: World) -> Act:
    async def act(number: int, client: int) -> str:
        parameters = [
            {"name": "slot", "valueString": f"Slot/slot-{number}"},
            {"name": "patient-reference",
             "valueString": f"Patient/p{(number * 4 + client) * 7 % PEOPLE}"},
        ]  # fmt: skip
        body = {"resourceType": "Parameters", "parameter": parameters}
        status, answer = await world.call("/fhir/Appointment/$book", body)
        return "booked" if status == 200 else parse(answer)["issue"][0]["details"]["text"]

    return act


# -- finding --------------------------------------------------------------------------------------


async def find(bench: Bench) -> None:
    """Free Slots of an item within a fortnight, one caller after another."""
    world, chance, total = bench.world, random.Random(2), 0

    async def ask(_: int) -> None:
        nonlocal total
        start = world.begin + chance.randrange(14) * DAY
        parameters = [
            {"name": "start", "valueDateTime": instant(start)},
            {"name": "end", "valueDateTime": instant(start + 14 * DAY)},
            {"name": "service", "valueString": chance.choice(ITEMS)},
        ]
        body = {"resourceType": "Parameters", "parameter": parameters}
        status, answer = await world.call("/fhir/Appointment/$find", body)
        if status != 200:
            raise SystemExit(f"$find was answered {status}: {answer[:300]!r}")
        total += parse(answer)["total"]

    floor = await find_floor(world, bench.place, bench.cpu)
    load, cpu = await _asked(bench, ask)
    found = total // (bench.arguments.asked + _WARM)
    bench.tell(f"$find, {found:,} found", load, cpu, floor, len(load.latencies))


async def card(bench: Bench) -> None:
    """Order-sign with slots on its card, and without for a floor."""
    world, settings, shown = bench.world, bench.world.gateway.settings, 0

    async def ask(number: int) -> None:
        nonlocal shown
        body = _order(ITEMS[number % len(ITEMS)], f"p{number % PEOPLE}")
        status, answer = await world.call("/cds-services/recognition-order-sign", body)
        if status != 200:
            raise SystemExit(f"order-sign was answered {status}: {answer[:300]!r}")
        shown += b"bookable-slots" in answer

    most = settings.hook_slots
    object.__setattr__(settings, "hook_slots", 0)  # settings are frozen
    load, cpu = await _asked(bench, ask)
    floor = cpu / len(load.latencies) * 1e6
    bench.tell("order-sign without slots", load, cpu, 0.0, len(load.latencies))
    object.__setattr__(settings, "hook_slots", most)
    load, cpu = await _asked(bench, ask)
    part = shown * 100 // (bench.arguments.asked + _WARM)
    bench.tell(f"order-sign, slots on {part} %", load, cpu, floor, len(load.latencies))


_WARM = 20


async def _asked(bench: Bench, ask: Callable[[int], Awaitable[None]]) -> tuple[Load, float]:
    for number in range(_WARM):
        await ask(number)
    load = Load()
    start, cpu = time.perf_counter(), bench.cpu()
    for number in range(bench.arguments.asked):
        began = time.perf_counter()
        await ask(number)
        load.latencies.append(time.perf_counter() - began)
    load.seconds = time.perf_counter() - start
    return load, bench.cpu() - cpu


def _order(item: str, patient: str) -> dict[str, Any]:
    order = {
        "resourceType": "ServiceRequest", "id": "draft-1", "status": "draft", "intent": "order",
        "subject": {"reference": f"Patient/{patient}"},
        "code": {"coding": [{"system": IMAGING_SYSTEM, "code": item}], "text": "CT"},
    }  # fmt: skip
    return {
        "hook": "order-sign", "hookInstance": "d1577c69-dfbe-44ad-ba6d-3e05e953b2ea",
        "context": {
            "userId": "Practitioner/example", "patientId": patient,
            "draftOrders": {"resourceType": "Bundle", "entry": [{"resource": order}]},
        },
        "prefetch": {
            "encounter": {"resourceType": "Encounter", "status": "in-progress",
                          "class": {"code": "AMB"}},
            "conditions": None, "requests": None, "procedures": None,
        },
    }  # fmt: skip


# -- the run --------------------------------------------------------------------------------------


async def _measured(place: Place, url: str, asked: argparse.Namespace) -> None:
    application = await build(
        Settings(database=url, exports=str(OUT), hook_slots_ms=5_000, hook_deadline_ms=5_000)
    )
    try:
        world = World(application, max(asked.stored, asked.slots * 2 + _WARM))
        bench, began = Bench(place, world, asked), time.perf_counter()
        await fill(world)
        await world.gateway.store.drain()
        print(f"  {world.count:,} Slots stored in {time.perf_counter() - began:.0f} s", flush=True)
        gc.collect()
        gc.freeze()
        print(_HEAD, flush=True)
        floor = await seat_floor(place, Path(asked.folder), asked.clients, bench.cpu)
        if "commit" in asked.cases:
            name = f"store: {asked.slots:,} seats, {asked.clients} clients"
            await contend(bench, name, 0, _commit(world), floor)
        if "book" in asked.cases:
            name = f"$book: {asked.slots:,} seats, {asked.clients} clients"
            await contend(bench, name, asked.slots, _book(world), floor)
        if "find" in asked.cases:
            await find(bench)
        if "card" in asked.cases:
            await card(bench)
    finally:
        await application.close()


def _database(place: Place, folder: Path) -> str:
    if place.name != "sqlite":
        return empty_database("bench_booking")
    shutil.rmtree(folder / "booking", ignore_errors=True)
    (folder / "booking").mkdir(parents=True)
    return f"sqlite:///{folder}/booking/bench.sqlite"


def main() -> None:
    """Measures what the arguments name."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        prog="python -m bench.booking",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--slots", type=int, default=10_000, help="Slots that each case books")
    parser.add_argument(
        "--stored", type=int, default=0, help="Slots stored, twice --slots at least"
    )
    parser.add_argument("--clients", type=int, default=64, help="clients that book at once")
    parser.add_argument("--wanting", type=int, default=1, help="clients that want the same Slot")
    parser.add_argument("--asked", type=int, default=1_000, help="searches, and orders")
    parser.add_argument("--cases", nargs="+", default=CASES, choices=CASES, help="what is measured")
    parser.add_argument("--folder", default=str(OUT), help="where the SQLite file is made")
    parser.add_argument(
        "--stores", nargs="+", default=["sqlite", "postgresql"], choices=["sqlite", "postgresql"]
    )
    asked = parser.parse_args()
    OUT.mkdir(exist_ok=True)
    Path(asked.folder).mkdir(exist_ok=True)
    sync = measure_fdatasync(Path(asked.folder))
    print(
        f"{describe()}; an empty call {bare_call_ns():.0f} ns; fdatasync p50 {sync.p50:.2f} ms, "
        f"p99 {sync.p99:.2f} ms, {sync.per_second:,.0f}/s"
    )
    with ExitStack() as stack:
        for place in places(asked.stores, stack):
            print(place.name, flush=True)
            asyncio.run(_measured(place, _database(place, Path(asked.folder)), asked))


if __name__ == "__main__":
    main()
