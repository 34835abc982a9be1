"""How the seats of a bucket are divided among channels: exact, by largest remainder. Pure.

A bucket is institution x department x release period, so that a session of three seats is not
rounded up to a third for each channel. What a rule calls "at least" is rounded up; everything else
is divided by largest remainder, and the sum is always the capacity (domain: Beijing's rule of 30 %
for primary care, half of that with experts). All numbers are integers and fractions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from fractions import Fraction
from math import ceil
from typing import NamedTuple

from fhir_gateway.scheduling.generate import Finding, Period
from fhir_gateway.scheduling.template import Kind, Site

#: Every channel, in the order of release.
CHANNELS = ("out-of-town", "in-consultation", "grassroots-referral", "green-channel", "ordinary")
CLASSES = ("expert", "ordinary")


class Moment(NamedTuple):
    """A time of a day so many days before a release period begins."""

    days_before: int
    minutes: int

    @property
    def before(self) -> int:
        """How many minutes before the period's first midnight: more is earlier."""
        return self.days_before * 1440 - self.minutes


class Share(NamedTuple):
    """The part of one channel. `share` None is the rest; `at_least` is guaranteed, rounded up;
    `expert` is the least part of its seats that are with experts: of all, or of those that are
    guaranteed."""

    channel: str
    share: Fraction | None
    at_least: Fraction
    expert: Fraction
    expert_of_guaranteed: bool
    opens: Moment
    closes: Moment | None
    falls_to: str
    demonstration: bool
    source: str


class Scope(NamedTuple):
    """Institutions that a table is for; None and () say nothing."""

    ranks: tuple[int, ...]
    municipal: bool | None
    core: bool | None


class QuotaTable(NamedTuple):
    """One version of one table of quotas."""

    file: str
    table: str
    version: str
    title_zh: str
    title_en: str
    effective_from: date
    effective_to: date | None
    kind: Kind
    modalities: tuple[str, ...]
    scopes: tuple[Scope, ...]
    priority: int
    period: Period
    shares: tuple[Share, ...]

    @property
    def name(self) -> str:
        """Table and version, as quotas and explanations name it."""
        return f"{self.table} {self.version}"

    def share_of(self, channel: str) -> Share | None:
        """The part of a channel; None for one that the table does not know."""
        return next((one for one in self.shares if one.channel == channel), None)


class Caps(NamedTuple):
    """Seats by channel and class, and what could not be met."""

    seats: Mapping[str, Mapping[str, int]]
    findings: tuple[Finding, ...]


def covers(table: QuotaTable, site: Site, kind: str, modality: str) -> bool:
    """Whether a table is for an institution's departments of this kind and modality."""
    if table.kind != kind or (table.modalities and modality not in table.modalities):
        return False
    return not table.scopes or any(
        (not one.ranks or site.rank in one.ranks)
        and one.municipal in (None, site.municipal)
        and one.core in (None, site.core)
        for one in table.scopes
    )


def in_force(table: QuotaTable, day: date) -> bool:
    """Whether a table holds for what is released for a day."""
    return table.effective_from <= day and not (table.effective_to and day > table.effective_to)


def table_for(tables: Sequence[QuotaTable], site: Site, kind: str, modality: str, day: date
              ) -> QuotaTable | None:  # fmt: skip
    """The table of the highest priority that covers and is in force; None where none is."""
    fit = [one for one in tables if covers(one, site, kind, modality) and in_force(one, day)]
    return max(fit, key=lambda one: one.priority, default=None)


def largest_remainder(total: int, weights: Sequence[Fraction]) -> list[int]:
    """A whole number divided by weights, as exactly as whole numbers allow; the sum is `total`.

    Seats that are left go to the largest remainders, of equal ones to the first. Weights that are
    all 0 leave everything to the last.
    """
    whole = sum(weights, Fraction())
    if not weights or whole == 0:
        return [0] * (len(weights) - 1) + [total] if weights else []
    exact = [total * weight / whole for weight in weights]
    found = [int(one) for one in exact]
    order = sorted(range(len(exact)), key=lambda n: (found[n] - exact[n], n))
    for number in order[: total - sum(found)]:
        found[number] += 1
    return found


def divide(total: int, weights: Sequence[Fraction], least: Sequence[int]) -> list[int]:
    """A whole number divided by weights, none getting less than its least while there is enough.

    Who would fall short gets its least, and the others divide what is left. When the leasts are
    more than there is, the first ones are served first.
    """
    if sum(least) > total:
        served: list[int] = []
        for one in least:
            served.append(min(one, total - sum(served)))
        return served
    fixed: dict[int, int] = {}
    while True:
        free = [number for number in range(len(weights)) if number not in fixed]
        left = total - sum(fixed.values())
        shares = largest_remainder(left, [weights[number] for number in free])
        found = dict(zip(free, shares, strict=True))
        short = [number for number in free if found[number] < least[number]]
        if not short:
            return [fixed.get(number, found.get(number, 0)) for number in range(len(weights))]
        fixed |= {number: least[number] for number in short}


def apportion(table: QuotaTable, experts: int, ordinary: int) -> Caps:
    """The seats of a bucket by channel and class.

    The sums are the capacity, of each class and in all. A least that cannot be met (too few seats,
    too few with experts) is met as far as possible, and told as a finding.
    """
    total = experts + ordinary
    said = sum((one.share for one in table.shares if one.share is not None), Fraction())
    weights = [Fraction(1) - said if one.share is None else one.share for one in table.shares]
    leasts = [ceil(one.at_least * total) for one in table.shares]
    seats = divide(total, weights, leasts)
    wanted = [
        ceil(one.expert * (min(cap, least) if one.expert_of_guaranteed else cap))
        for one, cap, least in zip(table.shares, seats, leasts, strict=True)
    ]
    with_experts = divide(experts, [Fraction(cap) for cap in seats], wanted)
    findings: list[Finding] = []
    for share, cap, least, expert, want in zip(
        table.shares, seats, leasts, with_experts, wanted, strict=True
    ):
        if cap < least:
            findings.append(Finding("quota-short", f"{share.channel} gets {cap} of {total} seats "
                                    f"where {least} are its least: add seats"))  # fmt: skip
        if expert < want:
            findings.append(Finding(
                "quota-expert-short",
                f"{share.channel} gets {expert} seats with experts where {want} of its {cap} "
                f"have to be; there are {experts} in all: add {want - expert} seats with experts",
            ))  # fmt: skip
    return Caps(
        {
            share.channel: {"expert": expert, "ordinary": cap - expert}
            for share, cap, expert in zip(table.shares, seats, with_experts, strict=True)
        },
        tuple(findings),
    )
