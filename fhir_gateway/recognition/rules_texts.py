"""What a rule says of itself: title and explanation in two languages, and what it cites.

An article number stands in a citation only where somebody has compared it with the official text
and says so (StructureDefinition/article-verified): the others are from secondary sources, and a
wrong number before a doctor is worse than none. docs/adr/0025-rule-set-lifecycle.md
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from fhir_gateway.settings import CANONICAL

VERIFIED_URL = f"{CANONICAL}/StructureDefinition/article-verified"
TRANSLATION_URL = "http://hl7.org/fhir/StructureDefinition/translation"

#: 第11条, ≈第12条、≈第13条, Art. 18: with what leads to them.
_ARTICLES = re.compile(
    r"[\s,、，;；]*≈?\s*(?:(?:第[0-9一二三四五六七八九十百零]{1,9}[条款项])+"
    r"(?:[至、和及]?（[一二三四五六七八九十]{1,3}）)*"
    r"|\b(?:Art(?:icle|\.)|§)\s*[0-9]{1,4})"
)
_ABOUT = re.compile(r"≈\s*")


class Said(NamedTuple):
    """A text in Chinese and in English; "" where the rule set does not say it."""

    zh: str = ""
    en: str = ""


UNSAID = Said()


class Citation(NamedTuple):
    """What a rule rests on. `shown` is its label without the article numbers of one that nobody
    has verified; `articles` says whether it names any."""

    label: str
    shown: str
    verified: bool
    articles: bool


def said(element: Mapping[str, Any], name: str) -> Said:
    """A text and its English translation."""
    text = element.get(name)
    english = ""
    for extension in (element.get(f"_{name}") or {}).get("extension", ()):
        parts = {part.get("url"): part for part in extension.get("extension", ())}
        language = (parts.get("lang") or {}).get("valueCode", "")
        if extension.get("url") == TRANSLATION_URL and language.startswith("en"):
            content = parts.get("content") or {}
            english = content.get("valueString") or content.get("valueMarkdown") or ""
    return Said(text if isinstance(text, str) else "", english)


def citations(action: Mapping[str, Any]) -> Iterator[Citation]:
    """The labels that an action's documentation has."""
    for document in action.get("documentation") or ():
        label = document.get("label") or ""
        if label:
            yield _citation(label, is_verified(document))


def is_verified(document: Mapping[str, Any]) -> bool:
    """Whether somebody says on which day its articles were compared with the official text."""
    extensions: Sequence[Mapping[str, Any]] = document.get("extension") or ()
    return any(one.get("url") == VERIFIED_URL and one.get("valueDate") for one in extensions)


def _citation(label: str, verified: bool) -> Citation:
    bare = _ARTICLES.sub("", label).strip()
    articles = bare != label.strip()
    shown = _ABOUT.sub("", label).strip() if verified else bare
    return Citation(label, shown or label, verified, articles)


def clause(action: Mapping[str, Any]) -> str:
    """What is shown of what an action rests on; "" when it cites nothing."""
    return "; ".join(dict.fromkeys(one.shown for one in citations(action)))
