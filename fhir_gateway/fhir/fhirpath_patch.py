"""FHIRPath Patch: changes to a resource as Parameters (hl7.org/fhir/R4/fhirpatch.html).

add, insert, delete, replace and move, each at exactly one place. Refusals name the operation by
its place among the parameters, counted from 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from typing import Any, NamedTuple

from fhir_gateway.errors import Invalid, Issue, TooCostly, Unprocessable
from fhir_gateway.fhir.definitions import Element, definitions
from fhir_gateway.fhir.json_patch import weight
from fhir_gateway.fhir.locate import Locator, Spot, element_of, object_of
from fhir_gateway.fhir.primitives import PRIMITIVES

MAX_OPERATIONS = 1_000

#: Values that all operations may look at: each may go through all that the resource holds.
MAX_HANDLED = 4_000_000

Part = Mapping[str, Any]


class Value(NamedTuple):
    """What goes into an element: its JSON value, and for a primitive what stands beside it.

    `type` is its FHIR type, or "" for one that is spelled out in parts.
    """

    type: str
    value: Any
    twin: dict[str, Any] | None = None


class Operation(NamedTuple):
    """One operation, its parts by name. `value` is the part that holds the new value."""

    kind: str
    path: str
    name: str = ""
    at: int = 0
    source: int = 0
    destination: int = 0
    value: Part | None = None


#: The parts of each operation beside `type` and `path`; all are needed.
_PARTS = {
    "add": ("name", "value"),
    "insert": ("index", "value"),
    "delete": (),
    "replace": ("value",),
    "move": ("source", "destination"),
}
_READERS = {
    "path": ("valueString",),
    "name": ("valueString", "valueCode", "valueId"),
    "index": ("valueInteger", "valueUnsignedInt", "valuePositiveInt"),
    "source": ("valueInteger", "valueUnsignedInt", "valuePositiveInt"),
    "destination": ("valueInteger", "valueUnsignedInt", "valuePositiveInt"),
    "type": ("valueCode", "valueString"),
}


def read_fhirpath_patch(parameters: Mapping[str, Any]) -> list[Operation]:
    """The operations of a Parameters resource that is sound.

    Raises Invalid when an operation is malformed, TooCostly for too many.
    """
    given = parameters.get("parameter", ())
    if len(given) > MAX_OPERATIONS:
        raise TooCostly(f"A patch has {MAX_OPERATIONS} operations at most", rule="patch-limit")
    return [_operation(parameter, _place(number)) for number, parameter in enumerate(given)]


def _place(number: int) -> str:
    return f"Parameters.parameter[{number}]"


def _operation(parameter: Part, where: str) -> Operation:
    if parameter.get("name") != "operation":
        raise Invalid(
            "The parameters of a FHIRPath Patch are named operation",
            expression=f"{where}.name",
            rule="patch-operation",
        )
    parts: dict[str, Part] = {}
    for part in parameter.get("part", ()):
        if part["name"] in parts:
            raise _malformed(where, f"has {part['name'][:64]} twice")
        parts[part["name"]] = part
    kind = _simple(parts, "type", where)
    if kind not in _PARTS:
        raise _malformed(where, f"has a type, one of {', '.join(_PARTS)}")
    needed = _PARTS[kind]
    extra = set(parts) - {"type", "path", *needed}
    missing = [name for name in ("path", *needed) if name not in parts]
    if missing:
        raise _malformed(where, f"({kind}) lacks {missing[0]}")
    if extra:
        raise _malformed(where, f"({kind}) has a part that it does not take")
    simple = {
        "at" if name == "index" else name: _simple(parts, name, where)
        for name in needed
        if name != "value"
    }
    return Operation(kind, _simple(parts, "path", where), value=parts.get("value"), **simple)


def _simple(parts: Mapping[str, Part], name: str, where: str) -> Any:
    part = parts.get(name, {})
    for member in _READERS[name]:
        if member in part:
            return part[member]
    raise _malformed(where, f"has no {name}, which is a {_READERS[name][0]}")


def _malformed(where: str, says: str) -> Invalid:
    return Invalid(f"This operation {says}", expression=where, rule="patch-operation")


def apply_fhirpath_patch(resource: dict[str, Any], operations: Sequence[Operation]) -> None:
    """Carries the operations out, in place.

    Raises Unprocessable when one cannot be, TooCostly for many on a resource with many values.
    """
    grows = sum(weight(one.value) for one in operations) // 2  # what comes in, half the time
    if len(operations) > 1 and len(operations) * (weight(resource) + grows) > MAX_HANDLED:
        raise TooCostly(
            "These are too many operations on so large a resource; send fewer at a time",
            rule="patch-limit",
        )
    locator = Locator(resource)
    for number, operation in enumerate(operations):
        try:
            _KINDS[operation.kind](locator, operation)
        except Unprocessable as error:
            raise Unprocessable(
                issues=tuple(_placed(issue, number, operation.kind) for issue in error.issues)
            ) from None


def _placed(issue: Issue, number: int, kind: str) -> Issue:
    sentence = f"Operation {number} ({kind}): {issue.diagnostics}"
    return Issue(issue.code, sentence, _place(number), issue.rule)


# -- the operations ------------------------------------------------------------------------------


def _add(locator: Locator, operation: Operation) -> None:
    spot = _one(locator, operation.path)
    element = element_of(spot.type, operation.name)
    member, value = _value(operation, element)
    holder = object_of(spot, make=True)
    if holder is None:
        raise _refusal("The path leads to something that has no elements")
    if element.many:
        values = _List(holder, member)
        values.pairs.append((value.value, value.twin))
        values.write()
        return
    if any(name in holder or f"_{name}" in holder for name, _ in element.members()):
        raise _refusal("The element is there already; replace it")
    _set(holder, member, value)


def _insert(locator: Locator, operation: Operation) -> None:
    spot, name = locator.collection(operation.path)
    element = _repeating(spot, name)
    member, value = _value(operation, element)
    holder = object_of(spot, make=True)
    if holder is None:
        raise _refusal("The path leads to something that has no elements")
    values = _List(holder, member)
    if not 0 <= operation.at <= len(values.pairs):
        raise _refusal("The index is beyond the end of the list")
    values.pairs.insert(operation.at, (value.value, value.twin))
    values.write()


def _delete(locator: Locator, operation: Operation) -> None:
    spots = locator.find(operation.path)
    if len(spots) > 1:
        raise _refusal("The path leads to several elements; one at a time can be deleted")
    if spots and spots[0].holder is None:
        raise _refusal("The resource itself is not deleted by a patch")
    if spots:
        _remove(spots[0])


def _replace(locator: Locator, operation: Operation) -> None:
    spot = _one(locator, operation.path)
    if spot.holder is None or spot.element is None:
        raise _refusal("The resource itself is not replaced by a patch; send it as an update")
    member, value = _value(operation, spot.element)
    if spot.at >= 0:
        values = _List(spot.holder, member)
        values.pairs[spot.at] = (value.value, value.twin)
        values.write()
        return
    _clear(spot.holder, spot.name)
    _set(spot.holder, member, value)


def _move(locator: Locator, operation: Operation) -> None:
    spot, name = locator.collection(operation.path)
    _repeating(spot, name)
    holder = object_of(spot)
    values = _List(holder if holder is not None else {}, name)
    count = len(values.pairs)
    if not (0 <= operation.source < count and 0 <= operation.destination < count):
        raise _refusal("The source or the destination is not in the list")
    values.pairs.insert(operation.destination, values.pairs.pop(operation.source))
    values.write()


_KINDS: dict[str, Callable[[Locator, Operation], None]] = {
    "add": _add,
    "insert": _insert,
    "delete": _delete,
    "replace": _replace,
    "move": _move,
}


def _one(locator: Locator, path: str) -> Spot:
    spots = locator.find(path)
    if len(spots) != 1:
        raise _refusal(
            "The path leads to several elements" if spots else "The path leads to nothing here"
        )
    return spots[0]


def _repeating(spot: Spot, name: str) -> Element:
    element = element_of(spot.type, name)
    if not element.many:
        raise _refusal("The path leads to an element that is no list")
    return element


# -- JSON ----------------------------------------------------------------------------------------


class _List:
    """A repeating element: its values, each with what stands beside it in the twin array."""

    def __init__(self, holder: dict[str, Any], name: str) -> None:
        self.holder, self.name = holder, name
        values, twins = holder.get(name) or [], holder.get(f"_{name}") or []
        count = max(len(values), len(twins))
        self.pairs: list[tuple[Any, Any]] = list(
            zip(_padded(values, count), _padded(twins, count), strict=True)
        )

    def write(self) -> None:
        """Writes the pairs back; an array of nulls alone is no array."""
        values, twins = [value for value, _ in self.pairs], [twin for _, twin in self.pairs]
        for name, column in ((self.name, values), (f"_{self.name}", twins)):
            if any(one is not None for one in column):
                self.holder[name] = column
            else:
                self.holder.pop(name, None)


def _padded(values: list[Any], count: int) -> list[Any]:
    return values + [None] * (count - len(values))


def _set(holder: dict[str, Any], member: str, value: Value) -> None:
    if value.value is not None:
        holder[member] = value.value
    if value.twin is not None:
        holder[f"_{member}"] = value.twin


def _clear(holder: dict[str, Any], member: str) -> None:
    holder.pop(member, None)
    holder.pop(f"_{member}", None)


def _remove(spot: Spot) -> None:
    """Takes an element away, and with it every element around it that is empty now."""
    assert spot.holder is not None
    if spot.at < 0:
        _clear(spot.holder, spot.name)
    else:
        values = _List(spot.holder, spot.name)
        values.pairs.pop(spot.at)
        values.write()
    up = spot.up
    if up is None or up.holder is None or spot.holder:
        return
    if up.type in PRIMITIVES:
        _drop_twin(up)
    else:
        _remove(up)


def _drop_twin(spot: Spot) -> None:
    """Takes away what stood beside a primitive; the primitive too when it has no value."""
    if spot.value is None:
        _remove(spot)
        return
    assert spot.holder is not None
    if spot.at < 0:
        spot.holder.pop(f"_{spot.name}")
        return
    values = _List(spot.holder, spot.name)
    values.pairs[spot.at] = (spot.value, None)
    values.write()


# -- values --------------------------------------------------------------------------------------


def _value(operation: Operation, element: Element) -> tuple[str, Value]:
    """The JSON name and the new value of an element; raises for a value of another type."""
    assert operation.value is not None
    return _fitted(_built(operation.value, element), element)


def _built(part: Part, element: Element) -> Value:
    """The value of a part, as a copy: later operations change what stands in the resource, and a
    patch that is overtaken is carried out again."""
    if "resource" in part:
        return Value(part["resource"]["resourceType"], deepcopy(part["resource"]))
    if "part" in part:
        return Value("", _composed(part["part"], element))
    members = definitions().types["Parameters.parameter"].members
    for name in part:
        bare = name.removeprefix("_")
        if bare.startswith("value") and bare in members:
            value, twin = part.get(bare), part.get(f"_{bare}")
            return Value(members[bare][1], deepcopy(value), deepcopy(twin))
    raise _refusal("The value is missing: value[x], resource, or parts")


def _composed(parts: Sequence[Part], element: Element) -> dict[str, Any]:
    """An object that is spelled out part by part: that of a type without a name."""
    type = element.types[0]
    if element.choice or type in PRIMITIVES or type == "Resource":
        raise _refusal("A value in parts is for an element whose type has no name")
    composed: dict[str, Any] = {}
    for part in parts:
        inner = element_of(type, part["name"])
        member, value = _fitted(_built(part, inner), inner)
        if inner.many:
            values = _List(composed, member)
            values.pairs.append((value.value, value.twin))
            values.write()
        elif any(name in composed or f"_{name}" in composed for name, _ in inner.members()):
            raise _refusal("A part stands twice that may stand once")
        else:
            _set(composed, member, value)
    return composed


def _fitted(value: Value, element: Element) -> tuple[str, Value]:
    for member, type in element.members():
        if not element.choice and value.type == "":
            return member, value
        if value.type == type or (not element.choice and _is_kind_of(value.type, type)):
            return member, value
    wanted = ", ".join(element.types[:8])
    raise _refusal(f"The value has another type than {element.name}, which is {wanted}")


def _is_kind_of(given: str, wanted: str) -> bool:
    """A code is a string, a url is a uri; XHTML has no value[x] and comes as a string."""
    return definitions().is_a(given, wanted) or (wanted == "xhtml" and given == "string")


def _refusal(says: str) -> Unprocessable:
    return Unprocessable(says, rule="patch-path")
