"""The prefixes of ordered values (hl7.org/fhir/R4/search.html#prefix)."""

from __future__ import annotations

from typing import cast, get_args

from fhir_gateway.search.plan import Comparator

_COMPARATORS = frozenset(get_args(Comparator))


def prefixed(value: str) -> tuple[Comparator, str]:
    """The comparator and the rest; eq when there is no prefix."""
    head = value[:2]
    if head in _COMPARATORS:
        return cast(Comparator, head), value[2:]
    return "eq", value
