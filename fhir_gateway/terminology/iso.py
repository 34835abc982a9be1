"""Countries (ISO 3166-1), currencies (ISO 4217), languages (ISO 639) and scripts (ISO 15924).

Codes are facts of the standards; names in English and Chinese are those of Unicode CLDR, but for
regions of China, which are named as ISO 3166 and GB/T 2659 name them. Read when first asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import msgspec

from fhir_gateway.fhir.terminology import ConceptRow
from fhir_gateway.terminology.listed_system import ListedSystem

NOTICE = (
    "Names: Unicode CLDR, copyright © 1991-2025 Unicode, Inc., used under the Unicode License v3 "
    "(https://www.unicode.org/license.txt)."
)
_FILE = Path(__file__).resolve().parent / "iso.json"


@lru_cache(maxsize=1)
def _lists() -> Mapping[str, list[list[str]]]:
    return msgspec.json.decode(_FILE.read_bytes(), type=dict[str, list[list[str]]])


@lru_cache(maxsize=4)
def iso_rows(name: str) -> Mapping[str, ConceptRow]:
    """The rows of a list (country, currency, language, script) by code, named in English.

    A language code that has a shorter one carries that as `replaced_by`, and no name.
    """
    found = {}
    for code, en, zh, *other in _lists()[name]:
        names = {"zh-CN": zh} if zh and zh != en else {}
        replaced = other[0] if other else ""
        found[code] = ConceptRow(code, en or code, names=names, replaced_by=replaced)
    return found


def countries() -> ListedSystem:
    """ISO 3166-1: codes of two letters, of three, and numbers."""
    return _system("urn:iso:std:iso:3166", "Countries (ISO 3166-1)", "country")


def currencies() -> ListedSystem:
    """ISO 4217: the currencies that are in use."""
    return _system("urn:iso:std:iso:4217", "Currencies (ISO 4217)", "currency")


def _system(url: str, title: str, name: str) -> ListedSystem:
    return ListedSystem(url=url, title=title, load=lambda: iso_rows(name).values(), notice=NOTICE)
