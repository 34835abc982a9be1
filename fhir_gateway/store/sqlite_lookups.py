"""The answers of a batch on SQLite: a statement each, inside the write transaction."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import apsw
import msgspec

from fhir_gateway.fhir.keys import type_key
from fhir_gateway.store import statements as sql
from fhir_gateway.store.changes import Absent, ChangeSet, Exists, Settled, VersionIs
from fhir_gateway.store.lookups import Current, Edge, Held, Opened, OpeningKey, Place
from fhir_gateway.store.rows import Rows
from fhir_gateway.store.sqlite_claims import SqliteSeating
from fhir_gateway.store.sqlite_rows import write

_PATIENT = type_key("Patient")

#: From so many resources on they are looked up together; a few are found faster one by one.
_MANY = 4


class SqliteLookups(SqliteSeating):
    """See lookups.Lookups. What is taken is written at once, so that later answers know it."""

    def __init__(self, connection: apsw.Connection) -> None:
        super().__init__(connection)
        self._connection = connection
        self._current: dict[tuple[int, str], Current | None] = {}  # guards and places ask the same

    def foresee(self, change_set: ChangeSet) -> None:
        """Looks up at once what judging and placing a change set asks for one by one."""
        names = {(type_key(put.type), put.id) for put in change_set.puts}
        if len(names) < _MANY:
            return
        for guard in change_set.guards:
            if isinstance(guard, VersionIs):
                names.add((type_key(guard.type), guard.id))
            elif isinstance(guard, Exists):
                type, _, id = guard.reference.partition("/")
                names.add((type_key(type), id))
        self._current |= dict.fromkeys(names)
        for type, id, *row in self._execute(sql.CURRENTS, (_json(names),)):
            self._current[type, id] = Current(*row)

    def current(self, type: int, id: str) -> Current | None:
        """The current version, also a deletion; None when never stored."""
        key = (type, id)
        if key in self._current:
            return self._current[key]
        row = self._execute(sql.CURRENT, key).get
        found = self._current[key] = Current(*row) if row else None
        return found

    def home(self, type: int, id: str) -> int | None:
        """The home of a resource that was ever stored."""
        home: int | None = self._execute(sql.HOME, (type, id)).get
        return home

    def home_of_identity(self, key: bytes) -> int | None:
        """The home of the person with this identity key of kind 1 (document and name)."""
        home: int | None = self._execute(sql.HOME_OF_IDENTITY, (key,)).get
        return home

    def homes_of_key(self, key: bytes) -> dict[int, int]:
        """The homes of those who bear an identity key of kind 1, by the Patient's number."""
        return {rid: home for rid, home in self._execute(sql.HOMES_OF_KEY, (key,))}

    def keys_of_home(self, home: int) -> list[tuple[bytes, int]]:
        """(key, number of the Patient) of the identity keys of kind 1 in a home."""
        keys: list[Any] = self._execute(sql.KEYS_OF_HOME, (home, _PATIENT)).fetchall()
        return keys

    def aliases(self, home: int) -> dict[Edge, int]:
        """The live aliases from a home, with the commit at which each began."""
        return _edges(self._execute(sql.ALIASES, (home,)))

    def aliases_of(self, source: int) -> dict[Edge, int]:
        """The live aliases that a resource (key64) has given rise to."""
        return _edges(self._execute(sql.ALIASES_OF, (source,)))

    def proposals_of(self, source: int) -> dict[Edge, int]:
        """The live proposals that a resource (key64) has given rise to."""
        return _edges(self._execute(sql.PROPOSALS_OF, (source,)))

    def person(self, home: int) -> tuple[int, int] | None:
        """(person, commit at which that began) of a home that is connected with others."""
        row: tuple[int, int] | None = self._execute(sql.PERSON, (home,)).fetchone()
        return row

    def opened(self, key: OpeningKey) -> Opened | None:
        """The live opening of that key which no resource stands for."""
        row = self._execute(sql.OPENED, key).fetchone()
        return Opened(*row) if row else None

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
        owners = None if guard.owners is None else _json(guard.owners)
        token = (type_key(guard.type), guard.parameter, guard.v1, guard.v2, owners)
        return [id for (id,) in self._execute(sql.MATCHES, token)]

    def changed(self, guard: Settled) -> bool:
        """Whether a version of these types and homes came after the guard's commit."""
        types = msgspec.json.encode([type_key(type) for type in guard.types]).decode()
        homes = msgspec.json.encode(guard.homes).decode() if guard.homes else None
        return bool(self._execute(sql.CHANGED, (guard.since, types, homes)).get)

    def held(self, places: Sequence[Place]) -> Held:
        """What the current versions in these places have given rise to."""
        rows, acl = Rows(), dict[int, tuple[int, int]]()
        homes: dict[int, list[int]] = {}
        for place in places:
            acl[place.rid] = self._execute(sql.HELD_ACL, place).get
            homes.setdefault(place.home, []).append(place.rid)
        for home, rids in homes.items():
            self._hold(rows, home, rids)
        listed = (_json(place.rid for place in places),)
        rows.evaluation += self._execute(sql.HELD_EVALUATIONS, listed)
        rows.identity += self._execute(sql.HELD_IDENTITY, listed)
        return Held(rows, acl)

    def _hold(self, rows: Rows, home: int, rids: list[int]) -> None:
        """Adds the rows of one home: a person's in one go, one that many share by resource."""
        execute = self._execute
        person = home > 0
        where = sql.HELD_OF_PERSON if person else sql.HELD_SHARED
        for last in [_json(rids)] if person else rids:
            for *row, is_global in execute(sql.HELD_INTS + where, (home, last)):
                rows.px.append(tuple(row))
                if is_global:
                    rows.gx.append((*row[1:4], home, row[4]))
            for *row, is_global in execute(sql.HELD_TEXTS + where, (home, last)):
                rows.px_text.append(tuple(row))
                if is_global:
                    rows.gx_text.append((*row[1:3], home, row[3]))
            if person:
                rows.fact += execute(sql.HELD_FACTS + where, (home, last))
                rows.result_of += execute(sql.HELD_LINKS + where, (home, last))
                rows.opening += execute(sql.HELD_OPENINGS + where, (home, last))
                rows.consent += execute(sql.HELD_CONSENTS + where, (home, last))

    def take(self, rows: Rows) -> None:
        """Writes what was gathered, and empties it."""
        self._current.clear()
        write(self._connection, rows)


def _edges(rows: Iterable[Any]) -> dict[Edge, int]:
    return {Edge(*row[:4]): row[4] for row in rows}


def _json(numbers: Iterable[Any]) -> str:
    return msgspec.json.encode(list(numbers)).decode()
