"""Logical ids of resources by their row numbers, for what has no room for an id.

Row numbers are given once and for all types together, so that a number that was kept elsewhere
names one resource as long as the store lives. Generators of statements for every driver (query.py).
"""

from __future__ import annotations

from collections.abc import Sequence

from fhir_gateway.fhir.keys import type_key
from fhir_gateway.store.dialect import Dialect
from fhir_gateway.store.query import Query, Steps


def ids_of(dialect: Dialect, type: str, numbers: Sequence[int]) -> Steps[dict[int, str]]:
    """The logical ids of these rows of a type, of those that there are."""
    if not numbers:
        return {}
    rows = yield Query(
        f"SELECT r.rid, r.id FROM resource r WHERE r.type = ? AND {dialect.any_of('r.rid')}",  # noqa: S608 - a constant
        [type_key(type), dialect.array(list(numbers))],
    )
    return {row[0]: row[1] for row in rows}
