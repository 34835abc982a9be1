"""Seats, limits and time in booking: what could be got by moving, waiting, missing and linking."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from booking_world import SHIPPED, World, body_of, booked, marks, told
from databases import Databases
from running import Running

from fhir_gateway.app import build
from fhir_gateway.fhir.wire import instant
from fhir_gateway.scheduling import extensions as ext
from fhir_gateway.scheduling import seat_commit
from fhir_gateway.security.actor import SYSTEM_ACCESS
from fhir_gateway.settings import Settings
from fhir_gateway.store.changes import ChangeSet, Derived, Put
from fhir_gateway.store.seat_audit import audit

Json = dict[str, Any]
MINUTE = 60_000_000
HOUR, DAY = 60 * MINUTE, 24 * 60 * MINUTE


class Clock:
    """A clock that stands still until it is moved: 2031-05-26 08:00 in Shanghai."""

    time = 1_937_520_000_000_000

    def now(self) -> int:
        return self.time


class Timed(Running):
    """A gateway with such a clock."""

    clock = Clock()

    def build(self, settings: Settings) -> Any:
        return build(settings, clock=self.clock)


@pytest.fixture(scope="module")
def world(shared_database: Databases) -> Iterator[World]:
    running = Timed(shared_database.url("seats"), policy=SHIPPED)
    yield World(running)
    running.close()


@pytest.fixture(autouse=True)
def all_agrees(world: World) -> Iterator[None]:
    """The audit by SQL finds nothing after any of these tests."""
    yield

    async def work() -> list[Any]:
        async with world.gateway.store.snapshot(SYSTEM_ACCESS) as reader:
            return [*await reader.steps(lambda _: audit())]

    assert world.running.run(work()) == []


def later(world: World, time: int) -> None:
    Timed.clock.time += time


def get(world: World, name: str) -> Json:
    found: Json = world.read(name, world.hospital).json()
    return found


def put(world: World, resource: Json) -> tuple[int, list[str]]:
    """Status and rules of a PUT as the hospital."""
    path = f"/fhir/{resource['resourceType']}/{resource['id']}"
    answer = world.running.put(path, resource, headers=dict(world.hospital))
    return answer.status_code, [*told(answer)]


def schedule_of(world: World, slot: str) -> Json:
    return get(world, get(world, f"Slot/{slot}")["schedule"]["reference"])


def submitted(world: World, slot: str, seats: int, status: str) -> Json:
    """A Slot as its hospital writes it: with so many seats, in the bucket that it belongs to."""
    stored = get(world, f"Slot/{slot}")
    ours = (ext.CAPACITY, ext.BUCKET)
    kept = [one for one in stored["extension"] if one["url"] not in ours]
    total = {"url": "total", "valuePositiveInt": seats}
    said = {"url": ext.CAPACITY, "extension": [total]}
    return stored | {"status": status, "extension": [*kept, said]}


@pytest.mark.drivers("sqlite")
def test_nothing_is_sold_of_a_schedule_that_is_not_active(world: World) -> None:
    first, second = world.slots(2, master="allotment")
    mine = booked(world.book(first, world.patient()))
    assert put(world, schedule_of(world, second) | {"active": False})[0] == 200
    assert [*told(world.hold(second, world.patient()))] == ["slot-closed"]
    path = f"/fhir/Slot/{second}/$why-not"
    why = world.running.get(path, headers=dict(world.clinic)).json()
    assert why["parameter"][1]["part"][0]["valueCode"] == "slot-closed"
    assert world.call(f"Appointment/{mine['id']}/$cancel").status_code == 200


@pytest.mark.drivers("sqlite")
def test_how_full_a_submitted_slot_is_follows_from_its_seats(world: World) -> None:
    (slot,) = world.slots(master="allotment", capacity=2, hours=60)
    assert put(world, submitted(world, slot, 2, "free"))[0] == 200
    booked(world.book(slot, world.patient()))
    for seats, said, is_ in ((1, "free", "busy"), (2, "busy", "free"), (1, "busy", "busy")):
        assert put(world, submitted(world, slot, seats, said))[0] == 200
        assert world.status(slot) == is_
    (empty,) = world.slots(master="allotment", hours=62)
    assert put(world, submitted(world, empty, 1, "busy-unavailable"))[0] == 200
    assert put(world, submitted(world, empty, 1, "busy")) == (422, ["slot-status"])
    assert put(world, submitted(world, empty, 1, "free"))[0] == 200
    assert world.status(empty) == "free"


@pytest.mark.drivers("sqlite")
def test_who_did_not_come_cannot_undo_it(world: World) -> None:
    (slot,), (free,) = world.slots(hours=2), world.slots(hours=50)
    name = f"Appointment/{booked(world.book(slot, world.patient()))['id']}"
    later(world, 3 * HOUR)
    assert [*told(world.call(f"{name}/$cancel"))] == ["appointment-begun"]
    assert [*told(world.call(f"{name}/$rebook", slot=f"Slot/{free}"))] == ["appointment-begun"]
    moved = world.call(f"{name}/$rebook", world.hospital, slot=f"Slot/{free}")
    assert booked(moved)["status"] == "booked"
    assert world.call(f"{name}/$cancel").status_code == 200


@pytest.mark.drivers("sqlite")
def test_what_was_missed_by_mistake_bars_nobody(world: World) -> None:
    patient, missed = world.patient(), []
    for days in range(3):
        (slot,) = world.slots(hours=2 + 24 * days)
        missed.append(booked(world.book(slot, patient))["id"])
    later(world, 3 * DAY)
    for id in missed:
        assert world.call(f"Appointment/{id}/$no-show", world.hospital).status_code == 200
    (free,) = world.slots()
    assert [*told(world.book(free, patient))] == ["person-barred"]
    assert world.call(f"Appointment/{missed[1]}/$void", world.hospital).status_code == 200
    assert booked(world.book(free, patient))["status"] == "booked"


def test_who_moves_within_a_channel_needs_no_second_seat_of_it(world: World) -> None:
    first, second = world.slots(2, quotas={"grassroots-referral": 1, "out-of-town": 1})
    mine = booked(world.book(first, world.patient()))
    assert "quota-full" in told(world.book(second, world.patient()))
    moved = world.call(f"Appointment/{mine['id']}/$rebook", slot=f"Slot/{second}")
    assert marks(booked(moved))["booking-channel"] == "grassroots-referral"
    assert "quota-full" in told(world.book(first, world.patient()))


@pytest.mark.drivers("sqlite")
def test_a_hold_that_moves_lives_no_longer(world: World) -> None:
    slots = world.slots(2)
    held = booked(world.hold(slots[0], world.patient()))
    name, until = f"Appointment/{held['id']}", marks(held)["hold-until"]
    later(world, 5 * MINUTE)
    moved = booked(world.call(f"{name}/$rebook", slot=f"Slot/{slots[1]}"))
    assert marks(moved)["hold-until"] == until
    later(world, 5 * MINUTE)
    assert [*told(world.call(f"{name}/$rebook", slot=f"Slot/{slots[0]}"))] == ["hold-expired"]
    assert booked(world.book(slots[1], world.patient()))["status"] == "booked"


def test_a_person_who_was_two_is_at_one_place(world: World) -> None:
    (asked,), (mine,) = world.slots(master="hospital"), world.slots()
    one, other = world.patient(), world.patient()
    waits = f"Appointment/{booked(world.book(asked, one))['id']}"
    held = f"Appointment/{booked(world.hold(mine, other))['id']}"
    edge = Put("Linkage", "seats", "create", 0, b'},"active":true}', patient=one,
               derived=Derived(aliases=[(one, other, "linkage")]))  # fmt: skip
    gateway = world.gateway
    world.running.run(gateway.store.commit(ChangeSet(id=gateway.random(16), puts=[edge])))
    assert booked(world.call("Appointment/$book", appointment_reference=held))["id"]
    assert [*told(world.call(f"{waits}/$confirm", world.hospital))] == ["person-overlap"]
    assert world.call(f"{held}/$cancel").status_code == 200
    assert world.call(f"{waits}/$confirm", world.hospital).json()["status"] == "booked"


@pytest.mark.drivers("sqlite")
def test_a_waiting_list_is_sorted_by_nobody(world: World) -> None:
    (slot,) = world.slots()
    service = schedule_of(world, slot)["actor"][0]["reference"]
    now = Timed.clock.time
    answer = world.call(
        "Appointment/$waitlist", patient_reference=f"Patient/{world.patient()}", service=service,
        item={"valueCode": "I001"}, start={"valueDateTime": instant(now)},
        end={"valueDateTime": instant(now + 20 * DAY)},
    )  # fmt: skip
    entry = get(world, f"Appointment/{answer.json()['id']}")
    for changed in ({"priority": 0}, {"created": "2030-01-01T00:00:00+08:00"}):
        assert put(world, entry | changed) == (403, ["booking-governed"])
    assert put(world, entry | {"comment": "带旧片"})[0] == 200


def together(world: World, *paths: str, by: Json | None = None) -> list[Any]:
    """Operations of the clinic, or of somebody else, at one moment."""
    headers = {**(by or world.clinic), "content-type": "application/fhir+json"}

    async def all() -> list[Any]:
        http = world.running.http
        sent = (http.post(f"/fhir/{path}", json=body_of({}), headers=headers) for path in paths)
        return await asyncio.gather(*sent)

    found: list[Any] = world.running.run(all())
    return found


@pytest.mark.drivers("sqlite")
def test_many_give_back_at_once_what_one_person_waits_for(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each would offer its seat to the first of the list; nobody is sent away for that."""
    monkeypatch.setattr(seat_commit, "ATTEMPTS", 4)
    slots = world.slots(6, hours=30)
    service = schedule_of(world, slots[0])["actor"][0]["reference"]
    mine = [booked(world.book(slot, world.patient()))["id"] for slot in slots]
    now = Timed.clock.time
    entries = [
        world.call(
            "Appointment/$waitlist", patient_reference=f"Patient/{world.patient()}",
            service=service, item={"valueCode": "I001"}, start={"valueDateTime": instant(now)},
            end={"valueDateTime": instant(now + 20 * DAY)},
        ).json()["id"]
        for _ in slots
    ]  # fmt: skip
    answers = together(world, *(f"Appointment/{id}/$cancel" for id in mine))
    assert {one.status_code for one in answers} == {200}
    offered = [marks(get(world, f"Appointment/{id}")).get("waitlist-offer") for id in entries]
    assert sum(one is not None for one in offered) >= 4


