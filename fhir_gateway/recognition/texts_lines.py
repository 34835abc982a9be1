"""The sentences of lines, by rule and reason. A pair keeps its sentence while it is served."""

from __future__ import annotations

from collections.abc import Mapping

Texts = tuple[str, str]  # Chinese, English

_FIRST: Mapping[tuple[str, str], Texts] = {
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

#: Later versions that say what the first says in its words, all of them or these reasons alone.
_KEPT: Mapping[str, tuple[str, ...]] = {
    "quality-evaluation@2": (),
    "printed-mark@2": (),
    "identity-certain@2": (),
    "times-plausible@2": (),
    "within-window@2": (),
    "always-repeat@2": (),
    "contrast-comparable@2": ("",),
    "images-retrievable@2": ("",),
    "newest-first@2": ("", "newer-undecided", "superseded"),
}

_LATER: Mapping[tuple[str, str], Texts] = {
    ("printed-mark@2", "exam-day-unknown"): (
        "报告印有“{mark}”，检查日期不完整，无法与登记核对。",
        "The report carries the mark {mark}; the day is not exactly known, so it is not compared.",
    ),
    ("identity-certain@2", "confirm-identity"): (
        "另有一份记录很可能属于同一患者，且有该项目的结果，待核实身份。",
        "Another record is probably this patient's and has a result: confirm who it is.",
    ),
    ("identity-certain@2", "identity-refused"): (
        "同一证件号码在别处登记为另一姓名，规则集不予采用。",
        "The identity document is used under another name elsewhere, which the rule set refuses.",
    ),
    ("times-plausible@2", "before-birth"): (
        "采样或检查时间早于患者出生。",
        "The examination is dated before the patient's birth.",
    ),
    ("times-plausible@2", "set-aside"): (
        "有{count}份结果的时间不合理，未作为依据，请查看。",
        "The times of {count} results cannot be right: they are set aside; look at them.",
    ),
    ("zone-known@1", ""): ("时间的时区明确。", "The zone of the time is known."),
    ("zone-known@1", "zone-unknown"): (
        "采样或检查时间未注明时区，来源也未登记时区。",
        "The time has no zone, and none is registered for its source.",
    ),
    ("always-repeat@2", "repeat-unless-known"): (
        "就诊情形不明，该项目一律重做（情形{ground}）。",
        "Nobody says what the patient is here for, and the item is done anew then ({ground}).",
    ),
    ("context-known@1", ""): ("就诊情形明确。", "The patient's situation is known."),
    ("context-known@1", "context-not-known"): (
        "就诊情形不明，只作提示，不建议替代。",
        "The context is not known: no replacement is offered.",
    ),
    ("contrast-comparable@2", "contrast-differs"): (
        "增强方式不同：结果为{contrast}，申请为{expected}。",
        "Another contrast: {contrast}, not {expected}.",
    ),
    ("contrast-comparable@2", "contrast-unknown"): (
        "影像与报告均未注明增强方式（应为{expected}）。",
        "Neither images nor report state the contrast ({expected} is wanted).",
    ),
    ("region-comparable@1", ""): ("部位一致。", "The body part is the same."),
    ("region-comparable@1", "region-differs"): (
        "影像标注的部位（{region}）与报告项目（{expected}）不一致，请核对。",
        "The images name {region}, the item of the report {expected}; one of them is wrong.",
    ),
    ("examination-certain@1", ""): ("检查项目明确。", "The examination is certain."),
    ("examination-certain@1", "item-contradictory"): (
        "同一检查号的报告与影像所述项目不一致，请核对。",
        "Reports and images of one accession number say different items.",
    ),
    ("images-retrievable@2", "images-not-checked"): (
        "影像地址未经验证，视为未能提供影像（情形{ground}）。",
        "No address of the images is known to answer: they count as not supplied ({ground}).",
    ),
    ("images-retrievable@2", "images-unreachable"): (
        "影像地址最近一次检查未应答，不可调阅（情形{ground}）。",
        "The address of the images did not answer when it was last asked ({ground}).",
    ),
    ("wider-examination@1", ""): (
        "所用结果为范围更大的检查（{item}），规则集允许其代替。",
        "The result is that of a wider examination ({item}), which the rule set lets answer.",
    ),
    ("newest-first@2", "newer-agrees"): (
        "另有更新的结果，与所选结果一致或相差在限度之内（{limit}，{source}）。",
        "A newer result says the same, or differs by no more than the limit ({limit}, {source}).",
    ),
    ("newest-first@2", "newer-result"): (
        "该项目有更新的结果，且没有可据以比较的限度，请先查看。",
        "There is a newer result, and no limit by which it could be compared; look at it first.",
    ),
    ("newest-first@2", "newer-pending"): (
        "该项目有更新的检查，结果尚未审核发布，请先查看。",
        "A newer examination has no final result yet; look at it first.",
    ),
    ("newest-first@2", "newer-critical"): (
        "该项目更新的结果为危急值，请先查看。",
        "A newer result is a critical value; look at it first.",
    ),
    ("newest-first@2", "newer-changed"): (
        "该项目更新的结果与所选结果相差超过限度（{limit}，{source}），请先查看。",
        "A newer result differs by more than the limit ({limit}, {source}); look at it first.",
    ),
}


def _kept() -> dict[tuple[str, str], Texts]:
    found: dict[tuple[str, str], Texts] = {}
    for rule, reasons in _KEPT.items():
        first = rule.replace("@2", "@1")
        for (name, reason), texts in _FIRST.items():
            if name == first and (not reasons or reason in reasons):
                found[rule, reason] = texts
    return found


#: (rule, reason); the reason "" is a rule that is met.
LINES: Mapping[tuple[str, str], Texts] = {**_FIRST, **_kept(), **_LATER}
