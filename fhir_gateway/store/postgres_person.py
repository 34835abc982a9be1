"""What the PostgreSQL Reader reads of one person, who may have several homes: facts, with the
status of the report that carries each, and what the register says of who measured.

A person of one home is read from one partition; a person of several by a list of homes.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from fhir_gateway.store import postgres_sql as sql
from fhir_gateway.store.changes import Evaluation
from fhir_gateway.store.store import StoredFact

#: Runs a statement with its values.
Fetch = Callable[..., Awaitable[list[Any]]]


async def facts(
    fetch: Fetch,
    see: sql.Visible,
    homes: int | Sequence[int],
    items: Sequence[str],
    as_of: int,
    values: Mapping[str, Any],
) -> list[StoredFact]:
    """Facts of these homes for these items that were valid at commit `as_of`, newest first.

    `values` are what the Access binds. Of several reports that carry a result, the one that was
    issued last gives the status.
    """
    distinct = list(dict.fromkeys(items))
    where: int | list[int]
    found, reports = see.facts, see.reports
    if isinstance(homes, int):
        where = homes
    elif len(homes) == 1:
        where = homes[0]
    else:
        where, found, reports = list(homes), see.facts_of_several, see.reports_of_several
    rows = await fetch(found.sql, where, distinct, as_of, *found.bound(values))
    if not rows:
        return []
    results = list({row[19] for row in rows})
    told = await fetch(reports.sql, where, results, as_of, *reports.bound(values))
    return sql.facts_of(rows, told)


async def evaluations(
    fetch: Fetch, pairs: Sequence[tuple[str, str]], as_of: int
) -> list[Evaluation]:
    """Rows of the register for (institution, item) pairs, valid at commit `as_of`."""
    distinct = list(dict.fromkeys(pairs))
    if not distinct:
        return []
    institutions, items = zip(*distinct, strict=True)
    rows = await fetch(sql.EVALUATIONS, institutions, items, as_of)
    return [Evaluation(a, b, c, d, e, bool(f), g, h) for a, b, c, d, e, f, g, h in rows]
