"""What a page includes beside its matches: _include and _revinclude, with :iterate, never cut.

Implements hl7.org/fhir/R4/search.html#include. What is included is looked up under the same Access
as the matches, each resource once, so that cycles end; beyond the caps the search is refused with
what to do instead. A reference to a version includes that version. Canonical urls are not followed.
"""

# ruff: noqa: S608 - SQL is put together from constants and marks; values are always bound

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import msgspec

from fhir_gateway.errors import TooCostly
from fhir_gateway.fhir.datatypes import Reference, parse_reference
from fhir_gateway.fhir.keys import key64, type_key
from fhir_gateway.search.index import references
from fhir_gateway.search.plan import Include, SearchPlan
from fhir_gateway.search.registry import searchables
from fhir_gateway.store import blobs
from fhir_gateway.store.dialect import Dialect
from fhir_gateway.store.query import Query, Row, Steps
from fhir_gateway.store.search_terms import View
from fhir_gateway.store.store import Stored

#: The columns of a found resource, of the alias r.
COLUMNS = "r.id, r.version, r.updated, r.home, r.rid, r.owner, r.enc, r.body, r.t, r.n"
_OF_VERSION = "r.id, v.version, v.updated, v.home, v.rid, v.owner, v.enc, v.body, v.t, v.n"

MAX_INCLUDED = 1_000
#: So many times what is included may include more.
MAX_ROUNDS = 32
_CHUNK = 500  # names or keys of one statement

_VERSIONS_END = 1 << 63

_T = TypeVar("_T")


class Name(NamedTuple):
    """A resource of this server as a reference names it."""

    type: str
    id: str
    version: int | None = None


def found(
    rows: Sequence[Any], type: str, dialect: Dialect, names: Mapping[int, str] | None = None
) -> Steps[list[Stored]]:
    """The Stored of rows that begin with COLUMNS; bodies are fetched and decoded.

    With `names` the type of each is told by the column after them.
    """
    kept: dict[tuple[int, int, str], Row] = {}
    journaled = [(row[8], row[9], row[0]) for row in rows if row[6] == blobs.IN_JOURNAL]
    if journaled:
        kept = yield from _journal_bodies(journaled, dialect)
    stored = []
    for row in rows:
        id, version, updated, home, rid, owner, enc, body, t, n = row[:10]
        if enc == blobs.IN_JOURNAL:
            enc, body = kept[t, n, id]
        if names:
            type = names[row[10]]
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


def included(plan: SearchPlan, matches: list[Stored], view: View) -> Steps[list[Stored]]:
    """What the matches include, each resource once and none that is a match.

    Raises TooCostly when it is more than MAX_INCLUDED, or leads on after MAX_ROUNDS.
    """
    have = {(plan.type, match.id, match.version) for match in matches}
    more: list[Stored] = []
    fresh, includes = matches, plan.includes
    rounds = 0
    while fresh and includes:
        if rounds == MAX_ROUNDS:
            raise _too_many(f"More is included {MAX_ROUNDS} times over", "includes-too-deep")
        around: list[Stored] = []
        for include in includes:
            find = _pointing if include.reverse else _pointed_to
            for one in (yield from find(include, fresh, view)):
                if (one.type, one.id, one.version) not in have:
                    have.add((one.type, one.id, one.version))
                    around.append(one)
            if len(more) + len(around) > MAX_INCLUDED:
                raise _too_many(
                    f"A page may include {MAX_INCLUDED} resources", "too-many-included", include
                )
        more += around
        fresh, rounds = around, rounds + 1
        includes = tuple(include for include in includes if include.iterate)
    return more


def _too_many(sentence: str, rule: str, include: Include | None = None) -> TooCostly:
    return TooCostly(
        f"{sentence}; ask for a smaller _count or fewer includes",
        expression="_revinclude" if include is not None and include.reverse else "_include",
        rule=rule,
    )


# -- what they name --------------------------------------------------------------------------


def _pointed_to(include: Include, sources: list[Stored], view: View) -> Steps[list[Stored]]:
    """The resources that these name under the parameter."""
    named = dict.fromkeys(_named(include, sources))
    current = dict.fromkeys(Name(name.type, name.id) for name in named)
    by_name: dict[Name, Stored] = {}
    for chunk in _chunks(list(current)):
        for one in (yield from _current(chunk, view)):
            by_name[Name(one.type, one.id)] = one
        if len(by_name) > MAX_INCLUDED:
            break
    older = [
        name
        for name in named
        if name.version is not None
        and (now := by_name.get(Name(name.type, name.id)))
        and now.version != name.version
    ]
    for chunk in _chunks(older):
        for one in (yield from _versions(chunk, view)):
            by_name[Name(one.type, one.id, one.version)] = one
    wanted = (
        by_name.get(name if name in by_name or name in older else Name(name.type, name.id))
        for name in named
    )
    return [one for one in wanted if one is not None]


