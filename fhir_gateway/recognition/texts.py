"""One sentence for every line and outcome, in Chinese and in English.

Decisions store codes and numbers, never sentences: a sentence is rendered from the rule with its
version, the reason and the values of the line. A pair (rule, reason) keeps its sentence for as
long as the criterion's version is served.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Literal

from fhir_gateway.recognition.model import ItemOutcome, Line

Language = Literal["zh", "en"]
Texts = tuple[str, str]  # Chinese, English
_INDEX: Mapping[Language, int] = {"zh": 0, "en": 1}

OUTCOMES: Mapping[str, Texts] = {
    "recognize": ("可互认：{sentence}", "Can be recognised: {sentence}"),
    "view-only": ("仅供查阅：{sentence}", "For viewing only: {sentence}"),
    "not-recognizable": ("不可互认：{sentence}", "Not recognisable: {sentence}"),
    "cannot-decide": ("无法判断：{sentence}", "Cannot decide: {sentence}"),
}

#: Reasons that belong to the whole item, not to a rule.
REASONS: Mapping[str, Texts] = {
    "usable": (
        "已有符合条件的结果，请医师决定是否认可。",
        "an earlier result meets all conditions; the doctor decides.",
    ),
    "none-available-to-you": (
        "未查到您可调阅的该项目既往结果（不代表其他机构没有）。",
        "no earlier result of the item is available to you (which does not mean there is none).",
    ),
    "order-not-mapped": (
        "申请项目未对应到互认目录。",
        "the ordered item is not mapped to the catalogue.",
    ),
    "no-rule-set-in-force": ("当前没有生效的规则集。", "no rule set is in force."),
    "identity-contested": (
        "同一证件号登记有不同姓名，请先核实患者身份。",
        "the same identity document is registered under another name; confirm the identity first.",
    ),
    "patient-unknown": ("本平台没有该患者的记录。", "the patient is not known here."),
    "identity-contradictory": (
        "提供的标识指向不同患者。",
        "the identifiers given belong to different persons.",
    ),
}

#: (rule, reason); the reason "" is a rule that is met.
LINES: Mapping[tuple[str, str], Texts] = {
    ("item-listed@1", ""): ("项目在互认目录内。", "The item stands on the list."),
    ("item-listed@1", "item-not-in-catalogue"): (
        "目录当前版本中没有该项目。",
        "The item is not in this edition of the catalogue.",
    ),
    ("item-listed@1", "item-not-listed"): (
        "该项目不在规则集的互认范围内。",
        "The rule set takes the item out of recognition.",
    ),
    ("report-final@1", ""): ("报告已审核发布。", "The report is final."),
    ("report-final@1", "void"): ("报告或结果已作废。", "The report or the result is void."),
    ("report-final@1", "status-unknown"): (
        "报告状态不明。",
        "The status of the report is not known.",
    ),
    ("report-final@1", "no-report"): (
        "没有随附的正式报告。",
        "There is no report for this result.",
    ),
    ("report-final@1", "report-not-final"): (
        "报告尚未审核发布（{report_status}）。",
        "The report is not final ({report_status}).",
    ),
    ("report-final@1", "result-not-final"): (
        "结果尚未审核发布（{status}）。",
        "The result is not final ({status}).",
    ),
    ("result-present@1", ""): ("结果有值。", "The result carries a value."),
    ("result-present@1", "value-absent"): (
        "报告说明该结果缺失。",
        "The report says that the value is absent.",
    ),
    ("result-present@1", "no-value"): ("结果没有值。", "The result carries no value."),
    ("identity-certain@1", ""): ("患者身份明确。", "The person is certain."),
    ("identity-certain@1", "identity-contested"): (
        "同一证件号码在别处登记为另一姓名。",
        "The identity document is used under another name elsewhere.",
    ),
    ("identity-certain@1", "identity-undocumented"): (
        "没有可核对的身份证件。",
        "There is no identity document that could be checked.",
    ),
    ("times-plausible@1", ""): ("时间合理。", "The times are plausible."),
    ("times-plausible@1", "future-dated"): (
        "采样、检查或报告时间在将来。",
        "Examination or report is dated in the future.",
    ),
    ("times-plausible@1", "issued-before-exam"): (
        "报告时间早于采样或检查时间。",
        "The report is older than the examination.",
    ),
    ("specimen-comparable@1", ""): ("标本一致。", "The specimen is comparable."),
    ("specimen-comparable@1", "specimen-unknown"): (
        "结果未注明标本（应为{expected}）。",
        "The result does not state its specimen ({expected} is wanted).",
    ),
    ("specimen-comparable@1", "specimen-unclear"): (
        "标本“{specimen}”能否与“{expected}”相比不明。",
        "Whether {specimen} can be compared with {expected} is not known.",
    ),
    ("specimen-comparable@1", "ordered-specimen-unknown"): (
        "申请未注明标本，该项目有多种标本。",
        "The order does not state the specimen, and the item has several.",
    ),
    ("specimen-comparable@1", "specimen-differs"): (
        "标本不同：结果为{specimen}，应为{expected}。",
        "Another specimen: {specimen}, not {expected}.",
    ),
    ("unit-comparable@1", ""): ("单位可比。", "The unit is comparable."),
    ("unit-comparable@1", "value-is-text"): (
        "定量项目的结果是文字。",
        "The result of a quantitative item is words.",
    ),
    ("unit-comparable@1", "unit-missing"): (
        "结果未注明单位（应为{expected}）。",
        "The result has no unit ({expected} is wanted).",
    ),
    ("unit-comparable@1", "unit-not-comparable"): (
        "单位{unit}不能与{expected}直接比较，系统不作换算。",
        "The unit {unit} cannot be set beside {expected}; nothing is converted.",
    ),
    ("method-comparable@1", ""): ("方法一致。", "The method is the same."),
    ("method-comparable@1", "method-unknown"): (
        "申请或结果未注明方法。",
        "The order or the result does not state the method.",
    ),
    ("method-comparable@1", "method-differs"): (
        "方法不同：结果为{method}，应为{expected}。",
        "Another method: {method}, not {expected}.",
    ),
    ("laterality-comparable@1", ""): ("侧别一致。", "The side is the same."),
    ("laterality-comparable@1", "laterality-unknown"): (
        "申请或报告未注明侧别。",
        "The order or the report does not state the side.",
    ),
    ("laterality-comparable@1", "laterality-differs"): (
        "侧别不同：报告为{laterality}，申请为{expected}。",
        "Another side: {laterality}, not {expected}.",
    ),
    ("contrast-comparable@1", ""): ("增强方式一致。", "The contrast is the same."),
    ("contrast-comparable@1", "contrast-differs"): (
        "增强方式不同：项目为{contrast}，申请为{expected}。",
        "Another contrast: the item says {contrast}, the order {expected}.",
    ),
    ("always-repeat@1", ""): ("不属于必查项目。", "Not an item that is always done anew."),
    ("always-repeat@1", "always-repeat"): (
        "手术或输血前该项目一律重做（法定情形{ground}）。",
        "Always done anew before an operation or a transfusion (ground {ground}).",
    ),
    ("quality-evaluation@1", ""): (
        "检查当日出具机构质量评价合格（{evaluator}，{round}），范围{area}覆盖接诊机构。",
        "The issuer had passed the evaluation ({evaluator}, {round}) for area {area}.",
    ),
    ("quality-evaluation@1", "issuer-unknown"): (
        "出具机构不明。",
        "The issuing institution is not known.",
    ),
    ("quality-evaluation@1", "receiver-area-unknown"): (
        "接诊机构所在区域不明。",
        "The area of the receiving institution is not known.",
    ),
    ("quality-evaluation@1", "exam-day-unknown"): (
        "检查日期不完整，无法确定当日评价是否有效。",
        "The day of the examination is not exactly known, and the evaluation depends on it.",
    ),
    ("quality-evaluation@1", "evaluation-contradictory"): (
        "同一区域同一时期的评价结论相互矛盾。",
        "Evaluations of the same area and time contradict each other.",
    ),
    ("quality-evaluation@1", "not-evaluated"): (
        "出具机构该项目没有合格的质量评价。",
        "The issuer has no evaluation for the item.",
    ),
    ("quality-evaluation@1", "evaluation-failed"): (
        "检查当日出具机构该项目质量评价未通过。",
        "The issuer had failed the evaluation for the item.",
    ),
    ("quality-evaluation@1", "evaluation-not-in-period"): (
        "检查当日不在质量评价有效期内。",
        "The evaluation was not in force on the day of the examination.",
    ),
    ("quality-evaluation@1", "area-not-covered"): (
        "互认范围未覆盖接诊机构所在区域（{receiver_area}）。",
        "The area of the mark does not contain the receiver's ({receiver_area}).",
    ),
    ("printed-mark@1", ""): ("印制标识与登记一致。", "The printed mark agrees with the register."),
    ("printed-mark@1", "mark-not-printed"): (
        "报告未印制互认标识。",
        "No mark is printed on the report.",
    ),
    ("printed-mark@1", "mark-without-evaluation"): (
        "报告印有“{mark}”，但登记中没有相应的评价。",
        "The report carries the mark {mark}, and the register has no evaluation for it.",
    ),
    ("within-window@1", ""): (
        "在{days}天的互认时限内（{source}）。",
        "Inside the window of {days} days ({source}).",
    ),
    ("within-window@1", "too-old"): (
        "超出{days}天的互认时限（{source}）。",
        "Older than the window of {days} days ({source}).",
    ),
    ("within-window@1", "no-window"): (
        "该项目没有互认时限。",
        "The item has no window.",
    ),
    ("within-window@1", "issue-time-unknown"): (
        "报告时间不明，无法计算时限。",
        "The time of the report is not known, and the window counts from it.",
    ),
    ("within-window@1", "exam-day-unknown"): (
        "采样或检查日期不完整，无法确定是否在{days}天的时限内。",
        "The day of the examination is not exact, and the window of {days} days depends on it.",
    ),
    ("window-published@1", ""): ("时限有公布依据。", "The window is published."),
    ("window-published@1", "not-published"): (
        "时限未经公布（{source}），只作提示，不建议替代。",
        "The window is not published ({source}); no replacement is offered.",
    ),
    ("reminded-by-default@1", ""): ("项目默认提示。", "The item is reminded of."),
    ("reminded-by-default@1", "view-only-by-default"): (
        "该项目依赖操作者，默认仅供查阅。",
        "The item depends on the operator and is view-only by default.",
    ),
    ("images-retrievable@1", ""): ("影像可调阅。", "The images can be fetched."),
    ("images-retrievable@1", "images-unknown"): (
        "影像能否调阅不明。",
        "Whether the images can be fetched is not known.",
    ),
    ("images-retrievable@1", "images-not-retrievable"): (
        "影像无法调阅。",
        "The images cannot be fetched.",
    ),
    ("patient-context@1", ""): (
        "患者情形不涉及法定复查情形。",
        "The patient's situation points to no lawful ground for a repeat.",
    ),
    ("patient-context@1", "patient-context"): (
        "患者情形（{context}）属法定可复查情形{ground}，由医师决定。",
        "The patient's situation ({context}) is lawful ground {ground} for a repeat.",
    ),
    ("critical-value@1", ""): ("无危急值。", "No critical value."),
    ("critical-value@1", "critical-value"): (
        "结果为危急值，照常显示，不建议替代。",
        "The result is a critical value; it is shown and no replacement is offered.",
    ),
    ("condition@1", ""): ("{title}：符合。", "{title_en}: met."),
    ("condition@1", "condition-not-met"): ("{title}：不符合。", "{title_en}: not met."),
    ("condition@1", "condition-unknown"): (
        "{title}：所需信息不全，无法判断。",
        "{title_en}: cannot be judged, what it looks at is not known.",
    ),
    ("condition@1", "condition-trouble"): (
        "{title}：条件表达式无法对该结果求值。",
        "{title_en}: the condition cannot be evaluated on this result.",
    ),
    ("newest-first@1", ""): ("没有更新的结果。", "There is no newer result."),
    ("newest-first@1", "newer-result"): (
        "该项目有更新的结果（含未出报告或未合格者），请先查看。",
        "There is a newer result of the item, pending or unmarked; look at it first.",
    ),
    ("newest-first@1", "newer-undecided"): (
        "该项目有更新的结果，其信息不全。",
        "There is a newer result of the item whose facts are incomplete.",
    ),
    ("newest-first@1", "superseded"): (
        "已选用更新的合格结果。",
        "A newer result that can be recognised was chosen.",
    ),
}
#: What the second versions say in the words of the first, beside what is their own.
LINES = {
    **LINES,
    **{
        (rule.replace("@1", "@2"), reason): texts
        for (rule, reason), texts in LINES.items()
        if rule in ("quality-evaluation@1", "printed-mark@1")
    },
    ("printed-mark@2", "exam-day-unknown"): (
        "报告印有“{mark}”，检查日期不完整，无法与登记核对。",
        "The report carries the mark {mark}; the day is not exactly known, so it is not compared.",
    ),
}

_NOT_APPLICABLE: Texts = ("不适用。", "Does not apply.")


class _Values(dict[str, str | int]):
    """Values of a line; what it does not say is shown as a dash."""

    def __missing__(self, key: str) -> str:
        return "–"


def sentence(line: Line, language: Language = "zh") -> str:
    """What a line says. A rule that this gateway no longer knows says its own codes."""
    values = tuple(line.values.items())
    return _sentence(line.rule, line.verdict, line.reason, values, language)


@lru_cache(maxsize=16_384)
def _sentence(
    rule: str,
    verdict: str,
    reason: str,
    values: tuple[tuple[str, str | int], ...],
    language: Language,
) -> str:
    if verdict == "not-applicable":
        return _NOT_APPLICABLE[_INDEX[language]]
    texts = LINES.get((rule.partition("#")[0], reason))
    if texts is None:
        return f"{rule} {verdict} {reason}".rstrip()
    stated = _Values((key, value) for key, value in values if value != "")
    return texts[_INDEX[language]].format_map(stated)


def outcome_sentence(item: ItemOutcome, language: Language = "zh") -> str:
    """What is answered for an order line: the outcome and its deciding reason."""
    frame = OUTCOMES[item.outcome][_INDEX[language]]
    return frame.format(sentence=_reason(item, language))


def _reason(item: ItemOutcome, language: Language) -> str:
    if item.reason in REASONS:
        return REASONS[item.reason][_INDEX[language]]
    line = next((line for line in item.lines if line.reason == item.reason), None)
    if line is None:
        return item.reason
    text = sentence(line, language)
    return text[0].lower() + text[1:] if language == "en" else text
