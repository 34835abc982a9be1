"""Moves a store from one database to another, table by table and piece by piece.

The source is held still meanwhile: its writer's lock (SQLite) or its clock row (PostgreSQL) is
taken, so that a gateway that runs on it is refused rather than half copied. A piece is a range of a
table's leading column, written with its note in one transaction: a copy that was cut short goes on
behind the last note. The clock row goes last; a database without one is no store yet and is opened
by nobody. At the end the target is read again, and counts and hashes of all rows must agree.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from hashlib import blake2b
from typing import Any, NamedTuple, Protocol

import msgspec

from fhir_gateway.errors import Conflict, Internal

Row = tuple[Any, ...]

#: The column that a table is cut by, for every table of the store but the clock.
LEADS = {
    "locator": "type", "resource": "home", "version": "home", "px": "home", "px_text": "home",
    "gx": "parameter", "gx_text": "parameter", "fact": "home", "result_of": "home",
    "evaluation": "institution", "identity": "key", "alias": "home", "person": "home",
    "proposal": "home", "opening": "home", "consent": "home", "change": "t", "journal": "t",
    "journal_home": "home", "change_set": "t", "once": "kind", "counter": "key",
    "received": "hash", "seen": "institution", "credential": "hash", "job": "id",
    "client": "id", "client_token": "hash",
    "message": "id", "refused": "hash", "message_count": "institution",
    "schedule_row": "home", "slot_row": "home", "slot_item": "item", "seat": "home",
    "quota": "home", "booking": "home",
    "log_seat": "one", "log_tile": "number", "log_head": "size", "log_turn": "ordinal",
}  # fmt: skip
CLOCK = "clock"

#: Rows of a piece, about, and rows in memory at a time.
PIECE, CHUNK = 50_000, 5_000


class Digest(NamedTuple):
    """Count of rows, and the sum of their hashes modulo 2^64: the same in any order."""

    rows: int = 0
    hash: int = 0

    def plus(self, rows: list[Row]) -> Digest:
        """With these rows too."""
        total = self.hash
        for row in rows:
            digest = blake2b(_encoder.encode(row), digest_size=8).digest()
            total += int.from_bytes(digest, "big")
        return Digest(self.rows + len(rows), total & 0xFFFF_FFFF_FFFF_FFFF)


_encoder = msgspec.msgpack.Encoder()


class Note(NamedTuple):
    """How far a table has been copied: up to and with `last`, and what that was."""

    done: bool
    last: bytes  # msgpack of the leading column's value, b"" before the first piece
    digest: Digest


class Source(Protocol):
    """A store that nobody writes until `close`."""

    async def columns(self, table: str) -> tuple[str, ...]:
        """The names of a table's columns, sorted."""

    async def bound(self, table: str, lead: str, after: Any) -> Any:
        """The leading value about PIECE rows behind `after`; None when no row is left."""

    def rows(
        self, table: str, columns: tuple[str, ...], lead: str, after: Any, upto: Any
    ) -> AsyncIterator[list[Row]]:
        """The rows with after < lead <= upto, in chunks; None bounds nothing."""

    async def close(self) -> None:
        """Lets the store go."""


class Target(Source, Protocol):
    """An empty store, or one that an earlier copy has begun."""

    async def notes(self, mark: bytes) -> dict[str, Note]:
        """What is there already. Raises Conflict when it is a store, or a copy of another one."""

    async def begin(self) -> None:
        """Opens a transaction."""

    async def write(self, table: str, columns: tuple[str, ...], rows: list[Row]) -> None:
        """Adds rows."""

    async def commit(self, table: str, note: Note) -> None:
        """Makes a piece durable, with its note."""

    async def finish(self, columns: tuple[str, ...], clock: Row) -> None:
        """Writes the clock row and removes the notes: from now on it is a store."""


Progress = Callable[[str, int], None]


async def copy(source: Source, target: Target, *, progress: Progress) -> dict[str, Digest]:
    """Copies all tables; returns what each holds. `progress` hears of tables and rows copied.

    Raises Conflict when the target is not empty or the two schemas differ, Internal when what was
    written is not what was read.
    """
    columns = await _agreed_columns(source, target)
    clock = await _clock(source, columns[CLOCK])
    notes = await target.notes(_mark(clock))
    copied = {}
    for table, lead in LEADS.items():
        note = notes.get(table, Note(False, b"", Digest()))
        copied[table] = await _copy_table(
            source, target, table, lead, columns[table], note, progress
        )
    for table, lead in LEADS.items():
        progress(f"verifying {table}", copied[table].rows)
        if await _digest(target, table, lead, columns[table]) != copied[table]:
            raise Internal(f"The copied table {table} is not what was read; start over")
    await target.finish(columns[CLOCK], clock)
    return copied


async def _agreed_columns(source: Source, target: Target) -> dict[str, tuple[str, ...]]:
    columns = {}
    for table in (*LEADS, CLOCK):
        columns[table] = await source.columns(table)
        if not columns[table] or columns[table] != await target.columns(table):
            raise Conflict(
                f"The two stores differ in the table {table}; open both with this version first",
                rule="copy-schema",
            )
    return columns


async def _clock(source: Source, columns: tuple[str, ...]) -> Row:
    found = [row async for rows in source.rows(CLOCK, columns, "one", None, None) for row in rows]
    if not found:
        raise Conflict("The source is not a whole store", rule="copy-source")
    return found[0]


def _mark(clock: Row) -> bytes:
    """What tells one state of one store from all others: its whole clock row."""
    return blake2b(_encoder.encode(clock), digest_size=16).digest()


async def _copy_table(
    source: Source, target: Target, table: str, lead: str, columns: tuple[str, ...], note: Note,
    progress: Progress,
) -> Digest:  # fmt: skip
    digest, done = note.digest, note.done
    last = msgspec.msgpack.decode(note.last) if note.last else None
    while not done:
        upto = await source.bound(table, lead, last)
        await target.begin()
        if upto is not None:
            async for rows in source.rows(table, columns, lead, last, upto):
                digest = digest.plus(rows)
                await target.write(table, columns, rows)
                progress(table, digest.rows)
        done, last = upto is None, upto if upto is not None else last
        kept = b"" if last is None else msgspec.msgpack.encode(last)
        await target.commit(table, Note(done, kept, digest))
    return digest


async def _digest(store: Source, table: str, lead: str, columns: tuple[str, ...]) -> Digest:
    digest = Digest()
    async for rows in store.rows(table, columns, lead, None, None):
        digest = digest.plus(rows)
    return digest
