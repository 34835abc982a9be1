"""The tables of the settings' terminology folder, read once for each process."""

from __future__ import annotations

from functools import lru_cache

import msgspec

from fhir_gateway.context import Gateway
from fhir_gateway.terminology.catalogue import Catalogue
from fhir_gateway.terminology.code_system import Vocabulary
from fhir_gateway.terminology.reason import REASON_SYSTEM, Reason
from fhir_gateway.terminology.value_set import load_vocabulary


def vocabulary_of(gateway: Gateway) -> Vocabulary:
    """Catalogue, areas and grounds."""
    return _load(gateway.settings.terminology)


def catalogue_of(gateway: Gateway) -> Catalogue:
    """The catalogue of items."""
    return _load(gateway.settings.terminology).catalogue


def areas_within(gateway: Gateway, area: str) -> tuple[str, ...]:
    """The area itself and all that contain it, sorted; empty for an unknown one."""
    return _within(gateway.settings.terminology, area)


@lru_cache(maxsize=4_096)
def _within(folder: str, area: str) -> tuple[str, ...]:
    return tuple(sorted(_load(folder).areas.within(area)))


def coding_of(reason: Reason) -> dict[str, str]:
    """A ground for repeating an examination as a Coding."""
    return {"code": reason.code, "system": REASON_SYSTEM, "display": reason.name_zh}


def reason_codings(gateway: Gateway) -> bytes:
    """All grounds for repeating an examination, a JSON array of Codings."""
    return _codings(gateway.settings.terminology)


@lru_cache(maxsize=8)
def _codings(folder: str) -> bytes:
    return msgspec.json.encode([coding_of(one) for one in _load(folder).reasons.values()])


@lru_cache(maxsize=8)
def _load(folder: str) -> Vocabulary:
    return load_vocabulary(folder)
