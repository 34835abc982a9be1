"""The operators of FHIRPath that give collections: union, arithmetic, texts (N1, section 6)."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal, DivisionByZero, InvalidOperation, Overflow

from fhir_gateway.errors import Invalid
from fhir_gateway.fhir.fhirpath import Env, Step
from fhir_gateway.fhir.fhirpath_values import (
    NOTHING,
    Item,
    Items,
    Trouble,
    key_of,
    number_of,
    single,
    text_of,
)

_Number = int | Decimal


def operator(sign: str, left: Step, right: Step) -> Step:
    """The Step of an operator. Raises Invalid for one that is not known."""
    if sign == "|":
        return lambda env, focus: union(env, left(env, focus), right(env, focus))
    if sign == "&":
        return _joined(left, right)
    if sign in _ARITHMETIC:
        return _arithmetic(sign, left, right)
    raise Invalid(f"The operator {sign} is not known here", rule="fhirpath")


def union(env: Env, left: Items, right: Items) -> Items:
    """All items of both, each once."""
    return distinct(env, (*left, *right))


def distinct(env: Env, items: Items) -> Items:
    """Each item once, in order."""
    env.spend(len(items))
    found: dict[object, Item] = {}
    for item in items:
        found.setdefault(key_of(item), item)
    return tuple(found.values())


def string(value: str) -> Items:
    """A text as a collection."""
    return (("string", value, None),)


def number(value: _Number) -> Items:
    """A number as a collection."""
    return (("integer" if isinstance(value, int) else "decimal", value, None),)


def _joined(left: Step, right: Step) -> Step:
    """`&`: texts joined, nothing stands for an empty text."""

    def step(env: Env, focus: Items) -> Items:
        first, second = text_of(left(env, focus)) or "", text_of(right(env, focus)) or ""
        env.spend((len(first) + len(second)) // 1_000)
        return string(first + second)

    return step


def _arithmetic(sign: str, left: Step, right: Step) -> Step:
    work = _ARITHMETIC[sign]

    def step(env: Env, focus: Items) -> Items:
        mine, other = single(left(env, focus)), single(right(env, focus))
        if mine is None or other is None:
            return NOTHING
        if sign == "+" and isinstance(mine[1], str) and isinstance(other[1], str):
            return string(mine[1] + other[1])
        first, second = number_of((mine,)), number_of((other,))
        if first is None or second is None:
            raise Trouble(f"{sign} needs two numbers")
        try:
            return number(work(first, second))
        except (ZeroDivisionError, DivisionByZero, InvalidOperation, Overflow):
            return NOTHING

    return step


_ARITHMETIC: dict[str, Callable[[_Number, _Number], _Number]] = {
    "+": lambda first, second: first + second,
    "-": lambda first, second: first - second,
    "*": lambda first, second: (
        Decimal(first) * Decimal(second)
        if Decimal in (type(first), type(second))
        else first * second
    ),
    "/": lambda first, second: Decimal(first) / Decimal(second),
    "div": lambda first, second: int(Decimal(first) / Decimal(second)),
    "mod": lambda first, second: first % second,
}
