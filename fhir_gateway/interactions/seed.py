"""The resources that come with the project: stored when their content is new, never twice.

Each content is marked as sown in the commit that stores it. So a restart changes nothing, a
release brings its new contents, and what an operator changed meanwhile (a rule set that was
activated, a list that was replaced) is left alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256
from typing import Any

from fhir_gateway.audit.events import transaction_event
from fhir_gateway.context import Gateway
from fhir_gateway.errors import Duplicate
from fhir_gateway.fhir.wire import render
from fhir_gateway.interactions.audit import call_of, entry
from fhir_gateway.interactions.prepare import prepare
from fhir_gateway.security.actor import GATEWAY, SYSTEM_ACCESS
from fhir_gateway.store.changes import ChangeSet, Unique

_KIND = "seed"


async def seed(gateway: Gateway, resources: Iterable[dict[str, Any]]) -> int:
    """Stores those resources whose content was never sown; returns how many."""
    keys = {sha256(render(resource)).digest(): resource for resource in resources}
    while True:
        async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
            new = {
                key: resource
                for key, resource in keys.items()
                if await reader.once(_KIND, key) is None
            }
        if not new:
            return 0
        try:
            await gateway.store.commit(_change_set(gateway, new))
        except Duplicate:
            continue  # another process sows the same
        return len(new)


def _change_set(gateway: Gateway, new: dict[bytes, dict[str, Any]]) -> ChangeSet:
    names = [f"{resource['resourceType']}/{resource['id']}" for resource in new.values()]
    event = transaction_event(
        call_of(gateway, GATEWAY), resources=names, summary="resources of the project"
    )
    return ChangeSet(
        id=gateway.random(16),
        guards=[Unique(_KIND, key) for key in new],
        puts=[
            prepare(gateway, resource, op="create", institution=None, only_if_changed=True)
            for resource in new.values()
        ],
        journal=[entry(gateway, event)],
    )
