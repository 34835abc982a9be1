"""`decide`: which earlier results may stand in for the ordered items. Pure, total, deterministic.

1. Every candidate is judged by every rule. What a rule does when it is not met is its *effect*. A
   candidate is *not-recognizable* when a rule with that effect fails, *cannot-decide* when an
   unknown rule could still worsen the outcome, else *view-only* when a rule with that effect
   fails, else *recognize*. An unknown that can change nothing any more decides nothing.
2. Chosen is the newest that may be recognised; without one, the newest that is not
   *not-recognizable*; without one, the newest.
3. Any newer result of the item is shown, and lowers *recognize*: to *cannot-decide* when it is
   itself undecided, otherwise to *view-only*. Results that are void or another thing lower nothing.
4. No candidate is *not-recognizable: none-available-to-you*; an order that is not mapped is
   *cannot-decide: order-not-mapped*; a gap between rule sets is *cannot-decide* for all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from fhir_gateway.recognition.criteria import NOT_APPLICABLE, PASSED, Finding
from fhir_gateway.recognition.model import (
    COMING,
    PENDING,
    Candidate,
    Decision,
    ItemOutcome,
    Line,
    Newer,
    OrderedItem,
    Other,
    Outcome,
    Query,
)
from fhir_gateway.recognition.rules import RANK, Applied, Rule, RuleSet
from fhir_gateway.recognition.situation import Situation, midnight, today
from fhir_gateway.terminology.catalogue import Catalogue

#: The rule of step 3, part of every rule set.
NEWEST_FIRST = "newest-first@1"

_OUTCOMES: tuple[Outcome, ...] = ("not-recognizable", "view-only", "recognize")


#: What the rules say that do not pass, by their position in the rule set.
Findings = dict[int, Finding]


class Judged(NamedTuple):
    """A candidate with its own outcome and the rules that do not pass."""

    candidate: Candidate
    outcome: Outcome
    deciding: int  # position of the rule that decided, -1 when nothing stands in the way
    findings: Findings


def decide(
    query: Query,
    candidates: Sequence[Candidate],
    rule_set: RuleSet | None,
    catalogue: Catalogue,
) -> Decision:
    """The outcome of every order line. The same arguments give the same Decision, always.

    Never fails: what is missing or contradictory is an outcome. Candidates of items that were not
    asked for are left out; `rule_set` None says that none was in force.
    """
    day = today(query)
    by_item: dict[str, list[Candidate]] = {}
    for candidate in candidates:
        by_item.setdefault(candidate.item, []).append(candidate)
    items = tuple(
        [
            _decide_line(query, line, by_item.get(line.item or "", []), rule_set, catalogue, day)
            for line in query.items
        ]
    )
    name, layers = (rule_set.canonical, rule_set.layers) if rule_set is not None else ("", ())
    return Decision(items, name, query.as_of_us, query.t, catalogue.edition, layers)


def _decide_line(
    query: Query,
    line: OrderedItem,
    candidates: list[Candidate],
    rule_set: RuleSet | None,
    catalogue: Catalogue,
    day: int,
) -> ItemOutcome:
    if not line.item:
        return ItemOutcome(line.key, None, "cannot-decide", "order-not-mapped")
    if rule_set is None:
        return ItemOutcome(line.key, line.item, "cannot-decide", "no-rule-set-in-force")
    entry = catalogue.items.get(line.item)
    window = rule_set.window(entry)
    if not candidates:
        # a record of the same document under another name may hold the result: not "none"
        contested = query.identity.contested
        return ItemOutcome(
            line.key,
            line.item,
            "cannot-decide" if contested else "not-recognizable",
            "identity-contested" if contested else "none-available-to-you",
            window_days=window.days,
            window_source=window.source,
        )
    start = 0 if window.days is None else midnight(day - window.days, query.zone)
    situation = Situation(query, line, entry, window, day, start)
    if len(candidates) > 1:
        candidates = sorted(candidates, key=_newest_first)
    return _combine(situation, candidates, rule_set)


def _newest_first(candidate: Candidate) -> tuple[int, int, int, str, int]:
    c = candidate
    return (-c.time, -c.time_high, -c.issued, c.source, c.version)


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
    """Step 1: one candidate by every rule that applies to its kind of result."""
    plan = rule_set.by_kind[candidate.kind]
    findings = _find(situation, candidate, plan.of_result)
    if of_order:
        findings |= of_order
    for finding in findings.values():
        if finding is not NOT_APPLICABLE:
            break
    else:
        return Judged(candidate, "recognize", -1, findings)
    outcome, deciding = _weigh(findings, plan.ranks)
    return Judged(candidate, outcome, deciding, findings)


def _weigh(findings: Findings, ranks: Sequence[int]) -> tuple[Outcome, int]:
    """Step 1: the outcome, and the position of the first rule that makes it, else -1."""
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
    return _OUTCOMES[failed], failing


def _combine(situation: Situation, candidates: list[Candidate], rule_set: RuleSet) -> ItemOutcome:
    """Steps 2 and 3, on candidates sorted newest first."""
    judged, older = _judge_until_usable(situation, candidates, rule_set)
    chosen = _choose(judged)
    newer = [other for other in judged if other is not chosen and _may_be_newer(other, chosen)]
    lowering = [other for other in newer if other.outcome in ("view-only", "cannot-decide")]
    lines = _lines(situation, chosen, rule_set)
    last = _newest_first_line(lowering) if lowering else _NOTHING_NEWER
    outcome, reason = _lowered(chosen, last)
    others = [_other(situation, other, rule_set) for other in judged if other is not chosen]
    if older:
        line = msgspec.structs.replace(_SUPERSEDED, evidence=_evidence(chosen.candidate))
        others += [Other(c.source, c.version, "superseded", line) for c in older]
    return ItemOutcome(
        key=situation.ordered.key,
        item=situation.ordered.item,
        outcome=outcome,
        reason=reason,
        chosen=chosen.candidate,
        lines=(*lines, last),
        others=tuple(others),
        newer=tuple(
            [
                Newer(other.candidate, other.outcome, _is_pending(other.candidate))
                for other in newer
                if not _is_void(other)
            ]
        ),
        suggest=outcome == "recognize" and _suggests(chosen, rule_set.rules),
        window_days=situation.window.days,
        window_source=situation.window.source,
        ground=_ground(chosen, lines),
    )


def _judge_until_usable(
    situation: Situation, candidates: list[Candidate], rule_set: RuleSet
) -> tuple[list[Judged], list[Candidate]]:
    """The candidates judged, up to one that can be recognised and all that may be newer than it.

    What is certainly older than that one is given back unjudged: nothing depends on it any more.
    """
    plan = rule_set.by_kind[candidates[0].kind]
    of_order = _find(situation, candidates[0], plan.of_order)
    judged: list[Judged] = []
    older: list[Candidate] = []
    usable: Judged | None = None
    for candidate in candidates:
        if usable is not None and _surely_older(candidate, usable.candidate):
            older.append(candidate)
            continue
        one = _judge(situation, candidate, rule_set, of_order)
        judged.append(one)
        if usable is None and one.outcome == "recognize":
            usable = one
    return judged, older


def _choose(judged: list[Judged]) -> Judged:
    for other in judged:
        if other.outcome == "recognize":
            return other
    for other in judged:
        if other.outcome != "not-recognizable":
            return other
    return judged[0]


def _same_time(a: Candidate, b: Candidate) -> bool:
    return a.time == b.time and a.time_high == b.time_high


def _surely_older(a: Candidate, b: Candidate) -> bool:
    return a.time_high <= b.time and not _same_time(a, b)


def _may_be_newer(other: Judged, chosen: Judged) -> bool:
    """Whether a result is, or within a partly known time may be, newer than the chosen one."""
    a, b = other.candidate, chosen.candidate
    return a.issued > b.issued if _same_time(a, b) else a.time_high > b.time


def _is_pending(candidate: Candidate) -> bool:
    return bool(candidate.flags & PENDING) or candidate.report_status in COMING


def _is_void(judged: Judged) -> bool:
    return judged.deciding >= 0 and judged.findings[judged.deciding][1] == "void"


def _newest_first_line(lowering: list[Judged]) -> Line:
    undecided = [other for other in lowering if other.outcome == "cannot-decide"]
    evidence = _evidence((undecided or lowering)[0].candidate)
    if undecided:
        return Line(NEWEST_FIRST, "unknown", "newer-undecided", "view-only", evidence, "")
    return Line(NEWEST_FIRST, "fail", "newer-result", "view-only", evidence, "")


_NOTHING_NEWER = Line(NEWEST_FIRST, "pass", "", "view-only", "", "")
_SUPERSEDED = Line(NEWEST_FIRST, "fail", "superseded", "view-only", "", "")


def _lowered(chosen: Judged, last: Line) -> tuple[Outcome, str]:
    if chosen.outcome != "recognize":
        return chosen.outcome, chosen.findings[chosen.deciding][1]
    if last.verdict == "pass":
        return "recognize", "usable"
    return ("cannot-decide" if last.verdict == "unknown" else "view-only"), last.reason


def _lines(situation: Situation, judged: Judged, rule_set: RuleSet) -> list[Line]:
    candidate, findings = judged.candidate, judged.findings
    plan = rule_set.by_kind[candidate.kind]
    lines = list(plan.lines)
    for number, rule in plan.told:
        if number not in findings:
            lines[number] = _line(situation, candidate, rule, PASSED)
    for number, finding in findings.items():
        rule = rule_set.rules[number]
        if finding is NOT_APPLICABLE:
            lines[number] = rule.not_applicable
        else:
            lines[number] = _line(situation, candidate, rule, finding)
    return lines


def _line(situation: Situation, candidate: Candidate, rule: Rule, finding: Finding) -> Line:
    verdict, reason, effect = finding
    values = rule.criterion.explain(situation, candidate, rule.parameters)
    return Line(
        rule.name, verdict, reason, effect or rule.criterion.effect, "", rule.clause, values
    )


def _other(situation: Situation, other: Judged, rule_set: RuleSet) -> Other:
    """One that is not chosen; when it could be recognised, another one of that kind is newer."""
    candidate = other.candidate
    if other.deciding < 0:
        return Other(candidate.source, candidate.version, other.outcome, _SUPERSEDED)
    rule, finding = rule_set.rules[other.deciding], other.findings[other.deciding]
    line = _line(situation, candidate, rule, finding)
    return Other(candidate.source, candidate.version, other.outcome, line)


def _evidence(candidate: Candidate) -> str:
    return f"{candidate.source}/_history/{candidate.version}"


def _suggests(chosen: Judged, rules: Sequence[Rule]) -> bool:
    """Whether no rule of the chosen one withholds the offer to replace the order."""
    return not any(
        finding is not NOT_APPLICABLE
        and (finding[2] or rules[number].criterion.effect) == "no-suggestion"
        for number, finding in chosen.findings.items()
    )


def _ground(chosen: Judged, lines: Sequence[Line]) -> str:
    """The lawful ground that a rule points to which is not met, "" when there is none."""
    for number in sorted(chosen.findings):
        ground = lines[number].values.get("ground")
        if ground:
            return str(ground)
    return ""
