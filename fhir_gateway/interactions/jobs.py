"""The loop of a worker: lease a job, do it, tell what came of it; and keep house in between.

Runs in a process of its own (docs/architecture.md, section 5.10). A worker may be killed at any
moment: the next one goes on from the last checkpoint when the lease has run out.
"""

from __future__ import annotations

import asyncio
import json
import logging
import traceback
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import NamedTuple

import msgspec

from fhir_gateway.context import Gateway
from fhir_gateway.errors import Conflict, GatewayError, Unavailable
from fhir_gateway.interactions.asynchronous import kept
from fhir_gateway.interactions.export_files import remove
from fhir_gateway.store import jobs
from fhir_gateway.store.jobs import Job
from fhir_gateway.store.refusals import refusal_of

#: A worker that was not heard of for so long is replaced.
LEASE = 30_000_000

#: Seconds between two looks for work, and between two looks for what has expired.
POLL_SECONDS, TIDY_SECONDS = 0.5, 30.0

#: Rows of jobs that were cancelled or have expired are kept for so many µs.
FORGOTTEN = 30 * 24 * 3600 * 1_000_000

LOG = logging.getLogger("fhir_gateway.jobs")


class Lost(Exception):
    """The job is somebody else's by now, or cancelled: stop and touch nothing."""


class Stopped(Exception):
    """The worker is told to stop; the job was given back."""


class Done(NamedTuple):
    """What came of a job: a line for people, and what the kind keeps of it, for a while or for
    good."""

    progress: str
    checkpoint: str
    forever: bool = False


class Held:
    """A job under a lease."""

    def __init__(self, gateway: Gateway, job: Job, stop: asyncio.Event) -> None:
        self.gateway, self.job, self._stop = gateway, job, stop

    async def step(self, progress: str, checkpoint: str) -> None:
        """Says how far the work is; durable when this returns. Raises Lost, Stopped."""
        store = self.gateway.store
        try:
            self.job = await jobs.renew(
                store, self.job, duration=LEASE, progress=progress, checkpoint=checkpoint
            )
            if self._stop.is_set():
                await jobs.release(store, self.job)
                raise Stopped
        except Conflict:
            raise Lost from None


#: What does the jobs of a kind. Raises Lost and Stopped as `Held.step` does.
Work = Callable[[Held], Awaitable[Done]]


async def work(
    gateway: Gateway,
    works: Mapping[str, Work],
    stop: asyncio.Event,
    *,
    look: Callable[[], Awaitable[None]] | None = None,
) -> None:
    """Does jobs until `stop` is set. A store that cannot be reached is tried again.

    `look` sees before each look for work what else there is to do, and makes jobs of it.
    """
    loop = asyncio.get_running_loop()
    tidied = 0.0
    while not stop.is_set():
        try:
            if look is not None:
                await look()
            if await work_once(gateway, works, stop):
                continue
            if loop.time() - tidied > TIDY_SECONDS:
                tidied = loop.time()
                await tidy(gateway)
        except Unavailable as error:
            LOG.warning(json.dumps({"event": "worker-waits", "rule": error.issues[0].rule}))
        with suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), POLL_SECONDS)


async def work_once(
    gateway: Gateway, works: Mapping[str, Work], stop: asyncio.Event | None = None
) -> bool:
    """Does one job, if there is one; says whether there was."""
    if not await jobs.is_due(gateway.store, now=gateway.clock.now()):
        return False
    for kind, do in works.items():
        job = await jobs.lease(gateway.store, kind=kind, duration=LEASE)
        if job is not None:
            await _carry_out(Held(gateway, job, stop or asyncio.Event()), do)
            return True
    return False


async def _carry_out(held: Held, do: Work) -> None:
    """Does a job to its end. What fails for a reason of its own is failed for good; what fails
    for a reason of ours is tried again when the lease has run out."""
    gateway, id = held.gateway, held.job.id
    try:
        try:
            done = await do(held)
            await _complete(held, "done", *done)
        except (Lost, Stopped, Unavailable):
            raise
        except GatewayError as error:
            told = msgspec.json.encode(refusal_of(error)).decode()
            await _complete(held, "failed", "", told)
            remove(gateway.settings, id)
    except Lost:
        await _leave(gateway, id)
    except Stopped:
        return
    except Exception as error:
        _log_fault(held.job, error)


async def _complete(
    held: Held, state: str, progress: str, checkpoint: str, forever: bool = False
) -> None:
    store, until = held.gateway.store, 0 if forever else kept(held.gateway)
    try:
        await jobs.complete(
            store, held.job, state=state, progress=progress, checkpoint=checkpoint, kept=until
        )
    except Conflict:
        raise Lost from None


async def _leave(gateway: Gateway, id: str) -> None:
    """Removes the files of a job that was cancelled under our hands."""
    job = await jobs.find(gateway.store, id)
    if job is None or job.state in ("cancelled", "expired"):
        remove(gateway.settings, id)


async def tidy(gateway: Gateway) -> int:
    """Takes back what has expired, with its files; says how many."""
    count = 0
    while (job := await jobs.expire(gateway.store, kept=FORGOTTEN)) is not None:
        remove(gateway.settings, job.id)
        count += 1
    return count


def _log_fault(job: Job, error: Exception) -> None:
    """Class and places in the code; the text of an exception may quote what was worked on."""
    frames = traceback.extract_tb(error.__traceback__)
    places = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames[-12:]]
    LOG.error(
        json.dumps({
            "event": "job-fault", "job": job.id, "kind": job.kind,
            "error": type(error).__name__, "at": places,
        })
    )  # fmt: skip
