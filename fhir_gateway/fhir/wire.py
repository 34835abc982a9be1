"""JSON on the wire: parse, render, and the split of a resource into identity and tail.

Implements the JSON format of FHIR R4 (hl7.org/fhir/R4/json.html) and RFC 8259, stricter where a
lenient reader would change meaning: duplicate keys, control characters, numbers outside binary64
and nesting beyond 64 levels are refused. Numbers keep their spelling from door to disk.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Any, NoReturn

import msgspec

from fhir_gateway.errors import Structure

MAX_DEPTH = 64
MAX_DIGITS = 40

_EPOCH = datetime(1970, 1, 1)
_DIGITS_TO_ZERO = bytes.maketrans(b"123456789", b"000000000")
_TOO_MANY_DIGITS = b"0" * (MAX_DIGITS + 1)
_MINUS_ZERO = re.compile(rb"[:,\[]-0[,\]}]")
#: The same at a glance: it begins with what is seldom; a text may hold it too.
_PERHAPS_MINUS_ZERO = re.compile(rb"-0[,\]}]")
_TOO_DEEP = b"\n" + b" " * (MAX_DEPTH + 1)
#: Characters that a FHIR string may not hold (datatypes.html#string).
_CONTROL = frozenset(map(chr, range(32))) - {"\t", "\n", "\r"}


class Spelled(Decimal):
    """A number whose spelling Decimal would not give back, such as 1e2 or 0.0000001."""

    __slots__ = ("spelling",)
    spelling: str

    def __str__(self) -> str:
        return self.spelling


def number(text: str) -> Decimal:
    """The decimal of a JSON number; str() of it is the text again.

    Raises ValueError when it has over 40 characters or no binary64 can hold it.
    """
    if len(text) > MAX_DIGITS:
        raise ValueError("number-length")
    value = Decimal(text)
    if value and not -324 < value.adjusted() < 308:
        raise ValueError("number-range")
    if str(value) == text:
        return value
    spelled = Spelled(text)
    spelled.spelling = text
    return spelled


def read_number(text: str) -> Decimal | int:
    """The number of a text as `parse` gives it: an int where JSON spells one. Raises ValueError
    as `number` does."""
    value = number(text)
    return value if text == "-0" or not text.lstrip("-").isdigit() else _decoder.decode(text)


def _raw_number(value: Any) -> msgspec.Raw:
    if isinstance(value, Spelled):
        return msgspec.Raw(value.spelling.encode())
    raise TypeError(f"{type(value).__name__} is not JSON")


_decoder = msgspec.json.Decoder(float_hook=number)
_encoder = msgspec.json.Encoder(decimal_format="number", enc_hook=_raw_number)


#: Minified JSON of a value, in UTF-8; decimals as they were spelled. Called for every part of what
#: is stored.
render: Callable[[Any], bytes] = _encoder.encode


def without_bom(body: bytes) -> bytes:
    """The body without a UTF-8 byte order mark, which RFC 8259 lets a reader ignore."""
    return body[3:] if body.startswith(b"\xef\xbb\xbf") else body


def parse(body: bytes) -> dict[str, Any]:
    """The JSON object of a body, decimals as Decimal.

    Raises Structure for anything that is not one clean JSON object: not UTF-8, NaN, duplicate
    keys, control characters, a number over 40 digits, more than 64 levels.
    """
    return parse_minified(without_bom(body))[0]


def parse_minified(body: bytes, *, typed: bool = False) -> tuple[dict[str, Any], bytes]:
    """The same, with the text minified, which the check for lost keys needs anyway.

    `typed` says that generated Structs have accepted the body: then no array stands in an array
    and no number is over 40 digits, and fewer looks are needed.
    """
    value = _decode(body)
    if type(value) is not dict:
        raise Structure("The body must be one JSON object", rule="json-object")
    openings = body.count(b"{") * 2 if typed else body.count(b"{") + body.count(b"[")
    if openings >= MAX_DEPTH:
        check_depth(body)
    if b"\\" in body:
        _check_control(body, value)
    if not typed and _TOO_MANY_DIGITS in body.translate(_DIGITS_TO_ZERO):
        _check_digits(value)
    return _whole(body, value)


def reread(body: bytes) -> dict[str, Any]:
    """The object of JSON that the gateway itself has rendered: no limit of depth, no checks."""
    value: dict[str, Any] = _decoder.decode(body)
    return _parse_exactly(body) if b"-0" in body and _MINUS_ZERO.search(body) else value


def is_read_as_rendered(rendered: bytes) -> bool:
    """False where reading what `render` gave may give something else, for its escapes or a -0."""
    return b"\\" not in rendered and _PERHAPS_MINUS_ZERO.search(rendered) is None


def is_too_deep(rendered: bytes) -> bool:
    """Whether what `render` gave is nested too deep to be read."""
    return rendered.count(b"{") * 2 >= MAX_DEPTH and _TOO_DEEP in _indented(rendered)


def _indented(body: bytes) -> bytes:
    return msgspec.json.format(body, indent=1)


def _decode(body: bytes) -> Any:
    try:
        return _decoder.decode(body)
    except msgspec.ValidationError as error:
        if "number-range" in str(error):
            _refuse_range()
        _refuse_digits()
    except msgspec.DecodeError as error:
        raise Structure(f"The body is not JSON: {error}", rule="json") from None
    except UnicodeDecodeError:
        raise Structure("The body is not UTF-8", rule="encoding") from None
    except RecursionError:
        _refuse_depth()


def check_depth(body: bytes) -> None:
    """Raises Structure when JSON text is nested over 64 levels deep.

    Indented by one space a level, only too deep a text has a line with that many spaces.
    """
    try:
        if _TOO_DEEP in _indented(body):
            _refuse_depth()
    except RecursionError:
        _refuse_depth()


def _check_control(body: bytes, value: Any) -> None:
    if b"\\u00" not in body and b"\\b" not in body and b"\\f" not in body:
        return
    if any(not _CONTROL.isdisjoint(text) for text in _texts(value)):
        raise Structure("A text holds a control character", rule="control-character")


def _texts(value: Any) -> list[str]:
    found: list[str] = []
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, str):
            found.append(item)
        elif isinstance(item, dict):
            found.extend(item)
            stack.extend(item.values())
        elif isinstance(item, list):
            stack.extend(item)
    return found


def _check_digits(value: Any) -> None:
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, dict):
            stack.extend(item.values())
        elif isinstance(item, list):
            stack.extend(item)
        elif isinstance(item, int) and abs(item) >= 10**MAX_DIGITS:
            _refuse_digits()


def _whole(body: bytes, value: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    """The value and the minified text, after a look for members that were lost by parsing.

    Rendering never makes a text longer, so equal lengths mean that nothing is missing. Where
    escapes or -0 make the lengths differ, the number of `":` decides: as long as no quote or
    colon is spelled as a \\u escape it differs only by lost members.
    """
    rendered = render(value)
    if len(body) == len(rendered):
        return value, body
    minified = msgspec.json.format(body, indent=-1)
    if len(minified) == len(rendered):
        return value, minified
    doubtful = b"\\u00" in minified or _MINUS_ZERO.search(minified)
    if doubtful or minified.count(b'":') != rendered.count(b'":'):
        return _parse_exactly(body), minified
    return value, minified


def _parse_exactly(body: bytes) -> dict[str, Any]:
    """The slow parse: names the duplicate key, keeps the sign of -0."""
    value: dict[str, Any] = json.loads(
        body, object_pairs_hook=_unique, parse_float=number, parse_int=_integer
    )
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) == len(pairs):
        return members
    names = [name for name, _ in pairs]
    twice = next(name for name in names if names.count(name) > 1)
    shown = twice if twice.isidentifier() and twice.isascii() and len(twice) <= 64 else "a key"
    raise Structure(f"{shown} stands twice in one object", rule="duplicate-key")


def _integer(text: str) -> int | Decimal:
    return number(text) if text == "-0" else int(text)


def _refuse_digits() -> NoReturn:
    raise Structure(f"A number has over {MAX_DIGITS} digits", rule="number-length")


def _refuse_range() -> NoReturn:
    raise Structure("A number is too large or too small for binary64", rule="number-range")


def _refuse_depth() -> NoReturn:
    raise Structure(f"The body is nested over {MAX_DEPTH} levels deep", rule="depth")


_IDENTITY = ("resourceType", "id", "meta")
_VERSION = ("versionId", "lastUpdated")


def tail(resource: Mapping[str, Any]) -> bytes:
    """What the store keeps: the resource's JSON after `…"lastUpdated":"U"`.

    Begins with the rest of meta (or its closing brace) and ends with the resource's own brace.
    """
    others = {k: v for k, v in resource.items() if k not in _IDENTITY}
    return _rest_of_meta(resource) + _continue(others)


def tail_and_members(resource: Mapping[str, Any]) -> tuple[bytes, dict[str, bytes]]:
    """The tail, and each member but type and id as JSON of its own."""
    others = {k: v for k, v in resource.items() if k not in _IDENTITY}
    body = render(others)
    found = _members.decode(body)
    members = dict(zip(found, map(bytes, found.values()), strict=True))
    meta = resource.get("meta")
    if meta is None:
        rest = b"}"
    else:
        members["meta"] = said = render(meta)
        plain = meta and "versionId" not in meta and "lastUpdated" not in meta
        rest = b"," + said[1:] if plain else _rest_of_meta(resource)
    return rest + (b"," + body[1:] if others else b"}"), members


_members = msgspec.json.Decoder(dict[str, msgspec.Raw])


def _rest_of_meta(resource: Mapping[str, Any]) -> bytes:
    meta = resource.get("meta")
    return _continue({k: v for k, v in meta.items() if k not in _VERSION} if meta else None)


def _continue(members: dict[str, Any] | None) -> bytes:
    return b"," + render(members)[1:] if members else b"}"


def splice(type: str, id: str, version: int, updated: int, tail: bytes) -> bytes:
    """The inverse of `tail`: the whole resource as JSON, ready to send."""
    return (
        f'{{"resourceType":"{type}","id":"{id}","meta":{{"versionId":"{version}",'
        f'"lastUpdated":"{instant(updated)}"'
    ).encode() + tail


@lru_cache(maxsize=65_536)
def instant(us: int) -> str:
    """Microseconds since 1970 as a FHIR instant: UTC, milliseconds, `Z`."""
    return (_EPOCH + timedelta(microseconds=us)).isoformat(timespec="milliseconds") + "Z"
