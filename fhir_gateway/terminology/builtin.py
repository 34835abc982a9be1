"""The code systems and value sets that are there before anybody stores one.

Those that FHIR R4 comes with and binds to (hl7.org/fhir/R4/terminologies-systems.html), and the
tables of the terminology folder. Nothing is read before terminology is first asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import msgspec

from fhir_gateway.fhir.terminology import ConceptRow, SystemRow, r4_terminology
from fhir_gateway.terminology.code_system import Vocabulary
from fhir_gateway.terminology.listed_system import ListedSystem
from fhir_gateway.terminology.system import System

_ROWS = msgspec.json.Decoder(tuple[ConceptRow, ...])


def builtin_systems(vocabulary: Vocabulary) -> list[System]:
    """Every code system that is here without being stored, one for each version of it."""
    return list(_r4_systems())


@lru_cache(maxsize=1)
def builtin_value_sets() -> list[dict[str, Any]]:
    """The ValueSets that R4 comes with, as resources; made once a process, not to be changed."""
    return [msgspec.json.decode(raw) for raw in r4_terminology().value_sets]


@lru_cache(maxsize=1)
def _r4_systems() -> tuple[System, ...]:
    return tuple(_r4_system(row) for row in r4_terminology().systems)


def _r4_system(row: SystemRow) -> System:
    return ListedSystem(
        url=row.url,
        title=row.title,
        load=_decoded(row),
        version=row.version,
        content="complete" if row.content == "complete" else "fragment",
        case_sensitive=row.case_sensitive,
        notice=row.notice,
    )


def _decoded(row: SystemRow) -> Callable[[], tuple[ConceptRow, ...]]:
    return lambda: _ROWS.decode(row.concepts)
