"""The SQL that only the PostgreSQL driver reads with, and how shared statements become its own.

Shared statements mark bound values with `?` or `?1`; PostgreSQL's are numbered, and a list is bound
as an array. A resource is found in two steps, its place and then its row: with the home bound, one
partition is looked at, where a join would make all eight ready.
"""

# ruff: noqa: S608 - SQL is put together from constants and marks; values are always bound

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import count
from typing import Any, NamedTuple

from fhir_gateway.security.actor import Access
from fhir_gateway.store import apart_sql, search_record, visible
from fhir_gateway.store.changes import Fact
from fhir_gateway.store.dialect import POSTGRES
from fhir_gateway.store.sight_sql import (
    EVERYBODY,
    HOME_BIGINT,
    OWN,
    Row,
    Shape,
    Statement,
    columns,
    rule,
    shape_of,
    sourced,
    statement,
)
from fhir_gateway.store.store import StoredFact
from fhir_gateway.store.visible import STORED

_MARK = re.compile(r"\?(\d*)")


@lru_cache(maxsize=4_096)
def numbered(sql: str) -> str:
    """The statement with PostgreSQL's marks: `?` in order, or `?1` as numbered."""
    numbers: Iterator[int] = count(1)
    return _MARK.sub(lambda mark: f"${mark[1] or next(numbers)}", sql)


#: For statements that follow an index until they have a page: a plan that is made before it is
#: known how short the page is would rather join whole tables and sort them.
WALK = tuple(f"enable_{way} = off" for way in ("hashjoin", "mergejoin", "sort", "bitmapscan"))

PLACE = numbered(search_record.PLACE)
INDEX_KEY = visible.INDEX_KEY
CREDENTIAL = numbered(visible.CREDENTIAL)
HAS_CREDENTIAL = numbered(visible.HAS_CREDENTIAL)
ONCE = numbered(visible.ONCE)
RECEIVED = numbered(visible.RECEIVED)
SEEN = visible.SEEN
JOURNAL_BODY = numbered(visible.JOURNAL_BODY)

#: For all (institution, item) pairs at once, in their order.
EVALUATIONS = """
SELECT e.institution, e.item, e.area, e."start", e."end", e.passed, e.evaluator, e.round
FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS k (institution, item, place)
JOIN evaluation e ON e.institution = k.institution AND e.item = k.item
WHERE e.t_from <= $3 AND $3 < e.t_to
ORDER BY k.place, e."start", e."end", e.area, e.rid, e.ordinal"""

#: Which reports carry these results; facts are read before, each from one index alone.
_REPORTS = """
SELECT l.result, l.issued, l.rid, l.status, l.source, l.more FROM result_of l
WHERE l.home = $1 AND l.result = ANY($2) AND l.t_from <= $3 AND $3 < l.t_to AND {l}"""

#: A cached place may be of a database that was set back: the id has to agree.
_AT = "r.home = $1 AND r.type = $2 AND r.rid = $3 AND r.id = $4"
_READ = f"SELECT {STORED} FROM resource r WHERE {_AT} AND {{r}}"
_OLDER = """
SELECT v.version, v.updated, v.deleted, v.home, v.rid, v.owner, v.enc, v.body, v.t, v.n
FROM version v WHERE v.home = $1 AND v.rid = $2 AND $3::bigint <> 0 AND {v}"""
#: The key of the resource of which _OLDER reads versions.
_KEY = "(SELECT x.key FROM resource x WHERE x.home = $1 AND x.type = $3 AND x.rid = $2)"
_PERSON = f"""
SELECT r.home, EXISTS (SELECT 1 FROM identity WHERE rid = $3),
  EXISTS (
    SELECT 1 FROM identity mine JOIN identity other ON other.key = mine.key AND other.kind = 2
    WHERE mine.rid = $3 AND mine.kind = 2 AND other.rid <> $3
      AND (other.home <> mine.home OR NOT EXISTS (
        SELECT 1 FROM identity a JOIN identity b ON b.key = a.key AND b.kind = 1
        WHERE a.rid = $3 AND a.kind = 1 AND b.rid = other.rid)))
    OR {apart_sql.APART},
  EXISTS (SELECT 1 FROM person WHERE home = $1)
    OR EXISTS (SELECT 1 FROM proposal WHERE home = $1)
FROM resource r WHERE {_AT} AND r.deleted = 0 AND {{r}}"""
_FACTS = """
SELECT f.item, f.time, f.time_high, f.issued, f.kind, f.status, f.issuer, f.specimen, f.unit,
  f.method, f.value, f.laterality, f.flags, f.mark, f.source,
  f.rid, f.version, f.t_from, f.patient, f.result, f.more
FROM fact f
WHERE f.home = $1 AND f.item = ANY($2) AND f.t_from <= $3 AND $3 < f.t_to AND {f}"""
_COUNTS = """
SELECT r.type, count(*) FROM resource r WHERE r.deleted = 0 AND r.enc <> 9 AND {r} GROUP BY r.type
UNION ALL
SELECT j.type, count(*) FROM journal j WHERE {j} GROUP BY j.type"""


