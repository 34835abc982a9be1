"""The criteria in their first version: small pure functions, one for each rule.

A function looks at one candidate in one situation and gives a Finding; every number and list comes
from the rule set's parameters. A fact that is missing is *unknown*, never guessed. What is released
here is never edited in meaning; criteria.py is the table.

Units are compared, never converted; see docs/adr/0012-rule-sets-are-plan-definitions.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from fhir_gateway.recognition import criteria_mark
from fhir_gateway.recognition.findings import NOT_APPLICABLE, PASSED, Finding
from fhir_gateway.recognition.model import (
    CRITICAL,
    DATA_ABSENT,
    TEXT_ONLY,
    VALUELESS,
    Candidate,
)
from fhir_gateway.recognition.parameters import (
    AlwaysRepeat,
    DefaultView,
    Interchangeable,
    Listed,
    MethodItems,
    NoParameters,
    PatientContext,
    PrintedMark,
    PublishedSources,
    ReportStates,
    WindowRule,
)
from fhir_gateway.recognition.situation import Situation, standing
from fhir_gateway.terminology.specimen import compare_specimens, specimen_classes
from fhir_gateway.terminology.unit import compare_units


def item_listed(s: Situation, c: Candidate, p: Listed) -> Finding:
    """The item stands on the list of items whose results are recognised."""
    entry = s.entry
    if entry is None:
        return ("fail", "item-not-in-catalogue", None)
    if not entry.listed:  # on the list that the rule set speaks of
        return ("fail", "item-not-listed", None)
    if entry.code in p.negative or (p.classes and entry.item_class not in p.classes):
        return ("fail", "item-not-listed", None)
    return PASSED


def report_final(s: Situation, c: Candidate, p: ReportStates) -> Finding:
    """The report is final, and a laboratory result in it is final too."""
    own, report = c.status, c.report_status
    if own in p.void or report in p.void:
        return ("fail", "void", "not-recognizable")
    if own == "unknown" or report == "unknown":
        return ("unknown", "status-unknown", None)
    needed = own == "available" or (p.report_required and c.source.startswith("Observation/"))
    if needed and not report:
        return ("fail", "no-report", None)
    if report and report not in p.final:
        return ("fail", "report-not-final", None)
    if own in p.final or own == "available":
        return PASSED
    return ("fail", "result-not-final", None)


def result_present(s: Situation, c: Candidate, p: NoParameters) -> Finding:
    """The final result carries a value."""
    if c.flags & DATA_ABSENT:
        return ("unknown", "value-absent", None)
    if c.flags & VALUELESS:
        return ("unknown", "no-value", None)
    return PASSED


def identity_certain(s: Situation, c: Candidate, p: NoParameters) -> Finding:
    """The result is this person's: by identity document, or by the receiver's own record."""
    identity = s.query.identity
    if identity.contested:
        return ("unknown", "identity-contested", None)
    if identity.documented:
        return PASSED
    if c.patient == s.query.patient and c.issuer and c.issuer == s.query.receiver:
        return PASSED
    return ("unknown", "identity-undocumented", None)


def times_plausible(s: Situation, c: Candidate, p: NoParameters) -> Finding:
    """The examination is not in the future and not after its own report."""
    if c.time > s.query.as_of_us or c.issued > s.query.as_of_us:
        return ("unknown", "future-dated", None)
    if c.issued and c.issued < c.time:
        return ("unknown", "issued-before-exam", None)
    return PASSED


def specimen_comparable(s: Situation, c: Candidate, p: Interchangeable) -> Finding:
    """The specimen is one that the catalogue entry names, and the one that is ordered."""
    if s.entry is None or not s.entry.specimen:
        return NOT_APPLICABLE
    if not c.specimen:
        return ("unknown", "specimen-unknown", None)
    return _specimen(c.specimen, s.entry.specimen, s.ordered.specimen, p.interchangeable)


@lru_cache(maxsize=4_096)
def _specimen(found: str, named: str, ordered: str, interchangeable: frozenset[str]) -> Finding:
    same = compare_specimens(found, named)
    if not same:
        return _SAME_SPECIMEN[same]
    alternatives = specimen_classes(named)
    if len(alternatives) == 1 or alternatives <= interchangeable:
        return PASSED
    if not ordered:
        return ("unknown", "ordered-specimen-unknown", None)
    return _SAME_SPECIMEN[compare_specimens(found, ordered)]


_SAME_SPECIMEN: Mapping[bool | None, Finding] = {
    True: PASSED,
    False: ("fail", "specimen-differs", None),
    None: ("unknown", "specimen-unclear", None),
}


def unit_comparable(s: Situation, c: Candidate, p: NoParameters) -> Finding:
    """The value is a number in a unit that can be compared with the catalogue entry's."""
    if s.entry is None or not s.entry.ucum_unit:
        return NOT_APPLICABLE
    if c.flags & TEXT_ONLY:
        return ("unknown", "value-is-text", None)
    if c.unit == s.entry.ucum_unit or compare_units(c.unit, s.entry.ucum_unit):
        return PASSED
    return ("unknown", "unit-not-comparable" if c.unit else "unit-missing", None)


