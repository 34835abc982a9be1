"""`decide`: which earlier results may stand in for the ordered items. Pure, total, deterministic.

1. Every candidate is judged by every rule (judge.py). What a rule does when it is not met is its
   *effect*. A candidate is *not-recognizable* when a rule with that effect fails, *cannot-decide*
   when an unknown rule could still worsen the outcome, else *view-only* when a rule with that
   effect fails, else *recognize*. An unknown that can change nothing any more decides nothing.
2. Chosen is the newest that may be recognised; without one, the newest that is not
   *not-recognizable*; without one, the newest (newest.py).
3. Any newer result of the item is shown, and may lower *recognize* (newest.py).
4. No candidate is *not-recognizable: none-available-to-you*, and *cannot-decide* where another
   record may be this person's; an order that is not mapped is *cannot-decide: order-not-mapped*; a
   gap between rule sets is *cannot-decide* for all.

docs/decision.md has an example of every outcome.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from fhir_gateway.errors import Invalid
from fhir_gateway.fhir.datatypes import date_range
from fhir_gateway.recognition import newest
from fhir_gateway.recognition.criteria import NOT_APPLICABLE, PASSED, Finding
from fhir_gateway.recognition.judge import (
    Judged,
    evidence,
    in_order,
    is_pending,
    judge_until_usable,
)
from fhir_gateway.recognition.model import (
    Candidate,
    Decision,
    ItemOutcome,
    Line,
    Newer,
    Other,
    Query,
)
from fhir_gateway.recognition.newest import NEWEST_FIRST, Choice
from fhir_gateway.recognition.rule_set import Rule, RuleSet
from fhir_gateway.recognition.situation import ENDLESS, Situation, today, window_start
from fhir_gateway.terminology.catalogue import Catalogue


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
    day, born = today(query), _born(query)
    by_item: dict[str, list[Candidate]] = {}
    for candidate in candidates:
        by_item.setdefault(candidate.item, []).append(candidate)
    decided = []
    for line in query.items:
        code = line.item
        if not code:
            decided.append(ItemOutcome(line.key, None, "cannot-decide", "order-not-mapped"))
        elif rule_set is None:
            decided.append(ItemOutcome(line.key, code, "cannot-decide", "no-rule-set-in-force"))
        else:
            found = by_item.get(code, [])
            if wider := rule_set.wider.get(code):
                found = [*found, *(one for item in wider for one in by_item.get(item, ()))]
            entry = catalogue.items.get(code)
            window = rule_set.window(entry)
            start = window_start(window, rule_set.window_rule, query, day)
            at = Situation(query, line, entry, window, day, start, catalogue.items, born)
            decided.append(_decide_line(at, found, rule_set))
    name, layers = (rule_set.canonical, rule_set.layers) if rule_set is not None else ("", ())
    return Decision(tuple(decided), name, query.as_of_us, query.t, catalogue.edition, layers)


def _born(query: Query) -> int:
    """The first moment of the day of birth, a time before all others when it is not known."""
    try:
        return date_range(query.born, query.zone)[0] if query.born else -ENDLESS
    except Invalid:
        return -ENDLESS


def _decide_line(
    situation: Situation, candidates: list[Candidate], rule_set: RuleSet
) -> ItemOutcome:
    if not candidates:
        return _nothing(situation)
    return _combine(situation, in_order(candidates), rule_set)


def _nothing(situation: Situation) -> ItemOutcome:
    """Nothing is on file; undecided where another record that may be this person's may hold it."""
    identity = situation.query.identity
    reason = "none-available-to-you"
    if identity.contested:
        reason = "identity-contested"
    elif identity.doubtful:
        reason = "confirm-identity"
    return ItemOutcome(
        situation.ordered.key,
        situation.ordered.item,
        "not-recognizable" if reason == "none-available-to-you" else "cannot-decide",
        reason,
        window_days=situation.window.days,
        window_source=situation.window.source,
    )


def _combine(situation: Situation, candidates: list[Candidate], rule_set: RuleSet) -> ItemOutcome:
    """Steps 2 and 3, on candidates sorted newest first."""
    judged, older = judge_until_usable(situation, candidates, rule_set)
    choice = newest.choose(situation, judged, rule_set)
    if choice is None:  # nothing but what is void
        void = tuple([_other(situation, one, rule_set) for one in judged])
        return msgspec.structs.replace(_nothing(situation), others=void)
    chosen = choice.chosen
    lines = _lines(situation, choice, rule_set)
    outcome, reason = newest.lowered(choice)
    others = [_other(situation, other, rule_set) for other in judged if other is not chosen]
    if older:
        line = _superseded(rule_set, evidence(chosen.candidate))
        others += [Other(c.source, c.version, "superseded", line) for c in older]
    return ItemOutcome(
        key=situation.ordered.key,
        item=situation.ordered.item,
        outcome=outcome,
        reason=reason,
        chosen=chosen.candidate,
        lines=tuple(lines),
        others=tuple(others),
        newer=tuple(
            [
                Newer(other.candidate, other.outcome, is_pending(other.candidate))
                for other in choice.newer
            ]
        ),
        suggest=outcome == "recognize" and not choice.aside and _suggests(chosen, rule_set.rules),
        window_days=situation.window.days,
        window_source=situation.window.source,
        ground=_ground(chosen, lines),
        window_from=_window_from(chosen.candidate, rule_set),
    )


def _superseded(rule_set: RuleSet, named: str) -> Line:
    rule = rule_set.newest
    name, clause = (rule.name, rule.clause) if rule is not None else (NEWEST_FIRST, "")
    return Line(name, "fail", "superseded", "view-only", named, clause)


def _window_from(chosen: Candidate, rule_set: RuleSet) -> int:
    """The time from which the chosen one's window counts, 0 when it is not known."""
    rule = rule_set.window_rule
    return chosen.issued if rule is not None and rule.start == "issued" else chosen.time


def _lines(situation: Situation, choice: Choice, rule_set: RuleSet) -> list[Line]:
    """One line for each rule, in their order, and what is said of results set aside."""
    candidate, findings = choice.chosen.candidate, choice.chosen.findings
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
    if rule_set.newest is None:
        lines.append(choice.last)
    else:
        lines[rule_set.newest_at] = choice.last
    lines += choice.aside
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
        line = _superseded(rule_set, "")
        return Other(candidate.source, candidate.version, other.outcome, line)
    rule, finding = rule_set.rules[other.deciding], other.findings[other.deciding]
    line = _line(situation, candidate, rule, finding)
    return Other(candidate.source, candidate.version, other.outcome, line)


def _suggests(chosen: Judged, rules: Sequence[Rule]) -> bool:
    """Whether no rule of the chosen one withholds the offer to replace the order."""
    for number, finding in chosen.findings.items():
        effect = finding[2] or rules[number].criterion.effect
        if effect == "no-suggestion" and finding is not NOT_APPLICABLE:
            return False
    return True


def _ground(chosen: Judged, lines: Sequence[Line]) -> str:
    """The lawful ground that a rule points to which is not met, "" when there is none."""
    for number in sorted(chosen.findings):
        ground = lines[number].values.get("ground")
        if ground:
            return str(ground)
    return ""
