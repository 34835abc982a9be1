"""A hospital is told of the bookings of its slots: each change once, in order, by a cursor."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from click.testing import CliRunner
from databases import Databases
from running import Running

from fhir_gateway.cli import main as fhir_gateway
from fhir_gateway.errors import Conflict, GatewayError, Throttled, Unavailable
from fhir_gateway.hl7v2.mllp_frames import Frames, framed
from fhir_gateway.interactions.prepare import prepare
from fhir_gateway.mapping.v2 import parse
from fhir_gateway.mapping.v2_ack import acknowledge, read_header, refuse
from fhir_gateway.mapping.v2_schedule import map_schedule
from fhir_gateway.scheduling import extensions as ext
from fhir_gateway.scheduling import siu_sender
from fhir_gateway.scheduling.siu_sender import Outcome, Sender, Stopped, hospital_of, state_of
from fhir_gateway.store import jobs
from fhir_gateway.store.changes import ChangeSet

Json = dict[str, Any]
START, END = "2031-06-02T08:00:00+08:00", "2031-06-02T08:20:00+08:00"
MOVED = {"start": "2031-06-03T08:00:00+08:00", "end": "2031-06-03T08:20:00+08:00"}


@dataclass
class Hospital:
    """A hospital's own system: it reads each message, and answers as it is told to."""

    running: Running
    refused: set[str] = field(default_factory=set)
    silent: int = 0  # so many messages it leaves without an answer
    later: bool = False
    got: list[bytes] = field(default_factory=list)

    async def take(self, raw: bytes) -> bytes:
        self.got.append(raw)
        if self.silent:
            self.silent -= 1
            raise Unavailable("No answer came", rule="mllp-answer")
        header = read_header(raw)
        if header.event in self.refused:
            return refuse(header, GatewayError("号源不存在", rule="x"), time="1", control_id="A")
        if self.later:
            error = Throttled("稍后再发", rule="x")
            return refuse(header, error, time="1", control_id="A")
        return acknowledge(header, time="1", control_id="A")

    def told(self) -> list[tuple[str, str]]:
        """(event, status) of each message, as the hospital's own reader reads it."""
        folder = f"{self.running.gateway.settings.mappings}/v2"
        hospital = self.running.run(hospital_of(self.running.gateway, "hospital"))
        found = []
        for raw in self.got:
            message = parse(raw, default_charset="utf-8", folder=folder)
            mapped = map_schedule(message, hospital, folder=folder)
            (one,) = (r for r in mapped.resources if r["resourceType"] == "Appointment")
            found.append((message.header.text(9, 2), one["status"]))
        return found

    def ids(self) -> list[str]:
        return [read_header(raw).control_id for raw in self.got]


class Site:
    """Bookings that the gateway made at a hospital."""

    def __init__(self, running: Running) -> None:
        self.running, self.gateway, self.is_closed = running, running.gateway, False
        running.institution("hospital", "示范市第一医院")
        self.patient("张示一")

    def run(self, work: Any) -> Any:
        return self.running.run(work)

    def store(self, type: str, **members: Any) -> None:
        resource = {"resourceType": type, **members}
        owner = "hospital" if type == "Appointment" else None
        put = prepare(self.gateway, resource, op="update", institution=owner)
        self.run(self.gateway.store.commit(ChangeSet(id=self.gateway.random(16), puts=[put])))

    def patient(self, name: str) -> None:
        """Another version of the Patient, whose number at the hospital is known."""
        system = self.run(hospital_of(self.gateway, "hospital")).system("patient")
        number = {"system": system, "value": "H-77"}
        self.store("Patient", id="p", name=[{"text": name}], identifier=[number])

    def booking(self, id: str, status: str = "booked", *, marked: bool = True, **more: Any) -> None:
        """Another version of a booking."""
        marks = [{"url": ext.CHANNEL, "valueCode": "ordinary"}] if marked else []
        times = {} if status == "cancelled" else {"start": START, "end": END}
        self.store("Appointment", **{
            "id": id, "status": status, "extension": [*marks, *more.pop("marks", [])], **times,
            "participant": [{"actor": {"reference": "Patient/p"}, "status": "accepted"}], **more,
        })  # fmt: skip

    def sender(self, **options: Any) -> Sender:
        hospital = self.run(hospital_of(self.gateway, "hospital"))
        return Sender(self.gateway, hospital, wait=0.0, **options)

    def tell(self, hospital: Hospital, **options: Any) -> list[Outcome]:
        """One sender from its begin to its end."""
        told: list[Outcome] = []
        sender = self.sender(**options)

        async def work() -> None:
            await sender.begin()
            try:
                await sender.round(hospital.take, told.append)
            finally:
                await sender.end()

        self.run(work())
        return told


