"""Publishing rule sets: simulated by one person, approved by another, in force with the next
question.

A rule set is a stored PlanDefinition; its status alone says whether it counts. Activating one that
is in force from now on retires the one that it replaces, in the same commit, so that there is never
a moment with two or with none. Whatever is written here goes the way of every write, where
rules_govern.py judges it. docs/adr/0012, docs/adr/0025
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from fhir_gateway.context import Gateway
from fhir_gateway.errors import Conflict, GatewayError, Invalid, Issue, NotFound, Unprocessable
from fhir_gateway.fhir.wire import instant, parse
from fhir_gateway.interactions.events import write_events
from fhir_gateway.interactions.lists import today
from fhir_gateway.interactions.steps import Step
from fhir_gateway.interactions.write import write
from fhir_gateway.recognition.known import known, stored_rule_sets, version_of
from fhir_gateway.recognition.rules import RuleSet, is_rule_set, load_rule_set
from fhir_gateway.recognition.rules_govern import DEMONSTRATION
from fhir_gateway.recognition.rules_lifecycle import content_digest
from fhir_gateway.recognition.rules_proofs import Person, Proof, person, proofs_of, provenance
from fhir_gateway.recognition.rules_proofs import Step as Proven
from fhir_gateway.security.actor import GATEWAY, SYSTEM_ACCESS, Actor
from fhir_gateway.store.store import Stored

Definition = dict[str, Any]


class Listed(NamedTuple):
    """A rule set in the store. `rule_set` is None when it cannot be read; `issues` says why."""

    stored: Stored
    definition: Definition
    rule_set: RuleSet | None
    issues: tuple[Issue, ...]

    @property
    def version(self) -> str:
        """The version that the PlanDefinition claims."""
        return str(self.definition.get("version", ""))

    @property
    def status(self) -> str:
        """Its status, as it claims it."""
        return str(self.definition.get("status", ""))


async def rule_sets(gateway: Gateway) -> list[Listed]:
    """Every rule set of the store, by url and version."""
    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        pairs = await stored_rule_sets(reader)
    return [_listed(stored, definition) for stored, definition in pairs]


def _listed(stored: Stored, definition: Definition) -> Listed:
    try:
        return Listed(stored, definition, load_rule_set(definition), ())
    except GatewayError as error:
        return Listed(stored, definition, None, error.issues)


def named(found: Sequence[Listed], what: str) -> Listed:
    """The rule set of this version or logical id. Raises NotFound, Conflict when several levels
    have the version: then the id says which."""
    matching = [one for one in found if one.stored.id == what]
    matching = matching or [one for one in found if one.version == what]
    if not matching:
        known = ", ".join(one.version for one in found) or "none"
        raise NotFound(f"There is no rule set {what}; known: {known}", rule="rule-set")
    if len(matching) > 1:
        ids = ", ".join(one.stored.id for one in matching)
        raise Conflict(
            f"Several rule sets have the version {what}; name one by its id: {ids}",
            rule="rule-set",
        )
    return matching[0]


async def add(gateway: Gateway, definition: Definition) -> str:
    """Stores a draft under its id, or the next state of one. Returns created, updated, unchanged.

    Raises Unprocessable for what is no rule set that can be read, Conflict for what is no draft
    any more.
    """
    if not is_rule_set(definition):
        raise Unprocessable(
            "No action names a criterion: this PlanDefinition is no rule set",
            expression="PlanDefinition.action",
            rule="rule-set",
        )
    load_rule_set(definition)
    if not definition.get("id"):
        text = "A rule set has an id, under which it is stored"
        raise Unprocessable(text, expression="PlanDefinition.id", rule="id")
    step = Step(
        "update", "PlanDefinition", definition["id"], root="PlanDefinition", resource=definition
    )
    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        stored = await reader.read("PlanDefinition", definition["id"])
    if stored is not None and not stored.deleted:
        before = parse(stored.whole())
        if {**before, "meta": None} == {**definition, "meta": None}:
            return "unchanged"
    written = await write(gateway, GATEWAY, [step], audit=write_events(gateway, GATEWAY))
    return written.outcomes[0].kind


async def activate(gateway: Gateway, what: str, *, demonstration: bool = False) -> list[str]:
    """Puts a rule set in force and retires the one it replaces; returns the changed versions.

    One whose period begins later changes nothing until then. `demonstration` is for one that is
    experimental. Raises NotFound, Unprocessable for one that cannot be read or is not simulated
    and approved, Conflict for one that was active before.
    """
    found = await rule_sets(gateway)
    chosen = named(found, what)
    if chosen.status == "active":
        return []
    rule_set = load_rule_set({**chosen.definition, "status": "active"})
    changes = [(chosen, "active")]
    now, zone = gateway.clock.now(), gateway.settings.zone
    if rule_set.in_force(now, zone):
        changes += [
            (one, "retired")
            for one in found
            if one.rule_set is not None
            and one.rule_set.scope[:2] == rule_set.scope[:2]
            and one.rule_set.in_force(now, zone)
        ]
    return await _change(gateway, changes, DEMONSTRATION if demonstration else GATEWAY)


async def retire(gateway: Gateway, what: str) -> list[str]:
    """Takes a rule set out of force. Without another every answer is *cannot-decide*.

    Raises NotFound, Conflict for a draft.
    """
    return await _change(gateway, [(named(await rule_sets(gateway), what), "retired")], GATEWAY)


async def _change(
    gateway: Gateway, changes: Iterable[tuple[Listed, str]], actor: Actor
) -> list[str]:
    wanted = [(one, status) for one, status in changes if one.status != status]
    if not wanted:
        return []
    steps = [_status_step(one, status) for one, status in wanted]
    written = await write(gateway, actor, steps, audit=write_events(gateway, actor))
    changed = {outcome.id for outcome in written.outcomes if outcome.kind == "updated"}
    return [f"{one.version} {status}" for one, status in wanted if one.stored.id in changed]


def _status_step(one: Listed, status: str) -> Step:
    def edit(stored: Stored) -> Definition | None:
        """Made anew from what stands in each attempt, so that it is judged as it is then."""
        definition = parse(stored.whole())
        if definition.get("status") == status:
            return None
        return {**definition, "status": status}

    return Step("update", "PlanDefinition", one.stored.id, root="PlanDefinition", edit=edit)


# -- simulated and approved ------------------------------------------------------------------------


async def proofs(gateway: Gateway, one: Listed) -> list[Proof]:
    """Who simulated and approved it, oldest first, whatever was edited since."""
    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        return await proofs_of(gateway, reader, one.stored.id)


async def record_simulation(gateway: Gateway, one: Listed, by: str, says: str) -> None:
    """Records that a person simulated a draft as it was read. Raises Invalid without a name,
    Conflict when it is no draft or was edited meanwhile."""
    _check_draft(one)
    await _prove(gateway, "simulation", one, _person(by), says, lambda definition: None)


async def approve(gateway: Gateway, what: str, by: str) -> Listed:
    """Records that a person approves a draft, and the day of it in approvalDate.

    Raises NotFound, Invalid without a name, Unprocessable when nobody has simulated it as it is
    or the same person did, Conflict when it is no draft.
    """
    one = named(await rule_sets(gateway), what)
    _check_draft(one)
    load_rule_set(one.definition)
    approver = _person(by)
    digest = content_digest(one.definition)
    simulated = [
        proof
        for proof in await proofs(gateway, one)
        if proof.step == "simulation" and proof.digest == digest
    ]
    if not simulated:
        raise Unprocessable(
            "Nobody has simulated this draft as it is now: "
            f"fhir-gateway rules simulate {what} --record NAME",
            expression="PlanDefinition",
            rule="rule-set-approval",
        )
    if not any(approver.is_other_than(proof.person) for proof in simulated):
        raise Unprocessable(
            f"{approver.name} has simulated it: the approval is another person's",
            expression="Provenance.agent.who",
            rule="rule-set-approval",
        )
    day = today(gateway)

    def approved(definition: Definition) -> Definition | None:
        return (
            None if definition.get("approvalDate") == day else {**definition, "approvalDate": day}
        )

    await _prove(gateway, "approval", one, approver, f"approved on {day}", approved)
    return one


def _person(by: str) -> Person:
    named = person(by)
    if named is None:
        raise Invalid("Say who: a name, or NAME (Practitioner/ID)", rule="rule-set-person")
    return named


def _check_draft(one: Listed) -> None:
    if one.status != "draft":
        raise Conflict(
            f"{one.version} is {one.status}: drafts are simulated and approved",
            expression="PlanDefinition.status",
            rule="rule-set-status",
        )


async def _prove(
    gateway: Gateway, step: Proven, one: Listed, by: Person, says: str, edit: Any
) -> None:
    """Stores a Provenance, and what the step changes of the draft, if it is as it was read."""
    digest = content_digest(one.definition)
    record = provenance(
        step,
        id=one.stored.id,
        digest=digest,
        by=by,
        recorded=instant(gateway.clock.now()),
        says=says,
        version=version_of(one.stored),
    )

    def unless_edited(stored: Stored) -> Definition | None:
        definition = parse(stored.whole())
        if content_digest(definition) != digest or definition.get("status") != "draft":
            raise Conflict(
                f"{one.version} was edited meanwhile: look at it again",
                expression="PlanDefinition",
                rule="rule-set-changed",
            )
        changed: Definition | None = edit(definition)
        return changed

    steps = [
        Step(
            "update",
            "PlanDefinition",
            one.stored.id,
            root="PlanDefinition",
            edit=unless_edited,
        ),
        Step("create", "Provenance", "", root="Provenance", resource=record),
    ]
    await write(gateway, GATEWAY, steps, audit=write_events(gateway, GATEWAY))


# -- in force --------------------------------------------------------------------------------------


async def in_force(gateway: Gateway, institution: str = "") -> RuleSet | None:
    """The rule set by which a question of an institution would be decided now."""
    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        rules = (await known(gateway, reader, gateway.clock.now(), institution)).rules
    return rules.rule_set if rules else None


async def unpublished(gateway: Gateway, resources: Iterable[Definition]) -> list[Definition]:
    """The project's resources without those rule sets that were active here: a release never
    changes what was decided by."""
    kept = []
    for resource in resources:
        if resource["resourceType"] == "PlanDefinition" and is_rule_set(resource):
            async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
                stored = await reader.read("PlanDefinition", resource["id"])
            stands = stored is not None and not stored.deleted
            if stands and parse(stored.whole()).get("status") != "draft":  # type: ignore[union-attr]  # it stands
                continue
        kept.append(resource)
    return kept
