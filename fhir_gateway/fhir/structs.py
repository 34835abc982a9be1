"""The accept path: msgspec Structs generated from the definitions, one family per resource type.

They say yes in microseconds and never say yes where the walker (fhir.walk) says no; where they
refuse, the walker decides and lists everything. So they may be narrower than the law: primitive
extensions, contained resources and resources two levels inside are left to the walker.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from functools import lru_cache
from operator import attrgetter
from types import ModuleType
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from fhir_gateway.fhir.definitions import Element, TypeDefinition, definitions
from fhir_gateway.fhir.primitives import MAX_INTEGER, MAX_TEXT, PRIMITIVES, anchored
from fhir_gateway.fhir.walk import reference_pattern

#: The generated types by name. Structs name each other in circles, and msgspec looks the names
#: of annotations up in the module of the class.
_FAMILY = ModuleType(f"{__name__}.family")
_FAMILY.__dict__.update(
    Annotated=Annotated,
    NotEmpty=Meta(min_length=1),
    UnsetType=UnsetType,
    Never=Annotated[int, Meta(ge=1, le=0)],
    Raw=msgspec.Raw,
)
sys.modules[_FAMILY.__name__] = _FAMILY

_FORTY_DIGITS = 1e39

#: A regex for each text takes most of the time, and these two names are most of them. Spaces in
#: them are seen at once in the whole text (`has_spaces`), where an escape counts as a space.
_SEEN_IN_TEXT = frozenset((name, type) for name in ("system", "code") for type in ("uri", "code"))
_SPACE = re.compile(rb'":"(?:(?<=code":")|(?<=system":"))[^" \\]*+[ \\]')


def has_spaces(minified: bytes) -> bool:
    """True when a `system` or `code` may hold a space, which the Structs do not see."""
    return _SPACE.search(minified) is not None


@lru_cache(maxsize=256)
def decoder(type: str) -> msgspec.json.Decoder[Any]:
    """The decoder that accepts sound resources of a type; built when first asked for."""
    return msgspec.json.Decoder(getattr(_FAMILY, _struct(type)))


def _struct(type: str, binding: str = "", targets: tuple[str, ...] = ()) -> str:
    """The name of the Struct for a type; it and all it names are made when they are not there."""
    name = _name(type, binding, targets)
    if hasattr(_FAMILY, name):
        return name
    setattr(_FAMILY, name, None)  # a circle ends here
    definition = definitions().types[type]
    resource = definition.kind == "resource"
    fields = [
        _field(member, member_type, element, targets)
        for element in definition.elements.values()
        for member, member_type in element.members()
    ]
    made = msgspec.defstruct(
        name,
        fields,
        module=_FAMILY.__name__,
        namespace=_checks(definition, binding),
        forbid_unknown_fields=True,
        gc=False,
        kw_only=True,
        tag_field="resourceType" if resource else None,
        tag=type if resource else None,
    )
    setattr(_FAMILY, name, made)
    return name


def _name(type: str, binding: str, targets: tuple[str, ...]) -> str:
    parts = (type, binding.rpartition("/")[2], *targets)
    return "_".join(part for part in parts if part).replace(".", "_").replace("-", "_")


def _field(member: str, type: str, element: Element, targets: tuple[str, ...]) -> tuple[Any, ...]:
    name = _reference_text(targets) if member == "reference" and targets else _type(type, element)
    annotation = f"Annotated[list[{name}], NotEmpty]" if element.many else name
    if element.low > 0 and not element.choice:
        return (member, annotation)
    return (member, f"{annotation} | UnsetType", UNSET)


def _type(type: str, element: Element) -> str:
    """The name of the Python type of an element."""
    if type == "Resource":
        return "Raw" if element.name == "resource" else "Never"
    binding = element.binding if element.binding in definitions().codes else ""
    if not binding and not element.many and (element.name, type) in _SEEN_IN_TEXT:
        return _primitive("string")
    if type in PRIMITIVES:
        return _code(binding) if binding else _primitive(type)
    targets = element.targets or definitions().resource_types if type == "Reference" else ()
    return _struct(type, binding, targets)


def _named(name: str, make: Callable[[], Any]) -> str:
    if not hasattr(_FAMILY, name):
        setattr(_FAMILY, name, make())
    return name


def _code(binding: str) -> str:
    codes = tuple(sorted(definitions().codes[binding]))
    return _named(_name("code", binding, ()), lambda: Literal[codes])


def _reference_text(targets: tuple[str, ...]) -> str:
    name = _name("reference", "", targets)
    return _named(name, lambda: Annotated[str, Meta(pattern=anchored(reference_pattern(targets)))])


def _primitive(type: str) -> str:
    return _named(f"primitive_{type}", lambda: _primitive_type(type))


def _primitive_type(type: str) -> Any:
    primitive = PRIMITIVES[type]
    if primitive.json == "integer":
        return Annotated[int, Meta(ge=primitive.low, le=MAX_INTEGER)]
    if primitive.json == "text":
        if not primitive.pattern:
            return Annotated[str, Meta(min_length=1, max_length=MAX_TEXT)]
        return Annotated[str, Meta(pattern=anchored(primitive.pattern))]
    if primitive.json == "base64":
        return Annotated[bytes, Meta(min_length=1)]
    if primitive.json == "boolean":
        return bool
    return Annotated[float, Meta(ge=-_FORTY_DIGITS, le=_FORTY_DIGITS)]


def _checks(definition: TypeDefinition, binding: str) -> dict[str, Any]:
    """A __post_init__ for what fields alone cannot say; none for most types."""
    checks = [
        _choice_check(element)
        for element in definition.elements.values()
        if element.choice and len(element.types) > 1 and definition.name != "Extension"
    ]
    if definition.name == "Extension":
        checks.append(_extension_check(definition.elements["value"]))
    if definition.name in ("Parameters.parameter", "Bundle.entry"):
        checks.append(_resource_check)
    if binding:
        checks.append(_binding_check(binding, concept="coding" in definition.elements))
    if not checks:
        return {}

    def check(self: Any) -> None:
        for one in checks:
            if not one(self):
                raise ValueError("not sound")

    return {"__post_init__": check}


class _Head(msgspec.Struct):
    resourceType: str


_head = msgspec.json.Decoder(_Head)


def _resource_check(self: Any) -> bool:
    """A resource inside Parameters is accepted by the Struct of its own type.

    Parameters and Bundles inside are left to the walker: each level would be read once more.
    """
    if self.resource is UNSET:
        return True
    type = _head.decode(self.resource).resourceType
    if type in _HOLDERS or type not in definitions().resource_type_set:
        return False
    decoder(type).decode(self.resource)
    return True


_HOLDERS = frozenset({"Parameters", "Bundle"})


def _choice_check(element: Element) -> Callable[[Any], bool]:
    """At most one type of a choice, exactly one where it is required."""
    values = attrgetter(*(member for member, _ in element.members()))
    least = len(element.types) - 1
    if element.low:
        return lambda self: values(self).count(UNSET) == least
    return lambda self: values(self).count(UNSET) >= least


def _extension_check(element: Element) -> Callable[[Any], bool]:
    """ext-1: one value or extensions, not both."""
    values = attrgetter(*(member for member, _ in element.members()))
    none = len(element.types)

    def check(self: Any) -> bool:
        unset: int = values(self).count(UNSET)
        return unset == none - (self.extension is UNSET)

    return check


def _binding_check(binding: str, *, concept: bool) -> Callable[[Any], bool]:
    """A Coding, or one coding of a CodeableConcept, is of the value set."""
    systems = definitions().value_sets[binding].systems

    def is_bound(coding: Any) -> bool:
        return coding.code in systems.get(coding.system, ())

    if not concept:
        return is_bound
    return lambda self: self.coding is not UNSET and any(map(is_bound, self.coding))
