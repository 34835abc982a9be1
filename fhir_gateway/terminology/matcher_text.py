"""Names of hospitals as texts that can be compared: folded, cut into words, and how they differ."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable, Mapping
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from rapidfuzz.distance import Levenshtein

from fhir_gateway.errors import Internal

#: Longer names are cut: nobody's item needs more, and comparing costs the square of it.
LONGEST = 120

_GREEK = str.maketrans({"α": "a", "β": "b", "γ": "g", "δ": "d", "μ": "u", "ß": "b"})
#: Characters that never tell two names apart.
_DROPPED = re.compile(r"[\s·•★☆*＊※▲△●◆_'\"“”‘’、,，。.;；:：|\\?？!！<>《》~～^`]+")
_BRACKETS = str.maketrans("[]{}【】〔〕", "()()()()")
_UMLAUT = "\u0308"
_CHINESE = re.compile(r"[\u3400-\u9fff]+")
_RUNS = re.compile(r"[\u3400-\u9fff]+|[^\u3400-\u9fff()]+")


def is_chinese(text: str) -> bool:
    """Whether a text has any Chinese character."""
    return _CHINESE.search(text) is not None


class Folder:
    """Folds names: half-width, small, simplified, Greek letters as Latin ones, no marks."""

    def __init__(self, characters: Mapping[int, str]) -> None:
        """`characters` are traditional characters with their simplified ones."""
        self._characters = dict(characters)

    def fold(self, text: str) -> str:
        """One spelling of a name; brackets stay, they say where a part begins."""
        text = unicodedata.normalize("NFKC", text[:LONGEST]).lower()
        text = text.translate(self._characters).translate(_GREEK).translate(_BRACKETS)
        return _DROPPED.sub("", text)


def key(text: str) -> str:
    """A folded text without what joins its parts: what names are looked up by."""
    return re.sub(r"[-/()+]", "", text) if any(c.isalnum() for c in text) else text


def runs(text: str) -> list[str]:
    """The stretches of Chinese characters and of others in a folded text."""
    return [one.strip("-/+ ") for one in _RUNS.findall(text) if one.strip("-/+ ")]


def parts(text: str) -> list[str]:
    """What stands in brackets, and what stands outside of them; nothing for unbalanced ones."""
    found = [one for one in re.split(r"[()]", text) if one]
    return found if len(found) > 1 else []


class Token(NamedTuple):
    """A word that was found: its aspect, value and text, and where it stands."""

    aspect: str
    value: str
    text: str
    start: int

    @property
    def end(self) -> int:
        """Behind it."""
        return self.start + len(self.text)


class Scanner:
    """Cuts folded names into known words, the longest first; what is left is left."""

    def __init__(self, words: Iterable[tuple[str, str, str]], folder: Folder) -> None:
        self._known: dict[str, tuple[str, str]] = {}
        for aspect, value, word in words:
            self._known.setdefault(folder.fold(word), (aspect, value))
        self._known.pop("", None)
        self._longest = max(map(len, self._known), default=0)

    def scan(self, text: str) -> tuple[list[Token], str]:
        """(words in their order, what no word covers)."""
        tokens, rest, place = [], [], 0
        while place < len(text):
            for length in range(min(self._longest, len(text) - place), 0, -1):
                piece = text[place : place + length]
                if piece in self._known and _is_whole(text, place, length):
                    tokens.append(Token(*self._known[piece], piece, place))
                    place += length
                    break
            else:
                rest.append(text[place])
                place += 1
        return tokens, "".join(rest)


def _is_whole(text: str, start: int, length: int) -> bool:
    """Whether a word of Latin letters does not begin or end inside of another."""
    end = start + length
    first, last = text[start], text[end - 1]
    before, after = text[start - 1 : start], text[end : end + 1]
    return not (
        (first.isascii() and first.isalpha() and before.isascii() and before.isalpha())
        or (last.isascii() and last.isalpha() and after.isascii() and after.isalpha())
    )


class Difference(NamedTuple):
    """How two names differ: characters only one has, and pairs that stand for each other."""

    more: str  # in the first alone
    less: str  # in the second alone
    turned: tuple[tuple[str, str], ...]


def difference(one: str, other: str) -> Difference:
    """The fewest changes that make the second of the first."""
    more: list[str] = []
    less: list[str] = []
    turned: list[tuple[str, str]] = []
    for change in Levenshtein.editops(one, other):
        if change.tag == "delete":
            more.append(one[change.src_pos])
        elif change.tag == "insert":
            less.append(other[change.dest_pos])
        else:
            turned.append((one[change.src_pos], other[change.dest_pos]))
    return Difference("".join(more), "".join(less), tuple(turned))


@lru_cache(maxsize=1)
def _readings() -> dict[str, str]:
    """pypinyin's table of characters. The file alone: the package would load its phrases too."""
    spec = find_spec("pypinyin")
    if spec is None or not spec.submodule_search_locations:
        raise Internal("The table of pinyin readings is missing: install pypinyin")
    file = Path(spec.submodule_search_locations[0]) / "pinyin_dict.json"
    table: dict[str, str] = json.loads(file.read_bytes())
    return table


@lru_cache(maxsize=8_192)
def sound(character: str) -> str:
    """The usual reading of a character, without its tone; "" when it has none."""
    first = _readings().get(str(ord(character)), "").partition(",")[0]
    plain = unicodedata.normalize("NFD", first)
    return "".join(c for c in plain if not unicodedata.combining(c) or c == _UMLAUT)


def sounds_alike(one: str, other: str) -> bool:
    """Whether two Chinese characters are typed alike: the commonest slip of all."""
    return is_chinese(one) and is_chinese(other) and sound(one) == sound(other) != ""
