"""Bookable time for the bench: hospitals with Slots by the million, clinics, persons; artificial.

Slots are real resources with the rows that they are found and booked by; their index rows for
plain searches are left out, since nothing here searches so. Everything else is stored as the
product stores it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from fhir_gateway.app import Application
from fhir_gateway.context import Gateway
from fhir_gateway.fhir.home import institution_home
from fhir_gateway.fhir.keys import key64
from fhir_gateway.fhir.wire import instant, render, tail
from fhir_gateway.interactions.institutions import issue_token, register
from fhir_gateway.interactions.prepare import prepare
from fhir_gateway.scheduling import extensions as ext
from fhir_gateway.scheduling.membership import Membership, affiliation_of
from fhir_gateway.security.institution import Institution
from fhir_gateway.store.changes import ChangeSet, Derived, Put
from fhir_gateway.store.claim_rows import QuotaRow, Settle, SlotRow
from fhir_gateway.terminology.catalogue import IMAGING_SYSTEM

Json = dict[str, Any]
HOUR = 3_600_000_000
DAY = 24 * HOUR
HOSPITALS, PEOPLE, DAYS, PIECE = 20, 5_000, 28, 500
#: Catalogue items; each Slot offers one.
ITEMS = [f"I{number:03}" for number in range(1, 121)]
KIND = "ordinary"
_DOCUMENT = "urn:oid:2.16.156.10011.1.3"
_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)


class World:
    """A gateway behind its own ASGI door, called without a network, with Slots to book."""

    def __init__(self, application: Application, count: int) -> None:
        self.asgi, self.gateway = application.asgi, application.gateway
        self.count, self.token = count, ""
        self.begin = self.gateway.clock.now() // DAY * DAY + DAY

    async def call(self, path: str, body: Json) -> tuple[int, bytes]:
        """POST of a body: status and body of the answer."""
        sent = [{"type": "http.request", "body": render(body)}]
        media = b"application/fhir+json" if path.startswith("/fhir") else b"application/json"
        scope = {
            "type": "http", "method": "POST", "path": path, "raw_path": b"", "root_path": "",
            "query_string": b"", "scheme": "http", "http_version": "1.1",
            "server": ("127.0.0.1", 80), "client": ("127.0.0.1", 1),
            "headers": [(b"content-type", media), (b"host", b"127.0.0.1"),
                        (b"authorization", f"Bearer {self.token}".encode())],
        }  # fmt: skip
        got: list[Any] = []

        async def receive() -> Any:
            return sent.pop() if sent else {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            got.append(message)

        await self.asgi(scope, receive, send)
        return got[0]["status"], b"".join(one.get("body", b"") for one in got[1:])

    def start(self, number: int) -> int:
        """The begin of a Slot: the hours of work of four weeks, each quarter of an hour equally."""
        quarter = number // HOSPITALS % (DAYS * 36)
        return self.begin + quarter // 36 * DAY + quarter % 36 * HOUR // 4

    def slot(self, number: int, *, busy: bool = False) -> Put:
        """A Slot of a quarter of an hour; its number decides hospital, item, time and bucket."""
        hospital, start = number % HOSPITALS, self.start(number)
        item = ITEMS[number // HOSPITALS % len(ITEMS)]
        bucket = f"h{hospital}|ct|{start // (7 * DAY)}"
        row = SlotRow(f"Schedule/s{hospital}", start, start + HOUR // 4, 1, True, KIND, [item],
                      bucket, busy)  # fmt: skip
        resource = _slot(
            f"slot-{number}", hospital, item, bucket, start, "busy" if busy else "free"
        )
        return Put("Slot", f"slot-{number}", "update", 0, tail(resource),
                   home=institution_home(f"h{hospital}"), owner=key64(f"Organization/h{hospital}"),
                   derived=Derived(slots=[row]))  # fmt: skip


async def fill(world: World) -> None:
    """Institutions, Schedules, Slots with their quotas, and persons."""
    gateway = world.gateway
    await register(gateway, Institution(id="clinic", name="示范社区中心", area="110101",
                                        level="社区"))  # fmt: skip
    world.token = await issue_token(gateway, "clinic")
    for number in range(HOSPITALS):
        id, area = f"h{number}", f"1101{number % 16 + 1:02}"
        hospital = Institution(id=id, name=f"示范医院{number}", area=area, level="三级甲等")
        await register(gateway, hospital)
        await _store(gateway, [_service(number), _schedule(number)], id)
    members = [Membership("east", "东部医联体", "city-group", f"h{number}", "clinic", "2020-01-01")
               for number in range(0, HOSPITALS, 2)]  # fmt: skip
    await _store(gateway, [affiliation_of(one) for one in members], None)
    await _fill_slots(world)
    persons = [_patient(number) for number in range(PEOPLE)]
    for at in range(0, PEOPLE, PIECE):
        await _store(gateway, persons[at : at + PIECE], "clinic")


async def _fill_slots(world: World) -> None:
    counts: dict[tuple[int, str], int] = {}
    gateway = world.gateway
    for numbers in _pieces(world.count):
        piece = [world.slot(number) for number in numbers]
        await gateway.store.commit(ChangeSet(gateway.random(16), puts=piece))
        for put in piece:
            group = put.home, put.derived.slots[0].bucket
            counts[group] = counts.get(group, 0) + 1
    for (home, bucket), count in counts.items():
        reserved = count * 3 // 10
        rows = [QuotaRow("grassroots-referral", reserved), QuotaRow("ordinary", count - reserved)]
        settle = Settle(home, bucket, KIND, rows, 1)
        await gateway.store.commit(ChangeSet(gateway.random(16), claims=[settle]))


def _pieces(count: int) -> Iterator[range]:
    for begin in range(0, count, PIECE):
        yield range(begin, min(begin + PIECE, count))


async def _store(gateway: Gateway, resources: Sequence[Json], institution: str | None) -> None:
    puts = [prepare(gateway, one, op="create", institution=institution) for one in resources]
    await gateway.store.commit(ChangeSet(gateway.random(16), puts=puts))


def _service(number: int) -> Json:
    return {
        "resourceType": "HealthcareService", "id": f"ct-{number}", "active": True,
        "providedBy": {"reference": f"Organization/h{number}"},
    }  # fmt: skip


def _schedule(number: int) -> Json:
    return {
        "resourceType": "Schedule", "id": f"s{number}", "active": True,
        "extension": [{"url": ext.MASTER, "valueCode": "gateway"},
                      {"url": ext.DEPARTMENT, "valueId": "ct"}],
        "serviceCategory": [{"coding": [{"system": ext.BOOKING_KIND, "code": "exam"}]}],
        "actor": [{"reference": f"HealthcareService/ct-{number}", "display": "CT室"}],
        "planningHorizon": {"start": "2020-01-01", "end": "2099-12-31"},
    }  # fmt: skip


def _slot(id: str, hospital: int, item: str, bucket: str, start: int, status: str) -> Json:
    return {
        "resourceType": "Slot", "id": id, "status": status,
        "extension": [
            {"url": ext.CAPACITY, "extension": [{"url": "total", "valuePositiveInt": 1}]},
            {"url": ext.BUCKET, "valueString": bucket},
        ],
        "schedule": {"reference": f"Schedule/s{hospital}"},
        "serviceType": [{"coding": [{"system": IMAGING_SYSTEM, "code": item}]}],
        "appointmentType": {"coding": [{"system": ext.SLOT_CLASS, "code": KIND}]},
        "start": instant(start), "end": instant(start + HOUR // 4),
    }  # fmt: skip


def _patient(number: int) -> Json:
    year = 1950 + number % 50
    body = (
        f"110101{year}{number // 1000 % 12 + 1:02d}{number // 50 % 20 + 1:02d}{number % 1000:03d}"
    )
    total = sum(int(digit) * weight for digit, weight in zip(body, _WEIGHTS, strict=True))
    return {
        "resourceType": "Patient", "id": f"p{number}", "name": [{"text": f"测试{number}"}],
        "identifier": [{"system": _DOCUMENT, "value": body + "10X98765432"[total % 11]}],
        "birthDate": f"{body[6:10]}-{body[10:12]}-{body[12:14]}",
    }  # fmt: skip
