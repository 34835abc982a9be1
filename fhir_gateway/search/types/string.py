"""Strings (hl7.org/fhir/R4/search.html#string): folded text, from its start unless a modifier says.

A name has a row for each of its parts and for the whole; a Chinese name that comes in parts
also has the whole, family before given, without a space. Case, accents, width and surplus space do
not count; for :exact the text as spelled has a hashed row of its own. A value in Latin letters is
looked for among the pinyin of Chinese names too (`pinyin`), but not with a modifier.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from fhir_gateway.fhir.datatypes import fold
from fhir_gateway.fhir.keys import key64
from fhir_gateway.search.context import Context
from fhir_gateway.search.params import Parameter, refusal, unescape
from fhir_gateway.search.plan import AnyOf, Text, Token
from fhir_gateway.search.registry import Searchable
from fhir_gateway.search.types import pinyin

_NAME_PARTS = ("text", "family")
_NAME_LISTS = ("given", "prefix", "suffix")
_ADDRESS_PARTS = ("text", "city", "district", "state", "country", "postalCode")


def _plain(value: Any) -> Iterator[str]:
    yield value


def _members(value: Any, single: tuple[str, ...], lists: tuple[str, ...]) -> Iterator[str]:
    for name in single:
        if value.get(name):
            yield value[name]
    for name in lists:
        for text in value.get(name, ()):
            if text:
                yield text


def _human_name(value: Any) -> Iterator[str]:
    yield from _members(value, _NAME_PARTS, _NAME_LISTS)
    family, given = value.get("family"), value.get("given")
    if family and given:
        whole = family + "".join(text for text in given if text)
        if not whole.isascii() and any("\u3400" <= sign <= "\u9fff" for sign in whole):
            yield whole


def _address(value: Any) -> Iterator[str]:
    return _members(value, _ADDRESS_PARTS, ("line",))


def _codeable_concept(value: Any) -> Iterator[str]:
    yield from _members(value, ("text",), ())
    for coding in value.get("coding", ()):
        yield from _members(coding, ("display",), ())


#: The texts of a value by datatype.
TEXTS: Mapping[str, Callable[[Any], Iterator[str]]] = {
    **dict.fromkeys(("string", "markdown", "code", "id"), _plain),
    "HumanName": _human_name,
    "Address": _address,
    "CodeableConcept": _codeable_concept,
}


def condition(
    searchable: Searchable, parameter: Parameter, context: Context
) -> Text | Token | AnyOf:
    """Starts with any of the texts; :contains anywhere; :exact as spelled, case and all."""
    values = tuple(unescape(value) for value in parameter.values)
    if parameter.name.modifier == "exact":
        keys = tuple((key64(value, context.secret), 0) for value in values)
        return Token(searchable.exact_number, keys)
    folded = tuple(fold(value) for value in values)
    if "" in folded:
        raise refusal(parameter.name.base, "has a value without a letter", rule="search-string")
    if parameter.name.modifier == "contains":
        return Text(searchable.number, folded, "contains")
    plain = Text(searchable.number, folded)
    sounds = tuple(filter(None, map(pinyin.asked, folded))) if searchable.pinyin_number else ()
    return AnyOf((plain, Text(searchable.pinyin_number, sounds))) if sounds else plain
