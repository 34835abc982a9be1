"""Finding concepts by what people type: Chinese, English, the code, pinyin or its initials.

谷丙转氨酶 is found by 转氨, by gubing, by zhuanan and by gbza. Characters have the readings of
pypinyin's table, the usual one first; a name is known under its usual reading, and under each
reading that differs from it in one character.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

from fhir_gateway.fhir.datatypes import fold
from fhir_gateway.terminology.pinyin_table import pinyin_table
from fhir_gateway.terminology.service_names import folded, is_chinese, names_of
from fhir_gateway.terminology.system import Concept, System

#: Names that are longer have no sound, and no name has more ways to be read than this.
_LONGEST, _MOST_WAYS = 60, 12

#: Between the texts of one concept: nobody types it.
_APART = "\n"


class Haystack(NamedTuple):
    """The texts of one concept: names and code, and the sounds of its Chinese names."""

    names: str
    sounds: str


def haystack(concept: Concept, system: System | None) -> Haystack:
    """What a concept is found by."""
    names = dict.fromkeys(folded(one.value) for one in names_of(concept, system))
    sounds = dict.fromkeys(sound for name in names if is_chinese(name) for sound in _sounds(name))
    texts = [folded(concept.code), *names]
    return Haystack(
        _APART + _APART.join(texts) + _APART,
        _APART + _APART.join(sounds) + _APART if sounds else "",
    )


def rank(words: Sequence[str], whole: str, hay: Haystack) -> int | None:
    """How well a concept fits, 0 best, None for not at all. Every word must be found."""
    for word in words:
        if word not in hay.names and word not in hay.sounds:
            return None
    if f"{_APART}{whole}{_APART}" in hay.names:
        return 0
    if f"{_APART}{whole}" in hay.names:
        return 1
    if whole in hay.names:
        return 2
    return 3 if f"{_APART}{whole}" in hay.sounds else 4


def words_of(text: str) -> tuple[list[str], str]:
    """The words of a filter and the filter as a whole, as haystacks are spelled."""
    whole = folded(text)
    return whole.split(), whole


@lru_cache(maxsize=16_384)
def _readings(character: str) -> tuple[str, ...]:
    """How a character is read, without tones, the usual reading first; a letter is itself."""
    if character.isascii():
        return (character.lower(),) if character.isalnum() else ()
    found = pinyin_table().get(str(ord(character)), "")
    plain = [fold(one).replace("ü", "v") for one in found.split(",") if one]
    return tuple(dict.fromkeys(plain))


def _sounds(name: str) -> Iterator[str]:
    """Full pinyin and initials of a folded name, in its usual reading and in others."""
    syllables = [found for character in name if (found := _readings(character))]
    if len(syllables) > _LONGEST:
        return
    usual = [found[0] for found in syllables]
    ways = [usual]
    for place, found in enumerate(syllables):
        for other in found[1:]:
            if len(ways) < _MOST_WAYS:
                ways.append([*usual[:place], other, *usual[place + 1 :]])
    for way in ways:
        yield "".join(way)
        yield "".join(syllable[0] for syllable in way)
