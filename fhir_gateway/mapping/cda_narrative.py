"""The narrative of CDA sections as HTML: our own words for its elements, nothing taken over.

CDA R2 4.3.5. Every text is escaped, every element is one of ours, and no attribute of the document
reaches the page but spans of cells and addresses of links that are http or https; then the
sanitiser of narratives reads it again. hl7.org/fhir/R4/narrative.html, docs/hardening.md
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from html import escape

from fhir_gateway.fhir.narrative import sanitised
from fhir_gateway.mapping.cda_parse import Node, at, attribute, local

#: CDA's element -> HTML's; "" shows the text alone.
_ELEMENTS = {
    "paragraph": "p", "content": "span", "list": "ul", "item": "li", "table": "table",
    "thead": "thead", "tbody": "tbody", "tfoot": "tfoot", "tr": "tr", "th": "th", "td": "td",
    "caption": "caption", "sub": "sub", "sup": "sup", "footnote": "sup", "linkHtml": "a",
}  # fmt: skip
_STYLES = {"bold": "b", "italics": "i", "underline": "em", "emphasis": "em"}
_SPAN = re.compile(r"[1-9][0-9]?")
_PICTURES = frozenset({"image/png", "image/jpeg", "image/gif"})
_BASE64 = re.compile(r"[A-Za-z0-9+/=\s]+")

#: Elements of one narrative; beyond it the words alone are shown.
_MOST = 50_000


def narrative_html(text: Node, pictures: Mapping[str, str]) -> str:
    """The narrative of a section as a <div>. `pictures` are data: addresses by the ID of their
    observationMedia."""
    if sum(1 for _ in text.iter()) > _MOST:
        return f"<div><p>{escape(' '.join(''.join(text.itertext()).split()))}</p></div>"
    parts: list[str] = [escape(text.text or "")]
    for child in text:
        _element(child, pictures, parts)
    return sanitised(f"<div>{''.join(parts)}</div>")


def _element(node: Node, pictures: Mapping[str, str], parts: list[str]) -> None:
    """One element with all that is in it, and what follows it. The parser bounds the depth."""
    name = local(node)
    if name == "br":
        parts.append("<br/>")
    elif name == "renderMultiMedia":
        parts += [_picture(one, pictures) for one in attribute(node, "referencedObject").split()]
    elif attribute(node, "revised") != "delete":
        tag = _tag(node, name)
        parts.append(f"<{tag}{_attributes(node, name)}>" if tag else "")
        parts.append(escape(node.text or ""))
        for child in node:
            _element(child, pictures, parts)
        parts.append(f"</{tag}>" if tag else "")
    parts.append(escape(node.tail or ""))


def _tag(node: Node, name: str) -> str:
    if name == "list" and node.get("listType") == "ordered":
        return "ol"
    styles = (node.get("styleCode") or "").lower().split() if name == "content" else []
    styled = next((_STYLES[one] for one in styles if one in _STYLES), "")
    if name == "caption" and local(node.getparent()) != "table":
        return "b"
    return styled or _ELEMENTS.get(name, "")


def _attributes(node: Node, name: str) -> str:
    if name in ("td", "th"):
        spans = ((one, node.get(one) or "") for one in ("colspan", "rowspan"))
        return "".join(f' {one}="{value}"' for one, value in spans if _SPAN.fullmatch(value))
    if name == "linkHtml":
        address = (node.get("href") or "").strip()
        if address.lower().startswith(("http://", "https://")):
            return f' href="{escape(address)}"'
    return ""


def _picture(id: str, pictures: Mapping[str, str]) -> str:
    address = pictures.get(id)
    return f'<img src="{address}" alt="图 {escape(id)}"/>' if address else f"[{escape(id)}]"


def pictures_of(root: Node) -> dict[str, str]:
    """Pictures that stand in the document itself, as data: addresses by their ID."""
    found: dict[str, str] = {}
    for media in root.iter("{urn:hl7-org:v3}observationMedia"):
        value = at(media, "value")
        if value is None or value.get("representation") != "B64":
            continue
        kind, text = attribute(value, "mediaType"), value.text or ""
        if kind in _PICTURES and _BASE64.fullmatch(text):
            found[media.get("ID") or ""] = f"data:{kind};base64,{''.join(text.split())}"
    return found
