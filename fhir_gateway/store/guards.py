"""The guards of a change set, judged in order under the write lock.

Each judge looks at the database as the batch has made it so far and raises the refusal; what a
passed guard has to leave behind (a used key, a counter) is written by `keep`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import apsw

from fhir_gateway.errors import Conflict, Duplicate, GatewayError, PreconditionFailed, Unprocessable
from fhir_gateway.fhir.keys import type_key
from fhir_gateway.store import statements as sql
from fhir_gateway.store.changes import (
    Absent,
    ChangeSet,
    Counter,
    Exists,
    Guard,
    Unique,
    VersionIs,
)
from fhir_gateway.store.refusals import AlreadyThere, SeveralThere


def judge(connection: apsw.Connection, change_set: ChangeSet) -> dict[bytes, int]:
    """The counters as they will stand. Raises what the first guard that fails says."""
    counters: dict[bytes, int] = {}
    used: set[tuple[str, bytes]] = set()
    for index, guard in enumerate(change_set.guards):
        try:
            if isinstance(guard, Counter):
                counters[guard.key] = _count(connection, guard, counters)
            elif isinstance(guard, Unique):
                _unique(connection, guard, used)
            elif isinstance(guard, Exists):
                _exists(connection, guard, change_set)
            else:
                _JUDGES[type(guard)](connection, guard)
        except GatewayError as error:
            vars(error)["guard"] = index
            raise
    return counters


def keep(
    connection: apsw.Connection,
    change_set: ChangeSet,
    counters: Mapping[bytes, int],
    *,
    at: tuple[int, int, int],
) -> None:
    """Writes what the passed guards leave behind; `at` is (t, n, updated)."""
    for guard in change_set.guards:
        if isinstance(guard, Unique):
            connection.execute(sql.ADD_ONCE, (guard.kind, guard.key, *at, b""))
    if counters:
        connection.executemany(sql.SET_COUNTER, counters.items())


def _version(connection: apsw.Connection, guard: VersionIs) -> None:
    row = connection.execute(sql.CURRENT, (type_key(guard.type), guard.id)).get
    version, deleted = (row[2], row[3]) if row else (0, 1)
    if guard.version == 0 and deleted:
        return
    if guard.version == -1 and not deleted:
        return
    if guard.version > 0 and guard.version == version:
        return
    raise PreconditionFailed(_VERSION_REFUSALS.get(guard.version, _STALE), rule="version")


_STALE = "If-Match names a version that is not the current one; read the resource again"
_VERSION_REFUSALS = {0: "The resource is already there", -1: "The resource is not there"}


def _absent(connection: apsw.Connection, guard: Absent) -> None:
    found: list[Any] = connection.execute(
        sql.MATCHES, (type_key(guard.type), guard.parameter, guard.v1, guard.v2)
    ).fetchall()
    if not found:
        return
    matches = [(guard.type, id) for (id,) in found]
    if len(matches) > 1:
        several = SeveralThere("The condition names several resources", rule="if-none-exist")
        several.matches = matches
        raise several
    one = AlreadyThere("A resource that meets the condition is there", rule="if-none-exist")
    one.matches = matches
    raise one


def _exists(connection: apsw.Connection, guard: Exists, change_set: ChangeSet) -> None:
    type, _, id = guard.reference.partition("/")
    for put in change_set.puts:
        if put.id == id and put.type == type and put.op != "delete":
            return
    row = connection.execute(sql.CURRENT, (type_key(type), id)).get
    if row and not row[3]:
        return
    raise Unprocessable(
        "The reference names a resource that is not stored here",
        expression=guard.expression,
        rule="reference-unknown",
    )


def _unique(connection: apsw.Connection, guard: Unique, used: set[tuple[str, bytes]]) -> None:
    key = (guard.kind, guard.key)
    if key in used or connection.execute(sql.ONCE, key).get:
        raise Duplicate(f"The {guard.kind} was used before", rule="unique")
    used.add(key)


def _count(connection: apsw.Connection, guard: Counter, counters: Mapping[bytes, int]) -> int:
    stored = connection.execute(sql.COUNTER, (guard.key,)).get or 0
    count = counters.get(guard.key, stored) + guard.by
    if 0 <= count <= guard.cap:
        return count
    raise Conflict("Nothing is left of what was asked for", rule="counter")


_JUDGES: dict[type[Guard], Callable[[apsw.Connection, Any], None]] = {
    VersionIs: _version,
    Absent: _absent,
}
