"""What the query of a scope means: conditions on index rows, and of one resource at hand.

hl7.org/fhir/smart-app-launch/scopes-and-launch-context.html, "Finer-grained resource constraints
using search parameters". A query must be one that can be kept wherever a row may show: in every
statement of a search, and of what is not stored yet. So it takes search parameters of the type
itself, by what stands in the resource: no chain, no _has, nothing that asks what a code means or
when something was stored, nothing that shapes a result.
"""

from __future__ import annotations

from collections.abc import Sequence

from fhir_gateway.errors import NotSupported
from fhir_gateway.search.context import Context
from fhir_gateway.search.index import IndexRows
from fhir_gateway.search.matching import is_judged, meets
from fhir_gateway.search.meaning import plain
from fhir_gateway.search.params import parse_name, shown
from fhir_gateway.search.plan import Condition
from fhir_gateway.security.actor import Way, Ways

#: Modifiers that ask what a code means: a value set may change while a token lives.
_BY_MEANING = frozenset({"in", "not-in", "above", "below"})


def conditions_of(
    type: str, query: Sequence[tuple[str, str]], context: Context
) -> tuple[Condition, ...]:
    """The conditions of a scope's query. Raises Invalid and NotSupported for one that cannot be
    kept."""
    found: list[Condition] = []
    for name, text in query:
        asked = parse_name(name)
        if asked.base == "_has" or asked.chain is not None or asked.modifier in _BY_MEANING:
            raise _not_kept(name)
        conditions = plain(type, name, text, context).conditions
        if not all(is_judged(one) for one in conditions):
            raise _not_kept(name)
        found += conditions
    return tuple(found)


def _not_kept(name: str) -> NotSupported:
    return NotSupported(
        f"A scope cannot be narrowed by {shown(name)}: it takes search parameters of its own type "
        "that look at the resource alone",
        expression=shown(name),
        rule="scope-query",
    )


def lets_through(ways: Ways, id: str, rows: IndexRows, *, is_patients: bool) -> bool:
    """Whether one resource passes; `is_patients` says that it is the token's Patient's, or in no
    person's home."""
    return all(
        any(_passes(way, id, rows, is_patients=is_patients) for way in member) for member in ways
    )


def _passes(way: Way, id: str, rows: IndexRows, *, is_patients: bool) -> bool:
    return (is_patients or not way.bound) and all(meets(one, id, rows) for one in way.conditions)
