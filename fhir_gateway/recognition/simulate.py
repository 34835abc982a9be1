"""A draft run over past orders: what would it have decided otherwise? Reads only.

Each recorded decision is taken at its own commit and under its own access, with the person, the
order lines and the situation that were recorded; only the rules are others: the draft in the place
of the rule set of its level, beside the other levels that were used. Decisions are read in pages,
newest first, and counted; nothing is kept of them. docs/adr/0025-rule-set-lifecycle.md
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any
from zlib import crc32

import msgspec

from fhir_gateway.context import Gateway
from fhir_gateway.errors import GatewayError
from fhir_gateway.fhir.wire import parse
from fhir_gateway.recognition.ask import conclude, read_candidates
from fhir_gateway.recognition.known import area_depth
from fhir_gateway.recognition.lists import Views
from fhir_gateway.recognition.model import Decision, Query
from fhir_gateway.recognition.ordering import access_of
from fhir_gateway.recognition.recorded import Recorded, RecordedItem, recorded_of
from fhir_gateway.recognition.rules import RuleSet, load_rule_set
from fhir_gateway.recognition.rules_resolve import resolve
from fhir_gateway.recognition.vocabulary import catalogue_of
from fhir_gateway.security.actor import SYSTEM_ACCESS
from fhir_gateway.store.store import Reader
from fhir_gateway.terminology.catalogue import Catalogue

PAGE = 200
#: Different rows that are counted one by one; what comes after them is counted together.
MOST_ROWS = 100_000
#: Rule sets and lists of past days that are kept in memory.
_KEPT = 64


class Scope(msgspec.Struct, frozen=True):
    """Which decisions: recorded at or after `since` and before `until` (µs), of one institution or
    of all (""). `part` of `parts` says which share of them this process takes."""

    since: int
    until: int
    institution: str = ""
    part: int = 0
    parts: int = 1


class Change(msgspec.Struct, frozen=True, order=True):
    """What one count is about: an item at an institution, as it was decided and as it would be."""

    item: str
    institution: str
    before: str
    before_reason: str
    after: str
    after_reason: str


class Tally(msgspec.Struct):
    """What came of it so far. `skipped` counts decisions by why they say nothing of the draft."""

    decisions: int = 0
    items: int = 0
    changed: int = 0
    other_result: int = 0  # the same outcome by another result
    offers: int = 0  # the same outcome, and now the offer to replace the order
    no_offers: int = 0  # the same outcome, and no longer that offer
    skipped: dict[str, int] = {}
    rows: list[tuple[Change, int]] = []
    more: int = 0  # changed items that no row counts

    def add(self, other: Tally) -> None:
        """Adds the counts of another share."""
        self.decisions += other.decisions
        self.items += other.items
        self.changed += other.changed
        self.other_result += other.other_result
        self.offers += other.offers
        self.no_offers += other.no_offers
        self.more += other.more
        for why, number in other.skipped.items():
            self.skipped[why] = self.skipped.get(why, 0) + number
        counts = dict(self.rows)
        for change, number in other.rows:
            counts[change] = counts.get(change, 0) + number
        self.rows = sorted(counts.items(), key=lambda row: (-row[1], row[0]))


#: The place in the order of commits behind which the next page begins; None: at the newest.
Cursor = tuple[int, int, int] | None


class Simulation:
    """One draft over one share of the past. `page` is called until it gives False."""

    def __init__(
        self, draft: RuleSet, scope: Scope, tally: Tally | None = None, cursor: Cursor = None
    ) -> None:
        self.draft, self.scope = draft, scope
        self.cursor = cursor
        self._tally = tally or Tally()
        self._rows: dict[Change, int] = dict(self._tally.rows)
        self._levels: dict[str, RuleSet | None] = {}
        self._views = Views()

    @property
    def decisions(self) -> int:
        """How many were decided again so far."""
        return self._tally.decisions

    @property
    def tally(self) -> Tally:
        """The counts so far, the most frequent changes first."""
        self._tally.rows = sorted(self._rows.items(), key=lambda row: (-row[1], row[0]))
        return self._tally

    async def page(self, gateway: Gateway) -> bool:
        """Decides the next page of decisions again; False when there are no more."""
        async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
            versions = await reader.changes(
                type="GuidanceResponse", since=self.scope.since, before=self.cursor, limit=PAGE
            )
        for one in versions:
            self.cursor = (one.t, one.n, one.i)
            if one.stored.updated >= self.scope.until or not self._is_mine(one.stored.id):
                continue
            recorded = recorded_of(one.stored)
            if recorded is not None and self._is_concerned(recorded):
                await self._decide(gateway, recorded)
        return len(versions) == PAGE

    def _is_mine(self, id: str) -> bool:
        return crc32(id.encode()) % self.scope.parts == self.scope.part

    def _is_concerned(self, recorded: Recorded) -> bool:
        query = recorded.inputs.query
        if self.scope.institution and query.receiver != self.scope.institution:
            return False
        place = self.draft.scope
        if not place.is_overlay:
            return True
        return place.area in query.receiver_within or (
            bool(place.institution) and place.institution == query.receiver
        )

    def _skip(self, why: str) -> None:
        self._tally.skipped[why] = self._tally.skipped.get(why, 0) + 1

    async def _decide(self, gateway: Gateway, recorded: Recorded) -> None:
        self._tally.decisions += 1
        inputs = recorded.inputs
        async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
            try:
                rules = await self._rules(gateway, reader, recorded)
            except LookupError:
                self._skip("the rule sets it was decided by cannot be read")
                return
            rules, catalogue = await self._seen_by(gateway, reader, rules, inputs.query.as_of_us)
        async with gateway.store.snapshot(access_of(inputs)) as reader:
            seen = await read_candidates(reader, inputs, {}, rules)
        there = {candidate.source for candidate in seen}
        before = [item for line in recorded.lines for item in line.items]
        if any(item.result and item.result not in there for item in before):
            self._skip("evidence was erased since")
            return
        self._count(inputs.query, before, conclude(inputs, seen, rules, catalogue))

    async def _seen_by(
        self, gateway: Gateway, reader: Reader, rules: RuleSet | None, now: int
    ) -> tuple[RuleSet | None, Catalogue]:
        """The rules, and the catalogue as they see it; no rules where a list of theirs lacks."""
        view = await self._views.view(gateway, reader, rules, now) if rules is not None else None
        return (rules, view.catalogue) if view is not None else (None, catalogue_of(gateway))

    def _count(self, query: Query, before: Sequence[RecordedItem], decision: Decision) -> None:
        for old, new in zip(before, decision.items, strict=False):
            self._tally.items += 1
            if (old.outcome, old.reason) == (new.outcome, new.reason):
                result = new.chosen.source if new.chosen else ""
                self._tally.other_result += result != old.result
                self._tally.offers += new.suggest and not old.suggest
                self._tally.no_offers += old.suggest and not new.suggest
                continue
            self._tally.changed += 1
            change = Change(
                old.code, query.receiver, old.outcome, old.reason, new.outcome, new.reason
            )
            if change in self._rows or len(self._rows) < MOST_ROWS:
                self._rows[change] = self._rows.get(change, 0) + 1
            else:
                self._tally.more += 1

    async def _rules(self, gateway: Gateway, reader: Reader, recorded: Recorded) -> RuleSet | None:
        """The draft in its place; None where it would leave a gap. Raises LookupError."""
        levels = [await self._level(reader, name) for name in recorded.inputs.rule_set.split()]
        place = self.draft.scope[:2]
        others = [one for one in levels if one.scope[:2] != place]
        if self.draft.scope.is_overlay:
            bases = [one for one in others if not one.scope.is_overlay]
            base = bases[0] if bases else None
            overlays = [*(one for one in others if one.scope.is_overlay), self.draft]
        else:
            base, overlays = self.draft, others
        if base is None or not all(one.scope.narrows(base.url, base.version) for one in overlays):
            return None
        return resolve(base, overlays, partial(area_depth, gateway))

    async def _level(self, reader: Reader, name: str) -> RuleSet:
        if name not in self._levels:
            type, id, _, version = name.split("/")
            stored = await reader.vread(type, id, int(version))
            found: RuleSet | None = None
            if stored is not None and not stored.deleted:
                try:
                    found = load_rule_set(parse(stored.whole()))
                except GatewayError:
                    found = None  # a criterion of its is not known here any more
            if len(self._levels) >= _KEPT:
                self._levels.clear()
            self._levels[name] = found
        level = self._levels[name]
        if level is None:
            raise LookupError(name)
        return level


def transitions(tally: Tally) -> dict[tuple[str, str], int]:
    """How many items go from one outcome to another, the most frequent first."""
    counts: dict[tuple[str, str], int] = {}
    for change, number in tally.rows:
        key = (change.before, change.after)
        counts[key] = counts.get(key, 0) + number
    return dict(sorted(counts.items(), key=lambda row: (-row[1], row[0])))


def summary(tally: Tally) -> str:
    """One sentence, as it stands in the Provenance of a simulation."""
    skipped = sum(tally.skipped.values())
    text = f"{tally.decisions} decisions, {tally.items} items, {tally.changed} would change"
    return f"{text}, {skipped} left out" if skipped else text


def as_rows(tally: Tally) -> Iterator[dict[str, Any]]:
    """The changes as plain rows, for CSV and JSON."""
    for change, number in tally.rows:
        yield {**msgspec.structs.asdict(change), "count": number}
