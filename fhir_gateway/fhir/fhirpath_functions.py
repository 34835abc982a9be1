"""The functions of FHIRPath: those that take an expression, and the table of the others
(hl7.org/fhirpath/N1, section 5; hl7.org/fhir/R4/fhirpath.html#functions)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from textwrap import shorten

from fhir_gateway.errors import Invalid
from fhir_gateway.fhir.fhirpath import Env, Step, as_items, as_test, is_of, of_type
from fhir_gateway.fhir.fhirpath_calls import CALLS, pattern
from fhir_gateway.fhir.fhirpath_syntax import Node
from fhir_gateway.fhir.fhirpath_values import FALSE, NOTHING, TRUE, Item, Items, Trouble, key_of

_REPEATED = 10_000


def function(left: Step, name: str, arguments: Sequence[Node]) -> Step:
    """The Step of a function called on a collection. Raises Invalid for one that is not known, or
    for a wrong number of arguments."""
    special = _SPECIAL.get(name)
    if special is not None:
        low, high, make = special
        _check_number(name, len(arguments), low, high)
        return make(left, arguments)
    known = CALLS.get(name)
    if known is None:
        raise Invalid(f"The function {name}() is not known here", rule="fhirpath-function")
    low, high, work = known
    _check_number(name, len(arguments), low, high)
    if name in ("matches", "replaceMatches") and arguments[0][:2] == ("literal", "string"):
        _check_pattern(arguments[0][2])
    if not arguments:
        return lambda env, focus: work(env, left(env, focus))
    given = [as_items(one) for one in arguments]
    return lambda env, focus: work(env, left(env, focus), *[one(env, focus) for one in given])


def _check_number(name: str, number: int, low: int, high: int) -> None:
    if not low <= number <= high:
        wanted = str(low) if low == high else f"{low} to {high}"
        raise Invalid(f"{name}() takes {wanted} arguments, not {number}", rule="fhirpath")


def _check_pattern(text: str) -> None:
    """Raises Invalid for a regular expression that would give trouble on every value."""
    try:
        pattern(text)
    except Trouble as trouble:
        raise Invalid(f"Of {shorten(text, 60)}: {trouble}", rule="fhirpath-regex") from None


def _where(left: Step, arguments: Sequence[Node]) -> Step:
    test = as_test(arguments[0])

    def step(env: Env, focus: Items) -> Items:
        items = left(env, focus)
        env.spend(len(items))
        return [item for item in items if test(env, (item,)) is True]

    return step


def _exists(left: Step, arguments: Sequence[Node]) -> Step:
    inner = _where(left, arguments) if arguments else left
    return lambda env, focus: TRUE if inner(env, focus) else FALSE


def _all(left: Step, arguments: Sequence[Node]) -> Step:
    test = as_test(arguments[0])

    def step(env: Env, focus: Items) -> Items:
        items = left(env, focus)
        env.spend(len(items))
        return TRUE if all(test(env, (item,)) is True for item in items) else FALSE

    return step


def _select(left: Step, arguments: Sequence[Node]) -> Step:
    inner = as_items(arguments[0])

    def step(env: Env, focus: Items) -> Items:
        found: list[Item] = []
        for item in left(env, focus):
            found += inner(env, (item,))
        env.spend(len(found))
        return found

    return step


def _repeat(left: Step, arguments: Sequence[Node]) -> Step:
    """What an expression leads to, again and again; each item once, so that circles end."""
    inner = as_items(arguments[0])

    def step(env: Env, focus: Items) -> Items:
        found: dict[object, Item] = {}
        waiting = list(left(env, focus))
        while waiting:
            for item in inner(env, (waiting.pop(0),)):
                key = key_of(item)
                if key not in found:
                    found[key] = item
                    waiting.append(item)
            if len(found) > _REPEATED:
                raise Trouble("repeat() leads to too much")
            env.spend(1)
        return list(found.values())

    return step


def _iif(left: Step, arguments: Sequence[Node]) -> Step:
    """The criterion sees the whole collection, also an empty one."""
    test, then = as_test(arguments[0]), as_items(arguments[1])
    otherwise = as_items(arguments[2]) if len(arguments) > 2 else None

    def step(env: Env, focus: Items) -> Items:
        items = left(env, focus)
        if test(env, items) is True:
            return then(env, items)
        return otherwise(env, items) if otherwise is not None else NOTHING

    return step


def _of_type(left: Step, arguments: Sequence[Node]) -> Step:
    return of_type(left, _type_name(arguments[0]))


def _is(left: Step, arguments: Sequence[Node]) -> Step:
    return is_of(left, _type_name(arguments[0]))


def _type_name(node: Node) -> str:
    if node[0] == "name":
        return str(node[1])
    if node[0] == "member" and node[1][0] == "name" and node[2][0] == "name":
        return f"{node[1][1]}.{node[2][1]}"
    raise Invalid("A type is wanted", rule="fhirpath")


def _trace(left: Step, arguments: Sequence[Node]) -> Step:
    return left


_SPECIAL: dict[str, tuple[int, int, Callable[[Step, Sequence[Node]], Step]]] = {
    "where": (1, 1, _where),
    "exists": (0, 1, _exists),
    "all": (1, 1, _all),
    "select": (1, 1, _select),
    "repeat": (1, 1, _repeat),
    "iif": (2, 3, _iif),
    "ofType": (1, 1, _of_type),
    "as": (1, 1, _of_type),
    "is": (1, 1, _is),
    "trace": (1, 2, _trace),
}

#: Every function that is known here.
NAMES = frozenset(_SPECIAL) | frozenset(CALLS)
