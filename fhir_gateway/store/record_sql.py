"""A patient's record: what names one Patient, and what it refers to outside of any person's home.

Generators of statements for every driver (see query.py). A record is one range of its home, read
in the order of the primary key; nothing here knows a type (hl7.org/fhir/R4/patient-operation-
everything.html).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from fhir_gateway.fhir.definitions import definitions
from fhir_gateway.fhir.keys import type_key
from fhir_gateway.store.blobs import IN_JOURNAL
from fhir_gateway.store.history_sql import Seen, stored
from fhir_gateway.store.query import Query, Row, Steps
from fhir_gateway.store.store import Dates, Stored

_COLUMNS = "r.type, r.id, r.version, r.updated, r.deleted, r.home, r.rid, r.owner, r.enc, r.body"


def record(
    seen: Seen,
    *,
    home: int,
    patient: str,
    limit: int,
    after: tuple[str, int] | None = None,
    types: Sequence[str] | None = None,
    since: int | None = None,
    dates: Dates | None = None,
) -> Steps[list[Stored]]:
    """Current resources that name the Patient, see `Reader.record`."""
    dialect = seen.dialect
    rule, shown = seen.of("r", home=home)
    where = ["r.home = ?", "r.patient = ?", "r.deleted = 0", f"r.enc <> {IN_JOURNAL}", rule]
    values: list[Any] = [home, patient, *shown]
    if after is not None:
        where.append("(r.type, r.rid) > (?, ?)")
        values += [type_key(after[0]), after[1]]
    if types is not None:
        where.append(dialect.any_of("r.type"))
        values.append(dialect.array([type_key(type) for type in types]))
    if since is not None:
        where.append("r.updated >= ?")
        values.append(since)
    for side, bound in _outside(dates):
        where.append(
            f"r.rid NOT IN (SELECT p.rid FROM px p WHERE p.home = ? AND "  # noqa: S608 - constants
            f"{dialect.any_of('p.parameter')} GROUP BY p.rid HAVING {side})"
        )
        values += [home, dialect.array(bound[0]), bound[1]]
    rows = yield Query(
        f"SELECT {_COLUMNS} FROM resource r WHERE {' AND '.join(where)}"  # noqa: S608 - constants
        " ORDER BY r.type, r.rid LIMIT ?",
        (*values, limit),
    )
    return [_stored(row) for row in rows]


def _outside(dates: Dates | None) -> list[tuple[str, tuple[Sequence[int], int]]]:
    """What lies wholly before or after the range, by the rows of the parameters on that side."""
    if dates is None:
        return []
    sides = []
    if dates.low is not None:
        sides.append(("max(p.v2) < ?", (dates.ends, dates.low)))
    if dates.high is not None:
        sides.append(("min(p.v1) > ?", (dates.begins, dates.high)))
    return sides


def shared(seen: Seen, names: Sequence[tuple[str, str]]) -> Steps[list[Stored]]:
    """Those of these resources that stand in no person's home, see `Reader.shared`."""
    if not names:
        return []
    dialect, kinds = seen.dialect, "int text"
    rule, shown = seen.of("r")
    rows = yield Query(
        f"SELECT {_COLUMNS} FROM {dialect.listed(kinds)}"  # noqa: S608 - constants
        f" {dialect.then} locator l ON l.type = k.k0 AND l.id = k.k1"
        f" {dialect.then} resource r ON r.home = l.home AND r.type = l.type AND r.rid = l.rid"
        f" WHERE l.home <= 0 AND r.deleted = 0 AND r.enc <> {IN_JOURNAL} AND {rule}",
        (*dialect.columns(kinds, [(type_key(type), id) for type, id in names]), *shown),
    )
    return sorted((_stored(row) for row in rows), key=lambda one: (one.type, one.id))


def seen_among(seen: Seen, names: Sequence[tuple[str, str]]) -> Steps[set[tuple[str, str]]]:
    """Those of these ("Type", id) that are current and visible."""
    if not names:
        return set()
    dialect, kinds = seen.dialect, "int text"
    rule, shown = seen.of("r")
    rows = yield Query(
        f"SELECT r.type, r.id FROM {dialect.listed(kinds)}"  # noqa: S608 - constants
        f" {dialect.then} locator l ON l.type = k.k0 AND l.id = k.k1"
        f" {dialect.then} resource r ON r.home = l.home AND r.type = l.type AND r.rid = l.rid"
        f" WHERE r.deleted = 0 AND {rule}",
        (*dialect.columns(kinds, [(type_key(type), id) for type, id in names]), *shown),
    )
    return {(_names()[type], id) for type, id in rows}


def patients(seen: Seen, homes: Sequence[int]) -> Steps[list[str]]:
    """The Patients of these homes, see `Reader.person_records`."""
    rule, shown = seen.of("r")
    among, bound = seen.dialect.among("r.home", homes)
    rows = yield Query(
        f"SELECT r.id FROM resource r WHERE {among} AND r.type = ?"  # noqa: S608 - constants
        f" AND r.deleted = 0 AND {rule} ORDER BY r.home, r.rid",
        (*bound, type_key("Patient"), *shown),
    )
    return [id for (id,) in rows]


def holds(seen: Seen, homes: Sequence[int], type: str) -> Steps[bool]:
    """Whether these homes hold anything of a type. It rests on no index, and tells nobody what."""
    among, bound = seen.dialect.among("r.home", homes)
    rows = yield Query(
        f"SELECT 1 FROM resource r WHERE {among} AND r.type = ? LIMIT 1",  # noqa: S608 - constants
        (*bound, type_key(type)),
    )
    return bool(rows)


def _stored(row: Row) -> Stored:
    return stored(_names()[row[0]], row[1], row[2:])


@lru_cache(maxsize=1)
def _names() -> dict[int, str]:
    return {type_key(name): name for name in definitions().resource_types}
