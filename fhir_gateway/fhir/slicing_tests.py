"""The tests that tell slices apart, one for each type of discriminator
(hl7.org/fhir/R4/valueset-discriminator-type.html)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from fhir_gateway.fhir.definitions import definitions
from fhir_gateway.fhir.profile_binding import bound
from fhir_gateway.fhir.profile_context import Judge, Library, Place, Run, passes
from fhir_gateway.fhir.profile_tree import Node, is_base, tree_of
from fhir_gateway.fhir.profile_values import holds, same
from fhir_gateway.fhir.slicing_paths import Met, Step, read

#: Whether a value belongs to a slice.
Test = Callable[[Run, Any, Any, Place], bool]

#: Compiles what judges a value of a type at a node.
Compile = Callable[[Node, str], Judge | None]

#: Whether one value that a discriminator leads to is what the slice wants.
_Wanted = Callable[[Run, Met], bool]


def test_of(
    kind: str, steps: Sequence[Step], slice: Node, known: Library, compile: Compile
) -> Test | None:
    """The test of a discriminator; None when the slice says nothing that could be tested."""
    if kind in ("value", "pattern"):
        wanted = list(_Values(known, compile).at(slice, steps)) + list(_url(slice, steps))
        return _any_of(steps, wanted) if wanted else None
    nodes = list(_nodes(slice, steps))
    if kind == "exists":
        return _exists(steps, nodes)
    if kind == "type":
        types = sorted({type for node in nodes for type in _types(node, steps, known)})
        return _any_of(steps, [_of_type(types)]) if types else None
    if kind == "profile":
        urls = [url for node in nodes for url in _profiles(node, steps)]
        return _any_of(steps, [_conforms(url, known) for url in urls]) if urls else None
    return None


def _any_of(steps: Sequence[Step], wanted: Sequence[_Wanted]) -> Test:
    def test(run: Run, value: Any, sibling: Any, place: Place) -> bool:
        met = read(run, [Met(value, sibling, place)], steps)
        return any(one(run, here) for here in met for one in wanted)

    return test


def _exists(steps: Sequence[Step], nodes: Sequence[Node]) -> Test | None:
    if any(node.low() > 0 for node in nodes):
        wanted = True
    elif any(node.high() == 0 for node in nodes):
        wanted = False
    else:
        return None

    def test(run: Run, value: Any, sibling: Any, place: Place) -> bool:
        return bool(read(run, [Met(value, sibling, place)], steps)) == wanted

    return test


def _nodes(node: Node, steps: Sequence[Step]) -> Iterator[Node]:
    """The nodes of a slice that a path leads to, through slices inside of it too."""
    if not steps:
        yield node
        return
    step, rest = steps[0], steps[1:]
    if step.kind in ("resolve", "type"):
        yield from _nodes(node, rest)
        return
    for child in _below(node, step):
        for one in (child, *child.slices.values()):
            yield from _nodes(one, rest)


def _below(node: Node, step: Step) -> Iterator[Node]:
    if step.kind == "extension":
        extensions = node.children.get("extension")
        for slice in extensions.slices.values() if extensions else ():
            if any(step.name == url for url in _profiles(slice, ())):
                yield slice
        return
    plain = step.name.removesuffix("[x]")
    for name, child in node.children.items():
        if name.removesuffix("[x]") == plain or _is_spelling(name, plain):
            yield child


def _is_spelling(name: str, choice: str) -> bool:
    """valueQuantity is a spelling of value."""
    return name.startswith(choice) and name[len(choice) :][:1].isupper()


class _Values:
    """What a slice wants at the end of a path: said there, by a pattern above it, or by the
    profiles of its types and targets."""

    def __init__(self, known: Library, compile: Compile) -> None:
        self._known, self._compile = known, compile
        self._left = 64  # definitions that are read at most: they may name each other in circles

    def at(self, node: Node, steps: Sequence[Step]) -> Iterator[_Wanted]:
        """What is wanted at the end of a path from a node."""
        for prefix in ("fixed", "pattern"):
            said = node.value(prefix)
            for part in _parts(said[1], steps) if said is not None else ():
                yield _equal(part) if prefix == "fixed" or steps else _holding(part)
        if not steps:
            yield from self._by_constraints(node)
            return
        step, rest = steps[0], steps[1:]
        if step.kind == "resolve":
            yield from self._in_profiles(_type_urls(node, "targetProfile"), rest)
        elif step.kind == "type":
            yield from self.at(node, rest)
        else:
            yield from self._in_profiles(_type_urls(node, "profile"), steps)
            for child in _below(node, step):
                for one in (child, *child.slices.values()):
                    yield from self.at(one, rest)

    def _in_profiles(self, urls: Iterator[str], steps: Sequence[Step]) -> Iterator[_Wanted]:
        for url in urls:
            found = None if is_base(url) else self._known.find(url)
            if found is not None and self._left:
                self._left -= 1
                yield from self.at(tree_of(found, self._known).root, steps)

    def _by_constraints(self, node: Node) -> Iterator[_Wanted]:
        """A required binding, or what the elements below want."""
        binding = node.facts.get("binding")
        if isinstance(binding, dict) and binding.get("strength") == "required":
            canonical = binding.get("valueSet")
            if isinstance(canonical, str):
                yield _member(canonical)
        if node.children and node.value("fixed") is None and node.value("pattern") is None:
            yield _like(node, self._compile)


def _parts(value: Any, steps: Sequence[Step]) -> Iterator[Any]:
    """The parts of a fixed value or pattern at a path."""
    if isinstance(value, list):
        for one in value:
            yield from _parts(one, steps)
    elif not steps:
        yield value
    elif steps[0].kind == "child" and isinstance(value, dict) and steps[0].name in value:
        yield from _parts(value[steps[0].name], steps[1:])
    elif steps[0].kind == "type":
        yield from _parts(value, steps[1:])


def _url(slice: Node, steps: Sequence[Step]) -> Iterator[_Wanted]:
    """The url of an extension, which the profile of its type names."""
    if steps == (Step("child", "url"),):
        for url in _profiles(slice, ()):
            yield _equal(url.partition("|")[0])


def _equal(wanted: Any) -> _Wanted:
    return lambda run, met: same(met.value, wanted)


def _holding(wanted: Any) -> _Wanted:
    return lambda run, met: holds(met.value, wanted)


def _member(canonical: str) -> _Wanted:
    def is_member(run: Run, met: Met) -> bool:
        judge = bound(canonical, True, met.place.type)
        return met.value is not None and passes(run, judge, met.value, None, met.place)

    return is_member


def _like(node: Node, compile: Compile) -> _Wanted:
    made: dict[str, Judge | None] = {}

    def is_like(run: Run, met: Met) -> bool:
        type = met.place.type
        if type not in made:
            made[type] = compile(node, type)
        judge = made[type]
        return judge is None or passes(run, judge, met.value, met.sibling, met.place)

    return is_like


def _of_type(types: Sequence[str]) -> _Wanted:
    is_a = definitions().is_a
    return lambda run, met: any(is_a(met.place.type, type) for type in types)


def _types(node: Node, steps: Sequence[Step], known: Library) -> Iterator[str]:
    """The types that a slice leaves; behind resolve() those of the targets."""
    resolved = any(step.kind == "resolve" for step in steps)
    types = node.facts.get("type")
    for one in types if isinstance(types, list) else ():
        if not resolved:
            yield str(one.get("code"))
    for url in _type_urls(node, "targetProfile") if resolved else ():
        found = known.find(url)
        yield str(found.get("type")) if found is not None else url.rpartition("/")[2]


def _profiles(node: Node, steps: Sequence[Step]) -> Iterator[str]:
    resolved = any(step.kind == "resolve" for step in steps)
    return _type_urls(node, "targetProfile" if resolved else "profile")


def _type_urls(node: Node, name: str) -> Iterator[str]:
    types = node.facts.get("type")
    for one in types if isinstance(types, list) else ():
        urls = one.get(name) if isinstance(one, dict) else None
        yield from (url for url in urls if isinstance(url, str)) if isinstance(urls, list) else ()


def _conforms(url: str, known: Library) -> _Wanted:
    def conforms(run: Run, met: Met) -> bool:
        profile = known.profile(url)
        if profile is None:
            found = url.rpartition("/")[2]
            return definitions().is_a(met.place.type, found)
        return passes(run, profile.judge, met.value, met.sibling, met.place)

    return conforms
