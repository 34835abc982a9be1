"""What a commit wrote, and which received bytes a version was made from.

Generators of statements for every driver (see query.py). None of it is under an Access: who asks
checks whose message it is. docs/trace.md
"""

# ruff: noqa: S608 - SQL is put together from constants; values are always bound

from __future__ import annotations

from typing import NamedTuple

from fhir_gateway.store.blobs import IN_JOURNAL
from fhir_gateway.store.message_rows import MESSAGE_COLUMNS
from fhir_gateway.store.messages import Message, shown_id
from fhir_gateway.store.query import Query, Steps

_MESSAGE = ", ".join(MESSAGE_COLUMNS)


class Wrote(NamedTuple):
    """One version that a commit stored: `source` is the hash of the bytes it was made from."""

    type: int  # keys.type_key
    id: str
    version: int
    op: str
    source: bytes


class Made(NamedTuple):
    """The hash of the bytes that a version was made from, b"" for none, and its commit."""

    source: bytes
    t: int
    n: int


def written_steps(t: int, n: int) -> Steps[list[Wrote]]:
    """The versions of a commit in their order. Records of the journal are none."""
    rows = yield Query(
        "SELECT c.type, r.id, c.version, c.op, r.version, r.source, c.home, c.rid FROM change c"
        " JOIN resource r ON r.home = c.home AND r.type = c.type AND r.rid = c.rid"
        f" WHERE c.t = ? AND c.n = ? AND r.enc <> {IN_JOURNAL} ORDER BY c.i",
        (t, n),
    )
    found = []
    for type, id, version, op, current, source, home, rid in rows:
        if version == current:
            made = bytes(source or b"")
        else:
            made = (yield from _superseded(home, rid, version)).source
        found.append(Wrote(type, id, version, op, made))
    return found


def made_steps(home: int, type: int, rid: int, version: int) -> Steps[Made | None]:
    """Of what a version was made; None where it is not there."""
    rows = yield Query(
        "SELECT source, t, n FROM resource WHERE home = ? AND type = ? AND rid = ? AND version = ?",
        (home, type, rid, version),
    )
    if rows:
        return Made(bytes(rows[0][0] or b""), rows[0][1], rows[0][2])
    found = yield from _superseded(home, rid, version)
    return found if found.t >= 0 else None


def _superseded(home: int, rid: int, version: int) -> Steps[Made]:
    rows = yield Query(
        "SELECT source, t, n FROM version WHERE home = ? AND rid = ? AND version = ?",
        (home, rid, version),
    )
    return Made(bytes(rows[0][0] or b""), rows[0][1], rows[0][2]) if rows else Made(b"", -1, -1)


def message_steps(institution: str, made: Made, at: int) -> Steps[Message | None]:
    """The message of which a version was made that was committed at `at` (µs): the one that came
    then; else, of those of the same content, the one whose commit it was."""
    came = yield Query(
        f"SELECT {_MESSAGE} FROM message WHERE institution = ? AND received = ? AND hash = ?",
        (institution, at, made.source),
    )
    if not came:
        came = yield Query(
            f"SELECT {_MESSAGE} FROM message WHERE institution = ? AND received <= ? AND last >= ?"
            " AND hash = ? ORDER BY received DESC LIMIT 2",
            (institution, at, at, made.source),
        )
    found = [Message(shown_id(bytes(row[0])), *row[1:]) for row in came]
    return next((one for one in found if (one.t, one.n) == (made.t, made.n)), None) or (
        found[0] if found else None
    )
