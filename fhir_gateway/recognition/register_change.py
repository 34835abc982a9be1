"""Suspending, resuming and expiring evaluations: from a day on, with a reason, nothing rewritten.

What was decided by the register as it stood can be decided again, because every version of a row
keeps the commits from and to which it was true. Pure. docs/evaluations.md
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from fhir_gateway.recognition.register import Entry, with_suspensions
from fhir_gateway.recognition.register_plan import Change, Held
from fhir_gateway.terminology.evaluation import EXPIRED, SUSPENDED, Suspension, day_before


class Chosen(NamedTuple):
    """Which evaluations are meant; "" or nothing leaves it open."""

    institution: str
    items: frozenset[str] = frozenset()
    body: str = ""
    round: str = ""

    def has(self, entry: Entry) -> bool:
        """Whether an entry is one of them."""
        return (
            entry.institution == self.institution
            and entry.passed
            and (not self.items or entry.item in self.items)
            and self.body in ("", entry.body, entry.evaluator)
            and self.round in ("", entry.round)
        )


def suspend(register: Sequence[Held], chosen: Chosen, day: str, reason: str) -> list[Change]:
    """Evaluations that do not count from this day on, until they are resumed."""
    return _change(register, chosen, lambda entry: _stopped(entry, SUSPENDED, day, reason))


def expire(register: Sequence[Held], chosen: Chosen, day: str, reason: str) -> list[Change]:
    """Evaluations that do not count from this day on, for good."""
    return _change(register, chosen, lambda entry: _stopped(entry, EXPIRED, day, reason))


def resume(register: Sequence[Held], chosen: Chosen, day: str, reason: str) -> list[Change]:
    """Evaluations that were suspended, and count again from this day on."""
    return _change(register, chosen, lambda entry: _resumed(entry, day, reason))


def _stopped(entry: Entry, kind: str, day: str, reason: str) -> tuple[Suspension, ...]:
    """The suspensions of an entry with this one; as they are where there is nothing to stop."""
    if entry.end and entry.end < day:
        return entry.suspensions
    for one in entry.suspensions:
        stands = not one.until and one.since <= day
        if stands and (one.kind == EXPIRED or kind == SUSPENDED):
            return entry.suspensions
    return (*entry.suspensions, Suspension(kind, day, "", reason))


def _resumed(entry: Entry, day: str, reason: str) -> tuple[Suspension, ...]:
    return tuple(
        one._replace(until=day_before(day), resumed=reason)
        if one.kind == SUSPENDED and not one.until and one.since <= day
        else one
        for one in entry.suspensions
    )


def _change(
    register: Sequence[Held],
    chosen: Chosen,
    changed: Callable[[Entry], tuple[Suspension, ...]],
) -> list[Change]:
    return list(_changes(register, chosen, changed))


def _changes(
    register: Sequence[Held],
    chosen: Chosen,
    changed: Callable[[Entry], tuple[Suspension, ...]],
) -> Iterator[Change]:
    for one in register:
        before = {entry.item: entry.suspensions for entry in one.entries}
        after = {
            entry.item: changed(entry) if chosen.has(entry) else entry.suspensions
            for entry in one.entries
        }
        if after != before:
            resource = with_suspensions(one.resource, after)
            yield Change(one.stored.id, one.stored.version, resource)
