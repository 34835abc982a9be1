"""All that a store holds in the order of its commits, for a replay: versions, messages, facts.

Generators of statements for every driver (see query.py); each yields one page. They are not under
an Access: the operator who replays a store holds both. docs/trace.md
"""

# ruff: noqa: S608 - SQL is put together from constants; values are always bound

from __future__ import annotations

from typing import NamedTuple

from fhir_gateway.store.blobs import IN_JOURNAL, unpack
from fhir_gateway.store.message_rows import MESSAGE_COLUMNS
from fhir_gateway.store.messages import Message, shown_id
from fhir_gateway.store.query import Query, Steps

_MESSAGE = ", ".join(MESSAGE_COLUMNS)

#: Columns of a fact that mean the same in every store; numbers of rows, homes and commits do not.
_FACT = (
    "item, time, time_high, issued, kind, status, issuer, specimen, unit, method, value,"
    " laterality, flags, mark, source, more, version, patient, sensitivity"
)


class Version(NamedTuple):
    """One version in the order of commits; `tail` is b"" for a deletion."""

    place: tuple[int, int, int]
    type: int  # keys.type_key
    id: str
    version: int
    op: str
    updated: int
    home: int
    owner: int
    source: bytes
    tail: bytes


def version_steps(after: tuple[int, int, int], until_t: int, limit: int) -> Steps[list[Version]]:
    """Versions behind a place of the change log, without records of the journal.

    The page is cut by rows of the log: fewer than `limit` of them say that there are no more, so
    that the last place is told by an entry of type 0 where the page ends with a record.
    """
    rows = yield Query(
        "SELECT c.t, c.n, c.i, c.type, c.version, c.op, c.home, c.rid, r.id, r.version, r.updated,"
        " r.deleted, r.owner, r.source, r.enc, r.body FROM change c"
        " LEFT JOIN resource r ON r.home = c.home AND r.type = c.type AND r.rid = c.rid"
        " WHERE (c.t, c.n, c.i) > (?, ?, ?) AND c.t <= ? ORDER BY c.t, c.n, c.i LIMIT ?",
        (*after, until_t, limit),
    )
    found = []
    for row in rows:
        place = (row[0], row[1], row[2])
        type, version, op, home, rid, id, current = row[3:10]
        if id is None or row[14] == IN_JOURNAL:
            found.append(Version(place, 0, "", 0, op, 0, home, 0, b"", b""))
            continue
        told = row[10:16]
        if version != current:
            older = yield Query(
                "SELECT updated, deleted, owner, source, enc, body FROM version"
                " WHERE home = ? AND rid = ? AND version = ?",
                (home, rid, version),
            )
            if not older:
                continue
            told = older[0]
        updated, deleted, owner, source, enc, body = told
        tail = b"" if deleted or body is None else unpack(enc, bytes(body))
        found.append(Version(place, type, id, version, op, updated, home, owner,
                             bytes(source or b""), tail))  # fmt: skip
    return found


def messages_steps(
    after: tuple[int, int, bytes], since: int, until: int, limit: int
) -> Steps[list[tuple[bytes, Message]]]:
    """Messages of all institutions in the order of the commits that settled them, those that came
    in a time (µs): (id, message)."""
    rows = yield Query(
        f"SELECT {_MESSAGE} FROM message WHERE (t, n, id) > (?, ?, ?)"
        " AND received >= ? AND received < ? ORDER BY t, n, id LIMIT ?",
        (*after, since, until, limit),
    )
    return [(bytes(row[0]), Message(shown_id(bytes(row[0])), *row[1:])) for row in rows]


def fact_steps(home: int) -> Steps[list[tuple[object, ...]]]:
    """What is known in a home at the end: its facts that stand, without the store's own numbers."""
    rows = yield Query(
        f"SELECT {_FACT} FROM fact WHERE home = ? AND t_to = 9223372036854775807", (home,)
    )
    return [tuple(row) for row in rows]
