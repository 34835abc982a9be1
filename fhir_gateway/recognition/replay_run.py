"""Replays of many decisions: those of a time, in pieces, counted by rule set and by difference.

A piece is a range of commits, so that several processes share a run without reading what is
another's, and a run that was stopped goes on with the pieces that are left. Reads only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import msgspec

from fhir_gateway.context import Gateway
from fhir_gateway.recognition.recorded import receiver_of
from fhir_gateway.recognition.replay import Replayed, Replayer
from fhir_gateway.security.actor import SYSTEM_ACCESS
from fhir_gateway.store.history_times import first_batch, last_batch
from fhir_gateway.store.store import Stored

PAGE = 200
#: Commits of a piece, and most pieces of a run.
_PIECE, _MOST_PIECES = 2_000, 512
#: Different differences that are counted, and decisions named for each and for what was erased.
MOST_KINDS, MOST_NAMED = 1_000, 5


class Scope(msgspec.Struct, frozen=True):
    """Which decisions: recorded at or after `since` and before `until` (µs), of one institution or
    of all ("")."""

    since: int
    until: int
    institution: str = ""


class Piece(msgspec.Struct, frozen=True):
    """Commits from `low` to `high`, both among them."""

    low: int
    high: int


class Counted(msgspec.Struct):
    """How many there were of a rule set, and what came of them."""

    decisions: int = 0
    differ: int = 0
    erased: int = 0


class Kind(msgspec.Struct):
    """A difference that decisions have: how often, and some of them."""

    count: int = 0
    decisions: list[str] = []


class Tally(msgspec.Struct):
    """What came of a run so far. `more` are differences of kinds that no row counts."""

    decisions: int = 0
    differ: int = 0
    erased: int = 0
    rule_sets: dict[str, Counted] = {}
    kinds: dict[str, Kind] = {}
    gone: list[str] = []  # some decisions whose evidence was erased
    more: int = 0

    @property
    def agree(self) -> int:
        """Decisions of which every byte agrees."""
        return self.decisions - self.differ - self.erased

    def count(self, one: Replayed) -> None:
        """Counts what came of a decision."""
        differs, erased = one.verdict == "differs", one.verdict == "erased"
        counted = self.rule_sets.setdefault(one.rule_set, Counted())
        for row in (self, counted):
            row.decisions += 1
            row.differ += differs
            row.erased += erased
        if erased and len(self.gone) < MOST_NAMED:
            self.gone.append(one.id)
        for kind in dict.fromkeys(difference.kind for difference in one.found):
            self._count_kind(kind, Kind(1, [one.id]))

    def add(self, other: Tally) -> None:
        """Adds the counts of another piece."""
        self.decisions += other.decisions
        self.differ += other.differ
        self.erased += other.erased
        self.more += other.more
        self.gone = [*self.gone, *other.gone][:MOST_NAMED]
        for name, row in other.rule_sets.items():
            counted = self.rule_sets.setdefault(name, Counted())
            counted.decisions += row.decisions
            counted.differ += row.differ
            counted.erased += row.erased
        for kind, found in other.kinds.items():
            self._count_kind(kind, found)

    def _count_kind(self, kind: str, found: Kind) -> None:
        if kind not in self.kinds and len(self.kinds) >= MOST_KINDS:
            self.more += found.count
            return
        row = self.kinds.setdefault(kind, Kind())
        row.count += found.count
        row.decisions = [*row.decisions, *found.decisions][:MOST_NAMED]

    def by_frequency(self) -> list[tuple[str, Kind]]:
        """The differences, the most frequent first."""
        return sorted(self.kinds.items(), key=lambda row: (-row[1].count, row[0]))


async def extent(gateway: Gateway, scope: Scope) -> Piece:
    """The commits of a scope; an empty piece (high before low) when there is none."""
    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        low = await reader.steps(lambda _: first_batch(scope.since, reader.t))
        high = await reader.steps(lambda _: last_batch(scope.until - 1, reader.t))
    return Piece(low, high)


def pieces(whole: Piece, jobs: int) -> list[Piece]:
    """The commits cut into pieces, newest first: several for each process, none too small."""
    commits = whole.high - whole.low + 1
    if commits < 1:
        return []
    least = jobs * 4 if jobs > 1 else 1
    number = min(commits, _MOST_PIECES, max(least, commits // _PIECE))
    ends = [whole.low + commits * part // number for part in range(number + 1)]
    return [Piece(low, high - 1) for low, high in pairwise(ends)][::-1]


async def replay_piece(
    gateway: Gateway, replayer: Replayer, piece: Piece, institution: str = ""
) -> Tally:
    """Decides the decisions of these commits again, page by page."""
    tally = Tally()
    before: tuple[int, int, int] | None = None
    while True:
        async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
            versions = await reader.changes(
                type="GuidanceResponse", until_t=piece.high, before=before, limit=PAGE
            )
        mine = [one.stored for one in versions if one.t >= piece.low]
        for replayed in await replayer.page(list(_of(mine, institution))):
            tally.count(replayed)
        if len(versions) < PAGE or len(mine) < len(versions):
            return tally
        before = (versions[-1].t, versions[-1].n, versions[-1].i)


def _of(stored: Sequence[Stored], institution: str) -> Iterator[Stored]:
    """Those that one institution asked for, or all."""
    for one in stored:
        if not institution or receiver_of(one) == institution:
            yield one
