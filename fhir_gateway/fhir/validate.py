"""Validation of what comes in: one resource, or the envelope of a Bundle.

Accepting is fast (generated Structs, fhir.structs), refusing is thorough (the walker, fhir.walk):
all issues at once, each with the path of its element. Structure and a few invariants; profiles,
other invariants and extensible bindings are not judged here.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from fhir_gateway.errors import Unprocessable
from fhir_gateway.fhir.definitions import definitions
from fhir_gateway.fhir.envelope import BundleEntry, BundleEnvelope, read_bundle
from fhir_gateway.fhir.structs import decoder, has_spaces
from fhir_gateway.fhir.walk import is_reversed, issues
from fhir_gateway.fhir.wire import is_read_as_rendered, parse_minified, without_bom

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
    plain = _EMPTY not in rendered and not has_spaces(rendered)
    plain = plain and is_read_as_rendered(rendered) and resource.get("resourceType") == type
    if plain and _accepted(rendered, type) and not _has_reversed(resource, rendered):
        return resource
    return read_resource(rendered, type=type)


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
