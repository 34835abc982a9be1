"""Where an element stands in a resource: the paths of FHIRPath Patch, led to exact places.

`fhir.path` finds values; a patch must know what holds them. Paths have element names, `[n]`,
`first()`, `last()`, `where(criterion)`, `ofType(Type)`, `as(Type)` and `extension('url')`, with
criteria of the language of `fhir.path`; a choice is found under its bare name. Primitives have
their ids and extensions beside them (`_name`), which a path reaches as if they stood inside.
hl7.org/fhir/R4/fhirpatch.html, hl7.org/fhir/R4/json.html#primitive
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from fhir_gateway.errors import GatewayError, Unprocessable
from fhir_gateway.fhir.definitions import Element, definitions
from fhir_gateway.fhir.path import Path, compile_path
from fhir_gateway.fhir.primitives import PRIMITIVES

MAX_PATH = 1_000

#: Places that the paths of one patch may visit all in all.
MAX_VISITED = 100_000


class Spot(NamedTuple):
    """The place of one element. `name` is its JSON name, `at` its place in an array or -1.

    `holder` is the JSON object that has it, `up` the place of that object; both None for the
    resource itself, whose `value` it is. `element` is its definition there.
    """

    type: str
    value: Any
    up: Spot | None = None
    holder: dict[str, Any] | None = None
    name: str = ""
    at: int = -1
    element: Element | None = None


class _Segment(NamedTuple):
    """One step of a path: a name with, for a function, the text of its argument."""

    name: str
    argument: str | None = None


_PIECE = re.compile(
    r"\s*(?:\.\s*)?(?:`(?P<quoted>[A-Za-z]\w*)`|(?P<name>%?[A-Za-z]\w*)"
    r"|(?P<open>\()|\[\s*(?P<index>\d{1,6})\s*\])"
)
_TYPED = re.compile(r"(.+)\sas\s+([A-Za-z]\w*)\s*", re.DOTALL)
_URL = re.compile(r"\s*'([^'\\]+)'\s*")


class Locator:
    """Finds places in one resource. `visited` counts against MAX_VISITED."""

    def __init__(self, resource: dict[str, Any]) -> None:
        self.root = Spot(resource["resourceType"], resource)
        self.visited = 0

    def find(self, path: str) -> list[Spot]:
        """Every place that a path leads to. Raises Unprocessable for a path that makes no sense."""
        return self._walk(_segments(path))

    def collection(self, path: str) -> tuple[Spot, str]:
        """The one place whose element a path names last, and that name; it may be absent."""
        segments = _segments(path)
        last = segments[-1]
        if len(segments) < 2 or last.argument is not None or last.name.isdigit():
            raise _refusal("must end in the name of a list")
        spots = self._walk(segments[:-1])
        if len(spots) != 1:
            raise _refusal("must lead to exactly one list")
        return spots[0], last.name

    def _walk(self, segments: list[_Segment]) -> list[Spot]:
        first = segments[0]
        known = definitions().is_a(self.root.type, first.name) or first.name == "%resource"
        if first.argument is not None or not known:
            raise _refusal(f"must begin with {self.root.type}")
        spots = [self.root]
        for segment in segments[1:]:
            spots = self._step(spots, segment)
            self.visited += len(spots) + 1
            if self.visited > MAX_VISITED:
                raise _refusal("visits too much of the resource")
        return spots

    def _step(self, spots: list[Spot], segment: _Segment) -> list[Spot]:
        name, argument = segment
        if name.isdigit():
            return spots[int(name) : int(name) + 1]
        if argument is None:
            return [found for spot in spots for found in children(spot, name)]
        function = _FUNCTIONS.get(name)
        if function is None:
            raise _refusal(f"calls {name}(), which is not offered in a patch")
        return function(spots, argument)


def children(spot: Spot, name: str) -> Iterator[Spot]:
    """The elements of this name in a place. Raises Unprocessable when its type has none."""
    element = element_of(spot.type, name)
    holder = object_of(spot)
    if holder is None:
        return
    for member, type in element.members():
        values, twins = holder.get(member), holder.get(f"_{member}")
        if values is None and twins is None:
            continue
        if not element.many:
            yield Spot(_type(type, values), values, spot, holder, member, -1, element)
            continue
        count = max(len(values or ()), len(twins or ()))
        for index in range(count):
            value = values[index] if values and index < len(values) else None
            yield Spot(_type(type, value), value, spot, holder, member, index, element)


def element_of(type: str, name: str) -> Element:
    """An element by its FHIR name. Raises Unprocessable when the type has none."""
    definition = definitions().types.get("Element" if type in PRIMITIVES else type)
    element = definition.elements.get(name) if definition is not None else None
    if element is None:
        shown = name if len(name) <= 64 else "an element"
        raise _refusal(f"names {shown}, which {type} does not have")
    return element


def _type(type: str, value: Any) -> str:
    if type == "Resource" and isinstance(value, dict):
        return str(value.get("resourceType", type))
    return type


def object_of(spot: Spot, *, make: bool = False) -> dict[str, Any] | None:
    """The JSON object with the children of a place; of a primitive, the one beside it.

    None when there is no object; `make` makes the one beside a primitive.
    """
    if spot.type not in PRIMITIVES:
        return spot.value if isinstance(spot.value, dict) else None
    assert spot.holder is not None
    name = f"_{spot.name}"
    if spot.at < 0:
        twin = spot.holder.get(name)
        if twin is None and make:
            twin = spot.holder[name] = {}
        return twin
    twins = spot.holder.get(name)
    if make and twins is None:
        twins = spot.holder[name] = [None] * len(spot.holder[spot.name])
    if twins is None or spot.at >= len(twins):
        return None
    if make and twins[spot.at] is None:
        twins[spot.at] = {}
    twin = twins[spot.at]
    return twin if isinstance(twin, dict) else None


# -- functions -----------------------------------------------------------------------------------


def _where(spots: list[Spot], argument: str) -> list[Spot]:
    criteria: dict[str, Path] = {}
    kept = []
    for spot in spots:
        if spot.type not in criteria:
            criteria[spot.type] = _compiled(argument, spot.type)
        if spot.value is not None and criteria[spot.type](spot.value) == [("boolean", True)]:
            kept.append(spot)
    return kept


def _compiled(criterion: str, type: str) -> Path:
    """Not remembered: paths of callers would push those of the search parameters out."""
    try:
        return compile_path.__wrapped__(criterion, type)
    except (GatewayError, ValueError, RecursionError):
        raise _refusal("has a criterion that is not understood") from None


def _of_type(spots: list[Spot], argument: str) -> list[Spot]:
    name = argument.strip().removeprefix("FHIR.")
    if name not in definitions().types:
        raise _refusal("names a type that R4 does not have")
    return [spot for spot in spots if definitions().is_a(spot.type, name)]


def _extension(spots: list[Spot], argument: str) -> list[Spot]:
    url = _URL.fullmatch(argument)
    if url is None:
        raise _refusal("calls extension() with something else than 'url'")
    found = (one for spot in spots for one in children(spot, "extension"))
    return [one for one in found if isinstance(one.value, dict) and one.value.get("url") == url[1]]


def _plain(pick: Callable[[list[Spot]], list[Spot]]) -> Callable[[list[Spot], str], list[Spot]]:
    def function(spots: list[Spot], argument: str) -> list[Spot]:
        if argument.strip():
            raise _refusal("calls a function with an argument that it does not take")
        return pick(spots)

    return function


_FUNCTIONS: dict[str, Callable[[list[Spot], str], list[Spot]]] = {
    "where": _where,
    "ofType": _of_type,
    "as": _of_type,
    "extension": _extension,
    "first": _plain(lambda spots: spots[:1]),
    "last": _plain(lambda spots: spots[-1:]),
}


# -- syntax --------------------------------------------------------------------------------------


def _segments(path: str) -> list[_Segment]:
    """A path taken apart. `(… as Type)` at its beginning is the same as `….ofType(Type)`."""
    if len(path) > MAX_PATH:
        raise _refusal(f"is longer than {MAX_PATH} characters")
    text, segments = path.strip(), []
    if text.startswith("("):
        end = _closing(text, 0)
        typed = _TYPED.fullmatch(text[1:end])
        if typed is None:
            raise _refusal("begins with brackets that are not (… as Type)")
        segments = [*_segments(typed[1]), _Segment("ofType", typed[2])]
        text = text[end + 1 :]
    place = 0
    while place < len(text):
        piece = _PIECE.match(text, place)
        dotted = piece is not None and "." in piece[0]
        first = place == 0 and not segments
        if piece is None or piece["open"] or dotted == (first or piece["index"] is not None):
            raise _refusal("cannot be read")
        place = piece.end()
        name = piece["quoted"] or piece["name"] or piece["index"]
        argument = None
        if piece["name"] and text.startswith("(", place):
            end = _closing(text, place)
            argument, place = text[place + 1 : end], end + 1
        segments.append(_Segment(name, argument))
    if not segments:
        raise _refusal("is empty")
    return segments


def _closing(text: str, start: int) -> int:
    """The bracket that closes the one at `start`; those inside texts do not count."""
    depth, quoted = 0, False
    for place in range(start, len(text)):
        sign = text[place]
        if sign == "'":
            quoted = not quoted
        elif not quoted:
            depth += (sign == "(") - (sign == ")")
            if depth == 0:
                return place
    raise _refusal("has a bracket that is not closed")


def _refusal(says: str) -> Unprocessable:
    return Unprocessable(f"The path {says}", rule="patch-path")
