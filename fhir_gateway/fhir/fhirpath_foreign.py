"""Expressions that `fhir.fhirpath` does not know, by the library fhirpathpy.

Only functions that take time in proportion to their input are handed over: an expression of a
foreign profile is as hostile as any other input. Patterns never are (`matches` is ours alone, in
RE2), nor is what asks for terminology or other resources. The library changes what it is given, so
it is given a copy.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from functools import lru_cache
from importlib import import_module
from typing import Any, NamedTuple

from fhir_gateway.errors import Invalid
from fhir_gateway.fhir.fhirpath import Env
from fhir_gateway.fhir.fhirpath_functions import NAMES
from fhir_gateway.fhir.fhirpath_syntax import Node, parse_fhirpath
from fhir_gateway.fhir.fhirpath_values import Items, Trouble

#: What the library may do beside what both know.
FOREIGN = frozenset(
    {"ceiling", "floor", "round", "sqrt", "truncate", "ln", "log", "toBoolean", "toDate"}
    | {"toDateTime", "toTime", "toQuantity", "convertsToBoolean", "convertsToString"}
    | {"convertsToDate", "convertsToDateTime", "convertsToTime", "convertsToQuantity"}
)
#: What only we may do.
_OURS = frozenset(
    {"matches", "replaceMatches", "repeat", "resolve", "memberOf", "conformsTo", "htmlChecks"}
    | {"now", "today", "descendants"}
)
#: Elements that the library may be shown: it works on copies, and slowly.
MAX_SHOWN = 5_000


@lru_cache(maxsize=128)
def compile_foreign(expression: str, type: str) -> Callable[[Env, Items], bool | None]:
    """A test as `fhirpath.compile_test` gives it, for a focus of this type. Raises Invalid where
    the library may not or cannot do it either."""
    names = set(_functions(parse_fhirpath(expression)))
    refused = sorted(names - FOREIGN - (NAMES - _OURS))
    if refused:
        raise Invalid(f"{refused[0]}() is not known here", rule="fhirpath-function")
    return _compiled(expression, type)


def _functions(node: Any) -> list[str]:
    """The names of all functions that a tree calls."""
    found: list[str] = []
    waiting: list[Node] = [node]
    while waiting:
        one = waiting.pop()
        if one[:1] == ("call",):
            found.append(one[1])
        waiting += [part for part in one if isinstance(part, tuple)]
    return found


def _compiled(expression: str, type: str) -> Callable[[Env, Items], bool | None]:
    library = _library()
    try:
        tree = library.parse(expression)
    except Exception:  # the library raises what it likes
        raise Invalid("It is not understood", rule="fhirpath") from None

    def test(env: Env, focus: Items) -> bool | None:
        value: Any = focus[0][1] if focus else None
        root = env.run.resource
        if _size(value) + _size(root) > MAX_SHOWN:
            raise Trouble("there is too much to look at")
        try:
            node = library.node(deepcopy(value), type)
            asked = {"resource": deepcopy(root), "ucum": _UCUM}
            answer = library.apply(node, tree, asked, library.model)
        except Exception:  # the same; a fault of an expression is no fault of the resource
            raise Trouble("it fails on this value") from None
        if len(answer) > 1:
            raise Trouble("several values stand where true or false is wanted")
        return (answer[0] if isinstance(answer[0], bool) else True) if answer else None

    return test


class _Library(NamedTuple):
    """The parts of the library that are used."""

    parse: Callable[[str], Any]
    node: Callable[[Any, str], Any]
    apply: Callable[..., list[Any]]
    model: Any


@lru_cache(maxsize=1)
def _library() -> _Library:
    """The library. It is slow to load, and few profiles need it."""
    fhirpathpy: Any = import_module("fhirpathpy")
    nodes: Any = import_module("fhirpathpy.engine.nodes")
    return _Library(
        import_module("fhirpathpy.parser").parse,
        nodes.ResourceNode.create_node,
        fhirpathpy.apply_parsed_path,
        import_module("fhirpathpy.models").models["r4"],
    )


_UCUM = "http://unitsofmeasure.org"


def _size(value: Any) -> int:
    """How many values there are in a JSON value, as far as it matters."""
    number, waiting = 0, [value]
    while waiting and number <= MAX_SHOWN:
        one = waiting.pop()
        number += 1
        if isinstance(one, dict):
            waiting += one.values()
        elif isinstance(one, list):
            waiting += one
    return number
