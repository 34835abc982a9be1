"""Cards: what a doctor reads of an order line. One card a line, and only when it says something.

CDS Hooks 2.0, "CDS Service Response". The indicator is always `info`: the law leaves the choice to
the doctor. Everything that comes from data is escaped, so that no name or value can become markup
(GitHub Flavored Markdown 6.1), and no summary reaches 140 characters.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from fhir_gateway.recognition.ask import CONTRADICTORY, UNKNOWN, Answer
from fhir_gateway.recognition.model import Candidate, ItemOutcome, Line
from fhir_gateway.recognition.order import Order
from fhir_gateway.recognition.record import card_uuid
from fhir_gateway.recognition.spell import exam_day, value_text, window_end
from fhir_gateway.recognition.texts import REASONS, outcome_sentence, sentence
from fhir_gateway.recognition.vocabulary import coding_of
from fhir_gateway.terminology.code_system import Vocabulary

Card = dict[str, Any]

SUMMARY_LIMIT = 139
SOURCE_LABEL = "检查检验结果互认平台"

#: Reasons of the whole item that are no reminder: nothing is known of this patient, or it is the
#: gateway's own affair (the order map, the rule set) and no doctor can do anything about it.
SILENT = frozenset({"none-available-to-you", "order-not-mapped", "no-rule-set-in-force"})

_HEADS = {
    "recognize": "可互认",
    "view-only": "可查阅",
    "cannot-decide": "无法判断",
}
_RANK = {"recognize": 0, "cannot-decide": 1, "view-only": 2}


def cards(answer: Answer, orders: Sequence[Order], vocabulary: Vocabulary, base: str) -> list[Card]:
    """The cards of an answer, in the order of the order lines. `base` is where links lead."""
    if _nobody(answer):
        return [_nobody_card(answer)]
    found: list[Card] = []
    reasons = override_reasons(vocabulary)
    by_key: dict[str, list[ItemOutcome]] = {}
    for item in answer.decision.items:
        by_key.setdefault(item.key, []).append(item)
    for number, order in enumerate(orders):
        speaking = [item for item in by_key.get(order.key, ()) if speaks(item)]
        if speaking:
            line = _Line(answer, number, order, by_key[order.key], vocabulary, base)
            found.append(_card(line, speaking, reasons))
    return found


def speaks(item: ItemOutcome) -> bool:
    """Whether a doctor should read about this item.

    *not-recognizable* is silent, unless a newer result exists: those are always shown.
    *cannot-decide* speaks only of an earlier result of this very patient.
    """
    if item.reason in SILENT:
        return False
    if item.outcome in ("recognize", "view-only"):
        return True
    if item.outcome == "cannot-decide":
        return item.chosen is not None
    return bool(item.newer)


class _Line(NamedTuple):
    """One order line with all its items."""

    answer: Answer
    number: int
    order: Order
    items: Sequence[ItemOutcome]
    vocabulary: Vocabulary
    base: str

    def name(self, item: ItemOutcome) -> str:
        """The item's name for people."""
        entry = self.vocabulary.catalogue.items.get(item.item or "")
        return entry.name_zh if entry else self.order.display or "未对应项目"

    def issuer(self, candidate: Candidate) -> str:
        """The name of the institution that issued a result."""
        known = self.answer.institutions.get(candidate.issuer)
        return known.name if known else "出具机构不明"


def _card(line: _Line, speaking: Sequence[ItemOutcome], reasons: list[dict[str, str]]) -> Card:
    first = min(speaking, key=lambda item: _RANK.get(item.outcome, 3))
    card: Card = {
        "uuid": card_uuid(line.answer.number, line.number),
        "summary": _summary(line, first, len(speaking)),
        "detail": "\n\n".join(_detail(line, speaking)),
        "indicator": "info",
        "source": {"label": SOURCE_LABEL},
        "overrideReasons": reasons,
        "links": list(_links(line, speaking)),
    }
    if may_suggest(line.answer, line.items):
        card["suggestions"] = [_suggestion(line)]
        card["selectionBehavior"] = "at-most-one"
    return card


def may_suggest(answer: Answer, items: Iterable[ItemOutcome]) -> bool:
    """Whether the workstation may offer to use the earlier results in place of the order line.

    Every item of the line must be *recognize* with `suggest` (a published window, no critical
    flag), and the patient no emergency: a half replaced panel would be neither done nor not done.
    """
    if "emergency" in answer.query.context:
        return False
    return all(item.outcome == "recognize" and item.suggest for item in items)


def _suggestion(line: _Line) -> dict[str, Any]:
    return {
        "label": "采用既往结果，撤下本条申请",
        "uuid": card_uuid(line.answer.number, line.number, 1),
        "actions": [
            {
                "type": "delete",
                "description": "撤下本条检查检验申请，采用既往结果",
                "resourceId": line.order.key,
            }
        ],
    }


def _summary(line: _Line, item: ItemOutcome, count: int) -> str:
    """`可互认：钾 3.9 mmol/L，市第一医院 2026-11-18`; the first of several items."""
    head = _HEADS.get(item.outcome, "另有新结果")
    subject = line.name(item) if len(line.items) == 1 else line.order.display or line.name(item)
    if count > 1:
        return shorten(f"{head}：{subject}，{count}项有既往结果，请查看并决定")
    result = item.chosen or item.newer[0].candidate
    said = " ".join(text for text in (line.name(item), value_text(result)) if text)
    day = exam_day(result, line.answer.query.zone)
    return shorten(f"{head}：{said}，{line.issuer(result)} {day}")


