"""What changed, and what was: the change log read newest first, and a type as it once stood.

Generators of statements for every driver (see query.py); each row is read under an Access, a
superseded version too. Implements hl7.org/fhir/R4/http.html#history; a bulk export pages with
`scan`. Journal entries have no row in `change`: they stand in `journal`, in the same order of
commit, and get their resource numbers in that order.
"""

from __future__ import annotations

from heapq import merge
from typing import Any

from fhir_gateway.fhir.definitions import definitions
from fhir_gateway.fhir.keys import type_key
from fhir_gateway.security.actor import Access
from fhir_gateway.store import blobs
from fhir_gateway.store.dialect import SQLITE, Dialect
from fhir_gateway.store.history_times import first_batch
from fhir_gateway.store.narrow_sql import narrowed
from fhir_gateway.store.query import Part, Query, Steps
from fhir_gateway.store.query import Row as Found
from fhir_gateway.store.search_where import all_parts
from fhir_gateway.store.sight_sql import (
    HOME,
    HOME_BIGINT,
    Moment,
    Row,
    columns,
    seen,
    shape_of,
    sourced,
    values_of,
)
from fhir_gateway.store.store import Change, Stored

_NEVER = Moment()

#: The types whose resources are journal entries.
JOURNAL_TYPES = ("AuditEvent", "GuidanceResponse")

#: Journal entries come after the versions of their change set: their place is counted from here.
JOURNAL_PLACE = 1_000_000_000

Place = tuple[int, int, int]  # (t, n, i)

#: Columns of a Stored, of the version v where there is one, else of the resource r.
VERSION = ", ".join(
    f"CASE WHEN v.version IS NULL THEN r.{name} ELSE v.{name} END"
    for name in ("version", "updated", "deleted", "home", "rid", "owner", "enc", "body")
)
UPDATED = "CASE WHEN v.version IS NULL THEN r.updated ELSE v.updated END"
DELETED = "CASE WHEN v.version IS NULL THEN r.deleted ELSE v.deleted END"
_PLACE = "SELECT home, rid FROM locator WHERE type = ? AND id = ?"
_OF_ONE = """
  (SELECT t, n, rid, version FROM resource WHERE home = ? AND type = ? AND rid = ?
   UNION ALL SELECT t, n, rid, version FROM version WHERE home = ? AND rid = ?) k """
_THEIR_CHANGE = "change c ON c.t = k.t AND c.n = k.n AND c.rid = k.rid AND c.version = k.version"
_SUPERSEDING = """
        LEFT JOIN version x ON x.home = c.home AND x.rid = c.rid AND x.version = c.version + 1"""
#: Not superseded by a moment, and not a deletion before it.
_CURRENT_SINCE = f"""(r.version = c.version
          OR CASE WHEN r.version = c.version + 1 THEN r.updated ELSE x.updated END > ?)
        AND ({DELETED} = 0 OR {UPDATED} >= ?)"""
_ENTRY = "1, r.updated, 0, r.home, r.rid, r.owner, j.enc, j.body"


