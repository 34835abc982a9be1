"""What a batch may ask for, found out before it is judged, and fetched with one statement.

The statement is put together from the parts that this batch needs; the driver keeps it prepared,
and few combinations occur.
"""

# ruff: noqa: S608 - SQL is put together from constants; values are always bound

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import asyncpg

from fhir_gateway.fhir.keys import key64, type_key
from fhir_gateway.search.version import INDEX_VERSION
from fhir_gateway.store.changes import (
    Absent,
    ChangeSet,
    Counter,
    Derived,
    Exists,
    Guard,
    Put,
    Settled,
    Unique,
    VersionIs,
)
from fhir_gateway.store.index_version import Index, index_of
from fhir_gateway.store.linking import LINKING
from fhir_gateway.store.lookups import OpeningKey
from fhir_gateway.store.postgres_claims import WantedClaims

PATIENT = type_key("Patient")

Resource = tuple[int, str]
#: type, parameter, v1, v2, whose (None: everybody's)
Token = tuple[int, int, int, int | None, tuple[int, ...] | None]


class Clock(NamedTuple):
    """The clock row, read under its lock."""

    t: int
    epoch: int
    updated: int
    rid: int
    home: int
    drained: tuple[int, ...]
    index_version: Index


class Wanted:
    """The questions of a batch."""

    def __init__(self) -> None:
        self.outcomes: set[bytes] = set()
        self.onces: set[tuple[str, bytes]] = set()
        self.resources: dict[Resource, bool] = {}  # whether its body is wanted too
        self.identities: set[bytes] = set()
        self.counters: set[bytes] = set()
        self.tokens: dict[Token, None] = {}
        self.settled: dict[Settled, None] = {}
        self.deletions = 0  # puts that may free a token
        self.reindexed: dict[Resource, None] = {}
        self.linked: dict[str, None] = {}  # Patients of whom it matters who they are
        self.sources: dict[int, None] = {}  # key64 of resources that may say so
        self.opened: dict[OpeningKey, None] = {}
        self.claims = WantedClaims()

    def add(self, change_set: ChangeSet) -> None:
        """Everything that judging and placing this change set may ask."""
        if change_set.id:
            self.outcomes.add(change_set.id)
        if change_set.once is not None:
            self.onces.add((change_set.once.kind, change_set.once.key))
        for guard in change_set.guards:
            self._add_guard(guard)
        for put in change_set.puts:
            self._add_put(put)
        for item in change_set.reindex:
            self._add(type_key(item.type), item.id)
            self.reindexed[type_key(item.type), item.id] = None
            self._add_links(item.type, item.id, item.derived)
        for type, id in self.claims.add(change_set):
            self._add(type_key(type), id)
        for opening in change_set.openings:
            self.opened[opening.home, opening.party, opening.kind, opening.source] = None
        self._add_entries(change_set)

    def _add_entries(self, change_set: ChangeSet) -> None:
        entries = change_set.journal
        if change_set.refusal is not None:
            entries = [*entries, change_set.refusal]
        for entry in entries:
            if not entry.home and entry.patient is not None:
                self._add(PATIENT, entry.patient)

    def _add(self, type: int, id: str) -> None:
        self.resources.setdefault((type, id), False)

    def _add_guard(self, guard: Guard) -> None:
        if isinstance(guard, VersionIs):
            self._add(type_key(guard.type), guard.id)
        elif isinstance(guard, Exists):
            type, _, id = guard.reference.partition("/")
            self._add(type_key(type), id)
        elif isinstance(guard, Unique):
            self.onces.add((guard.kind, guard.key))
        elif isinstance(guard, Counter):
            self.counters.add(guard.key)
        elif isinstance(guard, Absent):
            self.tokens[token_of(guard)] = None
        else:
            self.settled[guard] = None

    def _add_put(self, put: Put) -> None:
        key = (type_key(put.type), put.id)
        if put.only_if_changed:
            self.resources[key] = True
        else:
            self.resources.setdefault(key, False)
        self.deletions += 1
        if put.patient is not None:
            self._add(PATIENT, put.patient)
        if put.follow is not None:
            type, _, id = put.follow.partition("/")
            self._add(type_key(type), id)
        self._add_links(put.type, put.id, put.derived)

    def _add_links(self, type: str, id: str, derived: Derived) -> None:
        """What linking.py asks of a resource that may say something of two homes."""
        if type not in LINKING:
            return
        self.sources[key64(f"{type}/{id}")] = None
        for patient, other, _ in (*derived.aliases, *derived.proposals):
            for named in (patient, other):
                self._add(PATIENT, named)
                self.linked[named] = None
        if type == "Patient":
            self.linked[id] = None
            self.identities.update(key for key, kind in derived.identity if kind == 1)


