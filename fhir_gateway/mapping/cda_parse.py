"""A CDA document: bytes -> its tree and how its parts are found (CDA R2, ISO/HL7 27932:2009).

Parsed by the one parser of the code base, so without DTD, entities or network. Two habits are made
good before that, on a copy: the line that names a stylesheet, which nobody here follows, and GB
18030 where the XML declaration says so. What is kept and shown to others is what came.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from fhir_gateway.errors import GatewayError, Structure, TooLong, Unprocessable
from fhir_gateway.fhir.xml_parse import parse_xml

NAMESPACE = "urn:hl7-org:v3"
V3 = f"{{{NAMESPACE}}}"
_XSI_TYPE = "{http://www.w3.org/2001/XMLSchema-instance}type"

#: Entries, organizers and observations of one document.
MAX_STATEMENTS = 20_000

_BOM = b"\xef\xbb\xbf"
_PROLOG = re.compile(rb"(?:\s+|<\?(?s:.)*?\?>|<!--(?s:.)*?-->)*+")
_STYLESHEET = re.compile(rb"<\?xml-stylesheet\b(?s:.)*?\?>", re.IGNORECASE)
_DECLARATION = re.compile(
    rb"""(<\?xml\b[^>]{0,200}?\bencoding\s*=\s*["'])(gb18030|gbk|gb2312)(["'])""", re.IGNORECASE
)
_NOT_LINES = re.compile(rb"[^\n]")

Node = Any  # lxml's elements have no stubs; only their tree is used here


class Document(NamedTuple):
    """A document and the bytes it came as."""

    raw: bytes
    root: Node


def parse_document(raw: bytes) -> Document:
    """The document. Raises Structure or TooLong for what is no clean XML or no CDA document."""
    root = parse_xml(_readable(raw))
    if root.tag != f"{V3}ClinicalDocument":
        raise Structure(
            f"line {root.sourceline}: the root element must be ClinicalDocument in {NAMESPACE}",
            expression="ClinicalDocument",
            rule="cda-root",
        )
    count = sum(1 for _ in root.iter(f"{V3}observation", f"{V3}organizer", f"{V3}act"))
    if count > MAX_STATEMENTS:
        raise TooLong(f"A document may have {MAX_STATEMENTS} statements", rule="cda-size")
    return Document(raw, root)


def _readable(raw: bytes) -> bytes:
    """The bytes without a stylesheet, in UTF-8 where they are declared as GB 18030."""
    text = raw.removeprefix(_BOM)
    declared = _DECLARATION.match(text)
    if declared is not None:
        try:
            text = text.decode("gb18030").encode()
        except UnicodeDecodeError:
            raise Structure(
                "The XML declaration says GB 18030, and the bytes are not", rule="encoding"
            ) from None
        text = _DECLARATION.sub(rb"\1utf-8\3", text, count=1)
    found = _PROLOG.match(text)
    end = found.end() if found else 0
    if b"<?xml-stylesheet" in text[:end].lower():
        prolog = _STYLESHEET.sub(lambda one: _NOT_LINES.sub(b" ", one[0]), text[:end])
        text = prolog + text[end:]
    return text


# -- the tree --------------------------------------------------------------------------------------


def at(node: Node | None, *path: str) -> Node | None:
    """The first element at a path of local names; None when there is none."""
    for name in path:
        if node is None:
            return None
        node = next(node.iterchildren(V3 + name), None)  # find() is written in Python
    return node


def every(node: Node | None, *path: str) -> list[Node]:
    """All elements at a path: the first of each name but the last."""
    parent = at(node, *path[:-1])
    return [] if parent is None else list(parent.iterchildren(V3 + path[-1]))


def attribute(node: Node | None, name: str) -> str:
    """An attribute without outer blanks, "" when there is none."""
    return "" if node is None else " ".join((node.get(name) or "").split())


def text_of(node: Node | None) -> str:
    """All text of an element on one line."""
    return "" if node is None else " ".join("".join(node.itertext()).split())


def long_text(node: Node | None) -> str:
    """All text of an element with its lines, for texts that nobody may cut."""
    if node is None:
        return ""
    lines = ("".join(node.itertext())).splitlines()
    return "\n".join(line for one in lines if (line := " ".join(one.split())))


def type_of(node: Node | None) -> str:
    """xsi:type without its prefix, "" when there is none."""
    return "" if node is None else (node.get(_XSI_TYPE) or "").rpartition(":")[2].strip()


def local(node: Node) -> str:
    """The local name of an element."""
    return str(node.tag).rpartition("}")[2]


def is_null(node: Node | None) -> bool:
    """Whether an element is not there, or says that its value is not known."""
    return node is None or bool(node.get("nullFlavor"))


def path_of(node: Node) -> str:
    """The path of an element by local names, as a sender finds it."""
    names = [local(node), *(local(one) for one in node.iterancestors())]
    return "/".join(reversed(names[:12]))


def where(node: Node) -> str:
    """The line of an element and its name, for sentences."""
    return f"line {node.sourceline}, {local(node)}"


def fault(node: Node, sentence: str, rule: str) -> GatewayError:
    """What is wrong with an element."""
    return Unprocessable(f"{where(node)}: {sentence}", expression=path_of(node), rule=rule)


def is_stated(node: Node) -> bool:
    """Whether an act, and each that it stands in, is said to have happened: in the mood of an
    event, not negated, not null (CDA R2 3.1.1.5; HL7 RIM moodCode, negationInd, nullFlavor)."""
    return _unstated(node) is None and _nullified(node) is None


def check_stated(node: Node) -> None:
    """Raises Unprocessable for an act that is negated, ordered, planned or hoped for: read as a
    result it would say the contrary; and for one that has a value and is null, which says both."""
    found = _unstated(node)
    if found is not None:
        raise fault(found, "this says what is not so, or not yet (negationInd true, or a moodCode "
                    "other than EVN); a result is what was found", "cda-not-stated")  # fmt: skip
    null = _nullified(node)
    if null is not None and not all(is_null(value) for value in every(node, "value")):
        raise fault(null, "its nullFlavor says that nothing is known here, and there is a value; "
                    "send one or the other", "cda-not-stated")  # fmt: skip


def _unstated(node: Node) -> Node | None:
    for one in (node, *node.iterancestors()):
        if local(one) == "section":
            return None
        if one.get("negationInd") in ("true", "1") or one.get("moodCode", "EVN") != "EVN":
            return one
    return None


def _nullified(node: Node) -> Node | None:
    """The act itself, or what it stands in, that is null as a whole."""
    for one in (node, *node.iterancestors()):
        if local(one) == "section":
            return None
        if one.get("nullFlavor"):
            return one
    return None


def sections(root: Node) -> Iterator[Node]:
    """All sections of the body, in their order, also those inside others."""
    body = at(root, "component", "structuredBody")
    if body is not None:
        yield from body.iter(f"{V3}section")
