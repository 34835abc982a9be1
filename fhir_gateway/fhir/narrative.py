"""A narrative as it may be shown in a page: what FHIR allows, and nothing that runs or fetches.

The door refuses a narrative that runs something (primitives, `xhtml.unsafe`; txt-1), and what was
stored stays as it was sent. This is for what is shown all the same: stored before a rule was made,
or so loose that two readers see two things. nh3 reads it as browsers do and writes what a list of
allowed elements and attributes leaves. hl7.org/fhir/R4/narrative.html, docs/adr/0040.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from fhir_gateway.fhir.primitives import XHTML_TAGS
from fhir_gateway.fhir.xml_parse import is_crowded

#: The elements of txt-1.
TAGS = frozenset((*XHTML_TAGS.replace("h[1-6]|", "").split("|"), *(f"h{n}" for n in range(1, 7))))
#: What stands in a narrative beside its text: layout, names, languages; addresses are checked.
_ATTRIBUTES = {
    "*": {"abbr", "align", "class", "dir", "id", "lang", "style", "title", "valign", "width"},
    "a": {"href", "name"},
    "blockquote": {"cite"},
    "col": {"span"},
    "colgroup": {"span"},
    "del": {"cite", "datetime"},
    "font": {"color", "face", "size"},
    "img": {"alt", "border", "height", "src"},
    "ins": {"cite", "datetime"},
    "li": {"value"},
    "ol": {"start", "type"},
    "q": {"cite"},
    "table": {"bgcolor", "border", "cellpadding", "cellspacing", "frame", "rules", "summary"},
    "td": {"axis", "bgcolor", "colspan", "headers", "height", "nowrap", "rowspan", "scope"},
    "th": {"axis", "bgcolor", "colspan", "headers", "height", "nowrap", "rowspan", "scope"},
    "tr": {"bgcolor"},
    "ul": {"type"},
}
#: Where an address may lead. `data` is for pictures alone.
_SCHEMES = {"http", "https", "mailto", "tel", "urn", "data"}
_ADDRESSES = frozenset({"cite", "href", "src"})
_BLANKS = re.compile(r"[\s\x00-\x20]+")
_PICTURE = re.compile(r"data:image/(?:png|jpeg|gif|bmp|webp)[;,]", re.IGNORECASE)
#: Declarations of layout; functions other than colours, escapes and addresses are none.
_STYLE = re.compile(
    r"(?:\s*+[a-z\-]{1,40}\s*+:(?:[\w\s.,%#!'\"\-]|(?:rgb|rgba|hsl|hsla)\([0-9\s.,%/]{1,40}\))*+;?)*+",
    re.IGNORECASE,
)
#: Layout that could lay itself over the page around it.
_OVERLAY = re.compile(r"position|z-index|behavior|binding|expression", re.IGNORECASE)
#: Elements whose content is no text for readers.
_SILENT = {"script", "style", "template", "noscript", "iframe", "object", "svg", "math", "title"}
_VOID = re.compile(r"""<(br|hr|img|col)((?:\s+[\w:\-]+="[^"]*")*)\s*>""")
#: More than any narrative has; the nesting of HTML costs more than its length.
_MOST_DEEP = 200


def sanitised(text: str) -> str:
    """A narrative as one <div> of HTML that runs and fetches nothing, whatever was in it.

    Void elements are closed, so that it is XHTML too where its nesting is a reader's.
    """
    body = text.encode("utf-8", "surrogatepass")
    if is_crowded(body) or _depth(text) > _MOST_DEEP:
        return f"<div>{plain(text)}</div>"
    clean = _cleaner().clean(text).strip()
    if not clean.startswith("<div") or _after_first_div(clean):
        clean = f"<div>{clean}</div>"
    return _VOID.sub(r"<\1\2/>", clean).replace("&nbsp;", "\u00a0")


def plain(text: str) -> str:
    """The words of a narrative without any markup, as HTML shows them."""
    words = re.sub(
        r"<(script|style)\b.*?(?:</\1\s*>|\Z)", "", text, flags=re.DOTALL | re.IGNORECASE
    )
    words = re.sub(r"<[^>]*+(?:>|\Z)", " ", words)
    return words.replace("<", "&lt;").replace(">", "&gt;")


@lru_cache(maxsize=1)
def _cleaner() -> Any:
    import nh3  # noqa: PLC0415  loaded when a narrative first needs it

    return nh3.Cleaner(
        tags=set(TAGS),
        clean_content_tags=_SILENT,
        attributes=_ATTRIBUTES,
        attribute_filter=_allowed,
        url_schemes=_SCHEMES,
        link_rel=None,
        strip_comments=True,
    )


def _allowed(tag: str, name: str, value: str) -> str | None:
    """The value of an attribute, None for one that is left out."""
    if name in _ADDRESSES:
        packed = _BLANKS.sub("", value).lower()
        if packed.startswith("data:") and not (tag == "img" and _PICTURE.match(packed)):
            return None
    elif name == "style" and (_STYLE.fullmatch(value) is None or _OVERLAY.search(value)):
        return None
    return value


def _after_first_div(clean: str) -> bool:
    """Whether something stands behind the end of the first <div>."""
    depth = 0
    for match in re.finditer(r"<(/?)div\b[^>]*>", clean):
        depth += -1 if match[1] else 1
        if depth == 0:
            return match.end() < len(clean)
    return False


def _depth(text: str) -> int:
    """How deep start tags could nest: those of no void element that are not closed."""
    deepest = depth = 0
    for match in re.finditer(r"<(/?)([A-Za-z][A-Za-z0-9]*)", text):
        if match[1]:
            depth = max(0, depth - 1)
        elif match[2].lower() not in ("br", "hr", "img", "col"):
            depth += 1
            deepest = max(deepest, depth)
    return deepest
