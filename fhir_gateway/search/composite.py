"""Composite parameters: parts that hold of the same item (hl7.org/fhir/R4/search.html#combining).

Where the item cannot repeat (the resource itself, as in code-value-quantity) the rows of its parts
answer it: all of them must hold. Where it repeats (Observation.component), the rows of the second
part stand under a parameter number made of the composite and the first part's code, once for the
code in any system and once for it in its own. Where start and end of a repeating item are asked
for, an item's row is its range.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from decimal import Decimal
from functools import lru_cache

from fhir_gateway.errors import Internal
from fhir_gateway.fhir.datatypes import sortable
from fhir_gateway.fhir.keys import key64
from fhir_gateway.fhir.path import Items, Path, compile_path, result_types
from fhir_gateway.search.context import Context
from fhir_gateway.search.draft import not_offered
from fhir_gateway.search.params import Name, Parameter, refusal, split
from fhir_gateway.search.plan import AllOf, AnyOf, Condition, Missing, Quantity, Range
from fhir_gateway.search.registry import WITHOUT_SYSTEM, Searchable, searchables
from fhir_gateway.search.types import number, quantity, reference, token
from fhir_gateway.search.types.prefix import prefixed

IntRow = tuple[int, int, int]
Pair = tuple[int, int]
Maker = Callable[[Searchable, Parameter, Context], Condition]
Rows = Callable[[Items, list[IntRow]], None]

#: A flat composite whose part is narrower than the parameter it is like: what else must be absent.
_WITHOUT = {("Observation", "code-value-string"): "value-concept"}


def number_of(searchable: Searchable, first: str) -> int:
    """The parameter number of the second part, for one key of the first."""
    return key64(f"{searchable.type}.{searchable.code}${first}")


def _canonical_number(searchable: Searchable, first: str) -> int:
    return key64(f"{searchable.type}.{searchable.code}:ucum${first}")


def rows_of(searchable: Searchable, context: Context) -> Rows:
    """What makes the rows of a composite whose item repeats, from the items."""
    if len(searchable.components) > 2:
        return _range_rows(searchable)
    items = result_types(searchable.expression, searchable.type)
    if len(items) != 1:
        raise Internal("The items of a composite search parameter are of several types")
    first, second = (_paths(items, component.expression) for component in searchable.components)
    bare = _is_bare(searchable)
    of_second = _second_rows(searchable)

    def rows(found: Items, ints: list[IntRow]) -> None:
        for item in found:
            keys = _first_keys(first[item[0]](item[1]), context, bare=bare)
            values = second[item[0]](item[1])
            if keys and values:
                for key in keys:
                    ints.extend(of_second(values, key, context))

    return rows


def _paths(types: frozenset[str], expression: str) -> dict[str, Path]:
    return {type: compile_path(expression, type) for type in types}


def _is_bare(searchable: Searchable) -> bool:
    items = result_types(searchable.expression, searchable.type)
    return all(
        result_types(searchable.components[0].expression, type) <= WITHOUT_SYSTEM for type in items
    )


def _first_keys(items: Items, context: Context, *, bare: bool) -> dict[str, None]:
    keys: dict[str, None] = {}
    for datatype, value in items:
        found = token.ROWS.get(datatype)
        for code, system in found(value, context) if found else ():
            keys[f"{code}|{system}"] = None
            if not bare:
                keys[f"{code}"] = None
    return keys


def _second_rows(
    searchable: Searchable,
) -> Callable[[Items, str, Context], Iterator[IntRow]]:
    kind = _component(searchable, 1).kind
    if kind not in ("token", "quantity", "reference"):
        raise Internal(f"A composite of {searchable.type} ends in {kind}, which has no rows")

    def rows(items: Items, first: str, context: Context) -> Iterator[IntRow]:
        own, other = number_of(searchable, first), _canonical_number(searchable, first)
        for datatype, value in items:
            yield from ((own, *pair) for pair in _pairs(kind, datatype, value, context))
            in_base_units = quantity.CANONICAL.get(datatype) if kind == "quantity" else None
            if in_base_units:
                yield from ((other, *pair) for pair in in_base_units(value, context))

    return rows


def _pairs(kind: str, datatype: str, value: object, context: Context) -> Iterator[Pair]:
    if kind == "reference":
        text = reference.target(datatype, value)
        row = reference.literal(text) if text else None
        if row:
            yield row
        return
    found = (token.ROWS if kind == "token" else quantity.ROWS).get(datatype)
    if found:
        yield from found(value, context)


def _range_rows(searchable: Searchable) -> Rows:
    """Start and end of an item in one row. An item that lacks one of them cannot be compared."""
    (item,) = result_types(searchable.expression, searchable.type)
    paths = [compile_path(part.expression, item) for part in searchable.components[1:]]

    def rows(found: Items, ints: list[IntRow]) -> None:
        for _, value in found:
            ends = [path(value) for path in paths]
            if all(ends):
                low, high = (sortable(end[0][1]) for end in ends)
                ints.append((searchable.number, low, high))

    return rows


@lru_cache(maxsize=256)
def _component(searchable: Searchable, place: int) -> Searchable:
    """The parameter that a component is like.

    R4 has the two of DocumentReference.relationship the wrong way round.
    """
    if searchable.code == "relationship":
        place = 1 - place
    return searchables(searchable.type)[searchable.components[place].code]


def conditions(
    searchable: Searchable, parameter: Parameter, context: Context, makers: dict[str, Maker]
) -> tuple[Condition, ...]:
    """All of them must hold. Raises Invalid for a value that has not one piece for each part."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for value in parameter.values:
        pieces = split(value, "$")
        if len(pieces) != len(searchable.components) or "" in pieces:
            parts = "$".join(component.code for component in searchable.components)
            raise refusal(parameter.name.base, f"must be {parts}", rule="search-composite")
        groups.setdefault(tuple(pieces[:-1]), []).append(pieces[-1])
    make = _flat if searchable.flat else _ranged if len(searchable.components) > 2 else _nested
    found = [
        make(searchable, first, tuple(last), context, makers) for first, last in groups.items()
    ]
    if len(found) == 1:
        return found[0]
    return (AnyOf(tuple(one(group) for group in found)),)


