"""Cards: what a doctor reads of an order line. One card a line, and only when it says something.

CDS Hooks 2.0, "CDS Service Response". The indicator is always `info`: the law leaves the choice to
the doctor. Everything that comes from data is escaped, so that no name or value can become markup
(GitHub Flavored Markdown 6.1), and no summary reaches 140 characters.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import Any, NamedTuple

import orjson

from fhir_gateway.cds_hooks.markdown import escape, shorten
from fhir_gateway.recognition.ask import CONTRADICTORY, UNKNOWN, Answer
from fhir_gateway.recognition.legible import deciding, legible, outcome, source
from fhir_gateway.recognition.model import CRITICAL, Candidate, ItemOutcome
from fhir_gateway.recognition.order import Order
from fhir_gateway.recognition.record import card_uuid
from fhir_gateway.recognition.spell import exam_day, value_text, window_end
from fhir_gateway.recognition.texts import REASONS, sentence
from fhir_gateway.terminology.code_system import Vocabulary

Card = dict[str, Any]

SOURCE = {"label": "检查检验结果互认平台"}

#: Reasons of the whole item that are no reminder: nothing is known of this patient, or it is the
#: gateway's own affair (the order map, the rule set) and no doctor can do anything about it.
SILENT = frozenset({"none-available-to-you", "order-not-mapped", "no-rule-set-in-force"})

#: Another record may be this person's and hold a result: the person must be confirmed first.
CONFIRM = frozenset({"identity-contested", "confirm-identity"})

_HEADS = {
    "recognize": "可互认",
    "view-only": "可查阅",
    "cannot-decide": "无法判断",
}
_NEWER = "另有新结果"
_DOCTOR = "以上只作提醒，是否采用由接诊医师决定。"
#: Stale sources that a card names.
MOST_STALE = 5
_RANK = {"recognize": 0, "cannot-decide": 1, "view-only": 2}


class Said(NamedTuple):
    """What cards need beside the answer.

    `base` is where links lead, `reasons` are the override reasons as JSON: every card has them.
    `missing` are the prefetch keys of the patient's situation that could not be had, `drafts` the
    order lines by their key; `removable` says that one may be replaced by earlier results.
    """

    vocabulary: Vocabulary
    base: str
    reasons: bytes
    missing: Sequence[str] = ()
    drafts: Mapping[str, Mapping[str, Any]] = MappingProxyType({})
    removable: bool = True


def cards(answer: Answer, orders: Sequence[Order], said: Said) -> dict[str, Card]:
    """The cards of an answer by the keys of the order lines, in their order."""
    if _nobody(answer):
        return {"": _nobody_card(answer)}
    found: dict[str, Card] = {}
    notes = _notes(answer, said)
    by_key: dict[str, list[ItemOutcome]] = {}
    for item in answer.decision.items:
        by_key.setdefault(item.key, []).append(item)
    for number, order in enumerate(orders):
        speaking = [item for item in by_key.get(order.key, ()) if speaks(item)]
        if speaking:
            line = _Line(answer, number, order, by_key[order.key], said)
            found[order.key] = _card(line, speaking, notes)
    return found


def speaks(item: ItemOutcome) -> bool:
    """Whether a doctor should read about this item.

    *not-recognizable* is silent, unless a newer result exists: those are always shown.
    *cannot-decide* speaks only of an earlier result of this very patient, or of a record of the
    same document under another name, which may hold one.
    """
    if item.reason in SILENT:
        return False
    if item.outcome in ("recognize", "view-only"):
        return True
    if item.outcome == "cannot-decide":
        return item.chosen is not None or item.reason in CONFIRM
    return bool(item.newer)


class _Line(NamedTuple):
    """One order line with all its items."""

    answer: Answer
    number: int
    order: Order
    items: Sequence[ItemOutcome]
    said: Said

    def name(self, item: ItemOutcome) -> str:
        """The item's name for people."""
        entry = self.said.vocabulary.catalogue.items.get(item.item or "")
        return entry.name_zh if entry else self.order.display or "未对应项目"

    def issuer(self, candidate: Candidate) -> str:
        """The name of the institution that issued a result."""
        known = self.answer.institutions.get(candidate.issuer)
        return known.name if known else "出具机构不明"

    def origin(self, candidate: Candidate) -> str:
        """Institution and day of a result."""
        return f"{self.issuer(candidate)} {exam_day(candidate, self.answer.query.zone)}"

    def result(self, candidate: Candidate) -> str:
        """Value, institution and day of a result, for the detail."""
        day = exam_day(candidate, self.answer.query.zone)
        value = valued(candidate)
        told = f"{escape(self.issuer(candidate))}，{day}"
        return f"{escape(value)}，{told}" if value else told


