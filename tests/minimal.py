"""Minimal valid resources of every type of R4, made from the definitions themselves."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from fhir_gateway.fhir.definitions import Element, definitions
from fhir_gateway.fhir.home import HOME_RULES

_PRIMITIVES: dict[str, Any] = {
    "base64Binary": "eA==",
    "boolean": True,
    "canonical": "http://example.org/canonical",
    "code": "x",
    "date": "2026-11-01",
    "dateTime": "2026-11-01T08:00:00+08:00",
    "decimal": 1.5,
    "id": "x",
    "instant": "2026-11-01T08:00:00+08:00",
    "integer": 1,
    "markdown": "x",
    "oid": "urn:oid:1.2.3",
    "positiveInt": 1,
    "string": "x",
    "time": "08:00:00",
    "unsignedInt": 1,
    "uri": "http://example.org/uri",
    "url": "http://example.org/url",
    "uuid": "urn:uuid:6b1f0a52-3c2e-4f0e-9a55-0d2a5b1c7e11",
    "xhtml": '<div xmlns="http://www.w3.org/1999/xhtml">x</div>',
}

#: Values of datatypes that need something although no element of theirs is required.
_DATATYPES: dict[str, Any] = {
    "Reference": {"display": "somebody"},
    "CodeableConcept": {"text": "x"},
    "Coding": {"code": "x"},
    "Identifier": {"value": "x"},
    "Period": {"start": "2026-11-01"},
    "Quantity": {"value": 1},
    "Range": {"low": {"value": 1}},
    "HumanName": {"text": "x"},
    "Attachment": {"title": "x"},
    "Meta": {"tag": [{"code": "x"}]},
    "Expression": {"language": "text/fhirpath", "expression": "true"},
}


def minimal(type: str, **members: Any) -> dict[str, Any]:
    """The smallest valid resource of a type, with these members beside or instead."""
    return {"resourceType": type, **_object(type, 0), **members}


def _object(type: str, depth: int) -> dict[str, Any]:
    made = {}
    for element in definitions().types[type].elements.values():
        if element.low > 0:
            name, value = _member(element, depth)
            made[name] = value
    return made


def _member(element: Element, depth: int) -> tuple[str, Any]:
    name, type = next(
        (member for member in element.members() if member[1] in _PRIMITIVES), element.members()[0]
    )
    value = _value(element, type, depth)
    return name, [value] * element.low if element.many else value


def _value(element: Element, type: str, depth: int) -> Any:
    if type in _PRIMITIVES:
        codes = sorted(definitions().codes.get(element.binding, ()))
        return codes[0] if codes else _PRIMITIVES[type]
    if type == "Resource":
        return {"resourceType": "Basic", "id": "x", "code": {"text": "x"}}
    assert depth < 8, f"{element.name} never ends"
    return _object(type, depth + 1) or _DATATYPES.get(type) or _some(type, depth)


def _some(type: str, depth: int) -> dict[str, Any]:
    """The first primitive of a type that requires nothing: an object may not be empty."""
    for element in definitions().types[type].elements.values():
        for name, kind in element.members():
            if kind in _PRIMITIVES and name not in ("id", "fhir_comments"):
                value = _value(element, kind, depth)
                return {name: [value] if element.many else value}
    raise AssertionError(f"{type} has no primitive")


def about(type: str, name: str) -> dict[str, Any]:
    """A minimal resource whose first element of the table of home rules is a reference."""
    rule = HOME_RULES[type]
    path = (*rule.person, *rule.follow, *rule.institution)[0].partition(":")[0]
    resource = minimal(type)
    _put(resource, type, path.split("."), {"reference": name})
    return resource


def _put(holder: dict[str, Any], type: str, path: list[str], value: Any) -> None:
    elements = definitions().types[type].elements
    element = elements[path[0]]
    name, kind = element.name, element.types[0]
    if element.choice:
        name, kind = next(member for member in element.members() if member[1] == "Reference")
    if len(path) == 1:
        holder[name] = [value] if element.many else value
        return
    inner = holder.get(name)
    if inner is None:
        inner = holder[name] = [_object(kind, 1)] if element.many else _object(kind, 1)
    _put(inner[0] if isinstance(inner, list) else inner, kind, path[1:], value)


@lru_cache(maxsize=1)
def person_types() -> tuple[str, ...]:
    """The types whose home is a person's by an element that names the Patient."""
    return tuple(type for type, rule in HOME_RULES.items() if rule.person)
