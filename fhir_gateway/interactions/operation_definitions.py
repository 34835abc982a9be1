"""Operations as data: what each takes and gives, where it stands, and its OperationDefinition.

One table says it all: the routes, the reading of parameters (`given.py`), the CapabilityStatement
and the OperationDefinition that is served are made from these rows
(hl7.org/fhir/R4/operations.html, operationdefinition.html).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from fhir_gateway.fhir.definitions import UNBOUNDED, definitions
from fhir_gateway.fhir.primitives import PRIMITIVES
from fhir_gateway.interactions.types import interactions_of
from fhir_gateway.settings import CANONICAL

MANY = UNBOUNDED
Level = Literal["system", "type", "instance"]

_STANDARD = "http://hl7.org/fhir/OperationDefinition/"
_ALLOWED_TYPE = "http://hl7.org/fhir/StructureDefinition/operationdefinition-allowed-type"
_VERSION, _DATE = "1.1.0", "2026-11-22"


class Parameter(NamedTuple):
    """One parameter: its FHIR types ("" when it has parts), what it says, how often it stands.

    Several types are spelled "Reference Identifier". `missing` is the rule that a request breaks
    when the parameter is required and not there. `on` are the resource types on which it may be
    given, where an operation takes other parameters on one type than on another; () for all.
    """

    name: str
    types: str
    says: str
    low: int = 0
    high: int = 1
    parts: tuple[Parameter, ...] = ()
    missing: str = "required"
    on: tuple[str, ...] = ()

    @property
    def elements(self) -> tuple[str, ...]:
        """The members of Parameters.parameter that may carry it."""
        return tuple(_element(type) for type in self.types.split())

    @property
    def primitive(self) -> str:
        """The type that it has in a query, "" when it cannot stand there."""
        return next((type for type in self.types.split() if type in PRIMITIVES), "")


class Definition(NamedTuple):
    """What an operation is.

    `types` are the resource types that it is called on, ("Resource",) for all that are stored.
    `affects` says that it changes something: then it is called by POST alone. `standard` is the id
    of HL7's own definition. `guide` is for an operation of an implementation guide which defines
    it anew for each place: (type, level, canonical url), and it stands nowhere else. `search` says
    that it takes the search parameters of its type too. `body` names the parameter that a body is
    when it is no Parameters.
    """

    code: str
    title: str
    says: str
    types: tuple[str, ...]
    levels: tuple[Level, ...]
    takes: tuple[Parameter, ...] = ()
    gives: tuple[Parameter, ...] = ()
    affects: bool = False
    standard: str = ""
    guide: tuple[tuple[str, Level, str], ...] = ()
    search: bool = False
    body: str = ""

    @property
    def url(self) -> str:
        """The canonical url of the definition that is served here."""
        return f"{CANONICAL}/OperationDefinition/{self.code}"

    @property
    def official(self) -> str:
        """HL7's definition where there is one, else ours: what a CapabilityStatement names."""
        return _STANDARD + self.standard if self.standard else self.url

    def taken_on(self, type: str) -> Definition:
        """The operation with those of its parameters alone that may be given on a type."""
        if not any(one.on for one in self.takes):
            return self
        return self._replace(takes=tuple(one for one in self.takes if not one.on or type in one.on))

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods that it is called by (operations.html#executing)."""
        queried = not self.affects and all(one.primitive for one in self.takes if one.low)
        return ("GET", "POST") if queried else ("POST",)


def stands_on(definition: Definition, type: str, id: str = "") -> bool:
    """Whether an operation can be called on a type, or on one of its resources."""
    level: Level = "system"
    if type:
        level = "instance" if id else "type"
    if definition.guide:
        return any(place[:2] == (type, level) for place in definition.guide)
    if level not in definition.levels or not type:
        return level in definition.levels
    if definition.types != ("Resource",):
        return type in definition.types
    offered = interactions_of(type)
    return "update" in offered if definition.affects else bool(offered)


def resource_types(definition: Definition) -> Iterator[str]:
    """The resource types that an operation stands on, at any level."""
    for type in definitions().resource_types:
        if stands_on(definition, type) or stands_on(definition, type, "x"):
            yield type


def canonicals(definition: Definition) -> dict[str, tuple[str, ...]]:
    """The definitions that a CapabilityStatement names, each with the types ("": the base)."""
    if definition.guide:
        return {url: (type,) for type, _, url in definition.guide}
    at_base = ("",) if stands_on(definition, "") else ()
    return {definition.official: (*at_base, *resource_types(definition))}


def operation_definition(definition: Definition) -> dict[str, Any]:
    """The OperationDefinition that is served."""
    resource: dict[str, Any] = {
        "resourceType": "OperationDefinition",
        "id": definition.code,
        "url": definition.url,
        "version": _VERSION,
        "name": "".join(word.capitalize() for word in definition.code.split("-")),
        "title": definition.title,
        "status": "active",
        "experimental": not definition.standard,
        "kind": "operation",
        "date": _DATE,
        "description": definition.says,
        "affectsState": definition.affects,
        "code": definition.code,
        "base": definition.official if definition.standard else None,
        "resource": list(definition.types) or None,
        **{level: level in definition.levels for level in ("system", "type", "instance")},
        "parameter": [
            *(_parameter(one, "in") for one in definition.takes),
            *(_parameter(one, "out") for one in definition.gives),
        ],
    }
    return {name: value for name, value in resource.items() if value not in (None, [])}


def _parameter(one: Parameter, use: str) -> dict[str, Any]:
    types = one.types.split()
    several = len(types) > 1
    shown: dict[str, Any] = {
        "extension": [{"url": _ALLOWED_TYPE, "valueUri": type} for type in types if several],
        "name": one.name,
        "use": use,
        "min": one.low,
        "max": "*" if one.high == MANY else str(one.high),
        "documentation": one.says,
        "type": "Element" if several else one.types,
        "part": [_parameter(part, use) for part in one.parts],
    }
    return {name: value for name, value in shown.items() if value not in ("", [])}


def _element(type: str) -> str:
    if type in ("Resource", "Bundle") or type in definitions().resource_type_set:
        return "resource"
    return f"value{type[0].upper()}{type[1:]}"


class Taken(NamedTuple):
    """One parameter of a call: where it stands, which element carries it, and its value."""

    expression: str
    element: str
    value: Any


class Call(NamedTuple):
    """A call of an operation, its parameters checked against the operation's definition.

    `type` and `id` are "" above the level of a resource. `parameters` has every name of the
    definition. `pairs` are the search parameters of an operation that takes them. `base` is the
    FHIR base as the client called it, `prefer` its Prefer header as it came, `if_match` the version
    that its If-Match insists on, `key` its Idempotency-Key.
    """

    name: str
    type: str = ""
    id: str = ""
    parameters: Mapping[str, Sequence[Taken]] = {}
    pairs: tuple[tuple[str, str], ...] = ()
    base: str = ""
    lenient: bool = False
    prefer: str = ""
    if_match: int | None = None
    key: str = ""

    def one(self, name: str) -> Taken | None:
        """The one parameter of a name that may stand once."""
        found = self.parameters.get(name, ())
        return found[0] if found else None

    def value(self, name: str) -> Any:
        """Its value, None when it is not there."""
        found = self.one(name)
        return None if found is None else found.value

    def values(self, name: str) -> list[Any]:
        """The values of a parameter that may repeat."""
        return [taken.value for taken in self.parameters.get(name, ())]
