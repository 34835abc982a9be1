"""Clients and the tokens that they were given: what is read and written, for every driver.

Generators of statements (see query.py) and the statements of a batch. None of it is a patient's:
it is read under whatever Access a Reader was opened with.
"""

from __future__ import annotations

from typing import NamedTuple

from fhir_gateway.store.query import Query, Row, Steps


class KeptClient(NamedTuple):
    """A client as it is stored. `updated` is in microseconds."""

    id: str
    active: bool
    updated: int
    body: bytes


class KeptToken(NamedTuple):
    """A token as it is stored, by its hash. Times are in microseconds."""

    hash: bytes
    client: str
    active: bool
    issued: int
    until: int
    body: bytes


SET_CLIENT = """
INSERT INTO client (id, active, updated, body) VALUES (?, ?, ?, ?)
ON CONFLICT (id) DO UPDATE SET active = excluded.active, updated = excluded.updated,
  body = excluded.body"""
SET_ISSUED = """
INSERT INTO client_token (hash, client, active, issued, "until", body) VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT (hash) DO UPDATE SET active = excluded.active"""
DROP_ISSUED = "DELETE FROM client_token WHERE hash = ?"

_CLIENT = "SELECT id, active, updated, body FROM client"
_ISSUED = 'SELECT hash, client, active, issued, "until", body FROM client_token'


def client(id: str) -> Steps[KeptClient | None]:
    """The client with this id, also one that is not active."""
    rows = yield Query(f"{_CLIENT} WHERE id = ?", (id,))
    return _client(rows[0]) if rows else None


def clients() -> Steps[list[KeptClient]]:
    """All clients by id."""
    rows = yield Query(f"{_CLIENT} ORDER BY id")
    return [_client(row) for row in rows]


def token(hash: bytes) -> Steps[KeptToken | None]:
    """The token with this hash, also one that was ended or has expired."""
    rows = yield Query(f"{_ISSUED} WHERE hash = ?", (hash,))
    return _token(rows[0]) if rows else None


def tokens_of(client: str, *, now: int, limit: int) -> Steps[list[KeptToken]]:
    """The tokens of a client that hold, those that end last first."""
    rows = yield Query(
        f'{_ISSUED} WHERE client = ? AND "until" > ? AND active = 1'
        ' ORDER BY "until" DESC, hash LIMIT ?',
        (client, now, limit),
    )
    return [_token(row) for row in rows]


def expired(before: int, limit: int) -> Steps[list[bytes]]:
    """Hashes of tokens that have ended."""
    rows = yield Query(
        'SELECT hash FROM client_token WHERE "until" < ? ORDER BY "until" LIMIT ?', (before, limit)
    )
    return [row[0] for row in rows]


def _client(row: Row) -> KeptClient:
    return KeptClient(row[0], bool(row[1]), row[2], row[3])


def _token(row: Row) -> KeptToken:
    return KeptToken(row[0], row[1], bool(row[2]), row[3], row[4], row[5])
