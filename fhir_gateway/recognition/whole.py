"""An ordered panel as a whole: answered member by member, and by its worst member.

An order line that means several items has one outcome for all of them beside that of each. A line
whose members are not all recognised is neither done nor not done: it is never offered to be left
out. Nothing of it is stored, since it follows from the members. docs/decision.md
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from fhir_gateway.recognition.model import Decision, ItemOutcome, Outcome

#: From the worst. What is undecided may still be refused, so it is worse than view-only.
WORST: Mapping[Outcome, int] = MappingProxyType(
    {"not-recognizable": 0, "cannot-decide": 1, "view-only": 2, "recognize": 3}
)


class Whole(NamedTuple):
    """One order line of several items. `reason` is that of the first member that decides it."""

    key: str
    outcome: Outcome
    reason: str
    suggest: bool  # every member is recognised and may stand in for the order
    members: tuple[ItemOutcome, ...]


def wholes(decision: Decision) -> list[Whole]:
    """The order lines that mean more than one item, in their order."""
    lines: dict[str, list[ItemOutcome]] = {}
    for item in decision.items:
        lines.setdefault(item.key, []).append(item)
    return [_whole(key, items) for key, items in lines.items() if len(items) > 1]


def _whole(key: str, items: list[ItemOutcome]) -> Whole:
    worst = min(items, key=lambda item: WORST[item.outcome])
    suggest = all(item.suggest for item in items)
    return Whole(key, worst.outcome, worst.reason, suggest, tuple(items))
