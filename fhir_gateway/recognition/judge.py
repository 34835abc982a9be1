"""Step 1 of `decide`: one candidate by every rule, and which of them have to be judged at all."""

from __future__ import annotations

from collections.abc import Sequence
from operator import gt
from typing import NamedTuple

from fhir_gateway.recognition.criteria import NOT_APPLICABLE, PASSED, Finding
from fhir_gateway.recognition.model import COMING, PENDING, Candidate, Outcome
from fhir_gateway.recognition.rule_set import RANK, Applied, RuleSet
from fhir_gateway.recognition.situation import Situation

#: Outcomes by the rank of an effect.
OUTCOMES: tuple[Outcome, ...] = ("not-recognizable", "view-only", "recognize")

#: What the rules say that do not pass, by their position in the rule set.
Findings = dict[int, Finding]


class Judged(NamedTuple):
    """A candidate with its own outcome and the rules that do not pass."""

    candidate: Candidate
    outcome: Outcome
    deciding: int  # position of the rule that decided, -1 when nothing stands in the way
    findings: Findings


def _find(situation: Situation, candidate: Candidate, rules: Sequence[Applied]) -> Findings:
    findings: Findings = {}
    for number, check, parameters in rules:
        finding = check(situation, candidate, parameters)
        if finding is not PASSED:
            findings[number] = finding
    return findings


def _judge(
    situation: Situation, candidate: Candidate, rule_set: RuleSet, of_order: Findings
) -> Judged:
    """One candidate by every rule that applies to its kind of result."""
    plan = rule_set.by_kind[candidate.kind]
    findings = _find(situation, candidate, plan.of_result)
    if of_order:
        findings |= of_order
    for finding in findings.values():
        if finding is not NOT_APPLICABLE:
            break
    else:
        return Judged(candidate, "recognize", -1, findings)
    outcome, deciding = weigh(findings, plan.ranks)
    return Judged(candidate, outcome, deciding, findings)


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
    judged: list[Judged] = []
    for candidate in candidates:
        one = _judge(situation, candidate, rule_set, of_order)
        judged.append(one)
        if one.outcome == "recognize":
            break
    else:
        return judged, []
    time, high = candidate.time, candidate.time_high
    older: list[Candidate] = []
    for candidate in candidates[len(judged) :]:
        if candidate.time_high > time or (candidate.time == time and candidate.time_high == high):
            judged.append(_judge(situation, candidate, rule_set, of_order))
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
