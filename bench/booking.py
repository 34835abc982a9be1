"""What booking costs through the whole product: requests in, durable bookings out, one process.

`python -m bench.booking [--slots N] [--clients N] [--wanting N] [--asked N] [--profile]`. Each
request goes through the doors (authentication, rights, parameters), the caller's channel, limits
and order, the claim under the write lock, the AuditEvent, and is durable when it is answered.
`--wanting` clients want the same Slot at one moment. Then `$find` asks for an item within two
weeks. Persons and institutions are artificial.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import pstats
import random
import shutil
import statistics
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from typing import Any

from bench.machine import describe, measure_fdatasync
from bench.measure import OUT
from bench.places import empty_database, places
from fhir_gateway.app import Application, build
from fhir_gateway.context import Gateway
from fhir_gateway.fhir.home import institution_home
from fhir_gateway.fhir.wire import instant, parse, render
from fhir_gateway.interactions.institutions import issue_token, register
from fhir_gateway.interactions.prepare import prepare
from fhir_gateway.scheduling import extensions as ext
from fhir_gateway.security.actor import SYSTEM_ACCESS
from fhir_gateway.security.institution import Institution
from fhir_gateway.settings import Settings
from fhir_gateway.store.changes import ChangeSet
from fhir_gateway.store.claim_rows import QuotaRow, Settle
from fhir_gateway.store.seat_audit import audit
from fhir_gateway.terminology.catalogue import IMAGING_SYSTEM

Json = dict[str, Any]
HOUR = 3_600_000_000
HOSPITALS, PEOPLE, PIECE = 20, 2_000, 250
ITEMS = [f"I{number:03}" for number in range(1, 41)]
_DOCUMENT = "urn:oid:2.16.156.10011.1.3"
_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)


class Product:
    """The gateway behind its own ASGI door, called without a network."""

    def __init__(self, application: Application) -> None:
        self.asgi, self.gateway = application.asgi, application.gateway
        self.token = ""

    async def call(self, path: str, body: Json) -> tuple[int, bytes]:
        """POST of an operation: status and body."""
        sent = [{"type": "http.request", "body": render(body)}]
        scope = {
            "type": "http", "method": "POST", "path": f"/fhir/{path}", "raw_path": b"",
            "query_string": b"", "scheme": "http", "http_version": "1.1",
            "server": ("127.0.0.1", 80), "client": ("127.0.0.1", 1),
            "headers": [(b"content-type", b"application/fhir+json"), (b"host", b"127.0.0.1"),
                        (b"authorization", f"Bearer {self.token}".encode())],
        }  # fmt: skip
        got: list[Any] = []

        async def receive() -> Any:
            return sent.pop() if sent else {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            got.append(message)

        await self.asgi(scope, receive, send)
        return got[0]["status"], b"".join(one.get("body", b"") for one in got[1:])


async def fill(gateway: Gateway, count: int) -> list[str]:
    """Schedules, Slots with their quotas, and persons; ids of the Slots."""
    for number in range(HOSPITALS):
        await register(gateway, Institution(id=f"h{number}", name=f"示范医院{number}",
                                            area="110105", level="三级甲等"))  # fmt: skip
        await _store(gateway, [_service(number), _schedule(number)], f"h{number}")
    begin = gateway.clock.now() // HOUR * HOUR + 24 * HOUR
    slots = [_slot(number, begin) for number in range(count)]
    for number in range(HOSPITALS):
        mine = slots[number::HOSPITALS]
        bucket = f"h{number}|ct|2030-01-01"
        settle = Settle(institution_home(f"h{number}"), bucket, "ordinary",
                        [QuotaRow("ordinary", len(mine))])  # fmt: skip
        for at in range(0, len(mine), PIECE):
            await _store(gateway, mine[at : at + PIECE], f"h{number}")
        await gateway.store.commit(ChangeSet(gateway.random(16), claims=[settle]))
    persons = [_patient(number) for number in range(PEOPLE)]
    for at in range(0, PEOPLE, PIECE):
        await _store(gateway, persons[at : at + PIECE], "clinic")
    return [one["id"] for one in slots]


async def _store(gateway: Gateway, resources: Sequence[Json], institution: str) -> None:
    puts = [prepare(gateway, one, op="create", institution=institution) for one in resources]
    await gateway.store.commit(ChangeSet(gateway.random(16), puts=puts))


def _service(number: int) -> Json:
    return {
        "resourceType": "HealthcareService", "id": f"ct-{number}", "active": True,
        "providedBy": {"reference": f"Organization/h{number}"},
    }  # fmt: skip


def _schedule(number: int) -> Json:
    return {
        "resourceType": "Schedule", "id": f"schedule-{number}", "active": True,
        "extension": [{"url": ext.MASTER, "valueCode": "gateway"},
                      {"url": ext.DEPARTMENT, "valueId": "ct"}],
        "serviceCategory": [{"coding": [{"system": ext.BOOKING_KIND, "code": "exam"}]}],
        "actor": [{"reference": f"HealthcareService/ct-{number}", "display": "CT室"}],
        "planningHorizon": {"start": "2020-01-01", "end": "2099-12-31"},
    }  # fmt: skip


def _slot(number: int, begin: int) -> Json:
    hospital = number % HOSPITALS
    start = begin + number // HOSPITALS * HOUR // 2
    item = ITEMS[number // HOSPITALS % len(ITEMS)]
    return {
        "resourceType": "Slot", "id": f"slot-{number}", "status": "free",
        "extension": [
            {"url": ext.CAPACITY, "extension": [{"url": "total", "valuePositiveInt": 1}]},
            {"url": ext.BUCKET, "valueString": f"h{hospital}|ct|2030-01-01"},
        ],
        "schedule": {"reference": f"Schedule/schedule-{hospital}"},
        "serviceType": [{"coding": [{"system": IMAGING_SYSTEM, "code": item}]}],
        "appointmentType": {"coding": [{"system": ext.SLOT_CLASS, "code": "ordinary"}]},
        "start": instant(start), "end": instant(start + HOUR // 2),
    }  # fmt: skip


def _patient(number: int) -> Json:
    body = f"110101{1950 + number % 50}0307{number // 50:03d}"
    total = sum(int(digit) * weight for digit, weight in zip(body, _WEIGHTS, strict=True))
    document = body + "10X98765432"[total % 11]
    return {
        "resourceType": "Patient", "id": f"p{number}", "name": [{"text": f"测试{number}"}],
        "identifier": [{"system": _DOCUMENT, "value": document}],
        "birthDate": f"{1950 + number % 50}-03-07",
    }  # fmt: skip


async def book(product: Product, slots: Sequence[str], clients: int, wanting: int) -> None:
    """Lets clients book all Slots, some after the same one; prints bookings a second and CPU."""
    told: Counter[str] = Counter()
    waits: list[float] = []
    queues = max(1, clients // wanting)

    async def client(number: int) -> None:
        for place in range(number % queues, len(slots), queues):
            person = (place * wanting + number // queues) % PEOPLE
            parameters = [
                {"name": "slot", "valueString": f"Slot/{slots[place]}"},
                {"name": "patient-reference", "valueString": f"Patient/p{person}"},
            ]
            body = {"resourceType": "Parameters", "parameter": parameters}
            began = time.perf_counter()
            status, answer = await product.call("Appointment/$book", body)
            waits.append(time.perf_counter() - began)
            rule = "" if status == 200 else parse(answer)["issue"][0]["details"]["text"]
            told[rule or "booked"] += 1

    began, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(client(number) for number in range(clients)))
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    made = told["booked"]
    print(
        f"  book: {made / seconds:,.0f} bookings/s, {len(waits) / seconds:,.0f} requests/s, "
        f"{cpu / max(made, 1) * 1000:.2f} ms CPU per booking, p50 {_ms(waits, 50)} ms, "
        f"p99 {_ms(waits, 99)} ms; {dict(told)}",
        flush=True,
    )
    async with product.gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        faults = await reader.steps(lambda _: audit())
    if faults:
        raise SystemExit(f"the audit found {faults}")
    print("  audit: every seat, quota and booking agrees", flush=True)


async def find(product: Product, asked: int) -> None:
    """Asks for free Slots of an item within two weeks; prints how long that takes."""
    chance, waits, total = random.Random(2), [], 0
    now = product.gateway.clock.now()
    for _ in range(asked):
        parameters = [
            {"name": "start", "valueDateTime": instant(now)},
            {"name": "end", "valueDateTime": instant(now + 14 * 24 * HOUR)},
            {"name": "service", "valueString": chance.choice(ITEMS)},
        ]
        body = {"resourceType": "Parameters", "parameter": parameters}
        began = time.perf_counter()
        status, answer = await product.call("Appointment/$find", body)
        waits.append(time.perf_counter() - began)
        if status != 200:
            raise SystemExit(f"$find was answered {status}: {answer[:300]!r}")
        total += parse(answer)["total"]
    print(f"  find: p50 {_ms(waits, 50)} ms, p99 {_ms(waits, 99)} ms, {total // asked:,} found of "
          "each item", flush=True)  # fmt: skip


def _ms(waits: Iterable[float], part: int) -> str:
    return f"{statistics.quantiles(waits, n=100)[part - 1] * 1000:.1f}"


async def _measured(url: str, arguments: argparse.Namespace) -> None:
    quotas = OUT / "booking-quotas.toml"
    settings = Settings(database=url, exports=str(OUT), quotas=str(quotas) if quotas.is_file()
                        else "")  # fmt: skip
    application = await build(settings)
    product = Product(application)
    try:
        await register(product.gateway, Institution(id="clinic", name="示范社区中心",
                                                    area="110105", level="社区"))  # fmt: skip
        product.token = await issue_token(product.gateway, "clinic")
        slots = await fill(product.gateway, arguments.slots + arguments.spare)
        profile = cProfile.Profile()
        if arguments.profile:
            profile.enable()
        if arguments.slots:
            await book(product, slots[: arguments.slots], arguments.clients, arguments.wanting)
        if arguments.asked:
            await find(product, arguments.asked)
        if arguments.profile:
            profile.disable()
            pstats.Stats(profile).sort_stats("cumtime").print_stats("fhir_gateway|apsw", 45)
    finally:
        await application.close()


def _database(name: str) -> str:
    if name != "sqlite":
        return empty_database("bench_booking")
    folder = OUT / "booking"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return f"sqlite:///{folder}/bench.sqlite"


def main() -> None:
    """Measures what the arguments name."""
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m bench.booking")
    parser.add_argument("--slots", type=int, default=2_000, help="Slots that are booked")
    parser.add_argument("--spare", type=int, default=2_000, help="Slots that stay free for $find")
    parser.add_argument("--clients", type=int, default=64, help="clients that book at once")
    parser.add_argument("--wanting", type=int, default=1, help="clients that want the same Slot")
    parser.add_argument("--asked", type=int, default=200, help="searches")
    parser.add_argument("--profile", action="store_true", help="where the time goes")
    parser.add_argument("--stores", nargs="+", default=["sqlite"], choices=["sqlite", "postgresql"])
    arguments = parser.parse_args()
    OUT.mkdir(exist_ok=True)
    sync = measure_fdatasync(OUT)
    print(f"{describe()}; fdatasync p50 {sync.p50:.2f} ms, {sync.per_second:,.0f}/s")
    with ExitStack() as stack:
        for place in places(arguments.stores, stack):
            print(place.name, flush=True)
            url = _database(place.name)
            asyncio.run(_measured(url, arguments))


if __name__ == "__main__":
    main()