def valued(candidate: Candidate) -> str:
    """The value with its unit, and that it is a critical one; "" for what has none."""
    critical = "（危急值）" if candidate.flags & CRITICAL else ""
    return value_text(candidate) + critical


def _card(line: _Line, speaking: Sequence[ItemOutcome], notes: str) -> Card:
    links: dict[str, dict[str, str]] = {}
    detail = [_tell(line, item, links) for item in speaking]
    if len(speaking) < len(line.items):
        silent = "、".join(line.name(item) for item in line.items if item not in speaking)
        detail.append(f"同一申请中的其他项目没有可提示的结果：{escape(silent)}。")
    detail.append(notes)
    card: Card = {
        "uuid": card_uuid(line.answer.number, line.number),
        "summary": _summary(line, speaking),
        "detail": "\n\n".join(detail),
        "indicator": "info",
        "source": SOURCE,
        "overrideReasons": orjson.Fragment(line.said.reasons),
    }
    if links:
        card["links"] = list(links.values())
    if line.said.removable and may_suggest(line.answer, line.items):
        card["suggestions"] = [_suggestion(line)]
        card["selectionBehavior"] = "at-most-one"
    return card


def may_suggest(answer: Answer, items: Iterable[ItemOutcome]) -> bool:
    """Whether the workstation may offer to use the earlier results in place of the order line.

    Every item of the line must be *recognize* with `suggest` (a published window, no critical
    flag), the patient's situation known and no emergency: a half replaced panel would be neither
    done nor not done.
    """
    if "emergency" in answer.query.context or not answer.query.context_known:
        return False
    return all(item.suggest and item.outcome == "recognize" for item in items)


def _suggestion(line: _Line) -> dict[str, Any]:
    """Takes the order line out, and keeps in the chart in favour of which results."""
    results = {
        f"{item.chosen.source}/_history/{item.chosen.version}": shorten(line.origin(item.chosen))
        for item in line.items
        if item.chosen is not None
    }
    return {
        "label": "采用既往结果，撤下本条申请",
        "uuid": card_uuid(line.answer.number, line.number, 1),
        "actions": [
            {
                "type": "delete",
                "description": "撤下本条检查检验申请，采用既往结果",
                "resourceId": line.order.key,
            },
            {
                "type": "create",
                "description": "将撤下的申请连同所采用的既往结果存档备查",
                "resource": withdrawn(
                    line.said.drafts.get(line.order.key, {}),
                    {f"{line.said.base}/{name}": label for name, label in results.items()},
                ),
            },
        ],
    }


#: What of an order says what was ordered, for whom, by whom and in which visit.
_ORDERED = ("category", "code", "orderDetail", "subject", "encounter", "requester", "bodySite")


def withdrawn(draft: Mapping[str, Any], results: Mapping[str, str]) -> dict[str, Any]:
    """The order line as it stays in the chart: withdrawn, with the results used in its place.

    `results` are addresses with their labels. Nobody performs or charges a revoked order.
    hl7.org/fhir/R4/servicerequest.html
    """
    return {
        "resourceType": "ServiceRequest",
        "status": "revoked",
        "intent": "order",
        **{name: draft[name] for name in _ORDERED if name in draft},
        "supportingInfo": [
            {"reference": address, "display": label} for address, label in results.items()
        ],
    }


def _summary(line: _Line, speaking: Sequence[ItemOutcome]) -> str:
    """`可互认：钾 3.9 mmol/L，市第一医院 2026-11-18`; a count where there are several items."""
    item = speaking[0]
    if len(speaking) > 1:
        item = min(speaking, key=lambda one: _RANK.get(one.outcome, 3))
        name = line.order.display or line.name(item)
        head = _HEADS.get(item.outcome, _NEWER)
        if item.chosen is None and item.reason in CONFIRM:
            return shorten(f"{head}：{name}，{REASONS[item.reason][0]}")
        alike = sum(one.outcome == item.outcome for one in speaking)
        if item.outcome == "recognize" and alike < len(line.items):
            told = f"{len(line.items)}项中{alike}项可互认，请查看并决定"
            return shorten(f"部分可互认：{name}，{told}")
        return shorten(f"{head}：{name}，{len(speaking)}项有既往结果，请查看并决定")
    if item.reason in CONFIRM and item.chosen is None:
        return shorten(f"{_HEADS[item.outcome]}：{line.name(item)}，{REASONS[item.reason][0]}")
    result = item.chosen if item.outcome in _HEADS else None
    result = result or item.newer[0].candidate
    value = valued(result)
    said = f"{line.name(item)} {value}" if value else line.name(item)
    day = exam_day(result, line.answer.query.zone)
    head = _HEADS.get(item.outcome, _NEWER)
    return shorten(f"{head}：{said}，{line.issuer(result)} {day}")


