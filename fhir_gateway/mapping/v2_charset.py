"""The character set of a v2 message: MSH-18, the institution's habit, or what the bytes prove.

HL7 v2.5.1 2.15.9.18, table 0211. A label that lies is common: UTF-8 labelled GBK, GBK labelled
UTF-8 or not at all. Both readings are tried strictly; the label wins unless its reading is
impossible, or made of characters that no report contains while the other reading is clean.
A message that no reading fits is refused: a wrong character is worse than a late report.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from fhir_gateway.errors import Invalid, Issue, Structure
from fhir_gateway.mapping.tables import look_up, table

#: C0 (but tab and line ends), DEL, C1, non-characters, the replacement character.
_IMPOSSIBLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufdd0-\ufdef\ufffd-\uffff]")
#: A western letter with no other letter beside it: in UTF-8 labelled text it is a GB character.
_LONE_LETTER = re.compile("(?<![A-Za-zÀ-ÿ])[À-ÿ](?![A-Za-zÀ-ÿ])")
_MARKS = re.compile(rb"\xff\xfe|\xfe\xff")

#: Characters that reports use though GB 2312 lacks them, and the few below U+2000 that they use.
_ALSO_USED = frozenset("≦≧℃↑↓←→⇑⇓•–—⁰⁴⁵⁶⁷⁸⁹⁻㎡㎎㎜㎝㏄ⅪⅫ\u200b")
_TECHNICAL = frozenset("×÷±µμ°²³¹·αβγδεκλ\u00a0")

#: Share of GB 2312 characters that makes a GB reading of bytes labelled otherwise believable.
_BELIEVABLE = 0.9


class Decoded(NamedTuple):
    """A message's text, the codec that read it, its label for the answer, and any warning."""

    text: str
    codec: str
    label: str
    warning: Issue | None


def decode(body: bytes, *, default: str, folder: str) -> Decoded:
    """The text of a message. Raises Structure (condition 102 or 103) when no reading is safe."""
    label = _label(body)
    declared = _codec(label, folder) if label else ""
    if body.isascii():
        text = body.decode("ascii")
        if _IMPOSSIBLE.search(text):
            raise _undecodable("the message holds control characters")
        return Decoded(text, declared or codec_of(default, folder), label, None)
    if _MARKS.match(body):
        raise _undecodable("UTF-16 is not read here; send UNICODE UTF-8 or GB 18030-2000")
    trusted = declared or codec_of(default, folder)
    text, codec = choose(body, trusted)
    return Decoded(text, codec, label, _warning(declared, trusted, codec))


def _label(body: bytes) -> str:
    """MSH-18, read without knowing the character set: the field is ASCII and so is its position,
    unless a GB 18030 character before it ends in the separator; then the other reading tells."""
    line = re.split(rb"[\r\n]", body, maxsplit=1)[0]
    for codec in ("utf-8", "gb18030", "latin-1"):
        try:
            text = line.decode(codec)
        except UnicodeDecodeError:
            continue
        fields = text.split(text[3:4] or "|")
        repetition = text[5:6] or "~"
        value = fields[17].split(repetition)[0].strip() if len(fields) > 17 else ""
        if value.isascii():
            return value
    return ""


def _codec(label: str, folder: str) -> str:
    row = look_up(table(folder, "charsets"), label)
    if row is None:
        error = Structure(
            "MSH-18 names a character set that is not read here; use "
            "UNICODE UTF-8 or GB 18030-2000",
            expression="MSH[1]-18",
            rule="v2-charset",
        )
        error.condition = "103"
        raise error
    return row.code


def codec_of(default: str, folder: str) -> str:
    """The codec of an institution's character set. Raises Invalid for one that is not read."""
    row = look_up(table(folder, "charsets"), default)
    if row is None:
        raise Invalid("The institution's character set is unknown", rule="institution-charset")
    return row.code


def choose(body: bytes, trusted: str) -> tuple[str, str]:
    """The reading to use, and its codec. Raises Structure when none is safe, or two are."""
    utf8, gb = read(body, "utf-8"), read(body, "gb18030")
    if trusted == "utf-8":
        choice = _trusting_utf8(utf8, gb)
    elif trusted == "gb18030":
        choice = _trusting_gb(utf8, gb)
    else:
        choice = _trusting_neither(body, trusted, utf8, gb)
    if choice is None:
        raise _undecodable(
            "its bytes are not of the character set that it names, and no other reading is certain"
        )
    return choice


def _trusting_utf8(utf8: str | None, gb: str | None) -> tuple[str, str] | None:
    """Well-formed UTF-8 is UTF-8, but for a word or two of GB that happens to be so (目 is Ŀ)."""
    if utf8 is not None and (_clean(utf8, letters=True) or gb is None or gb2312_share(gb) < 1):
        return utf8, "utf-8"
    if gb is not None and gb2312_share(gb) >= _BELIEVABLE:
        return gb, "gb18030"
    return None


def _trusting_gb(utf8: str | None, gb: str | None) -> tuple[str, str] | None:
    """GB text is almost never well-formed UTF-8; two clean readings are no certainty."""
    if utf8 is None or not _clean(utf8):
        return None if gb is None else (gb, "gb18030")
    if gb is not None and gb2312_share(gb) == 1:
        return None
    return utf8, "utf-8"


def _trusting_neither(
    body: bytes, trusted: str, utf8: str | None, gb: str | None
) -> tuple[str, str] | None:
    """Labels of single-byte sets fit any bytes, so what the bytes prove comes first."""
    if utf8 is not None and _clean(utf8, letters=True):
        return utf8, "utf-8"
    if gb is not None and gb2312_share(gb) >= _BELIEVABLE:
        return gb, "gb18030"
    own = read(body, trusted)
    return None if own is None else (own, trusted)


def read(body: bytes, codec: str) -> str | None:
    """The text, or None when the bytes are not well-formed in this codec or hold no text."""
    try:
        text = body.decode(codec)
    except UnicodeDecodeError:
        return None
    return None if _IMPOSSIBLE.search(text) else text


def gb2312_share(text: str) -> float:
    """The share of non-ASCII characters that Chinese reports use; 1.0 when there are none."""
    strange = [c for c in text if c > "\x7f"]
    return sum(map(_usual, strange)) / len(strange) if strange else 1.0


def _clean(text: str, *, letters: bool = False) -> bool:
    """Whether every character is usual, a Chinese character, or (`letters`) western European."""
    if letters and _LONE_LETTER.search(text):
        return False
    return all(
        c <= "\x7f" or _usual(c) or "\u3400" <= c <= "\u9fff" or (letters and "À" <= c <= "ÿ")
        for c in set(text)
    )


@lru_cache(maxsize=16_384)
def _usual(character: str) -> bool:
    if character < "\u2000":
        return character in _TECHNICAL
    try:
        character.encode("gb2312")
    except UnicodeEncodeError:
        return character in _ALSO_USED
    return True


def _warning(declared: str, trusted: str, codec: str) -> Issue | None:
    if codec == trusted:
        return None
    said = "MSH-18" if declared else "the institution's setting"
    return Issue(
        "invalid",
        f"The bytes are {codec}, not what {said} says; they were read as {codec}",
        "MSH[1]-18",
        "v2-charset",
        "warning",
    )


def _undecodable(why: str) -> Structure:
    error = Structure(
        f"The message cannot be read: {why}", expression="MSH[1]-18", rule="v2-charset"
    )
    error.condition = "102"
    return error