def _named(include: Include, sources: list[Stored]) -> Iterator[Name]:
    """The names that stand in these resources under the parameter."""
    for source in sources:
        if source.type != include.source:
            continue
        resource = msgspec.json.decode(source.whole())
        for code in _codes(include):
            for text in references(include.source, code, resource):
                reference = parse_reference(text)
                if isinstance(reference, Reference) and include.target in (None, reference.type):
                    name = _name(reference)
                    if name is not None:
                        yield name


def _codes(include: Include) -> Iterable[str]:
    """The parameter, or all reference parameters of the type."""
    if not include.wildcard:
        return (include.code,)
    return (
        code
        for code, one in searchables(include.source).items()
        if one.kind == "reference" and "Reference" in one.datatypes and not one.refused
    )


def _name(reference: Reference) -> Name | None:
    """The name in a reference; None for a version that cannot be."""
    if reference.version is None:
        return Name(reference.type, reference.id)
    if not reference.version.isdecimal() or int(reference.version) >= _VERSIONS_END:
        return None
    return Name(reference.type, reference.id, int(reference.version))


def _current(names: Sequence[Name], view: View) -> Steps[list[Stored]]:
    """The current resources of these names."""
    dialect, kinds = view.dialect, "int text"
    see, bound = view.sees("r")
    rows = yield Query(
        f"SELECT {COLUMNS}, r.type FROM {dialect.listed(kinds)}"
        f" {dialect.then} locator l ON l.type = k.k0 AND l.id = k.k1"
        f" {dialect.then} resource r ON r.home = l.home AND r.type = l.type AND r.rid = l.rid"
        f" WHERE {see}",
        (*dialect.columns(kinds, [(type_key(one.type), one.id) for one in names]), *bound),
    )
    return (yield from found(rows, "", dialect, {type_key(one.type): one.type for one in names}))


def _versions(names: Sequence[Name], view: View) -> Steps[list[Stored]]:
    """The superseded versions of these names, of resources that are current and seen."""
    dialect, kinds = view.dialect, "int text int"
    (see, bound), (seen, more) = view.sees("r"), view.sees("v", type="r.type", key="r.key")
    places = [(type_key(one.type), one.id, one.version) for one in names]
    rows = yield Query(
        f"SELECT {_OF_VERSION}, r.type FROM {dialect.listed(kinds)}"
        f" {dialect.then} locator l ON l.type = k.k0 AND l.id = k.k1"
        f" {dialect.then} resource r ON r.home = l.home AND r.type = l.type AND r.rid = l.rid"
        f" {dialect.then} version v ON v.home = l.home AND v.rid = l.rid AND v.version = k.k2"
        f" WHERE {see} AND {seen}",
        (*dialect.columns(kinds, places), *bound, *more),
    )
    return (yield from found(rows, "", dialect, {type_key(one.type): one.type for one in names}))


# -- what names them -------------------------------------------------------------------------


def _pointing(include: Include, targets: list[Stored], view: View) -> Steps[list[Stored]]:
    """The resources that name one of these under the parameter."""
    dialect = view.dialect
    see, bound = view.sees("r")
    stored: list[Stored] = []
    for homes, keys in _places(include, targets):
        key, values = dialect.among("v1", keys)
        table, place = "gx", ""
        if homes:
            among, home_values = dialect.among("home", homes)
            table, place, values = "px", f" AND {among}", [*values, *home_values]
        rows = yield Query(
            f"SELECT {COLUMNS} FROM (SELECT DISTINCT home, rid FROM {table}"
            f" WHERE parameter = ? AND {key}{place}) d {_each(dialect)}"
            f" WHERE {see} ORDER BY r.rid LIMIT ?",
            (include.parameter, *values, type_key(include.source), *bound, MAX_INCLUDED + 1),
        )
        stored += yield from found(rows, include.source, dialect)
    return stored


def _each(dialect: Dialect) -> str:
    """The join of each place d with its resource of a type, which is looked up by itself."""
    if dialect.gathers:
        return (
            "CROSS JOIN LATERAL (SELECT * FROM resource"
            " WHERE home = d.home AND type = ? AND rid = d.rid OFFSET 0) r"
        )
    return f"{dialect.then} resource r ON r.home = d.home AND r.type = ? AND r.rid = d.rid"


def _places(include: Include, targets: list[Stored]) -> Iterator[tuple[list[int], list[int]]]:
    """Homes to look in (none: the global index) and keys of these, in statements' sizes."""
    by_home: dict[int, list[int]] = {}
    for target in targets:
        if include.target in (None, target.type):
            home = target.home if include.within == "homes" else 0
            by_home.setdefault(home, []).append(key64(f"{target.type}/{target.id}"))
    for home, keys in by_home.items():
        homes = [] if include.within == "global" else sorted({home, 0})
        for chunk in _chunks(keys):
            yield homes, chunk


def _chunks(values: list[_T]) -> Iterable[list[_T]]:
    return (values[start : start + _CHUNK] for start in range(0, len(values), _CHUNK))
