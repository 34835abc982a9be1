"""Step 1 of `decide`: one candidate by every rule, and which of them have to be judged at all."""

from __future__ import annotations

from collections.abc import Sequence
from operator import gt
from typing import Any, NamedTuple

import msgspec

from fhir_gateway.recognition.criteria import NOT_APPLICABLE, PASSED, Finding
from fhir_gateway.recognition.criteria_later import IMPLAUSIBLE
from fhir_gateway.recognition.model import COMING, PENDING, Candidate, Outcome
from fhir_gateway.recognition.rule_set import RANK, Applied, Plan, RuleSet
from fhir_gateway.recognition.situation import Situation

#: Outcomes by the rank of an effect.
OUTCOMES: tuple[Outcome, ...] = ("not-recognizable", "view-only", "recognize")

#: What use a result is, from the best: recognised, plausible, set aside, another thing, void.
Use = int
VOID, OTHER_THING, ASIDE, PLAUSIBLE, USABLE = range(5)

#: What the rules say that do not pass, by their position in the rule set.
Findings = dict[int, Finding]


class Weighed(msgspec.Struct, frozen=True):
    """What follows from the findings on a result."""

    outcome: Outcome
    deciding: int  # position of the rule that decided, -1 when nothing stands in the way
    findings: Findings
    use: Use


class Judged(msgspec.Struct, frozen=True, gc=False):
    """A candidate with its own outcome and the rules that do not pass."""

    candidate: Candidate
    outcome: Outcome
    deciding: int
    findings: Findings
    use: Use


class _Like(NamedTuple):
    """What is found of all results that agree in the fields that rules look at, and what follows
    from it, by what is found of one of them alone."""

    findings: Findings
    weighed: dict[tuple[Finding, ...], Weighed]


#: By `Plan.like`.
_Known = dict[Any, _Like]


def _find(situation: Situation, candidate: Candidate, rules: Sequence[Applied]) -> Findings:
    findings: Findings = {}
    for number, check, parameters in rules:
        finding = check(situation, candidate, parameters)
        if finding is not PASSED:
            findings[number] = finding
    return findings


def _judge(
    situation: Situation, candidate: Candidate, plan: Plan, of_order: Findings, known: _Known
) -> Judged:
    """One candidate by every rule that applies to its kind of result.

    The results of an item are much alike: `known` has what was found of others for such an order.
    """
    key = plan.like(candidate)
    like = known.get(key)
    if like is None:
        like = known[key] = _Like(_find(situation, candidate, plan.of_like) | of_order, {})
    own = tuple([check(situation, candidate, given) for _, check, given in plan.of_result])
    weighed = like.weighed.get(own)
    if weighed is None:
        weighed = like.weighed[own] = _weighed(plan, like.findings, own)
    return Judged(candidate, weighed.outcome, weighed.deciding, weighed.findings, weighed.use)


def _weighed(plan: Plan, common: Findings, own: Sequence[Finding]) -> Weighed:
    rules = zip(plan.of_result, own, strict=True)
    findings = {number: one for (number, _, _), one in rules if one is not PASSED} | common
    if any(finding is not NOT_APPLICABLE for finding in findings.values()):
        outcome, deciding = weigh(findings, plan.ranks)
    else:
        outcome, deciding = "recognize", -1
    return Weighed(outcome, deciding, findings, _use(outcome, findings))


def _use(outcome: Outcome, findings: Findings) -> Use:
    if outcome == "recognize":
        return USABLE
    reasons = {finding[1] for finding in findings.values()}
    if outcome == "not-recognizable":
        return VOID if "void" in reasons else OTHER_THING
    return PLAUSIBLE if reasons.isdisjoint(IMPLAUSIBLE) else ASIDE


def _known_of(situation: Situation, plan: Plan, of_order: Findings) -> _Known:
    """What was found before by these rules, of results for an order of which they find the same.

    It is kept beside the rules for as long as the catalogue is the same, and begins anew when it
    has grown large; what is found again is the same.
    """
    items, orders = plan.kept.get("orders", (None, {}))
    if items is not situation.items or len(orders) > _MOST_ORDERS:
        orders = {}
        plan.kept["orders"] = (situation.items, orders)
    o = situation.ordered
    order = (o.item, o.specimen, o.laterality, o.contrast, o.method, *of_order.items())
    known: _Known | None = orders.get(order)
    if known is None or len(known) > _MOST_LIKE:
        known = orders[order] = {}
    return known


#: Orders that differ to the rules, and results that differ for one of them: a few for each item.
_MOST_ORDERS, _MOST_LIKE = 4_096, 64


def weigh(findings: Findings, ranks: Sequence[int]) -> tuple[Outcome, int]:
    """The outcome, and the position of the first rule that makes it, else -1."""
    failed = unknown = 2  # the lowest rank
    failing = doubtful = -1
    for number, (verdict, _, effect) in findings.items():
        if verdict == "not-applicable":
            continue
        rank = RANK[effect] if effect else ranks[number]
        if verdict == "fail":
            if rank < failed or (rank == failed and number < failing):
                failed, failing = rank, number
        elif rank < unknown or (rank == unknown and number < doubtful):
            unknown, doubtful = rank, number
    if unknown < failed:
        return "cannot-decide", doubtful
    return OUTCOMES[failed], failing


def judge_until_usable(
    situation: Situation, candidates: list[Candidate], rule_set: RuleSet
) -> tuple[list[Judged], list[Candidate]]:
    """The candidates judged, up to one that can be recognised and all that may be newer than it.

    What is certainly older than that one is given back unjudged: nothing depends on it any more.
    """
    plan = rule_set.by_kind[candidates[0].kind]
    of_order = _find(situation, candidates[0], plan.of_order)
    known = _known_of(situation, plan, of_order)
    judged: list[Judged] = []
    for candidate in candidates:
        plan = rule_set.by_kind[candidate.kind]
        one = _judge(situation, candidate, plan, of_order, known)
        judged.append(one)
        if one.outcome == "recognize":
            break
    else:
        return judged, []
    time, high = candidate.time, candidate.time_high
    older: list[Candidate] = []
    for candidate in candidates[len(judged) :]:
        if candidate.time_high > time or (candidate.time == time and candidate.time_high == high):
            plan = rule_set.by_kind[candidate.kind]
            judged.append(_judge(situation, candidate, plan, of_order, known))
        else:  # the usual case: it was over before the usable one began
            older.append(candidate)
    return judged, older


def in_order(candidates: list[Candidate]) -> list[Candidate]:
    """The candidates from the newest to the oldest, whatever order they came in."""
    times = [candidate.time for candidate in candidates]
    if all(map(gt, times, times[1:])):  # a store gives them so
        return candidates
    return sorted(candidates, key=_newest_first)


def _newest_first(candidate: Candidate) -> tuple[int, int, int, str, int]:
    c = candidate
    return (-c.time, -c.time_high, -c.issued, c.source, c.version)


def may_be_newer(other: Judged, chosen: Judged) -> bool:
    """Whether a result is, or within a partly known time may be, newer than the chosen one."""
    a, b = other.candidate, chosen.candidate
    same = a.time == b.time and a.time_high == b.time_high
    return a.issued > b.issued if same else a.time_high > b.time


def is_pending(candidate: Candidate) -> bool:
    """Whether the result is still to come, or not final yet."""
    return bool(candidate.flags & PENDING) or candidate.report_status in COMING


def evidence(candidate: Candidate) -> str:
    """A result with its version, as a line names it."""
    return f"{candidate.source}/_history/{candidate.version}"
