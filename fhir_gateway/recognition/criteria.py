"""The criteria that a rule set may name: a table of small pure functions.

A criterion is named with its version, `report-final@1`. What a version says never changes once it
is released: another meaning is a new version, and both stay, so that old decisions can be decided
again. The functions stand beside this table: criteria_first.py, criteria_mark.py,
criteria_later.py, criteria_imaging.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import msgspec

from fhir_gateway.recognition import criteria_first as first
from fhir_gateway.recognition import criteria_imaging as imaging
from fhir_gateway.recognition import criteria_later as later
from fhir_gateway.recognition import criteria_mark as marks
from fhir_gateway.recognition import findings
from fhir_gateway.recognition.model import Candidate, Effect, Verdict
from fhir_gateway.recognition.parameters import (
    AlwaysRepeat,
    AlwaysRepeatUnlessKnown,
    ChangeLimits,
    ContrastRule,
    CountedWindow,
    DefaultView,
    IdentityRule,
    Interchangeable,
    Listed,
    MethodItems,
    NoParameters,
    PatientContext,
    PrintedMark,
    PublishedSources,
    RegionRule,
    ReportStates,
    RetrievableImages,
    WiderExaminations,
    WindowRule,
)
from fhir_gateway.recognition.situation import Situation
from fhir_gateway.recognition.values import (
    Values,
    context_values,
    contrast_values,
    mark_values,
    method_values,
    no_values,
    printed_values,
    repeat_values,
    side_values,
    source_values,
    specimen_values,
    status_values,
    unit_values,
    window_values,
)

#: Verdict, reason, and an effect where it is another than the criterion's own.
Finding = tuple[Verdict, str, Effect | None]
Check = Callable[[Situation, Candidate, Any], Finding]
Explain = Callable[[Situation, Candidate, Any], Values]

PASSED: Finding = findings.PASSED
NOT_APPLICABLE: Finding = findings.NOT_APPLICABLE
LAB, IMAGING = frozenset({"lab"}), frozenset({"imaging"})


class Criterion(NamedTuple):
    """A row of the table. `effect` is what it does when it is not met.

    `looks_at` says whether it depends on the order alone, which is asked once for all candidates,
    on the result, or on the others beside it. `explain_passed`: its line has something to say when
    it is met. `fields` are those of the result that its finding rests on, when it rests on nothing
    else but the order: results that agree in them are asked once. None means any.
    """

    check: Check
    parameters: type[msgspec.Struct]
    effect: Effect
    kinds: frozenset[str] = LAB | IMAGING
    explain: Explain = no_values
    looks_at: Literal["order", "result", "others"] = "result"
    explain_passed: bool = False
    fields: tuple[str, ...] | None = None


_NOT: Effect = "not-recognizable"
_VIEW: Effect = "view-only"

CRITERIA: Mapping[str, Criterion] = {
    "item-listed@1": Criterion(first.item_listed, Listed, _VIEW, looks_at="order"),
    "report-final@1": Criterion(first.report_final, ReportStates, _VIEW, explain=status_values),
    "result-present@1": Criterion(
        first.result_present, NoParameters, _VIEW, LAB, fields=("flags",)
    ),
    "identity-certain@1": Criterion(first.identity_certain, NoParameters, _NOT),
    "times-plausible@1": Criterion(first.times_plausible, NoParameters, _NOT),
    "specimen-comparable@1": Criterion(
        first.specimen_comparable, Interchangeable, _NOT, LAB, specimen_values, fields=("specimen",)
    ),
    "unit-comparable@1": Criterion(
        first.unit_comparable, NoParameters, _NOT, LAB, unit_values, fields=("unit", "flags")
    ),
    "method-comparable@1": Criterion(
        first.method_comparable, MethodItems, _NOT, LAB, method_values, fields=("item", "method")
    ),
    "laterality-comparable@1": Criterion(
        first.laterality_comparable,
        NoParameters,
        _NOT,
        IMAGING,
        side_values,
        fields=("laterality",),
    ),
    "contrast-comparable@1": Criterion(
        first.contrast_comparable, NoParameters, _NOT, IMAGING, contrast_values, looks_at="order"
    ),
    "always-repeat@1": Criterion(
        first.always_repeat, AlwaysRepeat, _NOT, explain=repeat_values, looks_at="order"
    ),
    "quality-evaluation@1": Criterion(
        first.quality_evaluation, NoParameters, _VIEW, explain=mark_values, explain_passed=True
    ),
    "printed-mark@1": Criterion(
        first.printed_mark, PrintedMark, "information", explain=printed_values
    ),
    "quality-evaluation@2": Criterion(
        marks.quality_evaluation_2,
        NoParameters,
        _VIEW,
        explain=marks.mark_values_2,
        explain_passed=True,
    ),
    "printed-mark@2": Criterion(
        marks.printed_mark_2, PrintedMark, "information", explain=printed_values
    ),
    "within-window@1": Criterion(
        first.within_window, WindowRule, _VIEW, explain=window_values, explain_passed=True
    ),
    "window-published@1": Criterion(
        first.window_published,
        PublishedSources,
        "no-suggestion",
        explain=source_values,
        looks_at="order",
    ),
    "reminded-by-default@1": Criterion(
        first.reminded_by_default, DefaultView, _VIEW, IMAGING, looks_at="order"
    ),
    "images-retrievable@1": Criterion(
        first.images_retrievable, NoParameters, _VIEW, IMAGING, fields=("images",)
    ),
    "patient-context@1": Criterion(
        first.patient_context, PatientContext, _VIEW, explain=context_values, looks_at="order"
    ),
    "critical-value@1": Criterion(
        first.critical_value, NoParameters, "no-suggestion", LAB, fields=("flags",)
    ),
    "identity-certain@2": Criterion(later.identity_certain_2, IdentityRule, _NOT),
    "times-plausible@2": Criterion(later.times_plausible_2, NoParameters, _NOT),
    "zone-known@1": Criterion(later.zone_known, NoParameters, _NOT, fields=("zone_known",)),
    "within-window@2": Criterion(
        later.within_window_2, CountedWindow, _VIEW, explain=window_values, explain_passed=True
    ),
    "always-repeat@2": Criterion(
        later.always_repeat_2,
        AlwaysRepeatUnlessKnown,
        _NOT,
        explain=later.repeat_values_2,
        looks_at="order",
    ),
    "context-known@1": Criterion(
        later.context_known, NoParameters, "no-suggestion", looks_at="order"
    ),
    "contrast-comparable@2": Criterion(
        imaging.contrast_comparable_2,
        ContrastRule,
        _NOT,
        IMAGING,
        imaging.contrast_values_2,
        fields=("item", "contrast"),
    ),
    "region-comparable@1": Criterion(
        imaging.region_comparable,
        RegionRule,
        _NOT,
        IMAGING,
        imaging.region_values,
        fields=("item", "region"),
    ),
    "examination-certain@1": Criterion(
        imaging.examination_certain, NoParameters, _NOT, IMAGING, fields=("flags",)
    ),
    "images-retrievable@2": Criterion(
        imaging.images_retrievable_2,
        RetrievableImages,
        _VIEW,
        IMAGING,
        imaging.retrievable_values,
        fields=("retrievable",),
    ),
    "wider-examination@1": Criterion(
        imaging.wider_examination,
        WiderExaminations,
        "information",
        IMAGING,
        imaging.wider_values,
        explain_passed=True,
        fields=("item",),
    ),
    "newest-first@2": Criterion(
        later.newest_first, ChangeLimits, _VIEW, looks_at="others", fields=()
    ),
}
