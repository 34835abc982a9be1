"""Behind the change log: records were unlinked, and what was relied on is another person's.

A correction tells who relied on it in its own commit (relied_watch.py); who is who changes in
another room. So a job of the worker looks at each Linkage and each Patient that has changed since
the last one, and at the answers of those whose homes fell apart. The first job, and one that is
asked for, looks at all answers. A job that was killed goes on at its checkpoint; what was told
already is not told twice, because an answer has one alert. docs/adr/0030
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import suppress
from functools import partial

import msgspec

from fhir_gateway.context import Gateway
from fhir_gateway.errors import GatewayError, Internal, TooCostly, Unavailable
from fhir_gateway.fhir.wire import parse
from fhir_gateway.interactions.following import Following
from fhir_gateway.interactions.jobs import Done, Held
from fhir_gateway.recognition.answer_model import DoctorAnswer
from fhir_gateway.recognition.answered import answers_in, read_answer
from fhir_gateway.recognition.relied_check import check
from fhir_gateway.security.actor import SYSTEM_ACCESS
from fhir_gateway.store import jobs
from fhir_gateway.store.changes import ChangeSet
from fhir_gateway.store.jobs import OPEN_STATES, Job
from fhir_gateway.store.store import Change, Reader

KIND = "relied"

#: Changes or answers of a page; µs between two jobs.
PAGE, EVERY = 100, 5_000_000

#: What says who is who.
_TYPES = ("Linkage", "Patient")

#: An answer whose alert others write meanwhile is looked at again so often.
_ATTEMPTS = 16


class Order(msgspec.Struct, frozen=True):
    """What a job looks at: what changed behind the commit `low`, up to and with `high`; all
    answers when `low` is 0."""

    low: int
    high: int


class State(msgspec.Struct):
    """How far a job is: the type and the place in the change log, newest first, or the number of
    the last Task; how many were looked at, and how many institutions were told."""

    type: int = 0
    place: tuple[int, int, int] | None = None
    rid: int = 0
    looked: int = 0
    told: int = 0


async def plan(gateway: Gateway, *, everything: bool = False) -> Job | None:
    """Makes the job for what has changed since the last one; None when there is nothing, or one
    is at work. `everything` has all answers looked at."""
    known = await jobs.find_all(gateway.store, kind=KIND, limit=1)
    if known and known[0].state in OPEN_STATES and not everything:
        return None
    whole = bool(known) and known[0].state not in ("failed", "cancelled")
    low = _high(known[0]) if whole and not everything else 0
    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        high = reader.t
        newest = [one for type in _TYPES for one in await reader.changes(type=type, limit=1)]
    if not everything and all(one.t <= low for one in newest):
        return None
    number = int(known[0].id.split("_")[1]) + 1 if known else 1
    return await jobs.enqueue(
        gateway.store,
        id=f"{KIND}_{number:09}_{high}",
        kind=KIND,
        payload=msgspec.json.encode(Order(low, high)).decode(),
    )


def _high(job: Job) -> int:
    return int(job.id.split("_")[2])


#: Sees that who is who has changed, and plans. A worker has one.
Watch = partial(Following, plan=plan, every=EVERY)


async def work(held: Held) -> Done:
    """Does a job. Raises Lost and Stopped as `Held.step` does."""
    order, state = _order(held.job), State()
    if held.job.checkpoint:
        state = msgspec.json.decode(held.job.checkpoint, type=State)
    pages = _changed(held.gateway, order, state) if order.low else _all(held.gateway, order, state)
    async for answers in pages:
        for answer in answers:
            state.looked += 1
            state.told += await tell(held.gateway, answer)
            await asyncio.sleep(0)
        await held.step(_told(state), msgspec.json.encode(state).decode())
    return Done(_told(state), msgspec.json.encode(state).decode())


def _told(state: State) -> str:
    return f"{state.looked} answers looked at, {state.told} alerts"


def _order(job: Job) -> Order:
    with suppress(msgspec.DecodeError):
        return msgspec.json.decode(job.payload, type=Order)
    raise Internal("It is not known what this job was to do", rule="relied-job")


async def tell(gateway: Gateway, answer: DoctorAnswer) -> int:
    """Stores the alert that an answer calls for, if it calls for one; how many that were."""
    for _ in range(_ATTEMPTS):
        async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
            told = await check(gateway, reader, answer)
        if not told.puts:
            return 0
        change_set = ChangeSet(id=gateway.random(16), guards=told.guards, puts=told.puts)
        try:
            await gateway.store.commit(change_set)
        except GatewayError as error:
            if getattr(error, "guard", -1) < 0:
                raise
            continue
        gateway.count("alerts", len(told.puts))
        return len(told.puts)
    raise Unavailable("Others write the same alert; it is tried again", rule="overtaken")


async def _all(
    gateway: Gateway, order: Order, state: State
) -> AsyncIterator[Sequence[DoctorAnswer]]:
    """Every answer that there is, in pages."""
    while True:
        try:
            async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
                page = await reader.scan(
                    "Task", until_t=min(order.high, reader.t), after_rid=state.rid, limit=PAGE
                )
        except TooCostly:
            raise Unavailable("The database is too slow to read", rule="deadline") from None
        if not page:
            return
        state.rid = page[-1].rid
        yield [one for one in map(read_answer, page) if one is not None]


async def _changed(
    gateway: Gateway, order: Order, state: State
) -> AsyncIterator[Sequence[DoctorAnswer]]:
    """The answers of persons whose homes fell apart, a page of the change log at a time."""
    while state.type < len(_TYPES):
        try:
            async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
                found = await reader.changes(
                    type=_TYPES[state.type], until_t=order.high, before=state.place, limit=PAGE
                )
                new = [one for one in found if one.t > order.low]
                homes = await _apart(reader, new)
                answers = [one for home in sorted(homes) for one in await answers_in(reader, home)]
        except TooCostly:
            raise Unavailable("The database is too slow to read", rule="deadline") from None
        if len(new) < PAGE:
            state.type, state.place = state.type + 1, None
        else:
            state.place = (new[-1].t, new[-1].n, new[-1].i)
        yield answers


async def _apart(reader: Reader, changes: Iterable[Change]) -> set[int]:
    """The homes of persons who had homes, before one of these changes, that they have no more."""
    homes: set[int] = set()
    for change in changes:
        if change.op == "create":
            continue
        for id in await _named(reader, change):
            before = await reader.person(id, as_of=change.t - 1)
            now = await reader.person(id)
            lost = set(before.homes if before else ()) - set(now.homes if now else ())
            if lost:
                homes |= lost | set(now.homes if now else ())
    return homes


async def _named(reader: Reader, change: Change) -> set[str]:
    """The Patients that a changed version, or the one before it, is about."""
    stored = change.stored
    if stored.type == "Patient":
        return {stored.id}
    versions = [stored, await reader.vread(stored.type, stored.id, stored.version - 1)]
    texts = [
        item.get("resource", {}).get("reference", "")
        for one in versions
        if one is not None and not one.deleted
        for item in parse(one.whole()).get("item", ())
    ]
    return {text.partition("/")[2] for text in texts if text.startswith("Patient/")}
