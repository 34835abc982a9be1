"""A hospital whose CT is sold through two channels, a clinic, persons, and a clock that is moved.

All persons are made up: their names say so and their numbers are of no district's register.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from itertools import count
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

from city import id_number
from running import Running

from fhir_gateway.app import build
from fhir_gateway.fhir.home import institution_home
from fhir_gateway.fhir.wire import parse
from fhir_gateway.interactions.prepare import prepare
from fhir_gateway.scheduling import extensions as ext
from fhir_gateway.scheduling.appointment import said
from fhir_gateway.security.actor import SYSTEM_ACCESS
from fhir_gateway.settings import Settings
from fhir_gateway.store.changes import ChangeSet
from fhir_gateway.store.claim_rows import QuotaRow, Settle
from fhir_gateway.store.seat_audit import audit
from fhir_gateway.store.slot_sql import quota_rows
from fhir_gateway.terminology.catalogue import IMAGING_SYSTEM

_T = TypeVar("_T")

MINUTE = 60_000_000
HOUR, DAY = 60 * MINUTE, 24 * 60 * MINUTE
#: 2031-05-26 08:00 in Shanghai, a Monday; slots of a world begin seven days later.
BEGIN = 1_937_520_000_000_000
ZONE = ZoneInfo("Asia/Shanghai")
ITEM = "I001"
ID_CARD = "urn:oid:2.16.156.10011.1.3"


_NUMBERS = count(1)


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self, time: int = BEGIN) -> None:
        self.time = time

    def now(self) -> int:
        return self.time


class PoolRunning(Running):
    """A gateway with such a clock."""

    def __init__(self, database: str, **chosen: Any) -> None:
        self.clock = Clock()
        super().__init__(database, **chosen)

    def build(self, settings: Settings) -> Any:
        return build(settings, clock=self.clock)


class Pool:
    """The world; `name` keeps several of them in one database apart."""

    def __init__(self, running: PoolRunning, name: str) -> None:
        self.running, self.gateway, self.name = running, running.gateway, name
        self.clock = running.clock
        self.start = self.clock.time + 7 * DAY  # a store's time never goes back
        self.hospital, self.clinic = f"{name}-hospital", f"{name}-clinic"
        self.home = institution_home(self.hospital)
        self.tokens = {
            one: running.institution(one, f"示范{one}") for one in (self.hospital, self.clinic)
        }
        self.bucket = f"{self.hospital}|ct|2031-06-02"
        self._count = 0

    def run(self, work: Any) -> Any:
        return self.running.run(work)

    def store(self, *resources: dict[str, Any], claims: tuple[Any, ...] = (),
              institution: str = "") -> None:  # fmt: skip
        puts = [
            prepare(self.gateway, one, op="create", institution=institution or self.hospital)
            for one in resources
        ]
        change = ChangeSet(id=self.gateway.random(16), puts=puts, claims=list(claims))
        self.run(self.gateway.store.commit(change))

    def supply(self, *slots: str, master: str = "gateway", caps: dict[str, int] | None = None,
               closes: int = 0, capacity: int = 1) -> None:  # fmt: skip
        """Slots of an hour, one after the other; the clinics' part falls at `closes`."""
        service = self.service
        resources = [service, self.schedule("ct", master)]
        for number, slot in enumerate(slots):
            resources.append(self.slot(slot, self.start + number * HOUR, capacity=capacity))
        parts = caps or {"grassroots-referral": 0, "ordinary": len(slots) * capacity}
        falls = {"grassroots-referral": (closes, "ordinary" if closes else "")}
        rows = [
            QuotaRow(channel, cap, 0, *falls.get(channel, (0, "")))
            for channel, cap in parts.items()
        ]
        self.store(*resources, claims=(Settle(self.home, self.bucket, "ordinary", rows, 1),))

    @property
    def service(self) -> dict[str, Any]:
        return {
            "resourceType": "HealthcareService", "id": f"{self.name}-ct", "active": True,
            "name": "CT", "providedBy": {"reference": f"Organization/{self.hospital}"},
            "category": [{"coding": [{"system": ext.BOOKING_KIND, "code": "exam"}]}],
        }  # fmt: skip

    def schedule(self, id: str, master: str = "gateway") -> dict[str, Any]:
        return {
            "resourceType": "Schedule", "id": f"{self.name}-{id}", "active": True,
            "extension": [
                {"url": ext.MASTER, "valueCode": master},
                {"url": ext.DEPARTMENT, "valueId": "ct"},
            ],
            "serviceCategory": [{"coding": [{"system": ext.BOOKING_KIND, "code": "exam"}]}],
            "serviceType": [{"coding": [{"system": IMAGING_SYSTEM, "code": ITEM}]}],
            "actor": [{"reference": f"HealthcareService/{self.name}-ct"}],
        }  # fmt: skip

    def slot(self, id: str, start: int, *, schedule: str = "ct", capacity: int = 1,
             status: str = "free") -> dict[str, Any]:  # fmt: skip
        total = {"url": "total", "valuePositiveInt": capacity}
        return {
            "resourceType": "Slot", "id": f"{self.name}-{id}", "status": status,
            "extension": [
                {"url": ext.CAPACITY, "extension": [total]},
                {"url": ext.BUCKET, "valueString": self.bucket},
            ],
            "serviceType": [{"coding": [{"system": IMAGING_SYSTEM, "code": ITEM}]}],
            "appointmentType": {"coding": [{"system": ext.SLOT_CLASS, "code": "ordinary"}]},
            "schedule": {"reference": f"Schedule/{self.name}-{schedule}"},
            "start": said(start, ZONE), "end": said(start + HOUR, ZONE),
        }  # fmt: skip

    def person(self) -> str:
        """A new person; the logical id of the Patient, which belongs to the clinic."""
        self._count += 1
        id = f"{self.name}-p{self._count}"
        number = id_number(next(_NUMBERS))
        self.store({
            "resourceType": "Patient", "id": id,
            "name": [{"text": f"示例{number[-4:-1]}"}],
            "identifier": [
                {"system": ID_CARD, "value": number},
                {"system": f"urn:example:{self.hospital}", "value": f"MRN-{id}"},
            ],
        }, institution=self.clinic)  # fmt: skip
        return id

    def read(self, type: str, id: str) -> dict[str, Any]:
        async def ask() -> dict[str, Any]:
            async with self.gateway.store.snapshot(SYSTEM_ACCESS) as reader:
                stored = await reader.read(type, id)
            assert stored is not None
            return parse(stored.whole())

        found: dict[str, Any] = self.run(ask())
        return found

    def found(self, query: str, institution: str = "") -> list[dict[str, Any]]:
        """What a search finds, as an institution (the clinic)."""
        headers = self.tokens[institution or self.clinic]
        answer = self.running.get(f"/fhir/{query}", headers=headers).json()
        assert answer["resourceType"] == "Bundle", answer
        return [one["resource"] for one in answer.get("entry", ())]

    def quotas(self) -> dict[str, tuple[int, int]]:
        """(cap, used) by channel."""

        async def ask() -> dict[str, tuple[int, int]]:
            async with self.gateway.store.snapshot(SYSTEM_ACCESS) as reader:
                rows = await reader.steps(lambda _: quota_rows(self.home, self.bucket))
            return {row.channel: (row.cap, row.used) for row in rows}

        found: dict[str, tuple[int, int]] = self.run(ask())
        return found

    def faults(self) -> list[str]:
        """What does not agree in the store, by SQL alone."""

        async def ask() -> list[str]:
            async with self.gateway.store.snapshot(SYSTEM_ACCESS) as reader:
                return [one.name for one in await reader.steps(lambda _: audit())]

        found: list[str] = self.run(ask())
        return found

    def all(self, pieces: AsyncIterator[_T]) -> list[_T]:
        """What a run gives."""

        async def gather() -> list[_T]:
            return [one async for one in pieces]

        found: list[_T] = self.run(gather())
        return found

    def first(self, pieces: AsyncIterator[_T]) -> _T:
        """The first of a run, which is then killed."""

        async def take() -> _T:
            one = await anext(pieces)
            await pieces.aclose()  # type: ignore[attr-defined]
            return one

        found: _T = self.run(take())
        return found
