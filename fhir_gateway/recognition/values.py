"""What a recorded line says beside its verdict: the numbers and codes its sentence needs.

Computed only for lines that are recorded, so that judging a candidate allocates nothing. Every
value is a code, a number or a unit; no line carries the patient's name or a result.
"""

from __future__ import annotations

from typing import Any

from fhir_gateway.recognition.model import Candidate
from fhir_gateway.recognition.parameters import AlwaysRepeat, PatientContext, WindowRule
from fhir_gateway.recognition.situation import Situation, age_days, mark_of

Values = dict[str, str | int]


def no_values(s: Situation, c: Candidate, p: Any) -> Values:
    return {}


def window_values(s: Situation, c: Candidate, p: WindowRule) -> Values:
    if s.window.days is None:
        return {}
    start = c.issued if p.start == "issued" else c.time
    if start >= s.window_start or not start:
        return {"days": s.window.days, "source": s.window.source}
    return {"days": s.window.days, "source": s.window.source, "age": age_days(s, start)}


def source_values(s: Situation, c: Candidate, p: Any) -> Values:
    return {"source": s.window.source}


def mark_values(s: Situation, c: Candidate, p: Any) -> Values:
    row = mark_of(s, c)
    if row is None:
        return {"receiver_area": s.query.receiver_area}
    return {"area": row.area, "evaluator": row.evaluator, "round": row.round}


def context_values(s: Situation, c: Candidate, p: PatientContext) -> Values:
    context = next((name for name in p.lower if name in s.query.context), "")
    return {"context": context, "ground": p.lower[context]} if context else {}


def repeat_values(s: Situation, c: Candidate, p: AlwaysRepeat) -> Values:
    for context, items in p.repeat.items():
        if context in s.query.context and s.ordered.item in items:
            return {"context": context, "ground": p.ground}
    return {}


def status_values(s: Situation, c: Candidate, p: Any) -> Values:
    return {"status": c.status, "report_status": c.report_status}


def unit_values(s: Situation, c: Candidate, p: Any) -> Values:
    return {"unit": c.unit, "expected": s.entry.ucum_unit if s.entry else ""}


def specimen_values(s: Situation, c: Candidate, p: Any) -> Values:
    expected = s.ordered.specimen or (s.entry.specimen if s.entry else "")
    return {"specimen": c.specimen, "expected": expected}


def method_values(s: Situation, c: Candidate, p: Any) -> Values:
    return {"method": c.method, "expected": s.ordered.method}


def side_values(s: Situation, c: Candidate, p: Any) -> Values:
    return {"laterality": c.laterality, "expected": s.ordered.laterality}


def contrast_values(s: Situation, c: Candidate, p: Any) -> Values:
    return {"contrast": s.entry.contrast if s.entry else "", "expected": s.ordered.contrast}


def printed_values(s: Situation, c: Candidate, p: Any) -> Values:
    return {"mark": c.mark}
