"""What the commands on the register share: reading it, and storing changes in one commit."""

from __future__ import annotations

from collections.abc import Sequence

from fhir_gateway.context import Gateway
from fhir_gateway.errors import Conflict, PreconditionFailed
from fhir_gateway.fhir.envelope import BundleEntry
from fhir_gateway.fhir.wire import render
from fhir_gateway.interactions.evaluations import stored_evaluations
from fhir_gateway.interactions.transaction import transaction
from fhir_gateway.recognition.register_plan import Change, Held, held
from fhir_gateway.security.actor import GATEWAY
from fhir_gateway.store.store import Reader


async def register_of(reader: Reader) -> list[Held]:
    """All evaluations in the store."""
    return held(await stored_evaluations(reader))


async def store(gateway: Gateway, changes: Sequence[Change]) -> None:
    """Stores all changes in one commit, or none.

    Raises Conflict when an evaluation was changed by somebody else since it was read.
    """
    try:
        await transaction(gateway, GATEWAY, [_entry(one) for one in changes])
    except (PreconditionFailed, Conflict):
        raise Conflict(
            "The register was changed by somebody else meanwhile; nothing is stored, run it again",
            rule="overtaken",
        ) from None


def _entry(change: Change) -> BundleEntry:
    url = f"VerificationResult/{change.id}"
    if change.resource is None:
        return BundleEntry(None, "DELETE", url, None, if_match=f'W/"{change.version}"')
    body = render(change.resource)
    if change.version:
        return BundleEntry(None, "PUT", url, body, if_match=f'W/"{change.version}"')
    return BundleEntry(None, "PUT", url, body, if_none_match="*")
