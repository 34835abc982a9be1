"""Whoever was overtaken waits for its turn: requests of one process that keep changing the same
thing go one after the other, instead of all at once and all but one in vain. Who comes while there
is a line stands at its end.

Only a courtesy between requests of this process; what makes a write safe are its guards.
"""

from __future__ import annotations

import asyncio
from collections.abc import Hashable, Iterable
from types import TracebackType


class _Line:
    """Those who wait for one key."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.members = 0


_lines: dict[Hashable, _Line] = {}


class Turn:
    """At most one turn at a time, held until the next `take` or the end of the `async with`."""

    def __init__(self) -> None:
        self._held: Hashable | None = None

    async def __aenter__(self) -> Turn:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._leave()

    async def join(self, keys: Iterable[Hashable]) -> None:
        """Waits in the first of these lines that there is; without one it does nothing."""
        for key in keys if _lines else ():
            if key in _lines:
                return await self.take(key)

    async def take(self, key: Hashable) -> None:
        """Waits until nobody else holds this key, after giving up another one."""
        if self._held == key:
            return
        self._leave()
        line = _lines.setdefault(key, _Line())
        line.members += 1
        try:
            await line.lock.acquire()
        except BaseException:
            _forget(key, line)
            raise
        self._held = key

    def _leave(self) -> None:
        if self._held is not None:
            key, self._held = self._held, None
            line = _lines[key]
            line.lock.release()
            _forget(key, line)


def _forget(key: Hashable, line: _Line) -> None:
    line.members -= 1
    if not line.members:
        del _lines[key]
