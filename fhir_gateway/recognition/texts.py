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
from fhir_gateway.recognition.texts_lines import LINES, Texts

Language = Literal["zh", "en"]
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
    "confirm-identity": (
        "另有一份记录很可能属于同一患者，且有该项目的结果，请先核实身份。",
        "another record is probably this patient's and has a result; confirm the identity first.",
    ),
    "identity-contradictory": (
        "提供的标识指向不同患者。",
        "the identifiers given belong to different persons.",
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
    line = next(line for line in item.lines if line.reason == item.reason)
    text = sentence(line, language)
    return text[0].lower() + text[1:] if language == "en" else text
