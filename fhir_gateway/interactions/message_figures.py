"""The figures of an institution's messages: counters, lag, what waits. docs/messages.md

Counters are kept in the commit of each message; lag is of the newest that state a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from fhir_gateway.context import Gateway
from fhir_gateway.security.actor import SYSTEM_ACCESS
from fhir_gateway.store.message_figures import Recent, Waiting, recent_steps, waiting_steps
from fhir_gateway.store.messages import Count, count_steps


class Lag(NamedTuple):
    """How long after a stated time messages came, in seconds: the last, the median and the 95th
    of a hundred; `of` is how many stated one. Below zero: the sender's clock is ahead."""

    of: int
    last: float
    median: float
    p95: float


class Figures(NamedTuple):
    """All figures of one institution. `message` is the lag behind the time that a message says of
    itself, `report` behind the time at which its report was issued; None where none was stated."""

    institution: str
    counts: Sequence[Count]
    message: Lag | None
    report: Lag | None
    waiting: Sequence[Waiting]
    recent: Sequence[Recent]

    @property
    def total(self) -> Count:
        """All doors and kinds together."""
        rows = self.counts
        return Count(
            self.institution, "", "", sum(row.received for row in rows),
            sum(row.stored for row in rows), sum(row.flagged for row in rows),
            sum(row.refused for row in rows), sum(row.repeated for row in rows),
            max((row.last for row in rows), default=0),
        )  # fmt: skip


async def figures(gateway: Gateway, institution: str) -> Figures:
    """The figures of an institution; all zero for one that never sent anything."""
    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        counts = await reader.steps(lambda _: count_steps(institution))
        recent = await reader.steps(lambda _: recent_steps(institution))
        waiting = await reader.steps(lambda _: waiting_steps(institution))
    stated = [one.received - one.stated for one in recent if one.stated]
    issued = [one.received - one.issued for one in recent if one.issued]
    return Figures(institution, counts, _lag(stated), _lag(issued), waiting, recent)


def _lag(microseconds: Sequence[int]) -> Lag | None:
    """The lag of messages, the newest first."""
    if not microseconds:
        return None
    seconds = [one / 1_000_000 for one in microseconds]
    ordered = sorted(seconds)
    return Lag(len(ordered), seconds[0], _at(ordered, 0.5), _at(ordered, 0.95))


def _at(ordered: Sequence[float], share: float) -> float:
    """The value that this share of all does not exceed (nearest rank)."""
    rank = -(-len(ordered) * int(share * 100) // 100)
    return ordered[max(rank, 1) - 1]


async def counts_of_all(gateway: Gateway) -> tuple[list[Count], list[Waiting]]:
    """Counters and dead letters of all institutions: for the operator's metrics."""
    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        counts = await reader.steps(lambda _: count_steps())
        return counts, await reader.steps(lambda _: waiting_steps())
