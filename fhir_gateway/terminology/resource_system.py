"""A code system out of a CodeSystem resource (FHIR R4 codesystem.html).

Hierarchy comes from nested concepts and from the properties `parent` and `child`, whichever the
resource uses. Nothing is read before it is asked for, so that a resource of 100,000 concepts costs
nothing until its first code is looked up.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

from fhir_gateway.terminology.system import (
    Concept,
    Content,
    Designation,
    Property,
    PropertyValue,
)

_META = "http://hl7.org/fhir/concept-properties#"
_EFFECTIVE = "http://hl7.org/fhir/StructureDefinition/resource-effectivePeriod"
_RETIRED = frozenset({"retired", "inactive"})
_CONTENTS: Mapping[str, Content] = {
    "complete": "complete", "fragment": "fragment", "example": "fragment",
    "not-present": "not-present",
}  # fmt: skip
#: What a property means whatever a system calls it: (by its uri, by its usual code).
_MEANINGS = ("parent", "child", "inactive", "notSelectable", "status")

Raw = Mapping[str, Any]


class _Index(NamedTuple):
    """The concepts by key, in their order, and what lies directly above and below each code."""

    raw: dict[str, Raw]
    parents: dict[str, list[str]]
    children: dict[str, list[str]]


class ResourceSystem:
    """A System that answers from one CodeSystem resource, which must not change any more."""

    def __init__(self, resource: Raw) -> None:
        """Reads the head alone."""
        self.resource = resource
        self.url: str = resource.get("url", "")
        self.version: str = resource.get("version", "")
        self.title: str = resource.get("title") or resource.get("name") or self.url
        self.content: Content = _CONTENTS.get(resource.get("content", ""), "not-present")
        self.case_sensitive: bool = resource.get("caseSensitive", True)
        self.language: str = resource.get("language", "")
        self.notice: str = resource.get("copyright", "")
        self.status: str = resource.get("status", "")
        self.value_set: str = resource.get("valueSet", "")
        self._made: dict[str, Concept] = {}
        self._indexed: _Index | None = None

    @cached_property
    def effective(self) -> tuple[str, str]:
        """The first and last date on which this version holds, "" where it is open."""
        for one in self.resource.get("extension", ()):
            if one.get("url") == _EFFECTIVE:
                period = one.get("valuePeriod", {})
                return period.get("start", "")[:10], period.get("end", "")[:10]
        return "", ""

    @cached_property
    def property_codes(self) -> frozenset[str]:
        """The properties that the system declares, beside those that every system has."""
        declared = [one.get("code", "") for one in self.resource.get("property", ())]
        declared += [one.get("code", "") for one in self.resource.get("filter", ())]
        return frozenset(declared)

    @cached_property
    def identifiers(self) -> frozenset[str]:
        """Other names of the system, as urn:oid:…"""
        named = [one.get("value", "") for one in self.resource.get("identifier", ())]
        return frozenset(name for name in named if name)

    @cached_property
    def _named(self) -> Mapping[str, frozenset[str]]:
        """The codes of the properties by their meaning."""
        codes: dict[str, set[str]] = {meaning: {meaning} for meaning in _MEANINGS}
        for one in self.resource.get("property", ()):
            meaning = one.get("uri", "").removeprefix(_META)
            if meaning in codes:
                codes[meaning].add(one.get("code", ""))
        return {meaning: frozenset(found) for meaning, found in codes.items()}

    def index(self) -> None:
        """Makes the index now, for who has the time: in a thread, before the first question."""
        assert self._index is not None

    def find(self, code: str) -> Concept | None:
        """The concept of a code, in the spelling of the system."""
        key = self._key(code)
        made = self._made.get(key)
        if made is None:
            raw = self._index.raw.get(key)
            if raw is None:
                return None
            made = self._made[key] = self._concept(raw)
        return made

    def concepts(self) -> Iterable[Concept] | None:
        """All concepts in the order of the resource, None when it has none of them."""
        if self.content == "not-present":
            return None
        return self._all()

    def _all(self) -> Iterator[Concept]:
        for raw in self._index.raw.values():
            concept = self.find(raw["code"])
            if concept is not None:
                yield concept

    def parents(self, code: str) -> Sequence[str]:
        """The codes directly above."""
        return self._index.parents.get(self._key(code), ())

    def children(self, code: str) -> Sequence[str]:
        """The codes directly below."""
        return self._index.children.get(self._key(code), ())

    def _key(self, code: str) -> str:
        return code if self.case_sensitive else code.casefold()

    @property
    def _index(self) -> _Index:
        """Made at the first question; by two threads at worst twice, with the same result. No
        cached_property: its lock would have all systems wait for the largest one."""
        if self._indexed is None:
            self._indexed = self._made_index()
        return self._indexed

    def _made_index(self) -> _Index:
        index = _Index({}, {}, {})
        stack: list[tuple[Raw, str]] = [
            (raw, "") for raw in reversed(self.resource.get("concept", ()))
        ]
        while stack:
            raw, above = stack.pop()
            code = raw.get("code", "")
            index.raw.setdefault(self._key(code), raw)
            if above:
                self._join(index, code, above)
            self._join_by_properties(index, raw, code)
            stack.extend((below, code) for below in reversed(raw.get("concept", ())))
        return index

    def _join_by_properties(self, index: _Index, raw: Raw, code: str) -> None:
        for one in raw.get("property", ()):
            other = one.get("valueCode")
            if not other:
                continue
            if one.get("code") in self._named["parent"]:
                self._join(index, code, other)
            elif one.get("code") in self._named["child"]:
                self._join(index, other, code)

    def _join(self, index: _Index, below: str, above: str) -> None:
        parents = index.parents.setdefault(self._key(below), [])
        if above not in parents:
            parents.append(above)
            index.children.setdefault(self._key(above), []).append(below)

    def _concept(self, raw: Raw) -> Concept:
        properties = tuple(_properties(raw))
        return Concept(
            raw.get("code", ""),
            raw.get("display", ""),
            raw.get("definition", ""),
            tuple(_designations(raw)),
            properties,
            any(one.code in self._named["notSelectable"] and one.value is True
                for one in properties),
            any(self._is_retired(one) for one in properties),
        )  # fmt: skip

    def _is_retired(self, one: Property) -> bool:
        if one.code in self._named["inactive"]:
            return one.value is True
        return one.code in self._named["status"] and one.value in _RETIRED


def _properties(raw: Raw) -> Iterator[Property]:
    for one in raw.get("property", ()):
        for name, value in one.items():
            if name.startswith("value") and len(name) > 5:
                type = name[5].lower() + name[6:]
                yield Property(one.get("code", ""), type, _plain(value))


def _plain(value: Any) -> PropertyValue:
    """A property value as a scalar: a Coding as its system and code."""
    if isinstance(value, Mapping):
        return f"{value.get('system', '')}|{value.get('code', '')}"
    plain: PropertyValue = value
    return plain


def _designations(raw: Raw) -> Iterator[Designation]:
    for one in raw.get("designation", ()):
        use = one.get("use", {})
        named = (use.get("system", ""), use.get("code", "")) if use.get("code") else None
        yield Designation(one.get("language", ""), one.get("value", ""), named)
