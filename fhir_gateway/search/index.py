"""From a resource to its index rows, by the compiled expressions of its search parameters.

For every search parameter of R4 that a type has (hl7.org/fhir/R4/searchparameter-registry.html) one
closure: the path of `fhir.path` and the converter of the FHIR datatype that comes out of it, from
the tables in `search.types`. Which rows stand in the global index too is said in
`search.registry`. The closures of a type are made when its first resource comes.

A member of a resource that was met before, byte for byte, gives the rows that it gave then: the
results of a report say the same of patient, time, performer and category.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, TypeVar

from fhir_gateway.errors import Internal
from fhir_gateway.fhir.datatypes import fold
from fhir_gateway.fhir.definitions import definitions
from fhir_gateway.fhir.keys import key64
from fhir_gateway.fhir.path import Items, Path, compile_path
from fhir_gateway.search import composite
from fhir_gateway.search.context import Context
from fhir_gateway.search.registry import COLUMNS, Searchable, global_numbers, searchables
from fhir_gateway.search.types import (
    date,
    number,
    pinyin,
    quantity,
    reference,
    string,
    token,
    uri,
)
from fhir_gateway.terminology.naming import NO_NAMES, Naming

IntRow = tuple[int, int, int]
TextRow = tuple[int, str]
_Row = TypeVar("_Row", IntRow, TextRow)
_Convert = Callable[[Items, list[IntRow], list[TextRow]], None]


class IndexRows(NamedTuple):
    """Rows of px, px_text, gx and gx_text, without duplicates. Global rows stand in both."""

    ints: list[IntRow]
    texts: list[TextRow]
    global_ints: list[IntRow]
    global_texts: list[TextRow]


class _Step(NamedTuple):
    """One expression and the converters of the parameters that share it."""

    path: Path
    converts: tuple[_Convert, ...]


class _Group(NamedTuple):
    """The steps that read the same members. What they make of a resource that has only one of
    these is remembered by its bytes; `others` is None where they look beyond what they read."""

    steps: list[_Step]
    others: frozenset[str] | None
    kept: dict[bytes, _Kept]


class _Kept(NamedTuple):
    """The rows of one member, and those of them that stand in the global index too."""

    ints: list[IntRow]
    texts: list[TextRow]
    global_ints: list[IntRow]
    global_texts: list[TextRow]


class _Type(NamedTuple):
    """The groups of a type by the JSON member they read; one that reads several is met twice."""

    groups: dict[str, list[_Group]]
    global_numbers: frozenset[int]


#: Longest bytes of a member that are remembered, and how many for each group.
_LONGEST, _MOST = 320, 1_024


class Extractor:
    """Makes the index rows of resources. One per process; `secret` is the store's index key.

    Searches for its rows have to know the same `naming`.
    """

    def __init__(
        self, secret: bytes, zone: str = "Asia/Shanghai", naming: Naming = NO_NAMES
    ) -> None:
        self.naming = naming
        self._context = Context(secret, "", zone, naming=naming)
        self._types: dict[str, _Type] = {}

    @property
    def context(self) -> Context:
        """What the meaning of a search value depends on, as of these rows."""
        return self._context

    def rows(
        self, type: str, resource: dict[str, Any], spelled: Mapping[str, bytes] | None = None
    ) -> IndexRows:
        """All rows of a valid resource. Raises KeyError for a type that R4 does not have.

        `spelled` are the members as JSON, where they are at hand: it makes the same rows faster.
        """
        known = self._types.get(type)
        if known is None:
            known = self._types[type] = _compile_type(type, self._context)
        found = _Kept([], [], [], [])
        ints, texts, global_ints, global_texts = found
        groups = known.groups
        if spelled is None:
            for member in resource:
                for group in groups.get(member, ()):
                    _add(group.steps, resource, ints, texts)
            return _finished(ints, texts, known.global_numbers)
        for member in resource:
            if member not in groups:
                continue
            said = spelled[member] if member in spelled else None  # noqa: SIM401 - without a call
            for group in groups[member]:
                others = group.others
                if said is None or others is None or (others and not others.isdisjoint(resource)):
                    _add_new(group, resource, known.global_numbers, found)
                    continue
                remembered = group.kept
                kept = (
                    remembered[said]
                    if said in remembered
                    else _keep(group, said, resource, known.global_numbers)
                )
                ints += kept[0]
                texts += kept[1]
                if kept[2] or kept[3]:
                    global_ints += kept[2]
                    global_texts += kept[3]
        return IndexRows(_once(ints), _once(texts), _once(global_ints), _once(global_texts))


def _finished(
    ints: list[IntRow], texts: list[TextRow], global_numbers: frozenset[int]
) -> IndexRows:
    ints, texts = _once(ints), _once(texts)
    return IndexRows(
        ints,
        texts,
        [row for row in ints if row[0] in global_numbers],
        [row for row in texts if row[0] in global_numbers],
    )


def _once(rows: list[_Row]) -> list[_Row]:
    """The rows without duplicates."""
    return list(dict.fromkeys(rows)) if rows else rows


def _keep(
    group: _Group, said: bytes, resource: dict[str, Any], global_numbers: frozenset[int]
) -> _Kept:
    """The rows of one member, remembered unless it is long."""
    found = _Kept([], [], [], [])
    _add_new(group, resource, global_numbers, found)
    if len(said) <= _LONGEST:
        if len(group.kept) >= _MOST:
            group.kept.clear()
        group.kept[said] = found
    return found


def _add_new(
    group: _Group, resource: dict[str, Any], global_numbers: frozenset[int], found: _Kept
) -> None:
    """Adds the rows of a group's members, made now."""
    ints: list[IntRow] = []
    texts: list[TextRow] = []
    _add(group.steps, resource, ints, texts)
    found.ints.extend(ints)
    found.texts.extend(texts)
    found.global_ints.extend([row for row in ints if row[0] in global_numbers])
    found.global_texts.extend([row for row in texts if row[0] in global_numbers])


