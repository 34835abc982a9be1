"""The criteria of the mark in their second version: which round counts, what was printed.

`quality-evaluation@2`: of one evaluating body and one area the round that started last counts, so
that a laboratory that failed after it had passed is not evaluated, and one that passed after it had
failed is. Two outcomes from one first day, and two bodies of one area, contradict each other.
`printed-mark@2`: a printed mark is true when the register has a passed round of that day, in
whatever area: a mark that does not reach the receiver was no lie. docs/adr/0024; the first versions
stand in criteria.py and situation.py, for what was decided by them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from fhir_gateway.recognition.findings import NOT_APPLICABLE, PASSED, Finding
from fhir_gateway.recognition.model import Candidate
from fhir_gateway.recognition.parameters import PrintedMark
from fhir_gateway.recognition.situation import ENDLESS, Situation, Standing, period
from fhir_gateway.store.changes import Evaluation

Said = Literal["passed", "failed", "contradictory", "none"]

_STANDING: Mapping[Said, Standing] = {
    "passed": "evaluated",
    "failed": "evaluation-failed",
    "contradictory": "evaluation-contradictory",
}


def standing_2(situation: Situation, candidate: Candidate) -> Standing:
    """Whether the issuer held an evaluation that reaches the receiver, at the time of the exam.

    Where the time is known in part, the answer must be the same throughout.
    """
    if not candidate.issuer:
        return "issuer-unknown"
    reaching = situation.query.receiver_within
    if not reaching:
        return "receiver-area-unknown"
    rows = candidate.evaluations
    low, high, zone = candidate.time, candidate.time_high, situation.query.zone
    if len(rows) == 1:  # the usual case, settled without lists
        row = rows[0]
        start, end = period(row.start, row.end, zone)
        if row.passed and row.area in reaching and start <= low and high <= end:
            return "evaluated"
    rows = tuple([row for row in rows if row.area in reaching]) if rows else ()
    if not rows:
        any_passed = any([row.passed for row in candidate.evaluations])
        return "area-not-covered" if any_passed else "not-evaluated"
    verdicts = _throughout(rows, low, high, zone)
    if len(verdicts) > 1:
        return "exam-day-unknown" if "passed" in verdicts else _worst(verdicts)
    (verdict,) = verdicts
    return "evaluation-not-in-period" if verdict == "none" else _STANDING[verdict]


def _worst(verdicts: Iterable[Said]) -> Standing:
    return "evaluation-contradictory" if "contradictory" in verdicts else "evaluation-failed"


def registered(situation: Situation, candidate: Candidate) -> bool | None:
    """Whether the register has a passed round of that time in any area; None: on some days."""
    zone = situation.query.zone
    verdicts = _throughout(candidate.evaluations, candidate.time, candidate.time_high, zone)
    if verdicts == {"passed"}:
        return True
    return None if "passed" in verdicts else False


def _throughout(rows: Sequence[Evaluation], low: int, high: int, zone: str) -> set[Said]:
    """Every verdict that holds at some time of low..high."""
    spans = [(*period(row.start, row.end, zone), row) for row in rows]
    moments = {low}
    for start, end, _ in spans:
        moments |= {one for one in (start, end + 1) if low < one <= high}
    return {said_at(spans, moment) for moment in moments}


def said_at(spans: Sequence[tuple[int, int, Evaluation]], moment: int) -> Said:
    """What the rows say at one moment: of each body and area its latest, then all together."""
    latest: dict[tuple[str, str], tuple[int, set[bool]]] = {}
    for start, end, row in spans:
        if not start <= moment <= end:
            continue
        known, outcomes = latest.get((row.evaluator, row.area), (-ENDLESS - 1, set()))
        if start > known:
            latest[row.evaluator, row.area] = start, {row.passed}
        elif start == known:
            outcomes.add(row.passed)
    areas: dict[str, set[bool]] = {}
    for (_, area), (_, outcomes) in latest.items():
        areas.setdefault(area, set()).update(outcomes)
    said = list(areas.values())
    if {True} in said:  # what another area says takes nothing away
        return "passed"
    if {True, False} in said:
        return "contradictory"
    return "failed" if said else "none"


def mark_of_2(situation: Situation, candidate: Candidate) -> Evaluation | None:
    """The evaluation behind the mark: of the rounds that count and reach, the last to end."""
    if not candidate.evaluations:
        return None
    reaching, zone = situation.query.receiver_within, situation.query.zone
    rows = [row for row in candidate.evaluations if row.area in reaching]
    if not rows:
        return None
    if len(rows) == 1:  # the usual case
        start, end = period(rows[0].start, rows[0].end, zone)
        held = rows[0].passed and start <= candidate.time_high and candidate.time <= end
        return rows[0] if held else None
    spans = [(*period(row.start, row.end, zone), row) for row in rows]
    found = []
    for start, end, row in spans:
        if row.passed and start <= candidate.time_high and candidate.time <= end:
            own = [one for one in spans if _judges(one[2]) == _judges(row)]
            if said_at(own, max(start, candidate.time)) == "passed":
                found.append(row)
    return max(found, key=lambda row: (row.end or "9", row.area, row.round), default=None)


def _judges(row: Evaluation) -> tuple[str, str]:
    return row.evaluator, row.area


def quality_evaluation_2(s: Situation, c: Candidate, p: Any) -> Finding:
    """The issuer held an evaluation for the item that covers the receiver's area on that day."""
    return FINDINGS[standing_2(s, c)]


#: What each standing is, for either version of the criterion.
FINDINGS: Mapping[str, Finding] = {
    "evaluated": PASSED,
    "issuer-unknown": ("unknown", "issuer-unknown", None),
    "receiver-area-unknown": ("unknown", "receiver-area-unknown", None),
    "exam-day-unknown": ("unknown", "exam-day-unknown", None),
    "evaluation-contradictory": ("unknown", "evaluation-contradictory", None),
    "not-evaluated": ("fail", "not-evaluated", None),
    "evaluation-failed": ("fail", "evaluation-failed", None),
    "evaluation-not-in-period": ("fail", "evaluation-not-in-period", None),
    "area-not-covered": ("fail", "area-not-covered", None),
}


def printed_mark_2(s: Situation, c: Candidate, p: PrintedMark) -> Finding:
    """A mark printed on the report has its evaluation; the register alone makes the mark."""
    if not c.mark:
        if p.printed_mark_required:
            return ("fail", "mark-not-printed", "view-only")
        return NOT_APPLICABLE
    known = registered(s, c)
    if known is None:
        return ("unknown", "exam-day-unknown", None)
    return PASSED if known else ("fail", "mark-without-evaluation", None)


def mark_values_2(s: Situation, c: Candidate, p: Any) -> dict[str, str | int]:
    """Area, body and round of the mark; else the area that was not reached."""
    row = mark_of_2(s, c)
    if row is None:
        return {"receiver_area": s.query.receiver_area}
    return {"area": row.area, "evaluator": row.evaluator, "round": row.round}