def _detail(line: _Line, speaking: Sequence[ItemOutcome]) -> Iterable[str]:
    for item in speaking:
        yield f"**{escape(line.name(item))}**：{escape(outcome_sentence(item))}"
        if rows := list(_rows(line, item)):
            yield "\n".join(rows)
    silent = [line.name(item) for item in line.items if item not in speaking]
    if silent:
        yield f"同一申请中的其他项目没有可提示的结果：{escape('、'.join(silent))}。"
    if stale := [source.name for source in line.answer.sources if source.stale]:
        yield f"以下来源近期没有送达数据，结果可能不全：{_some(stale)}。"
    yield "以上只作提醒，是否采用由接诊医师决定。"


def _rows(line: _Line, item: ItemOutcome) -> Iterable[str]:
    zone = line.answer.query.zone
    if item.chosen is not None:
        yield f"- 结果：{_result(line, item.chosen)}"
        if item.window_days is not None:
            end = window_end(item, zone)
            until = f"，至 {end}" if end else ""
            yield f"- 时限：{item.window_days} 天（{escape(item.window_source)}）{until}"
    for newer in item.newer:
        state = "尚未出报告" if newer.pending else "已出结果"
        yield f"- 更新的结果（{state}）：{_result(line, newer.candidate)}"
    for rule in item.lines:
        if _matters(rule):
            yield f"- {escape(sentence(rule))}{_clause(rule)}"
    if item.ground:
        ground = line.vocabulary.reasons.get(item.ground)
        if ground is not None:
            yield f"- 可复查的法定情形：{escape(ground.name_zh)}"


def _matters(line: Line) -> bool:
    """What stands in the way, and the evaluation that makes the mark."""
    return line.verdict in ("fail", "unknown") or "area" in line.values


def _clause(line: Line) -> str:
    return f"（依据：{escape(line.clause)}）" if line.clause else ""


def _result(line: _Line, candidate: Candidate) -> str:
    day = exam_day(candidate, line.answer.query.zone)
    texts = (value_text(candidate), line.issuer(candidate), day)
    return "，".join(escape(text) for text in texts if text)


def _some(names: Sequence[str], most: int = 5) -> str:
    shown = "、".join(escape(name) for name in names[:most])
    return shown if len(names) <= most else f"{shown}等 {len(names)} 家"


def _links(line: _Line, speaking: Sequence[ItemOutcome]) -> Iterable[dict[str, str]]:
    """The report of every result that the card names; without a report the result itself."""
    named: dict[str, str] = {}
    for item in speaking:
        results = [item.chosen] if item.chosen else []
        results += [newer.candidate for newer in item.newer]
        for result in results:
            address = result.report_source or result.source
            named.setdefault(address, f"{line.issuer(result)}的报告")
    for address, label in named.items():
        url = f"{line.base}/{address}"
        yield {"label": shorten(plain(label)), "url": url, "type": "absolute"}


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
        "source": {"label": SOURCE_LABEL},
    }


def undecided_card() -> Card:
    """Said when there was no answer in time. It has no uuid: there is nothing to answer."""
    return {
        "summary": "本次未能及时判断有无可互认结果，申请不受影响",
        "detail": "平台未能在规定时间内给出判断。这不表示该患者没有既往检查检验结果。",
        "indicator": "info",
        "source": {"label": SOURCE_LABEL},
    }


# -- text ---------------------------------------------------------------------------------------

#: What GitHub Flavored Markdown could take for markup inside a line, and what begins an autolink
#: (6.9): `www.`, `scheme:` and `@`.
_MARKUP = re.compile(
    r"[\\`*_\[\]<>#|~&!@$]|(?<=www)\.|(?<=http):|(?<=https):|(?<=ftp):|(?<=mailto):|(?<=xmpp):",
    re.IGNORECASE,
)
_REFERENCES = {"<": "&lt;", ">": "&gt;", "&": "&amp;"}


@lru_cache(maxsize=8_192)
def escape(text: str) -> str:
    """Text that Markdown shows as it is: no sign of it can become markup, HTML or a link."""
    return _MARKUP.sub(_escaped, plain(text))


def _escaped(match: re.Match[str]) -> str:
    return _REFERENCES.get(match[0]) or f"\\{match[0]}"


def plain(text: str) -> str:
    """One line without control, format and private characters (no bidirectional tricks)."""
    if text.isascii() and text.isprintable():
        return text
    kept = (
        " " if unicodedata.category(sign) in ("Zl", "Zp", "Cc") else sign
        for sign in text
        if unicodedata.category(sign) not in ("Cf", "Co", "Cs", "Cn")
    )
    return " ".join("".join(kept).split())


def shorten(text: str, limit: int = SUMMARY_LIMIT) -> str:
    """Plain text of at most `limit` characters."""
    text = plain(text)
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def override_reasons(vocabulary: Vocabulary) -> list[dict[str, str]]:
    """The six lawful grounds and the local ones."""
    return [coding_of(reason) for reason in vocabulary.reasons.values()]
