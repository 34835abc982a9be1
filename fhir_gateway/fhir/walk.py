"""The walker: all issues of a resource at once, each with the path of its element.

It is the law of validation (hl7.org/fhir/R4/json.html, validation.html): names, cardinality,
types, primitives, choices, required bindings, reference targets, contained resources. The structs
of `fhir.structs` are only a faster way to say yes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from fhir_gateway.errors import GatewayError, Issue
from fhir_gateway.fhir.datatypes import date_range
from fhir_gateway.fhir.definitions import Element, TypeDefinition, definitions
from fhir_gateway.fhir.primitives import PRIMITIVES, checker

MAX_ISSUES = 100

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_SHOWN_CODES = 12
_DAY = len("2026-11-01")


def issues(resource: Any, *, type: str | None = None) -> list[Issue]:
    """What is wrong with a resource; an empty list says that it is sound.

    `type` is the type it must have. At most 100 issues are listed.
    """
    walker = _Walker()
    walker.resource(resource, type, "")
    return walker.found[:MAX_ISSUES]


@lru_cache(maxsize=1_024)
def reference_pattern(targets: tuple[str, ...]) -> str:
    """What Reference.reference may say for these targets (none: any type), without #fragments."""
    types = "|".join(targets or definitions().resource_types)
    identifier = r"[A-Za-z0-9\-.]{1,64}"
    return (
        rf"(?:{types})(?:/{identifier}(?:/_history/{identifier})?|\?\S+)"
        r"|[a-z][a-z0-9+.\-]*:\S+"
    )


@lru_cache(maxsize=1_024)
def _reference_matcher(targets: tuple[str, ...]) -> Callable[[str], Any]:
    return re.compile(reference_pattern(targets), re.ASCII).fullmatch


@lru_cache(maxsize=2_048)
def _required(type: str) -> tuple[Element, ...]:
    return tuple(e for e in definitions().types[type].elements.values() if e.low > 0)


def _present(value: Mapping[str, Any], element: Element) -> list[str]:
    """The spellings of an element that an object has, by value or by extension."""
    return [name for name, _ in element.members() if name in value or f"_{name}" in value]


