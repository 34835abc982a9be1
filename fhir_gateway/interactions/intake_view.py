"""Intake straight from a view of a hospital's database: part by part, each loaded as a file is.

A part is as many whole reports as fit `rows_at_once`, in the order of their watermarks. It is
written to a file that has no name and is gone with the process, and loaded by the same survey,
pieces and marks as a file of rows: so it is incremental, may be broken off and sent again, and
tells the same. What one part refuses holds the watermark of the parts behind it back.
"""

from __future__ import annotations

import asyncio
import io
import os
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import replace
from tempfile import TemporaryFile
from typing import BinaryIO, NamedTuple, TypeVar

import sqlalchemy as sa

from fhir_gateway.context import Gateway
from fhir_gateway.errors import Invalid, Unavailable
from fhir_gateway.interactions.institutions import institution
from fhir_gateway.interactions.intake_tabular_load import Loaded, Order, Progress, load_table
from fhir_gateway.interactions.intake_tabular_marks import last_load
from fhir_gateway.interactions.intake_tabular_survey import Opener
from fhir_gateway.interactions.intake_view_open import (
    close,
    connect,
    engine_of,
    interrupt,
    telling,
)
from fhir_gateway.interactions.intake_view_read import Rows, Seen, rows_of_view, see
from fhir_gateway.mapping.tabular_map import TableMap
from fhir_gateway.mapping.tabular_rows import mark_before
from fhir_gateway.mapping.tabular_view import View

R = TypeVar("R")

#: Seconds before a connection is tried for the second time; each time twice as many.
FIRST_WAIT, LONGEST_WAIT = 1.0, 60.0


class Pull(NamedTuple):
    """What is to be read: the map, the address of its database, and how."""

    table: TableMap
    address: str
    dry_run: bool = False
    again: bool = False


class Part(NamedTuple):
    """What came of a part: its name, as the load is known by, and the load."""

    name: str
    loaded: Loaded


#: Told when a connection was not got: why, and in how many seconds it is tried again.
Waiting = Callable[[str, float], None]


async def pull_view(
    gateway: Gateway, pull: Pull, progress: Progress, waiting: Waiting
) -> list[Part]:
    """Loads what is new in a view; the parts in their order, none where nothing is there.

    Raises Invalid or Unprocessable for a map, address, driver or view that cannot be used,
    Unavailable when the database cannot be reached or breaks off: what was loaded stays, and the
    next call goes on behind it.
    """
    view = _view(pull.table)
    sender = await institution(gateway, pull.table.institution)
    if sender is None:
        raise Invalid(f"No institution {pull.table.institution} is registered; see `fhir-gateway "
                      "institution list`", rule="institution")  # fmt: skip
    last = await last_load(gateway, sender.id, pull.table.name)
    since = mark_before(pull.table, last.watermark) if last and not pull.again else ""
    parts: list[Part] = []
    async with _reading(pull.address, view, waiting) as reading:
        seen = await reading.see(pull.table)
        await reading.begin(seen, since, sender.zone)
        most: str | None = None
        while True:
            with TemporaryFile(prefix="fhir-gateway-") as file:
                if not await reading.write(file):
                    return parts
                order = Order(view.name, seen.read_by, pull.dry_run, pull.again, most)
                loaded = await load_table(gateway, opener_of(file), order, progress)
            parts.append(Part(f"{view.name} {len(parts) + 1}", loaded))
            most = _bound(most, loaded)


async def check_view(table: TableMap, address: str) -> Seen:
    """Connects once and compares the view with its map. Raises as `pull_view` does."""
    once = replace(_view(table), connect_attempts=1)
    async with _reading(address, once, lambda *_: None) as reading:
        return await reading.see(table)


def _view(table: TableMap) -> View:
    if table.database is None:
        raise Invalid(f"The map {table.name} names no view: it has no [database]",
                      rule="table-map")  # fmt: skip
    return table.database


def _bound(most: str | None, loaded: Loaded) -> str | None:
    """What the next parts must not pass: a report that was refused, or a row that was not read."""
    undone = loaded.figures.held or loaded.survey.broken
    if loaded.load is None or not undone:
        return most
    reached = loaded.load.watermark
    return reached if most is None else min(most, reached)


# -- the database, in a thread of its own ----------------------------------------------------------


class _Reading:
    """Runs what reads a database in one thread, in which its connection is made and closed."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="view")
        self._connection: sa.Connection | None = None
        self._rows: Rows | None = None
        self._running = False

    async def connect(self, address: str, waiting: Waiting) -> None:
        """Gets the connection, after a while again where it cannot be had at once."""
        engine = await self._run(lambda: engine_of(address, self._view))
        wait = FIRST_WAIT
        for left in range(self._view.connect_attempts - 1, -1, -1):
            try:
                self._connection = await self._run(lambda: connect(engine, self._view))
                return
            except Unavailable as error:
                if not left:
                    raise
                waiting(error.issues[0].diagnostics, wait)
                await asyncio.sleep(wait)
                wait = min(wait * 2, LONGEST_WAIT)

    async def see(self, table: TableMap) -> Seen:
        """What the view is, by its map."""
        return await self._run(lambda: see(self._connected, table))

    async def begin(self, seen: Seen, since: str, zone: str) -> None:
        """Asks for its rows from a watermark on."""
        self._rows = await self._run(lambda: rows_of_view(self._connected, seen, since, zone))

    async def write(self, file: BinaryIO) -> int:
        """Writes the next part; how many rows it has, 0 at the end."""
        rows = self._rows
        assert rows is not None
        return await self._run(lambda: rows.write(file, self._view.rows_at_once))

    def close(self) -> None:
        """Lets go of the connection, and ends what still runs on it; waits for nothing."""
        if self._running and self._connection is not None:
            interrupt(self._connection)
        self._threads.submit(self._close)
        self._threads.shutdown(wait=False)

    def _close(self) -> None:
        if self._connection is not None:
            close(self._connection, self._rows)

    @property
    def _connected(self) -> sa.Connection:
        assert self._connection is not None
        return self._connection

    async def _run(self, read: Callable[[], R]) -> R:
        def told() -> R:
            self._running = True
            try:
                with telling(self._view):
                    return read()
            finally:
                self._running = False

        return await asyncio.get_running_loop().run_in_executor(self._threads, told)


@asynccontextmanager
async def _reading(address: str, view: View, waiting: Waiting) -> AsyncIterator[_Reading]:
    reading = _Reading(view)
    try:
        await reading.connect(address, waiting)
        yield reading
    finally:
        reading.close()


# -- the part as a file ----------------------------------------------------------------------------


class _Again(io.RawIOBase):
    """A file read from its beginning, whoever else reads it too."""

    def __init__(self, number: int) -> None:
        self._number, self._at = number, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        found = os.pread(self._number, len(buffer), self._at)
        buffer[: len(found)] = found
        self._at += len(found)
        return len(found)


def opener_of(file: BinaryIO) -> Opener:
    """Opens an open file anew, time and again."""
    number = file.fileno()
    return lambda: io.BufferedReader(_Again(number), 1 << 20)
