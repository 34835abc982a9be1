"""Links in a resource that are no References: uris, and href and src in a narrative.

In a transaction they follow the entry that they name (hl7.org/fhir/R4/http.html#trules): elements
of the types uri, url, oid and uuid, and links of the narrative. Canonical urls name definitions and
stay. What names no entry stays as well.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from html import escape, unescape
from typing import Any, NamedTuple

from fhir_gateway.fhir.definitions import definitions
from fhir_gateway.fhir.primitives import PRIMITIVES
from fhir_gateway.interactions.references import Slot

_LINKS = frozenset({"uri", "url", "oid", "uuid"})
_IN_NARRATIVE = re.compile(r"""(\s(?:href|src)\s*=\s*)("[^"]*"|'[^']*')""")


class Link(NamedTuple):
    """One text that is a link or holds some: where it stands, and what it said as received."""

    holder: Any
    key: Any
    text: str
    narrative: bool


def links(resource: dict[str, Any]) -> list[Link]:
    """Every link of a resource, contained resources too."""
    return list(_links(resource, resource["resourceType"]))


def _links(value: dict[str, Any], type: str) -> Iterator[Link]:
    members = definitions().types[type].members
    for name, child in value.items():
        known = members.get(name)
        if known is not None:
            yield from _of(value, name, child, known[1])
        elif name[:1] == "_":
            yield from _of(value, name, child, "Element")


def _of(holder: Any, key: Any, value: Any, type: str) -> Iterator[Link]:
    if isinstance(value, list):
        for place, one in enumerate(value):
            yield from _of(value, place, one, type)
    elif isinstance(value, dict):
        yield from _links(value, value["resourceType"] if type == "Resource" else type)
    elif isinstance(value, str) and type in PRIMITIVES and (type in _LINKS or type == "xhtml"):
        yield Link(holder, key, value, type == "xhtml")


def relink(found: Iterable[Link], name_of: Callable[[str], str | None]) -> None:
    """Rewrites the links that `name_of` knows; each starts from what was received."""

    def follow(match: re.Match[str]) -> str:
        quote, link = match[2][0], unescape(match[2][1:-1])
        name = name_of(link)
        return match[0] if name is None else f"{match[1]}{quote}{escape(name)}{quote}"

    for link in found:
        if link.narrative:
            link.holder[link.key] = _IN_NARRATIVE.sub(follow, link.text)
        else:
            link.holder[link.key] = name_of(link.text) or link.text


class Prefixes:
    """How the full URLs of a Bundle begin, to tell at a glance whether a resource has more links
    to its entries than its References. Hot: asked for every resource of a transaction."""

    def __init__(self, names: Mapping[str, str]) -> None:
        starts: set[str] = set()
        for url, name in names.items():
            scheme, _, rest = url.partition(":")
            if scheme == "urn":
                starts.add(f"urn:{rest.partition(':')[0]}:")
            else:
                type = name.partition("/")[0]
                starts |= {url[: url.rfind(f"/{type}/") + 1] or url, f"{type}/"}
        self._starts = [(start, start.encode()) for start in sorted(starts)]

    def in_more_than(self, slots: Iterable[Slot], raw: bytes) -> bool:
        """False when the JSON of a resource names entries in its References alone."""
        if b"\\" in raw:
            return True
        for start, text in self._starts:
            count = raw.count(text)
            if count and count != sum(slot.text.count(start) for slot in slots):
                return True
        return False
