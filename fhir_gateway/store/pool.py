"""The connections that read: a few, used last-in-first-out so that their caches stay warm."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import apsw

from fhir_gateway.errors import TooCostly
from fhir_gateway.search.version import INDEX_VERSION
from fhir_gateway.store.engine import open_reader

#: At most so many snapshots at once; further ones wait their turn.
MOST_OPEN = 64
KEPT = 8

#: What runs in a thread is cut off after so many seconds.
DEADLINE_SECONDS = 1.0

_T = TypeVar("_T")


class Pool:
    """Read connections to one database, and threads for what must not run in the event loop."""

    def __init__(self, path: Path, index: int = INDEX_VERSION) -> None:
        """`index` is the version of the rows that this process makes (search/version.py)."""
        self._path = path
        self.index = index
        self._free: list[apsw.Connection] = []
        self._turns = asyncio.Semaphore(MOST_OPEN)
        self._threads = ThreadPoolExecutor(
            max(2, min(4, os.cpu_count() or 2)), thread_name_prefix="store-read"
        )

    async def take(self) -> apsw.Connection:
        """A connection for one snapshot."""
        await self._turns.acquire()
        try:
            return self._free.pop() if self._free else open_reader(self._path)
        except BaseException:
            self._turns.release()
            raise

    def give(self, connection: apsw.Connection) -> None:
        """Takes a connection back, ending its snapshot."""
        self._turns.release()
        try:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        except apsw.Error:
            connection.close()
            return
        if len(self._free) < KEPT:
            self._free.append(connection)
        else:
            connection.close()

    async def in_thread(
        self,
        connection: apsw.Connection,
        read: Callable[[], _T],
        *,
        seconds: float = DEADLINE_SECONDS,
    ) -> _T:
        """What `read` gives, run in a thread. Raises TooCostly when it takes longer."""
        loop = asyncio.get_running_loop()
        running = loop.run_in_executor(self._threads, read)
        timer = loop.call_later(seconds, connection.interrupt)
        try:
            return await asyncio.shield(running)
        except apsw.InterruptError:
            raise TooCostly(
                "The search takes too long; name a patient or narrow it", rule="deadline"
            ) from None
        except asyncio.CancelledError:
            connection.interrupt()  # the connection may not be given back while it is in use
            await asyncio.wait([running])
            raise
        finally:
            timer.cancel()

    async def close(self) -> None:
        """Closes the connections that are free; those in use close when they are given back."""
        self._threads.shutdown()
        while self._free:
            self._free.pop().close()
