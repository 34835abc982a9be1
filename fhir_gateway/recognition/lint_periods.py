"""Gaps and overlaps in the effective periods of the versions of one level. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date, timedelta
from typing import NamedTuple

from fhir_gateway.errors import Severity
from fhir_gateway.fhir.datatypes import date_range, local_day
from fhir_gateway.recognition.rules import RuleSet

_START, _END = "PlanDefinition.effectivePeriod.start", "PlanDefinition.effectivePeriod.end"
_ZONE = "UTC"  # days are compared with days, so any zone does

#: Severity, element, rule, sentence.
Finding = tuple[Severity, str, str, str]


class Days(NamedTuple):
    """First and last day of a period; open ends are the calendar's own."""

    first: date
    last: date
    version: str


def days_of(rule_set: RuleSet) -> Days:
    """The days of a rule set."""
    first = _day(rule_set.start, last=False) if rule_set.start else date.min
    last = _day(rule_set.end, last=True) if rule_set.end else date.max
    return Days(first, last, rule_set.version)


def _day(text: str, *, last: bool) -> date:
    return local_day(date_range(text, _ZONE)[last], _ZONE)


def judge_periods(rule_set: RuleSet, others: Sequence[RuleSet]) -> Iterator[Finding]:
    """What a version's period leaves open beside the other versions of its level."""
    mine = days_of(rule_set)
    if not rule_set.start:
        text = "The period has no start: the version counts from the day of its activation"
        yield ("warning", _START, "lint-period", text)
    if mine.last < mine.first:
        yield ("error", _END, "lint-period", "The period ends before it begins")
        return
    level = [
        days_of(one)
        for one in others
        if one.scope[:2] == rule_set.scope[:2]
        and one.status == "active"
        and one.canonical != rule_set.canonical
    ]
    for one in level:
        if one.first == mine.first:
            text = f"Version {one.version} begins on the same day: it is retired by activation"
            yield ("warning", _START, "lint-overlap", text)
    before = [one for one in level if one.first < mine.first]
    if before:
        last = max(one.last for one in before)
        if last < mine.first - timedelta(days=1):
            yield ("warning", _START, "lint-gap", _gap(last, mine.first, before))
    after = [one for one in level if one.first > mine.last]
    if after and mine.last != date.max:
        first = min(one.first for one in after)
        covered = any(one.first <= mine.last and one.last >= first for one in level)
        if not covered and first > mine.last + timedelta(days=1):
            yield ("warning", _END, "lint-gap", _gap(mine.last, first, after))
    elif mine.last != date.max and not any(one.last > mine.last for one in level):
        text = f"No version follows: from {mine.last + timedelta(days=1)} nothing can be decided"
        yield ("warning", _END, "lint-gap", text)


def _gap(last: date, first: date, beside: Sequence[Days]) -> str:
    versions = ", ".join(sorted({one.version for one in beside}))
    return (
        f"From {last + timedelta(days=1)} to {first - timedelta(days=1)} no version is in force "
        f"(beside {versions}): nothing can be decided on these days"
    )
