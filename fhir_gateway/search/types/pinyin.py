"""Chinese names by their sound: pinyin without tones or spaces, and initials.

Beside hl7.org/fhir/R4/search.html#string: 张伟 is found by zhang, zhangwei and zw. Characters have
the readings of pypinyin's table: a surname all of its readings (单 is dan, chan and shan), since
nothing in a name tells which one the family uses; a given name the usual one. ü is u, v and yu.
These texts stand under a parameter of their own, so that :exact and :contains never meet them.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import product
from typing import Any

from fhir_gateway.fhir.datatypes import fold
from fhir_gateway.terminology.pinyin_table import pinyin_table

#: Longer texts are no names; more ways to read one than this are cut to the usual one.
_LONGEST, _MOST_READINGS = 24, 16

#: Surnames of two characters, apart: where a whole name is one text, they tell its parts.
_DOUBLE = (
    "欧阳 司马 上官 诸葛 尉迟 皇甫 长孙 单于 澹台 公孙 令狐 宇文 慕容 "
    "司徒 司空 夏侯 东方 南宫 西门 独孤 端木 万俟 濮阳 轩辕 呼延 赫连 "
    "申屠 钟离 闻人 太史 公冶 宗政 淳于 百里 拓跋 宰父 谷梁 段干 东郭 "
    "南门 第五 鲜于 闾丘 亓官 司寇 子车 颛孙 巫马 公西 漆雕 乐正 公良 "
    "太叔 仲孙 左丘 梁丘 歐陽 司馬 諸葛 長孫 單于 東方 南宮 西門 獨孤 "
    "軒轅 鍾離 聞人 "
)
#: Readings of surnames that the table lacks.
_SURNAMES = {"谌": "shen", "黑": "he", "费": "bi", "訾": "zi", "盖": "ge", "朴": "piao"}

_BETWEEN = re.compile(r"[\s·•・.'’\-]+")
_ASKED = re.compile(r"[\s'’\-·]+|(?<=[a-z])[1-5]")
_LETTERS = re.compile(r"[a-z]{1,96}")


@lru_cache(maxsize=16_384)
def _readings(character: str) -> tuple[str, ...]:
    """How a character is read, without tones, the usual reading first; none when it has no sound.

    The spellings of one reading stand together, so that the usual reading can be told.
    """
    if character.isascii():
        return (character.lower(),) if character.isalpha() else ()
    found = pinyin_table().get(str(ord(character)))
    extra = [_SURNAMES[character]] if character in _SURNAMES else []
    return tuple(dict.fromkeys([*(found.split(",") if found else ()), *extra]))


def _spelled(reading: str) -> tuple[str, ...]:
    plain = fold(reading)
    if "\u0308" not in unicodedata.normalize("NFD", reading):
        return (plain,)
    return plain, plain.replace("u", "v"), plain.replace("u", "yu")


@lru_cache(maxsize=16_384)
def _usual(character: str) -> tuple[str, ...]:
    found = _readings(character)
    return _spelled(found[0]) if found else ()


@lru_cache(maxsize=4_096)
def _every(character: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(text for one in _readings(character) for text in _spelled(one)))


def _ways(family: str, given: str) -> Iterator[tuple[str, ...]]:
    """Every way to read a name, a syllable for each character; none when one has no sound."""
    wide = [*map(_every, family), *map(_usual, given)]
    if not all(wide):
        return
    count = 1
    for one in wide:
        count *= len(one)
    yield from product(*(wide if count <= _MOST_READINGS else [one[:1] for one in wide]))


def _is_chinese(text: str) -> bool:
    return any("\u3400" <= character <= "\u9fff" for character in text)


def split(text: str) -> tuple[str, str]:
    """Surname and given name of a whole name in Chinese order."""
    length = 2 if text[:2] in _DOUBLE and len(text) > 2 else 1
    return text[:length], text[length:]


@lru_cache(maxsize=16_384)
def sounds(family: str, given: str) -> tuple[str, ...]:
    """The texts of a surname and a given name, either may be empty: full pinyin and initials.

    A text that another one begins with is left out: a search asks for the beginning.
    """
    family, given = _BETWEEN.sub("", family), _BETWEEN.sub("", given)
    whole = family + given
    if not _is_chinese(whole) or len(whole) > _LONGEST:
        return ()
    found: dict[str, None] = {}
    for way in _ways(family, given):
        found["".join(way)] = None
        found["".join(syllable[0] for syllable in way)] = None
    return tuple(_longest(found))


def _longest(texts: Iterable[str]) -> list[str]:
    """The texts that are not the beginning of another one."""
    ordered = sorted(texts)
    return [
        one
        for place, one in enumerate(ordered)
        if place + 1 == len(ordered) or not ordered[place + 1].startswith(one)
    ]


def texts(code: str, value: Any) -> tuple[str, ...]:
    """The texts of a value under the parameter name, family or given."""
    if code == "name":
        return _of_name(value)
    return sounds(value, "") if code == "family" else sounds("", value)


def _of_name(value: Any) -> tuple[str, ...]:
    """The texts of a HumanName: the whole name, and the given name alone."""
    family = value.get("family") or ""
    given = "".join(text for text in value.get("given", ()) if text)
    found = {*sounds(family, given), *(sounds("", given) if family else ())}
    text = _BETWEEN.sub("", value.get("text") or "")
    if text and text != _BETWEEN.sub("", family + given):
        first, rest = split(text)
        found.update(sounds(first, rest), sounds("", rest) if rest else ())
    return tuple(_longest(found))


def asked(text: str) -> str:
    """A folded search value as these texts are spelled, or nothing when it is no pinyin."""
    bare = _ASKED.sub("", text)
    return bare if _LETTERS.fullmatch(bare) else ""
