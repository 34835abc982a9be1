"""Steps 2 and 3 of `decide`: which result is chosen, and what newer ones make of it.

`newest-first@1` holds in every rule set that names no later version: any newer result lowers.
`newest-first@2` is a rule with a table of change limits. Every newer result that is not void is
shown; one that is pending, critical, or farther from the chosen value than the item's limit leaves
the outcome at most *view-only*. One of another specimen, side or kind lowers nothing unless it is
critical. A result whose times cannot be is set aside and said, and lowers only when it is critical;
a void one is never evidence. Of two values of one moment neither is the older one.
docs/decision.md, docs/adr/0029.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Context, Decimal
from typing import Any, NamedTuple

from fhir_gateway.recognition.criteria_later import IMPLAUSIBLE
from fhir_gateway.recognition.findings import PASSED, Finding
from fhir_gateway.recognition.judge import (
    ASIDE,
    OUTCOMES,
    VOID,
    Judged,
    evidence,
    is_pending,
    may_be_newer,
)
from fhir_gateway.recognition.model import CRITICAL, Candidate, Line, Outcome
from fhir_gateway.recognition.parameters import ChangeLimits
from fhir_gateway.recognition.rule_set import RANK, Rule, RuleSet
from fhir_gateway.recognition.situation import Situation
from fhir_gateway.terminology.catalogue import Item
from fhir_gateway.terminology.unit import compare_units

#: The rule of every rule set that names none of its own.
NEWEST_FIRST = "newest-first@1"


class Choice(NamedTuple):
    """What the answer is about. `newer` are shown; `last` is what newest-first says of them, and
    `aside` what is said of results that are no evidence."""

    chosen: Judged
    newer: list[Judged]
    last: Line
    aside: tuple[Line, ...] = ()


def choose(situation: Situation, judged: list[Judged], rule_set: RuleSet) -> Choice | None:
    """The result to answer with; None when there are none but void ones."""
    if rule_set.newest is None:
        return _choose_1(judged)
    return _choose_2(situation, judged, rule_set, rule_set.newest)


def lowered(choice: Choice) -> tuple[Outcome, str]:
    """The outcome with its reason, after what newer results say."""
    chosen, last = choice.chosen, choice.last
    if chosen.outcome != "recognize":
        return chosen.outcome, chosen.findings[chosen.deciding][1]
    if last.verdict == "pass":
        return "recognize", "usable"
    if last.verdict == "unknown":
        return "cannot-decide", last.reason
    return OUTCOMES[RANK[last.effect]], last.reason


# -- the first version -----------------------------------------------------------------------------

_NOTHING_NEWER = Line(NEWEST_FIRST, "pass", "", "view-only", "", "")


def _choose_1(judged: list[Judged]) -> Choice:
    chosen = _first(judged)
    newer = [other for other in judged if other is not chosen and may_be_newer(other, chosen)]
    lowering = [other for other in newer if other.outcome in ("view-only", "cannot-decide")]
    last = _line_1(lowering) if lowering else _NOTHING_NEWER
    return Choice(chosen, [other for other in newer if not _decided_void(other)], last)


def _first(judged: list[Judged]) -> Judged:
    for other in judged:
        if other.outcome == "recognize":
            return other
    for other in judged:
        if other.outcome != "not-recognizable":
            return other
    return judged[0]


def _decided_void(judged: Judged) -> bool:
    return judged.deciding >= 0 and judged.findings[judged.deciding][1] == "void"


def _line_1(lowering: list[Judged]) -> Line:
    undecided = [other for other in lowering if other.outcome == "cannot-decide"]
    named = evidence((undecided or lowering)[0].candidate)
    if undecided:
        return Line(NEWEST_FIRST, "unknown", "newer-undecided", "view-only", named, "")
    return Line(NEWEST_FIRST, "fail", "newer-result", "view-only", named, "")


# -- the second version ----------------------------------------------------------------------------


def _choose_2(
    situation: Situation, judged: list[Judged], rule_set: RuleSet, rule: Rule
) -> Choice | None:
    if len(judged) == 1 and judged[0].outcome == "recognize":  # the usual case
        return Choice(judged[0], [], rule.passed)
    chosen = judged[0]
    for one in judged:
        if one.use > chosen.use:
            chosen = one
    if chosen.use == VOID:
        return None
    newer: list[Judged] = []
    weighing: list[Judged] = []
    aside: list[Judged] = []
    began = chosen.candidate.time
    for one in judged:
        if one.candidate.time_high < began or one is chosen or one.use == VOID:
            continue
        if may_be_newer(one, chosen) or _beside(one.candidate, chosen.candidate):
            newer.append(one)
            if one.use == ASIDE:
                aside.append(one)
            if one.use != ASIDE or one.candidate.flags & CRITICAL:
                weighing.append(one)
    last = _line_2(situation, chosen.candidate, weighing, rule)
    return Choice(chosen, newer, last, _said(aside, rule_set))


def _beside(other: Candidate, chosen: Candidate) -> bool:
    """Whether a result of the very same moment has another value, and nothing says which of the
    two is the later one: the order in which they happen to stand may not choose."""
    same = other.time == chosen.time and other.time_high == chosen.time_high
    undated = other.issued == chosen.issued or not (other.issued and chosen.issued)
    differs = bool(other.value) and (other.value, other.unit) != (chosen.value, chosen.unit)
    return same and undated and differs


def _line_2(
    situation: Situation, chosen: Candidate, weighing: Sequence[Judged], rule: Rule
) -> Line:
    """The newest that lowers for certain, else the newest that may, else that none does."""
    against = [(one, _against(situation, one, chosen, rule.parameters)) for one in weighing]
    certain = next((pair for pair in against if pair[1][0] == "fail"), None)
    worst = certain or next((pair for pair in against if pair[1][0] == "unknown"), None)
    if worst is not None:
        one, (verdict, reason, _) = worst
    elif weighing:
        one, verdict, reason = weighing[0], "pass", "newer-agrees"
    else:
        return rule.passed
    values = _limit(chosen.item, rule.parameters) if reason in _COMPARED else {}
    effect = rule.criterion.effect
    return Line(rule.name, verdict, reason, effect, evidence(one.candidate), rule.clause, values)


#: Reasons whose sentences name the limit.
_COMPARED = frozenset({"newer-changed", "newer-agrees"})


def _limit(item: str, p: Any) -> dict[str, str | int]:
    """The limit of an item, and where it is from, as a sentence names them."""
    parts = (f"{p.percent[item]}%" if item in p.percent else "", p.absolute.get(item, ""))
    limit = " / ".join(part for part in parts if part)
    return {"limit": limit, "source": p.source} if limit else {}


def _said(aside: Sequence[Judged], rule_set: RuleSet) -> tuple[Line, ...]:
    """One line for all results that are set aside; it withholds the suggestion."""
    if not aside:
        return ()
    one = aside[0]
    number, (verdict, _, _) = next(
        (n, finding) for n, finding in one.findings.items() if finding[1] in IMPLAUSIBLE
    )
    rule = rule_set.rules[number]
    values: dict[str, str | int] = {"count": len(aside)}
    named = evidence(one.candidate)
    return (Line(rule.name, verdict, "set-aside", "no-suggestion", named, rule.clause, values),)


def _against(s: Situation, newer: Judged, chosen: Candidate, p: Any) -> Finding:
    """What one newer result makes of the chosen one."""
    candidate = newer.candidate
    if candidate.flags & CRITICAL:
        return ("fail", "newer-critical", None)
    if newer.outcome == "not-recognizable":  # another specimen, side or kind of examination
        return PASSED
    if is_pending(candidate):
        return ("fail", "newer-pending", None)
    return compare_values(s.entry, candidate, chosen, p)


def compare_values(
    entry: Item | None, newer: Candidate, older: Candidate, p: ChangeLimits
) -> Finding:
    """Whether a newer value says the same as an older one, within the limit of the item."""
    if entry is None or entry.kind == "imaging":
        return ("fail", "newer-result", None)
    if newer.value and (newer.value, newer.unit) == (older.value, older.unit):
        return PASSED
    if entry.scale != "quantitative":
        known = bool(newer.value and older.value)
        return ("fail", "newer-changed", None) if known else ("unknown", "newer-undecided", None)
    percent, absolute = p.percent.get(entry.code), p.absolute.get(entry.code)
    if percent is None and absolute is None:
        return ("fail", "newer-result", None)
    after, before = _number(newer, entry), _number(older, entry)
    if after is None or before is None:
        return ("unknown", "newer-undecided", None)
    change = _exact.abs(_exact.subtract(after, before))
    reach = _exact.multiply(_exact.abs(before), Decimal(percent or "0"))
    within = _exact.multiply(change, Decimal(100)) <= reach
    if not within and absolute is not None:
        within = change <= Decimal(absolute)
    return PASSED if within else ("fail", "newer-changed", None)


#: Wide enough for every number that `_NUMBER` lets through, and the same on every machine.
_exact = Context(prec=120)
_NUMBER = re.compile(r"[+-]?[0-9]{1,20}(?:\.[0-9]{1,20})?")


def _number(candidate: Candidate, entry: Item) -> Decimal | None:
    """The value in the catalogue's unit; None where it is no plain number in it."""
    text = candidate.quantity
    if not text and compare_units(candidate.unit, entry.ucum_unit):
        text = candidate.value
    return Decimal(text) if _NUMBER.fullmatch(text) else None
