"""Deciding again: the same inputs, the same commit, the same version of the rules, the same bytes.

What could make a difference is checked by name before the bytes are compared, so that a report
says why and not only that. Three things can come of it: every byte agrees, something differs, or
the evidence is no longer in the store (*erased*), which is no difference: what is left must agree.
docs/adr/0013, docs/adr/0032
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Literal, NamedTuple

from fhir_gateway.audit.events import read_event
from fhir_gateway.context import Gateway
from fhir_gateway.errors import GatewayError
from fhir_gateway.fhir.wire import parse
from fhir_gateway.interactions.audit import call_of, disclose, entry
from fhir_gateway.recognition.ask import conclude, read_candidates
from fhir_gateway.recognition.known import InForce, resolved
from fhir_gateway.recognition.lists import view_then
from fhir_gateway.recognition.model import Candidate, Decision
from fhir_gateway.recognition.ordering import access_of
from fhir_gateway.recognition.record import Inputs, render_decided, render_item
from fhir_gateway.recognition.recorded import (
    Brief,
    Recorded,
    RecordedItem,
    brief_of,
    read_decision,
    recorded_of,
)
from fhir_gateway.recognition.rules import RuleSet, load_rule_set
from fhir_gateway.security.actor import SYSTEM_ACCESS, Access, Actor
from fhir_gateway.store.store import Reader, Stored
from fhir_gateway.terminology.catalogue import Catalogue

Verdict = Literal["agrees", "differs", "erased"]

#: Decisions of a page that are decided again beside each other: a server database answers them
#: while others wait.
LANES = 8
#: Rule sets and catalogues of past days that are kept in memory.
_KEPT = 64


class Difference(NamedTuple):
    """Something that is not as it was. `kind` is the same for every decision that differs so."""

    kind: str
    where: str = ""  # order line and item

    def said(self) -> str:
        """The difference as a sentence."""
        return f"{self.where} {self.kind}" if self.where else self.kind


class Replayed(NamedTuple):
    """What came of it. `found` is empty when every byte that could be compared agrees; `erased`
    names the evidence that is no longer in the store."""

    id: str
    rule_set: str
    found: tuple[Difference, ...]
    erased: tuple[str, ...] = ()

    @property
    def agrees(self) -> bool:
        """Whether the decision is what it was, to the byte."""
        return not self.found and not self.erased

    @property
    def verdict(self) -> Verdict:
        """What came of it, in a word."""
        if self.found:
            return "differs"
        return "erased" if self.erased else "agrees"

    @property
    def differences(self) -> tuple[str, ...]:
        """What differs, as sentences."""
        return tuple(one.said() for one in self.found)


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
    brief = Brief(recorded.inputs, recorded.rule_set, recorded.catalogue)
    async with AsyncExitStack() as stack:
        snapshots = _Snapshots(gateway, stack)
        return await Replayer(gateway).decide(snapshots, recorded.stored, brief)


class _Snapshots:
    """Readers of one moment, one for each Access that decisions were made under."""

    def __init__(self, gateway: Gateway, stack: AsyncExitStack) -> None:
        self._gateway, self._stack = gateway, stack
        self._open: dict[Access, Reader] = {}

    async def reader(self, access: Access) -> Reader:
        """The reader of an Access."""
        if access not in self._open:
            snapshot = self._gateway.store.snapshot(access)
            self._open[access] = await self._stack.enter_async_context(snapshot)
        return self._open[access]


class _Rules(NamedTuple):
    rule_set: RuleSet | None
    trouble: str = ""


class Replayer:
    """Decides again, and keeps what many decisions share: rule sets and catalogues."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._rules: dict[str, _Rules] = {}
        self._views: dict[tuple[str, tuple[str, ...]], Catalogue] = {}

    async def page(self, stored: Sequence[Stored]) -> list[Replayed]:
        """What came of each of these GuidanceResponses that holds a decision of ours."""
        lanes = [stored[number::LANES] for number in range(LANES)]
        found = await asyncio.gather(*(self._lane(lane) for lane in lanes if lane))
        return [one for lane in found for one in lane]

    async def _lane(self, stored: Sequence[Stored]) -> list[Replayed]:
        async with AsyncExitStack() as stack:
            snapshots = _Snapshots(self._gateway, stack)
            return [
                await self.decide(snapshots, one, brief)
                for one in stored
                if (brief := brief_of(one)) is not None
            ]

    async def decide(self, snapshots: _Snapshots, stored: Stored, brief: Brief) -> Replayed:
        """Decides one again, and compares."""
        inputs = brief.inputs
        rules = await self._rule_set(snapshots, inputs)
        differences = [Difference(rules.trouble)] if rules.trouble else []
        if rules.rule_set is not None and rules.rule_set.digest != inputs.digest:
            text = f"rule set {inputs.rule_set} has other rules than it had"
            differences.append(Difference(text))
        catalogue = await self._catalogue(snapshots, brief)
        reader = await snapshots.reader(access_of(inputs))
        seen = await read_candidates(reader, inputs, {}, rules.rule_set)
        decision = conclude(inputs, seen, rules.rule_set, catalogue)
        erased: tuple[str, ...] = ()
        if render_decided(decision) not in stored.tail:
            recorded = recorded_of(stored)
            assert recorded is not None
            erased = await _erased(await snapshots.reader(SYSTEM_ACCESS), recorded, seen)
            differences += _compare(recorded, decision, frozenset(erased))
        return Replayed(stored.id, brief.rule_set, tuple(differences), erased)

    async def _rule_set(self, snapshots: _Snapshots, inputs: Inputs) -> _Rules:
        """The recorded version of the rule set, or why there is none."""
        if not inputs.rule_set:
            return _Rules(None)
        if inputs.rule_set not in self._rules:
            if len(self._rules) >= _KEPT:
                self._rules.clear()
            reader = await snapshots.reader(SYSTEM_ACCESS)
            self._rules[inputs.rule_set] = await self._read(reader, inputs.rule_set)
        return self._rules[inputs.rule_set]

    async def _read(self, reader: Reader, versions: str) -> _Rules:
        levels = []
        for named in versions.split():
            type, id, _, version = named.split("/")
            stored = await reader.vread(type, id, int(version))
            if stored is None or stored.deleted:
                return _Rules(None, f"rule set {named} is not in the store")
            try:
                levels.append(InForce(load_rule_set(parse(stored.whole())), named))
            except GatewayError:
                return _Rules(None, f"rule set {named} can no longer be read")
        return _Rules(resolved(self._gateway, levels).rule_set)

    async def _catalogue(self, snapshots: _Snapshots, brief: Brief) -> Catalogue:
        key = (brief.catalogue, brief.inputs.lists)
        if key not in self._views:
            if len(self._views) >= _KEPT:
                self._views.clear()
            reader = await snapshots.reader(SYSTEM_ACCESS)
            self._views[key] = await view_then(self._gateway, reader, *key)
        return self._views[key]


