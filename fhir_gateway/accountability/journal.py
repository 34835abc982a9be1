"""The journal, read as a ledger: what concerns a person, and what happened in a time.

Generators of statements for every store (store/query.py). The journal itself is read, not the
index that is made of it later: what was acknowledged is there.
"""

from __future__ import annotations

from collections.abc import Sequence
from heapq import merge
from typing import Any, NamedTuple

import msgspec

from fhir_gateway.audit.events_read import Act, act_of
from fhir_gateway.fhir.keys import type_key
from fhir_gateway.fhir.wire import splice
from fhir_gateway.store import blobs
from fhir_gateway.store.history_sql import Seen
from fhir_gateway.store.history_times import first_batch
from fhir_gateway.store.query import Query, Row, Steps
from fhir_gateway.store.store import Reader

Place = tuple[int, int, int]  # (t, n, i)

#: Behind every place.
END: Place = (1 << 62, 0, 0)

AUDIT = type_key("AuditEvent")


class Recorded(NamedTuple):
    """One AuditEvent of the journal: where it stands, whose act it is, and what it says."""

    place: Place
    home: int
    owner: int
    updated: int
    leaf: bytes
    nonce: bytes
    id: str
    tail: bytes

    @property
    def act(self) -> Act:
        """What it says."""
        return act_of(_decode(self.whole))

    @property
    def whole(self) -> bytes:
        """The AuditEvent as JSON."""
        return splice("AuditEvent", self.id, 1, self.updated, self.tail)


#: The gateway wrote them itself, or took them in after every check: nothing has to be judged.
_decode = msgspec.json.Decoder(dict[str, Any]).decode

_COLUMNS = "j.t, j.n, j.i, j.home, j.owner, j.updated, j.leaf, j.nonce, j.id, j.enc, j.body"


def of_person(
    seen: Seen,
    homes: Sequence[int],
    *,
    owners: Sequence[int] | None,
    before: Place,
    limit: int,
) -> Steps[list[Recorded]]:
    """AuditEvents that name a person, of these homes, newest first, those `before` a place.

    `owners` leaves only the acts of these institutions (owner keys); None leaves all.
    """
    found: list[list[Recorded]] = []
    rule, bound = "", list[Any]()
    if owners is not None:
        rule, bound = f" AND {seen.dialect.any_of('j.owner')}", [seen.dialect.array(owners)]
    for home in homes:
        rows = yield Query(
            f"SELECT {_COLUMNS} FROM journal_home h {seen.dialect.then} journal j"  # noqa: S608
            " ON j.t = h.t AND j.n = h.n AND j.i = h.i"
            f" WHERE h.home = ? AND (h.t, h.n, h.i) < (?, ?, ?) AND j.type = ? AND j.enc <> ?{rule}"
            " ORDER BY h.t DESC, h.n DESC, h.i DESC LIMIT ?",
            (home, *before, AUDIT, blobs.PURGED, *bound, limit),
        )
        found.append([_recorded(row) for row in rows])
    places: dict[Place, Recorded] = {}
    for one in merge(*found, key=lambda one: one.place, reverse=True):
        places.setdefault(one.place, one)
    return list(places.values())[:limit]


def since(seen: Seen, place: Place, *, until: int, limit: int) -> Steps[list[Recorded]]:
    """AuditEvents behind a place, oldest first, that were recorded before `until` (µs).

    It is for reports that go over a time; each call is one page.
    """
    rows = yield Query(
        f"SELECT {_COLUMNS} FROM journal j WHERE (j.t, j.n, j.i) > (?, ?, ?)"  # noqa: S608
        " AND j.updated < ? AND j.type = ? ORDER BY j.t, j.n, j.i LIMIT ?",
        (*place, until, AUDIT, limit),
    )
    return [_recorded(row) for row in rows]


async def start_of(reader: Reader, instant: int) -> Place:
    """The place behind which everything stands that was recorded at or after an instant (µs)."""
    t = await reader.steps(lambda seen: _first(seen, instant, reader.t))
    return (t - 1, 1 << 62, 0)


def _first(seen: Seen, instant: int, newest: int) -> Steps[int]:
    return (yield from first_batch(instant, newest))


def _recorded(row: Row) -> Recorded:
    t, n, i, home, owner, updated, leaf, nonce, id, enc, body = row
    tail = blobs.unpack(enc, bytes(body))
    return Recorded((t, n, i), home, owner, updated, bytes(leaf), bytes(nonce), id, tail)
