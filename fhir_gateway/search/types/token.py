"""Tokens: codes, identifiers, flags (hl7.org/fhir/R4/search.html#token).

A row is v1 = key of the code, v2 = key of the system ("" when there is none). Codes are compared
as they are spelled: FHIR leaves case to the code system, and UCUM and local codes tell it apart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from fhir_gateway.fhir.keys import key64
from fhir_gateway.search.context import Context
from fhir_gateway.search.params import Parameter, parts, refusal
from fhir_gateway.search.plan import Token
from fhir_gateway.search.registry import WITHOUT_SYSTEM, Searchable

Pair = tuple[int, int]


def _coding(value: Any, context: Context) -> Iterator[Pair]:
    code, system = value.get("code", ""), value.get("system", "")
    if code or system:
        yield key64(code, context.secret), key64(system, context.secret)


def _codeable_concept(value: Any, context: Context) -> Iterator[Pair]:
    secret = context.secret
    for coding in value.get("coding", ()):
        code, system = coding.get("code", ""), coding.get("system", "")
        if code or system:
            yield key64(code, secret), key64(system, secret)


def identifier(value: Any, context: Context) -> Iterator[Pair]:
    """The pair of an Identifier; also of a ContactPoint (phone|…, email|…)."""
    text, system = value.get("value", ""), value.get("system", "")
    if text or system:
        yield key64(text, context.secret), key64(system, context.secret)


def _bare(value: Any, context: Context) -> Iterator[Pair]:
    yield key64(value, context.secret), key64("", context.secret)


def _boolean(value: Any, context: Context) -> Iterator[Pair]:
    yield key64("true" if value else "false", context.secret), key64("", context.secret)


#: How a value of a datatype becomes rows.
ROWS: Mapping[str, Callable[[Any, Context], Iterator[Pair]]] = {
    "CodeableConcept": _codeable_concept,
    "Coding": _coding,
    "Identifier": identifier,
    "ContactPoint": identifier,
    "boolean": _boolean,
    **dict.fromkeys(("code", "id", "string", "uri", "url", "canonical", "oid", "uuid"), _bare),
}

#: System that the standard gives to true and false.
_SPECIAL_VALUES = "http://terminology.hl7.org/CodeSystem/special-values"


def condition(searchable: Searchable, parameter: Parameter, context: Context) -> Token:
    """Any of `code`, `system|code`, `|code`, `system|`; with :not none of them."""
    bare = bool(searchable.datatypes) and searchable.datatypes <= WITHOUT_SYSTEM
    alternatives = tuple(
        _alternative(searchable, parameter, value, bare, context) for value in parameter.values
    )
    return Token(searchable.number, alternatives, parameter.name.modifier == "not")


def _alternative(
    searchable: Searchable, parameter: Parameter, value: str, bare: bool, context: Context
) -> tuple[int | None, int | None]:
    secret = context.secret
    pieces = parts(value)
    if len(pieces) == 1:
        return key64(pieces[0], secret), key64("", secret) if bare else None
    system, code = pieces[0], pieces[1]
    if len(pieces) > 2 or not (system or code):
        raise refusal(parameter.name.base, "must be code, system|code, |code or system|",
                      rule="search-token")  # fmt: skip
    if bare and (system in searchable.systems or system == _SPECIAL_VALUES):
        system = ""  # the binding implies it; the row has none
    return key64(code, secret) if code else None, key64(system, secret)


def identifier_condition(searchable: Searchable, parameter: Parameter, context: Context) -> Token:
    """The :identifier modifier of a reference: the same syntax over its own rows."""
    alternatives = tuple(
        _alternative(searchable, parameter, value, False, context) for value in parameter.values
    )
    return Token(searchable.identifier_number, alternatives)
