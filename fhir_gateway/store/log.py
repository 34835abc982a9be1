"""The audit log in the store: what changes it, as data that can cross a socket, and what reads it.

Only the process that holds the seat changes the log, and only one can hold it: every command bears
the fence that it was given with the seat, and is refused once somebody else has sat down. Which
hashes and signatures are right is the transparency room's business; that no size gets two heads
and no leaf is skipped is made sure of here, in the writer's transaction (see log_sql.py).
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import msgspec

from fhir_gateway.store.query import Query

Place = tuple[int, int, int]  # (t, n, i) of a journal entry

#: Before the first entry.
NOWHERE: Place = (-1, -1, -1)


class Tile(msgspec.Struct, frozen=True, array_like=True):
    """Up to 256 hashes side by side; `place` of the first leaf on level 0, (0, 0, 0) above."""

    level: int
    number: int
    place: Place
    hashes: bytes


class Claim(msgspec.Struct, frozen=True, array_like=True, tag="claim"):
    """The seat for so many µs, when it is free or ours; by `force` also when it is not.

    Answered by the fence.
    """

    holder: str
    duration: int
    force: bool = False


class Vacate(msgspec.Struct, frozen=True, array_like=True, tag="vacate"):
    """The seat is given up: somebody else may sit down at once."""

    fence: int


class Seal(msgspec.Struct, frozen=True, array_like=True, tag="seal"):
    """More leaves with their tiles and the head over them, behind the head of size `after`.

    `turn` is the statement that the head is signed by. Answered by the head's size.
    """

    fence: int
    turn: int
    after: int
    size: int
    place: Place
    tiles: list[Tile]
    signed: int
    note: str
    duration: int


class Beat(msgspec.Struct, frozen=True, array_like=True, tag="beat"):
    """The last head signed again: nothing is new, and the log is alive."""

    fence: int
    size: int
    beat: str
    duration: int


class Turn(msgspec.Struct, frozen=True, array_like=True, tag="turn"):
    """A signed statement: heads larger than `size` are signed by it. Clears the alarm."""

    fence: int
    ordinal: int
    size: int
    kind: str
    note: str
    event: str


class Alarm(msgspec.Struct, frozen=True, array_like=True, tag="alarm"):
    """Why nothing is signed any more; '' when that is over."""

    fence: int
    text: str


class Purge(msgspec.Struct, frozen=True, array_like=True, tag="purge"):
    """The AuditEvents behind one place and up to another are removed, those recorded before
    `until` (µs). Needs no seat: leaves and tree stay as they are. Answered by how many."""

    after: Place
    upto: Place
    until: int


class PurgeReceived(msgspec.Struct, frozen=True, array_like=True, tag="purge-received"):
    """Received bytes of these media types from before `until` (µs) are removed, at most `limit`.

    Answered by how many.
    """

    media: tuple[str, ...]
    until: int
    limit: int


LogCommand = Claim | Vacate | Seal | Beat | Turn | Alarm | Purge | PurgeReceived


class Seat(NamedTuple):
    """Who numbers and signs, and why nobody does."""

    holder: str
    fence: int
    until: int
    alarm: str


class Head(NamedTuple):
    """A signed head as it is stored."""

    size: int
    place: Place
    signed: int
    note: str
    beat: str


class StoredTurn(NamedTuple):
    """A signed statement as it is stored."""

    ordinal: int
    size: int
    kind: str
    note: str
    event: str


class JournalRow(NamedTuple):
    """A journal entry with all that its leaf is made of."""

    t: int
    n: int
    i: int
    type: int
    id: str
    home: int
    updated: int
    patient: str | None
    owner: int
    nonce: bytes
    leaf: bytes
    enc: int
    body: bytes

    @property
    def place(self) -> Place:
        """Where it stands in the total order."""
        return (self.t, self.n, self.i)


class Logged(Protocol):
    """A store that carries out commands on the log in its writer, and lets it be read."""

    async def log(self, command: LogCommand) -> int:
        """The answer to a command. Raises Conflict by the fence."""

    async def log_rows(self, query: Query) -> list[Any]:
        """The rows of a statement that reads the log or the journal."""


async def seat(store: Logged) -> Seat:
    """Who sits there."""
    rows = await store.log_rows(Query(_SEAT))
    return Seat(*rows[0]) if rows else Seat("", 0, 0, "")


async def last_head(store: Logged) -> Head | None:
    """The newest head; None before the first."""
    return _head(await store.log_rows(Query(_LAST_HEAD)))


async def head_of(store: Logged, size: int) -> Head | None:
    """The head of that size."""
    return _head(await store.log_rows(Query(_HEAD, (size,))))


async def heads(store: Logged, *, after: int = 0, limit: int = 1_000) -> list[Head]:
    """Heads behind that size, smallest first."""
    rows = await store.log_rows(Query(_HEADS, (after, limit)))
    return [Head(row[0], (row[1], row[2], row[3]), *row[4:]) for row in rows]


async def turns(store: Logged) -> list[StoredTurn]:
    """All statements, oldest first."""
    return [StoredTurn(*row) for row in await store.log_rows(Query(_TURNS))]


async def tile(store: Logged, level: int, number: int) -> Tile | None:
    """One tile, as far as it is filled."""
    rows = await store.log_rows(Query(_TILE, (number, level)))
    if not rows:
        return None
    t, n, i, hashes = rows[0]
    return Tile(level, number, (t, n, i), bytes(hashes))


async def tile_at(store: Logged, place: Place) -> Tile | None:
    """The tile of leaves that a place falls into, when one does."""
    rows = await store.log_rows(Query(_TILE_AT, place))
    if not rows:
        return None
    number, t, n, i, hashes = rows[0]
    return Tile(0, number, (t, n, i), bytes(hashes))


async def entries(store: Logged, after: Place, *, limit: int) -> list[JournalRow]:
    """Journal entries behind a place, in order."""
    return [JournalRow(*row) for row in await store.log_rows(Query(_ENTRIES, (*after, limit)))]


async def entries_from(store: Logged, place: Place, *, limit: int) -> list[JournalRow]:
    """Journal entries from a place on, in order."""
    rows = await store.log_rows(Query(_ENTRIES_FROM, (*place, limit)))
    return [JournalRow(*row) for row in rows]


async def entry_of(store: Logged, type: int, id: str) -> JournalRow | None:
    """The journal entry behind a resource that has its index rows."""
    rows = await store.log_rows(Query(_ENTRY, (type, id)))
    return JournalRow(*rows[0]) if rows else None


async def rank(store: Logged, first: Place, place: Place) -> int:
    """How many entries stand from one place up to another, that one left out."""
    rows = await store.log_rows(Query(_RANK, (*first, *place)))
    return int(rows[0][0])


async def waiting(store: Logged, after: Place) -> tuple[int, int]:
    """How many entries stand behind a place (at most 100,000 are counted), and the time (µs) of
    the first of them; (0, 0) when there is none."""
    count, first = (await store.log_rows(Query(_WAITING, after)))[0]
    return int(count), int(first or 0)


def _head(rows: list[Any]) -> Head | None:
    if not rows:
        return None
    size, t, n, i, *rest = rows[0]
    return Head(size, (t, n, i), *rest)


_SEAT = "SELECT holder, fence, until, alarm FROM log_seat"
_HEAD_COLUMNS = "size, t, n, i, signed, note, beat"
_LAST_HEAD = f"SELECT {_HEAD_COLUMNS} FROM log_head ORDER BY size DESC LIMIT 1"  # noqa: S608 - constants
_HEAD = f"SELECT {_HEAD_COLUMNS} FROM log_head WHERE size = ?"  # noqa: S608 - constants
_HEADS = f"""
SELECT {_HEAD_COLUMNS} FROM log_head WHERE size > ? ORDER BY size LIMIT ?"""  # noqa: S608 - constants
_TURNS = "SELECT ordinal, size, kind, note, event FROM log_turn ORDER BY ordinal"
_TILE = "SELECT t, n, i, hashes FROM log_tile WHERE number = ? AND level = ?"
_TILE_AT = """
SELECT number, t, n, i, hashes FROM log_tile
WHERE level = 0 AND (t, n, i) <= (?, ?, ?) ORDER BY t DESC, n DESC, i DESC LIMIT 1"""
JOURNAL = (
    "j.t, j.n, j.i, j.type, j.id, j.home, j.updated, j.patient, j.owner, j.nonce, j.leaf, j.enc, "
    "j.body"
)
_ENTRIES = f"""
SELECT {JOURNAL} FROM journal j WHERE (j.t, j.n, j.i) > (?, ?, ?)
ORDER BY j.t, j.n, j.i LIMIT ?"""  # noqa: S608 - constants
_ENTRIES_FROM = f"""
SELECT {JOURNAL} FROM journal j WHERE (j.t, j.n, j.i) >= (?, ?, ?)
ORDER BY j.t, j.n, j.i LIMIT ?"""  # noqa: S608 - constants
_ENTRY = f"""
SELECT {JOURNAL} FROM locator l
JOIN resource r ON r.home = l.home AND r.type = l.type AND r.rid = l.rid
JOIN journal j ON j.t = r.t AND j.n = r.n AND j.type = l.type AND j.id = l.id
WHERE l.type = ? AND l.id = ? ORDER BY j.i LIMIT 1"""  # noqa: S608 - constants
_RANK = """
SELECT count(*) FROM journal WHERE (t, n, i) >= (?, ?, ?) AND (t, n, i) < (?, ?, ?)"""
_WAITING = """
SELECT count(*), min(updated) FROM
  (SELECT updated FROM journal WHERE (t, n, i) > (?, ?, ?) LIMIT 100000) w"""