class _Walker:
    """One walk over one resource: the issues so far, and what is contained."""

    def __init__(self) -> None:
        self.found: list[Issue] = []
        self.contained: set[str] = set()

    def add(self, path: str, code: str, rule: str, says: str) -> None:
        if len(self.found) < MAX_ISSUES:
            self.found.append(Issue(code, f"{path} {says}", path, rule))

    def resource(self, value: Any, type: str | None, path: str) -> None:
        """A resource at the top, contained, or in a Bundle."""
        if not isinstance(value, dict):
            self.add(path or type or "Resource", "structure", "type", "must be a JSON object")
            return
        name = value.get("resourceType")
        if not isinstance(name, str) or name not in definitions().resource_type_set:
            says = "has no resourceType that R4 knows"
            self.add(path or type or "Resource", "structure", "resource-type", says)
            return
        if type and name != type:
            self.add(path or type, "invalid", "resource-type", f"must be {type}, not {name}")
            return
        here = path or name
        outer, self.contained = self.contained, set()
        self.contained = self.contained_ids(value, here)
        self.object(value, definitions().types[name], here, skip="resourceType")
        self.contained = outer

    def contained_ids(self, value: dict[str, Any], path: str) -> set[str]:
        """Ids of contained resources; each has one, none contains another (dom-2)."""
        found: set[str] = set()
        contained = value.get("contained")
        for place, inner in enumerate(contained if isinstance(contained, list) else ()):
            where = f"{path}.contained[{place}]"
            if not isinstance(inner, dict):
                continue
            if "contained" in inner:
                self.add(where, "invariant", "dom-2", "must not contain resources itself")
            id = inner.get("id")
            if not isinstance(id, str) or id in found:
                self.add(f"{where}.id", "required", "contained-id", "must be there, once")
            else:
                found.add(id)
        return found

    def object(self, value: Any, definition: TypeDefinition, path: str, *, skip: str = "") -> None:
        """An object of a datatype, backbone element or resource."""
        if not isinstance(value, dict):
            self.add(path, "structure", "type", "must be a JSON object")
            return
        if len(value) == (skip in value) and not skip:
            self.add(path, "structure", "empty", "is an empty object")
        members = definition.members
        for name, child in value.items():
            if name == skip:
                continue
            known = members.get(name)
            if known is not None:
                self.member(value, name, child, *known, f"{path}.{known[0].name}")
            elif name[:1] == "_" and name[1:] in members:
                self.sibling(value, name, child, *members[name[1:]], path)
            else:
                self.unknown(name, definition, path)
        self.required(value, definition, path)
        rule = _RULES.get(definition.name)
        if rule:
            rule(self, value, path)

    def unknown(self, name: str, definition: TypeDefinition, path: str) -> None:
        shown = name if _NAME.fullmatch(name) else "(name)"
        says = f"is not an element of {definition.name}"
        self.add(f"{path}.{shown}", "structure", "unknown-element", says)

    def required(self, value: dict[str, Any], definition: TypeDefinition, path: str) -> None:
        for element in _required(definition.name):
            if not _present(value, element):
                self.add(f"{path}.{element.name}", "required", "cardinality", "is missing")
        for element in _choices(definition.name):
            if len(_present(value, element)) > 1:
                where = f"{path}.{element.name}"
                self.add(where, "structure", "choice", "has more than one type")

    def member(
        self, parent: dict[str, Any], name: str, value: Any, element: Element, type: str, path: str
    ) -> None:
        """The value of one JSON member: an array or one value."""
        if not element.many:
            if isinstance(value, list):
                self.add(path, "structure", "cardinality", "must be one value, not an array")
                return
            self.one(value, element, type, path)
            return
        if not isinstance(value, list):
            self.add(path, "structure", "cardinality", "must be an array")
            return
        if not value:
            self.add(path, "structure", "empty", "is an empty array")
        siblings = parent.get(f"_{name}")
        for place, one in enumerate(value):
            if one is None and type in PRIMITIVES and _stands_in(siblings, place):
                continue
            self.one(one, element, type, f"{path}[{place}]")

    def one(self, value: Any, element: Element, type: str, path: str) -> None:
        """One value of one type."""
        if type in PRIMITIVES:
            if not checker(type)(value):
                self.primitive(value, type, path)
            elif element.binding:
                self.bound_code(value, element.binding, path)
            return
        if type == "Resource":
            self.resource(value, None, path)
            return
        before = len(self.found)
        self.object(value, definitions().types[type], path)
        if len(self.found) > before:
            return
        if type == "Reference":
            self.target(value, element, path)
        elif element.binding:
            self.bound_coding(value, element.binding, path)

    def primitive(self, value: Any, type: str, path: str) -> None:
        wanted = {"boolean": bool, "text": str, "base64": str}.get(PRIMITIVES[type].json)
        code = "value" if wanted is None or isinstance(value, wanted) else "structure"
        says = "must not be null" if value is None else f"must be {PRIMITIVES[type].says}"
        self.add(path, code, type, says)

    def sibling(
        self,
        parent: dict[str, Any],
        name: str,
        value: Any,
        element: Element,
        type: str,
        path: str,
    ) -> None:
        """`_name`: id and extensions of a primitive, or of each primitive of an array."""
        where = f"{path}.{element.name}"
        if type not in PRIMITIVES:
            self.add(f"{path}.{name}", "structure", "unknown-element", "belongs to no primitive")
            return
        base = definitions().types["Element"]
        if not element.many:
            self.object(value, base, where)
            return
        values = parent.get(name[1:])
        if not isinstance(value, list) or (isinstance(values, list) and len(values) != len(value)):
            says = "must have as many extensions (or nulls) as values"
            self.add(where, "structure", "cardinality", says)
            return
        for place, one in enumerate(value):
            if one is not None:
                self.object(one, base, f"{where}[{place}]")
            elif not _stands_in(values, place):
                self.add(
                    f"{where}[{place}]", "structure", "empty", "has neither value nor extension"
                )

    def bound_code(self, value: Any, binding: str, path: str) -> None:
        codes = definitions().codes.get(binding)
        if codes is not None and value not in codes:
            self.add(path, "code-invalid", "required-binding", _says_codes(codes, binding))

    def bound_coding(self, value: dict[str, Any], binding: str, path: str) -> None:
        """A Coding, or one of the codings of a CodeableConcept, must be of the value set."""
        systems = definitions().value_sets[binding].systems
        codings = value.get("coding", ()) if "coding" in value or "text" in value else (value,)
        if not systems or any(
            c.get("code") in systems.get(c.get("system", ""), ()) for c in codings
        ):
            return
        codes = definitions().codes[binding]
        self.add(path, "code-invalid", "required-binding", _says_codes(codes, binding))

    def target(self, value: dict[str, Any], element: Element, path: str) -> None:
        """A literal reference must be well formed and name a type that the element allows."""
        text = value.get("reference")
        if text is None:
            return
        where = f"{path}.reference"
        if text.startswith("#"):
            if len(text) > 1 and text[1:] not in self.contained:
                self.add(where, "invariant", "ref-1", "names no contained resource")
        elif not _reference_matcher(element.targets)(text):
            allowed = ", ".join(element.targets[:_SHOWN_CODES]) or "a resource"
            says = f"must be Type/id, a url or a urn, and name {allowed}"
            self.add(where, "value", "reference-target", says)


def _says_codes(codes: frozenset[str], binding: str) -> str:
    if len(codes) <= _SHOWN_CODES:
        return f"must be one of {', '.join(sorted(codes))}"
    return f"must be a code of {binding}"


def _stands_in(others: Any, place: int) -> bool:
    """True when the twin array has something where this one has null."""
    return isinstance(others, list) and place < len(others) and others[place] is not None


@lru_cache(maxsize=2_048)
def _choices(type: str) -> tuple[Element, ...]:
    elements = definitions().types[type].elements.values()
    return tuple(element for element in elements if element.choice and len(element.types) > 1)


def _extension(walker: _Walker, value: dict[str, Any], path: str) -> None:
    """ext-1: a value or extensions, one of them and not both."""
    has_value = any(name.lstrip("_").startswith("value") for name in value)
    if has_value == ("extension" in value):
        walker.add(path, "invariant", "ext-1", "must have either a value or extensions")


def _period(walker: _Walker, value: dict[str, Any], path: str) -> None:
    """per-1: a period does not end before it begins."""
    if is_reversed(value):
        walker.add(path, "invariant", "per-1", "must not end before it begins")


def is_reversed(period: Mapping[str, Any]) -> bool:
    """True when `end` is certainly before `start`: in time where both say their offset, else by
    what both say of the calendar. Where one is less precise the rest is not known, and passes."""
    start, end = period.get("start"), period.get("end")
    if not isinstance(start, str) or not isinstance(end, str):
        return False
    if "T" not in start or "T" not in end:
        common = min(len(start), len(end), _DAY)
        return start[:common] > end[:common]
    try:
        return date_range(start)[0] > date_range(end)[1]
    except GatewayError:
        return False  # one of them is no date, which is told elsewhere


_RULES: Mapping[str, Callable[[_Walker, dict[str, Any], str], None]] = {
    "Extension": _extension,
    "Period": _period,
}