def token_of(guard: Absent) -> Token:
    """What an Absent guard asks for."""
    return type_key(guard.type), guard.parameter, guard.v1, guard.v2, guard.owners


def _owners(token: Token) -> str | None:
    """Whose resources count, as the text of an array: an array has no rows of several lengths."""
    return None if token[4] is None else "{" + ",".join(map(str, token[4])) + "}"


class Found(NamedTuple):
    """The answers, as the database had them when the batch began."""

    clock: Clock
    outcomes: Sequence[Sequence[Any]] = ()  # id, outcome
    onces: Sequence[Sequence[Any]] = ()  # kind, key, t, n, updated, response
    resources: Sequence[
        Sequence[Any]
    ] = ()  # type, id, home, rid, version, deleted, patient, owner, …
    identities: Sequence[Sequence[Any]] = ()  # key, home, rid
    counters: Sequence[Sequence[Any]] = ()  # key, k
    tokens: Sequence[Sequence[Any]] = ()  # number of the token, id, rid
    settled: Sequence[Sequence[Any]] = ()  # number of the guard
    bearers: Sequence[Sequence[Any]] = ()  # key, home, rid: of all keys of a home
    aliases: Sequence[Sequence[Any]] = ()  # home, other, cause, source, t_from, person, its t_from
    proposals: Sequence[Sequence[Any]] = ()  # home, other, grade, source, t_from
    opened: Sequence[Sequence[Any]] = ()  # home, party, kind, source, t_from, grade, since, until


async def fetch(
    connection: asyncpg.Connection, wanted: Wanted, index: int = INDEX_VERSION
) -> Found:
    """The answers to all questions of a batch of a process that makes rows of this version; the
    clock row must be locked."""
    parts: list[str] = []
    values: list[Any] = []
    names: list[str] = []
    for name, sql, columns in _questions(wanted):
        marks = [f"${len(values) + place + 1}" for place in range(len(columns))]
        parts.append(f"ARRAY({sql.format(*marks)}) AS {name}")
        names.append(name)
        values += columns
    row = await connection.fetchrow(", ".join([_CLOCK, *parts]) + " FROM clock", *values)
    if row is None:
        raise LookupError("the clock row is missing")
    t, epoch, updated, rid, home = row[:5]
    clock = Clock(t, epoch, updated, rid, home, row[5:8], index_of(row[8:10], index))
    return Found(clock, **dict(zip(names, row[10:], strict=True)))


def _questions(wanted: Wanted) -> Iterable[tuple[str, str, list[Any]]]:
    """(name, SQL, bound arrays) of every kind that is wanted at all."""
    if wanted.outcomes:
        yield "outcomes", _OUTCOMES, [list(wanted.outcomes)]
    if wanted.onces:
        yield "onces", _ONCES, _columns(wanted.onces)
    if wanted.resources:
        keys = _columns(wanted.resources)
        if any(wanted.resources.values()):
            yield "resources", _RESOURCES_AND_BODIES, [*keys, list(wanted.resources.values())]
        else:
            yield "resources", _RESOURCES, keys
    if wanted.identities:
        yield "identities", _IDENTITIES, [list(wanted.identities)]
    if wanted.counters:
        yield "counters", _COUNTERS, [list(wanted.counters)]
    if wanted.tokens:
        # Enough that two are left to tell of when all others leave within the batch.
        columns = _columns((*token[:4], _owners(token)) for token in wanted.tokens)
        yield "tokens", _TOKENS, [*columns, 5 + wanted.deletions]
    if wanted.settled:
        yield "settled", _SETTLED, _columns(_spread(wanted.settled))
    if wanted.opened:
        yield "opened", _OPENED, _columns(wanted.opened)
    yield from _questions_of_links(wanted)


