"""The tables of the settings' terminology folder, read once for each process."""

from __future__ import annotations

from functools import lru_cache

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


def coding_of(reason: Reason) -> dict[str, str]:
    """A ground for repeating an examination as a Coding."""
    return {"code": reason.code, "system": REASON_SYSTEM, "display": reason.name_zh}


@lru_cache(maxsize=8)
def _load(folder: str) -> Vocabulary:
    return load_vocabulary(folder)
