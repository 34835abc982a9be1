"""$render: a stored CDA document as a safe page (DocumentReference/[id]/$render).

Whoever may see the DocumentReference may read the document: its Binary is read as a part of it, and
the act is audited as a reading of the DocumentReference before the first byte goes out.
"""

from __future__ import annotations

import asyncio
from base64 import b64decode
from typing import NamedTuple

from fhir_gateway.context import Gateway
from fhir_gateway.errors import Deleted, NotFound, NotSupported
from fhir_gateway.fhir.wire import parse
from fhir_gateway.interactions.audit import disclose_read
from fhir_gateway.interactions.operation_definitions import Call, Definition
from fhir_gateway.interactions.operation_definitions import Parameter as P
from fhir_gateway.mapping.cda import read_cda
from fhir_gateway.mapping.cda_html import POLICY, page
from fhir_gateway.mapping.cda_parse import parse_document
from fhir_gateway.security.actor import SYSTEM_ACCESS, Actor
from fhir_gateway.store.store import Stored

RENDER = Definition(
    code="render",
    title="Show a document",
    says=(
        "A stored CDA document as an HTML page that holds no script and fetches nothing: its "
        "header, its sections and, where a section has no text, its entries. The answer is "
        "text/html whatever is asked for."
    ),
    types=("DocumentReference",),
    levels=("instance",),
    gives=(P("return", "Binary", "The page, by itself and not as a resource", 1),),
)


class Page(NamedTuple):
    """A page and the policy under which it is shown."""

    html: bytes
    policy: str


async def render_document(gateway: Gateway, actor: Actor, call: Call) -> Page:
    """The page of a document.

    Raises NotFound, Deleted, NotSupported for a document that is not stored here or no CDA.
    """
    async with gateway.store.snapshot(actor.access) as reader:
        stored = await reader.read("DocumentReference", call.id)
    if stored is None:
        raise NotFound("There is no such resource or version", rule="unknown-id")
    if stored.deleted:
        raise Deleted("This resource is deleted", rule="deleted")
    raw = await _document(gateway, stored)
    status = parse(stored.whole()).get("status")
    await disclose_read(gateway, actor, stored, interaction="operation", version=stored.version)
    note = _NOTES.get(str(status), "")
    html = await asyncio.to_thread(_page, raw, gateway.settings.mappings, note)
    return Page(html, POLICY)


_NOTES = {
    "superseded": "这是旧版本，已被新版本替代。This version was replaced by a newer one.",
    "entered-in-error": "此文档已作废。This document was entered in error.",
}


def _page(raw: bytes, mappings: str, note: str) -> bytes:
    document = parse_document(raw)
    read = read_cda(document, mappings=mappings)
    return page(document, read.header, read.tables, note=note).encode("utf-8", "replace")


async def _document(gateway: Gateway, stored: Stored) -> bytes:
    """The bytes of the attachment: of its Binary, or of its own data. Raises NotSupported."""
    for content in parse(stored.whole()).get("content", ()):
        attachment = content.get("attachment", {})
        name = str(attachment.get("url", ""))
        if "data" in attachment:
            return b64decode(attachment["data"])
        if not name.startswith("Binary/"):
            continue
        async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
            binary = await reader.read(*name.split("/")[:2])
        if binary is not None and not binary.deleted and _is_part(binary, stored):
            return b64decode(parse(binary.whole()).get("data", ""))
    raise NotSupported(
        "The document itself is not stored here; $render shows CDA documents that came by /cda",
        expression="DocumentReference.content",
        rule="render",
    )


def _is_part(binary: Stored, document: Stored) -> bool:
    """Whether a Binary is of the same person and institution: a document of somebody else that
    names it opens nothing."""
    return binary.home == document.home and binary.owner == document.owner