@pytest.fixture
def site(database: Databases) -> Iterator[Site]:
    one = Running(database.url("siu"))
    made = Site(one)
    made.tell(Hospital(one))  # from here on everything is told
    yield made
    if not made.is_closed:
        one.close()


def test_each_change_is_told_once_and_in_order_and_holds_are_not(site: Site) -> None:
    hospital = Hospital(site.running)
    site.booking("b", "pending", marks=[{"url": ext.HOLD_UNTIL, "valueInstant": START}])
    site.booking("b")
    site.booking("b", **MOVED)
    site.booking("b", "arrived", **MOVED)
    site.booking("c", "pending", marks=[{"url": ext.CONFIRM_BY, "valueInstant": START}])
    site.booking("c", "noshow")
    site.booking("b", "cancelled", **MOVED)
    site.booking("own", marked=False)  # the hospital's own system said so
    told = site.tell(hospital)
    assert hospital.told() == [
        ("S12", "booked"), ("S13", "booked"), ("S14", "arrived"), ("S12", "pending"),
        ("S26", "noshow"), ("S15", "cancelled"),
    ]  # fmt: skip
    assert [one.code for one in told] == ["AA"] * 6
    assert len(set(hospital.ids())) == 6 and max(map(len, hospital.ids())) == 20
    assert b"H-77^^^" in hospital.got[0]
    assert site.tell(hospital) == [] and len(hospital.got) == 6


def test_a_message_that_was_not_answered_is_sent_again_byte_by_byte(site: Site) -> None:
    hospital = Hospital(site.running, silent=1)
    site.booking("again")
    with pytest.raises(Unavailable):
        site.tell(hospital)
    site.patient("张示二")  # what was said stays what was said
    site.tell(hospital)
    assert hospital.got[0] == hospital.got[1]
    hospital.later = True
    site.booking("again", "noshow")
    with pytest.raises(Unavailable):
        site.tell(hospital)
    hospital.later = False
    site.tell(hospital)
    assert [event for event, _ in hospital.told()] == ["S12", "S12", "S26", "S26"]


def test_what_the_hospital_calls_wrong_is_given_up_listed_and_sent_again(site: Site) -> None:
    hospital = Hospital(site.running, refused={"S12"})
    site.booking("wrong")
    site.booking("gone")
    site.booking("gone", "noshow")
    told = site.tell(hospital, attempts=2)
    assert [(one.code, one.is_dead) for one in told] == [("AE", True), ("AE", True), ("AA", False)]
    assert [event for event, _ in hospital.told()] == ["S12", "S12", "S12", "S12", "S26"]
    _, cursor = site.run(state_of(site.gateway, "hospital"))
    assert [(one.appointment, one.text) for one in cursor.dead] == [
        ("wrong", "号源不存在"), ("gone", "号源不存在"),
    ]  # fmt: skip
    hospital.refused, hospital.got = set(), []

    sender = site.sender()

    async def again() -> int:
        await sender.begin()
        left = await sender.again(hospital.take, lambda outcome: None)
        await sender.end()
        return left

    assert site.run(again()) == 0
    assert hospital.told() == [("S12", "booked")]  # of the other one more is known by now


def test_a_sender_that_was_killed_goes_on_and_two_at_once_are_refused(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    hospital = Hospital(site.running)
    for n in range(3):
        site.booking(f"k{n}")

    sender = site.sender()

    async def killed() -> None:
        await sender.begin()
        await sender.round(hospital.take, lambda outcome: _die_at(2, hospital))

    with pytest.raises(KeyboardInterrupt):
        site.run(killed())  # it neither wrote its cursor nor gave its seat back
    with pytest.raises(Conflict):
        site.run(site.sender().begin())
    job, _ = site.run(state_of(site.gateway, "hospital"))
    assert job is not None and job.state == "running"
    site.run(jobs.release(site.gateway.store, job))  # as when its lease has run out
    site.tell(hospital)
    ids = hospital.ids()
    assert ids[:2] == ids[2:4] and len(set(ids)) == 3


def _die_at(number: int, hospital: Hospital) -> None:
    if len(hospital.got) == number:
        raise KeyboardInterrupt


def test_whom_no_number_names_is_given_up_without_a_message(site: Site) -> None:
    hospital = Hospital(site.running)
    site.store("Patient", id="nobody", name=[{"text": "无号"}])
    site.booking(
        "x", participant=[{"actor": {"reference": "Patient/nobody"}, "status": "accepted"}]
    )
    (told,) = site.tell(hospital)
    assert told.is_dead and told.code == "" and "No number names" in told.text
    assert hospital.got == []


class Door:
    """An MLLP door of a hospital in a thread."""

    def __init__(self, take: Callable[[bytes], Any]) -> None:
        self._take, self._loop = take, asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        self._ready.wait(10)

    def _run(self) -> None:
        async def serve() -> None:
            self._stop = asyncio.Event()
            server = await asyncio.start_server(self._talk, "127.0.0.1", 0)
            self.port = server.sockets[0].getsockname()[1]
            self._ready.set()
            async with server:
                await self._stop.wait()

        self._loop.run_until_complete(serve())
        self._loop.close()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        frames = Frames(100_000)
        while data := await reader.read(65_536):
            for frame in frames.feed(data):
                answer = await self._take(frame.message)
                writer.write(framed(answer) * 2)  # as a receiver that acknowledges twice
        writer.close()

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)


