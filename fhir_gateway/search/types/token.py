"""Tokens: codes, identifiers, flags (hl7.org/fhir/R4/search.html#token).

A row is v1 = key of the code, v2 = key of the system ("" when there is none). Codes are compared
as they are spelled: FHIR leaves case to the code system, and UCUM and local codes tell it apart.
The texts of a token (:text) are rows of the text index; an identifier has a row of its value and
its type (:of-type). Both stand under parameters of their own.

An identifier's system stands under its preferred name and its value in the form of its kind
(terminology.naming), so that it is found by any name of the system.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from fhir_gateway.fhir.datatypes import fold
from fhir_gateway.fhir.keys import key64
from fhir_gateway.search.context import Context
from fhir_gateway.search.params import Parameter, parts, refusal, unescape
from fhir_gateway.search.plan import Text, Token
from fhir_gateway.search.registry import WITHOUT_SYSTEM, Searchable

Pair = tuple[int, int]


def _coding(value: Any, context: Context) -> Iterator[Pair]:
    code, system = value.get("code", ""), value.get("system", "")
    if code or system:
        yield key64(code, context.secret), key64(system, context.secret)


def concept(value: Any, secret: bytes) -> list[Pair]:
    """The pairs of a CodeableConcept."""
    return [
        (key64(coding.get("code", ""), secret), key64(coding.get("system", ""), secret))
        for coding in value.get("coding", ())
        if "code" in coding or "system" in coding
    ]


def _concept(value: Any, context: Context) -> list[Pair]:
    return concept(value, context.secret)


def identifier(value: Any, context: Context) -> Iterator[Pair]:
    """The pair of an Identifier."""
    text, system = value.get("value", ""), value.get("system", "")
    if text or system:
        system, text = context.naming.normal(system, text)
        yield key64(text, context.secret), key64(system, context.secret)


def _contact(value: Any, context: Context) -> Iterator[Pair]:
    """The pair of a ContactPoint (phone|…, email|…)."""
    text, system = value.get("value", ""), value.get("system", "")
    if text or system:
        yield key64(text, context.secret), key64(system, context.secret)


def _bare(value: Any, context: Context) -> Iterator[Pair]:
    yield key64(value, context.secret), key64("", context.secret)


def _boolean(value: Any, context: Context) -> Iterator[Pair]:
    yield key64("true" if value else "false", context.secret), key64("", context.secret)


#: How a value of a datatype becomes rows.
ROWS: Mapping[str, Callable[[Any, Context], Iterable[Pair]]] = {
    "CodeableConcept": _concept,
    "Coding": _coding,
    "Identifier": identifier,
    "ContactPoint": _contact,
    "boolean": _boolean,
    **dict.fromkeys(("code", "id", "string", "uri", "url", "canonical", "oid", "uuid"), _bare),
}


def _display(value: Any) -> list[str]:
    return [value["display"]] if value.get("display") else []


def concept_texts(value: Any) -> list[str]:
    """The texts of a CodeableConcept."""
    found = [coding["display"] for coding in value.get("coding", ()) if coding.get("display")]
    if value.get("text"):
        found.append(value["text"])
    return found


def type_text(value: Any) -> list[str]:
    """The text of an Identifier's type."""
    text = value.get("type", {}).get("text")
    return [text] if text else []


#: The texts that :text searches, by datatype.
TEXTS: Mapping[str, Callable[[Any], list[str]]] = {
    "CodeableConcept": concept_texts,
    "Coding": _display,
    "Identifier": type_text,
}


def of_type(value: Any, context: Context) -> Iterator[Pair]:
    """The rows of an Identifier for :of-type: its value, and each code of its type."""
    if not value.get("value"):
        return
    form, text = context.naming.typed(value.get("system", ""), value["value"])
    for coding in value.get("type", {}).get("coding", ()):
        if coding.get("code"):
            yield _of_type(coding.get("system", ""), coding["code"], form, text, context)


def _of_type(system: str, code: str, form: str, text: str, context: Context) -> Pair:
    """The form tells a value that is compared in it from one that only looks so."""
    type = f"{system}|{code}|{form}" if form else f"{system}|{code}"
    return key64(text, context.secret), key64(type, context.secret)


#: System that the standard gives to true and false.
_SPECIAL_VALUES = "http://terminology.hl7.org/CodeSystem/special-values"


def condition(searchable: Searchable, parameter: Parameter, context: Context) -> Token:
    """Any of `code`, `system|code`, `|code`, `system|`; with :not none of them."""
    bare = bool(searchable.datatypes) and searchable.datatypes <= WITHOUT_SYSTEM
    if searchable.datatypes == _IDENTIFIERS:
        return Token(
            searchable.number,
            _identified(searchable, parameter, context),
            parameter.name.modifier == "not",
        )
    alternatives = tuple(
        _alternative(searchable, parameter, value, bare, context) for value in parameter.values
    )
    return Token(searchable.number, alternatives, parameter.name.modifier == "not")


_IDENTIFIERS = frozenset({"Identifier"})


def _identified(
    searchable: Searchable, parameter: Parameter, context: Context
) -> tuple[tuple[int | None, int | None], ...]:
    """The alternatives of identifiers: the system under its preferred name, and what a value
    without a system is in the systems that spell it otherwise."""
    secret, naming = context.secret, context.naming
    found: list[tuple[int | None, int | None]] = []
    for value in parameter.values:
        pieces = parts(value)
        if len(pieces) == 2 and pieces[0]:
            system, text = naming.normal(*pieces)
            found.append((key64(text, secret) if text else None, key64(system, secret)))
            continue
        found.append(_alternative(searchable, parameter, value, False, context))
        if len(pieces) == 1:
            found += [
                (key64(text, secret), key64(system, secret))
                for system, text in naming.meant(pieces[0])
            ]
    return tuple(found)


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
    return Token(searchable.identifier_number, _identified(searchable, parameter, context))


def text_condition(searchable: Searchable, parameter: Parameter, context: Context) -> Text:
    """:text, a beginning of the text or a display of the token; as a string search it is folded."""
    folded = tuple(fold(unescape(value)) for value in parameter.values)
    if "" in folded:
        raise refusal(parameter.name.base, "has a value without a letter", rule="search-string")
    return Text(searchable.text_number, folded)


def of_type_condition(searchable: Searchable, parameter: Parameter, context: Context) -> Token:
    """:of-type, `system|code|value`: an identifier of this type with this value."""
    found = [
        one for value in parameter.values for one in _typed_alternatives(parameter, value, context)
    ]
    return Token(searchable.of_type_number, tuple(found))


def _typed_alternatives(parameter: Parameter, value: str, context: Context) -> Iterator[Pair]:
    pieces = parts(value)
    if len(pieces) != 3 or not (pieces[1] and pieces[2]):
        raise refusal(parameter.name.base, "must be system|code|value with :of-type",
                      rule="search-token")  # fmt: skip
    system, code, text = pieces
    for form, spelled in context.naming.spellings(text):
        yield _of_type(system, code, form, spelled, context)