def _add(
    steps: list[_Step], resource: dict[str, Any], ints: list[IntRow], texts: list[TextRow]
) -> None:
    for path, converts in steps:
        items = path(resource)
        if items:
            for convert in converts:
                convert(items, ints, texts)


def references(type: str, code: str, resource: dict[str, Any]) -> Iterator[str]:
    """The literal references of a resource under a reference parameter, as they are spelled."""
    for datatype, value in compile_path(searchables(type)[code].expression, type)(resource):
        text = reference.target(datatype, value)
        if text:
            yield text


def _compile_type(type: str, context: Context) -> _Type:
    by_expression: dict[str, list[_Convert]] = {}
    for code, searchable in searchables(type).items():
        if code in COLUMNS or searchable.refused or searchable.flat:
            continue
        if searchable.parts != (code,):  # answered by the rows of its parts
            continue
        convert = _CONVERTERS[searchable.kind](searchable, context)
        by_expression.setdefault(searchable.expression, []).append(convert)
    groups: dict[str, dict[tuple[str, ...], _Group]] = {}
    for expression, converts in by_expression.items():
        path = compile_path(expression, type)
        says_something_of_nothing = path({"resourceType": type})  # such as deceased.exists()
        members = ("resourceType",) if says_something_of_nothing else _roots(type, expression)
        beyond = bool(says_something_of_nothing) or " and " in expression
        for member in members:
            others = None if beyond else frozenset(members) - {member}
            key = ("",) if beyond else members
            group = groups.setdefault(member, {}).setdefault(key, _Group([], others, {}))
            group.steps.append(_Step(path, tuple(converts)))
    return _Type(
        {member: list(found.values()) for member, found in groups.items()}, global_numbers(type)
    )


_BRANCH = re.compile(r"\(?(?:[A-Z]\w*\.)?(?P<name>[a-z]\w*)(?:(?: as |\.as\()(?P<cast>\w+)\))?")


def _roots(type: str, expression: str) -> tuple[str, ...]:
    """JSON members of the resource that the expression can read at all."""
    elements = definitions().types[type].elements
    found: dict[str, None] = {}
    for branch in expression.split(" | "):
        match = _BRANCH.match(branch)
        if match is None:
            raise Internal(f"The expression of a search parameter of {type} begins with no element")
        name, cast = match["name"], match["cast"]
        spelled = elements[name].members()
        wanted = f"{name}{cast[0].upper()}{cast[1:]}" if cast else ""
        members = [member for member, _ in spelled]
        found |= dict.fromkeys([wanted] if wanted in members else members)
    return tuple(found)


def _token_converter(searchable: Searchable, context: Context) -> _Convert:
    """Pairs; the texts of a coded value; the type and value of an identifier."""
    if searchable.datatypes == {"CodeableConcept"}:
        return _concept_converter(searchable, context)
    pairs = _pairs_converter(token.ROWS)(searchable, context)
    text_number, of_type_number = searchable.text_number, searchable.of_type_number
    if not text_number:
        return pairs

    def convert(items: Items, ints: list[IntRow], texts: list[TextRow]) -> None:
        pairs(items, ints, texts)
        for datatype, value in items:
            if datatype != "Identifier":
                found = token.TEXTS.get(datatype)
                if found is not None:
                    texts.extend((text_number, fold(text)) for text in found(value))
            elif "type" in value:
                texts.extend((text_number, fold(text)) for text in token.type_text(value))
                ints.extend((of_type_number, *row) for row in token.of_type(value, context))

    return convert


