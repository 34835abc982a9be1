"""The primitive types of FHIR R4: what their JSON value may be (hl7.org/fhir/R4/datatypes.html).

One table for both validators. The patterns say what the standard's own say and what its text adds
(a date is in the calendar, no text is empty), in a form that takes linear time. `\\s` is ASCII
here as in the standard: an ideographic space is an ordinary character.
"""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Callable
from decimal import Decimal
from functools import lru_cache
from typing import Any, Literal, NamedTuple

MAX_TEXT = 1_048_576  # datatypes.html#string: no string is longer
MAX_INTEGER = 2_147_483_647
MAX_DECIMAL = Decimal("1.7976931348623157e308")

_LEAP_YEAR = r"(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:[02468][048]|[13579][26])00)"
_DAY = (
    r"(?:[0-9]{4}-(?:(?:0[1-9]|1[0-2])-(?:0[1-9]|1[0-9]|2[0-8])|(?:0[13-9]|1[0-2])-(?:29|30)"
    rf"|(?:0[13578]|1[02])-31)|{_LEAP_YEAR}-02-29)"
)
_MONTH = r"[0-9]{4}(?:-(?:0[1-9]|1[0-2]))?"
_TIME = r"(?:[01][0-9]|2[0-3]):[0-5][0-9]:(?:[0-5][0-9]|60)(?:\.[0-9]+)?"
_ZONE = r"(?:Z|[+-](?:(?:0[0-9]|1[0-3]):[0-5][0-9]|14:00))"

XHTML_TAGS = (
    "a|abbr|acronym|b|big|blockquote|br|caption|center|cite|code|colgroup|col|dd|del|dfn|div|dl|dt"
    "|em|font|h[1-6]|hr|img|ins|i|kbd|li|ol|p|pre|q|samp|small|span|strike|strong|sub|sup|s|table"
    "|tbody|td|tfoot|thead|th|tr|tt|ul|u|var"
)


def _spread(scheme: str) -> str:
    """A scheme as browsers find it, which skip tabs and line ends in addresses."""
    return r"[\t\n\r]*+".join(scheme)


_BLANK = r"(?:\s|&\#(?:9|10|13|32);)*+"
#: Attributes that are no address; a title may begin with "data:".
HARMLESS = ("abbr", "align", "alt", "border", "class", "colspan", "id", "lang", "name", "rowspan",
            "summary", "title")  # fmt: skip
_RUNS = "|".join(map(_spread, ("javascript", "vbscript", "livescript", "mocha")))
#: The beginning of an address that runs something, hides a page, or hides its scheme.
_SCRIPT = (
    rf"[\x00-\x20]*+(?i:(?:{_RUNS})[\t\n\r]*+:|{_spread('data')}[\t\n\r]*+:(?!\s*+image/))"
    r"""|[^:/?\#"'&]*+&(?:\#|(?i:colon|tab|newline);)"""
)
#: Styles that fetch or run something, or are spelled so that nobody sees it; pictures that they
#: carry themselves are fine.
_STYLE = (
    rf"""(?i:url{_BLANK}\({_BLANK}(?:["']|&(?:quot|apos|\#3[49]);)?+{_BLANK}"""
    r"(?!data:\s*+image/|\#)"
    rf"|@import|expression{_BLANK}\(|behavior{_BLANK}:|binding{_BLANK}:|\\"
    r"|&(?!(?:quot|apos|amp|lt|gt|\#(?:9|10|13|32|34|39));))"
)
#: The same anywhere in a value; only where one of these characters stands it could begin.
_STYLE_ANYWHERE = rf"[^QUOTEuU@eEbB\\&]*+(?:(?!{_STYLE})[uU@eEbB\\&][^QUOTEuU@eEbB\\&]*+)*+{_STYLE}"


def _quoted(forbidden: str = "") -> str:
    """An attribute's value, in either quotes, in which something must not stand."""
    refused = f"(?!{forbidden})" if forbidden else ""
    return "|".join(
        f"{quote}{refused.replace('QUOTE', quote)}[^{quote}<]*+{quote}" for quote in ('"', "'")
    )


_ATTRIBUTES = (
    rf"(?:\s+(?:(?:{'|'.join(HARMLESS)})\s*+=\s*+(?:{_quoted()})"
    rf"|(?i:style)\s*+=\s*+(?:{_quoted(_STYLE_ANYWHERE)})"
    rf"|(?!(?i:on|style[\s=]))[A-Za-z_:][\w:.\-]*+\s*+=\s*+(?:{_quoted(_SCRIPT)})))*+\s*+"
)

