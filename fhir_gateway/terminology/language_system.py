"""Language tags as a code system (hl7.org/fhir/R4/valueset-all-languages.html, BCP 47).

The grammar is that of RFC 5646; a language of two letters, a script and a region must be in the
lists of terminology.iso, where their names come from. Languages of three letters are thousands:
those that the list does not name pass without a name, but not where a tag of two letters exists.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from fhir_gateway.fhir.terminology import ConceptRow
from fhir_gateway.terminology.iso import iso_rows
from fhir_gateway.terminology.system import Concept, Content, Designation

BCP_47 = "urn:ietf:bcp:47"

_LONGEST = 100
_TAG = re.compile(
    r"(?P<language>[a-z]{2,3})(?:-(?P<extended>[a-z]{3}))?(?:-(?P<script>[a-z]{4}))?"
    r"(?:-(?P<region>[a-z]{2}|[0-9]{3}))?(?P<variants>(?:-(?:[a-z0-9]{5,8}|[0-9][a-z0-9]{3}))*)"
    r"(?P<extensions>(?:-[a-wyz0-9](?:-[a-z0-9]{2,8})+)*)(?P<private>-x(?:-[a-z0-9]{1,8})+)?",
    re.IGNORECASE,
)
_PRIVATE = re.compile(r"x(?:-[a-z0-9]{1,8})+", re.IGNORECASE)
#: Regions of UN M49 that BCP 47 takes, and codes for private use.
_REGION_LIST = (
    "001 002 003 005 009 011 013 014 015 017 018 019 021 029 030 034 035 039 053 054 057 061 142 "
    "143 145 150 151 154 155 202 419"
)
_REGIONS = frozenset(_REGION_LIST.split())
_PRIVATE_REGION = re.compile(r"AA|Q[M-Z]|X[A-Z]|ZZ")
_OLD_TAGS = (
    "en-gb-oed i-ami i-bnn i-default i-enochian i-hak i-klingon i-lux i-mingo i-navajo i-pwn i-tao "
    "i-tay i-tsu sgn-be-fr sgn-be-nl sgn-ch-de art-lojban cel-gaulish no-bok no-nyn zh-guoyu "
    "zh-hakka zh-min zh-min-nan zh-xiang"
)
_GRANDFATHERED = frozenset(_OLD_TAGS.split())


class _Names(NamedTuple):
    """The name of a part of a tag in both languages."""

    en: str
    zh: str


class LanguageSystem:
    """A System (terminology.system) whose codes are the tags of a grammar."""

    url = BCP_47
    version = ""
    title = "Tags for identifying languages (BCP 47)"
    content: Content = "complete"
    case_sensitive = False
    language = "en"
    notice = ""
    value_set = "http://hl7.org/fhir/ValueSet/all-languages"

    def __init__(self) -> None:
        """Reads nothing yet."""
        self._find = lru_cache(maxsize=1_024)(_read)

    def find(self, code: str) -> Concept | None:
        """The tag with its name; None when it is not well-formed, or names what does not exist."""
        return self._find(code) if 0 < len(code) <= _LONGEST else None

    def near(self, code: str) -> str:
        """The tag that was probably meant (zh for chi, zh-CN for zh_CN), "" for none."""
        language, dash, rest = code.replace("_", "-").partition("-")
        row = iso_rows("language").get(language.lower())
        found = f"{row.replaced_by if row and row.replaced_by else language}{dash}{rest}"
        return found if found != code and self.find(found) is not None else ""

    def concepts(self) -> None:
        """Nobody can list them."""

    def parents(self, code: str) -> Sequence[str]:
        """None: a narrower tag is no kind of the wider one in R4."""
        return ()

    def children(self, code: str) -> Sequence[str]:
        """None."""
        return ()


def _read(code: str) -> Concept | None:
    if code.lower() in _GRANDFATHERED or _PRIVATE.fullmatch(code):
        return Concept(code, code)
    match = _TAG.fullmatch(code)
    if match is None:
        return None
    language = _language(match["language"].lower())
    parts = [
        _extended(match["extended"]),
        _named("script", match["script"] and match["script"].title()),
        _region(match["region"] and match["region"].upper()),
    ]
    if language is None or None in parts:
        return None
    return _concept(code, language, [one for one in parts if one and one.en])


def _language(code: str) -> _Names | None:
    row = iso_rows("language").get(code)
    if row is None:
        return None if len(code) == 2 else _Names(code, code)
    return None if row.replaced_by else _names(row)


def _extended(code: str | None) -> _Names | None:
    """A language below a macrolanguage, as in zh-yue."""
    return _Names("", "") if code is None else _language(code.lower())


def _region(code: str | None) -> _Names | None:
    if code in _REGIONS or (code and _PRIVATE_REGION.fullmatch(code)):
        return _Names(str(code), str(code))
    return None if code and code.isdigit() else _named("country", code)


def _named(list: str, code: str | None) -> _Names | None:
    """The names of a part; empty when the tag has none, None when the list has no such code."""
    if not code:
        return _Names("", "")
    row = iso_rows(list).get(code)
    return None if row is None else _names(row)


def _names(row: ConceptRow) -> _Names:
    return _Names(row.display, row.names.get("zh-CN", row.display))


def _concept(code: str, language: _Names, parts: Sequence[_Names]) -> Concept:
    display, chinese = language
    if parts:
        display += f" ({', '.join(one.en for one in parts)})"
        chinese += f"（{'，'.join(one.zh for one in parts)}）"
    named = () if chinese == display else (Designation("zh-CN", chinese),)
    return Concept(code, display, designations=named)
