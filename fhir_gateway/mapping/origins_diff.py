"""What differs between two readings of one message: resources set beside each other, leaf by leaf.

A message that says one thing otherwise becomes other resources: other ids, one less, a list that
is shorter. They are paired by what they have in common, so that only what really differs is named.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from typing import Any

#: A leaf of a resource: its number in the list, and its path such as `code.coding[0].code`.
Leaf = tuple[int, str]

#: More items than a list of a result has; a longer one is paired by place.
_MOST = 2_000


def leaves(resource: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """The values of a resource with their paths, in order."""
    if isinstance(resource, dict):
        for name, value in resource.items():
            yield from leaves(value, f"{path}.{name}" if path else name)
    elif isinstance(resource, list):
        for n, value in enumerate(resource):
            yield from leaves(value, f"{path}[{n}]")
    else:
        yield path, resource


def shown(value: Any) -> str:
    """A leaf's value as text."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def differing(
    base: Sequence[dict[str, Any]], other: Sequence[dict[str, Any]]
) -> dict[Leaf, str | None]:
    """The leaves of `base` that are otherwise in `other`: their value there, None where gone."""
    found: dict[Leaf, str | None] = {}
    for n, (one, partner) in enumerate(zip(base, _partners(base, other), strict=True)):
        if one is partner or one == partner:
            continue
        for path, value in _compare(one, partner, ""):
            found[n, path] = value
    return found


def _name(resource: dict[str, Any]) -> tuple[str, str]:
    return str(resource.get("resourceType", "")), str(resource.get("id", ""))


def _partners(
    base: Sequence[dict[str, Any]], other: Sequence[dict[str, Any]]
) -> list[dict[str, Any] | None]:
    """For each resource the one that it became: of the same name, else of its type by place."""
    by_name = {_name(one): one for one in other}
    partners = [by_name.pop(_name(one), None) for one in base]
    left: dict[str, list[dict[str, Any]]] = {}
    for (type, _), one in by_name.items():
        left.setdefault(type, []).append(one)
    for type, candidates in left.items():
        alone = [
            n for n, partner in enumerate(partners) if partner is None and _name(base[n])[0] == type
        ]
        if len(alone) == len(candidates):
            for n, one in zip(alone, candidates, strict=True):
                partners[n] = one
    return partners


def _compare(one: Any, other: Any, path: str) -> Iterator[tuple[str, str | None]]:
    if one == other and str(one) == str(other):
        return
    if isinstance(one, dict) and isinstance(other, dict):
        for name, value in one.items():
            below = f"{path}.{name}" if path else name
            yield from _compare(value, other.get(name), below)
    elif isinstance(one, list) and isinstance(other, list):
        for n, partner in enumerate(_paired(one, other)):
            yield from _compare(one[n], partner, f"{path}[{n}]")
    elif isinstance(one, (dict, list)):
        yield from ((leaf, None) for leaf, _ in leaves(one, path))
    else:
        is_leaf = other is not None and not isinstance(other, (dict, list))
        yield path, shown(other) if is_leaf else None


def _paired(one: list[Any], other: list[Any]) -> list[Any]:
    """For each item what it became in the other list; None for what is gone."""
    if len(one) == len(other) or max(len(one), len(other)) > _MOST:
        return [other[n] if n < len(other) else None for n in range(len(one))]
    paired: list[Any] = [None] * len(one)
    matcher = SequenceMatcher(None, list(map(repr, one)), list(map(repr, other)), autojunk=False)
    for _, a, a_end, b, b_end in matcher.get_opcodes():
        for n in range(min(a_end - a, b_end - b)):
            paired[a + n] = other[b + n]
    return paired
