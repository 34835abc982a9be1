"""Other contents for one field of a message: what is put in its place to see what follows it.

Each is as like the content as can be, so that it is read in the same way: another digit of a
number, another minute of a time, another code of the table that knows this one. What differs then
differs because of the field, and not because the field could not be read any more.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from fhir_gateway.mapping.tables import Lookup, Table, normal
from fhir_gateway.mapping.v2_time import read_time

_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_SIGNS_BEFORE = re.compile(r"^[^\w\s]+(?=\w)")
_SIGNS_AFTER = re.compile(r"(?<=\w)[^\w\s]+$")

#: Numbers of one field that are changed one by one; `3.9~6.1` has two.
_MOST_NUMBERS = 4
#: Longer contents (files, whole reports) are changed in one place only.
_LONG = 200


def variants(text: str) -> Iterator[str]:
    """Contents that differ from this one in one thing; none of an empty one."""
    if not text:
        return
    if (time := _other_time(text)) is not None:
        yield time
        return
    numbers = list(_NUMBER.finditer(text)) if len(text) <= _LONG else []
    if 0 < len(numbers) <= _MOST_NUMBERS:
        for found in numbers:
            yield text[: found.start()] + _other_number(found[0]) + text[found.end() :]
    if not numbers or not _NUMBER.fullmatch(text):
        other = _other_sign(text)
        if other != text:
            yield other
    if len(text) <= _LONG:
        for pattern in (_SIGNS_BEFORE, _SIGNS_AFTER):
            if pattern.search(text):
                yield pattern.sub("", text)


def _other_number(text: str) -> str:
    last = text[-1]
    return text[:-1] + ("1" if last == "0" else str(int(last) - 1))


def _other_sign(text: str) -> str:
    """The last letter or digit is another one; a file's base64 stays base64."""
    for place in range(len(text) - 1, -1, -1):
        sign = text[place]
        if sign.isalnum():
            other = _other_letter(sign)
            return text[:place] + other + text[place + 1 :]
    return text


def _other_letter(sign: str) -> str:
    if sign.isdigit() and sign.isascii():
        return _other_number(sign)
    if sign.isascii():
        return chr(ord(sign) - 1) if sign not in "Aa" else chr(ord(sign) + 1)
    return chr(ord(sign) + 1)


def _other_time(text: str) -> str | None:
    """Another time that is written alike; None for what is no time, or is a plain number."""
    if len(text) < 8 or read_time(text, "UTC") is None:
        return None
    candidates = [_other_sign(text), text[:-1] + chr(min(ord(text[-1]) + 1, ord("9")))]
    for years in (1, 4):
        candidates.append(f"{int(text[:4]) - years:04d}{text[4:]}")
    for other in candidates:
        if other != text and read_time(other, "UTC") is not None:
            return other
    return None


def other_codes(text: str, lookups: Iterable[Lookup], tables: dict[str, Table]) -> Iterator[str]:
    """For each table that knows this text, a spelling that it knows with another meaning."""
    key = normal(text)
    for name in dict.fromkeys(one.table for one in lookups if one.received == key and one.row):
        rows = tables.get(name, {})
        own = rows.get(key) or rows.get(key.casefold())
        for received in sorted(rows):
            other = rows[received]
            if own is not None and other.code != own.code and received.isalnum():
                yield received
                break
