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


_END: ContextVar[Callable[[], None] | None] = ContextVar("turn", default=None)


async def unhurried(values: Iterable[T]) -> AsyncIterator[T]:
    """The values, with a turn of the event loop after every piece of them, and a `breath` after
    the last."""
    for number, value in enumerate(values, 1):
        yield value
        if number % PIECE == 0:
            await asyncio.sleep(0)
    await breath()


@asynccontextmanager
async def in_turn(turns: asyncio.Semaphore) -> AsyncIterator[None]:
    """Work that nothing of its kind goes on beside, first come first served, until `prepared` says
    that from now on it waits for the store.

    Were all who are waiting prepared at once, each would keep the writer and all who are ready to
    be answered from the loop for as long as the work of all of them takes, again and again. What
    never waits would do so even one after the other: each begins with a turn of the loop, and
    gives it one at every `breath`.
    """
    await turns.acquire()
    held = [turns]

    def end() -> None:
        while held:
            held.pop().release()

    token = _END.set(end)
    try:
        await asyncio.sleep(0)
        yield
    finally:
        _END.reset(token)
        end()


async def breath() -> None:
    """A turn of the loop for all others, between two steps of work that is done in turn: a commit
    that the disk has done, what other processes hand in and answers that are ready go on now
    rather than after the whole of it. Other work passes on at once."""
    if _END.get() is not None:
        await asyncio.sleep(0)


def prepared() -> None:
    """Ends the turn of what is under way, if it has one: the next may begin."""
    if (end := _END.get()) is not None:
        end()
