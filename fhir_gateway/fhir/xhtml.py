"""Narrative in one canonical form, and what makes it unsafe (hl7.org/fhir/R4/narrative.html).

JSON carries the <div> as text, XML as an element. Both ways give the same text: UTF-8 without
entities but those of XML, attributes in double quotes, no comments, `<br/>` but `<td></td>`, which
readers of HTML need.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from fhir_gateway.errors import Structure, TooLong
from fhir_gateway.fhir.narrative import TAGS, plain, sanitised
from fhir_gateway.fhir.primitives import HARMLESS
from fhir_gateway.fhir.xml_parse import parse_xml
from fhir_gateway.fhir.xml_plan import XHTML_NAMESPACE

_XML = "{http://www.w3.org/XML/1998/namespace}"
_XHTML = f"{{{XHTML_NAMESPACE}}}"
_VOID = frozenset({"br", "hr", "img", "col"})
_PLAIN = f'<div xmlns="{XHTML_NAMESPACE}"'
#: An element without content that readers of HTML would leave open.
_EMPTY = re.compile(r"<(?!(?:br|hr|img|col)[ /])([A-Za-z0-9]+)((?: [^<>]*?)?)/>")
#: The elements that the rule of JSON allows, with their namespace.
_ALLOWED = frozenset(f"{_XHTML}{name}" for name in TAGS)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.\-]{0,63}")
_ENTITY = re.compile(r"&([A-Za-z][A-Za-z0-9]{0,40};)")
_OF_XML = frozenset({"amp;", "lt;", "gt;", "quot;", "apos;"})
#: What no XML document can hold, whatever the spelling.
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_ESCAPED = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "\r": "&#13;"}
_IN_ATTRIBUTE = {**_ESCAPED, '"': "&quot;", "\t": "&#9;", "\n": "&#10;"}
_TEXT_TABLE, _ATTRIBUTE_TABLE = str.maketrans(_ESCAPED), str.maketrans(_IN_ATTRIBUTE)
_SPECIAL = re.compile('[&<>"\t\n\r]|[^\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]')

#: Schemes by which an address runs something, or hides a page.
_SCRIPT = re.compile(r"(?:javascript|vbscript|livescript|mocha|data(?!:image/)):")
#: Styles that fetch or run something; pictures that they carry themselves are fine.
_STYLE = re.compile(r"url\((?![\"']?(?:data:image/|#))|@import|expression\(|behavior:|binding:|\\")
_HARMLESS = frozenset(HARMLESS)
_BLANKS = re.compile(r"[\s\x00-\x20]+")


def attribute(text: str) -> str:
    """A text as it stands between double quotes; what XML cannot hold becomes U+FFFD."""
    if _SPECIAL.search(text) is None:
        return text
    return _NOT_XML.sub("\ufffd", text).translate(_ATTRIBUTE_TABLE)


def _content(text: str | None) -> str:
    return _NOT_XML.sub("\ufffd", text).translate(_TEXT_TABLE) if text else ""


def canonical(div: Any) -> str:
    """The text of an element and all it holds, each element as XHTML whatever its namespace."""
    from lxml import etree  # noqa: PLC0415  loaded when XML first comes

    text = str(etree.tostring(div, encoding="unicode", with_tail=False))
    if text.startswith(_PLAIN) and text.count("xmlns") == 1:
        return _EMPTY.sub(r"<\1\2></\1>", text)
    return _rewritten(div, etree)


def _rewritten(div: Any, etree: Any) -> str:
    """The same where namespaces are spelled in other ways."""
    parts: list[str] = []
    for event, node in etree.iterwalk(div, events=("start", "end")):
        name = _local(node)
        is_void = name in _VOID and not len(node) and not node.text
        if event == "start":
            space = f' xmlns="{XHTML_NAMESPACE}"' if node is div else ""
            parts.append(f"<{name}{space}{_attributes(node)}{'/' if is_void else ''}>")
            parts.append(_content(node.text))
        else:
            parts.append("" if is_void else f"</{name}>")
            parts.append(_content(node.tail) if node is not div else "")
    return "".join(parts)


def _local(node: Any) -> str:
    return str(node.tag.rpartition("}")[2])


def _attributes(node: Any) -> str:
    shown = ""
    for key, value in node.attrib.items():
        name = f"xml:{key.removeprefix(_XML)}" if key.startswith(_XML) else key
        if _NAME.fullmatch(name.removeprefix("xml:")):
            shown += f' {name}="{attribute(value)}"'
    return shown


def canonical_text(text: str) -> str:
    """The canonical form of a narrative that JSON carries, without what runs or fetches something.

    The gateway takes names of HTML's entities and end tags left out, as JSON's own rule does; both
    are read as a browser would. What no reader of XML can hold goes out as its words.
    """
    whole = _NOT_XML.sub("\ufffd", _ENTITY.sub(_character, text)).strip()
    try:
        div = parse_xml(whole.encode())
        if not any(True for _ in unsafe(div)):
            return canonical(div)
    except (Structure, TooLong):
        pass  # HTML that is no XML, or too much of it
    try:
        return canonical(parse_xml(sanitised(whole).encode()))
    except (Structure, TooLong):
        return f"{_PLAIN}>{plain(whole)}</div>"


def _character(match: re.Match[str]) -> str:
    from html.entities import html5  # noqa: PLC0415  two thousand names that are seldom asked for

    return match[0] if match[1] in _OF_XML else html5.get(match[1], match[0])


def unsafe(div: Any) -> Iterator[tuple[int, str]]:
    """(line, what is wrong) for each thing that a narrative may not hold (txt-1)."""
    for node in div.iter():
        if node.tag not in _ALLOWED:
            yield node.sourceline, _element_fault(node)
        for key, value in node.attrib.items():
            fault = _attribute_fault(key, value)
            if fault:
                yield node.sourceline, fault


def _element_fault(node: Any) -> str:
    if not node.tag.startswith(_XHTML):
        return f"holds an element outside {XHTML_NAMESPACE}"
    name = _local(node)
    return f"must not hold the element {name if _NAME.fullmatch(name) else '(name)'}"


def _attribute_fault(key: str, value: str) -> str:
    if key in _HARMLESS:
        return ""
    if key.startswith("{") and not key.startswith(_XML):
        return "holds an attribute of another namespace"
    packed = _BLANKS.sub("", value).lower()
    if key.lower().startswith("on"):
        return "must not hold an event handler"
    if _SCRIPT.match(packed):
        return "must not lead to a script"
    if key.lower() == "style" and _STYLE.search(packed):
        return "must not have a style that fetches or runs something"
    return ""
