"""Current resources, all of them or an institution's: what is derived from them is derived again.

Generators of statements for every driver (see query.py). A place (home, type, resource number) is
given once and never changes, so a walk needs no snapshot that outlives one page; a person's
resources come side by side. What an institution owns is found by type and number.
"""

from __future__ import annotations

from fhir_gateway.fhir.definitions import definitions
from fhir_gateway.fhir.keys import type_key
from fhir_gateway.store import blobs
from fhir_gateway.store.history_sql import Seen
from fhir_gateway.store.lookups import Place
from fhir_gateway.store.query import Query, Steps
from fhir_gateway.store.store import Stored

#: Before and behind all places.
FIRST = Place(-(1 << 63), -(1 << 63), 0)


def walk(seen: Seen, after: Place, *, until_home: int, limit: int) -> Steps[list[Stored]]:
    """Current resources behind a place, see `Reader.walk`."""
    visible, shown = seen.of("r")
    rows = yield Query(
        f"""
        SELECT r.type, r.id, r.version, r.updated, r.home, r.rid, r.owner, r.enc, r.body,
          j.enc, j.body
        FROM resource r
        LEFT JOIN journal j
          ON r.enc = {blobs.IN_JOURNAL} AND j.t = r.t AND j.n = r.n AND j.id = r.id
        WHERE (r.home, r.type, r.rid) > (?, ?, ?) AND r.home <= ? AND r.deleted = 0 AND {visible}
        ORDER BY r.home, r.type, r.rid LIMIT ?""",  # noqa: S608 - made of constants
        (*after, until_home, *shown, limit),
    )
    names = {type_key(name): name for name in definitions().resource_types}
    found = []
    for type, id, version, updated, home, rid, owner, *bodies in rows:
        enc, body = bodies[2:] if bodies[0] == blobs.IN_JOURNAL else bodies[:2]
        tail = blobs.unpack(enc, body)
        found.append(Stored(names[type], id, version, updated, False, home, rid, owner, tail))
    return found


def owned(
    seen: Seen, type: str, owner: int, *, after_rid: int, visit: int
) -> Steps[tuple[list[Stored], int]]:
    """What an institution owns among the next of a type, see `Reader.owned`."""
    key, hint = type_key(type), seen.dialect.use("resource_type")
    piece = yield Query(
        f"""
        SELECT max(rid), count(*) FROM (
          SELECT rid FROM resource{hint}
          WHERE type = ? AND rid > ? ORDER BY rid LIMIT ?) p""",  # noqa: S608 - a hint
        (key, after_rid, visit),
    )
    last, count = piece[0]
    if not count:
        return [], 0
    visible, shown = seen.of("r")
    rows = yield Query(
        f"""
        SELECT r.id, r.version, r.updated, r.home, r.rid, r.enc, r.body
        FROM resource r{hint}
        WHERE r.type = ? AND r.rid > ? AND r.rid <= ? AND r.owner = ? AND r.deleted = 0
          AND {visible}
        ORDER BY r.rid""",  # noqa: S608 - made of constants
        (key, after_rid, last, owner, *shown),
    )
    found = [
        Stored(type, id, version, updated, False, home, rid, owner, blobs.unpack(enc, body))
        for id, version, updated, home, rid, enc, body in rows
    ]
    return found, last if count == visit else 0


def place_of(stored: Stored) -> Place:
    """Where a resource stands."""
    return Place(stored.home, type_key(stored.type), stored.rid)