class Seen:
    """What an Access lets through at a moment, as SQL of one dialect."""

    def __init__(self, dialect: Dialect, access: Access, moment: Moment = _NEVER) -> None:
        self.dialect = dialect
        self._access = access
        self._moment = moment
        self._shape = shape_of(access)
        self._values = values_of(access, dialect, moment)

    @property
    def is_restricted(self) -> bool:
        """Whether rows of ordinary classes, other than AuditEvents, may be hidden."""
        return self._shape._replace(acts=False).is_restricted

    def as_of(self, t: int) -> Seen:
        """The same, by the openings and consents that stood at commit `t`."""
        return Seen(self.dialect, self._access, self._moment._replace(t=t))

    def of(self, alias: str, *, home: int | None = None) -> Part:
        """The row itself; of a statement about one home when that is given."""
        part = self._part(columns(alias, home=self._home(home)), home)
        narrow = self._access.narrow
        return part if narrow is None else all_parts([part, narrowed(narrow, self.dialect, alias)])

    def sourced(self, alias: str, *, home: int | None = None) -> Part:
        """A fact, or a report's link to its result."""
        return self._part(sourced(alias, self.dialect, home=self._home(home)), home)

    def both(self) -> Part:
        """The resource r and, where there is one, its version v."""
        sql, values = self.of("r")
        superseded, more = self._part(columns("v", type="r.type", key="r.key"))
        narrow = self._access.narrow
        if narrow is not None:
            let = narrowed(narrow, self.dialect, "v", type="r.type", superseded=True)
            superseded, more = all_parts([(superseded, more), let])
        return f"{sql} AND (v.version IS NULL OR ({superseded}))", [*values, *more]

    def _home(self, home: int | None) -> str:
        if home is None:
            return ""
        return HOME if self.dialect is SQLITE else HOME_BIGINT

    def _part(self, row: Row, home: int | None = None) -> Part:
        values = self._values if home is None else {**self._values, "home": home}
        return seen(self._shape, self.dialect, row, values)


# -- changes ---------------------------------------------------------------------------------


def changes(
    seen: Seen,
    *,
    type: str | None,
    id: str | None,
    since: int | None,
    until_t: int,
    at: tuple[int, int] | None,
    before: Place | None,
    limit: int,
) -> Steps[list[Change]]:
    """Versions newest first, see `Reader.changes`."""
    low = 0
    if since is not None:
        low = yield from first_batch(since, until_t)
    if at is not None:
        until_t = (yield from first_batch(at[1] + 1, until_t)) - 1
    high = before if before and before[0] <= until_t else (until_t + 1, 0, 0)
    if low > until_t:
        return []
    if type is None:
        log = yield from _versions(seen, None, None, low, high, at, limit)
        journal = yield from _journal(seen, low, high, limit)
        return list(merge(log, journal, key=_order, reverse=True))[:limit]
    place = None
    if id is not None:
        places = yield Query(_PLACE, (type_key(type), id))
        if not places:
            return []
        place = places[0]
    if type in JOURNAL_TYPES:
        return (yield from _entries(seen, type, place, low, high, limit))
    return (yield from _versions(seen, type, place, low, high, at, limit))


def _order(change: Change) -> Place:
    return change[:3]


def _versions(
    seen: Seen,
    type: str | None,
    place: Found | None,
    low: int,
    high: Place,
    at: tuple[int, int] | None,
    limit: int,
) -> Steps[list[Change]]:
    """Rows of the change log with the versions they tell of; of one resource when `place` is it."""
    dialect = seen.dialect
    values: list[Any] = []
    if place is not None and type is not None:
        source = f"{_OF_ONE}{dialect.then} {_THEIR_CHANGE}"
        values += [place[0], type_key(type), place[1], *place]
    else:
        source = f"change c{dialect.use('change_type') if type else ''}"
    conditions = ["c.t >= ?", "(c.t, c.n, c.i) < (?, ?, ?)"]
    bound: list[Any] = [low, *high]
    if type is not None:
        conditions.insert(0, "c.type = ?")
        bound.insert(0, type_key(type))
    superseding = ""
    if at is not None:
        superseding = _SUPERSEDING
        conditions.append(_CURRENT_SINCE)
        bound += [at[0], at[0]]
    visible, shown = seen.both()
    statement = f"""
        SELECT c.t, c.n, c.i, c.op, c.type, r.id, {VERSION}
        FROM {source}
        {dialect.then} resource r ON r.home = c.home AND r.type = c.type AND r.rid = c.rid
        LEFT JOIN version v ON r.version <> c.version
          AND v.home = c.home AND v.rid = c.rid AND v.version = c.version{superseding}
        WHERE {" AND ".join(conditions)} AND {visible}
        ORDER BY c.t DESC, c.n DESC, c.i DESC LIMIT ?"""  # noqa: S608 - made of constants
    rows = yield Query(statement, (*values, *bound, *shown, limit))
    return [_change(row) for row in rows]


