"""Reading the register of messages: rows, counters, and what waits on the list of dead letters.

Generators of statements for every driver (see query.py), and functions that ask a Reader. Rows say
whose message it was; who may see them is the caller's business: none of it is under an Access.
docs/messages.md
"""

# ruff: noqa: S608 - SQL is put together from constants; values are always bound

from __future__ import annotations

from base64 import b32decode, b32encode
from typing import NamedTuple

from fhir_gateway.store.blobs import unpack
from fhir_gateway.store.message_rows import MESSAGE_COLUMNS
from fhir_gateway.store.query import Part, Query, Row, Steps
from fhir_gateway.store.store import Reader

OPEN, RETRIED, OVERTAKEN, ASIDE = "open", "retried", "overtaken", "aside"


class Message(NamedTuple):
    """A row of the register, as in `MessageRow`. `id` is what a person asks for it by; `received`
    is the first time it came, `last` the last, in µs. `state` is "", open, retried, overtaken or
    aside; `who` and `reason` tell who decided that, at `settled` (µs)."""

    id: str
    institution: str
    door: str
    kind: str
    name: str
    key: bytes
    hash: bytes
    size: int
    outcome: str
    code: str
    rule: str
    issues: bytes
    ack: bytes
    stated: int
    issued: int
    received: int
    last: int
    attempts: int
    state: str
    settled: int
    who: str
    reason: str
    t: int
    n: int

    @property
    def place(self) -> Place:
        """Where it stands in the order of `messages`."""
        return (self.received, self.id)


#: (received, id): the next page goes on behind it.
Place = tuple[int, str]


class Count(NamedTuple):
    """What came in by a door of one kind; `last` is when (µs)."""

    institution: str
    door: str
    kind: str
    received: int
    stored: int
    flagged: int
    refused: int
    repeated: int
    last: int


def shown_id(id: bytes) -> str:
    """The id of a row as people write it: 26 letters and digits."""
    return b32encode(id).decode("ascii").rstrip("=").lower()


def id_of(text: str) -> bytes:
    """The inverse of `shown_id`; b"" for what is none."""
    try:
        id = b32decode(text.upper() + "=" * (-len(text) % 8))
    except ValueError:
        return b""
    return id if len(id) == 16 else b""


_COLUMNS = ", ".join(MESSAGE_COLUMNS)


async def message(reader: Reader, institution: str, id: str) -> Message | None:
    """The message with this id, where it is this institution's; None for any other."""
    found = await reader.steps(lambda _: find_message(id))
    return found if found is not None and found.institution == institution else None


class Asked(NamedTuple):
    """Which messages are meant: None asks for any. `since` and `until` bound the time at which
    they first came (µs, until not included)."""

    name: str | None = None
    key: bytes | None = None
    door: str | None = None
    kind: str | None = None
    outcome: str | None = None
    rule: str | None = None
    state: str | None = None
    since: int | None = None
    until: int | None = None


async def messages(
    reader: Reader,
    institution: str,
    asked: Asked = Asked(),  # noqa: B008 - immutable
    *,
    after: Place | None = None,
    newest: bool = False,
    limit: int = 100,
) -> list[Message]:
    """Messages of an institution in the order in which they first came, or the newest first; the
    next page goes on `after` the place of the last."""
    terms, values = ["institution = ?"], [institution, *_values(asked)]
    terms += [term for name, value in asked._asdict().items() if (term := _term(name, value))]
    if after is not None:
        terms.append(f"(received, id) {'<' if newest else '>'} (?, ?)")
        values += [after[0], id_of(after[1])]
    where = (" AND ".join(terms), values)
    return await reader.steps(lambda _: _messages(where, newest, limit))


def _term(name: str, value: object) -> str:
    """One condition; what is open is found by an index that is partial, so it says so itself."""
    if value is None:
        return ""
    if name == "state" and value == OPEN:
        return f"state = '{OPEN}'"
    return {"since": "received >= ?", "until": "received < ?"}.get(name, f"{name} = ?")


def _values(asked: Asked) -> list[object]:
    return [
        value
        for name, value in asked._asdict().items()
        if value is not None and (name, value) != ("state", OPEN)
    ]


def _messages(where: Part, newest: bool, limit: int) -> Steps[list[Message]]:
    way = "DESC" if newest else "ASC"
    rows = yield Query(
        f"SELECT {_COLUMNS} FROM message WHERE {where[0]}"
        f" ORDER BY received {way}, id {way} LIMIT ?",
        (*where[1], limit),
    )
    return [_message(row) for row in rows]


def find_message(id: str) -> Steps[Message | None]:
    """The message with this id, whosever it is."""
    rows = yield Query(f"SELECT {_COLUMNS} FROM message WHERE id = ?", (id_of(id),))
    return _message(rows[0]) if rows else None


def _message(row: Row) -> Message:
    return Message(shown_id(bytes(row[0])), *row[1:])


def count_steps(institution: str | None = None) -> Steps[list[Count]]:
    """The counters of an institution, or of all."""
    where, values = ("", ()) if institution is None else ("WHERE institution = ?", (institution,))
    rows = yield Query(
        "SELECT institution, door, kind, received, stored, flagged, refused, repeated, last"
        f" FROM message_count {where} ORDER BY institution, door, kind",
        values,
    )
    return [Count(*row) for row in rows]


async def received_bytes(reader: Reader, hash: bytes) -> tuple[str, bytes] | None:
    """Media type and bytes as a door received them, of what was refused too; None when they were
    never kept, or are not any more."""
    found = await reader.received(hash)
    if found is not None:
        return found
    return await reader.steps(lambda _: _refused(hash))


def _refused(hash: bytes) -> Steps[tuple[str, bytes] | None]:
    rows = yield Query("SELECT media, enc, body FROM refused WHERE hash = ?", (hash,))
    return (rows[0][0], unpack(rows[0][1], bytes(rows[0][2]))) if rows else None


class Kept(NamedTuple):
    """Bytes of a refused message: when they came (µs), how many they are, and their hash."""

    at: int
    size: int
    hash: bytes


def kept_steps(institution: str) -> Steps[int]:
    """How many bytes of refused messages of an institution are kept; by an index alone."""
    rows = yield Query("SELECT sum(size) FROM refused WHERE institution = ?", (institution,))
    return int(rows[0][0] or 0)


def oldest_steps(institution: str, limit: int) -> Steps[list[Kept]]:
    """The oldest of them."""
    rows = yield Query(
        "SELECT at, size, hash FROM refused WHERE institution = ? ORDER BY at, size, hash LIMIT ?",
        (institution, limit),
    )
    return [Kept(row[0], row[1], bytes(row[2])) for row in rows]


def expired_steps(before: int, limit: int) -> Steps[list[bytes]]:
    """Hashes of bytes that came before a time, of every institution; so many at most."""
    institutions = yield Query("SELECT DISTINCT institution FROM message_count")
    gone: list[bytes] = []
    for (institution,) in institutions:
        if len(gone) >= limit:
            break
        rows = yield Query(
            "SELECT hash FROM refused WHERE institution = ? AND at < ? ORDER BY at LIMIT ?",
            (institution, before, limit - len(gone)),
        )
        gone += [bytes(row[0]) for row in rows]
    return gone
