"""The checks of all Endpoints as a job of the worker, every so many minutes.

Time is cut into slots of that length; a slot's job has the slot in its id, so that several workers
make one of it. Without listed servers, or with 0 minutes, there is nothing to ask and no job.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from fhir_gateway.context import Gateway
from fhir_gateway.interactions.endpoints import Checked, check
from fhir_gateway.interactions.jobs import Done, Held
from fhir_gateway.store import jobs

KIND = "endpoint-check"

_MINUTE = 60_000_000


async def work(held: Held) -> Done:
    """Asks every Endpoint. Raises Lost and Stopped as `Held.step` does."""
    await held.step("asking", "")
    return Done(told(await check(held.gateway)), "")


def told(found: list[Checked]) -> str:
    """One line of what came of it."""
    passed = sum(one.result.passed is True for one in found)
    failed = sum(one.result.passed is False for one in found)
    unasked = len(found) - passed - failed
    return f"{len(found)} endpoints: {passed} passed, {failed} failed, {unasked} not asked"


class Timer:
    """Makes the job of each slot of time. A worker has one."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._slot = -1

    async def look(self) -> None:
        """Makes this slot's job, once; no look at the store in between."""
        settings = self._gateway.settings
        if not settings.endpoint_check_minutes or not settings.outbound_origins:
            return
        slot = self._gateway.clock.now() // (settings.endpoint_check_minutes * _MINUTE)
        if slot != self._slot:
            id = f"{KIND}_{settings.endpoint_check_minutes}_{slot}"
            await jobs.enqueue(self._gateway.store, id=id, kind=KIND)
            self._slot = slot


def both(*looks: Callable[[], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
    """One look that looks for all, in their order."""

    async def look() -> None:
        for one in looks:
            await one()

    return look
