"""Two server processes on one store in a storm of bookings, one of them killed in the middle of it:
whoever hears nothing sends it again under its key, to the other one. `docs/booking-proof.md`"""

from __future__ import annotations

import asyncio
import random
from typing import Any

import httpx
import pytest
from booking_world import World, body_of, booked
from effort import TORTURE
from rest_server import Served

from fhir_gateway.security.actor import SYSTEM_ACCESS
from fhir_gateway.store.seat_audit import audit

#: Clients on one Slot; then clients of the storm, what each asks for, and how often one is killed.
CROWD, CLIENTS, TURNS, KILLS = (64, 12, 300, 10) if TORTURE else (64, 6, 5, 1)
SLOTS = 2 * CLIENTS


class Storm:
    """Clients at two servers, and what each request was answered."""

    def __init__(self, world: World, urls: list[str], seed: int) -> None:
        self.slots, self.urls, self.seed = world.slots(SLOTS), urls, seed
        self.people = [world.patient() for _ in range(CLIENTS)]
        self.headers = {**world.clinic, "content-type": "application/fhir+json"}
        self.answers: dict[str, tuple[str, dict[str, Any], httpx.Response]] = {}
        self.live: dict[str, str] = {}  # booking -> Slot
        self.moved = asyncio.Event()  # something was answered

    async def ask(self, http: httpx.AsyncClient, key: str, path: str, **said: Any) -> Any:
        """A request, sent again under its key until it is answered."""
        body = body_of(said)
        at = len(self.answers)
        while True:
            url = self.urls[at % len(self.urls)]
            try:
                answer = await http.post(
                    f"{url}/{path}", json=body, headers={**self.headers, "idempotency-key": key}
                )
            except httpx.TransportError:
                at += 1
                await asyncio.sleep(0.02)
                continue
            if answer.status_code == 503:  # another one becomes the writer
                at += 1
                await asyncio.sleep(0.02)
                continue
            self.answers[key] = (path, body, answer)
            self.moved.set()
            return answer

    async def client(self, number: int) -> None:
        """Books at random, and cancels what is older."""
        chance, mine = random.Random(self.seed + number), list[str]()
        async with httpx.AsyncClient(timeout=20) as http:
            for turn in range(TURNS):
                slot, key = chance.choice(self.slots), f"{self.seed}-{number}-{turn}"
                patient = f"Patient/{self.people[number]}"
                answer = await self.ask(
                    http, key, "Appointment/$book", slot=f"Slot/{slot}", patient_reference=patient
                )
                if answer.status_code == 200:
                    mine.append(booked(answer)["id"])
                    self.live[mine[-1]] = slot
                else:
                    assert answer.status_code in (409, 422), answer.text
                if mine and (chance.random() < 0.6 or len(mine) > 1):
                    ended = await self.ask(http, f"{key}-c", f"Appointment/{mine[0]}/$cancel")
                    assert ended.status_code == 200, ended.text
                    del self.live[mine.pop(0)]

    async def again(self) -> None:
        """Every answer once more, from either server: the same bytes."""
        async with httpx.AsyncClient(timeout=20) as http:
            for at, (key, (path, body, before)) in enumerate(self.answers.items()):
                if before.status_code == 200 and at % (1 + TURNS // 10) == 0:
                    headers = {**self.headers, "idempotency-key": key}
                    url = f"{self.urls[at % 2]}/{path}"
                    answer = await http.post(url, json=body, headers=headers)
                    assert (answer.status_code, answer.content) == (200, before.content)

    async def audited(self) -> None:
        """Every booking that was acknowledged is in the audit of its person."""
        told = ""
        async with httpx.AsyncClient(timeout=20, headers=self.headers) as http:
            for person in self.people:
                url = f"{self.urls[1]}/AuditEvent?patient=Patient/{person}&_count=1000"
                told += (await http.get(url)).text
        for path, _, answer in self.answers.values():
            if answer.status_code == 200 and path.endswith("$book"):
                assert f"Appointment/{booked(answer)['id']}" in told


async def crowd(world: World, urls: list[str], slot: str, people: list[str]) -> list[int]:
    """Clients of both servers want one Slot at one moment."""
    headers = {**world.clinic, "content-type": "application/fhir+json"}
    async with httpx.AsyncClient(timeout=30, limits=httpx.Limits(max_connections=CROWD)) as http:

        async def one(number: int) -> int:
            person = people[number % len(people)]
            body = body_of({"slot": f"Slot/{slot}", "patient_reference": f"Patient/{person}"})
            url = f"{urls[number % 2]}/Appointment/$book"
            return (await http.post(url, json=body, headers=headers)).status_code

        return await asyncio.gather(*(one(number) for number in range(CROWD)))


async def storm_with_kills(storm: Storm, servers: list[Served], start: Any) -> None:
    """The storm; a server is killed once a good part of it is answered, and started again."""
    clients = [asyncio.create_task(storm.client(number)) for number in range(CLIENTS)]
    whole = asyncio.gather(*clients)
    whole.add_done_callback(lambda _: storm.moved.set())
    for kill in range(KILLS):
        want = (kill + 1) * CLIENTS * TURNS // (KILLS + 1)
        while len(storm.answers) < want and not whole.done():
            storm.moved.clear()
            await storm.moved.wait()
        servers[kill % 2].kill()
        if TORTURE:
            servers[kill % 2] = await asyncio.to_thread(start)
            storm.urls[kill % 2] = f"{servers[kill % 2].url}/fhir"
    await whole


@pytest.mark.torture  # three gateways: too long for CI, where the store's own storm runs
def test_75_80_94_processes_a_crowd_a_storm_and_a_kill(start, database, tmp_path):
    running = start(name="storm")
    world = World(running)
    (slot,) = world.slots(hours=600)
    people = [world.patient() for _ in range(CROWD if TORTURE else 8)]

    def serve():
        address = ("--base-url", "http://gateway.example/fhir")  # an answer names it
        return Served(database.url("storm"), *address, folder=tmp_path, open_access=False)

    servers = [serve(), serve()]
    try:
        urls = [f"{one.url}/fhir" for one in servers]
        storm = Storm(world, urls, 7)
        statuses = running.run(crowd(world, urls, slot, people))
        assert sorted(statuses) == [200] + [409] * (CROWD - 1)
        running.run(storm_with_kills(storm, servers, serve))
        if not TORTURE:
            storm.urls[:] = [urls[1]] * 2
        running.run(storm.again())
        running.run(storm.audited())
        running.run(check(world, storm))
    finally:
        for one in servers:
            if one.process.poll() is None:
                one.stop()


async def check(world: World, storm: Storm) -> None:
    """What was acknowledged is so, and has its AuditEvent; nothing is there that was not."""
    async with world.gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        assert await reader.steps(lambda _: audit()) == []
        for key, (_, _, answer) in storm.answers.items():
            if answer.status_code == 200 and not key.endswith("-c"):
                id = booked(answer)["id"]
                found = await reader.read("Appointment", id)
                assert found is not None
                wanted = b'"booked"' if id in storm.live else b'"cancelled"'
                assert b'"status":' + wanted in found.whole(), (id, found.whole())
        for slot in storm.slots:
            found = await reader.read("Slot", slot)
            assert found is not None
            status = b'"busy"' if slot in storm.live.values() else b'"free"'
            assert b'"status":' + status in found.whole()
    assert len(set(storm.live.values())) == len(storm.live)
