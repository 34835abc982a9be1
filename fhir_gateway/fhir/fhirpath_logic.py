"""What is true or false in FHIRPath: logic of three values, equality, order, membership
(hl7.org/fhirpath/N1, sections 6.1 to 6.5)."""

from __future__ import annotations

from collections.abc import Callable

from fhir_gateway.fhir.fhirpath import Env, Test, as_items, as_test
from fhir_gateway.fhir.fhirpath_syntax import Node
from fhir_gateway.fhir.fhirpath_values import Items, compare, equal, equivalent, key_of, single


def _and(left: Node, right: Node) -> Test:
    first, second = as_test(left), as_test(right)

    def test(env: Env, focus: Items) -> bool | None:
        mine = first(env, focus)
        if mine is False:
            return False
        other = second(env, focus)
        return False if other is False else None if None in (mine, other) else True

    return test


def _or(left: Node, right: Node) -> Test:
    first, second = as_test(left), as_test(right)

    def test(env: Env, focus: Items) -> bool | None:
        mine = first(env, focus)
        if mine is True:
            return True
        other = second(env, focus)
        return True if other is True else None if None in (mine, other) else False

    return test


def _xor(left: Node, right: Node) -> Test:
    first, second = as_test(left), as_test(right)

    def test(env: Env, focus: Items) -> bool | None:
        mine, other = first(env, focus), second(env, focus)
        return None if mine is None or other is None else mine is not other

    return test


def _implies(left: Node, right: Node) -> Test:
    first, second = as_test(left), as_test(right)

    def test(env: Env, focus: Items) -> bool | None:
        mine = first(env, focus)
        if mine is False:
            return True
        other = second(env, focus)
        return True if other is True else None if mine is None else other

    return test


def _equality(negated: bool) -> Callable[[Node, Node], Test]:
    def make(left: Node, right: Node) -> Test:
        first, second = as_items(left), as_items(right)

        def test(env: Env, focus: Items) -> bool | None:
            same = equal(first(env, focus), second(env, focus))
            return None if same is None else same != negated

        return test

    return make


def _equivalence(negated: bool) -> Callable[[Node, Node], Test]:
    def make(left: Node, right: Node) -> Test:
        first, second = as_items(left), as_items(right)
        return lambda env, focus: equivalent(first(env, focus), second(env, focus)) != negated

    return make


def _order(holds: Callable[[int], bool]) -> Callable[[Node, Node], Test]:
    def make(left: Node, right: Node) -> Test:
        first, second = as_items(left), as_items(right)

        def test(env: Env, focus: Items) -> bool | None:
            order = compare(first(env, focus), second(env, focus))
            return None if order is None else holds(order)

        return test

    return make


def _membership(left: Node, right: Node) -> Test:
    """`in`: whether the one item is among the others."""
    first, second = as_items(left), as_items(right)

    def test(env: Env, focus: Items) -> bool | None:
        one = single(first(env, focus))
        if one is None:
            return None
        others = second(env, focus)
        env.spend(len(others))
        wanted = key_of(one)
        return any(key_of(other) == wanted for other in others)

    return test


TESTS: dict[str, Callable[[Node, Node], Test]] = {
    "and": _and,
    "or": _or,
    "xor": _xor,
    "implies": _implies,
    "=": _equality(False),
    "!=": _equality(True),
    "~": _equivalence(False),
    "!~": _equivalence(True),
    "<": _order(lambda order: order < 0),
    "<=": _order(lambda order: order <= 0),
    ">": _order(lambda order: order > 0),
    ">=": _order(lambda order: order >= 0),
    "in": _membership,
    "contains": lambda left, right: _membership(right, left),
}