def one(conditions: tuple[Condition, ...]) -> Condition:
    """Conditions that must all hold as one condition."""
    return conditions[0] if len(conditions) == 1 else AllOf(conditions)


def _made(
    like: Searchable, values: tuple[str, ...], context: Context, makers: dict[str, Maker]
) -> Condition:
    parameter = Parameter(Name(like.code), ",".join(values), values)
    if like.kind == "reference":
        return reference.named(like, parameter, context).condition
    return makers[like.kind](like, parameter, context)


def _flat(
    searchable: Searchable,
    first: tuple[str, ...],
    last: tuple[str, ...],
    context: Context,
    makers: dict[str, Maker],
) -> tuple[Condition, ...]:
    found = [
        _made(_component(searchable, place), (value,), context, makers)
        for place, value in enumerate(first)
    ]
    found.append(_made(_component(searchable, len(first)), last, context, makers))
    absent = _WITHOUT.get((searchable.type, searchable.code))
    if absent:
        other = searchables(searchable.type)[absent]
        found.append(Missing(other.number, True, also=(other.present_number,)))
    return tuple(found)


def _nested(
    searchable: Searchable,
    first: tuple[str, ...],
    last: tuple[str, ...],
    context: Context,
    makers: dict[str, Maker],
) -> tuple[Condition, ...]:
    like = _component(searchable, 0)
    asked = token.condition(like, Parameter(Name(like.code), first[0], first), context)
    ((code, system),) = asked.alternatives
    if code is None:
        raise not_offered(searchable.code, "its first part needs a code, not a system alone")
    key = f"{code}" if system is None else f"{code}|{system}"
    second = replace(
        _component(searchable, 1),
        number=number_of(searchable, key),
        canonical_number=_canonical_number(searchable, key),
    )
    return (_made(second, last, context, makers),)


def _ranged(
    searchable: Searchable,
    first: tuple[str, ...],
    last: tuple[str, ...],
    context: Context,
    makers: dict[str, Maker],
) -> tuple[Condition, ...]:
    tie = _made(_component(searchable, 0), first[:1], context, makers)
    found = tuple(_between(searchable, first[1], end) for end in last)
    return tie, found[0] if len(found) == 1 else AnyOf(found)


_BEFORE, _AFTER, _STRICT = ("lt", "eb", "le"), ("gt", "sa", "ge"), ("lt", "eb", "gt", "sa")


def _between(searchable: Searchable, start: str, end: str) -> Condition:
    """One comparison of the range start..end of an item.

    What begins before and ends after overlaps; what begins after and ends before lies inside.
    """
    (one, start_text), (other, end_text) = prefixed(start), prefixed(end)
    low, high = number.limits(searchable.code, one, start_text).keys()
    end_low, end_high = number.limits(searchable.code, other, end_text).keys()
    if one in _BEFORE and other in _AFTER:
        overlap = ("ap", end_high + (other in _STRICT), low - (one in _STRICT))
        return Range(searchable.number, (overlap,))  # type: ignore[arg-type]  # a literal
    if one in _AFTER and other in _BEFORE:
        inside = ("eq", high + (one in _STRICT), end_low - (other in _STRICT))
        return Range(searchable.number, (inside,))  # type: ignore[arg-type]  # a literal
    if one == other == "eq":
        exact = sortable(Decimal(end_text))
        return Quantity(searchable.number, (("eq", low, high, (exact,)),))
    raise not_offered(
        searchable.code, "compare its start with lt or le and its end with gt or ge, or the other "
        "way round, or neither with a prefix"
    )  # fmt: skip
