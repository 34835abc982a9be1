"""read and vread (hl7.org/fhir/R4/http.html#read, #vread), whole or cut to a summary."""

from __future__ import annotations

from collections.abc import Sequence

from fhir_gateway.context import Gateway
from fhir_gateway.errors import Deleted, NotFound
from fhir_gateway.interactions.audit import audited, disclose_read
from fhir_gateway.interactions.shape import WHOLE, Shape, cut, read_shape
from fhir_gateway.interactions.types import check_type
from fhir_gateway.security.actor import Actor
from fhir_gateway.store.store import Stored


@audited("read")
async def read(
    gateway: Gateway,
    actor: Actor,
    *,
    type: str,
    id: str,
    pairs: Sequence[tuple[str, str]] = (),
) -> Stored:
    """The current version, cut to what `pairs` (_summary or _elements) ask for.

    Raises NotFound, Deleted, Invalid for other parameters.
    """
    check_type(type, "read")
    wanted = read_shape(type, pairs) if pairs else WHOLE
    async with gateway.store.snapshot(actor.access) as reader:
        stored = await reader.read(type, id)
    return await _hand_out(gateway, actor, stored, wanted, interaction="read")


@audited("vread")
async def vread(
    gateway: Gateway,
    actor: Actor,
    *,
    type: str,
    id: str,
    version: str,
    pairs: Sequence[tuple[str, str]] = (),
) -> Stored:
    """One version, cut as `read` does. Raises the same, Deleted when that version is a deletion."""
    check_type(type, "vread")
    wanted = read_shape(type, pairs) if pairs else WHOLE
    number = int(version) if version.isascii() and version.isdigit() and len(version) < 10 else 0
    async with gateway.store.snapshot(actor.access) as reader:
        stored = await reader.vread(type, id, number) if number else None
    return await _hand_out(gateway, actor, stored, wanted, interaction="vread", version=number)


async def _hand_out(
    gateway: Gateway,
    actor: Actor,
    stored: Stored | None,
    wanted: Shape,
    *,
    interaction: str,
    version: int = 0,
) -> Stored:
    if stored is None:
        raise NotFound("There is no such resource or version", rule="unknown-id")
    if stored.deleted:
        raise Deleted("This resource is deleted", rule="deleted")
    await disclose_read(gateway, actor, stored, interaction=interaction, version=version)
    return cut(stored, wanted)