#: txt-1: only the formatting elements of HTML, nothing that runs, no style that fetches: what
#: `xhtml.unsafe` says of a tree, on the text. Well-formedness is not checked.
_XHTML = (
    rf"(?s)\s*+(?=.*</div>\s*\Z)(?!.*(?i:javascript:))<div{_ATTRIBUTES}>"
    rf"(?:[^<]++|</?(?:{XHTML_TAGS}){_ATTRIBUTES}/?>|<!--(?:[^-]|-(?!-))*+-->)*+"
)


class Primitive(NamedTuple):
    """What JSON shows and which values are lawful."""

    json: Literal["text", "boolean", "integer", "decimal", "base64"]
    says: str  # completes "must be …"
    pattern: str = ""  # whole text, ASCII classes
    low: int = 0


PRIMITIVES: dict[str, Primitive] = {
    "base64Binary": Primitive("base64", "base64"),
    "boolean": Primitive("boolean", "true or false"),
    "canonical": Primitive("text", "a canonical url without spaces", r"\S+"),
    "code": Primitive("text", "a code: no spaces but single ones inside", r"\S+(?: \S+)*"),
    "date": Primitive(
        "text",
        "a date of the calendar: YYYY, YYYY-MM or YYYY-MM-DD",
        rf"(?!0000)(?:{_DAY}|{_MONTH})",
    ),
    "dateTime": Primitive(
        "text",
        "a dateTime of the calendar; hours need minutes, seconds and an offset",
        rf"(?!0000)(?:{_DAY}(?:T{_TIME}{_ZONE})?|{_MONTH})",
    ),
    "decimal": Primitive("decimal", "a number within binary64"),
    "id": Primitive("text", "1 to 64 of the characters A-Z a-z 0-9 - .", r"[A-Za-z0-9\-.]{1,64}"),
    "instant": Primitive(
        "text", "an instant: day, time to the second, offset", rf"(?!0000){_DAY}T{_TIME}{_ZONE}"
    ),
    "integer": Primitive("integer", "a 32-bit whole number", low=-MAX_INTEGER - 1),
    "markdown": Primitive("text", "a text that is not empty"),
    "oid": Primitive("text", "urn:oid:…", r"urn:oid:[0-2](?:\.(?:0|[1-9][0-9]*))+"),
    "positiveInt": Primitive("integer", "a whole number from 1", low=1),
    "string": Primitive("text", "a text that is not empty"),
    "time": Primitive("text", "a time hh:mm:ss", _TIME),
    "unsignedInt": Primitive("integer", "a whole number from 0", low=0),
    "uri": Primitive("text", "a uri without spaces", r"\S+"),
    "url": Primitive("text", "a url without spaces", r"\S+"),
    "uuid": Primitive(
        "text",
        "urn:uuid:… in lower case",
        r"urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
    ),
    "xhtml": Primitive(
        "text", "one <div> of formatting elements that runs and fetches nothing", _XHTML
    ),
}


def anchored(pattern: str) -> str:
    """A pattern that must match the whole text, with ASCII classes, for `re.search`."""
    flags = "a"
    if pattern.startswith("(?s)"):
        flags, pattern = "as", pattern.removeprefix("(?s)")
    return rf"(?{flags})\A(?:{pattern})\Z"


@lru_cache(maxsize=64)
def checker(type: str) -> Callable[[Any], bool]:
    """A function that says whether a JSON value is lawful for a primitive type."""
    primitive = PRIMITIVES[type]
    if primitive.json == "boolean":
        return lambda value: isinstance(value, bool)
    if primitive.json == "integer":
        return lambda value: _is_integer(value) and primitive.low <= value <= MAX_INTEGER
    if primitive.json == "decimal":
        return _is_decimal
    if primitive.json == "base64":
        return _is_base64
    if not primitive.pattern:
        return lambda value: isinstance(value, str) and 0 < len(value) <= MAX_TEXT
    search = re.compile(anchored(primitive.pattern)).search
    return lambda value: isinstance(value, str) and search(value) is not None


def _is_integer(value: Any) -> bool:
    """The integer -0 comes as a Decimal, so that its sign is kept; it is a zero."""
    return type_is_int(value) or (isinstance(value, Decimal) and str(value) == "-0")


def type_is_int(value: Any) -> bool:
    """True for a whole number; Python's True is none."""
    return isinstance(value, int) and not isinstance(value, bool)


def _is_decimal(value: Any) -> bool:
    if isinstance(value, Decimal):
        return value.is_finite() and abs(value) <= MAX_DECIMAL
    return isinstance(value, float) or (type_is_int(value) and abs(value) <= MAX_DECIMAL)


def _is_base64(value: Any) -> bool:
    """White space may stand between the characters (datatypes.html#base64Binary)."""
    if not isinstance(value, str):
        return False
    packed = "".join(value.split())
    try:
        return bool(packed) and bool(b64decode(packed, validate=True))
    except ValueError:
        return False
