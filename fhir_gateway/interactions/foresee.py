"""What a message would do to what is stored, without doing it: a write judged but for its guards.

Dry runs of tables, samples of an institution that is not live yet, retries that are tried out.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import Any, NamedTuple

from fhir_gateway.context import Gateway
from fhir_gateway.errors import Issue
from fhir_gateway.fhir.validate import BundleEntry
from fhir_gateway.interactions.entries import request_of, root, step_of
from fhir_gateway.interactions.extras import Extras
from fhir_gateway.interactions.institutions import institutions
from fhir_gateway.interactions.intake import V2_MEDIA, entries_of, planned
from fhir_gateway.interactions.intake_merge import assigned_by_others
from fhir_gateway.interactions.prepare import add_codings
from fhir_gateway.interactions.references import slots
from fhir_gateway.interactions.shape import check_whole
from fhir_gateway.interactions.steps import Guards
from fhir_gateway.interactions.write import plan_write
from fhir_gateway.mapping.v2 import parse
from fhir_gateway.mapping.v2_messages import map_message
from fhir_gateway.security.actor import Actor
from fhir_gateway.security.institution import Institution
from fhir_gateway.store.blobs import unpack
from fhir_gateway.store.changes import Received

#: (type, created updated or unchanged, content)
Foreseen = tuple[str, str, dict[str, Any]]


class Judged(NamedTuple):
    """What would be stored, and what is doubtful."""

    resources: list[Foreseen]
    warnings: Sequence[Issue]

    @property
    def kinds(self) -> dict[str, int]:
        """How many resources of which type."""
        found: dict[str, int] = {}
        for type, _, _ in self.resources:
            found[type] = found.get(type, 0) + 1
        return found


async def foresee(
    gateway: Gateway, actor: Actor, entries: Sequence[BundleEntry], received: Received | None
) -> list[Foreseen]:
    """What a commit of these entries would do: everything but the guards is judged.

    Raises what the write would raise.
    """
    steps = [
        step_of(actor, gateway, request_of(entry, root(place)), root(place))
        for place, entry in enumerate(entries)
    ]
    for step in steps:
        assert step.resource is not None  # all are PUTs
        check_whole(step.resource, step.root)
        step.coding = add_codings(gateway, step.resource, actor.institution)
        step.slots = slots(step.resource, step.raw)
    extras = Extras(received=received, only_if_changed=True)
    await plan_write(gateway, actor, steps, Guards(), extras)
    found: list[Foreseen] = []
    async with gateway.store.snapshot(actor.access) as reader:
        for step in steps:
            stored = await reader.read(step.type, step.id)
            assert step.put is not None and step.resource is not None
            if stored is None or stored.deleted:
                kind = "created"
            else:
                same = stored.tail == unpack(step.put.enc, step.put.body)
                kind = "unchanged" if same else "updated"
            found.append((step.type, kind, step.resource))
    return found


async def judge_v2(gateway: Gateway, sender: Institution, raw: bytes) -> Judged:
    """What a message of an institution would do. Raises what the door would answer it by."""
    folder = f"{gateway.settings.mappings}/v2"
    message = parse(raw, default_charset=sender.charset, folder=folder)
    others = assigned_by_others(sender, await institutions(gateway))
    mapped = map_message(message, sender, folder=folder, others=others)
    actor = Actor("institution", sender.name, institution=sender.id)
    async with gateway.store.snapshot(actor.access) as reader:
        plan = await planned(gateway, reader, mapped, sender, folder)
    entries = entries_of(plan, "v2")
    kept = Received(sha256(raw).digest(), V2_MEDIA, 0, b"")  # not stored: it says it is no FHIR
    return Judged(await foresee(gateway, actor, entries, kept), plan.warnings)
