"""What a page includes beside its matches: _include and _revinclude, one level, never cut.

Implements hl7.org/fhir/R4/search.html#include. What is included is looked up under the same Access
as the matches; beyond the cap the search is refused with what to do instead.
"""

# ruff: noqa: S608 - SQL is put together from constants and marks; values are always bound

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

import apsw
import msgspec

from fhir_gateway.errors import TooCostly
from fhir_gateway.fhir.datatypes import Reference, parse_reference
from fhir_gateway.fhir.keys import key64, type_key
from fhir_gateway.search.index import references
from fhir_gateway.search.plan import Include, SearchPlan
from fhir_gateway.security.actor import Access
from fhir_gateway.store import blobs
from fhir_gateway.store.search_where import Part, in_list
from fhir_gateway.store.store import Stored
from fhir_gateway.store.visible import JOURNAL_BODY

#: The columns of a found resource, of the alias r.
COLUMNS = "r.id, r.version, r.updated, r.home, r.rid, r.owner, r.enc, r.body, r.t, r.n"

MAX_INCLUDED = 1_000
_CHUNK = 500  # keys of one statement


def seen_by(access: Access) -> Part:
    """What a current resource r must be like to be seen."""
    if access.owners is None:
        return "r.deleted = 0 AND r.sensitivity <= ?", [access.max_class]
    return (
        "r.deleted = 0 AND r.sensitivity <= ?"
        " AND (r.owner = 0 OR r.owner IN (SELECT value FROM json_each(?)))",
        [access.max_class, json.dumps(sorted(access.owners))],
    )


def found(connection: apsw.Connection, type: str, row: tuple[Any, ...]) -> Stored:
    """The Stored of a row that begins with COLUMNS; its body is fetched and decoded."""
    id, version, updated, home, rid, owner, enc, body, t, n = row[:10]
    if enc == blobs.IN_JOURNAL:
        enc, body = connection.execute(JOURNAL_BODY, (t, n, id)).get
    return Stored(type, id, version, updated, False, home, rid, owner, blobs.unpack(enc, body))


def included(
    connection: apsw.Connection, plan: SearchPlan, matches: list[Stored], access: Access
) -> list[Stored]:
    """What the matches include, each resource once and none that is a match.

    Raises TooCostly when it is more than MAX_INCLUDED.
    """
    more: dict[tuple[str, str], Stored] = {}
    have = {(plan.type, match.id) for match in matches}
    for include in plan.includes:
        find = _pointing if include.reverse else _pointed_to
        for one in find(connection, include, matches, access):
            if (one.type, one.id) not in have:
                more[one.type, one.id] = one
            if len(more) > MAX_INCLUDED:
                raise TooCostly(
                    f"A page may include {MAX_INCLUDED} resources; ask for a smaller _count or "
                    "fewer includes",
                    expression="_revinclude" if include.reverse else "_include",
                    rule="too-many-included",
                )
    return list(more.values())


def _pointed_to(
    connection: apsw.Connection, include: Include, matches: list[Stored], access: Access
) -> Iterator[Stored]:
    """The resources that the matches name under the parameter."""
    see, bound = seen_by(access)
    statement = (
        f"SELECT {COLUMNS} FROM locator l CROSS JOIN resource r"
        " ON r.home = l.home AND r.type = l.type AND r.rid = l.rid"
        f" WHERE l.type = ? AND l.id = ? AND {see}"
    )
    for type, id in dict.fromkeys(_named(include, matches)):
        row = connection.execute(statement, (type_key(type), id, *bound)).fetchone()
        if row:
            yield found(connection, type, row)


def _named(include: Include, matches: list[Stored]) -> Iterator[tuple[str, str]]:
    for match in matches:
        resource = msgspec.json.decode(match.whole())
        for text in references(include.source, include.code, resource):
            reference = parse_reference(text)
            if isinstance(reference, Reference) and include.target in (None, reference.type):
                yield reference.type, reference.id


def _pointing(
    connection: apsw.Connection, include: Include, matches: list[Stored], access: Access
) -> Iterator[Stored]:
    """The resources that name a match under the parameter."""
    see, bound = seen_by(access)
    for homes, keys in _places(include, matches):
        table = "gx" if include.within == "global" else f"px WHERE {in_list('home', homes)}"
        joint = "AND" if homes else "WHERE"
        statement = (
            f"SELECT {COLUMNS} FROM (SELECT DISTINCT home, rid FROM {table} {joint}"
            f" parameter = ? AND {in_list('v1', keys)}) d"
            " CROSS JOIN resource r ON r.home = d.home AND r.type = ? AND r.rid = d.rid"
            f" WHERE {see} ORDER BY r.rid LIMIT ?"
        )
        values = (*homes, include.parameter, *keys, type_key(include.source), *bound)
        for row in connection.execute(statement, (*values, MAX_INCLUDED + 1)).fetchall():
            yield found(connection, include.source, row)


def _places(include: Include, matches: list[Stored]) -> Iterator[tuple[list[int], list[int]]]:
    """Homes to look in (none: the global index) and keys of the matches, in statements' sizes."""
    by_home: dict[int, list[int]] = {}
    for match in matches:
        home = match.home if include.within == "homes" else 0
        by_home.setdefault(home, []).append(key64(f"{match.type}/{match.id}"))
    for home, keys in by_home.items():
        homes = [] if include.within == "global" else sorted({home, 0})
        for chunk in _chunks(keys):
            yield homes, chunk


def _chunks(keys: list[int]) -> Iterable[list[int]]:
    return (keys[start : start + _CHUNK] for start in range(0, len(keys), _CHUNK))
