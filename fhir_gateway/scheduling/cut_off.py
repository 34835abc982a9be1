"""Cut-offs: what a channel has not used when it closes falls to the channel that is named for it.

The store lets a reserve fall whenever somebody asks for its bucket after the cut-off; this does it
for those that nobody asks for, and writes down what moved. Each quota is one commit with its
AuditEvent, under a key that is used once: killed half-way it goes on, run twice it is once, and
two at a time make one. docs/adr/0053-jobs-of-the-pools.md
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import NamedTuple

import msgspec

from fhir_gateway.audit.events_parts import Event, event, named_entity, operation_head
from fhir_gateway.context import Gateway
from fhir_gateway.errors import Conflict
from fhir_gateway.fhir.home import institution_home
from fhir_gateway.interactions.audit import call_of, entry
from fhir_gateway.interactions.institutions import institutions_at
from fhir_gateway.security.actor import GATEWAY, SYSTEM_ACCESS
from fhir_gateway.store.changes import ChangeSet, Once
from fhir_gateway.store.claim_rows import Fall
from fhir_gateway.store.claim_state import QuotaState
from fhir_gateway.store.slot_sql import due_falls

ONCE = "pool-cut-off"

#: Quotas of a look at the store.
PAGE = 200


class Fallen(NamedTuple):
    """What became of one quota: fell, would-fall (in a dry run), or told-already."""

    institution: str
    quota: QuotaState
    outcome: str


async def cut_off(gateway: Gateway, *, dry_run: bool = False) -> AsyncIterator[Fallen]:
    """Lets fall what is due by now, the oldest cut-off first. Raises Unavailable as commits do."""
    now = gateway.clock.now()
    seen: set[tuple[int, str, str, str]] = set()
    while True:
        async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
            limit = PAGE + len(seen)
            rows = await reader.steps(lambda _, limit=limit: due_falls(now, limit))  # type: ignore[misc]
            known = await institutions_at(gateway, reader)
        names = {institution_home(id): id for id in known}
        new = [one for one in rows if one[:4] not in seen]
        for quota in new:
            seen.add(quota[:4])
            institution = names.get(quota.home, "")
            outcome = "would-fall" if dry_run else await _fall(gateway, institution, quota)
            yield Fallen(institution, quota, outcome)
        if len(rows) < limit:
            return


async def is_due(gateway: Gateway) -> bool:
    """Whether there is a quota whose cut-off has passed with something left."""
    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        now = gateway.clock.now()
        return bool(await reader.steps(lambda _: due_falls(now, 1)))


async def _fall(gateway: Gateway, institution: str, quota: QuotaState) -> str:
    """One quota falls, and what moved is written down in the same commit."""
    key = msgspec.json.encode((*quota[:4], quota.closes, quota.serial, quota.cap))
    said = msgspec.json.encode({"seats": quota.left, "to": quota.falls_to})
    change_set = ChangeSet(
        id=gateway.random(16),
        claims=[Fall(quota.home, quota.bucket, quota.kind, quota.channel)],
        journal=[entry(gateway, _event(gateway, institution, quota))],
        once=Once(ONCE, key, said),
    )
    try:
        committed = await gateway.store.commit(change_set)
    except Conflict:  # the plan was settled anew meanwhile, without this channel
        return "told-already"
    if committed.repeated:
        return "told-already"
    gateway.count("pool_cut_offs", 1)
    return "fell"


def _event(gateway: Gateway, institution: str, quota: QuotaState) -> Event:
    """What moved, as the hospital finds it: AuditEvent?entity-name and outcomeDesc."""
    details = [
        ("class", quota.kind), ("channel", quota.channel), ("used", str(quota.used)),
        ("fallen", str(quota.left)), ("to", quota.falls_to),
    ]  # fmt: skip
    call = call_of(gateway, GATEWAY)
    summary = f"{quota.left} seats of {quota.channel} fell to {quota.falls_to}"
    told = event(
        operation_head("cut-off"), call, "0", "write", (named_entity(quota.bucket, details),),
        summary,
    )  # fmt: skip
    told.institution = institution
    return told
