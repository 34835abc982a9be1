"""The one path of every write: steps in, one change set, one commit, outcomes out.

A step is one create, update or delete whose body is valid. Conditions are resolved and references
rewritten against one snapshot; guards carry what was assumed into the commit, where the store
judges them under its write lock. When a guard of ours (not the caller's If-Match) is overtaken by
another request, the attempt is made again on a new snapshot. Architecture 5.2, 5.3.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from fhir_gateway.context import Gateway, new_id
from fhir_gateway.errors import Conflict, GatewayError, Invalid, PreconditionFailed
from fhir_gateway.interactions.claims import check_claims, check_registry
from fhir_gateway.interactions.conditional import match
from fhir_gateway.interactions.link import link
from fhir_gateway.interactions.outcome import Kind, Outcome, found, outcome_of
from fhir_gateway.interactions.pace import unhurried
from fhir_gateway.interactions.places import check_person, check_subject, check_targets
from fhir_gateway.interactions.prepare import add_codings, put_of
from fhir_gateway.interactions.provenance import Coded, provenance
from fhir_gateway.interactions.references import slots
from fhir_gateway.interactions.steps import Guards, Step
from fhir_gateway.interactions.types import EPOCH_TYPES, check_owner, owner_of
from fhir_gateway.security.actor import Actor
from fhir_gateway.store.changes import (
    ChangeSet,
    Committed,
    Entry,
    Exists,
    Once,
    Put,
    Received,
    VersionIs,
)
from fhir_gateway.store.store import Reader

#: A request overtaken so often by others is answered 409 and may be sent again.
ATTEMPTS = 8


class Written(NamedTuple):
    """The outcome of each step, and the commit."""

    outcomes: list[Outcome]
    committed: Committed


#: Makes the audit entries of a write from its steps, once their ids and versions are known.
Auditor = Callable[[Sequence[Step]], list[Entry]]


class Extras(NamedTuple):
    """What else a change set carries. `base` is the FHIR base as the client called it: addresses
    below it are ours."""

    received: Received | None = None
    once: Once | None = None
    only_if_changed: bool = False
    base: str = ""


NO_EXTRAS = Extras()


async def write(
    gateway: Gateway,
    actor: Actor,
    steps: Sequence[Step],
    *,
    audit: Auditor,
    extras: Extras = NO_EXTRAS,
) -> Written:
    """Stores all steps or none. Returns when durable.

    Raises PreconditionFailed, MultipleMatches, Unprocessable (references, other homes),
    Forbidden (another institution's), Conflict (overtaken again and again).
    """
    async for step in unhurried(steps):
        if step.resource is not None:
            step.coding = add_codings(gateway, step.resource, actor.institution)
            step.slots = slots(step.resource, step.raw)
    given = [step.id for step in steps]
    for attempt in range(ATTEMPTS):
        for step, id in zip(steps, given, strict=True):
            step.id, step.current, step.put = id, None, None
        guards = Guards()
        hopeful = attempt == 0
        change_set = await _plan(gateway, actor, steps, guards, extras, hopeful=hopeful)
        change_set.journal = audit(steps) if gateway.audit else []
        try:
            committed = await gateway.store.commit(change_set)
        except GatewayError as error:
            if getattr(error, "guard", -1) not in guards.ours:
                raise
            continue
        gateway.count("commits", 1)
        return Written(_outcomes(steps, committed), committed)
    raise Conflict("Other requests change the same resources; send it again", rule="overtaken")


async def _plan(
    gateway: Gateway,
    actor: Actor,
    steps: Sequence[Step],
    guards: Guards,
    extras: Extras,
    *,
    hopeful: bool,
) -> ChangeSet:
    """The change set of one attempt. `hopeful`: conditional creates are taken for new, which
    most of them are; if one is not, its guard says so and the next attempt looks it up."""
    source = extras.received.hash if extras.received else None
    async with gateway.store.snapshot(actor.access) as reader:
        for step in steps:
            await _locate(gateway, reader, step, guards, hopeful=hopeful)
            _authorise(actor, step, guards)
        await link(gateway, reader, steps, guards, base=extras.base)
        await check_claims(gateway, reader, actor, steps)
        await check_targets(reader, steps)
    async for step in unhurried(steps):
        if step.op == "delete":
            _delete(step)
        elif not step.matched:
            check_subject(step)
            step.put = _put(gateway, actor, step, extras.only_if_changed, source)
            await check_person(gateway, step)
    records = await _provenances(gateway, actor, steps, extras.only_if_changed)
    return ChangeSet(
        id=gateway.random(16),
        guards=guards.all,
        puts=[step.put for step in steps if step.put is not None] + records,
        once=extras.once,
        received=[extras.received] if extras.received else [],
        institution=actor.institution or "",
    )


async def _locate(
    gateway: Gateway, reader: Reader, step: Step, guards: Guards, *, hopeful: bool
) -> None:
    """Finds the id and the current version of what a step writes."""
    if step.condition is not None:
        matched = None
        if not hopeful or step.op != "create":
            matched = await match(reader, step.condition, expression=step.root)
        if matched is None:
            guards.add(step.condition.guard, ours=True)
            step.id = step.body_id or step.id or new_id(gateway)
            if step.body_id is not None:
                step.current = await reader.read(step.type, step.id)
            return
        step.id = matched
    elif step.op == "create":
        step.id = step.id or new_id(gateway)
        return
    step.current = await reader.read(step.type, step.id)


def _authorise(actor: Actor, step: Step, guards: Guards) -> None:
    """Versions and owners of what stands: the caller's conditions, and the guards that keep it."""
    current = step.current
    version = current.version if current is not None else 0
    if step.body_id not in (None, step.id) and step.condition is not None:
        raise Invalid(
            "The id in the body is not the id of the resource that meets the condition",
            expression=f"{step.root}.id",
            rule="id",
        )
    if step.if_match is not None and step.if_match != version:
        raise PreconditionFailed(
            "If-Match names a version that is not the current one",
            expression=step.root,
            rule="if-match",
        )
    if step.absent and current is not None and not current.deleted:
        raise PreconditionFailed(
            "If-None-Match: * and the resource exists", expression=step.root, rule="if-none-match"
        )
    if step.op == "create":
        if current is not None:
            guards.add(Exists(step.name, step.root), ours=True)
        return
    if current is not None:
        check_owner(actor, current.owner)
        if step.type == "Organization" and not current.deleted:
            check_registry(actor, current.tail, step)
    if step.op != "delete" or (current is not None and not current.deleted):
        guards.add(VersionIs(step.type, step.id, version), ours=step.if_match is None)


def _delete(step: Step) -> None:
    if step.current is not None and not step.current.deleted:
        raises = step.type in EPOCH_TYPES
        owner = step.current.owner
        step.put = Put(step.type, step.id, "delete", owner=owner, raises_epoch=raises)


def _put(
    gateway: Gateway, actor: Actor, step: Step, only_if_changed: bool, source: bytes | None
) -> Put:
    assert step.resource is not None
    new = step.current is None or step.current.deleted
    put = put_of(
        gateway,
        step.resource,
        op="create" if new else "update",
        owner=owner_of(actor) if step.current is None else step.current.owner,
        only_if_changed=only_if_changed,
        source=source,
    )
    if step.about:
        type, _, id = step.about.partition("/")
        put.patient, put.follow = (id, None) if type == "Patient" else (None, step.about)
    return put


async def _provenances(
    gateway: Gateway, actor: Actor, steps: Sequence[Step], only_if_changed: bool
) -> list[Put]:
    """Who added the codings: one Provenance for each home that was written to."""
    groups: dict[tuple[str | None, str | None, int], list[Coded]] = {}
    for step in steps:
        if step.put is not None and step.coding.coded:
            place = (step.put.patient, step.put.follow, step.put.home)
            groups.setdefault(place, []).append(Coded(step.name, step.put.body, step.coding.coded))
    puts = []
    for coded in groups.values():
        record = provenance(coded, recorded_us=gateway.clock.now())
        if not (only_if_changed and await _is_stored(gateway, actor, record)):
            puts.append(put_of(gateway, record, op="create", owner=0, only_if_changed=True))
    return puts


async def _is_stored(gateway: Gateway, actor: Actor, record: dict[str, Any]) -> bool:
    async with gateway.store.snapshot(actor.access) as reader:
        return await reader.read(record["resourceType"], record["id"]) is not None


_KINDS: dict[str, Kind] = {
    "created": "created", "updated": "updated", "unchanged": "unchanged", "deleted": "deleted",
}  # fmt: skip


def _outcomes(steps: Sequence[Step], committed: Committed) -> list[Outcome]:
    """The outcome of each step; none when the whole change set is a repeat."""
    if committed.repeated and not committed.results:
        return []
    results = iter(committed.results)
    outcomes = []
    for step in steps:
        if step.put is not None:
            result = next(results)
            kind = _KINDS[result.outcome]
            outcomes.append(outcome_of(kind, step.put, result.version, committed.updated))
        elif step.current is None or step.op == "delete":
            version = step.current.version if step.current is not None else 0
            outcomes.append(Outcome("deleted", step.type, step.id, version, committed.updated))
        else:
            outcomes.append(found(step.current, "existing"))
    return outcomes
