"""FHIR XML to the resource that the same content in JSON is (hl7.org/fhir/R4/xml.html).

What both formats can say wrongly (unknown elements, missing ones, two types of a choice, bad
values) becomes the same wrong resource, so that one law judges it (fhir.walk, fhir.structs). What
only XML can say wrongly (order, namespaces, attributes, text between elements) is listed here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from fhir_gateway.errors import GatewayError, Issue, Structure, Unprocessable
from fhir_gateway.fhir.definitions import definitions
from fhir_gateway.fhir.primitives import PRIMITIVES
from fhir_gateway.fhir.walk import MAX_ISSUES, issues
from fhir_gateway.fhir.wire import MAX_DEPTH, number, render
from fhir_gateway.fhir.xhtml import canonical, unsafe
from fhir_gateway.fhir.xml_parse import parse_xml
from fhir_gateway.fhir.xml_plan import FHIR_NAMESPACE, XHTML_NAMESPACE, Slot, slots

_FHIR = f"{{{FHIR_NAMESPACE}}}"
_DIV = f"{{{XHTML_NAMESPACE}}}div"
#: Where a schema lies says nothing about the resource, and is never followed.
_SCHEMA = frozenset(
    f"{{http://www.w3.org/2001/XMLSchema-instance}}{name}"
    for name in ("schemaLocation", "noNamespaceSchemaLocation")
)
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9]{0,63}")
_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]*)")
_DECIMAL = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_BLANKS = " \t\r\n"
_BOOLEANS = {"true": True, "false": False}


def read_xml(body: bytes) -> dict[str, Any]:
    """The resource of an XML body, as parsing the same content in JSON gives it; not yet validated.

    Raises Structure or TooLong for what is not clean XML (see `parse_xml`) or no resource, and
    Unprocessable with every issue, each with its line, for what XML says wrongly.
    """
    root = parse_xml(body)
    if not root.tag.startswith(_FHIR):
        raise Structure(
            f"line {root.sourceline}: the root element must be a resource in {FHIR_NAMESPACE}",
            rule="namespace",
        )
    reader = _Reader()
    name = _local(root)
    resource = reader.resource(root, name if _NAME.fullmatch(name) else "Resource", 1)
    if reader.found:
        raise Unprocessable(issues=tuple((reader.found + issues(resource))[:MAX_ISSUES]))
    return resource


def json_of(body: bytes) -> bytes:
    """The same as JSON, for all that reads JSON."""
    return render(read_xml(body))


def located(error: GatewayError, body: bytes) -> GatewayError:
    """The error with the line of its element before each sentence, where an issue names one."""
    if all(issue.expression is None for issue in error.issues):
        return error
    reader = _Reader()
    try:
        root = parse_xml(body)
        reader.resource(root, _local(root), 1)
    except GatewayError:  # it could not be read, and the error says so
        return error
    error.issues = tuple(_with_line(issue, reader.lines) for issue in error.issues)
    return error


def _with_line(issue: Issue, lines: Mapping[str, int]) -> Issue:
    path = issue.expression or ""
    while path and path not in lines:
        path = path.rpartition(".")[0]
    if not path or issue.diagnostics.startswith("line "):
        return issue
    return replace(issue, diagnostics=f"line {lines[path]}: {issue.diagnostics}")


def _local(node: Any) -> str:
    return str(node.tag.rpartition("}")[2])


class _Reader:
    """One walk over one document: what is wrong so far, and the line of each element."""

    def __init__(self) -> None:
        self.found: list[Issue] = []
        self.lines: dict[str, int] = {}

    def add(self, node: Any, path: str, rule: str, says: str) -> None:
        if len(self.found) < MAX_ISSUES:
            line = f"line {node.sourceline}: {path} {says}"
            self.found.append(Issue("structure", line, path, rule))

    def resource(self, node: Any, path: str, depth: int) -> dict[str, Any]:
        """A resource at the top, contained, or in a Bundle."""
        name = _local(node)
        made: dict[str, Any] = {"resourceType": name}
        self.lines[path] = node.sourceline
        if name in definitions().resource_type_set:
            self.attributes(node, {}, made, path)
            self.children(node, name, made, path, depth)
        return made

    def object(self, node: Any, type: str, path: str, depth: int) -> dict[str, Any]:
        """A datatype or backbone element."""
        made: dict[str, Any] = {}
        plan = slots(type)
        self.lines[path] = node.sourceline
        if node.attrib:
            self.attributes(node, plan, made, path)
        self.children(node, type, made, path, depth)
        return made

    def attributes(
        self, node: Any, plan: Mapping[str, Slot], made: dict[str, Any], path: str
    ) -> None:
        for key, value in node.attrib.items():
            slot = plan.get(key)
            if slot is not None and slot.attribute:
                made[key] = value
            elif key not in _SCHEMA:
                shown = key if _NAME.fullmatch(key) else "(name)"
                self.add(node, path, "attribute", f"has no attribute {shown}")

    def children(self, node: Any, type: str, made: dict[str, Any], path: str, depth: int) -> None:
        """The child elements, in order."""
        if depth > MAX_DEPTH:
            raise Structure(f"The body is nested over {MAX_DEPTH} levels deep", rule="depth")
        plan, last = slots(type), None
        self.text(node, node.text, path)
        for child in node:
            self.text(child, child.tail, path)
            slot = self.slot(child, plan, made, path)
            if slot is None:
                continue
            if last is not None and slot.place < last.place:
                where = f"{path}.{slot.shown}"
                self.add(child, where, "order", f"must stand before {path}.{last.shown}")
            else:
                last = slot
            self.member(child, slot, made, f"{path}.{slot.shown}", depth)

    def text(self, node: Any, text: str | None, path: str) -> None:
        if text and text.strip(_BLANKS):
            self.add(node, path, "text", "must not have text between its elements")

    def slot(
        self, child: Any, plan: Mapping[str, Slot], made: dict[str, Any], path: str
    ) -> Slot | None:
        """The element that a child is. An unknown one is left to the law of JSON."""
        tag = child.tag
        if tag == _DIV and "div" in plan:
            return plan["div"]
        name = _local(child)
        slot = plan.get(name)
        if not tag.startswith(_FHIR) or (slot and slot.kind == "xhtml"):
            shown = name if _NAME.fullmatch(name) else "(name)"
            namespace = XHTML_NAMESPACE if name == "div" else FHIR_NAMESPACE
            self.add(child, f"{path}.{shown}", "namespace", f"must be in namespace {namespace}")
            return None
        if slot is not None and not slot.attribute:
            return slot
        if slot is not None:
            self.add(child, f"{path}.{name}", "attribute", "is an attribute in XML, no element")
        elif name == "resourceType" or name.startswith("_"):
            self.add(child, path, "unknown-element", "has an element that is no element of FHIR")
        else:
            made[name] = True
            self.lines[f"{path}.{name}"] = child.sourceline
        return None

    def member(self, child: Any, slot: Slot, made: dict[str, Any], path: str, depth: int) -> None:
        """One child that is known: a value of its own, or one more of an array."""
        if not slot.many:
            if slot.name in made or f"_{slot.name}" in made:
                self.add(child, path, "cardinality", "must stand once")
                return
            value, beside = self.value(child, slot, path, depth)
            if value is not None:
                made[slot.name] = value
            if beside is not None or value is None:
                made[f"_{slot.name}"] = {} if beside is None else beside
            return
        place = _count(made, slot.name)
        value, beside = self.value(child, slot, f"{path}[{place}]", depth)
        _append(made, slot.name, value, place)
        if beside is not None or f"_{slot.name}" in made:
            _append(made, f"_{slot.name}", beside, place)
        _level(made, slot.name, place + 1)

    def value(
        self, child: Any, slot: Slot, path: str, depth: int
    ) -> tuple[Any, dict[str, Any] | None]:
        """The value of an element, and what JSON shows beside it as `_name`."""
        if slot.kind == "object":
            return self.object(child, slot.type, path, depth + 1), None
        if slot.kind == "primitive":
            return self.primitive(child, slot.type, path, depth)
        self.lines[path] = child.sourceline
        if slot.kind == "xhtml":
            return self.xhtml(child, path), None
        return self.inner(child, path, depth), None

    def primitive(
        self, node: Any, type: str, path: str, depth: int
    ) -> tuple[Any, dict[str, Any] | None]:
        beside: dict[str, Any] = {}
        self.lines[path] = node.sourceline
        text: str | None = None
        for key, value in node.attrib.items():
            if key == "value":
                text = value
            else:
                self.attributes_of_primitive(node, key, value, beside, path)
        if len(node) or node.text:
            self.children(node, "Element", beside, path, depth + 1)
        try:
            return (None if text is None else _value(type, text)), beside or None
        except ValueError as error:
            says = "has a number of over 40 digits, or outside binary64"
            raise Structure(f"line {node.sourceline}: {path} {says}", rule=str(error)) from None

    def attributes_of_primitive(
        self, node: Any, key: str, value: str, beside: dict[str, Any], path: str
    ) -> None:
        if key == "id":
            beside["id"] = value
        elif key not in _SCHEMA:
            shown = key if _NAME.fullmatch(key) else "(name)"
            self.add(node, path, "attribute", f"has no attribute {shown}")

    def xhtml(self, node: Any, path: str) -> str:
        for line, says in unsafe(node):
            if len(self.found) < MAX_ISSUES:
                self.found.append(Issue("invalid", f"line {line}: {path} {says}", path, "xhtml"))
        return canonical(node)

    def inner(self, node: Any, path: str, depth: int) -> Any:
        """The one resource that an element such as `contained` holds."""
        self.attributes(node, {}, {}, path)
        self.text(node, node.text, path)
        for child in node:
            self.text(child, child.tail, path)
        if len(node) != 1 or not node[0].tag.startswith(_FHIR):
            self.add(node, path, "resource", f"must hold one resource in {FHIR_NAMESPACE}")
            return {}
        return self.resource(node[0], path, depth + 2)


def _value(type: str, text: str) -> Any:
    """The JSON value of an attribute; the text itself where it is none of the type.

    Raises ValueError for a number that no JSON of ours may hold.
    """
    kind = PRIMITIVES[type].json
    if kind == "boolean":
        return _BOOLEANS.get(text.strip(_BLANKS), text)
    if kind not in ("integer", "decimal"):
        return text
    plain = text.strip(_BLANKS)
    if _INTEGER.fullmatch(plain) and plain != "-0":
        number(plain)
        return int(plain)
    return number(plain) if _DECIMAL.fullmatch(plain) else text


def _count(made: Mapping[str, Any], name: str) -> int:
    return max(len(made.get(name, ())), len(made.get(f"_{name}", ())))


def _append(made: dict[str, Any], name: str, value: Any, place: int) -> None:
    """Adds to an array that appears with its first value; nulls stand for what was before."""
    if value is None and name not in made:
        return
    made.setdefault(name, [None] * place).append(value)


def _level(made: dict[str, Any], name: str, length: int) -> None:
    """An element with neither value nor extension counts too; the law says what it lacks."""
    if _count(made, name) < length:
        made.setdefault(name, [None] * (length - 1)).append(None)