def _questions_of_links(wanted: Wanted) -> Iterable[tuple[str, str, list[Any]]]:
    patients, sources = list(wanted.linked), list(wanted.sources)
    if sources and patients:
        yield "bearers", _BEARERS, [patients]
    if takers := wanted.claims.patients:
        patients = list(wanted.linked | takers)
    if sources or takers:
        yield "aliases", _ALIASES, [patients, list(wanted.identities), sources]
    if sources:
        yield "proposals", _PROPOSALS, [sources]


def _spread(guards: Iterable[Settled]) -> Iterable[tuple[int, int, int, int | None]]:
    """(number of the guard, since, type, home) for each of its types and homes."""
    for number, guard in enumerate(guards):
        for type in guard.types:
            for home in guard.homes or (None,):
                yield number, guard.since, type_key(type), home


def _columns(rows: Iterable[Sequence[Any]]) -> list[Any]:
    return list(zip(*rows, strict=True))


_CLOCK = "SELECT t, epoch, updated, rid, home, drained_t, drained_n, drained_i, indexed, indexing"
#: A lateral subquery with OFFSET is not merged into the query around it: each key is looked up by
#: index, however small a table was when the plan was made.
_OUTCOMES = """
SELECT ROW(q.id, c.outcome) FROM unnest({}::bytea[]) q (id)
CROSS JOIN LATERAL (SELECT outcome FROM change_set WHERE id = q.id OFFSET 0) c"""
_ONCES = """
SELECT ROW(q.kind, q.key, o.t, o.n, o.updated, o.response)
FROM unnest({}::text[], {}::bytea[]) q (kind, key)
CROSS JOIN LATERAL (SELECT t, n, updated, response FROM once
  WHERE kind = q.kind AND key = q.key OFFSET 0) o"""
_PLACES = """
CROSS JOIN LATERAL (SELECT home, rid FROM locator WHERE type = q.type AND id = q.id OFFSET 0) l
CROSS JOIN LATERAL (SELECT version, deleted, patient, owner, enc, body FROM resource
  WHERE home = l.home AND type = q.type AND rid = l.rid OFFSET 0) r"""
_RESOURCES = f"""
SELECT ROW(q.type, q.id, l.home, l.rid, r.version, r.deleted, r.patient, r.owner)
FROM unnest({{}}::bigint[], {{}}::text[]) q (type, id) {_PLACES}"""
_RESOURCES_AND_BODIES = f"""
SELECT ROW(q.type, q.id, l.home, l.rid, r.version, r.deleted, r.patient, r.owner,
  CASE WHEN q.body THEN r.enc END, CASE WHEN q.body THEN r.body END)
FROM unnest({{}}::bigint[], {{}}::text[], {{}}::bool[]) q (type, id, body) {_PLACES}"""
_IDENTITIES = """
SELECT ROW(q.key, i.home, i.rid) FROM unnest({}::bytea[]) q (key)
CROSS JOIN LATERAL (SELECT home, rid FROM identity WHERE key = q.key AND kind = 1 OFFSET 0) i"""
#: All who bear a key that somebody in the home of one of these Patients bears.
_BEARERS = f"""
SELECT ROW(i.key, i.home, i.rid) FROM unnest({{}}::text[]) q (id)
CROSS JOIN LATERAL (SELECT home FROM locator WHERE type = {PATIENT} AND id = q.id OFFSET 0) l
CROSS JOIN LATERAL (SELECT rid FROM resource WHERE home = l.home AND type = {PATIENT} OFFSET 0) r
CROSS JOIN LATERAL (SELECT key FROM identity WHERE rid = r.rid AND kind = 1 OFFSET 0) k
CROSS JOIN LATERAL (
  SELECT key, home, rid FROM identity WHERE key = k.key AND kind = 1 OFFSET 0) i"""
