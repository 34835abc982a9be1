"""What the global index lists under a value, in groups: how many, and examples of each.

Generators of statements for every driver (see query.py). The groups come in the order of the
index, which counts their rows; of each a bounded number of resources is read, however large it is.
"""

from __future__ import annotations

from collections.abc import Sequence

from fhir_gateway.fhir.keys import type_key
from fhir_gateway.store import blobs
from fhir_gateway.store.history_sql import Seen
from fhir_gateway.store.query import Part, Query, Row, Steps
from fhir_gateway.store.store import Listed, Stored

_COLUMNS = "r.id, r.version, r.updated, r.home, r.rid, r.owner, r.enc, r.body"


def listed(
    seen: Seen, type: str, row: tuple[int, int], *, after: int | None, limit: int, examples: int
) -> Steps[list[Listed]]:
    """Groups behind `after`, see `Reader.listed`."""
    behind, bound = ("", []) if after is None else (" AND d.v2 > ?", [after])
    joined: Part = ("", [])
    if seen.is_restricted:  # else the index alone says how many there are
        rule, shown = seen.of("r")
        joined = (
            f" {seen.dialect.then} resource r ON r.home = d.home AND r.type = ? AND r.rid = d.rid"
            f" AND r.deleted = 0 AND {rule}",
            [type_key(type), *shown],
        )
    groups = yield Query(
        f"""
        SELECT d.v2, count(*), min(d.rid), max(d.rid) FROM gx d{joined[0]}
        WHERE d.parameter = ? AND d.v1 = ?{behind} GROUP BY d.v2 ORDER BY d.v2 LIMIT ?""",  # noqa: S608 - made of constants
        (*joined[1], *row, *bound, limit),
    )
    found = []
    for value, count, first, last in groups:
        some = yield from _examples(seen, type, (*row, value), examples)
        ends = yield from _numbered(seen, type, (first, last))
        found.append(Listed(value, count, {one.rid: one for one in (*ends, *some)}))
    return found


def having(seen: Seen, parameter: int, keys: Sequence[int]) -> Steps[set[int]]:
    """Those of these v1 under which the global index has any row, whoever may see it: one look
    before each is listed, for most have none."""
    rows = yield Query(
        f"SELECT DISTINCT d.v1 FROM gx d WHERE d.parameter = ? AND {seen.dialect.any_of('d.v1')}",  # noqa: S608 - made of constants
        (parameter, seen.dialect.array(keys)),
    )
    return {v1 for (v1,) in rows}


def _examples(seen: Seen, type: str, row: tuple[int, int, int], limit: int) -> Steps[list[Stored]]:
    visible, shown = seen.of("r")
    rows = yield Query(
        f"""
        SELECT {_COLUMNS} FROM (
          SELECT home, rid FROM gx WHERE parameter = ? AND v1 = ? AND v2 = ? LIMIT ?) d
        {seen.dialect.then} resource r ON r.home = d.home AND r.type = ? AND r.rid = d.rid
        WHERE r.deleted = 0 AND {visible}""",  # noqa: S608 - made of constants
        (*row, limit, type_key(type), *shown),
    )
    return [_stored(type, row) for row in rows]


def _numbered(seen: Seen, type: str, rids: Sequence[int]) -> Steps[list[Stored]]:
    visible, shown = seen.of("r")
    among, bound = seen.dialect.among("r.rid", rids)
    rows = yield Query(
        f"""
        SELECT {_COLUMNS} FROM resource r{seen.dialect.use("resource_type")}
        WHERE r.type = ? AND {among} AND r.deleted = 0 AND {visible}""",  # noqa: S608 - made of constants
        (type_key(type), *bound, *shown),
    )
    return [_stored(type, row) for row in rows]


def _stored(type: str, row: Row) -> Stored:
    id, version, updated, home, rid, owner, enc, body = row
    return Stored(type, id, version, updated, False, home, rid, owner, blobs.unpack(enc, body))
