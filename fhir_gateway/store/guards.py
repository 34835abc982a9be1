"""The guards of a change set, judged in order under the write lock.

Each judge looks at the database as the batch has made it so far and raises the refusal; what a
passed guard has to leave behind (a used key, a counter) is gathered by `keep`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from typing import Any

from fhir_gateway.errors import Conflict, Duplicate, GatewayError, PreconditionFailed, Unprocessable
from fhir_gateway.fhir.keys import type_key
from fhir_gateway.store.changes import (
    NEVER,
    Absent,
    ChangeSet,
    Counter,
    Exists,
    Guard,
    Settled,
    Unique,
    VersionIs,
)
from fhir_gateway.store.lookups import Lookups
from fhir_gateway.store.refusals import AlreadyThere, SeveralThere
from fhir_gateway.store.rows import Rows


def judge(lookups: Lookups, change_set: ChangeSet) -> dict[bytes, int]:
    """The counters as they will stand. Raises what the first guard that fails says."""
    counters: dict[bytes, int] = {}
    used: set[tuple[str, bytes]] = set()
    put = {f"{put.type}/{put.id}" for put in change_set.puts if put.op != "delete"}
    for index, guard in enumerate(change_set.guards):
        try:
            if isinstance(guard, Counter):
                counters[guard.key] = _count(lookups, guard, counters)
            elif isinstance(guard, Unique):
                _unique(lookups, guard, used)
            elif isinstance(guard, Exists):
                _exists(lookups, guard, put)
            else:
                _JUDGES[type(guard)](lookups, guard)
        except GatewayError as error:
            vars(error)["guard"] = index
            raise
    return counters


def keep(
    rows: Rows,
    change_set: ChangeSet,
    counters: Mapping[bytes, int],
    *,
    at: tuple[int, int, int],
) -> None:
    """Gathers what the passed guards leave behind; `at` is (t, n, updated)."""
    for guard in change_set.guards:
        if isinstance(guard, Unique):
            rows.once.append((guard.kind, guard.key, *at, b""))
    rows.counter += counters.items()


def _version(lookups: Lookups, guard: VersionIs) -> None:
    current = lookups.current(type_key(guard.type), guard.id)
    version, deleted = (current.version, current.deleted) if current else (0, 1)
    if guard.version == 0 and deleted:
        return
    if guard.version == NEVER and current is None:
        return
    if guard.version == -1 and not deleted:
        return
    if guard.version > 0 and guard.version == version:
        return
    raise PreconditionFailed(_VERSION_REFUSALS.get(guard.version, _STALE), rule="version")


_STALE = "If-Match names a version that is not the current one; read the resource again"
_VERSION_REFUSALS = {
    0: "The resource is already there", -1: "The resource is not there",
    NEVER: "This id was given before",
}  # fmt: skip


def _absent(lookups: Lookups, guard: Absent) -> None:
    matches = [(guard.type, id) for id in lookups.matches(guard)]
    if not matches:
        return
    if len(matches) > 1:
        several = SeveralThere("The condition names several resources", rule="if-none-exist")
        several.matches = matches
        raise several
    one = AlreadyThere("A resource that meets the condition is there", rule="if-none-exist")
    one.matches = matches
    raise one


def _exists(lookups: Lookups, guard: Exists, put: Set[str]) -> None:
    if guard.reference in put:
        return
    type, _, id = guard.reference.partition("/")
    current = lookups.current(type_key(type), id)
    if current and not current.deleted:
        return
    raise Unprocessable(
        "The reference names a resource that is not stored here",
        expression=guard.expression,
        rule="reference-unknown",
    )


def _unique(lookups: Lookups, guard: Unique, used: set[tuple[str, bytes]]) -> None:
    key = (guard.kind, guard.key)
    if key in used or lookups.once(guard.kind, guard.key):
        raise Duplicate(f"The {guard.kind} was used before", rule="unique")
    used.add(key)


def _count(lookups: Lookups, guard: Counter, counters: Mapping[bytes, int]) -> int:
    known = counters.get(guard.key)
    count = (lookups.counter(guard.key) if known is None else known) + guard.by
    if 0 <= count <= guard.cap:
        return count
    raise Conflict("Nothing is left of what was asked for", rule="counter")


def _settled(lookups: Lookups, guard: Settled) -> None:
    if lookups.changed(guard):
        raise Conflict("What the condition was judged by has changed", rule="overtaken")


_JUDGES: dict[type[Guard], Callable[[Lookups, Any], None]] = {
    VersionIs: _version,
    Absent: _absent,
    Settled: _settled,
}