def method_comparable(s: Situation, c: Candidate, p: MethodItems) -> Finding:
    """The method is the ordered one, where the order or the rule set asks for one."""
    wanted = s.ordered.method
    if not wanted and c.item not in p.items:
        return NOT_APPLICABLE
    if not wanted or not c.method:
        return ("unknown", "method-unknown", None)
    return PASSED if wanted == c.method else ("fail", "method-differs", None)


def laterality_comparable(s: Situation, c: Candidate, p: NoParameters) -> Finding:
    """The side is the ordered one, where the catalogue entry wants it stated."""
    if s.entry is None or "/" not in s.entry.laterality:
        return NOT_APPLICABLE
    ordered, done = s.ordered.laterality, c.laterality
    if not ordered or not done:
        return ("unknown", "laterality-unknown", None)
    if done in (ordered, "B"):
        return PASSED
    return ("fail", "laterality-differs", None)


def contrast_comparable(s: Situation, c: Candidate, p: NoParameters) -> Finding:
    """The order, where it says anything about contrast, says what the catalogue entry says."""
    if s.entry is None or not s.entry.contrast or not s.ordered.contrast:
        return NOT_APPLICABLE
    if s.ordered.contrast == s.entry.contrast:
        return PASSED
    return ("fail", "contrast-differs", None)


def always_repeat(s: Situation, c: Candidate, p: AlwaysRepeat) -> Finding:
    """Before an operation or a transfusion some items are always done anew."""
    for context in s.query.context:
        if s.ordered.item in p.repeat.get(context, ()):
            return ("fail", "always-repeat", None)
    return PASSED


def quality_evaluation(s: Situation, c: Candidate, p: NoParameters) -> Finding:
    """The issuer passed an evaluation for the item that covers the receiver's area on that day."""
    return criteria_mark.FINDINGS[standing(s, c)]


def printed_mark(s: Situation, c: Candidate, p: PrintedMark) -> Finding:
    """A mark printed on the report agrees with the register, which alone makes the mark."""
    if not c.mark:
        if p.printed_mark_required:
            return ("fail", "mark-not-printed", "view-only")
        return NOT_APPLICABLE
    if standing(s, c) == "evaluated":
        return PASSED
    return ("fail", "mark-without-evaluation", None)


def within_window(s: Situation, c: Candidate, p: WindowRule) -> Finding:
    """The examination lies inside the item's window of calendar days."""
    if s.window.days is None:
        return ("unknown", "no-window", None)
    if p.start == "issued":
        if not c.issued:
            return ("unknown", "issue-time-unknown", None)
        return PASSED if c.issued >= s.window_start else ("fail", "too-old", None)
    if c.time >= s.window_start:
        return PASSED
    if c.time_high < s.window_start:
        return ("fail", "too-old", None)
    return ("unknown", "exam-day-unknown", None)


def window_published(s: Situation, c: Candidate, p: PublishedSources) -> Finding:
    """The length of the window was published by an authority, not compiled for this catalogue."""
    if s.window.days is None:
        return NOT_APPLICABLE
    return PASSED if s.window.source.startswith(p.prefixes) else ("fail", "not-published", None)


def reminded_by_default(s: Situation, c: Candidate, p: DefaultView) -> Finding:
    """The catalogue lets the item be reminded of; ultrasound is view-only."""
    if s.entry is None or s.entry.default_recognition != "view-only" or s.ordered.item in p.remind:
        return PASSED
    return ("fail", "view-only-by-default", None)


def images_retrievable(s: Situation, c: Candidate, p: NoParameters) -> Finding:
    """The images can be fetched: of an imaging result they are what is recognised."""
    if c.images:
        return PASSED
    if c.images is None:
        return ("unknown", "images-unknown", None)
    return ("fail", "images-not-retrievable", None)


def patient_context(s: Situation, c: Candidate, p: PatientContext) -> Finding:
    """Nothing in the patient's situation makes a repeat lawful from the outset."""
    if s.query.context and not s.query.context.isdisjoint(p.lower):
        return ("fail", "patient-context", None)
    return PASSED


def critical_value(s: Situation, c: Candidate, p: NoParameters) -> Finding:
    """The result carries no critical value."""
    return ("fail", "critical-value", None) if c.flags & CRITICAL else PASSED
