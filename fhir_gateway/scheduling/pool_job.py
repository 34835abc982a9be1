"""What goes on by itself in the pools, as a job of the worker: cut-offs, tidying, offers.

Nothing that was promised waits for it: a hold is over by its time and a reserve falls when somebody
asks for it (docs/adr/0049). Time is cut into slots of `pool_seconds`; the job of one has the slot
in its id, so that several workers make one of it, and none is made when nothing is due. Each thing
is a commit of its own, so a job that was killed is simply done again.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any

from fhir_gateway.context import Gateway
from fhir_gateway.interactions.jobs import Done, Held
from fhir_gateway.scheduling import cut_off, tidy, waitlist_offers
from fhir_gateway.store import jobs

KIND = "pools"

#: Seconds between two words on how far the work is.
STEP_SECONDS = 1.0

_SECOND = 1_000_000

#: In this order: what moves at a cut-off is written down before others touch the bucket, and what
#: has fallen or was tidied can be offered.
_WORKS: tuple[tuple[Any, Callable[[Gateway], AsyncIterator[Any]]], ...] = (
    (cut_off, cut_off.cut_off),
    (tidy, tidy.tidy),
    (waitlist_offers, waitlist_offers.offer),
)


async def work(held: Held) -> Done:
    """Does all that is due. Raises Lost and Stopped as `Held.step` does."""
    loop = asyncio.get_running_loop()
    counts: Counter[str] = Counter()
    stepped = loop.time()
    for _, run in _WORKS:
        async for one in run(held.gateway):
            counts[one.outcome] += 1
            if loop.time() - stepped >= STEP_SECONDS:
                await held.step(told(counts), "")
                stepped = loop.time()
    return Done(told(counts), "")


def told(counts: Counter[str]) -> str:
    """What was done, for people: counts by outcome."""
    return ", ".join(f"{count} {name}" for name, count in counts.items()) or "nothing due"


class Timer:
    """Makes the job of a slot of time in which something is due. A worker has one."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._slot = -1

    async def look(self) -> None:
        """Makes this slot's job, at most once."""
        every = self._gateway.settings.pool_seconds
        if not every:
            return
        slot = self._gateway.clock.now() // (every * _SECOND)
        if slot == self._slot:
            return
        for module, _ in _WORKS:
            if await module.is_due(self._gateway):
                await jobs.enqueue(self._gateway.store, id=f"{KIND}_{every}_{slot}", kind=KIND)
                break
        self._slot = slot