@pytest.mark.drivers("sqlite")
def test_of_two_steps_at_one_moment_the_later_one_sees_the_other(world: World) -> None:
    slots = world.slots(4)
    mine = [booked(world.book(slot, world.patient()))["id"] for slot in slots]
    verbs = ("check-in", "cancel", "void", "arrive")
    paths = [f"Appointment/{id}/${verbs[(n + turn) % 4]}" for n, id in enumerate(mine)
             for turn in range(4)]  # fmt: skip
    seen = set()
    for answer in together(world, *paths, by=world.hospital):
        if answer.status_code == 200:
            version = answer.json()["id"], answer.json()["meta"]["versionId"]
            assert version not in seen
            seen.add(version)
        else:
            assert [*told(answer)] == ["appointment-state"]
    for slot, id in zip(slots, mine, strict=True):  # what was cancelled or voided stays so
        assert get(world, f"Appointment/{id}")["status"] in ("cancelled", "entered-in-error")
        assert world.status(slot) == "free"


def test_one_key_in_flight_many_times_is_one_booking(world: World) -> None:
    (slot,) = world.slots(capacity=4)
    patient = world.patient()
    headers = {**world.clinic, "idempotency-key": "in-flight",
               "content-type": "application/fhir+json"}  # fmt: skip

    async def all() -> list[Any]:
        http = world.running.http
        said = {"slot": f"Slot/{slot}", "patient_reference": f"Patient/{patient}"}
        bodies = [body_of(said | ({"comment": "another"} if n == 5 else {})) for n in range(6)]
        return await asyncio.gather(
            *(http.post("/fhir/Appointment/$book", json=one, headers=headers) for one in bodies)
        )

    *same, other = world.running.run(all())
    assert {one.status_code for one in same} == {200}
    assert len({one.content for one in same}) == 1
    assert [*told(other)] == ["idempotency-key"]
