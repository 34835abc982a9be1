"""read and vread (hl7.org/fhir/R4/http.html#read, #vread)."""

from __future__ import annotations

from fhir_gateway.context import Gateway
from fhir_gateway.errors import Deleted, NotFound
from fhir_gateway.interactions.audit import audited, disclose_read
from fhir_gateway.interactions.types import check_type
from fhir_gateway.security.actor import Actor
from fhir_gateway.store.store import Stored


@audited("read")
async def read(gateway: Gateway, actor: Actor, *, type: str, id: str) -> Stored:
    """The current version. Raises NotFound, Deleted."""
    check_type(type, "read")
    async with gateway.store.snapshot(actor.access) as reader:
        stored = await reader.read(type, id)
    return await _hand_out(gateway, actor, stored, interaction="read")


@audited("vread")
async def vread(gateway: Gateway, actor: Actor, *, type: str, id: str, version: str) -> Stored:
    """One version. Raises NotFound, Deleted when that version is a deletion."""
    check_type(type, "vread")
    number = int(version) if version.isascii() and version.isdigit() and len(version) < 10 else 0
    async with gateway.store.snapshot(actor.access) as reader:
        stored = await reader.vread(type, id, number) if number else None
    return await _hand_out(gateway, actor, stored, interaction="vread", version=number)


async def _hand_out(
    gateway: Gateway, actor: Actor, stored: Stored | None, *, interaction: str, version: int = 0
) -> Stored:
    if stored is None:
        raise NotFound("There is no such resource or version", rule="unknown-id")
    if stored.deleted:
        raise Deleted("This resource is deleted", rule="deleted")
    await disclose_read(gateway, actor, stored, interaction=interaction, version=version)
    return stored
