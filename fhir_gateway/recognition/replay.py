"""Deciding again: the same inputs, the same commit, the same version of the rules, the same bytes.

What could make a difference is checked by name before the bytes are compared, so that a report
says why and not only that. docs/adr/0013
"""

from __future__ import annotations

from typing import NamedTuple

from fhir_gateway.audit.events import read_event
from fhir_gateway.context import Gateway
from fhir_gateway.errors import GatewayError
from fhir_gateway.fhir.wire import parse
from fhir_gateway.interactions.audit import call_of, disclose, entry
from fhir_gateway.recognition.ask import conclude, read_candidates
from fhir_gateway.recognition.known import InForce, resolved
from fhir_gateway.recognition.lists import view_then
from fhir_gateway.recognition.model import Decision
from fhir_gateway.recognition.record import Inputs, render_items
from fhir_gateway.recognition.recorded import Recorded, read_decision
from fhir_gateway.recognition.rules import RuleSet, load_rule_set
from fhir_gateway.security.actor import SYSTEM_ACCESS, Access, Actor
from fhir_gateway.store.store import Reader


class Replayed(NamedTuple):
    """What came of it. `differences` is empty when every byte agrees."""

    id: str
    rule_set: str
    differences: tuple[str, ...]

    @property
    def agrees(self) -> bool:
        """Whether the decision is what it was."""
        return not self.differences


async def replay_decision(gateway: Gateway, actor: Actor, id: str) -> Replayed:
    """Decides one recorded decision again. Raises NotFound."""
    async with gateway.store.snapshot(actor.access) as reader:
        recorded = await read_decision(reader, actor, id)
    if gateway.audit:
        query = recorded.inputs.query
        event = read_event(
            call_of(gateway, actor),
            type="GuidanceResponse",
            id=id,
            patient=query.patient or None,
            interaction="operation",
        )
        await disclose(gateway, [entry(gateway, event, home=query.home)])
    return await replay_recorded(gateway, recorded)


async def replay_recorded(gateway: Gateway, recorded: Recorded) -> Replayed:
    """Decides a decision that was read back again."""
    inputs = recorded.inputs
    differences: list[str] = []
    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        rule_set = await _rule_set(gateway, reader, inputs, differences)
        catalogue = await view_then(gateway, reader, recorded)
    owners = frozenset(inputs.owners) if inputs.owners is not None else None
    async with gateway.store.snapshot(Access(inputs.max_class, owners)) as reader:
        seen = await read_candidates(reader, inputs, {}, rule_set)
    decision = conclude(inputs, seen, rule_set, catalogue)
    differences += _compare(recorded, decision)
    return Replayed(recorded.stored.id, recorded.rule_set, tuple(differences))


async def _rule_set(
    gateway: Gateway, reader: Reader, inputs: Inputs, differences: list[str]
) -> RuleSet | None:
    """The recorded version of the rule set; what is wrong with it is noted."""
    if not inputs.rule_set:
        return None
    levels = []
    for named in inputs.rule_set.split():
        type, id, _, version = named.split("/")
        stored = await reader.vread(type, id, int(version))
        if stored is None or stored.deleted:
            differences.append(f"rule set {named} is not in the store")
            return None
        try:
            levels.append(InForce(load_rule_set(parse(stored.whole())), named))
        except GatewayError:
            differences.append(f"rule set {named} can no longer be read")
            return None
    rule_set = resolved(gateway, levels).rule_set
    if rule_set.digest != inputs.digest:
        differences.append(f"rule set {inputs.rule_set} has other rules than it had")
    return rule_set


def _compare(recorded: Recorded, decision: Decision) -> list[str]:
    """Names of the order lines that differ, and whether any byte does."""
    if render_items(decision) in recorded.stored.tail:
        return []
    differences = []
    if recorded.catalogue != decision.catalogue:
        differences.append(
            f"catalogue edition: recorded {recorded.catalogue}, now {decision.catalogue}"
        )
    before = [(line.key, item) for line in recorded.lines for item in line.items]
    for (key, old), new in zip(before, decision.items, strict=False):
        result = new.chosen.source if new.chosen else ""
        for name, was, now in (
            ("outcome", old.outcome, new.outcome),
            ("reason", old.reason, new.reason),
            ("result", old.result, result),
        ):
            if was != now:
                differences.append(f"{key} {old.code} {name}: recorded {was}, now {now}")
    return differences or ["the lines of the rules differ"]
