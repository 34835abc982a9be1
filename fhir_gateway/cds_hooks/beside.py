"""What is told beside the orders: how much there is of a patient, and what has changed since.

Hook patient-view shows one card with the number of earlier results, and nothing when there are
none. At every hook an institution that relied on a result hears when that result was corrected,
voided or given to another person since (recognition.relied), until somebody takes note of it.
"""

from __future__ import annotations

from collections.abc import Sequence

from fhir_gateway.cds_hooks.cards import SOURCE, Card
from fhir_gateway.cds_hooks.markdown import escape, shorten
from fhir_gateway.recognition.alert_task import Alert
from fhir_gateway.recognition.overview import Overview
from fhir_gateway.terminology.catalogue import Catalogue

#: Alerts that one card tells; the work list has all.
MOST_ALERTS = 10

#: How a doctor reads a change (CodeSystem relied-change).
_CHANGES = {
    "wrong-patient": "原机构声明报错患者，已撤回",
    "other-person": "已改归其他人员",
    "other-patient": "已改归其他患者记录",
    "voided": "已作废",
    "deleted": "已删除",
    "corrected": "已更正",
    "other-issuer": "出具机构已变更",
}


def badge(counted: Overview, patient: str, base: str) -> list[Card]:
    """One card with the numbers, or none."""
    parts = [
        f"{number}项{what}"
        for number, what in (
            (counted.recognizable, "可互认"),
            (counted.viewable, "可查阅"),
            (counted.undecided, "待核实"),
        )
        if number
    ]
    if not parts:
        return []
    newest = f"，最近一次 {counted.newest}" if counted.newest else ""
    return [
        {
            "summary": shorten(f"既往检查检验结果：{'、'.join(parts)}{newest}"),
            "detail": "按目前的规则逐项计算，未考虑患者的具体情形；开立医嘱时会再逐条提示依据。"
            "是否采用由接诊医师决定。",
            "indicator": "info",
            "source": SOURCE,
            "links": [
                {
                    "label": "查看全部既往结果",
                    "url": f"{base}/Patient/{patient}/$prior-results",
                    "type": "absolute",
                }
            ],
        }
    ]


def alert_cards(alerts: Sequence[Alert], catalogue: Catalogue, base: str) -> list[Card]:
    """One card for all changes of what this institution relied on, or none."""
    if not alerts:
        return []
    shown = alerts[:MOST_ALERTS]
    rows = [
        f"- **{escape(_names(one, catalogue))}**：{_CHANGES.get(one.change, '已变更')}"
        f"（{escape(one.at[:10])}）"
        for one in shown
    ]
    if len(alerts) > len(shown):
        rows.append(f"- 另有 {len(alerts) - len(shown)} 项，见工作清单")
    card: Card = {
        "summary": shorten(f"曾采用的既往结果有{len(alerts)}项发生变更，请核实"),
        "detail": "本机构曾采用或查阅的下列结果，出具机构其后有变更：\n\n"
        + "\n".join(rows)
        + "\n\n请核对病历，必要时复查。在工作清单中确认后不再提示。",
        "indicator": "info",
        "source": SOURCE,
    }
    links = [
        {
            "label": shorten(f"变更后的结果：{_names(one, catalogue)}"),
            "url": f"{base}/{one.now}",
            "type": "absolute",
        }
        for one in shown
        if one.now
    ]
    if links:
        card["links"] = links
    return [card]


def _names(alert: Alert, catalogue: Catalogue) -> str:
    known = [catalogue.items[item].name_zh for item in alert.items if item in catalogue.items]
    return "、".join(known) or "检查检验结果"