def _concept_converter(searchable: Searchable, context: Context) -> _Convert:
    """The same for the datatype that most tokens have: all of it in one pass."""
    own, text_number = searchable.number, searchable.text_number
    present, secret = (searchable.present_number, 0, 0), context.secret

    def convert(items: Items, ints: list[IntRow], texts: list[TextRow]) -> None:
        before = len(ints)
        for _, value in items:
            for code, system in token.concept(value, secret):
                ints.append((own, code, system))
            for text in token.concept_texts(value):
                texts.append((text_number, fold(text)))
        if len(ints) == before:
            ints.append(present)

    return convert


def _quantity_converter(searchable: Searchable, context: Context) -> _Convert:
    """Pairs as they are measured, and pairs in base units."""
    pairs = _pairs_converter(quantity.ROWS)(searchable, context)
    number = searchable.canonical_number

    def convert(items: Items, ints: list[IntRow], texts: list[TextRow]) -> None:
        pairs(items, ints, texts)
        for datatype, value in items:
            found = quantity.CANONICAL.get(datatype)
            if found is not None:
                ints.extend((number, *row) for row in found(value, context))

    return convert


def _pairs_converter(rows: Any) -> Callable[[Searchable, Context], _Convert]:
    """The converter of a parameter whose datatypes become pairs (v1, v2)."""

    def make(searchable: Searchable, context: Context) -> _Convert:
        own, present = searchable.number, (searchable.present_number, 0, 0)

        def convert(items: Items, ints: list[IntRow], texts: list[TextRow]) -> None:
            before = len(ints)
            for datatype, value in items:
                found = rows.get(datatype)
                if found is not None:
                    for v1, v2 in found(value, context):
                        ints.append((own, v1, v2))
            if len(ints) == before:
                ints.append(present)

        return convert

    return make


def _reference_converter(searchable: Searchable, context: Context) -> _Convert:
    own, other = searchable.number, searchable.identifier_number
    present = (searchable.present_number, 0, 0)

    def convert(items: Items, ints: list[IntRow], texts: list[TextRow]) -> None:
        before = len(ints)
        for datatype, value in items:
            if datatype != "Reference":
                text = reference.target(datatype, value)
                ints.extend((own, v1, v2) for v1, v2 in reference.canonical(text or ""))
                continue
            text = value.get("reference")
            if text and (row := reference.literal(text)):
                ints.append((own, *row))
            if "identifier" in value:
                for v1, v2 in token.identifier(value["identifier"], context):
                    ints.append((other, v1, v2))
        if len(ints) == before:
            ints.append(present)

    return convert


def _string_converter(searchable: Searchable, context: Context) -> _Convert:
    own, exact, present = searchable.number, searchable.exact_number, searchable.present_number
    secret, code, sounding = context.secret, searchable.code, searchable.pinyin_number

    def convert(items: Items, ints: list[IntRow], texts: list[TextRow]) -> None:
        before = len(ints)
        for datatype, value in items:
            found = string.TEXTS.get(datatype)
            for text in found(value) if found else ():
                texts.append((own, fold(text)))
                ints.append((exact, key64(text, secret), 0))
            if sounding:
                texts.extend((sounding, text) for text in pinyin.texts(code, value))
        if len(ints) == before:
            ints.append((present, 0, 0))

    return convert


def _uri_converter(searchable: Searchable, context: Context) -> _Convert:
    own = searchable.number

    def convert(items: Items, ints: list[IntRow], texts: list[TextRow]) -> None:
        for _, value in items:
            texts.extend((own, text) for text in uri.texts(value))

    return convert


def _composite_converter(searchable: Searchable, context: Context) -> _Convert:
    rows = composite.rows_of(searchable, context)
    return lambda items, ints, texts: rows(items, ints)


#: The converter of each type of search parameter.
_CONVERTERS: dict[str, Callable[[Searchable, Context], _Convert]] = {
    "token": _token_converter,
    "date": _pairs_converter(date.ROWS),
    "quantity": _quantity_converter,
    "composite": _composite_converter,
    "number": _pairs_converter(number.ROWS),
    "reference": _reference_converter,
    "string": _string_converter,
    "uri": _uri_converter,
}
