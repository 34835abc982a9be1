"""A value set that is an expansion and nothing else (FHIR R4 valueset.html#expansion).

Its codes are those that the expansion lists. An expansion that says of itself that it is a page or
a part of more cannot tell what else there is, and a value set without either says nothing at all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from fhir_gateway.terminology.compose_parts import Part, listed_codes
from fhir_gateway.terminology.service_library import Library, Resource

_PARTIAL = frozenset({
    "http://hl7.org/fhir/StructureDefinition/valueset-unclosed",
    "http://hl7.org/fhir/StructureDefinition/valueset-toocostly",
})  # fmt: skip


def of_expansion(resource: Resource, library: Library) -> tuple[Part, ...]:
    """The codes of a value set that has no definition, by system and version."""
    expansion = resource.get("expansion")
    if expansion is None:
        return (_open(f"The value set {_name(resource)} does not say what it consists of"),)
    found: dict[tuple[str, str], dict[str, Resource]] = {}
    count = 0
    for one in _codes(expansion):
        count += 1
        codes = found.setdefault((one.get("system", ""), one.get("version", "")), {})
        codes.setdefault(one["code"], one)
    parts = [_part(url, version, codes, library) for (url, version), codes in found.items()]
    if _is_part(expansion, count):
        parts.append(_open(f"The expansion of {_name(resource)} is a part of a longer one"))
    return tuple(parts)


def _name(resource: Resource) -> str:
    return str(resource.get("url", "#"))[:300]


def _codes(expansion: Resource) -> Iterator[Resource]:
    stack = list(reversed(expansion.get("contains", ())))
    while stack:
        one = stack.pop()
        stack.extend(reversed(one.get("contains", ())))
        if one.get("code"):
            yield one


def _is_part(expansion: Mapping[str, Any], count: int) -> bool:
    said = any(
        one.get("url") in _PARTIAL and one.get("valueBoolean")
        for one in expansion.get("extension", ())
    )
    return said or bool(expansion.get("offset")) or expansion.get("total", 0) > count


def _part(url: str, version: str, codes: dict[str, Resource], library: Library) -> Part:
    system = library.system(url, version)
    listed = listed_codes(list(codes.values()), system)
    if system is None:
        for key, raw in codes.items():
            listed[key] = listed[key]._replace(
                abstract=raw.get("abstract", False), inactive=raw.get("inactive", False)
            )
    return Part(url, version, system, listed, (), (), (), (), "ValueSet.expansion")


def _open(sentence: str) -> Part:
    """What could be any code."""
    return Part("", "", None, None, (), (), (None,), ("",), "ValueSet", sentence)
