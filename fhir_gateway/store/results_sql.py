"""All results of a person, or those of some items: facts with the report that carries each.

A generator of statements for every driver (see query.py). One covering read: no resource is looked
at. A row stays the flat row that it is, because a page may have hundreds of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from fhir_gateway.store.changes import Fact
from fhir_gateway.store.history_sql import Seen
from fhir_gateway.store.query import Query, Steps
from fhir_gateway.store.store import StoredFact

_SELECT = """
SELECT f.item, f.time, f.time_high, f.issued, f.kind, f.status, f.issuer, f.specimen, f.unit,
  f.method, f.value, f.laterality, f.flags, f.mark, f.source, f.more,
  f.rid, f.version, f.t_from, f.patient, f.ordinal,
  coalesce(l.status, ''), coalesce(l.source, ''), coalesce(l.more, ''), l.issued, l.rid
FROM fact f LEFT JOIN result_of l ON l.home = f.home AND l.result = f.result
  AND l.t_from <= ? AND ? < l.t_to AND {report}
WHERE {homes} AND f.t_from <= ? AND ? < f.t_to AND {seen}"""

#: Columns of a Fact in a row, in its order.
_OF_FACT = 16


class ResultRow(NamedTuple):
    """One result: what `Fact` and `StoredFact` say, and when its report was issued."""

    item: str
    time: int
    time_high: int
    issued: int
    kind: str
    status: str
    issuer: str
    specimen: str
    unit: str
    method: str
    value: str
    laterality: str
    flags: int
    mark: str
    source: str
    more: str
    rid: int
    version: int
    t_from: int
    patient: str
    ordinal: int
    report_status: str
    report_source: str
    report_more: str
    report_issued: int | None
    report_rid: int | None

    def stored(self) -> StoredFact:
        """The row as `Reader.facts` gives it."""
        return StoredFact(
            Fact(*self[:_OF_FACT]),  # type: ignore[arg-type]  # the columns have its order
            self.rid, self.version, self.t_from, self.patient, self.report_status,
            self.report_source, self.report_more,
        )  # fmt: skip


def results(
    seen: Seen, homes: Sequence[int], as_of: int, items: Iterable[str] | None = None
) -> Steps[list[ResultRow]]:
    """Facts of these homes that were valid at commit `as_of`; of all items, or of these.

    Of several reports that carry a result, the one that was issued last tells.
    """
    if not homes:
        return []
    among, bound = seen.dialect.among("f.home", homes)
    then, only = seen.as_of(as_of), homes[0] if len(homes) == 1 else None
    rule, shown = then.sourced("f", home=only)
    report, more = then.sourced("l", home=only)
    sql = _SELECT.format(homes=among, seen=rule, report=report)
    values: list[Any] = [as_of, as_of, *more, *bound, as_of, as_of, *shown]
    if items is not None:
        sql += f" AND {seen.dialect.any_of('f.item')}"
        values.append(seen.dialect.array(sorted(items)))
    newest: dict[tuple[int, int], Any] = {}
    rows = yield Query(sql, values)
    for row in rows:
        key = (row[16], row[20])
        other = newest.get(key)
        if other is None or row[24:26] > other[24:26]:
            newest[key] = row
    return [ResultRow._make(row) for row in newest.values()]
