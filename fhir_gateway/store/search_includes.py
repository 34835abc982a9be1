"""What a page includes beside its matches: _include and _revinclude, one level, never cut.

Implements hl7.org/fhir/R4/search.html#include. What is included is looked up under the same Access
as the matches; beyond the cap the search is refused with what to do instead.
"""

# ruff: noqa: S608 - SQL is put together from constants and marks; values are always bound

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from fhir_gateway.errors import TooCostly
from fhir_gateway.fhir.datatypes import Reference, parse_reference
from fhir_gateway.fhir.keys import key64, type_key
from fhir_gateway.search.index import references
from fhir_gateway.search.plan import Include, SearchPlan
from fhir_gateway.security.actor import Access
from fhir_gateway.store import blobs
from fhir_gateway.store.dialect import Dialect
from fhir_gateway.store.query import Part, Query, Row, Steps
from fhir_gateway.store.search_where import in_list
from fhir_gateway.store.store import Stored

#: The columns of a found resource, of the alias r.
COLUMNS = "r.id, r.version, r.updated, r.home, r.rid, r.owner, r.enc, r.body, r.t, r.n"

MAX_INCLUDED = 1_000
_CHUNK = 500  # keys of one statement


def seen_by(access: Access, dialect: Dialect) -> Part:
    """What a current resource r must be like to be seen."""
    if access.owners is None:
        return "r.deleted = 0 AND r.sensitivity <= ?", [access.max_class]
    return (
        f"r.deleted = 0 AND r.sensitivity <= ? AND (r.owner = 0 OR {dialect.any_of('r.owner')})",
        [access.max_class, dialect.array(sorted(access.owners))],
    )


def found(type: str, rows: list[Any], dialect: Dialect) -> Steps[list[Stored]]:
    """The Stored of rows that begin with COLUMNS; bodies are fetched and decoded."""
    kept: dict[tuple[int, int, str], Row] = {}
    journaled = [(row[8], row[9], row[0]) for row in rows if row[6] == blobs.IN_JOURNAL]
    if journaled:
        kept = yield from _journal_bodies(journaled, dialect)
    stored = []
    for row in rows:
        id, version, updated, home, rid, owner, enc, body, t, n = row[:10]
        if enc == blobs.IN_JOURNAL:
            enc, body = kept[t, n, id]
        tail = blobs.unpack(enc, body)
        stored.append(Stored(type, id, version, updated, False, home, rid, owner, tail))
    return stored


def _journal_bodies(
    places: list[tuple[int, int, str]], dialect: Dialect
) -> Steps[dict[tuple[int, int, str], Row]]:
    """(enc, body) by (t, n, id); of several under one id the first is the record."""
    kinds = "int int text"
    rows = yield Query(
        f"SELECT j.t, j.n, j.id, j.enc, j.body FROM {dialect.listed(kinds)} {dialect.then}"
        " journal j ON j.t = k.k0 AND j.n = k.k1 AND j.id = k.k2 ORDER BY j.t, j.n, j.i DESC",
        dialect.columns(kinds, places),
    )
    return {(row[0], row[1], row[2]): row[3:5] for row in rows}


def included(
    plan: SearchPlan, matches: list[Stored], access: Access, dialect: Dialect
) -> Steps[list[Stored]]:
    """What the matches include, each resource once and none that is a match.

    Raises TooCostly when it is more than MAX_INCLUDED.
    """
    more: dict[tuple[str, str], Stored] = {}
    have = {(plan.type, match.id) for match in matches}
    for include in plan.includes:
        find = _pointing if include.reverse else _pointed_to
        for one in (yield from find(include, matches, access, dialect)):
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
    include: Include, matches: list[Stored], access: Access, dialect: Dialect
) -> Steps[list[Stored]]:
    """The resources that the matches name under the parameter."""
    see, bound = seen_by(access, dialect)
    statement = (
        f"SELECT {COLUMNS} FROM locator l {dialect.then} resource r"
        " ON r.home = l.home AND r.type = l.type AND r.rid = l.rid"
        f" WHERE l.type = ? AND l.id = ? AND {see}"
    )
    stored: list[Stored] = []
    for type, id in dict.fromkeys(_named(include, matches)):
        rows = yield Query(statement, (type_key(type), id, *bound))
        stored += yield from found(type, rows, dialect)
    return stored


def _named(include: Include, matches: list[Stored]) -> Iterator[tuple[str, str]]:
    for match in matches:
        resource = msgspec.json.decode(match.whole())
        for text in references(include.source, include.code, resource):
            reference = parse_reference(text)
            if isinstance(reference, Reference) and include.target in (None, reference.type):
                yield reference.type, reference.id


def _pointing(
    include: Include, matches: list[Stored], access: Access, dialect: Dialect
) -> Steps[list[Stored]]:
    """The resources that name a match under the parameter."""
    see, bound = seen_by(access, dialect)
    stored: list[Stored] = []
    for homes, keys in _places(include, matches):
        table = "gx" if include.within == "global" else f"px WHERE {in_list('home', homes)}"
        joint = "AND" if homes else "WHERE"
        statement = (
            f"SELECT {COLUMNS} FROM (SELECT DISTINCT home, rid FROM {table} {joint}"
            f" parameter = ? AND {in_list('v1', keys)}) d {dialect.then}"
            " resource r ON r.home = d.home AND r.type = ? AND r.rid = d.rid"
            f" WHERE {see} ORDER BY r.rid LIMIT ?"
        )
        values = (*homes, include.parameter, *keys, type_key(include.source), *bound)
        rows = yield Query(statement, (*values, MAX_INCLUDED + 1))
        stored += yield from found(include.source, rows, dialect)
    return stored


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
