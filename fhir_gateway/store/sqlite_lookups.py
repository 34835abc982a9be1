"""The answers of a batch on SQLite: a statement each, inside the write transaction."""

from __future__ import annotations

import apsw
import msgspec

from fhir_gateway.fhir.keys import type_key
from fhir_gateway.store import statements as sql
from fhir_gateway.store.changes import Absent, Settled
from fhir_gateway.store.lookups import Current
from fhir_gateway.store.rows import Rows
from fhir_gateway.store.sqlite_rows import write


class SqliteLookups:
    """See lookups.Lookups. What is taken is written at once, so that later answers know it."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        self._execute = connection.execute

    def current(self, type: int, id: str) -> Current | None:
        """The current version, also a deletion; None when never stored."""
        row = self._execute(sql.CURRENT, (type, id)).get
        return Current(*row) if row else None

    def home(self, type: int, id: str) -> int | None:
        """The home of a resource that was ever stored."""
        home: int | None = self._execute(sql.HOME, (type, id)).get
        return home

    def home_of_identity(self, key: bytes) -> int | None:
        """The home of the person with this identity key of kind 1 (document and name)."""
        home: int | None = self._execute(sql.HOME_OF_IDENTITY, (key,)).get
        return home

    def body(self, type: int, id: str) -> tuple[int, bytes]:
        """Encoding and body of the current version of a resource that is there."""
        row: tuple[int, bytes] = self._execute(sql.BODY, (type, id)).get
        return row

    def outcome(self, id: bytes) -> bytes | None:
        """The encoded outcome of a change set that was judged before."""
        outcome: bytes | None = self._execute(sql.CHANGE_SET, (id,)).get
        return outcome

    def once(self, kind: str, key: bytes) -> tuple[int, int, int, bytes] | None:
        """(t, n, updated, response) of an earlier use of the key."""
        row: tuple[int, int, int, bytes] | None = self._execute(sql.ONCE, (kind, key)).get
        return row

    def counter(self, key: bytes) -> int:
        """Where the counter stands."""
        count: int = self._execute(sql.COUNTER, (key,)).get or 0
        return count

    def matches(self, guard: Absent) -> list[str]:
        """Ids of current resources with this token, at least two when there are several."""
        token = (type_key(guard.type), guard.parameter, guard.v1, guard.v2)
        return [id for (id,) in self._execute(sql.MATCHES, token)]

    def changed(self, guard: Settled) -> bool:
        """Whether a version of these types and homes came after the guard's commit."""
        types = msgspec.json.encode([type_key(type) for type in guard.types]).decode()
        homes = msgspec.json.encode(guard.homes).decode() if guard.homes else None
        return bool(self._execute(sql.CHANGED, (guard.since, types, homes)).get)

    def take(self, rows: Rows) -> None:
        """Writes what was gathered, and empties it."""
        write(self._connection, rows)
