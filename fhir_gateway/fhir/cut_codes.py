"""Expand the value sets of required bindings from the package's own code systems.

Part of the cut at set-up (fhir.cut). A value set that draws on a system whose codes nobody can
list (UCUM, BCP 13 …) stays open: its codes are not checked.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from fhir_gateway.fhir.definitions import ValueSet

_Resource = Mapping[str, Any]


class _Open(Exception):
    """Not all codes can be listed."""


def value_sets(
    sets: Iterable[_Resource], systems: Iterable[_Resource], wanted: Iterable[str]
) -> dict[str, ValueSet]:
    """The wanted value sets, by url."""
    by_url = {resource["url"]: resource for resource in sets}
    code_systems = {resource["url"]: resource for resource in systems}
    return {url: _value_set(url, by_url, code_systems) for url in sorted(wanted)}


def _value_set(
    url: str, sets: Mapping[str, _Resource], systems: Mapping[str, _Resource]
) -> ValueSet:
    try:
        pairs = _expand(url, sets, systems)
    except _Open:
        return ValueSet(url, False, {})
    grouped: dict[str, set[str]] = {}
    for system, code in pairs:
        grouped.setdefault(system, set()).add(code)
    return ValueSet(url, True, {name: frozenset(grouped[name]) for name in sorted(grouped)})


def _expand(
    url: str, sets: Mapping[str, _Resource], systems: Mapping[str, _Resource]
) -> set[tuple[str, str]]:
    resource = sets.get(url.partition("|")[0])
    if resource is None or "compose" not in resource:
        raise _Open
    compose = resource["compose"]
    found: set[tuple[str, str]] = set()
    for include in compose["include"]:
        found |= _include(include, sets, systems)
    for exclude in compose.get("exclude", ()):
        found -= _include(exclude, sets, systems)
    if not found:
        raise _Open
    return found


def _include(
    include: _Resource, sets: Mapping[str, _Resource], systems: Mapping[str, _Resource]
) -> set[tuple[str, str]]:
    choices = [_expand(url, sets, systems) for url in include.get("valueSet", ())]
    if "system" in include:
        choices.append({(include["system"], code) for code in _codes(include, systems)})
    return set.intersection(*choices)


def _codes(include: _Resource, systems: Mapping[str, _Resource]) -> set[str]:
    if "concept" in include:
        return {concept["code"] for concept in include["concept"]}
    system = systems.get(include["system"])
    if system is None or system.get("content") != "complete":
        raise _Open
    concepts = {concept["code"]: (concept, above) for concept, above in _concepts(system)}
    codes = set(concepts)
    for condition in include.get("filter", ()):
        codes &= _filtered(condition, concepts)
    return codes


def _concepts(
    parent: _Resource, above: tuple[str, ...] = ()
) -> Iterator[tuple[_Resource, tuple[str, ...]]]:
    for concept in parent.get("concept", ()):
        yield concept, above
        yield from _concepts(concept, (*above, concept["code"]))


def _filtered(
    condition: _Resource, concepts: Mapping[str, tuple[_Resource, tuple[str, ...]]]
) -> set[str]:
    key = (condition["property"], condition["op"])
    value = condition["value"]
    if key == ("concept", "is-a"):
        return {code for code, (_, above) in concepts.items() if value in (*above, code)}
    if key == ("concept", "descendent-of"):
        return {code for code, (_, above) in concepts.items() if value in above}
    raise _Open
