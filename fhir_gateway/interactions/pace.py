"""Long work in short pieces, so that the other requests of the event loop keep their pace."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
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
