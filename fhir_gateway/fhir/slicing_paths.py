"""Paths of discriminators: the restricted FHIRPath of hl7.org/fhir/R4/profiling.html#discriminator.

Element names, `$this`, `resolve()`, `ofType(T)`, `as(T)` and `extension('url')`; nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from fhir_gateway.fhir.definitions import definitions
from fhir_gateway.fhir.profile_context import Place, Run
from fhir_gateway.fhir.profile_targets import target_of

_STEP = re.compile(
    r"(?P<this>\$this)|(?P<resolve>resolve\(\))|(?:ofType|as)\((?P<type>[A-Za-z]+)\)"
    r"|extension\('(?P<extension>[^']*)'\)|(?P<child>[A-Za-z][A-Za-z0-9]*(?:\[x\])?)"
)


class Step(NamedTuple):
    """One step of a path: child, resolve, type or extension, and what it names."""

    kind: str
    name: str = ""


class Met(NamedTuple):
    """A value that a path leads to."""

    value: Any
    sibling: Any
    place: Place


@lru_cache(maxsize=1_024)
def steps_of(path: str) -> tuple[Step, ...] | None:
    """The steps of a discriminator's path; None when it is not of the restricted language."""
    steps: list[Step] = []
    at = 0
    while at < len(path):
        match = _STEP.match(path, at)
        if match is None or len(steps) > 20:
            return None
        kind = str(match.lastgroup)
        if kind != "this":
            steps.append(Step(kind, "" if kind == "resolve" else str(match[kind])))
        at = match.end()
        if at < len(path):
            if path[at] != "." or at + 1 == len(path):
                return None
            at += 1
    return tuple(steps)


def read(run: Run, met: Sequence[Met], steps: Sequence[Step]) -> list[Met]:
    """All values that a path leads to from some values."""
    found = list(met)
    for step in steps:
        found = [inner for one in found for inner in _step(run, one, step)]
    return found


def _step(run: Run, met: Met, step: Step) -> Iterator[Met]:
    if step.kind == "resolve":
        target = target_of(run, met.value)
        if target is not None:
            type = str(target.get("resourceType"))
            yield Met(target, None, Place(None, type, -1, type))
    elif step.kind == "type":
        if definitions().is_a(met.place.type, step.name):
            yield met
    elif step.kind == "extension":
        for one in _children(met, "extension"):
            if isinstance(one.value, dict) and one.value.get("url") == step.name:
                yield one
    else:
        yield from _children(met, step.name.removesuffix("[x]"))


def _children(met: Met, name: str) -> Iterator[Met]:
    holder = met.value if isinstance(met.value, dict) else met.sibling
    definition = definitions().types.get(met.place.type)
    if not isinstance(holder, dict) or definition is None:
        return
    element = definition.elements.get(name)
    members: tuple[tuple[str, str], ...] = ()
    if element is not None:
        members = element.members()
    elif name in definition.members:
        members = ((name, definition.members[name][1]),)
    for member, type in members:
        value, beside = holder.get(member), holder.get(f"_{member}")
        if value is None and beside is None:
            continue
        values = value if isinstance(value, list) else [value]
        sides = beside if isinstance(beside, list) else [beside]
        for number in range(max(len(values), len(sides))):
            one = values[number] if number < len(values) else None
            side = sides[number] if number < len(sides) else None
            inner = type
            if type == "Resource" and isinstance(one, dict):
                inner = str(one.get("resourceType"))
            index = number if isinstance(value, list) else -1
            yield Met(one, side, Place(met.place, name, index, inner))
