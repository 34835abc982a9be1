"""Names of persons, in the form in which they are compared: script, parts, sound.

A Chinese name is compared as it is written, in simplified characters, and by its sound; a name with
middle dots (阿依古丽·买买提) by its parts; a name in Latin letters by its words. A name such as
王芳之女 is none: it says whose child is meant. hl7.org/fhir/R4/datatypes.html#HumanName
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import Any, Literal, NamedTuple

from fhir_gateway.fhir.datatypes import fold
from fhir_gateway.search.types.pinyin import sounds, split

Script = Literal["han", "latin", "other"]

#: Longer texts are no names and are not compared.
LONGEST = 120

_DOTS = re.compile(r"[·•・‧∙⋅．.]+")
_MARKS = re.compile(r"[\s'’,，\-]+")
_HAN = re.compile("[\u3400-\u9fff\U00020000-\U0003ffff]")
_LATIN = re.compile(r"[a-z\s]*[a-z][a-z\s]*")

#: What stands where a character could not be written.
LOST = frozenset("?□○〇*_※")

_CHILD = (
    "长子|次子|三子|幼子|之子|大双|小双|双大|双小|长女|次女|三女|幼女|之女|之儿|之婴|"
    "儿子|女儿|男婴|女婴|婴儿|婴|毛毛|宝宝|新生儿"
)
_NEWBORN = re.compile(
    rf"(?P<mother>.{{2,40}}?)[之的]?(?:{_CHILD})[之的]?(?P<which>[0-9一二三四甲乙丙a-d大小]?)"
)
_BABY = re.compile(
    r"(?:baby|newborn|nb|bb|b o)(?: (?:boy|girl|male|female|of|[a-d]|[1-4]))*(?: (?P<mother>.+))?"
)
_BABY_AFTER = re.compile(
    r"(?P<mother>.+?)(?: s)? (?:baby|newborn|nb|bb)(?: (?:boy|girl|[a-d1-4]))?"
)


class Name(NamedTuple):
    """A name as it is compared.

    `plain` is folded as it is written, `text` in simplified characters; both without marks.
    `parts` are the pieces between middle dots, or the words of a name in Latin letters. `family`
    is the surname of a Chinese name, of one or two characters. `former` says that it is not in
    use any more. `mother` is the name before 之女 and the like, `is_newborn` that it is one.
    """

    plain: str
    text: str
    script: Script
    parts: tuple[str, ...]
    family: str = ""
    former: bool = False
    is_newborn: bool = False
    mother: str = ""

    @property
    def given(self) -> str:
        """What follows the surname of a Chinese name."""
        return self.text[len(self.family) :]


@lru_cache(maxsize=1)
def _forms() -> dict[int, int]:
    """Each traditional or variant character with the form that is compared."""
    file = Path(__file__).with_name("characters.json")
    table: dict[str, str] = json.loads(file.read_text(encoding="utf-8"))
    return str.maketrans(table["from"], table["to"])


def simplified(text: str) -> str:
    """The text in the forms of characters that are compared."""
    return text.translate(_forms())


def names(patient: Mapping[str, Any]) -> tuple[Name, ...]:
    """The names of a Patient that can be compared, those in use first, each once."""
    found = [name for value in patient.get("name", ()) if (name := _name(value))]
    found.sort(key=lambda name: name.former)
    return tuple(dict.fromkeys(found))


def _name(value: Mapping[str, Any]) -> Name | None:
    use = value.get("use")
    if use in ("anonymous", "nickname"):
        return None
    family = value.get("family") or ""
    given = [text for text in value.get("given", ()) if text]
    text = value.get("text") or " ".join([family, *given])
    read = read_name(text, family)
    return read._replace(former=use in ("old", "maiden", "temp")) if read else None


@lru_cache(maxsize=16_384)
def read_name(text: str, family: str = "") -> Name | None:
    """The name that a text is, with its surname where that is known; None for no name."""
    if len(text) > LONGEST:
        return None
    folded = fold(unicodedata.normalize("NFKC", text))
    plain = _MARKS.sub("", _DOTS.sub("", folded))
    if not plain:
        return None
    newborn, mother = _newborn(folded, plain)
    if _HAN.search(plain):
        return _han(folded, plain, family)._replace(is_newborn=newborn, mother=mother)
    words = tuple(_MARKS.sub(" ", _DOTS.sub(" ", folded)).split())
    script: Script = "latin" if _LATIN.fullmatch(" ".join(words)) else "other"
    return Name(plain, plain, script, words, is_newborn=newborn, mother=mother)


def _han(folded: str, plain: str, family: str) -> Name:
    written = simplified(plain)
    parts = tuple(_MARKS.sub("", simplified(part)) for part in _DOTS.split(folded) if part.strip())
    surname = simplified(_MARKS.sub("", fold(unicodedata.normalize("NFKC", family))))
    if not (surname and written.startswith(surname) and len(surname) < len(written)):
        surname = "" if len(parts) > 1 else split(written)[0]
    return Name(plain, written, "han", parts, surname)


def _newborn(folded: str, plain: str) -> tuple[bool, str]:
    """Whether the text names a child by its mother, and the mother's name."""
    match = _NEWBORN.fullmatch(simplified(plain)) if _HAN.search(plain) else None
    if match is None:
        spaced = " ".join(_MARKS.sub(" ", folded.replace("/", " ")).split())
        match = _BABY.fullmatch(spaced) or _BABY_AFTER.fullmatch(spaced)
    if match is None:
        return False, ""
    return True, "".join((match["mother"] or "").split())


# -- sound -----------------------------------------------------------------------------------

_BLUR = (("zh", "z"), ("ch", "c"), ("sh", "s"), ("ng", "n"))


def blurred(syllable: str) -> str:
    """The syllable without what many speakers do not tell apart: zh and z, ing and in, l and n."""
    for one, other in _BLUR:
        syllable = syllable.replace(one, other)
    return "n" + syllable[1:] if syllable.startswith("l") else syllable


@lru_cache(maxsize=16_384)
def syllables(character: str) -> frozenset[str]:
    """How a character is read, blurred; empty when it has no sound."""
    return frozenset(map(blurred, (*sounds("", character), *sounds(character, ""))))


def sound_alike(one: str, other: str) -> bool:
    """Whether two characters can be typed by one sound."""
    return one == other or not syllables(one).isdisjoint(syllables(other))


@lru_cache(maxsize=4_096)
def spelled(name: Name) -> frozenset[str]:
    """A Chinese name in Latin letters, surname first and last; empty when a part has no sound."""
    firsts = spellings(name.family, surname=len(name.family) == 1)
    lasts = spellings(name.given, surname=False)
    return frozenset(
        order for first, last in product(firsts, lasts) for order in (first + last, last + first)
    )


def spellings(text: str, *, surname: bool) -> list[str]:
    """The ways to spell a part of a name; a surname has all readings of its character."""
    readings = [
        [way for way in sounds(*((character, "") if surname else ("", character))) if way]
        for character in text
    ]
    if not all(readings):
        return []
    wide = [one[:3] for one in readings[:4]] + [one[:1] for one in readings[4:]]
    return ["".join(way) for way in product(*(readings if surname else wide))]
