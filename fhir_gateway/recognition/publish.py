"""Publishing rule sets: an operator's act, audited, in force with the next question.

A rule set is a stored PlanDefinition; its status alone says whether it counts. Activating one that
is in force from now on retires the one that was, in the same commit, so that there is never a
moment with two or with none. docs/adr/0012
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from fhir_gateway.audit.events import update_event
from fhir_gateway.context import Gateway
from fhir_gateway.errors import Conflict, GatewayError, Issue, NotFound
from fhir_gateway.interactions.audit import call_of, entry
from fhir_gateway.interactions.prepare import prepare
from fhir_gateway.recognition.known import known, stored_rule_sets
from fhir_gateway.recognition.rules import RuleSet, load_rule_set
from fhir_gateway.security.actor import GATEWAY, SYSTEM_ACCESS
from fhir_gateway.store.changes import ChangeSet, VersionIs
from fhir_gateway.store.store import Stored


class Listed(NamedTuple):
    """A rule set in the store. `rule_set` is None when it cannot be read; `issues` says why."""

    stored: Stored
    definition: dict[str, Any]
    rule_set: RuleSet | None
    issues: tuple[Issue, ...]

    @property
    def version(self) -> str:
        """The version that the PlanDefinition claims."""
        return str(self.definition.get("version", ""))


async def rule_sets(gateway: Gateway) -> list[Listed]:
    """Every rule set of the store, by url and version."""
    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        pairs = await stored_rule_sets(reader)
    return [_listed(stored, definition) for stored, definition in pairs]


def _listed(stored: Stored, definition: dict[str, Any]) -> Listed:
    try:
        return Listed(stored, definition, load_rule_set(definition), ())
    except GatewayError as error:
        return Listed(stored, definition, None, error.issues)


def named(found: Sequence[Listed], version: str) -> Listed:
    """The rule set of this version. Raises NotFound, Conflict when several claim it."""
    matching = [one for one in found if one.version == version]
    if not matching:
        known = ", ".join(one.version for one in found) or "none"
        raise NotFound(f"There is no rule set {version}; known: {known}", rule="rule-set")
    if len(matching) > 1:
        raise Conflict(f"Several rule sets claim the version {version}", rule="rule-set")
    return matching[0]


async def activate(gateway: Gateway, version: str) -> list[str]:
    """Puts a rule set in force and retires the one it replaces; returns the changed versions.

    One whose period begins later changes nothing until then. Raises NotFound, Unprocessable for
    one that cannot be read, PreconditionFailed when somebody else changed one meanwhile.
    """
    found = await rule_sets(gateway)
    chosen = named(found, version)
    rule_set = load_rule_set({**chosen.definition, "status": "active"})
    changes = [(chosen, "active")]
    if rule_set.in_force(gateway.clock.now(), gateway.settings.zone):
        others = (one for one in found if one is not chosen)
        changes += [(one, "retired") for one in others if one.definition["status"] == "active"]
    return await _commit(gateway, changes)


async def retire(gateway: Gateway, version: str) -> list[str]:
    """Takes a rule set out of force. Without another every answer is *cannot-decide*."""
    return await _commit(gateway, [(named(await rule_sets(gateway), version), "retired")])


async def _commit(gateway: Gateway, changes: Sequence[tuple[Listed, str]]) -> list[str]:
    changes = [(one, status) for one, status in changes if one.definition["status"] != status]
    if not changes:
        return []
    call = call_of(gateway, GATEWAY)
    puts, guards, journal = [], [], []
    for one, status in changes:
        stored = one.stored
        resource = {**one.definition, "status": status}
        puts.append(prepare(gateway, resource, op="update", institution=None))
        guards.append(VersionIs(stored.type, stored.id, stored.version))
        event = update_event(call, type=stored.type, id=stored.id, version=stored.version + 1)
        journal.append(entry(gateway, event))
    await gateway.store.commit(
        ChangeSet(id=gateway.random(16), guards=list(guards), puts=puts, journal=journal)
    )
    return [f"{one.version} {status}" for one, status in changes]


async def in_force(gateway: Gateway) -> RuleSet | None:
    """The rule set by which a question would be decided now."""
    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        rules = (await known(gateway, reader, gateway.clock.now())).rules
    return rules.rule_set if rules else None