#: All homes that are connected with those of these Patients, with what these keys lead to, and with
#: what these resources say: a group is small, and followed to its end.
_ALIASES = f"""
WITH RECURSIVE met (home) AS (
  (SELECT l.home FROM unnest({{}}::text[]) q (id)
    CROSS JOIN LATERAL (SELECT home FROM locator WHERE type = {PATIENT} AND id = q.id OFFSET 0) l
  UNION SELECT i.home FROM unnest({{}}::bytea[]) q (key)
    CROSS JOIN LATERAL (SELECT home FROM identity WHERE key = q.key AND kind = 1 OFFSET 0) i
  UNION SELECT a.home FROM unnest({{}}::bigint[]) q (source)
    CROSS JOIN LATERAL (SELECT home FROM alias WHERE source = q.source AND source <> 0
      AND t_to = 9223372036854775807 OFFSET 0) a)
  UNION SELECT a.other FROM met
    CROSS JOIN LATERAL (SELECT other FROM alias WHERE home = met.home
      AND t_to = 9223372036854775807 OFFSET 0) a
)
SELECT ROW(a.home, a.other, a.cause, a.source, a.t_from, p.person, p.t_from) FROM met
CROSS JOIN LATERAL (SELECT * FROM alias WHERE home = met.home
  AND t_to = 9223372036854775807 OFFSET 0) a
LEFT JOIN LATERAL (SELECT person, t_from FROM person WHERE home = met.home
  AND t_to = 9223372036854775807 OFFSET 0) p ON TRUE"""
_PROPOSALS = """
SELECT ROW(p.home, p.other, p.grade, p.source, p.t_from) FROM unnest({}::bigint[]) q (source)
CROSS JOIN LATERAL (SELECT * FROM proposal WHERE source = q.source
  AND t_to = 9223372036854775807 OFFSET 0) p"""
_OPENED = """
SELECT ROW(q.home, q.party, q.kind, q.source, o.t_from, o.grade, o.since, o."until")
FROM unnest({}::bigint[], {}::bigint[], {}::text[], {}::bigint[]) q (home, party, kind, source)
CROSS JOIN LATERAL (SELECT * FROM opening WHERE home = q.home AND party = q.party
  AND kind = q.kind AND source = q.source AND rid = 0 AND t_to = 9223372036854775807 OFFSET 0) o"""
_COUNTERS = """
SELECT ROW(q.key, c.k) FROM unnest({}::bytea[]) q (key)
CROSS JOIN LATERAL (SELECT k FROM counter WHERE key = q.key OFFSET 0) c"""
_TOKENS = """
SELECT ROW(q.number, m.id, m.rid)
FROM unnest({}::bigint[], {}::bigint[], {}::bigint[], {}::bigint[], {}::text[])
  WITH ORDINALITY q (type, parameter, v1, v2, owners, number)
CROSS JOIN LATERAL (
  SELECT DISTINCT r.id, r.rid
  FROM gx g JOIN resource r ON r.home = g.home AND r.type = q.type AND r.rid = g.rid
  WHERE g.parameter = q.parameter AND g.v1 = q.v1 AND (q.v2 IS NULL OR g.v2 = q.v2)
    AND r.deleted = 0 AND (q.owners IS NULL OR r.owner = 0 OR r.owner = ANY(q.owners::bigint[]))
  LIMIT {}::bigint) m"""
_SETTLED = """
SELECT ROW(q.number)
FROM unnest({}::bigint[], {}::bigint[], {}::bigint[], {}::bigint[]) q (number, since, type, home)
WHERE EXISTS (SELECT 1 FROM change c
  WHERE c.t > q.since AND c.type = q.type AND (q.home IS NULL OR c.home = q.home))"""
