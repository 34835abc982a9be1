"""A type as it stood at one commit, in the order of resource numbers: what a bulk export reads.

Generators of statements for every driver (see query.py). Each statement visits a bounded piece of
the type, so that none is long, however few of its resources are wanted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from fhir_gateway.fhir.home import home_of
from fhir_gateway.fhir.keys import type_key
from fhir_gateway.store.history_sql import (
    DELETED,
    JOURNAL_TYPES,
    UPDATED,
    VERSION,
    Seen,
    journal_number,
    stored,
)
from fhir_gateway.store.history_times import first_batch
from fhir_gateway.store.query import Part, Query, Row, Steps
from fhir_gateway.store.store import Stored

#: Rows of the type that one statement visits: grows while few of them are wanted.
_FIRST_PIECE, _LARGEST_PIECE = 1_000, 16_000

#: Time ranges that hold less than this part of all batches are read from the change log.
_NARROW = 4


class Wanted(NamedTuple):
    """What a scan is after. `low` is the first batch that counts, 0 for all."""

    type: str
    until_t: int
    low: int
    updated_from: int
    deleted: bool
    patients: tuple[str, ...] | None


def scan(
    seen: Seen,
    *,
    type: str,
    until_t: int,
    after_rid: int,
    limit: int,
    updated_from: int | None,
    patients: Sequence[str] | None,
    deleted: bool,
) -> Steps[list[Stored]]:
    """Resources in the version that was current at `until_t`, see `Reader.scan`."""
    low = 0
    if updated_from is not None:
        low = yield from first_batch(updated_from, until_t)
        if low > until_t:
            return []
    who = None if patients is None else tuple(patients)
    wanted = Wanted(type, until_t, low, updated_from or 0, deleted, who)
    if who is not None:
        return (yield from _of_patients(seen, wanted, after_rid, limit))
    if type in JOURNAL_TYPES:
        start = (yield from journal_number(seen.dialect, (low, 0, 0))) if low else 0
        after_rid = after_rid if start is None else max(after_rid, start - 1)
        return (yield from _in_pieces(seen, wanted, after_rid, limit))
    if deleted or (until_t - low) * _NARROW < until_t:  # few are deleted, and the log names them
        return (yield from _changed(seen, wanted, after_rid, limit))
    return (yield from _in_pieces(seen, wanted, after_rid, limit))


def _in_pieces(seen: Seen, wanted: Wanted, after_rid: int, limit: int) -> Steps[list[Stored]]:
    """All of the type, piece by piece."""
    key, size = type_key(wanted.type), max(limit, _FIRST_PIECE)
    found: list[Stored] = []
    while len(found) < limit:
        piece = yield Query(
            f"""
            SELECT max(rid), count(*) FROM (
              SELECT rid FROM resource{seen.dialect.use("resource_type")}
              WHERE type = ? AND rid > ? ORDER BY rid LIMIT ?) p""",  # noqa: S608 - a hint
            (key, after_rid, size),
        )
        last, count = piece[0]
        if not count:
            break
        rows = yield from _read(
            seen, wanted, ("r.rid > ? AND r.rid <= ?", [after_rid, last]), limit - len(found)
        )
        found += rows
        if count < size:
            break
        after_rid, size = last, min(size * 2, _LARGEST_PIECE)
    return found


def _changed(seen: Seen, wanted: Wanted, after_rid: int, limit: int) -> Steps[list[Stored]]:
    """What the change log names between two batches."""
    found: list[Stored] = []
    only, hint = "", seen.dialect.use("change_type")
    if wanted.deleted:
        only, hint = " AND c.op = 'delete'", seen.dialect.use("change_deleted")
    while len(found) < limit:
        names = yield Query(
            f"""
            SELECT DISTINCT c.home, c.rid FROM change c{hint}
            WHERE c.type = ? AND c.t >= ? AND c.t <= ? AND c.rid > ?{only}
            ORDER BY c.rid LIMIT ?""",  # noqa: S608 - a hint
            (type_key(wanted.type), wanted.low, wanted.until_t, after_rid, limit),
        )
        if not names:
            break
        found += yield from _read_named(seen, wanted, names, limit - len(found))
        after_rid = names[-1][1]
        if len(names) < limit:
            break
    return found


def _of_patients(seen: Seen, wanted: Wanted, after_rid: int, limit: int) -> Steps[list[Stored]]:
    """What named one of these Patients, from their homes. A resource may have moved to another
    record of the same person since: what was changed later is judged by its version of then."""
    dialect, found = seen.dialect, list[Stored]()
    listed = dialect.array(wanted.patients or ())
    homes = yield Query(
        f"SELECT DISTINCT home FROM locator WHERE type = ? AND {dialect.any_of('id')}",  # noqa: S608 - a fixed text
        (type_key("Patient"), listed),
    )
    where = dialect.array(sorted(row[0] for row in homes))
    while homes and len(found) < limit:
        names = yield Query(
            f"""
            SELECT r.home, r.rid, r.t, r.patient FROM resource r
            WHERE {dialect.any_of("r.home")} AND r.type = ? AND r.rid > ?
              AND ({dialect.any_of("r.patient")} OR r.t > ?)
            ORDER BY r.rid LIMIT ?""",  # noqa: S608 - a fixed text
            (where, type_key(wanted.type), after_rid, listed, wanted.until_t, limit),
        )
        if not names:
            break
        rows = yield from _read_named(seen, wanted, [row[:2] for row in names], len(names))
        now = {rid: (t, patient) for _, rid, t, patient in names}
        found += [one for one in rows if _named(one, *now[one.rid], wanted)]
        after_rid = names[-1][1]
        if len(names) < limit:
            break
    return found[:limit]


def _named(stored: Stored, t: int, patient: str | None, wanted: Wanted) -> bool:
    """Whether a version is of one of the Patients; `t` and `patient` are those of the newest."""
    if t > wanted.until_t and not stored.deleted:  # what follows another names no Patient itself
        patient = home_of(msgspec.json.decode(stored.whole())).patient or patient
    return patient in (wanted.patients or ())


def _read_named(
    seen: Seen, wanted: Wanted, names: Sequence[Row], limit: int
) -> Steps[list[Stored]]:
    """The wanted ones of these (home, rid)."""
    kinds = "int int"
    listed = seen.dialect.columns(kinds, names)
    source = f"{seen.dialect.listed(kinds)} {seen.dialect.then} "
    return (yield from _read(seen, wanted, ("r.home = k.k0 AND r.rid = k.k1", []), limit,
                             source=source, bound=listed))  # fmt: skip


def _read(
    seen: Seen,
    wanted: Wanted,
    place: Part,
    limit: int,
    *,
    source: str = "",
    bound: Sequence[Any] = (),
) -> Steps[list[Stored]]:
    """The wanted ones of the resources at a place, in order, at most `limit`."""
    if wanted.type in JOURNAL_TYPES:
        return (yield from _read_entries(seen, wanted, place, limit, source, bound))
    hint = " ON TRUE" if source else seen.dialect.use("resource_type")
    visible, shown = seen.both()
    statement = f"""
        SELECT r.id, {VERSION}
        FROM {source}resource r{hint}
        LEFT JOIN version v ON r.t > ? AND v.home = r.home AND v.rid = r.rid AND v.version = (
          SELECT max(w.version) FROM version w
          WHERE w.home = r.home AND w.rid = r.rid AND w.t <= ?)
        WHERE r.type = ? AND {place[0]} AND (r.t <= ? OR v.version IS NOT NULL)
          AND {DELETED} = ? AND {UPDATED} >= ? AND {visible}
        ORDER BY r.rid LIMIT ?"""  # noqa: S608 - made of constants
    rows = yield Query(
        statement,
        (*bound, wanted.until_t, wanted.until_t, type_key(wanted.type), *place[1], wanted.until_t,
         int(wanted.deleted), wanted.updated_from, *shown, limit),
    )  # fmt: skip
    return [stored(wanted.type, row[0], row[1:]) for row in rows]


def _read_entries(
    seen: Seen, wanted: Wanted, place: Part, limit: int, source: str, bound: Sequence[Any]
) -> Steps[list[Stored]]:
    """The same for journal entries, whose bodies stand in the journal."""
    if wanted.deleted:
        return []
    hint = " ON TRUE" if source else seen.dialect.use("resource_type")
    visible, shown = seen.of("r")
    statement = f"""
        SELECT r.id, 1, r.updated, 0, r.home, r.rid, r.owner, j.enc, j.body
        FROM {source}resource r{hint}
        {seen.dialect.then} journal j ON j.t = r.t AND j.n = r.n AND j.id = r.id
        WHERE r.type = ? AND {place[0]} AND r.t <= ? AND r.updated >= ? AND {visible}
        ORDER BY r.rid LIMIT ?"""  # noqa: S608 - made of constants
    rows = yield Query(
        statement,
        (*bound, type_key(wanted.type), *place[1], wanted.until_t, wanted.updated_from, *shown,
         limit),
    )  # fmt: skip
    return [stored(wanted.type, row[0], row[1:]) for row in rows]
