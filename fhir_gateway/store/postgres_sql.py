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

from fhir_gateway.store import apart_sql, search_record, visible
from fhir_gateway.store.changes import Fact
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
REPORTS = """
SELECT result, issued, rid, status, source, more FROM result_of
WHERE home = $1 AND result = ANY($2) AND t_from <= $3 AND $3 < t_to"""

#: A cached place may be of a database that was set back: the id has to agree.
_AT = "r.home = $1 AND r.type = $2 AND r.rid = $3 AND r.id = $4"
_READ = f"SELECT {STORED} FROM resource r WHERE {_AT} AND {{r}}"
_OLDER = """
SELECT v.version, v.updated, v.deleted, v.home, v.rid, v.owner, v.enc, v.body, v.t, v.n
FROM version v WHERE v.home = $1 AND v.rid = $2 AND {v}"""
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
    """The statements of one shape of Access, which is bound after their own values."""

    read: str
    version: str
    history: str
    person: str
    facts: str
    counts: str


def _shape(rule: str) -> Visible:
    def see(alias: str, first: int) -> str:
        return rule.format(r=alias, first=first, second=first + 1)

    owner = rule.partition(" AND ")[2] or "TRUE"  # a journal entry has no grade of its own
    return Visible(
        read=_READ.format(r=see("r", 5)),
        version=_OLDER.format(v="v.version = $3 AND " + see("v", 4)),
        history=_OLDER.format(v=see("v", 3)) + " ORDER BY v.version DESC",
        person=_PERSON.format(r=see("r", 5)),
        facts=_FACTS.format(f=see("f", 4)),
        counts=_COUNTS.format(r=see("r", 1), j=owner.format(r="j", first=1, second=2)),
    )


_GRADE = "{r}.sensitivity <= ${first}"
SEE_ALL = _shape(_GRADE)
SEE_OWN = _shape(_GRADE + " AND ({r}.owner = 0 OR {r}.owner = ANY(${second}))")


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
