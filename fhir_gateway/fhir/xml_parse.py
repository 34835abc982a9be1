"""The one parser of XML in the code base: UTF-8, no DTD, no entities, no network, limits.

Whoever reads XML, from a door or of our own, goes through `parse_xml`; tests/test_house.py lets no
other module import a parser (docs/adr/0040). What is refused here was not understood at all, so it
is a Structure (400) or TooLong (413); the sentence names line and column and never quotes what was
sent.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, NoReturn

from fhir_gateway.errors import Structure, TooLong

#: Tags and attributes of one document. A tree takes some 150 bytes for each.
MAX_NODES = 1_000_000
#: Attributes of one tag, declarations of namespaces among them. Each is looked up among the others.
MAX_ATTRIBUTES = 100

_BOM = b"\xef\xbb\xbf"
_OTHER_UNICODE = (b"\xff\xfe", b"\xfe\xff", b"\x00<", b"<\x00", b"\x00\x00")
_DECLARED = re.compile(rb"""<\?xml\b[^>]{0,200}?\bencoding\s*=\s*["']([A-Za-z0-9._\-]{1,40})["']""")
_UTF8 = frozenset({b"utf-8", b"utf8", b"us-ascii", b"ascii"})
_BEFORE_THE_ROOT = re.compile(rb"(?:\s+|<\?(?s:.)*?\?>|<!--(?s:.)*?-->)*+")

_STYLESHEET = re.compile(rb"<\?xml-stylesheet\b", re.IGNORECASE)
#: A tag with more attributes than it may have. Possessive: as long as the body, and no longer.
_CROWDED = re.compile(
    rb"""<[^\s<>/="'!?]++(?:\s*+[^\s<>/="']++\s*+=\s*+(?:"[^"]*+"|'[^']*+')){%d}"""
    % (MAX_ATTRIBUTES + 1)
)

#: What is wrong, by libxml2's number of the error; anything else is not well-formed.
_FAULTS = {
    "ERR_DOCUMENT_EMPTY": "there is no XML element",
    "ERR_DOCUMENT_END": "the document goes on after its root element",
    "ERR_TAG_NAME_MISMATCH": "an end tag does not match its start tag",
    "ERR_TAG_NOT_FINISHED": "the document ends inside an element",
    "ERR_GT_REQUIRED": "the document ends inside a tag",
    "ERR_UNDECLARED_ENTITY": "XML has no such entity; write the character itself",
    "ERR_ATTRIBUTE_REDEFINED": "an attribute stands twice in one tag",
    "ERR_ATTRIBUTE_NOT_STARTED": "an attribute needs a value in quotes",
    "ERR_LT_IN_ATTRIBUTE": "a value holds <; write &lt;",
    "ERR_INVALID_CHAR": "a character that XML does not allow",
    "ERR_INVALID_ENCODING": "bytes that are not UTF-8",
    "ERR_RESERVED_XML_NAME": "the XML declaration is not the first thing",
    "NS_ERR_UNDEFINED_NAMESPACE": "a prefix has no namespace",
}


def parse_xml(body: bytes) -> Any:
    """The root element of a document, without its comments and processing instructions.

    Raises Structure for what is not clean XML in UTF-8 or has a DTD or a stylesheet, TooLong for
    what is too large or too deep.
    """
    from lxml import etree  # loaded when XML first comes: it takes time and memory  # noqa: PLC0415

    text = body.removeprefix(_BOM)
    _check_encoding(text)
    _check_prolog(text)
    _check_size(text)
    try:
        root = etree.fromstring(text, _parser())
    except etree.XMLSyntaxError as error:
        _refuse(error, etree)
    if root.getroottree().docinfo.internalDTD is not None:
        raise Structure("A document type (DTD) is not taken; send the element alone", rule="dtd")
    return root


def xml_bytes(node: Any) -> bytes:
    """An element of a parsed document as a document of its own, with the namespaces it needs."""
    from lxml import etree  # noqa: PLC0415  loaded when XML first comes

    return bytes(etree.tostring(node, encoding="UTF-8", xml_declaration=True, with_tail=False))


def _parser() -> Any:
    """A parser for one document: one may not be used by two threads."""
    from lxml import etree  # noqa: PLC0415  loaded when XML first comes

    return etree.XMLParser(
        encoding="utf-8",
        resolve_entities=False,
        load_dtd=False,
        dtd_validation=False,
        attribute_defaults=False,
        no_network=True,
        huge_tree=False,
        recover=False,
        remove_comments=True,
        remove_pis=True,
        strip_cdata=True,
    )


def _check_prolog(text: bytes) -> None:
    start = _start(text)
    if text[start : start + 9].upper() == b"<!DOCTYPE":
        raise Structure("A document type (DTD) is not taken; send the element alone", rule="dtd")
    if _STYLESHEET.search(text, 0, start):
        raise Structure("A stylesheet is not taken; send the element alone", rule="stylesheet")


def _check_size(text: bytes) -> None:
    attributes = text.count(b"=")
    if text.count(b"<") + attributes > MAX_NODES:
        raise TooLong(f"An XML body may have {MAX_NODES} tags and attributes", rule="xml-size")
    if attributes > MAX_ATTRIBUTES and is_crowded(text):
        raise TooLong(f"A tag may have {MAX_ATTRIBUTES} attributes", rule="xml-size")


def is_crowded(text: bytes) -> bool:
    """Whether some tag has more attributes than it may have."""
    return _CROWDED.search(text) is not None


def _start(text: bytes) -> int:
    """Where the declaration, comments and instructions before the root end."""
    found = _BEFORE_THE_ROOT.match(text)
    return found.end() if found else 0


def _check_encoding(text: bytes) -> None:
    if text.startswith(_OTHER_UNICODE):
        raise Structure("The body is UTF-16 or UTF-32; send UTF-8", rule="encoding")
    declared = _DECLARED.match(text)
    if declared and declared[1].lower() not in _UTF8:
        name = declared[1].decode("ascii")
        raise Structure(
            f"The XML declaration says {name}; send UTF-8 and declare it", rule="encoding"
        )


def _refuse(error: Any, etree: Any) -> NoReturn:
    line, column = error.position
    name = _names(etree.ErrorTypes).get(error.code, "")
    if name == "ERR_RESOURCE_LIMIT":
        raise TooLong(
            f"line {line}: the XML is nested over 256 levels, or has a value over 10 MB",
            rule="xml-size",
        ) from None
    says = _FAULTS.get(name, "the XML is not well-formed")
    rule = "encoding" if name == "ERR_INVALID_ENCODING" else "xml"
    raise Structure(f"line {line}, column {column}: {says}", rule=rule) from None


@lru_cache(maxsize=1)
def _names(types: Any) -> dict[int, str]:
    return {types.__dict__[name]: name for name in types.__dict__ if "ERR_" in name}
