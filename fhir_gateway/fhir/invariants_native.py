"""Invariants that are asked most, written out: as expressions they would be most of the work
(hl7.org/fhir/R4/domainresource.html#invs, observation.html#invs). A test holds each of them to
its expression.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Any

from fhir_gateway.fhir.fhirpath_values import Item, all_children, key_of

_Holder = Mapping[str, Any]


def _is_referenced(resource: _Holder) -> bool:
    """dom-3: what is contained is referred to from elsewhere in the resource, or refers to it."""
    contained = resource.get("contained")
    if not contained:
        return True
    type = str(resource.get("resourceType"))
    named = _fragments((type, resource, None))
    return all(
        not isinstance(one, dict) or f"#{one.get('id')}" in named or _names_holder(one)
        for one in contained
    )


def _names_holder(contained: _Holder) -> bool:
    return "#" in _fragments((str(contained.get("resourceType")), contained, None))


def _fragments(item: Item) -> set[str]:
    """Every reference into the resource that stands below an item."""
    found: set[str] = set()
    waiting = [item]
    while waiting:
        type, value, _ = one = waiting.pop()
        if isinstance(value, str):
            if value[:1] == "#" and type in ("canonical", "uri", "url", "string"):
                found.add(value)
        else:
            waiting += all_children(one)
    return found


def _has_no_version(resource: _Holder) -> bool:
    """dom-4: what is contained has no version and no time."""
    for one in resource.get("contained", ()):
        meta = one.get("meta", {})
        if "versionId" in meta or "lastUpdated" in meta:
            return False
    return True


def _has_no_labels(resource: _Holder) -> bool:
    """dom-5: what is contained has no security labels of its own."""
    return not any("security" in one.get("meta", {}) for one in resource.get("contained", ()))


def _has_text(resource: _Holder) -> bool:
    """dom-6: a resource should have a narrative (good practice, told by $validate only)."""
    return "text" in resource


def _has_system(quantity: _Holder) -> bool:
    """qty-3: a code of a unit has a system."""
    return "code" not in quantity or "system" in quantity or "_system" in quantity


def _has_limit(range: _Holder) -> bool:
    """obs-3: a reference range has a limit or a text."""
    return not _LIMITS.isdisjoint(range)


def _is_absent_or_there(observation: _Holder) -> bool:
    """obs-6: a result that has a value has no reason for having none."""
    return "dataAbsentReason" not in observation or _VALUES.isdisjoint(observation)


def _has_no_part_like_itself(observation: _Holder) -> bool:
    """obs-7: where the result has a value, no component has a code of the result itself."""
    parts = observation.get("component")
    if not parts or _VALUES.isdisjoint(observation):
        return True
    own = {_coding_key(coding) for coding in observation.get("code", {}).get("coding", ())}
    return not any(
        _coding_key(coding) in own
        for part in parts
        for coding in part.get("code", {}).get("coding", ())
    )


def _coding_key(coding: _Holder) -> Hashable:
    return key_of(("Coding", coding, None))


_LIMITS = frozenset({"low", "high", "text", "_text"})
_VALUES = frozenset(
    prefix + member
    for member in (
        "valueQuantity", "valueCodeableConcept", "valueString", "valueBoolean", "valueInteger",
        "valueRange", "valueRatio", "valueSampledData", "valueTime", "valueDateTime", "valuePeriod",
    )
    for prefix in ("", "_")
)  # fmt: skip

NATIVE: Mapping[str, Callable[[Any], bool]] = {
    "dom-3": _is_referenced,
    "dom-4": _has_no_version,
    "dom-5": _has_no_labels,
    "dom-6": _has_text,
    "qty-3": _has_system,
    "obs-3": _has_limit,
    "obs-6": _is_absent_or_there,
    "obs-7": _has_no_part_like_itself,
}
