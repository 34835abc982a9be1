"""A bucket of Slots around the end of a year, and what it must be after each request, by a model
that knows no rows: a list of what was answered, and the time.

Two gateways serve the same store; each request goes to one of them. What the model says of a
request is every reason by which it may be refused; without one it has to be done.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any

import httpx
from booking_world import World, body_of, booked, marks, told
from city import DOCUMENT, id_number
from pool_world import DAY, HOUR, MINUTE, ZONE, Clock
from running import Running

from fhir_gateway.app import build
from fhir_gateway.fhir.home import institution_home
from fhir_gateway.fhir.wire import parse
from fhir_gateway.interactions.prepare import prepare
from fhir_gateway.scheduling.cut_off import cut_off
from fhir_gateway.scheduling.tidy import tidy
from fhir_gateway.security.actor import SYSTEM_ACCESS
from fhir_gateway.settings import Settings
from fhir_gateway.store.changes import ChangeSet
from fhir_gateway.store.claim_rows import QuotaRow, Settle
from fhir_gateway.store.seat_audit import audit

Json = dict[str, Any]
PERSONS = 4
RESERVED, LAST = "grassroots-referral", "ordinary"
#: Minutes from the midnight of the year's end, capacity, and department of each Slot.
SLOTS = ((-60, 1, "x"), (-30, 2, "x"), (0, 1, "x"), (0, 2, "y"))
#: What has a seat, and what a seat was used for.
LIVE, USED = ("held", "booked"), ("booked", "fulfilled", "noshow")
_OF_CHANNEL = {"quota-full", "channel-closed", "channel-not-open", "no-channel"}


class Timed(Running):
    """A gateway whose clock stands until it is moved, perhaps that of another one."""

    def __init__(self, database: str, clock: Clock, **chosen: Any) -> None:
        self.clock = clock
        super().__init__(database, **chosen)

    def build(self, settings: Settings) -> Any:
        return build(settings, clock=self.clock)


class Stage:
    """Two gateways on one store, with one clock, and a world of institutions."""

    def __init__(self, database: str) -> None:
        self.clock = Clock()
        first = Timed(database, self.clock)
        self.gateways = [first, Timed(database, self.clock, beside=first)]
        self.world = World(first)
        self.year = datetime.fromtimestamp(self.clock.time / 1e6, ZONE).year
        self.number = self.people = 0

    def close(self) -> None:
        for one in reversed(self.gateways):
            one.close()

    def person(self) -> str:
        """A Patient of whom nobody has heard; a birthday has numbers for 999."""
        self.people += 1
        days, number = divmod(self.people, 999)
        born = date(1950, 1, 1) + timedelta(days=days)
        identifier = [{"system": DOCUMENT, "value": id_number(number, f"{born:%Y%m%d}")}]
        return self.world.patient(identifier=identifier, birthDate=born.isoformat())

    def midnight(self) -> int:
        """The end of another year in Shanghai (µs); the clock goes on to the morning before its
        last day."""
        self.year += 1
        at = int(datetime(self.year, 1, 1, tzinfo=ZONE).timestamp()) * 1_000_000
        self.clock.time = at - 2 * DAY + 8 * HOUR
        return at


@dataclass
class Booking:
    """An Appointment as it was answered last."""

    id: str
    person: int
    slot: int
    channel: str
    state: str
    until: int
    by: str
    answers: int = 1

    def is_live(self, now: int) -> bool:
        return self.state == "booked" or (self.state == "held" and self.until > now)


@dataclass
class Model:
    """What was answered, and what follows from it."""

    stage: Stage
    bookings: dict[str, Booking] = field(default_factory=dict)
    last: tuple[str, Json, Json, bytes] | None = None
    keys: int = 0

    def __post_init__(self) -> None:
        stage, world = self.stage, self.stage.world
        stage.number += 1
        self.midnight = stage.midnight()
        self.cut = self.midnight - 12 * HOUR
        self.capacity = [capacity for _, capacity, _ in SLOTS]
        self.caps = {RESERVED: 3, LAST: sum(self.capacity) - 3}
        key = self.name = f"end{stage.number}"
        bucket = f"hospital|ct-{key}|{stage.year - 1}-12-31"
        rows = [QuotaRow(RESERVED, 3, 0, self.cut, LAST), QuotaRow(LAST, self.caps[LAST])]
        resources = []
        for letter in "xy":
            service = f"hospital-ct-{key}{letter}"
            resources += [
                world._service(service, "hospital"),
                world._schedule(f"{key}{letter}", service, "gateway", "I001"),
            ]
        self.bucket = bucket
        resources += [self.slot_of(number, "free") for number in range(len(SLOTS))]
        settle = Settle(institution_home("hospital"), bucket, "ordinary", rows)
        world.store(resources, settle, institution="hospital")
        self.persons = [stage.person() for _ in range(PERSONS)]

    # -- what is so ----------------------------------------------------------------------------

    @property
    def now(self) -> int:
        return self.stage.clock.time

    def start(self, slot: int) -> int:
        return self.midnight + SLOTS[slot][0] * MINUTE

    def seated(self, slot: int | None = None) -> list[Booking]:
        all = [one for one in self.bookings.values() if slot in (None, one.slot)]
        return [one for one in all if one.is_live(self.now) or one.state in USED]

    def booked(self, slot: int) -> int:
        return sum(one.state in USED for one in self.seated(slot))

    def status(self, slot: int) -> str:
        return "busy" if self.booked(slot) >= self.capacity[slot] else "free"

    def left(self, but: str = "") -> dict[str, int]:
        """What channels may sell; to who moves also the seat that is left, where its own does."""
        seated = [one for one in self.seated() if one.id != but]
        used = {name: sum(one.channel == name for one in seated) for name in self.caps}
        if self.now >= self.cut:
            return {RESERVED: 0, LAST: sum(self.capacity) - len(self.seated())}
        return {name: cap - used[name] for name, cap in self.caps.items()}

    def settle(self) -> None:
        """A cap that was passed by what fell stays what it was then."""
        if self.now >= self.cut:
            reserved = sum(one.channel == RESERVED for one in self.seated())
            self.caps = {RESERVED: reserved, LAST: sum(self.capacity) - reserved}

    def reasons(self, person: int, slot: int, by: str, but: str = "") -> set[str]:
        """Every rule by which this person may not have a seat of this Slot through this clinic."""
        found = set()
        others = [one for one in self.seated() if one.person == person and one.id != but]
        begin, minutes, _ = self.start(slot), SLOTS[slot][0], SLOTS[slot][1]
        if begin <= self.now:
            found.add("slot-past")
        if len(self.seated(slot)) >= self.capacity[slot]:
            found.add("slot-full")
        able = (RESERVED, LAST) if by == "clinic" else (LAST,)
        if not any(self.left(but)[one] > 0 for one in able):
            found |= _OF_CHANNEL
        if any(self.start(one.slot) == begin for one in others if one.is_live(self.now)):
            found.add("person-overlap")
        day = [one for one in others if (SLOTS[one.slot][0] < 0) == (minutes < 0)]
        if any(SLOTS[one.slot][2] == SLOTS[slot][2] for one in day):
            found.add("person-limit")
        missed = sum(one.state == "noshow" for one in others)
        return found | ({"person-barred"} if missed >= 3 else set())

    # -- requests ------------------------------------------------------------------------------

    def slot_of(self, number: int, status: str) -> Json:
        minutes, _, department = SLOTS[number]
        start = self.midnight + minutes * MINUTE
        capacity = self.capacity[number]
        slot = self.stage.world._slot(
            f"{self.name}-{number}", f"{self.name}{department}", self.bucket, start, capacity,
            "I001", None,
        )  # fmt: skip
        return slot | {"status": status}

    def send(self, at: int, path: str, by: str, **parameters: Any) -> httpx.Response:
        """A request with a key of its own, to one of the gateways."""
        self.keys += 1
        headers = {**getattr(self.stage.world, by), "idempotency-key": f"{self.name}-{self.keys}"}
        body = body_of(parameters)
        answer = self.stage.gateways[at % 2].post(f"/fhir/{path}", body, headers=headers)
        assert answer.status_code < 500, answer.text
        if answer.status_code == 200:
            self.last = (path, body, headers, answer.content)
        return answer

    def check_refused(self, answer: httpx.Response, reasons: set[str]) -> None:
        assert answer.status_code in (409, 422), (answer.status_code, reasons, answer.text)
        assert set(told(answer)) & reasons, (reasons, answer.text)

    def take(self, at: int, person: int, slot: int, *, hold: bool) -> None:
        """A hold or a booking, through the clinic of the consortium or another one."""
        by = "clinic" if (at + person) % 3 else "other"
        reasons = self.reasons(person, slot, by)
        answer = self.send(
            at, f"Appointment/${'hold' if hold else 'book'}", by,
            slot=f"Slot/{self.name}-{slot}", patient_reference=f"Patient/{self.persons[person]}",
        )  # fmt: skip
        if reasons or answer.status_code != 200:
            self.check_refused(answer, reasons)
            return
        made = booked(answer)
        self.note(made, person, slot, by)

    def note(self, made: Json, person: int, slot: int, by: str) -> None:
        said = marks(made)
        channel, until = said["booking-channel"], said.get("hold-until")
        before = self.bookings.get(made["id"])
        assert self.left(made["id"])[channel] > 0
        ends = int(datetime.fromisoformat(until).timestamp() * 1e6) if until else 0
        assert made["status"] == ("pending" if until else "booked")
        self.bookings[made["id"]] = Booking(
            made["id"], person, slot, channel, "held" if until else "booked", ends, by,
            before.answers + 1 if before else 1,
        )  # fmt: skip

    def chosen(self, number: int) -> Booking | None:
        known = list(self.bookings.values())
        return known[-1 - number % len(known)] if known else None

    def confirm(self, at: int, one: Booking) -> None:
        able = one.state == "held" and one.is_live(self.now) and self.start(one.slot) > self.now
        answer = self.send(at, "Appointment/$book", one.by,
                           appointment_reference=f"Appointment/{one.id}")  # fmt: skip
        assert (answer.status_code == 200) == able, answer.text
        if able:
            assert booked(answer)["status"] == "booked"
            one.state, one.until, one.answers = "booked", 0, one.answers + 1

    def renew(self, at: int, one: Booking) -> None:
        answer = self.send(at, f"Appointment/{one.id}/$renew", one.by)
        if answer.status_code == 200:
            assert one.state == "held" and one.is_live(self.now)
            until = datetime.fromisoformat(marks(answer.json())["hold-until"])
            one.until, one.answers = int(until.timestamp() * 1e6), one.answers + 1

    def move(self, at: int, one: Booking, slot: int) -> None:
        reasons = self.reasons(one.person, slot, one.by, one.id)
        if not one.is_live(self.now) or slot == one.slot:
            reasons |= {"rebook-same", "hold-expired", "appointment-state", "hold-unknown"}
        answer = self.send(at, f"Appointment/{one.id}/$rebook", one.by,
                           slot=f"Slot/{self.name}-{slot}")  # fmt: skip
        if answer.status_code == 200:
            assert not reasons - {"appointment-state"}, (reasons, answer.text)
            self.note(booked(answer), one.person, slot, one.by)
        else:
            assert reasons or self.start(one.slot) <= self.now, answer.text

    def end(self, at: int, one: Booking, verb: str) -> None:
        """What becomes of it: cancelled by who booked, missed or done by the hospital's word."""
        by = one.by if verb == "cancel" else "hospital"
        answer = self.send(at, f"Appointment/{one.id}/${verb}", by)
        ends = {"cancel": "cancelled", "no-show": "noshow", "fulfil": "fulfilled"}[verb]
        if answer.status_code == 200:
            assert one.state in (*LIVE, ends), (one, answer.text)
            assert verb != "no-show" or self.start(one.slot) <= self.now
            one.answers += one.state != ends
            one.state, one.until = ends, 0
        elif verb == "cancel":
            begun = self.start(one.slot) <= self.now
            assert one.state not in LIVE or not one.is_live(self.now) or begun, answer.text

    def repeat(self, at: int) -> None:
        """The last request again, under its key, at either gateway: the same bytes; another body
        under that key is refused."""
        if self.last is None:
            return
        path, body, headers, before = self.last
        answer = self.stage.gateways[at % 2].post(f"/fhir/{path}", body, headers=headers)
        assert (answer.status_code, answer.content) == (200, before)
        other = {**body, "parameter": [*body.get("parameter", ()),
                                       {"name": "comment", "valueString": "another"}]}  # fmt: skip
        if path.endswith(("$book", "$hold")):
            answer = self.stage.gateways[1 - at % 2].post(f"/fhir/{path}", other, headers=headers)
            assert (answer.status_code, set(told(answer))) == (422, {"idempotency-key"})

    def supply(self, slot: int, more: int) -> None:
        """The hospital's plan gives the Slot another capacity, while persons book."""
        self.settle()
        capacity = self.capacity[slot] + more
        if capacity < max(1, len(self.seated(slot))) or capacity > 4:
            return
        before, self.capacity[slot] = self.capacity[slot], capacity
        stage = self.stage
        try:
            put_slot(stage, self.slot_of(slot, self.status(slot)))
        except Exception:
            self.capacity[slot] = before
            raise
        for channel in (LAST, RESERVED):
            part = max(more, -max(0, self.caps[channel] - self._used(channel)))
            self.caps[channel] += part
            more -= part

    def _used(self, channel: str) -> int:
        return sum(one.channel == channel for one in self.seated())

    def check(self) -> None:
        """Whether the store says the same, by its resources and by SQL past the machine."""
        for number in range(len(SLOTS)):
            slot = self.read("Slot", f"{self.name}-{number}")
            assert slot["status"] == self.status(number), (number, self.bookings)
        for one in self.bookings.values():
            status = self.read("Appointment", one.id)["status"]
            known = {"held": {"pending", "cancelled"}}.get(one.state, {one.state})
            assert status in known, (one, status)
            assert status == "pending" or one.state != "held" or not one.is_live(self.now)
        assert faults(self.stage) == []

    def read(self, type: str, id: str) -> Json:
        async def work() -> Json:
            async with self.stage.gateways[0].gateway.store.snapshot(SYSTEM_ACCESS) as reader:
                stored = await reader.read(type, id)
            assert stored is not None and not stored.deleted
            return parse(stored.whole())

        found: Json = self.stage.gateways[0].run(work())
        return found

    # -- the end -------------------------------------------------------------------------------

    def sell_out(self) -> None:
        """More persons than there are seats want each Slot that has not begun, after the cut-off
        and when no hold lives: all of its seats are sold, and not one more."""
        self.stage.clock.time = max(self.now, self.cut + DAY // 48)
        self.settle()
        for slot in range(len(SLOTS)):
            if self.start(slot) <= self.now:
                continue
            free = self.capacity[slot] - len(self.seated(slot))
            for turn in range(free + 1):
                self.persons.append(self.stage.person())
                self.take(turn, len(self.persons) - 1, slot, hold=False)
            assert self.booked(slot) == self.capacity[slot] == len(self.seated(slot))
        self.check()


def put_slot(stage: Stage, slot: Json) -> None:
    """A Slot is made again from its template, as the gateway does it."""
    gateway = stage.gateways[1].gateway
    put = prepare(gateway, slot, op="update", institution="hospital")
    stage.gateways[1].run(gateway.store.commit(ChangeSet(id=gateway.random(16), puts=[put])))


def faults(stage: Stage) -> list[Any]:
    """What does not agree, by SQL."""

    async def work() -> list[Any]:
        async with stage.gateways[0].gateway.store.snapshot(SYSTEM_ACCESS) as reader:
            return [*await reader.steps(lambda _: audit())]

    found: list[Any] = stage.gateways[0].run(work())
    return found


def upkeep(stage: Stage, at: int) -> None:
    """The jobs of the pools, at either gateway: reserves fall, holds that are over are told."""

    async def work() -> None:
        gateway = stage.gateways[at % 2].gateway
        async for _ in cut_off(gateway):
            pass
        async for _ in tidy(gateway):
            pass

    stage.gateways[at % 2].run(work())
