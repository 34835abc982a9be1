"""What may be written of rule sets, whichever way it comes: PUT, PATCH, transaction, command line.

Runs inside every attempt of a write on the snapshot it is judged by (interactions.write), and
guards the commit against everything that was judged: of two processes that activate at once, one
sees what the other did and is judged again. docs/adr/0025-rule-set-lifecycle.md
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from fhir_gateway.context import Gateway
from fhir_gateway.errors import Conflict, GatewayError, Issue, Unprocessable
from fhir_gateway.fhir.wire import parse
from fhir_gateway.interactions.steps import Guards, Step
from fhir_gateway.recognition.known import area_depth, stored_rule_sets
from fhir_gateway.recognition.lint import errors_of
from fhir_gateway.recognition.lists import Views
from fhir_gateway.recognition.rules import RuleSet, is_rule_set, load_rule_set
from fhir_gateway.recognition.rules_lifecycle import (
    Day,
    content_digest,
    deletion_faults,
    step_faults,
)
from fhir_gateway.recognition.rules_proofs import missing, proofs_of
from fhir_gateway.recognition.vocabulary import catalogue_of, vocabulary_of
from fhir_gateway.security.actor import SYSTEM_ACCESS, Actor
from fhir_gateway.store.changes import Settled
from fhir_gateway.store.store import Reader

#: Who activates an experimental rule set without simulation and approval: a demonstration.
DEMONSTRATION = Actor(role="system", name="demonstration", access=SYSTEM_ACCESS)

Definition = dict[str, Any]


async def govern(
    gateway: Gateway, reader: Reader, actor: Actor, steps: Sequence[Step], guards: Guards
) -> None:
    """Judges the rule sets among the steps of a write.

    Raises Conflict where one may not change so, Unprocessable where one may not become active,
    both with the element and the reason.
    """
    mine = [step for step in steps if step.type == "PlanDefinition" and not step.matched]
    concerned = [(step, before) for step in mine if _concerns(step, before := _before(step))]
    if not concerned:
        return
    guards.add(Settled(("PlanDefinition", "Provenance"), (0,), reader.t), ours=True)
    after = {stored.id: definition for stored, definition in await stored_rule_sets(reader)}
    for step in mine:
        after.pop(step.id, None)
        if step.resource is not None and is_rule_set(step.resource):
            after[step.id] = step.resource
    for step, before in concerned:
        try:
            await _judge(gateway, reader, actor, step, before, after)
        except GatewayError as error:
            raise step.placed(error) from None


def _before(step: Step) -> Definition | None:
    if step.current is None or step.current.deleted:
        return None
    return parse(step.current.whole())


def _concerns(step: Step, before: Definition | None) -> bool:
    if before is not None and is_rule_set(before):
        return True
    return step.resource is not None and is_rule_set(step.resource)


async def _judge(
    gateway: Gateway,
    reader: Reader,
    actor: Actor,
    step: Step,
    before: Definition | None,
    after: Mapping[str, Definition],
) -> None:
    if step.resource is None:
        assert before is not None  # only what was a rule set concerns us when it goes
        _refuse(deletion_faults(before))
        return
    if before is not None and not is_rule_set(before):
        before = None  # it was none of ours, and becomes one now
    day = Day(gateway.clock.now(), gateway.settings.zone)
    resource = step.resource
    _refuse([*step_faults(before, resource, day), *_taken(step.id, resource, after)])
    if resource.get("status") == "active" and before and before.get("status") == "draft":
        await _check_activation(gateway, reader, actor, step, after)


def _refuse(faults: Sequence[Issue]) -> None:
    if faults:
        raise Conflict(issues=tuple(faults))


def _taken(id: str, resource: Definition, after: Mapping[str, Definition]) -> Iterator[Issue]:
    """A version is one rule set's for ever: those that were active are never deleted."""
    for other, definition in after.items():
        same = all(definition.get(name) == resource.get(name) for name in ("url", "version"))
        if other != id and same:
            text = f"PlanDefinition/{other} is version {resource.get('version')}: take another"
            yield Issue("conflict", text, "PlanDefinition.version", "rule-set-version")


async def _check_activation(
    gateway: Gateway,
    reader: Reader,
    actor: Actor,
    step: Step,
    after: Mapping[str, Definition],
) -> None:
    resource = step.resource
    assert resource is not None
    rule_set = load_rule_set(resource)
    others = {id: one for id, one in after.items() if id != step.id}
    view = await Views().view(gateway, reader, rule_set, gateway.clock.now())
    errors = errors_of(
        resource,
        view.catalogue if view else catalogue_of(gateway),
        list(others.values()),
        depth=partial(area_depth, gateway),
        contexts=vocabulary_of(gateway),
    )
    if errors:
        raise Unprocessable(issues=tuple(errors))
    _check_place(rule_set, others)
    if rule_set.experimental:
        _check_demonstration(actor, others)
        return
    lacks = missing(await proofs_of(gateway, reader, step.id), content_digest(resource))
    if lacks:
        raise Unprocessable(lacks, expression="PlanDefinition.status", rule="rule-set-approval")
    if not resource.get("approvalDate"):
        text = "A rule set that becomes active says when it was approved"
        path = "PlanDefinition.approvalDate"
        raise Unprocessable(text, expression=path, rule="rule-set-approval")


def _check_place(rule_set: RuleSet, others: Mapping[str, Definition]) -> None:
    """Raises Conflict when another one would be in force at the same level from the same day."""
    for id, definition in others.items():
        if definition.get("status") != "active":
            continue
        try:
            other = load_rule_set(definition)
        except GatewayError:
            continue
        if other.scope[:2] == rule_set.scope[:2] and other.start == rule_set.start:
            raise Conflict(
                f"PlanDefinition/{id} (version {other.version}) is active from the same day for "
                f"the same {other.scope.said()}: retire it in the same transaction",
                expression="PlanDefinition.effectivePeriod.start",
                rule="rule-set-overlap",
            )


def _check_demonstration(actor: Actor, others: Mapping[str, Definition]) -> None:
    """Raises Unprocessable outside of a demonstration, Conflict where real rules were in force."""
    if actor.role != "open" and actor != DEMONSTRATION:
        raise Unprocessable(
            "An experimental rule set is not for use with patients: it becomes active in a "
            "demonstration alone (fhir-gateway rules activate … --demonstration)",
            expression="PlanDefinition.experimental",
            rule="rule-set-experimental",
        )
    for id, definition in others.items():
        if definition.get("status") != "draft" and not definition.get("experimental"):
            raise Conflict(
                f"PlanDefinition/{id} was published for use here: this store is no demonstration",
                expression="PlanDefinition.experimental",
                rule="rule-set-experimental",
            )
