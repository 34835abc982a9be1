"""The SQL of what a Reader may see: every statement that reads a patient's rows, under an Access.

Each statement comes in few fixed shapes, so that few are ever prepared: what differs between the
callers of one role is bound (sight_sql.py).
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from fhir_gateway.security.actor import Access
from fhir_gateway.store import apart_sql
from fhir_gateway.store.dialect import SQLITE
from fhir_gateway.store.sight_sql import (
    EVERYBODY,
    HOME,
    OWN,
    Row,
    Shape,
    Statement,
    columns,
    rule,
    rule_beside,
    shape_of,
    sourced,
    statement,
)

CLOCK = "SELECT t, epoch, indexed, indexing, updated FROM clock"
GIVEN = "SELECT rid, home FROM clock"
INDEX_KEY = "SELECT index_key FROM clock"
CREDENTIAL = "SELECT institution FROM credential WHERE hash = ? AND active = 1"
HAS_CREDENTIAL = "SELECT EXISTS (SELECT 1 FROM credential WHERE institution = ? AND active = 1)"
ONCE = "SELECT response FROM once WHERE kind = ? AND key = ?"
RECEIVED = "SELECT media, enc, body FROM received WHERE hash = ?"
SEEN = "SELECT institution, updated FROM seen"
EVALUATIONS = """
SELECT institution, item, area, "start", "end", passed, evaluator, round FROM evaluation
WHERE institution = ?1 AND item = ?2 AND t_from <= ?3 AND ?3 < t_to
ORDER BY "start", "end", area, rid, ordinal"""
JOURNAL_BODY = """
SELECT enc, body FROM journal WHERE t = ? AND n = ? AND id = ? ORDER BY i LIMIT 1"""

#: The columns that make a Stored, of the alias r; `reader.stored` reads them in this order.
STORED = "r.version, r.updated, r.deleted, r.home, r.rid, r.owner, r.enc, r.body, r.t, r.n"

_READ = f"""
SELECT {STORED}
FROM locator l JOIN resource r ON r.home = l.home AND r.type = l.type AND r.rid = l.rid
WHERE l.type = ?1 AND l.id = ?2 AND {{r}}"""  # noqa: S608 - constant columns
_VERSIONS = """
SELECT v.version, v.updated, v.deleted, v.home, v.rid, v.owner, v.enc, v.body, v.t, v.n
FROM locator l JOIN resource r ON r.home = l.home AND r.type = l.type AND r.rid = l.rid
JOIN version v ON v.home = l.home AND v.rid = l.rid
WHERE l.type = ?1 AND l.id = ?2 AND {r} AND {v}"""
_VERSION = _VERSIONS + " AND v.version = @1"
_HISTORY = _VERSIONS + " ORDER BY v.version DESC"
#: The home, whether the record bears a document, whether that is contested (another Patient bears
#: it under another name or in another home, or a record of the home came apart), and whether the
#: home may be connected with others.
_PERSON = f"""
SELECT l.home, EXISTS (SELECT 1 FROM identity WHERE rid = l.rid),
  EXISTS (
    SELECT 1 FROM identity mine JOIN identity other ON other.key = mine.key AND other.kind = 2
    WHERE mine.rid = l.rid AND mine.kind = 2 AND other.rid <> l.rid
      AND (other.home <> mine.home OR NOT EXISTS (
        SELECT 1 FROM identity a JOIN identity b ON b.key = a.key AND b.kind = 1
        WHERE a.rid = l.rid AND a.kind = 1 AND b.rid = other.rid)))
    OR {apart_sql.APART},
  EXISTS (SELECT 1 FROM person WHERE home = l.home)
    OR EXISTS (SELECT 1 FROM proposal WHERE home = l.home)
FROM locator l JOIN resource r ON r.home = l.home AND r.type = l.type AND r.rid = l.rid
WHERE l.type = ?1 AND l.id = ?2 AND r.deleted = 0 AND {{r}}"""  # noqa: S608 - constants
_COUNTS = """
SELECT r.type, count(*) FROM resource r WHERE r.deleted = 0 AND r.enc <> 9 AND {r} GROUP BY r.type
UNION ALL
SELECT j.type, count(*) FROM journal j WHERE {j} GROUP BY j.type"""
_FACTS = """
SELECT f.item, f.time, f.time_high, f.issued, f.kind, f.status, f.issuer, f.specimen, f.unit,
  f.method, f.value, f.laterality, f.flags, f.mark, f.source,
  f.rid, f.version, f.t_from, f.patient, f.ordinal, l.status, l.source, l.issued, l.rid,
  f.more, l.more
FROM fact f LEFT JOIN result_of l ON l.home = f.home AND l.result = f.result
  AND l.t_from <= ?2 AND ?2 < l.t_to AND {l}
WHERE f.home = ?1 AND f.item IN ({items}) AND f.t_from <= ?2 AND ?2 < f.t_to AND {f}"""

#: Facts are read in one statement for so many items; shorter lists repeat their last item.
FACT_SHAPES = (1, 2, 4, 8, 16, 32, 64)


class Visible(NamedTuple):
    """The statements of one shape. What an Access binds stands behind their own values, and behind
    that the version (`version`), or the items (`facts`)."""

    read: Statement
    version: Statement
    history: Statement
    person: Statement
    counts: Statement
    facts: dict[int, Statement]


@lru_cache(maxsize=64)
def visible_of(shape: Shape) -> Visible:
    """The statements of a shape."""

    def see(row: Row) -> str:
        return rule(shape, SQLITE, row)

    r = see(columns("r"))
    both = {"r": r, "v": see(columns("v", type="r.type", key="r.key"))}
    entry = Row("j.home", "j.type", "j.owner", "0")  # a journal entry has no class of its own
    fact, link = sourced("f", SQLITE, home=HOME), sourced("l", SQLITE, home=HOME)
    carried = {"f": see(fact), "l": rule_beside(shape, SQLITE, link, fact)}
    return Visible(
        read=statement(_READ.format(r=r), SQLITE, own=2),
        version=statement(_VERSION.format(**both), SQLITE, own=2),
        history=statement(_HISTORY.format(**both), SQLITE, own=2),
        person=statement(_PERSON.format(r=r), SQLITE, own=2),
        counts=statement(_COUNTS.format(r=r, j=see(entry)), SQLITE, own=0),
        facts={
            size: statement(
                _FACTS.format(items=", ".join(f"@{n}" for n in range(1, size + 1)), **carried),
                SQLITE, own=2, home=1,
            )
            for size in FACT_SHAPES
        },
    )  # fmt: skip


@lru_cache(maxsize=1_024)
def visible_to(access: Access) -> tuple[Visible, Visible]:
    """The statements of an Access, and those for AuditEvents."""
    return visible_of(shape_of(access, of_acts=False)), visible_of(shape_of(access))


SEE_ALL = visible_of(EVERYBODY)
SEE_OWN = visible_of(OWN)