def _journal(seen: Seen, low: int, high: Place, limit: int) -> Steps[list[Change]]:
    """The journal's own entries, of every type."""
    then = seen.dialect.then
    visible, shown = seen.of("r")
    statement = f"""
        SELECT j.t, j.n, j.i + {JOURNAL_PLACE}, 'create', j.type, j.id, {_ENTRY}
        FROM journal j {then} locator l ON l.type = j.type AND l.id = j.id
        {then} resource r ON r.home = l.home AND r.type = l.type AND r.rid = l.rid
          AND r.t = j.t AND r.n = j.n
        WHERE j.t >= ? AND (j.t, j.n, j.i) < (?, ?, ?) AND {visible}
        ORDER BY j.t DESC, j.n DESC, j.i DESC LIMIT ?"""  # noqa: S608 - made of constants
    t, n, i = high
    rows = yield Query(statement, (low, t, n, i - JOURNAL_PLACE, *shown, limit))
    return [_change(row) for row in rows]


def _entries(
    seen: Seen, type: str, place: Found | None, low: int, high: Place, limit: int
) -> Steps[list[Change]]:
    """The journal's entries of one type, or the one at this place."""
    first = place[1] if place else (yield from journal_number(seen.dialect, (low, 0, 0)))
    t, n, i = high
    end = yield from journal_number(seen.dialect, (t, n, max(i - JOURNAL_PLACE, 0)))
    if first is None:
        return []
    last = "r.rid = ? AND r.rid < ?" if place else "r.rid >= ? AND r.rid < ?"
    visible, shown = seen.of("r")
    statement = f"""
        SELECT j.t, j.n, j.i + {JOURNAL_PLACE}, 'create', r.type, r.id, {_ENTRY}
        FROM resource r{seen.dialect.use("resource_type")}
        {seen.dialect.then} journal j ON j.t = r.t AND j.n = r.n AND j.id = r.id
        WHERE r.type = ? AND {last} AND r.t >= ? AND {visible}
        ORDER BY r.rid DESC LIMIT ?"""  # noqa: S608 - made of constants
    most = (1 << 63) - 1
    values = (type_key(type), first, most if end is None else end, low, *shown, limit)
    rows = yield Query(statement, values)
    return [_change(row) for row in rows]


def journal_number(dialect: Dialect, place: Place) -> Steps[int | None]:
    """The resource number of the first journal entry at or after a place; None for none."""
    then = dialect.then
    statement = f"""
        SELECT r.rid FROM journal j {then} locator l ON l.type = j.type AND l.id = j.id
        {then} resource r ON r.home = l.home AND r.type = l.type AND r.rid = l.rid
          AND r.t = j.t AND r.n = j.n
        WHERE (j.t, j.n, j.i) >= (?, ?, ?) ORDER BY j.t, j.n, j.i LIMIT 1"""  # noqa: S608 - a hint
    rows = yield Query(statement, place)
    return rows[0][0] if rows else None


def _change(row: Found) -> Change:
    t, n, i, op, type, id = row[:6]
    return Change(t, n, i, op, stored(_name(type), id, row[6:]))


def stored(type: str, id: str, row: Found) -> Stored:
    """The Stored of a row with the columns of VERSION."""
    version, updated, deleted, home, rid, owner, enc, body = row
    tail = b"" if deleted else blobs.unpack(enc, body)
    return Stored(type, id, version, updated, bool(deleted), home, rid, owner, tail)


_NAMES: dict[int, str] = {}


def _name(key: int) -> str:
    if not _NAMES:
        _NAMES.update((type_key(name), name) for name in definitions().resource_types)
    return _NAMES[key]
