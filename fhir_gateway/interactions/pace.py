"""Long work in short pieces, so that the other requests of the event loop keep their pace."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import TypeVar

T = TypeVar("T")

#: About 5 ms of validating or indexing.
PIECE = 32


async def unhurried(values: Iterable[T]) -> AsyncIterator[T]:
    """The values, with a turn of the event loop after every piece of them."""
    for number, value in enumerate(values, 1):
        yield value
        if number % PIECE == 0:
            await asyncio.sleep(0)


_END: ContextVar[Callable[[], None] | None] = ContextVar("turn", default=None)


@asynccontextmanager
async def in_turn(turns: asyncio.Semaphore) -> AsyncIterator[None]:
    """Work that has the event loop to itself, first come first served, until `prepared` says that
    from now on it waits for the store.

    Were all who are waiting prepared at once, each would keep the writer and all who are ready to
    be answered from the loop for as long as the work of all of them takes, again and again.
    """
    await turns.acquire()
    held = [turns]

    def end() -> None:
        while held:
            held.pop().release()

    token = _END.set(end)
    try:
        yield
    finally:
        _END.reset(token)
        end()


def prepared() -> None:
    """Ends the turn of what is under way, if it has one: the next may begin."""
    if (end := _END.get()) is not None:
        end()
