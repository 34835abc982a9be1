"""Validation of what comes in: one resource, or the envelope of a Bundle.

Accepting is fast (generated Structs, fhir.structs), refusing is thorough (the walker, fhir.walk):
all issues at once, each with the path of its element. Structure and a few invariants; profiles,
other invariants and extensible bindings are not judged here.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

import msgspec

from fhir_gateway.errors import Unprocessable
from fhir_gateway.fhir.definitions import definitions
from fhir_gateway.fhir.envelope import BundleEntry, BundleEnvelope, read_bundle
from fhir_gateway.fhir.primitives import PRIMITIVES
from fhir_gateway.fhir.structs import decoder, has_spaces
from fhir_gateway.fhir.walk import is_reversed, issues
from fhir_gateway.fhir.wire import (
    is_read_as_rendered,
    is_too_deep,
    parse_minified,
    render,
    without_bom,
)

__all__ = [
    "BundleEntry", "BundleEnvelope", "issues", "made_resource", "read_bundle", "read_resource",
]  # fmt: skip

_RESOURCE_TYPE = re.compile(rb'"resourceType"\s*:\s*"([A-Za-z]{1,40})"')

#: An empty object is unsound and no Struct sees it. It may stand inside a text; the walker tells.
_EMPTY = b"{}"


def read_resource(raw: bytes, *, type: str | None = None) -> dict[str, Any]:
    """The resource of a request body, sound by the definitions of R4.

    `type` is the type that the address names. Raises Structure when the body is not clean JSON,
    else Unprocessable with every issue.
    """
    body = without_bom(raw)
    accepted = _accepted(body, type)
    resource, minified = parse_minified(body, typed=accepted)
    typed = "resourceType" in resource  # msgspec does not insist on the tag of a single Struct
    plain = _EMPTY not in minified and not has_spaces(minified)
    if accepted and typed and plain and not _has_reversed(resource, minified):
        return resource
    found = issues(resource, type=type)
    if found:
        raise Unprocessable(issues=tuple(found))
    return resource


def made_resource(resource: dict[str, Any], rendered: bytes, *, type: str) -> dict[str, Any]:
    """The same for a resource that the gateway made and rendered itself: what is sound is judged
    by its bytes and handed on, and not read from them.

    Its numbers must be those that reading gives (`wire.read_number`). Raises as `read_resource`.
    """
    if resource.get("resourceType") != type or type not in definitions().resource_type_set:
        return read_resource(rendered, type=type)
    optional, known = _optional(type), _known
    rest: dict[str, Any] = {}
    new: list[_Member] = []
    for name, value in resource.items():
        if name in optional:
            member = (type, name, render(value))
            if member in known:
                continue
            new.append(member)
        rest[name] = value
    if not _is_sound(resource, rest, rendered, type):
        return read_resource(rendered, type=type)
    if len(known) + len(new) > _MOST:
        known.clear()
    known.update([member for member in new if len(member[2]) <= _LONGEST])
    return resource


def _is_sound(resource: dict[str, Any], rest: dict[str, Any], rendered: bytes, type: str) -> bool:
    """Whether the members that are not known yet are accepted, and read as they were rendered."""
    body = rendered if len(rest) == len(resource) else render(rest)
    if is_too_deep(rendered) or _EMPTY in body or has_spaces(body):
        return False
    return (
        is_read_as_rendered(body)
        and _accepted(body, type)
        and not _has_reversed(resource, rendered)
    )


#: Type, name and bytes of a member.
_Member = tuple[str, str, bytes]

#: Members of resources that were sound. A Struct judges each member by itself, but for those that
#: must be there and the types of a choice, so without one of these the rest is judged alike.
_known: set[_Member] = set()
_MOST, _LONGEST = 20_000, 640


@lru_cache(maxsize=256)
def _optional(type: str) -> frozenset[str]:
    """The members of a resource that are objects, need not be there and are no choice."""
    members = definitions().types[type].members
    return frozenset(
        name
        for name, (element, kind) in members.items()
        if not element.low and not element.choice and kind not in PRIMITIVES
    )


def _has_reversed(resource: dict[str, Any], minified: bytes) -> bool:
    """True when a period, or what looks like one, ends before it begins: no Struct sees it."""
    if b'"start":' not in minified or b'"end":' not in minified:
        return False
    stack: list[Any] = [resource]
    while stack:
        value = stack.pop()
        if isinstance(value, dict):
            if "start" in value and is_reversed(value):
                return True
            stack += value.values()
        elif isinstance(value, list):
            stack += value
    return False


def _accepted(body: bytes, type: str | None) -> bool:
    """True when the Structs accept the body; False says nothing yet."""
    if type is None:
        match = _RESOURCE_TYPE.search(body)
        type = match[1].decode() if match else ""
    if type not in definitions().resource_type_set:
        return False
    try:
        decoder(type).decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True