class Visible(NamedTuple):
    """The statements of one shape. What an Access binds stands behind their own values. Those
    `of_several` are for a list of homes in place of one."""

    read: Statement
    version: Statement
    history: Statement
    person: Statement
    facts: Statement
    facts_of_several: Statement
    reports: Statement
    reports_of_several: Statement
    counts: Statement


@lru_cache(maxsize=64)
def visible_of(shape: Shape) -> Visible:
    """The statements of a shape."""

    def see(row: Row) -> str:
        return rule(shape, POSTGRES, row)

    def of_homes(text: str, alias: str) -> tuple[Statement, Statement]:
        one = text.format(**{alias: see(sourced(alias, POSTGRES, home=HOME_BIGINT))})
        several = text.replace(f"{alias}.home = $1", f"{alias}.home = ANY($1)")
        several = several.format(**{alias: see(sourced(alias, POSTGRES))})
        return (statement(one, POSTGRES, own=3, home=1), statement(several, POSTGRES, own=3))

    r = see(columns("r"))
    at_place = see(columns("r", home=HOME_BIGINT))
    older = _OLDER.format(v=see(columns("v", home=HOME_BIGINT, type="$3::bigint", key=_KEY)))
    entry = Row("j.home", "j.type", "j.owner", "0")  # a journal entry has no class of its own
    facts, reports = of_homes(_FACTS, "f"), of_homes(_REPORTS, "l")
    return Visible(
        read=statement(_READ.format(r=at_place), POSTGRES, own=4, home=1),
        version=statement(f"{older} AND v.version = $4", POSTGRES, own=4, home=1),
        history=statement(f"{older} ORDER BY v.version DESC", POSTGRES, own=3, home=1),
        person=statement(_PERSON.format(r=at_place), POSTGRES, own=4, home=1),
        facts=facts[0],
        facts_of_several=facts[1],
        reports=reports[0],
        reports_of_several=reports[1],
        counts=statement(_COUNTS.format(r=r, j=see(entry)), POSTGRES, own=0),
    )


@lru_cache(maxsize=1_024)
def visible_to(access: Access) -> tuple[Visible, Visible]:
    """The statements of an Access, and those for AuditEvents."""
    return visible_of(shape_of(access, of_acts=False)), visible_of(shape_of(access))


SEE_ALL = visible_of(EVERYBODY)
SEE_OWN = visible_of(OWN)


def facts_of(rows: Sequence[Any], reports: Sequence[Any]) -> list[StoredFact]:
    """Facts with the status of the report that carries each, newest first.

    Of several reports that carry a result, the one that was issued last gives the status.
    """
    newest: dict[int, Any] = {}
    for report in reports:
        other = newest.get(report[0])
        if other is None or report[1:3] > other[1:3]:
            newest[report[0]] = report
    found = [_fact(row, newest.get(row[19])) for row in rows]
    found.sort(key=lambda one: (-one.fact.time, -one.rid))
    return found


def _fact(row: Any, report: Any) -> StoredFact:
    told = report[3:6] if report else ("", "", "")
    return StoredFact(Fact(*(*row[:15], row[20])), row[15], row[16], row[17], row[18], *told)
