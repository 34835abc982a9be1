"""The rows that new versions give rise to: gathered, then written table by table.

One prepared statement for many rows is several times cheaper than a statement a row; rows of an
index are sorted so that neighbours are written together.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import apsw

from fhir_gateway.fhir.keys import key64, type_key
from fhir_gateway.store import statements as sql
from fhir_gateway.store.changes import Fact, Put
from fhir_gateway.store.placing import Current, Placed

Row = tuple[Any, ...]


@dataclass(slots=True)
class Rows:
    """Rows to insert, by table, in the order of `_TABLES`."""

    locator: list[Row] = field(default_factory=list)
    resource: list[Row] = field(default_factory=list)
    px: list[Row] = field(default_factory=list)
    px_text: list[Row] = field(default_factory=list)
    gx: list[Row] = field(default_factory=list)
    gx_text: list[Row] = field(default_factory=list)
    fact: list[Row] = field(default_factory=list)
    link: list[Row] = field(default_factory=list)
    evaluation: list[Row] = field(default_factory=list)
    identity: list[Row] = field(default_factory=list)
    change: list[Row] = field(default_factory=list)

    def flush(self, connection: apsw.Connection) -> None:
        """Writes what was gathered and forgets it."""
        for name, statement, sort in _TABLES:
            rows: list[Row] = getattr(self, name)
            if rows:
                connection.executemany(statement, sorted(rows) if sort else rows)
                rows.clear()

    def add_index(self, home: int, rid: int, derived: Any) -> None:
        """Index rows of one resource; a global row always has its twin in the home."""
        px, px_text = self.px, self.px_text
        px += [(home, parameter, v1, v2, rid) for parameter, v1, v2 in derived.ints]
        px_text += [(home, parameter, text, rid) for parameter, text in derived.texts]
        for parameter, v1, v2 in derived.global_ints:
            px.append((home, parameter, v1, v2, rid))
            self.gx.append((parameter, v1, v2, home, rid))
        for parameter, text in derived.global_texts:
            px_text.append((home, parameter, text, rid))
            self.gx_text.append((parameter, text, home, rid))

    def add_derived(self, placed: Placed, rid: int, version: int, t: int) -> None:
        """Index rows, facts, links, evaluations and identity keys of one new version."""
        put, home = placed.put, placed.home
        derived = put.derived
        self.add_index(home, rid, derived)
        source = f"{put.type}/{put.id}"
        if home > 0:  # facts are facts of a person
            for ordinal, fact in enumerate(derived.facts):
                self.fact.append(_fact(fact, placed, rid, t, ordinal, version))
            for link in derived.links:
                self.link.append((home, link.result, rid, t, link.status, link.issued, source))
        for ordinal, row in enumerate(derived.evaluations):
            self.evaluation.append(
                (row.institution, row.item, rid, ordinal, t, row.area, row.start, row.end,
                 int(row.passed), row.evaluator, row.round)
            )  # fmt: skip
        self.identity += [(key, kind, home, rid) for key, kind in derived.identity]


_TABLES = (
    ("locator", sql.ADD_LOCATOR, True),
    ("resource", sql.ADD_RESOURCE, False),  # holds None, which does not sort
    ("px", sql.ADD_INDEX_ROW, True),
    ("px_text", sql.ADD_INDEX_TEXT, True),
    ("gx", sql.ADD_GLOBAL_ROW, True),
    ("gx_text", sql.ADD_GLOBAL_TEXT, True),
    ("fact", sql.ADD_FACT, False),
    ("link", sql.ADD_LINK, False),
    ("evaluation", sql.ADD_EVALUATION, False),
    ("identity", sql.ADD_IDENTITY, False),
    ("change", sql.ADD_CHANGE, False),
)


def _fact(fact: Fact, placed: Placed, rid: int, t: int, ordinal: int, version: int) -> Row:
    put = placed.put
    return (
        placed.home, fact.item, fact.time, rid, t, ordinal, version, fact.time_high, fact.issued,
        fact.kind, fact.status, fact.issuer, fact.specimen, fact.unit, fact.method, fact.value,
        fact.laterality, fact.flags, fact.mark, fact.source, placed.patient or "",
        key64(fact.source), put.owner, put.sensitivity,
    )  # fmt: skip


def resource_row(placed: Placed, rid: int, version: int, at: tuple[int, int, int]) -> Row:
    """The row of the current version; `at` is (t, n, updated)."""
    put = placed.put
    deleted = put.op == "delete"
    return (
        placed.home, type_key(put.type), rid, put.id, version, *at, int(deleted), put.owner,
        put.sensitivity, placed.patient, put.source, 0 if deleted else put.enc,
        None if deleted else put.body,
    )  # fmt: skip


def retire(connection: apsw.Connection, put: Put, current: Current, t: int) -> None:
    """Takes the current version out of the way: to `version`, its index rows gone, its facts
    ended at commit `t`.
    """
    home, rid = current.home, current.rid
    place = (home, type_key(put.type), rid)
    connection.execute(sql.KEEP_VERSION, place)
    connection.execute(sql.DROP_RESOURCE, place)
    drop_index(connection, home, rid)
    if home > 0:
        connection.execute(sql.END_FACTS, (t, home, rid))
        connection.execute(sql.END_LINKS, (t, home, rid))
    connection.execute(sql.END_EVALUATIONS, (t, rid))
    connection.execute(sql.DROP_IDENTITY, (rid,))


def drop_index(connection: apsw.Connection, home: int, rid: int) -> None:
    """Removes the index rows of one resource, the global ones by their twins in the home."""
    shared = sql.SHARED if home <= 0 else ""
    place = (home, rid)
    ints = connection.execute(sql.INDEX_ROWS + shared, place).fetchall()
    texts = connection.execute(sql.INDEX_TEXTS + shared, place).fetchall()
    if ints:
        connection.executemany(sql.DROP_GLOBAL_ROW, [(*row, *place) for row in ints])
        connection.execute(sql.DROP_INDEX_ROWS + shared, place)
    if texts:
        connection.executemany(sql.DROP_GLOBAL_TEXT, [(*row, *place) for row in texts])
        connection.execute(sql.DROP_INDEX_TEXTS + shared, place)
