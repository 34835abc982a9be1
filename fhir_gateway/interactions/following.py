"""Follows the store for a kind of job: whoever holds it plans when something was committed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from fhir_gateway.context import Gateway
from fhir_gateway.security.actor import SYSTEM_ACCESS


class Following:
    """Calls `plan` when the store has changed since it was called, at most every so many
    microseconds. A worker has one for each kind of job."""

    def __init__(
        self, gateway: Gateway, *, plan: Callable[[Gateway], Awaitable[Any]], every: int
    ) -> None:
        self._gateway = gateway
        self._plan = plan
        self._every = every
        self._next = 0
        self._t = -1

    async def look(self) -> None:
        """Makes the job that is wanted, if it is time to ask."""
        now = self._gateway.clock.now()
        if now < self._next:
            return
        async with self._gateway.store.snapshot(SYSTEM_ACCESS) as reader:
            t = reader.t
        if t != self._t:
            await self._plan(self._gateway)
            self._next, self._t = now + self._every, t
