"""What the PostgreSQL Reader reads of one person, who may have several homes: facts, with the
status of the report that carries each.

A person of one home is read from one partition; a person of several by a list of homes.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import lru_cache
from typing import Any

from fhir_gateway.store import postgres_sql as sql
from fhir_gateway.store.store import StoredFact

#: Runs a statement with its values.
Fetch = Callable[..., Awaitable[list[Any]]]


async def facts(
    fetch: Fetch,
    statement: str,
    homes: int | Sequence[int],
    items: Sequence[str],
    as_of: int,
    bound: Sequence[Any],
) -> list[StoredFact]:
    """Facts of these homes for these items that were valid at commit `as_of`, newest first.

    Of several reports that carry a result, the one that was issued last gives the status.
    """
    distinct, reports = list(dict.fromkeys(items)), sql.REPORTS
    where: int | list[int]
    if isinstance(homes, int):
        where = homes
    elif len(homes) == 1:
        where = homes[0]
    else:
        where, statement, reports = list(homes), of_several(statement), of_several(reports)
    rows = await fetch(statement, where, distinct, as_of, *bound)
    if not rows:
        return []
    results = list({row[19] for row in rows})
    return sql.facts_of(rows, await fetch(reports, where, results, as_of))


@lru_cache(maxsize=16)
def of_several(statement: str) -> str:
    """The statement for a list of homes in place of one."""
    return statement.replace("home = $1", "home = ANY($1)")
