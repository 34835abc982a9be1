"""history of one resource (hl7.org/fhir/R4/http.html#history)."""

from __future__ import annotations

from typing import Literal

from fhir_gateway.context import Gateway
from fhir_gateway.errors import NotFound
from fhir_gateway.fhir import bundle
from fhir_gateway.fhir.wire import instant
from fhir_gateway.interactions.audit import audited, disclose_read
from fhir_gateway.interactions.types import check_type
from fhir_gateway.security.actor import Actor
from fhir_gateway.store.store import Stored


@audited("history-instance")
async def history(gateway: Gateway, actor: Actor, *, type: str, id: str, base: str) -> bytes:
    """A Bundle of all versions, newest first, deletions too. Raises NotFound."""
    check_type(type, "history-instance")
    async with gateway.store.snapshot(actor.access) as reader:
        versions = await reader.history(type, id)
    if not versions:
        raise NotFound("There is no such resource", rule="unknown-id")
    shown = next((stored for stored in versions if not stored.deleted), versions[0])
    await disclose_read(gateway, actor, shown, interaction="history-instance")
    return bundle.history(
        [_change(stored, base) for stored in versions],
        links=[("self", f"{base}/{type}/{id}/_history")],
        total=len(versions),
    )


def _change(stored: Stored, base: str) -> bundle.Change:
    name = f"{stored.type}/{stored.id}"
    method: Literal["POST", "PUT", "DELETE"] = "POST" if stored.version == 1 else "PUT"
    return bundle.Change(
        full_url=f"{base}/{name}",
        resource=None if stored.deleted else stored.whole(),
        method="DELETE" if stored.deleted else method,
        url=name if stored.deleted or stored.version > 1 else stored.type,
        status="204 No Content" if stored.deleted else _STATUS[method],
        etag=f'W/"{stored.version}"',
        last_modified=instant(stored.updated),
    )


_STATUS = {"POST": "201 Created", "PUT": "200 OK"}