@pytest.mark.drivers("sqlite")
def test_the_command_tells_lists_and_says_what_is_wrong(site: Site) -> None:
    hospital = Hospital(site.running, refused={"S26"})
    site.booking("told")
    site.booking("told", "noshow")
    site.booking("late")
    site.is_closed = True  # the command opens the store for itself
    site.running.close()
    door = Door(hospital.take)
    base = ["pools", "notify", "--institution", "hospital", "--database",
            site.gateway.settings.database]  # fmt: skip
    to = ["--to", f"127.0.0.1:{door.port}", "--once", "--attempts", "1"]
    try:
        done = CliRunner().invoke(fhir_gateway, [*base, *to])
        assert done.exit_code == 0, done.output
        assert "booked\ttold\t1\tAA" in done.output and "2 sent, 1 given up" in done.output
        assert "张示一" not in done.output
        listed = CliRunner().invoke(fhir_gateway, [*base, "--list"])
        assert "号源不存在" in listed.output and "nobody tells it now" in listed.output
        hospital.refused = set()
        assert CliRunner().invoke(fhir_gateway, [*base, *to, "--again"]).exit_code == 0
    finally:
        door.close()
    unknown = [*base[:3], "nobody", *base[4:]]
    assert "registry" in CliRunner().invoke(fhir_gateway, [*unknown, *to]).output
    assert CliRunner().invoke(fhir_gateway, base).exit_code == 2


def test_too_many_that_were_given_up_stop_the_sender(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(siu_sender, "MOST_DEAD", 1)
    hospital = Hospital(site.running, refused={"S12"})
    site.booking("d1")
    site.booking("d2")
    with pytest.raises(GatewayError) as refusal:
        site.tell(hospital, attempts=1)
    assert refusal.value.issues[0].rule == "siu-dead"


def test_an_answer_is_read_with_any_line_ends_and_for_its_own_message_alone(site: Site) -> None:
    hospital = Hospital(site.running)
    site.booking("ends")

    async def windows(raw: bytes) -> bytes:
        return (await hospital.take(raw)).replace(b"\r", b"\r\n")

    async def stale(raw: bytes) -> bytes:
        return (await hospital.take(raw)).replace(read_header(raw).control_id.encode(), b"OTHER")

    told: list[Outcome] = []

    async def work(send: Any) -> None:
        sender = Sender(site.gateway, await hospital_of(site.gateway, "hospital"), wait=0.0)
        await sender.begin()
        try:
            await sender.round(send, told.append)
        finally:
            await sender.end()

    with pytest.raises(Unavailable, match="answers another message"):
        site.run(work(stale))
    assert told == []
    site.run(work(windows))
    assert [one.code for one in told] == ["AA"] and len(set(hospital.ids())) == 1


def test_a_sender_ends_between_two_messages_and_while_it_waits(site: Site) -> None:
    hospital = Hospital(site.running, refused={"S12"})
    for n in range(3):
        site.booking(f"end{n}")
    stopping: list[bool] = []
    found = site.run(hospital_of(site.gateway, "hospital"))
    sender = Sender(site.gateway, found, attempts=20, wait=1e9, stopping=lambda: bool(stopping))

    async def work() -> None:
        await sender.begin()
        try:
            with pytest.raises(Stopped):
                await sender.round(stop_after_one, lambda outcome: None)
        finally:
            await sender.end()

    async def stop_after_one(raw: bytes) -> bytes:
        stopping.append(True)
        return await hospital.take(raw)

    site.run(asyncio.wait_for(work(), 5))
    assert len(hospital.got) == 1
    hospital.refused = set()
    assert [one.code for one in site.tell(hospital)] == ["AA"] * 3