def _tell(line: _Line, item: ItemOutcome, links: dict[str, dict[str, str]]) -> str:
    """What the detail says of one item; adds the reports that it names to `links`."""
    vocabulary, decided = line.said.vocabulary, deciding(item)
    told = escape(outcome(item, vocabulary)) + (_clause(decided.clause) if decided else "")
    rows = [f"**{escape(line.name(item))}**：{told}", ""]
    if item.chosen is not None:
        rows.append(f"- 结果：{line.result(item.chosen)}")
        _link(line, item.chosen, links)
        if item.window_days is not None:
            end = window_end(item, line.answer.query.zone)
            until = f"，至 {end}" if end else ""
            rows.append(
                f"- 时限：{item.window_days} 天（{escape(source(item.window_source))}）{until}"
            )
    for newer in item.newer:
        state = "尚未出报告" if newer.pending else "已出结果"
        rows.append(f"- 更新的结果（{state}）：{line.result(newer.candidate)}")
        _link(line, newer.candidate, links)
    # what stands in the way, and the evaluation that makes the mark
    rows += [
        f"- {escape(sentence(legible(rule, vocabulary)))}{_clause(rule.clause)}"
        for rule in item.lines
        if rule is not decided
        and rule.reason != _IN_THE_NOTES
        and (rule.verdict in _OPEN or "area" in rule.values)
    ]
    if item.ground in vocabulary.reasons:
        name = vocabulary.reasons[item.ground].name_zh
        rows.append(f"- 可复查的法定情形：{escape(name)}")
    return "\n".join(rows)


_OPEN = frozenset({"fail", "unknown"})
#: What all cards of an answer say at their end.
_IN_THE_NOTES = "context-not-known"


@lru_cache(maxsize=1_024)
def _clause(clause: str) -> str:
    return f"（依据：{escape(clause)}）" if clause else ""


def _link(line: _Line, result: Candidate, links: dict[str, dict[str, str]]) -> None:
    """The report of a result; without a report the result itself."""
    address = result.report_source or result.source
    if address not in links:
        label = shorten(f"{line.origin(result)} 的报告")
        links[address] = {"label": label, "url": f"{line.said.base}/{address}", "type": "absolute"}


#: What the situation of a patient rests on, as a doctor calls it.
_PARTS = {
    "encounter": "就诊信息",
    "conditions": "诊断",
    "requests": "在用医嘱",
    "procedures": "拟行手术或操作",
}


def _notes(answer: Answer, said: Said) -> str:
    """What is true of every card of an answer: what is missing, which sources are stale, and who
    decides."""
    notes = []
    if not answer.query.context_known:
        parts = "、".join(_PARTS[key] for key in said.missing) or "就诊情形"
        notes.append(f"未取得该患者的{parts}，未考虑相应情形，因此不提供“采用既往结果”的一键操作。")
    stale = [source.name for source in answer.stale[:MOST_STALE]]
    if stale:
        shown = "、".join(map(escape, stale))
        more = f"等 {len(answer.stale)} 家" if len(answer.stale) > MOST_STALE else ""
        notes.append(f"以下来源近期没有送达数据，结果可能不全：{shown}{more}。")
    return "\n\n".join([*notes, _DOCTOR])


# -- somebody nobody knows --------------------------------------------------------------------


def _nobody(answer: Answer) -> bool:
    return bool(answer.decision.items) and all(
        item.reason in (UNKNOWN, CONTRADICTORY) for item in answer.decision.items
    )


def _nobody_card(answer: Answer) -> Card:
    """Silence would read as "no earlier result"; what is not known is said instead."""
    text = REASONS[answer.decision.items[0].reason][0]
    return {
        "uuid": card_uuid(answer.number, 0),
        "summary": shorten(f"未能判断有无可互认结果：{text}"),
        "detail": f"{escape(text)}这不表示该患者没有既往检查检验结果。本次申请不受影响。",
        "indicator": "info",
        "source": SOURCE,
    }


def undecided_card() -> Card:
    """Said when there was no answer in time. It has no uuid: there is nothing to answer."""
    return {
        "summary": "本次未能及时判断有无可互认结果，申请不受影响",
        "detail": "平台未能在规定时间内给出判断。这不表示该患者没有既往检查检验结果。",
        "indicator": "info",
        "source": SOURCE,
    }