async def _erased(reader: Reader, recorded: Recorded, seen: Sequence[Candidate]) -> tuple[str, ...]:
    """Evidence that the record names and the store has no more, not even its former versions."""
    there = {candidate.source for candidate in seen}
    there |= {candidate.report_source for candidate in seen}
    named = {source for line in recorded.lines for item in line.items for source in item.named}
    gone = []
    for source in sorted(named - there):
        type, _, id = source.partition("/")
        if await reader.read(type, id) is None:
            gone.append(source)
    return tuple(gone)


def _compare(recorded: Recorded, decision: Decision, erased: frozenset[str]) -> list[Difference]:
    """What differs, by order line and item; lines whose evidence was erased cannot be compared."""
    differences = []
    if recorded.catalogue != decision.catalogue:
        text = f"catalogue edition: recorded {recorded.catalogue}, now {decision.catalogue}"
        differences.append(Difference(text))
    before = [(line.key, item) for line in recorded.lines for item in line.items]
    if len(before) != len(decision.items):
        return [*differences, Difference("the ordered items differ")]
    by_place = sorted(decision.items, key=lambda item: _place(before, item.key))
    same = True
    for (key, old), new in zip(before, by_place, strict=True):
        if old.named & erased or render_item(new).encode() in recorded.stored.tail:
            continue
        same = False
        result = new.chosen.source if new.chosen else ""
        where = f"{key} {old.code}"
        differences += [
            Difference(f"{name}: recorded {was}, now {now}", where)
            for name, was, now in (
                ("outcome", old.outcome, new.outcome),
                ("reason", old.reason, new.reason),
            )
            if was != now
        ]
        if old.result != result:
            differences.append(Difference("result: another one than was recorded", where))
    if differences or (same and erased):
        return differences
    return [Difference("the lines of the rules differ")]


def _place(before: Sequence[tuple[str, RecordedItem]], key: str) -> int:
    """Where the order line stands in the record, which keeps the items of a line together."""
    return next((place for place, (line, _) in enumerate(before) if line == key), len(before))
