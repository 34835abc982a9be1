"""Telling one hospital of its bookings, one message after the other, by a cursor that is durable.

The cursor lies in a job of the store that one process holds under a lease: a hospital has one
sender at a time, so a booking's messages keep their order. The cursor moves when the hospital has
said AA, or when a message was given up: then it is on the list of the dead, by name and reason.
Whoever is killed sends the last messages again under the same control ids. docs/adr/0054
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import NamedTuple

import msgspec

from fhir_gateway.audit.events import read_event
from fhir_gateway.context import Gateway
from fhir_gateway.errors import Conflict, Unavailable, Unprocessable
from fhir_gateway.fhir.wire import instant
from fhir_gateway.interactions.audit import call_of, disclose, entry
from fhir_gateway.interactions.institutions import institution
from fhir_gateway.mapping.v2_ack import read_header
from fhir_gateway.scheduling.siu_log import (
    Letter,
    Place,
    Told,
    behind,
    end_of_log,
    letter_of,
    next_versions,
)
from fhir_gateway.security.actor import SYSTEM_ACCESS, Actor
from fhir_gateway.security.institution import Institution
from fhir_gateway.store import jobs
from fhir_gateway.store.jobs import Job

#: µs for which a sender is believed to live without a word.
LEASE = 30_000_000

#: Messages that were given up and are kept; with more something is wrong that a person must mend.
MOST_DEAD = 1_000

#: Seconds of the longest wait between two attempts, and of a piece of it.
LONGEST_WAIT, _BREATH = 60.0, 2.0

#: Messages between two writings of the cursor; after a kill so many are sent again at most.
EVERY = 20

_ANOTHERS = "this answers another message"
_GOOD = frozenset({"AA", "CA"})
_WRONG = frozenset({"AE", "CE"})
#: Conditions (table 0357) by which also a message that was rejected will never be taken.
_NEVER = frozenset({"100", "101", "102", "103", "200", "201", "202", "203"})

#: Sends one message and gives the bytes of its answer. Raises Unavailable.
Send = Callable[[bytes], Awaitable[bytes]]


class Stopped(Exception):
    """A sender was asked to end in the middle of a round."""


class Dead(msgspec.Struct, frozen=True):
    """A message that was given up: what it told, why, and when (a FHIR instant)."""

    control_id: str
    event: str
    appointment: str
    version: int
    place: Place
    code: str
    text: str
    at: str


class Cursor(msgspec.Struct):
    """How far a hospital was told. `beat` (µs) says when that was last written."""

    place: Place
    sent: int = 0
    dead: list[Dead] = []
    beat: int = 0


class Outcome(NamedTuple):
    """What became of one message: code of table 0008 ("" for one that could not be written, or
    "?" for no answer), and in words."""

    letter: Letter
    code: str
    text: str
    is_dead: bool = False


def kind_of(hospital: str) -> str:
    """The kind of job that the sender of a hospital holds: its own, so that no other takes it."""
    return f"siu:{hospital}"


async def state_of(gateway: Gateway, hospital: str) -> tuple[Job | None, Cursor | None]:
    """The last job of the sender of a hospital with its cursor; None where there never was one."""
    known = await jobs.find_all(gateway.store, kind=kind_of(hospital), limit=1)
    if not known:
        return None, None
    return known[0], _cursor(known[0])


def _cursor(job: Job) -> Cursor:
    return msgspec.json.decode(job.checkpoint or job.payload, type=Cursor)


class Sender:
    """The one sender of a hospital, from `begin` to `end`."""

    def __init__(
        self, gateway: Gateway, hospital: Institution, *, attempts: int = 5, wait: float = 1.0,
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:  # fmt: skip
        """`attempts` for a message that the hospital calls wrong, `wait` seconds after the first
        that failed, twice as many after each further one, a minute at most. `stopping` is asked
        before each message whether to end."""
        self._gateway, self._hospital = gateway, hospital
        self._attempts, self._first_wait, self._stopping = attempts, wait, stopping
        self._job: Job | None = None
        self._unwritten = 0
        self.cursor = Cursor((0, 0, 0))

    async def begin(self, *, since: int = -1) -> None:
        """Takes the seat of the sender. `since` is the commit behind which a hospital that was
        never told anything begins, -1 today. Raises Conflict while another sender lives."""
        store, kind = self._gateway.store, kind_of(self._hospital.id)
        last, cursor = await state_of(self._gateway, self._hospital.id)
        if last is None or last.state not in jobs.OPEN_STATES:
            if cursor is None:
                start = since if since >= 0 else await end_of_log(self._gateway)
                cursor = Cursor(behind(start))
            number = int(last.id.rpartition("_")[2]) + 1 if last else 1
            await jobs.enqueue(
                store,
                id=f"{kind}_{number:09}",
                kind=kind,
                payload=msgspec.json.encode(cursor).decode(),
            )
        job = await jobs.lease(store, kind=kind, duration=LEASE)
        if job is None:
            raise Conflict(
                f"{self._hospital.id} is being told by another process; stop that one first, or "
                "wait 30 seconds after it was killed",
                rule="siu-sender",
            )
        self._job, self.cursor = job, _cursor(job)
        await self.keep()

    async def keep(self) -> None:
        """Writes the cursor, and that this sender lives. Raises Conflict when it was replaced."""
        assert self._job is not None
        now = self._gateway.clock.now()
        self.cursor.beat = max(now, self.cursor.beat + 1)
        self._job = await jobs.renew(
            self._gateway.store,
            self._job,
            duration=LEASE,
            progress=f"{self.cursor.sent} sent, {len(self.cursor.dead)} given up",
            checkpoint=msgspec.json.encode(self.cursor).decode(),
        )
        self._unwritten = 0

    async def keep_alive(self, after: int = LEASE // 3) -> None:
        """`keep` when so much (µs) of the lease is over."""
        if self._gateway.clock.now() - self.cursor.beat > after:
            await self.keep()

    async def _wait(self, seconds: float) -> None:
        """Waits, and says meanwhile that this sender lives. Raises Stopped as `round` does."""
        left = min(seconds, LONGEST_WAIT)
        while left > 0:
            self._check_stop()
            await asyncio.sleep(min(left, _BREATH))
            left -= _BREATH
            await self.keep_alive()

    def _check_stop(self) -> None:
        if self._stopping():
            raise Stopped

    async def end(self) -> None:
        """Gives the seat back with the cursor as it stands."""
        if self._job is not None:
            text = msgspec.json.encode(self.cursor).decode()
            await jobs.complete(
                self._gateway.store, self._job, progress=self._job.progress, checkpoint=text
            )
            self._job = None

    async def round(self, send: Send, told: Callable[[Outcome], None]) -> int:
        """Sends what has come; how many messages were dealt with. Raises Unavailable when the
        hospital does not answer or asks for patience, Stopped when it is to end: the next round
        goes on where this ended."""
        done = 0
        while True:
            versions, until = await next_versions(
                self._gateway, self._hospital.id, self.cursor.place
            )
            for one in versions:
                self._check_stop()
                done += await self._one(one, send, told)
                await self.keep_alive()
            reached = until[0] > await end_of_log(self._gateway)
            self.cursor.place = max(self.cursor.place, until)
            if reached:
                if self._unwritten:
                    await self.keep()
                return done

    async def _one(self, version: Told, send: Send, told: Callable[[Outcome], None]) -> int:
        letter = await letter_of(self._gateway, self._hospital, version)
        if letter is None:
            self.cursor.place = version.place
            return 0
        outcome = await self._deliver(letter, send)
        told(outcome)
        self.cursor.place = version.place
        self._unwritten += 1
        if outcome.is_dead:
            self._bury(outcome)
        else:
            self.cursor.sent += 1
        if outcome.is_dead or self._unwritten >= EVERY:
            await self.keep()
        return 1

    async def _deliver(self, letter: Letter, send: Send) -> Outcome:
        """One message until it is accepted or given up. Raises Unavailable as `round` does."""
        if letter.fault:
            return Outcome(letter, "", letter.fault, is_dead=True)
        await self._disclose(letter)
        for attempt in range(1, self._attempts + 1):
            await self.keep_alive(LEASE // 6)  # what is left outlasts the longest answer
            said = answer_of(await send(letter.raw), letter.control_id)
            if said.code in _GOOD:
                return Outcome(letter, said.code, said.text)
            if not said.is_wrong:
                raise Unavailable(
                    f"{letter.control_id} was answered {said.code}: {said.text[:80]}",
                    rule="siu-later",
                )
            if attempt < self._attempts:
                await self._wait(self._first_wait * 2.0 ** (attempt - 1))
        return Outcome(letter, said.code, said.text, is_dead=True)

    async def _disclose(self, letter: Letter) -> None:
        """What leaves the house is on record before it leaves."""
        hospital, appointment = self._hospital, letter.told
        actor = Actor("institution", hospital.name, institution=hospital.id, client="siu")
        event = read_event(
            call_of(self._gateway, actor),
            type="Appointment",
            id=appointment.id,
            version=appointment.version,
            patient=letter.patient or None,
        )
        await disclose(self._gateway, [entry(self._gateway, event, patient=letter.patient or None)])

    def _bury(self, outcome: Outcome) -> None:
        letter, told = outcome.letter, outcome.letter.told
        at = instant(self._gateway.clock.now())
        self.cursor.dead.append(
            Dead(letter.control_id, letter.event, told.id, told.version, told.place,
                 outcome.code, outcome.text[:200], at)
        )  # fmt: skip
        if len(self.cursor.dead) > MOST_DEAD:
            raise Unprocessable(
                f"{MOST_DEAD} messages were given up: see them with --list, have the hospital "
                "mend what it refuses, then send them again with --again",
                rule="siu-dead",
            )

    async def again(self, send: Send, told: Callable[[Outcome], None]) -> int:
        """Sends those that were given up once more, in their order; how many are left.

        One whose booking has a later message is dropped: the hospital knows more by now.
        """
        left: list[Dead] = []
        for one in sorted(self.cursor.dead, key=lambda dead: dead.place):
            self._check_stop()
            version = Told(one.place, one.appointment, one.version)
            letter = await letter_of(self._gateway, self._hospital, version)
            if letter is None or await self._is_past(one):
                continue
            outcome = await self._deliver(letter, send)
            told(outcome)
            if outcome.is_dead:
                left.append(one)
            self.cursor.sent += not outcome.is_dead
        self.cursor.dead = left
        await self.keep()
        return len(left)

    async def _is_past(self, dead: Dead) -> bool:
        """Whether the booking has changed since."""
        async with self._gateway.store.snapshot(SYSTEM_ACCESS) as reader:
            stored = await reader.read("Appointment", dead.appointment)
        return stored is None or stored.version > dead.version


class Said(NamedTuple):
    """An answer: its code (MSA-1), what it says first, and why (ERR-3, table 0357)."""

    code: str
    text: str
    condition: str = ""

    @property
    def is_wrong(self) -> bool:
        """Whether the message itself is refused, and not only for now."""
        return self.code in _WRONG or (self.code in ("AR", "CR") and self.condition in _NEVER)


def answer_of(raw: bytes, control_id: str = "") -> Said:
    """What an answer says; of what cannot be read, or answers another message than that of this
    control id, the code is "?"."""
    header = read_header(raw)
    lines = re.split("[\r\n]+", raw.decode(header.codec, "replace"))
    fields = {line[:3]: line.split(header.separator) for line in reversed(lines)}
    said, error = fields.get("MSA", ["MSA", "?"]), fields.get("ERR", [])
    if control_id and len(said) > 2 and said[2].strip() not in ("", control_id):
        return Said("?", _ANOTHERS)
    text = error[8] if len(error) > 8 else (said[3] if len(said) > 3 else "")
    condition = error[3].split(header.encoding[:1])[0] if len(error) > 3 else ""
    return Said(said[1].strip() if len(said) > 1 else "?", text, condition)


def is_answer_to(raw: bytes, control_id: str) -> bool:
    """Whether an answer is to the message of this control id, as far as it says."""
    return answer_of(raw, control_id).text != _ANOTHERS


async def hospital_of(gateway: Gateway, id: str) -> Institution:
    """The hospital of the registry. Raises Unprocessable for one that is not in it."""
    found = await institution(gateway, id)
    if found is None:
        raise Unprocessable(f"{id} is not in the registry of institutions", rule="institution")
    return found
