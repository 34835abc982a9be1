"""Checkpoints of the write-ahead log, away from the commits.

A checkpoint copies the log into the database and syncs it: tens of milliseconds that no commit
should wait for. It runs in its own thread on its own connection. Only when the log grows much
faster than that does the writer wait for one, so that the log can start over.
"""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import apsw

from fhir_gateway.store.engine import open_reader

#: Pages of 8 KiB in the log: from here on it is copied; from there on the writer waits for it.
COPY_FROM, WAIT_FROM = 1_000, 16_000

_log = logging.getLogger(__name__)


class Checkpointer:
    """Watches the size of the log after each commit."""

    def __init__(self, path: Path, writing: apsw.Connection) -> None:
        self._path = path
        self._connection: apsw.Connection | None = None
        self._pages = 0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="store-checkpoint")
        self._running: asyncio.Future[None] | None = None
        self._copied_at = 0
        writing.set_wal_hook(self._grown)

    async def look(self) -> None:
        """Starts a checkpoint when it is time; waits for it when the log is far too long."""
        if self._pages < self._copied_at:  # the log started over
            self._copied_at = 0
        if self._pages < self._copied_at + COPY_FROM:
            return
        if self._running is None or self._running.done():
            self._copied_at = self._pages
            loop = asyncio.get_running_loop()
            self._running = loop.run_in_executor(self._thread, self._copy)
        if self._pages >= WAIT_FROM:
            await self._running
            await asyncio.get_running_loop().run_in_executor(self._thread, self._copy)

    async def close(self) -> None:
        """Copies what is left and closes the connection."""
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._thread, self._copy)
        self._thread.shutdown()
        if self._connection is not None:
            self._connection.close()

    def _grown(self, connection: apsw.Connection, name: str, pages: int) -> int:
        self._pages = pages
        return apsw.SQLITE_OK

    def _copy(self) -> None:
        try:
            if self._connection is None:
                self._connection = open_reader(self._path)
                self._connection.wal_autocheckpoint(0)
            self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
        except apsw.Error as error:  # the log keeps everything; the next one tries again
            _log.warning("checkpoint failed: %s", error.__class__.__name__)
