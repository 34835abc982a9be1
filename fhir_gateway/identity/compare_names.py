"""How alike two names are: one word of a closed list, with which weights are kept.

The levels go from the strongest agreement to none. Of several names of a person the pair that
agrees best counts. Nothing here decides who is who.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from rapidfuzz.distance import JaroWinkler
from rapidfuzz.fuzz import ratio

from fhir_gateway.identity.names import LOST, Name, blurred, sound_alike, spelled

#: The levels of two names, the strongest first.
LEVELS = (
    "same-long", "same-three", "same-two", "same-latin", "variant", "reordered", "former", "sound",
    "spelled", "lost", "newborn", "part", "one-character", "surname", "given", "unknown",
    "spelled-other", "other",
)  # fmt: skip
_RANK = {level: place for place, level in enumerate(LEVELS)}

#: Levels at which two names may well be one name, written twice.
ONE_NAME = frozenset(LEVELS[: LEVELS.index("newborn")])
#: Alike enough to be one foreign name, spelled by two people.
_SPELLING, _TRANSCRIPTION = 0.92, 85.0


def compare_names(ours: Iterable[Name], theirs: Iterable[Name]) -> str:
    """The level of the two names that agree best; unknown when one has none to compare."""
    others = list(theirs)
    levels = [_with_use(one, other) for one in ours for other in others]
    return min(levels, key=_RANK.__getitem__, default="unknown")


def _with_use(one: Name, other: Name) -> str:
    level = _pair(one, other)
    if (one.former or other.former) and level in ONE_NAME:
        return "former"
    return level


def _pair(one: Name, other: Name) -> str:
    if one.is_newborn != other.is_newborn:
        return "unknown"  # a child that was named since, or somebody else: the rules tell
    if one.is_newborn:
        return "newborn" if one.plain == other.plain else "given"
    if one.plain == other.plain:
        return _same(one)
    return _BY_SCRIPTS.get((one.script, other.script), _foreign)(one, other)


def _same(name: Name) -> str:
    if name.script != "han":
        return "same-latin"
    return {1: "one-character", 2: "same-two", 3: "same-three"}.get(len(name.text), "same-long")


# -- two names in Chinese characters -----------------------------------------------------------


def _chinese(one: Name, other: Name) -> str:
    if one.text == other.text:
        return "variant"
    if _reordered(one, other):
        return "reordered"
    if len(one.text) == len(other.text):
        return _same_length(one, other)
    if len(one.parts) > 1 or len(other.parts) > 1:
        return _dotted(one, other)
    if _transcribed(one, other):
        return "sound"
    return _shares(one, other)


def _reordered(one: Name, other: Name) -> bool:
    if len(one.parts) > 1 and sorted(one.parts) == sorted(other.parts):
        return True
    return any(
        a.family and len(a.text) > 2 and a.given + a.family == b.text
        for a, b in ((one, other), (other, one))
    )


def _same_length(one: Name, other: Name) -> str:
    pairs = [(a, b) for a, b in zip(one.text, other.text, strict=True) if a != b]
    seen = [(a, b) for a, b in pairs if a not in LOST and b not in LOST]
    if not seen:
        return "lost" if len(one.text) - len(pairs) > 0 and len(pairs) == 1 else "unknown"
    if all(sound_alike(a, b) for a, b in seen) and len(seen) < len(one.text):
        return "sound"
    if _transcribed(one, other):
        return "sound"
    if len(one.parts) > 1 or len(other.parts) > 1:
        return _dotted(one, other)
    if len(seen) == 1 and len(one.text) > 2 and one.family == other.family:
        return "one-character"
    return _shares(one, other)


def _dotted(one: Name, other: Name) -> str:
    """Names of several parts: one may leave out what the other has."""
    few, many = sorted((one, other), key=lambda name: len(name.text))
    if set(few.parts) <= set(many.parts) and len(few.parts[0]) > 1:
        return "part"
    return "sound" if _transcribed(one, other) else _shares(one, other)


def _transcribed(one: Name, other: Name) -> bool:
    """Whether two long names sound alike, as transcriptions of one foreign name do."""
    if min(len(one.text), len(other.text)) < 4:
        return False
    sounds = [min(spelled(name), default="") for name in (one, other)]
    return all(sounds) and ratio(*sounds) >= _TRANSCRIPTION


def _shares(one: Name, other: Name) -> str:
    """What two different names have in common: `given` of another surname, or the surname."""
    if one.given and one.given == other.given and one.family != other.family:
        return "surname"
    if one.family and one.family == other.family:
        return "given"
    return "other"


# -- names in Latin letters --------------------------------------------------------------------


def _chinese_and_latin(one: Name, other: Name) -> str:
    chinese, latin = (one, other) if one.script == "han" else (other, one)
    ways = spelled(chinese)
    letters = "".join(latin.parts)
    if letters in ways:
        return "spelled"
    if any(blurred(way) == blurred(letters) for way in ways):
        return "spelled"
    return "spelled-other" if ways else "unknown"


def _latin(one: Name, other: Name) -> str:
    mine, others = set(one.parts), set(other.parts)
    if mine == others or _rotated(one, other.plain) or _rotated(other, one.plain):
        return "reordered"
    few, many = sorted((mine, others), key=len)
    if (len(few) > 1 and few <= many) or _initials(one, other) or _initials(other, one):
        return "part"
    if JaroWinkler.similarity(one.plain, other.plain) >= _SPELLING:
        return "sound"
    ends = {one.parts[0], one.parts[-1]} & {other.parts[0], other.parts[-1]}
    return "given" if ends else "other"


def _rotated(one: Name, text: str) -> bool:
    return any(
        "".join((*one.parts[place:], *one.parts[:place])) == text
        for place in range(1, len(one.parts))
    )


def _initials(full: Name, short: Name) -> bool:
    """Whether one is the other with a name cut to its initial: John Smith, J Smith."""
    if len(full.parts) != len(short.parts) or len(full.parts) < 2:
        return False
    pairs = [(a, b) for a, b in zip(full.parts, short.parts, strict=True) if a != b]
    return len(pairs) == 1 and len(pairs[0][1]) == 1 and pairs[0][0].startswith(pairs[0][1])


def _foreign(one: Name, other: Name) -> str:
    return "sound" if JaroWinkler.similarity(one.plain, other.plain) >= _SPELLING else "other"


_BY_SCRIPTS: dict[tuple[str, str], Callable[[Name, Name], str]] = {
    ("han", "han"): _chinese,
    ("han", "latin"): _chinese_and_latin,
    ("latin", "han"): _chinese_and_latin,
    ("latin", "latin"): _latin,
    ("other", "han"): lambda one, other: "unknown",
    ("han", "other"): lambda one, other: "unknown",
}
