"""The syntax of search parameters: name, modifier, chain, values with escapes.

Implements hl7.org/fhir/R4/search.html, 3.1.1.4: parameters, modifiers and escaping.
What the names mean is the planner's business.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from fhir_gateway.errors import Invalid, TooCostly

#: Most alternatives of one parameter.
MAX_VALUES = 200


class Name(NamedTuple):
    """The left side: `subject:Patient.name` is base subject, modifier Patient, chain name."""

    base: str
    modifier: str | None = None
    chain: str | None = None


class Parameter(NamedTuple):
    """One parameter. `values` are its alternatives, still escaped inside (see `parts`)."""

    name: Name
    text: str
    values: tuple[str, ...]


@lru_cache(maxsize=2_048)
def parse_name(text: str) -> Name:
    """The parts of a parameter name. `_has:…` is a reverse chain."""
    if text.startswith("_has:"):
        return Name("_has", None, text[5:])
    left, dot, chain = text.partition(".")
    base, _, modifier = left.partition(":")
    if dot:
        return Name(base, modifier or None, chain)
    return Name(base, modifier if ":" in left else None)


def split(text: str, separator: str) -> list[str]:
    """The text cut at a separator that no backslash escapes; the parts stay escaped."""
    if "\\" not in text:
        return text.split(separator)
    pattern = _PIECES[separator]
    pieces, start = [], 0
    for match in pattern.finditer(text):
        if match.group() == separator:
            pieces.append(text[start : match.start()])
            start = match.end()
    return [*pieces, text[start:]]


_PIECES = {sign: re.compile(rf"\\.|{re.escape(sign)}", re.DOTALL) for sign in ",|$"}
_ESCAPED = re.compile(r"\\([,|$\\])")


def unescape(text: str) -> str:
    """The value meant by an escaped one."""
    return _ESCAPED.sub(r"\1", text) if "\\" in text else text


def parts(value: str, separator: str = "|") -> list[str]:
    """A value cut at its own separator, and unescaped."""
    if "\\" not in value:
        return value.split(separator)
    return [unescape(part) for part in split(value, separator)]


def parse_parameter(name: str, text: str) -> Parameter:
    """One parameter of a request. Raises Invalid for an empty or unreadable value, TooCostly for
    too many alternatives."""
    if not text:
        raise refusal(name, "has no value", rule="search-value")
    if not _is_clean(text):
        raise refusal(name, "holds a character that no value may hold", rule="search-value")
    values = tuple(split(text, ",")) if "," in text else (text,)
    if len(values) > MAX_VALUES:
        raise TooCostly(
            f"Search parameter {shown(name)} has over {MAX_VALUES} alternatives; ask in parts",
            expression=shown(name),
            rule="search-alternatives",
        )
    if "" in values:
        raise refusal(name, "has an empty alternative", rule="search-value")
    return Parameter(parse_name(name), text, values)


def _is_clean(text: str) -> bool:
    if text.isprintable():
        return True
    return "\x00" not in text and not any("\ud800" <= character <= "\udfff" for character in text)


_SHOWN = re.compile(r"[^A-Za-z0-9_:.\-]")


def shown(name: str) -> str:
    """A parameter name as it may stand in a message: cut, and nothing but name characters."""
    return _SHOWN.sub("?", name[:64])


def refusal(name: str, what: str, *, rule: str) -> Invalid:
    """An Invalid that names the parameter and never quotes its value."""
    return Invalid(f"Search parameter {shown(name)} {what}", expression=shown(name), rule=rule)
