"""The names of a concept in the languages that they are given in (BCP 47, RFC 4647 lookup)."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from typing import NamedTuple

from fhir_gateway.terminology.system import Concept, System

#: The languages that the gateway itself speaks; others are looked up all the same.
LANGUAGES = ("zh-CN", "en")

_CHINESE = re.compile("[\u3400-\u9fff]")


class Name(NamedTuple):
    """One name of a concept; `language` is "" when nothing says which it is."""

    language: str
    value: str
    use: tuple[str, str] | None = None


def names_of(concept: Concept, system: System | None) -> Iterator[Name]:
    """The display, then the designations; each once."""
    seen = set()
    language = system.language if system is not None else ""
    if concept.display:
        if not language:
            language = _told(concept)
        seen.add((language, concept.display))
        yield Name(language, concept.display)
    for one in concept.designations:
        if (one.language, one.value) not in seen:
            seen.add((one.language, one.value))
            yield Name(one.language, one.value, one.use)


def _told(concept: Concept) -> str:
    """The language of the display, by a designation that says the same."""
    return next((one.language for one in concept.designations if one.value == concept.display), "")


def speaks(language: str, asked: str) -> bool:
    """Whether a name in `language` serves who asked for `asked`: zh for zh-CN, and zh-CN for zh."""
    have, want = language.lower(), asked.lower()
    if not have or not want:
        return False
    return have == want or have.startswith(f"{want}-") or want.startswith(f"{have}-")


def name_in(concept: Concept, system: System | None, language: str) -> str | None:
    """The name in a language, None when there is none: an exact tag before a wider one."""
    if not language:
        return None
    found = [one for one in names_of(concept, system) if speaks(one.language, language)]
    exact = [one for one in found if one.language.lower() == language.lower()]
    chosen = [*exact, *found]
    return chosen[0].value if chosen else None


def display_of(concept: Concept, system: System | None, language: str = "") -> str:
    """What to show in a language; the system's own display when it has no name in it."""
    return name_in(concept, system, language) or concept.display


def folded(text: str) -> str:
    """A name without what does not tell two names apart: case, width, runs of blanks."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    return " ".join(text.casefold().split())


def is_chinese(text: str) -> bool:
    """Whether a text has Chinese characters."""
    return not text.isascii() and _CHINESE.search(text) is not None
