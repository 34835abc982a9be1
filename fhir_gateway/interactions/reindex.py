"""Derives all rows of a store again, after an upgrade whose rows are other ones; docs/adr/0015.

The work is cut into parts by homes, each a job (store/jobs.py): any number of processes may take
part, each has a part at a time, and a part whose worker was killed goes on at its checkpoint. It
runs beside everything else. What is stored meanwhile has the new rows already, and a version that
was superseded meanwhile is passed over by the store. When all parts are done the store is told so,
and searches are answered again.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Iterable
from contextlib import suppress
from itertools import pairwise
from typing import NamedTuple

import msgspec

from fhir_gateway.context import Gateway
from fhir_gateway.errors import TooCostly, Unavailable
from fhir_gateway.interactions.deriving import Deriver
from fhir_gateway.interactions.jobs import POLL_SECONDS, Done, Held, work_once
from fhir_gateway.security.actor import SYSTEM_ACCESS
from fhir_gateway.store import jobs
from fhir_gateway.store.changes import ChangeSet
from fhir_gateway.store.index_version import Index, check_ours
from fhir_gateway.store.jobs import OPEN_STATES, Job
from fhir_gateway.store.lookups import Place
from fhir_gateway.store.refusals import Refusal, error_of
from fhir_gateway.store.store import Stored
from fhir_gateway.store.walk_sql import FIRST, place_of

KIND = "reindex"

#: What lives in homes of nobody, and everybody's homes in so many parts less one.
PARTS = 16

#: Resources that are read at a time.
PAGE = 500

#: Seconds between two checkpoints.
STEP_SECONDS = 1.0

LOG = logging.getLogger("fhir_gateway.jobs")


class Part(msgspec.Struct, frozen=True):
    """The homes behind `low`, up to and with `high`."""

    low: int
    high: int


class State(msgspec.Struct):
    """How far a part is: the place of the last resource, and how many there were."""

    home: int
    type: int
    rid: int
    count: int = 0


class Progress(NamedTuple):
    """How far all parts are on the way to a version. `total` counts deleted resources too;
    `failures` say what kept a part from being done, `working` that some part is not at its end."""

    version: int
    done: int
    total: int
    working: bool
    finished: bool
    failures: tuple[str, ...]


# -- all of it ---------------------------------------------------------------------------------


async def is_needed(gateway: Gateway) -> bool:
    """Whether the store was indexed by an older version, or with other identifier systems.

    Raises Unavailable for a newer one, and when another process knows other systems.
    """
    return not (await _index(gateway)).is_current


async def _index(gateway: Gateway) -> Index:
    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        check_ours(reader.index)
        return reader.index


async def run(
    gateway: Gateway,
    stop: asyncio.Event,
    *,
    again: bool = False,
    takes_part: Callable[[], bool] = lambda: True,
) -> bool:
    """Returns True when the store's index is of this version; until then it does parts of the work,
    or looks on while others do.

    Returns False when `stop` was set, or when a part cannot be done; `again` begins such parts
    anew.
    """
    planned = False
    while not stop.is_set():
        try:
            if not await is_needed(gateway):
                return True
            if not planned:
                await plan(gateway, again=again)
                planned = True
            if takes_part() and await work_once(gateway, {KIND: work}, stop):
                continue
            now = await progress(gateway)
            if now.finished:
                await gateway.store.commit(ChangeSet(id=b"", indexed=now.version))
                continue
            if not now.working:
                LOG.error(json.dumps({"event": "reindex-failed", "why": now.failures}))
                return False
        except Unavailable as error:
            LOG.warning(json.dumps({"event": "reindex-waits", "rule": error.issues[0].rule}))
        with suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), POLL_SECONDS)
    return False


async def plan(gateway: Gateway, *, again: bool = False) -> None:
    """Makes a job of each part that has none; with `again` also of parts that have failed."""
    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        _, homes = await reader.given()
    version = (await _index(gateway)).indexing
    known = await _latest(gateway, version)
    for number, part in enumerate(_parts(homes)):
        job = known.get(number)
        if job is not None and (not again or job.state in ("done", *OPEN_STATES)):
            continue
        tried = _number(job)[1] + 1 if job is not None else 1
        await jobs.enqueue(
            gateway.store,
            id=f"{KIND}-{version}-{number:02}-{tried}",
            kind=KIND,
            payload=msgspec.json.encode(part).decode(),
        )


async def progress(gateway: Gateway) -> Progress:
    """How far all processes are together."""
    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        total, _ = await reader.given()
        version = reader.index.indexing
    known = (await _latest(gateway, version)).values()
    states = [job.state for job in known]
    count = sum(_state(job, FIRST.home).count for job in known if job.state in _COUNTED)
    return Progress(
        version=version,
        done=min(count, total),
        total=total,
        working=any(state in OPEN_STATES for state in states),
        finished=len(states) == PARTS and all(state == "done" for state in states),
        failures=tuple(_failure(job) for job in known if job.state not in _COUNTED),
    )


_COUNTED = ("done", *OPEN_STATES)


def _parts(homes: int) -> Iterable[Part]:
    """What belongs to no person, and the persons' homes in equal parts."""
    yield Part(FIRST.home, 0)
    bounds = [homes * number // (PARTS - 1) for number in range(PARTS)]
    for low, high in pairwise(bounds):
        yield Part(low, high)


async def _latest(gateway: Gateway, of: int) -> dict[int, Job]:
    """The last job of each part of the way to a version, by its number."""
    latest: dict[int, Job] = {}
    for job in await jobs.find_all(gateway.store, kind=KIND):
        version, number = job.id.split("-")[1:3]
        if int(version) == of:
            other = latest.get(int(number))
            if other is None or _number(other)[1] < _number(job)[1]:
                latest[int(number)] = job
    return latest


def _number(job: Job) -> tuple[int, int]:
    """Which part, and for which time."""
    _, _, number, tried = job.id.split("-")
    return int(number), int(tried)


def _failure(job: Job) -> str:
    """Why a part was not done."""
    if job.state == "failed" and job.checkpoint:
        with suppress(msgspec.ValidationError):
            refusal = msgspec.json.decode(job.checkpoint, type=Refusal)
            return "; ".join(issue.diagnostics for issue in error_of(refusal).issues)
    return f"the job {job.id} is {job.state}"


def _state(job: Job, low: int) -> State:
    """How far a job is, at its beginning when it has not begun."""
    if not job.checkpoint:
        return State(low, (1 << 63) - 1, 0)
    return msgspec.json.decode(job.checkpoint, type=State)


# -- one part ----------------------------------------------------------------------------------


async def work(held: Held) -> Done:
    """Does a part. Raises Lost and Stopped as `Held.step` does, Internal for a resource of which
    this version can make no rows."""
    part = msgspec.json.decode(held.job.payload, type=Part)
    state = _state(held.job, part.low)
    loop = asyncio.get_running_loop()
    deriver = Deriver(held.gateway)
    told = loop.time()
    try:
        while page := await _page(held.gateway, state, part.high):
            await deriver.add(page)
            state.home, state.type, state.rid = place_of(page[-1])
            state.count += len(page)
            if loop.time() - told >= STEP_SECONDS:
                await deriver.settle()
                await held.step(*_told(state))
                told = loop.time()
        await deriver.settle()
    finally:
        await deriver.leave()
    return Done(*_told(state), forever=True)


def _told(state: State) -> tuple[str, str]:
    """Progress and checkpoint."""
    return f"{state.count} resources", msgspec.json.encode(state).decode()


async def _page(gateway: Gateway, state: State, until: int) -> list[Stored]:
    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        try:
            after = Place(state.home, state.type, state.rid)
            return await reader.walk(after, until_home=until, limit=PAGE)
        except TooCostly:
            raise Unavailable("The database is too slow to read", rule="deadline") from None
