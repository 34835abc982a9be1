"""A resource by R4 itself, beyond its structure: invariants, bindings, extensions, and whatever the
context looks at (codes, units, identifiers). hl7.org/fhir/R4/validation.html.

Compiled once for each type: a table of the JSON names under which there is something to judge.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any

from fhir_gateway.errors import Issue
from fhir_gateway.fhir.definitions import Element, TypeDefinition, definitions
from fhir_gateway.fhir.invariant import BY_WALKER, GOOD_PRACTICE, judge_of
from fhir_gateway.fhir.invariants import r4_invariants
from fhir_gateway.fhir.primitives import PRIMITIVES
from fhir_gateway.fhir.profile_binding import bound
from fhir_gateway.fhir.profile_context import (
    Context,
    Enough,
    Judge,
    Judgement,
    Place,
    Resource,
    Run,
)
from fhir_gateway.fhir.profile_extension import judge_extension
from fhir_gateway.fhir.profile_known import Known
from fhir_gateway.fhir.wire import render

_NO_PROFILES = Known()
#: What holds resources that are roots of their own.
_HOLDERS = frozenset({"Bundle.entry", "Parameters.parameter", "Bundle.entry.response"})

#: Judges the values of one JSON name: the run, the values, the parent's place, the parent.
_Entry = Callable[[Run, Any, Place, Mapping[str, Any]], None]
_Table = Mapping[str, _Entry]


def judge(
    resource: Resource,
    context: Context,
    profiles: tuple[Judgement, ...] = (),
    *,
    hints: bool = True,
) -> list[Issue]:
    """All that is wrong with a sound resource, by R4 and by these profiles; errors first.

    Without `hints` what is only information is left out, which is faster.
    """
    run = Run(resource, context, hints=hints)
    for _ in pieces(run, profiles):
        pass
    return run.issues()


def pieces(run: Run, profiles: tuple[Judgement, ...] = ()) -> Iterator[None]:
    """Judges in pieces: the resource of the run, then each resource that Bundles in it hold."""
    type = str(run.root.get("resourceType"))
    place, whole = Place(None, type, -1, type), run.root
    try:
        judge_resource(run, whole, place)
        for profile in profiles:
            profile.judge(run, whole, None, place)
        while run.waiting:
            yield
            held, where = run.waiting.pop(0)
            run.resource = run.root = held
            judge_resource(run, held, where)
    except Enough:
        run.cut = True


def judge_resource(run: Run, resource: Resource, place: Place) -> None:
    """Judges a resource at its place, whatever holds it."""
    if place.type in definitions().resource_type_set:
        if run.hints:
            judge_value(run, resource, place)
        else:
            _judge_remembering(run, resource, place)
        look = run.context.whole(resource)
        if look:
            run.findings(place, look)


def _judge_remembering(run: Run, resource: Resource, place: Place) -> None:
    """`judge_value` of a resource; a member that is judged by itself is judged once, byte for byte:
    what was sound is sound again as long as the context is the same. Not for hints."""
    own, table, names = _compiled(place.type)
    for step in own if "contained" in resource else _own_alone(place.type):
        step(run, resource, None, place)
    if names.isdisjoint(resource):
        return
    sound, by_itself = run.context.sound, _by_itself(place.type)
    pointers = _pointers(place.type)
    for name, child in resource.items():
        entry = table.get(name)
        if entry is None:
            continue
        if name not in by_itself:
            if name not in pointers or not _only_points(child):
                entry(run, child, place, resource)
            continue
        key = (place.type, name, render(child))
        if key in sound:
            continue
        before = len(run.found)
        entry(run, child, place, resource)
        if len(run.found) == before and not run.cut and _is_kept(key[2]):
            if len(sound) >= _MOST:
                sound.clear()
            sound.add(key)


#: Invariants that say nothing of a resource that contains none.
_OF_CONTAINED = frozenset({"dom-2", "dom-3", "dom-4", "dom-5"})


@lru_cache(maxsize=256)
def _own_alone(type: str) -> tuple[Judge, ...]:
    """What judges a resource as a whole that contains no other, hints left out."""
    return _own(type, _OF_CONTAINED | GOOD_PRACTICE)


#: The members of a Reference about which nothing is judged here (`fhir.walk` does).
_POINTS = frozenset({"reference", "display"})


@lru_cache(maxsize=256)
def _pointers(type: str) -> frozenset[str]:
    """The members of a resource that are References of which nothing is judged as a whole."""
    own, _, names = _compiled("Reference")
    if own or not names.isdisjoint(_POINTS):
        return frozenset()
    return frozenset(
        name
        for name, (element, kind) in definitions().types[type].members.items()
        if kind == "Reference" and not _of_element(kind, f"{type}.{element.name}")
    )


def _only_points(child: Any) -> bool:
    """Whether References say nothing but where they lead."""
    if child.__class__ is not list:
        return bool(child.keys() <= _POINTS)
    for one in child:  # noqa: SIM110 - a generator costs more than the loop
        if not one.keys() <= _POINTS:
            return False
    return True


def _is_kept(said: bytes) -> bool:
    """Whether a member is remembered: an extension is judged by where it stands too."""
    return len(said) <= _LONGEST and b"xtension" not in said and b"\\u" not in said


#: Members that a context remembers, and the longest bytes of one.
_MOST, _LONGEST = 20_000, 640

#: What reaches beyond the value itself in an expression.
_BEYOND = ("%", "resolve(", "now(", "today(", "timeOfDay(")


@lru_cache(maxsize=256)
def _by_itself(type: str) -> frozenset[str]:
    """The members of a resource about which nothing is judged that depends on more than what the
    member holds. Measured values are left out, for none comes twice, and so are extensions."""
    definition = definitions().types[type]
    return frozenset(
        name
        for name, (element, kind) in definition.members.items()
        if kind not in PRIMITIVES and kind != "Extension"
        and not definitions().is_a(kind, "Quantity")
        and _is_local(kind, f"{type}.{element.name}", ())
    )  # fmt: skip


def _is_local(kind: str, path: str, above: tuple[str, ...]) -> bool:
    paths, base = {path, kind}, kind
    while base:
        definition = definitions().types.get(base)
        base = definition.base if definition else ""
        paths.add(base)
    stated = [one for at in paths for one in r4_invariants().invariants.get(at, ())]
    if any(beyond in one.expression for one in stated for beyond in _BEYOND):
        return False
    if kind == "Resource":
        return False
    if kind == "Extension" or kind in PRIMITIVES or kind in above:
        return True
    elements = definitions().types[kind].elements.values()
    return all(
        _is_local(inner, f"{kind}.{element.name}", (*above, kind))
        for element in elements
        for _, inner in element.members()
    )


def judge_value(run: Run, value: Mapping[str, Any], place: Place) -> None:
    """Judges an object of a datatype, backbone element or resource, and all below."""
    own, table, names = _compiled(place.type)
    for step in own:
        step(run, value, None, place)
    if names.isdisjoint(value):
        return
    for name, child in value.items():
        entry = table.get(name)
        if entry is not None:
            entry(run, child, place, value)


@lru_cache(maxsize=2_048)
def _compiled(type: str) -> tuple[tuple[Judge, ...], _Table, frozenset[str]]:
    """What judges a value of a type as a whole, its entries, and their names."""
    table = _table(type)
    return _own(type), table, frozenset(table)


def _own(type: str, without: frozenset[str] = frozenset()) -> tuple[Judge, ...]:
    """What judges a value of a type as a whole: its invariants and those of its bases."""
    made: list[Judge] = []
    name = type
    while name:
        made = [*_invariants(name, type, without), *made]
        definition = definitions().types.get(name)
        name = definition.base if definition else ""
    for base, look in _LOOKS.items():
        if definitions().is_a(type, base):
            made.append(look)
    return tuple(made)


def _invariants(path: str, type: str, without: frozenset[str] = frozenset()) -> list[Judge]:
    stated = r4_invariants().invariants.get(path, ())
    left = BY_WALKER | without
    return [judge_of(one, type, _NO_PROFILES) for one in stated if one.key not in left]


def _coding(run: Run, value: Any, sibling: Any, place: Place) -> None:
    found = run.context.coding(value)
    if found:
        run.findings(place, found)


def _quantity(run: Run, value: Any, sibling: Any, place: Place) -> None:
    found = run.context.quantity(value)
    if found:
        run.findings(place, found)


def _identifier(run: Run, value: Any, sibling: Any, place: Place) -> None:
    found = run.context.identifier(value)
    if found:
        run.findings(place, found)


_LOOKS: Mapping[str, Judge] = {
    "Coding": _coding, "Quantity": _quantity, "Identifier": _identifier,
}  # fmt: skip


def _table(type: str) -> _Table:
    """The entries of a type by JSON name; none for names under which nothing is judged."""
    definition = definitions().types[type]
    table: dict[str, _Entry] = {}
    for element in definition.elements.values():
        for name, kind in element.members():
            path = f"{type}.{element.name}"
            if kind in PRIMITIVES:
                table[f"_{name}"] = _sibling(element, kind)
                entry = _primitive(element, kind, path)
            else:
                entry = _complex(element, kind, path, definition)
            if entry is not None:
                table[name] = entry
    return table


def _sibling(element: Element, kind: str) -> _Entry:
    """What stands beside a primitive: its extensions."""
    name = element.name

    def entry(run: Run, child: Any, place: Place, parent: Mapping[str, Any]) -> None:
        for number, one in enumerate(child if isinstance(child, list) else (child,)):
            if one is not None and "extension" in one:
                here = Place(place, name, number if isinstance(child, list) else -1, kind)
                _extensions(run, one["extension"], here, one)

    return entry


def _extensions(run: Run, child: Any, place: Place, parent: Mapping[str, Any]) -> None:
    for number, one in enumerate(child):
        here = Place(place, "extension", number, "Extension")
        judge_extension(run, one, here, parent)
        judge_value(run, one, here)


def _primitive(element: Element, kind: str, path: str) -> _Entry | None:
    """A primitive with a binding or invariants of its own; most have none."""
    judges = _of_element(kind, path)
    if not judges:
        return None
    name = element.name

    def entry(run: Run, child: Any, place: Place, parent: Mapping[str, Any]) -> None:
        for number, one in enumerate(child if isinstance(child, list) else (child,)):
            if one is not None:
                here = Place(place, name, number if isinstance(child, list) else -1, kind)
                for step in judges:
                    step(run, one, None, here)

    return entry


def _of_element(kind: str, path: str) -> tuple[Judge, ...]:
    """The invariants and the binding that stand with an element."""
    judges = _invariants(path, kind) if path not in definitions().types else []
    binding = r4_invariants().bindings.get(path)
    if binding is not None:
        judges.append(bound(binding.value_set, binding.required, kind))
    return tuple(judges)


def _complex(element: Element, kind: str, path: str, definition: TypeDefinition) -> _Entry:
    if kind == "Resource":
        return _inner(element, definition.name in _HOLDERS)
    name, judges = element.name, _of_element(kind, path)
    extension = kind == "Extension"

    def entry(run: Run, child: Any, place: Place, parent: Mapping[str, Any]) -> None:
        own, _, names = _compiled(kind)
        looked_at = judges or own or extension
        if child.__class__ is not list:
            if not looked_at and names.isdisjoint(child):
                return
            one = Place(place, name, -1, kind)
            for step in judges:
                step(run, child, None, one)
            judge_value(run, child, one)
            return
        for number, value in enumerate(child):
            if not looked_at and names.isdisjoint(value):
                continue
            here = Place(place, name, number, kind)
            for step in judges:
                step(run, value, None, here)
            if extension:
                judge_extension(run, value, here, parent)
            judge_value(run, value, here)

    return entry


def _inner(element: Element, held: bool) -> _Entry:
    """Resources inside: contained ones, or one `held` by a Bundle or Parameters, its own root."""
    name = element.name

    def entry(run: Run, child: Any, place: Place, parent: Mapping[str, Any]) -> None:
        if held:
            run.waiting.append((child, Place(place, name, -1, _type(child))))
            return
        outer = run.resource
        for number, one in enumerate(child):
            run.resource = one
            judge_resource(run, one, Place(place, name, number, _type(one)))
        run.resource = outer

    return entry


def _type(resource: Mapping[str, Any]) -> str:
    return str(resource.get("resourceType"))
