"""The code systems, value sets and concept maps that are there before anybody stores one.

Those that FHIR R4 comes with and binds to (hl7.org/fhir/R4/terminologies-systems.html), and the
tables of the terminology folder. Nothing is read before terminology is first asked for, and no
concepts before somebody asks for one of their system.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any

import msgspec

from fhir_gateway.fhir.terminology import ConceptRow, SystemRow, r4_terminology
from fhir_gateway.terminology.code_system import Vocabulary
from fhir_gateway.terminology.dicom_system import DCM, NOTICE, dcm_rows, modality_value_sets
from fhir_gateway.terminology.iso import countries, currencies
from fhir_gateway.terminology.language_system import LanguageSystem
from fhir_gateway.terminology.listed_system import ListedSystem
from fhir_gateway.terminology.loinc_system import loinc
from fhir_gateway.terminology.media_type_system import MediaTypeSystem
from fhir_gateway.terminology.system import System
from fhir_gateway.terminology.ucum_system import UcumSystem
from fhir_gateway.terminology.value_table import ValueTables
from fhir_gateway.terminology.zone_system import time_zones

_ROWS = msgspec.json.Decoder(tuple[ConceptRow, ...])


def builtin_systems(vocabulary: Vocabulary) -> list[System]:
    """Every code system that is here without being stored, one for each version of it.

    The project's own CodeSystems are resources and come with the store (terminology.value_set).
    """
    return [*_systems(vocabulary.tables), loinc(vocabulary.catalogue)]


@lru_cache(maxsize=1)
def builtin_value_sets() -> list[dict[str, Any]]:
    """The ValueSets of R4, as resources; made once a process, not to be changed."""
    found = [msgspec.json.decode(raw) for raw in r4_terminology().value_sets]
    return [*found, *modality_value_sets()]


def builtin_concept_maps(vocabulary: Vocabulary) -> list[dict[str, Any]]:
    """The ConceptMaps of the tables of the terminology folder, as resources."""
    return list(vocabulary.tables.concept_maps)


@lru_cache(maxsize=2)
def _systems(tables: ValueTables) -> tuple[System, ...]:
    """All that do not change while the tables do not: their concepts are kept."""
    return (
        *(_r4_system(row, tables.names.get(row.url, {})) for row in r4_terminology().systems),
        *tables.systems,
        countries(),
        currencies(),
        time_zones(),
        UcumSystem(),
        MediaTypeSystem(),
        LanguageSystem(),
    )


def _r4_system(row: SystemRow, names: Mapping[str, str]) -> System:
    load = _named(_decoded(row), names)
    return ListedSystem(
        url=row.url,
        title=row.title,
        load=dcm_rows(load, names) if row.url == DCM else load,
        version="" if row.url == DCM else row.version,
        content="complete" if row.content == "complete" and row.url != DCM else "fragment",
        case_sensitive=row.case_sensitive,
        notice=NOTICE if row.url == DCM else row.notice,
        value_set=row.value_set,
        identifiers=frozenset(row.identifiers),
    )


def _decoded(row: SystemRow) -> Callable[[], tuple[ConceptRow, ...]]:
    return lambda: _ROWS.decode(row.concepts)


def _named(
    load: Callable[[], Iterable[ConceptRow]], names: Mapping[str, str]
) -> Callable[[], Iterable[ConceptRow]]:
    """The rows with the Chinese names of a table beside their own."""
    if not names:
        return load
    return lambda: [_with_name(row, names) for row in load()]


def _with_name(row: ConceptRow, names: Mapping[str, str]) -> ConceptRow:
    """The row with its Chinese name, when the table has one."""
    name = names.get(row.code)
    if name is None:
        return row
    return msgspec.structs.replace(row, names={**row.names, "zh-CN": name})
