"""Makes proposals behind the change log: a job compares each Patient that is new or has changed.

Nothing is searched while a Patient is stored. A job goes from one commit to another; the first one
walks all Patients that there are. A job that was killed goes on at its checkpoint, and what was
compared twice asks once: a question has one id. Until a job has passed a Patient, nobody was asked
about it. docs/adr/0026
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from functools import partial

import msgspec

from fhir_gateway.context import Gateway
from fhir_gateway.errors import Internal, TooCostly, Unavailable
from fhir_gateway.identity.review_propose import compare_with_all, counted, withdraw
from fhir_gateway.interactions.following import Following
from fhir_gateway.interactions.jobs import Done, Held
from fhir_gateway.security.actor import SYSTEM_ACCESS
from fhir_gateway.store import jobs
from fhir_gateway.store.jobs import OPEN_STATES, Job
from fhir_gateway.store.store import Reader, Stored

KIND = "identity"

#: Patients of a page, and seconds between two checkpoints.
PAGE, STEP_SECONDS = 50, 1.0

#: Seconds between two jobs: what came meanwhile is compared by the next.
EVERY_SECONDS = 60

_MICROSECONDS = 1_000_000


class Order(msgspec.Struct, frozen=True):
    """What a job compares: Patients stored behind the commit `low`, up to and with `high`."""

    low: int
    high: int


class State(msgspec.Struct):
    """How far a job is: the number of the last Patient (of all), or the place of the last version
    in the change log, newest first."""

    rid: int = 0
    place: tuple[int, int, int] | None = None
    compared: int = 0
    became: dict[str, int] = {}


async def plan(gateway: Gateway, *, again: bool = False) -> Job | None:
    """Makes the job for what came since the last one; None when there is nothing, or when one is
    still at work. `again` has all Patients compared anew."""
    known = await jobs.find_all(gateway.store, kind=KIND, limit=1)
    if known and known[0].state in OPEN_STATES and not again:
        return None
    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        newest = await reader.changes(type="Patient", limit=1)
        high = reader.t
    low = _begun_at(known[0]) if known and not again else 0
    if not newest or newest[0].t <= low:
        return None
    number = _number(known[0]) + 1 if known else 1
    return await jobs.enqueue(
        gateway.store,
        id=f"{KIND}_{number:09}_{low}_{high}",
        kind=KIND,
        payload=msgspec.json.encode(Order(low, high)).decode(),
    )


def _number(job: Job) -> int:
    return int(job.id.split("_")[1])


def _begun_at(job: Job) -> int:
    """The commit behind which the job after this one begins. Both ends of a job stand in its id,
    which outlives what it did; one that came to no end is done again."""
    low, high = job.id.split("_")[2:4]
    return int(low if job.state in ("failed", "cancelled") else high)


#: Sees that there are Patients to compare, and plans. A worker has one.
Watch = partial(Following, plan=plan, every=EVERY_SECONDS * _MICROSECONDS)


async def work(held: Held) -> Done:
    """Does a job. Raises Lost and Stopped as `Held.step` does."""
    order, state = _order(held.job), State()
    if held.job.checkpoint:
        state = msgspec.json.decode(held.job.checkpoint, type=State)
    loop = asyncio.get_running_loop()
    stepped = loop.time()
    while page := await _page(held.gateway, order, state):
        for stored in page:
            state.compared += 1
            became = Counter(state.became)
            if stored.deleted:
                became.update(await withdraw(held.gateway, stored.id))
            else:
                became.update(await compare_with_all(held.gateway, stored))
            state.became = dict(became)
            await asyncio.sleep(0)
        if loop.time() - stepped >= STEP_SECONDS:
            await held.step(told(state), msgspec.json.encode(state).decode())
            stepped = loop.time()
    return Done(told(state), msgspec.json.encode(state).decode())


def told(state: State) -> str:
    """How far a job is, for people."""
    return f"{state.compared} records compared: {counted(state.became.items())}"


def _order(job: Job) -> Order:
    with suppress(msgspec.DecodeError):
        return msgspec.json.decode(job.payload, type=Order)
    raise Internal("It is not known what this job was to do", rule="identity-job")


async def _page(gateway: Gateway, order: Order, state: State) -> Sequence[Stored]:
    """The next Patients, and the state behind them; empty at the end."""
    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        try:
            if not order.low:
                return await _next_of_all(reader, order, state)
            return await _next_changed(reader, order, state)
        except TooCostly:
            raise Unavailable("The database is too slow to read", rule="deadline") from None


async def _next_of_all(reader: Reader, order: Order, state: State) -> Sequence[Stored]:
    page = await reader.scan("Patient", until_t=order.high, after_rid=state.rid, limit=PAGE)
    if page:
        state.rid = page[-1].rid
    return page


async def _next_changed(reader: Reader, order: Order, state: State) -> Sequence[Stored]:
    """Those whose version is the current one; the others come, or came, with a later version."""
    while True:
        found = await reader.changes(
            type="Patient", until_t=order.high, before=state.place, limit=PAGE
        )
        new = [one for one in found if one.t > order.low]
        if not new:
            return ()
        state.place = (new[-1].t, new[-1].n, new[-1].i)
        page = [one.stored for one in new if await _is_current(reader, one.stored)]
        if page:
            return page


async def _is_current(reader: Reader, stored: Stored) -> bool:
    current = await reader.read("Patient", stored.id)
    return current is not None and current.version == stored.version
