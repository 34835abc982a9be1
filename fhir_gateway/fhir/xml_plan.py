"""How each type of R4 is spelled in XML: the order of its elements, and what is an attribute.

hl7.org/fhir/R4/xml.html: elements stand in the order of the definitions; `id` of a datatype and
`url` of an extension are attributes, the value of a primitive is the attribute `value`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Literal, NamedTuple

from fhir_gateway.fhir.definitions import definitions
from fhir_gateway.fhir.primitives import PRIMITIVES

FHIR_NAMESPACE = "http://hl7.org/fhir"
XHTML_NAMESPACE = "http://www.w3.org/1999/xhtml"

Kind = Literal["primitive", "xhtml", "resource", "object"]


class Slot(NamedTuple):
    """One spelling of an element of a type.

    `name` is that of JSON and of XML, `shown` that of FHIRPath (a choice without its type). Slots
    of one element share their `place`.
    """

    place: int
    name: str
    shown: str
    type: str
    kind: Kind
    many: bool
    attribute: bool


@lru_cache(maxsize=1_024)
def slots(type: str) -> Mapping[str, Slot]:
    """The elements of a type by their name, in canonical order."""
    definition = definitions().types[type]
    return {
        name: Slot(
            place,
            name,
            element.name,
            member,
            _kind(member),
            element.many,
            definition.kind != "resource" and _is_attribute(type, name),
        )
        for place, element in enumerate(definition.elements.values())
        for name, member in element.members()
    }


def _is_attribute(type: str, name: str) -> bool:
    return name == "id" or (type == "Extension" and name == "url")


def _kind(type: str) -> Kind:
    if type == "xhtml":
        return "xhtml"
    if type == "Resource":
        return "resource"
    return "primitive" if type in PRIMITIVES else "object"
