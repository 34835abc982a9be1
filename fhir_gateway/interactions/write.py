"""The one path of every write: steps in, one change set, one commit, outcomes out.

A step is one create, update or delete whose body is valid. Conditions are resolved and references
rewritten against one snapshot; guards carry what was assumed into the commit, where the store
judges them under its write lock. When a guard of ours (not the caller's If-Match) is overtaken by
another request, the attempt is made again on a new snapshot. Architecture 5.2, 5.3.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any, NamedTuple

from fhir_gateway.context import Gateway, new_id
from fhir_gateway.errors import (
    Conflict,
    Deleted,
    GatewayError,
    Invalid,
    NotFound,
    PreconditionFailed,
    TooLong,
)
from fhir_gateway.fhir.wire import tail
from fhir_gateway.interactions.claims import check_claims, check_registry
from fhir_gateway.interactions.conditional import hides, match, none_meets
from fhir_gateway.interactions.deriving import CODED_TYPES, maps_stay
from fhir_gateway.interactions.etag import ANY_VERSION
from fhir_gateway.interactions.evaluations import check_evaluations
from fhir_gateway.interactions.extras import (
    NO_EXTRAS,
    Extras,
    delivered,
    enclose,
    with_bytes,
)
from fhir_gateway.interactions.link import link
from fhir_gateway.interactions.local_codes import catch_up, check_maps, is_behind
from fhir_gateway.interactions.outcome import Kind, Outcome, found, outcome_of
from fhir_gateway.interactions.pace import prepared, unhurried
from fhir_gateway.interactions.permits import check_plan
from fhir_gateway.interactions.places import (
    check_free,
    check_person,
    check_subject,
    check_targets,
    place_home,
)
from fhir_gateway.interactions.prepare import Coding, add_codings, put_of
from fhir_gateway.interactions.printed_marks import flag_marks
from fhir_gateway.interactions.profile_check import check_profiles
from fhir_gateway.interactions.provenance import provenances
from fhir_gateway.interactions.read_named import read_named
from fhir_gateway.interactions.references import slots
from fhir_gateway.interactions.scoped_writes import judge_of
from fhir_gateway.interactions.shape import check_whole
from fhir_gateway.interactions.steps import Guards, Step, check_overlap
from fhir_gateway.interactions.turns import Turn
from fhir_gateway.interactions.types import EPOCH_TYPES, check_owner, owner_of
from fhir_gateway.security.actor import Actor
from fhir_gateway.store.changes import (
    NEVER,
    ChangeSet,
    Committed,
    Entry,
    Exists,
    Put,
    VersionIs,
)
from fhir_gateway.store.store import Reader
from fhir_gateway.terminology.mapped_by import SERVICES

#: Types whose codings rest on maps of local codes.
_CODED = frozenset({*CODED_TYPES, *SERVICES})

#: A request overtaken so often by others is answered 409 and may be sent again.
ATTEMPTS = 16


class Written(NamedTuple):
    """The outcome of each step, and the commit."""

    outcomes: list[Outcome]
    committed: Committed


#: Makes the audit entries of a write from its steps, once their ids and versions are known.
Auditor = Callable[[Sequence[Step]], list[Entry]]


async def write(
    gateway: Gateway,
    actor: Actor,
    steps: Sequence[Step],
    *,
    audit: Auditor,
    extras: Extras = NO_EXTRAS,
) -> Written:
    """Stores all steps or none. Returns when durable.

    Raises PreconditionFailed, MultipleMatches, Unprocessable (references, other homes, a patch
    that cannot be), NotFound and Deleted (a patch of nothing), Forbidden (another institution's),
    Conflict (overtaken again and again).
    """
    extras = with_bytes(extras)
    async for step in unhurried(steps):
        _read_in(gateway, actor, step)
    given = [step.id for step in steps]
    judge = await judge_of(gateway, actor, steps)
    async with Turn() as turn:
        await turn.join(_lines(gateway, steps))
        for attempt in range(ATTEMPTS):
            for step, name in zip(steps, given, strict=True):
                step.id, step.current, step.put = name, None, None
            guards = Guards(judge=judge)
            hopeful = attempt == 0
            change_set = await plan_write(gateway, actor, steps, guards, extras, hopeful=hopeful)
            change_set.journal = [*audit(steps), *guards.journal] if gateway.audit else []
            enclose(change_set, steps)
            prepared()
            try:
                committed = await gateway.store.commit(change_set)
            except GatewayError as error:
                index = guards.index_of(error)
                if index not in guards.ours:
                    placed = await place_home(gateway, actor, steps, error)
                    raise guards.placed(placed, index) from None
                await check_free(gateway, actor, guards.all[index], steps)
                if index in guards.lines:
                    await turn.take((id(gateway), guards.lines[index]))
                continue
            delivered(committed, steps)
            for name in ("commits", *guards.counts):
                gateway.count(name, 1)
            if unmapped := sum(len(step.coding.unmapped) for step in steps):
                gateway.count("unmapped", unmapped)
            return Written(_outcomes(steps, committed), committed)
    raise Conflict("Other requests change the same resources; send it again", rule="overtaken")


def _read_in(gateway: Gateway, actor: Actor, step: Step) -> None:
    """The condition; codings and references of a resource that came in, or that a patch made."""
    if step.condition is not None:
        check_plan(gateway, actor, step.condition.plan)
    if step.resource is None:
        return
    check_whole(step.resource, step.root)
    step.coding = add_codings(gateway, step.resource, actor.institution)
    step.slots = slots(step.resource, step.raw)


def _lines(gateway: Gateway, steps: Sequence[Step]) -> Iterator[Hashable]:
    """Where others may wait already who change the same."""
    for step in steps:
        if step.id or step.condition is not None:
            yield id(gateway), step.line
        if step.condition is not None:
            yield id(gateway), step.condition.line


async def plan_write(
    gateway: Gateway,
    actor: Actor,
    steps: Sequence[Step],
    guards: Guards,
    extras: Extras,
    *,
    hopeful: bool = False,
) -> ChangeSet:
    """The change set of one attempt, and its guards. `hopeful`: conditional creates are taken for
    new, which most are; if one is not, its guard says so and the next attempt looks it up."""
    source = extras.received.hash if extras.received else None
    while not await _look_up(gateway, actor, steps, guards, extras, hopeful):
        await catch_up(gateway, actor.institution)
        async for step in unhurried(steps):
            _read_in(gateway, actor, step)
    await check_profiles(gateway, actor, steps, guards.epoch)
    await flag_marks(gateway, steps)
    async for step in unhurried(steps):
        if step.op == "delete":
            _delete(step)
        elif not step.matched:
            check_subject(step)
            step.put = _put(gateway, actor, step, extras.only_if_changed, source)
            await check_person(gateway, step)
    records = await provenances(gateway, actor, steps, extras.only_if_changed)
    return ChangeSet(
        id=gateway.random(16),
        guards=guards.all,
        puts=[step.put for step in steps if step.put is not None] + records + guards.puts,
        claims=guards.claims,
        once=extras.once,
        received=[extras.received] if extras.received else [],
        institution=actor.institution or "",
    )


async def _look_up(
    gateway: Gateway,
    actor: Actor,
    steps: Sequence[Step],
    guards: Guards,
    extras: Extras,
    hopeful: bool,
) -> bool:
    """Judges by one snapshot. False when it is ahead of the maps that the steps were coded by."""
    async with gateway.store.snapshot(actor.access) as reader:
        if is_behind(gateway, reader, actor.institution) or _is_outdated(gateway, steps):
            return False
        guards.epoch = reader.epoch
        await read_named(reader, actor, steps)
        none = NEVER if hides(actor.access) else 0
        for step in steps:
            try:
                await _locate(gateway, reader, actor, step, guards, hopeful=hopeful)
                _authorise(actor, step, guards, none)
                if step.edit is not None:
                    _edit(gateway, actor, step)
            except GatewayError as error:
                raise step.placed(error) from None
        check_overlap(steps)
        await link(gateway, reader, steps, guards, base=extras.base, access=actor.access)
        guards.judge()
        await check_claims(gateway, reader, actor, steps, is_fhir=extras.is_fhir)
        await check_evaluations(gateway, reader, actor, steps)
        await check_maps(gateway, reader, actor, steps, guards)
        for governor in gateway.governors:
            await governor(gateway, reader, actor, steps, guards)
        if actor.institution and any(_is_coded(step) for step in steps):
            guards.add(maps_stay(reader.t), ours=True)
        await check_targets(reader, steps)
    return True


def _is_coded(step: Step) -> bool:
    """Whether maps of local codes have a say in what is stored."""
    return step.resource is not None and step.type in _CODED


def _is_outdated(gateway: Gateway, steps: Sequence[Step]) -> bool:
    """Whether another request has read newer maps since these steps were coded."""
    coders = gateway.coders
    return any(_is_coded(step) and step.coding.by is not coders for step in steps)


async def _locate(
    gateway: Gateway, reader: Reader, actor: Actor, step: Step, guards: Guards, *, hopeful: bool
) -> None:
    """Finds the id and the current version of what a step writes."""
    if step.condition is not None:
        matched = None
        new = hopeful and step.op == "create" and step.condition.absent is not None
        new = new and not hides(actor.access)  # the guard would not know what of others is seen
        if not new:
            matched = await match(reader, step.condition, expression=step.root)
        if matched is None:
            await _unmatched(gateway, reader, actor, step, guards)
            return
        step.id = matched
        step.current = await reader.read(step.type, step.id)
    elif step.op == "create":
        step.id = step.id or new_id(gateway)


async def _unmatched(
    gateway: Gateway, reader: Reader, actor: Actor, step: Step, guards: Guards
) -> None:
    """What a condition that nothing meets means: something new, nothing to delete, a refusal."""
    assert step.condition is not None
    if step.edit is not None:
        raise NotFound("No resource meets the condition", expression=step.root, rule="no-match")
    if step.op == "delete":
        return
    guard = await none_meets(reader, step.condition, actor.access)
    # An identifier that was taken meanwhile is found at once: no line for that.
    line = None if step.condition.absent is not None else step.condition.line
    guards.add(guard, ours=True, line=line)
    step.id = step.body_id or step.id or new_id(gateway)
    if step.body_id is None:
        return
    step.current = await reader.read(step.type, step.id)
    if step.current is not None and not step.current.deleted:
        raise Conflict(
            "No resource meets the condition, but the id of the body is taken by another one",
            expression=f"{step.root}.id",
            rule="id",
        )


def _authorise(actor: Actor, step: Step, guards: Guards, none: int) -> None:
    """Versions and owners of what stands: the caller's conditions, and the guards that keep it.
    `none` is the version of what the caller does not see."""
    current = step.current
    version = current.version if current is not None else none
    if step.body_id not in (None, step.id) and step.condition is not None:
        raise Invalid(
            "The id in the body is not the id of the resource that meets the condition",
            expression=f"{step.root}.id",
            rule="id",
        )
    if step.if_match is not None and not _is_matched(step):
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
        ours = step.if_match in (None, ANY_VERSION)
        guards.add(VersionIs(step.type, step.id, version), ours=ours, at=step.root, line=step.line)


def _is_matched(step: Step) -> bool:
    """Whether what stands is what the caller's If-Match insists on."""
    current = step.current
    if step.if_match == ANY_VERSION:
        return current is not None and not current.deleted
    return step.if_match == (current.version if current is not None else 0)


def _edit(gateway: Gateway, actor: Actor, step: Step) -> None:
    """Makes the next version of what a patch is for. It names no resource when nothing changes."""
    assert step.edit is not None
    if step.current is None:
        raise NotFound("There is no such resource", rule="unknown-id")
    if step.current.deleted:
        raise Deleted("This resource is deleted", rule="deleted")
    step.resource = step.edit(step.current)
    step.slots, step.places, step.links, step.coding = [], None, None, Coding([], [])
    if step.resource is not None:
        _check_size(gateway, step.resource)
        _read_in(gateway, actor, step)


def _check_size(gateway: Gateway, resource: dict[str, Any]) -> None:
    """Raises TooLong for what nobody could send: patch upon patch would make it ever larger."""
    limit = gateway.settings.body_limit
    if len(tail(resource)) > limit:
        raise TooLong(f"A resource may have {limit} bytes here", rule="body-limit")


def _delete(step: Step) -> None:
    if step.current is not None and not step.current.deleted:
        owner, raises = step.current.owner, step.type in EPOCH_TYPES
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
            outcome = outcome_of(kind, step.put, result.version, committed.updated)
            outcomes.append(outcome._replace(issues=step.issues) if step.issues else outcome)
        elif step.current is None or step.op == "delete":
            version = step.current.version if step.current is not None else 0
            outcomes.append(Outcome("deleted", step.type, step.id, version, committed.updated))
        else:
            outcomes.append(found(step.current, "unchanged" if step.edit else "existing"))
    return outcomes
