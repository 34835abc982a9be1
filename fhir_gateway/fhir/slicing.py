"""Slicing: which values belong to which slice, and how many of each
(hl7.org/fhir/R4/profiling.html#slicing).

A discriminator is a path from the value and what must be found there. A slice is told apart by
what its own elements say at that path: a fixed value, a pattern, a code of a value set, a type, a
profile, or whether there is anything.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from fhir_gateway.fhir.definitions import Element
from fhir_gateway.fhir.profile_context import Judge, Library, Place, Run, passes
from fhir_gateway.fhir.profile_tree import Node
from fhir_gateway.fhir.slicing_paths import Step, steps_of
from fhir_gateway.fhir.slicing_tests import Compile, Test, test_of

_RULES = ("open", "closed", "openAtEnd")
DEFAULT = "@default"
SLICING = "slicing"  # rule of a slice that cannot be judged


class Found(NamedTuple):
    """One value of an element: what JSON shows, what stands beside it, and its place."""

    value: Any
    sibling: Any
    place: Place


class Doubts(Protocol):
    """Who takes note of what cannot be judged."""

    known: Library

    def doubt(self, node: Node, says: str, rule: str = "") -> None:
        """Notes what of a definition cannot be judged."""


class Slice(NamedTuple):
    """A slice: its name, the test that tells it apart, how many there must be, what judges its
    values by type, and its own slices."""

    name: str
    test: Test
    low: int
    high: int | None
    judges: Mapping[str, Judge]
    inner: Slicing | None


class Slicing:
    """The slices of one element."""

    def __init__(self, name: str, slices: Sequence[Slice], facts: Mapping[str, Any]) -> None:
        self._name = name
        self._slices = [slice for slice in slices if slice.name != DEFAULT]
        self._default = next((slice for slice in slices if slice.name == DEFAULT), None)
        self._rules = facts.get("rules", "open")
        self._ordered = facts.get("ordered") is True

    def judge(self, run: Run, found: Sequence[Found], parent: Place) -> None:
        """Sorts the values into slices, and judges each slice."""
        sorted_in: list[list[Found]] = [[] for _ in self._slices]
        last, unmatched = -1, False
        for one in found:
            number = self._number(run, one)
            if number is None:
                unmatched = True
                self._stray(run, one)
                continue
            sorted_in[number].append(one)
            if self._ordered and number < last:
                says = f"must stand before the values of slice {self._slices[last].name}"
                run.add(one.place, "structure", "slice-order", says)
            if unmatched and self._rules == "openAtEnd":
                says = "must stand before all values that belong to no slice"
                run.add(one.place, "structure", "slice-order", says)
            last = max(last, number)
        for slice, values in zip(self._slices, sorted_in, strict=True):
            self._judge(run, slice, values, parent)

    def _number(self, run: Run, one: Found) -> int | None:
        for number, slice in enumerate(self._slices):
            if slice.test(run, one.value, one.sibling, one.place):
                return number
        return None

    def _stray(self, run: Run, one: Found) -> None:
        """A value that belongs to no slice."""
        if self._default is not None:
            judge = self._default.judges.get(one.place.type)
            if judge is not None:
                judge(run, one.value, one.sibling, one.place)
        elif self._rules == "closed":
            names = ", ".join(slice.name for slice in self._slices[:8])
            says = f"belongs to none of the slices {names}, and others are not allowed"
            run.add(one.place, "structure", "slice-closed", says)

    def _judge(self, run: Run, slice: Slice, values: Sequence[Found], parent: Place) -> None:
        place = Place(parent, self._name, -1, "")
        if len(values) < slice.low:
            many = "is missing" if slice.low == 1 else f"must be there {slice.low} times or more"
            run.add(place, "required", "slice-cardinality", f"(slice {slice.name}) {many}")
        elif slice.high is not None and len(values) > slice.high:
            most = f"may be there {slice.high} times" if slice.high else "must not be there"
            run.add(place, "structure", "slice-cardinality", f"(slice {slice.name}) {most}")
        for one in values:
            judge = slice.judges.get(one.place.type)
            if judge is not None:
                judge(run, one.value, one.sibling, one.place)
        if slice.inner is not None:
            slice.inner.judge(run, values, parent)


def slicing_of(
    node: Node,
    element: Element,
    parent: str,
    value: Compile,
    doubts: Doubts,
) -> Slicing | None:
    """The slicing of an element; None when nothing can be judged. `value` compiles what judges a
    value of a type at a slice."""
    facts = node.facts.get("slicing")
    facts = facts if isinstance(facts, Mapping) else {}
    if facts.get("rules", "open") not in _RULES:
        doubts.doubt(node, f"has slicing rules that are none of {', '.join(_RULES)}")
        return None
    discriminators = _discriminators(facts, element)
    slices = []
    for name, slice in node.slices.items():
        judges = {type: value(slice, type) for _, type in element.members()}
        test = _test(name, slice, discriminators, doubts, judges, value)
        if test is None:
            continue
        made = {type: judge for type, judge in judges.items() if judge is not None}
        inner = slicing_of(slice, element, parent, value, doubts) if slice.slices else None
        slices.append(Slice(name, test, slice.low(), slice.high(), made, inner))
    strict = facts.get("rules") == "closed" and discriminators
    return Slicing(element.name, slices, facts) if slices or strict else None


def _discriminators(
    facts: Mapping[str, Any], element: Element
) -> list[tuple[str, tuple[Step, ...] | None]]:
    """(type, path) of every discriminator. Extensions are always told apart by their url."""
    given = facts.get("discriminator")
    found = [
        (str(one.get("type")), steps_of(str(one.get("path"))))
        for one in (given if isinstance(given, list) else ())
        if isinstance(one, Mapping)
    ]
    if not found and element.types == ("Extension",):
        return [("value", steps_of("url"))]
    if not found and element.choice:
        return [("type", steps_of("$this"))]
    return found


def _test(
    name: str,
    slice: Node,
    discriminators: Sequence[tuple[str, tuple[Step, ...] | None]],
    doubts: Doubts,
    judges: Mapping[str, Judge | None],
    compile: Compile,
) -> Test | None:
    """What tells a slice apart; None when nothing does."""
    if name == DEFAULT:
        return _never
    if not discriminators:
        return _by_all(judges)
    tests = []
    for kind, steps in discriminators:
        if steps is None:
            says = f"slice {name}: the path of its discriminator is not understood"
            doubts.doubt(slice, says, SLICING)
            return None
        test = test_of(kind, steps, slice, doubts.known, compile)
        if test is None:
            says = f"slice {name} says nothing at the path of its discriminator of type {kind}"
            doubts.doubt(slice, says, SLICING)
            return None
        tests.append(test)
    if len(tests) == 1:
        return tests[0]
    return lambda run, value, sibling, place: all(
        test(run, value, sibling, place) for test in tests
    )


def _never(run: Run, value: Any, sibling: Any, place: Place) -> bool:
    return False


def _by_all(judges: Mapping[str, Judge | None]) -> Test:
    """Without a discriminator a value belongs to the slice whose every rule it keeps."""

    def test(run: Run, value: Any, sibling: Any, place: Place) -> bool:
        judge = judges.get(place.type)
        return judge is None or passes(run, judge, value, sibling, place)

    return test
