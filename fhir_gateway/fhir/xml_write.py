"""A resource as FHIR XML, in canonical order (hl7.org/fhir/R4/xml.html).

Takes the JSON that the gateway stores and sends: numbers keep their spelling, narratives go out in
canonical form. A character that no XML can hold becomes U+FFFD; JSON's `_div`, which R4 does not
allow, has no form in XML.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fhir_gateway.errors import Internal
from fhir_gateway.fhir.definitions import definitions
from fhir_gateway.fhir.wire import reread
from fhir_gateway.fhir.xhtml import attribute, canonical_text
from fhir_gateway.fhir.xml_plan import FHIR_NAMESPACE, Slot, slots

_HEAD = '<?xml version="1.0" encoding="UTF-8"?>'
_NONE: Mapping[str, Any] = {}


def xml_of(body: bytes, *, pretty: bool = False) -> bytes:
    """The XML of a resource that is JSON of our own.

    Raises Internal when it holds what R4 does not know, which no door lets in.
    """
    return write_xml(reread(body), pretty=pretty)


def write_xml(resource: Mapping[str, Any], *, pretty: bool = False) -> bytes:
    """The same for a parsed resource."""
    writer = _Writer(pretty=pretty)
    writer.resource(resource, f' xmlns="{FHIR_NAMESPACE}"', 0)
    return (_HEAD + ("" if pretty else "\n") + "".join(writer.out)).encode()


class _Writer:
    """The text so far."""

    def __init__(self, *, pretty: bool) -> None:
        self.out: list[str] = []
        self.pretty = pretty

    def line(self, level: int) -> str:
        return "\n" + "  " * level if self.pretty else ""

    def resource(self, value: Mapping[str, Any], namespace: str, level: int) -> None:
        name = value.get("resourceType", "")
        if name not in definitions().resource_type_set:
            raise Internal("An answer is no resource of R4")
        members = _ordered(value, name, skip="resourceType")
        start = f"{self.line(level)}<{name}{namespace}"
        self.content(members, start, name, level)

    def object(self, tag: str, type: str, value: Mapping[str, Any], level: int) -> None:
        """An element that has elements; its attributes come first."""
        start = f"{self.line(level)}<{tag}"
        members = []
        for slot, own, beside in _ordered(value, type):
            if slot.attribute:
                start += f' {slot.name}="{attribute(own)}"' if own is not None else ""
            else:
                members.append((slot, own, beside))
        self.content(members, start, tag, level)

    def content(
        self, members: list[tuple[Slot, Any, Any]], start: str, tag: str, level: int
    ) -> None:
        if not members:
            self.out.append(f"{start}/>")
            return
        self.out.append(f"{start}>")
        for slot, value, beside in members:
            if slot.many:
                self.many(slot, value or (), beside or (), level + 1)
            else:
                self.one(slot, value, beside, level + 1)
        self.out.append(f"{self.line(level)}</{tag}>")

    def many(self, slot: Slot, values: Any, besides: Any, level: int) -> None:
        for place in range(max(len(values), len(besides))):
            value = values[place] if place < len(values) else None
            beside = besides[place] if place < len(besides) else None
            self.one(slot, value, beside, level)

    def one(self, slot: Slot, value: Any, beside: Any, level: int) -> None:
        """One value, with what JSON shows beside it."""
        if slot.kind == "primitive":
            self.primitive(slot.name, value, beside or _NONE, level)
        elif slot.kind == "object":
            self.object(slot.name, slot.type, value, level)
        elif slot.kind == "xhtml":
            if value is not None:
                self.out.append(self.line(level) + canonical_text(value))
        else:
            self.out.append(f"{self.line(level)}<{slot.name}>")
            self.resource(value, "", level + 1)
            self.out.append(f"{self.line(level)}</{slot.name}>")

    def primitive(self, tag: str, value: Any, beside: Mapping[str, Any], level: int) -> None:
        start = f"{self.line(level)}<{tag}"
        if "id" in beside:
            start += f' id="{attribute(beside["id"])}"'
        if value is not None:
            start += f' value="{_text(value)}"'
        if "extension" not in beside:
            self.out.append(f"{start}/>")
            return
        members = [one for one in _ordered(beside, "Element") if not one[0].attribute]
        self.content(members, start, tag, level)


def _text(value: Any) -> str:
    if isinstance(value, str):
        return attribute(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _ordered(value: Mapping[str, Any], type: str, *, skip: str = "") -> list[tuple[Slot, Any, Any]]:
    """(slot, value, `_name`) of each element that an object has, in canonical order."""
    plan = slots(type)
    found: dict[str, tuple[Slot, Any, Any]] = {}
    for name in value:
        own = name.removeprefix("_")
        if own in found or name == skip:
            continue
        slot = plan.get(own)
        if slot is None:
            raise Internal(f"An answer has an element that {type} has not")
        found[own] = (slot, value.get(own), value.get(f"_{own}"))
    return sorted(found.values(), key=_place)


def _place(member: tuple[Slot, Any, Any]) -> int:
    return member[0].place
