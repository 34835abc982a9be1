"""What the SQLite Reader reads of one person, who may have several homes: facts, with the status of
the report that carries each. A home is one range, read in one statement for its items.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import apsw

from fhir_gateway.store.changes import Fact
from fhir_gateway.store.sight_sql import Statement
from fhir_gateway.store.store import StoredFact
from fhir_gateway.store.visible import FACT_SHAPES


def facts(
    connection: apsw.Connection,
    see: Mapping[int, Statement],
    homes: Sequence[int],
    items: Sequence[str],
    as_of: int,
    values: Mapping[str, Any],
) -> list[StoredFact]:
    """Facts of these homes for these items that were valid at commit `as_of`, newest first.

    `see` are the statements by the number of items, `values` what the Access binds. Of several
    reports that carry a result, the one that was issued last gives the status.
    """
    found: dict[tuple[int, int], tuple[Any, ...]] = {}
    distinct = list(dict.fromkeys(items))
    while distinct:
        chunk, distinct = distinct[: FACT_SHAPES[-1]], distinct[FACT_SHAPES[-1] :]
        shape = next(size for size in FACT_SHAPES if size >= len(chunk))
        bound = (*see[shape].bound(values), *chunk, *chunk[-1:] * (shape - len(chunk)))
        for home in homes:
            for row in connection.execute(see[shape].sql, (home, as_of, *bound)):
                key = (row[15], row[19])
                other = found.get(key)
                if other is None or row[22:24] > other[22:24]:
                    found[key] = row
    facts = [
        StoredFact(Fact(*(*row[:15], row[24])), row[15], row[16], row[17], row[18],
                   row[20] or "", row[21] or "", row[25] or "")
        for row in found.values()
    ]  # fmt: skip
    facts.sort(key=_newest_first)
    return facts


def _newest_first(stored_fact: StoredFact) -> tuple[int, int]:
    return (-stored_fact.fact.time, -stored_fact.rid)
