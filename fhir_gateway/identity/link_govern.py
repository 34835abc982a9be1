"""What may be written of links, whichever way it comes: PUT, PATCH, transaction, HL7 v2.

An institution says of its own records that one was replaced by another (a merge of its own numbers)
and may hint at another institution's (seealso); links and the questions about them are written by
the reviewers' operations and by the operator alone. docs/adr/0026
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fhir_gateway.context import Gateway
from fhir_gateway.errors import Forbidden, Unprocessable
from fhir_gateway.fhir.datatypes import Reference, parse_reference
from fhir_gateway.fhir.wire import parse
from fhir_gateway.identity.link import TASK_SYSTEM, links_of, replacement
from fhir_gateway.interactions.steps import Guards, Step
from fhir_gateway.security.actor import SYSTEM_ACCESS, Actor
from fhir_gateway.store.changes import VersionIs
from fhir_gateway.store.store import Reader

#: A chain of merges that is longer is followed by nobody.
MOST_MERGES = 16

#: What institutions write only as far as it says nothing of links.
_GOVERNED = frozenset({"Linkage", "Task", "Provenance"})

Patients = Mapping[str, dict[str, Any]]


async def govern(
    gateway: Gateway, reader: Reader, actor: Actor, steps: Sequence[Step], guards: Guards
) -> None:
    """Judges links, questions and merges among the steps of a write.

    Raises Forbidden for what an institution may not say, Unprocessable for a merge that leads
    nowhere, each with its entry.
    """
    for step in steps:
        if step.type in _GOVERNED and actor.bound:
            _check_writer(step)
    merging = [step for step in steps if step.type == "Patient" and _merges(step)]
    if not merging:
        return
    written = {step.id: step.resource for step in steps if step.type == "Patient" and step.resource}
    async with gateway.store.snapshot(SYSTEM_ACCESS) as whole:
        for step in merging:
            await _check_merge(whole, step, written, guards)


def _check_writer(step: Step) -> None:
    if step.matched:
        return
    stands = step.current is not None and not step.current.deleted
    before = parse(step.current.whole()) if stands and step.current else {}
    if step.type == "Linkage" or _speaks_of_links(before) or _speaks_of_links(step.resource or {}):
        raise Forbidden(
            "Links between records are proposed by the gateway, and made and taken back by a named "
            "reviewer: Task/[id]/$confirm-identity, $reject-identity, Linkage/[id]/$unlink",
            expression=step.root,
            rule="link-governed",
        )


def _speaks_of_links(resource: Mapping[str, Any]) -> bool:
    """Whether this is a question to reviewers, whole or not, or says who answered one."""
    if resource.get("resourceType") == "Provenance":
        return any(
            isinstance(named, Reference) and named.type == "Linkage"
            for target in resource.get("target", ())
            for named in [parse_reference(target.get("reference") or "")]
        )
    codings = (resource.get("code") or {}).get("coding", ()) if resource else ()
    return any(one.get("system") == TASK_SYSTEM for one in codings)


def _merges(step: Step) -> bool:
    resource = step.resource
    return resource is not None and not step.matched and any(links_of(resource))


async def _check_merge(reader: Reader, step: Step, written: Patients, guards: Guards) -> None:
    """A merged record leads to one that stands: not to itself, in no circle."""
    assert step.resource is not None
    kinds = list(links_of(step.resource))
    replaced = [other for kind, other in kinds if kind == "replaced-by"]
    if len(set(replaced)) > 1:
        raise _fault(step, "A record is replaced by one other, not by several", "merge-several")
    if step.id in {other for _, other in kinds}:
        raise _fault(step, "A record cannot be linked with itself", "merge-self")
    if set(replaced) & {other for kind, other in kinds if kind == "replaces"}:
        raise _fault(step, "A record cannot replace the one that it is replaced by", "merge-circle")
    after, steps = (replaced or [""])[0], 0
    while after:
        steps += 1
        if after == step.id or steps > MOST_MERGES:
            text = "These merges lead round in a circle; the record that goes on replaces no other"
            raise _fault(step, text, "merge-circle")
        after = await _replacement(reader, after, written, guards)


async def _replacement(reader: Reader, id: str, written: Patients, guards: Guards) -> str:
    """By whom a record is replaced; what was read stands until the commit."""
    if id in written:
        return replacement(written[id])
    stored = await reader.read("Patient", id)
    if stored is None or stored.deleted:
        return ""  # references are judged elsewhere
    guards.add(VersionIs("Patient", id, stored.version), ours=True)
    return replacement(parse(stored.whole()))


def _fault(step: Step, text: str, rule: str) -> Unprocessable:
    return Unprocessable(text, expression=f"{step.root}.link", rule=rule)
