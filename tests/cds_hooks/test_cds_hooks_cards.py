"""Cards, rule by rule: when one is shown, what it says, what it offers, what it never does."""

from __future__ import annotations

import re
from typing import Any

import pytest
from card_shape import assert_response
from city import COMPILED, DOCUMENT, POTASSIUM, SODIUM, City, Json, day, order
from fhir.resources.R4B.servicerequest import ServiceRequest

from fhir_gateway.cds_hooks.cards import speaks
from fhir_gateway.cds_hooks.markdown import SUMMARY_LIMIT, escape, plain, shorten
from fhir_gateway.recognition.legible import SITUATIONS, source
from fhir_gateway.recognition.model import CONTEXTS, ItemOutcome
from fhir_gateway.settings import CANONICAL

LOCAL_PANEL = {"system": "urn:receiver:orders", "code": "PANEL"}


def cards(city: City, patient: str, *orders: Json, **changes: Any) -> list[Json]:
    answer = city.hook(patient, *orders, **changes)
    assert answer.status_code == 200, answer.text
    assert_response(answer.json())
    found: list[Json] = answer.json()["cards"]
    return found


def panel(patient: str, *items: str, id: str = "panel") -> Json:
    """One order line of several items, as the order map of an institution makes it."""
    system = f"{CANONICAL}/CodeSystem/catalogue-lab"
    details = [{"coding": [{"system": system, "code": item}]} for item in items]
    code = {"coding": [LOCAL_PANEL], "text": "电解质两项"}
    return order(patient, id=id, code=code, orderDetail=details)


def test_a_usable_result_gives_one_card_that_names_it(city: City) -> None:
    patient = city.patient()
    observation = city.result(patient, value="3.950")
    (card,) = cards(city, patient, order(patient))
    assert re.fullmatch(r"可互认：钾 3\.950 mmol/L，检验医院 \d{4}-\d\d-\d\d", card["summary"])
    assert card["indicator"] == "info"
    assert card["source"] == {"label": "检查检验结果互认平台"}
    assert "由接诊医师决定" in card["detail"]
    (link,) = card["links"]
    report = city.search(f"DiagnosticReport?patient={patient}&result={observation}")[0]["id"]
    assert link == {
        "label": f"检验医院 {day(1)[:10]} 的报告",
        "url": f"http://127.0.0.1/fhir/DiagnosticReport/{report}",
        "type": "absolute",
    }


def test_the_card_offers_the_six_lawful_grounds_and_the_local_ones(city: City) -> None:
    patient = city.patient()
    city.result(patient)
    (card,) = cards(city, patient, order(patient))
    codes = [reason["code"] for reason in card["overrideReasons"]]
    assert codes[:6] == ["N1", "N2", "N3", "N4", "N5", "N6"]
    assert len(codes) > 6
    assert all(set(one) == {"code", "system", "display"} for one in card["overrideReasons"])


def test_the_suggestion_deletes_the_draft_and_keeps_what_was_used_instead(city: City) -> None:
    patient = city.patient()
    observation = city.result(patient)
    draft = order(patient, id="draft-9", note=[{"text": "不外传"}], priority="routine")
    (card,) = cards(city, patient, draft)
    (suggestion,) = card["suggestions"]
    assert suggestion["uuid"] and suggestion["label"]
    delete, create = suggestion["actions"]
    assert (delete["type"], delete["resourceId"]) == ("delete", "ServiceRequest/draft-9")
    assert create["type"] == "create"
    withdrawn = create["resource"]
    assert (withdrawn["resourceType"], withdrawn["status"]) == ("ServiceRequest", "revoked")
    assert withdrawn["code"] == draft["code"]
    assert withdrawn["subject"] == draft["subject"]
    assert "id" not in withdrawn and "note" not in withdrawn
    (used,) = withdrawn["supportingInfo"]
    assert used["reference"] == f"http://127.0.0.1/fhir/{observation}/_history/1"
    assert re.fullmatch(r"检验医院 \d{4}-\d\d-\d\d", used["display"])
    ServiceRequest.model_validate(withdrawn)
    assert card["selectionBehavior"] == "at-most-one"
    assert "systemActions" not in card


def test_no_suggestion_when_the_window_is_not_published(city: City) -> None:
    patient = city.patient()
    city.result(patient, COMPILED)
    (card,) = cards(city, patient, order(patient, COMPILED))
    assert card["summary"].startswith("可互认：")
    assert "suggestions" not in card
    assert "selectionBehavior" not in card


def test_no_suggestion_for_a_critical_value(city: City) -> None:
    patient = city.patient()
    system = "http://terminology.hl7.org/CodeSystem/v3-ObservationInterpretation"
    city.result(patient, interpretation=[{"coding": [{"system": system, "code": "HH"}]}])
    (card,) = cards(city, patient, order(patient))
    assert "suggestions" not in card
    assert card["summary"].startswith("可互认：钾 3.95 mmol/L（危急值），")
    assert "结果为危急值" in card["detail"]


@pytest.mark.parametrize("priority", ["stat", "asap"])
def test_no_suggestion_in_an_emergency(city: City, priority: str) -> None:
    patient = city.patient()
    city.result(patient)
    (card,) = cards(city, patient, order(patient, priority=priority))
    assert "suggestions" not in card
    assert "急诊" in card["detail"]


def test_an_emergency_encounter_is_one_too(city: City) -> None:
    patient = city.patient()
    city.result(patient)
    encounter = {"resourceType": "Encounter", "class": {"code": "EMER"}}
    (card,) = cards(city, patient, order(patient), prefetch={"encounter": encounter})
    assert "suggestions" not in card


def test_nothing_to_say_is_an_empty_list(city: City) -> None:
    patient = city.patient()
    assert cards(city, patient, order(patient)) == []
    assert cards(city, patient) == []
    medicine = {"resourceType": "MedicationRequest", "id": "m", "status": "draft"}
    assert cards(city, patient, medicine) == []


def test_an_order_that_is_not_mapped_gives_no_card(city: City) -> None:
    patient = city.patient()
    city.result(patient)
    assert cards(city, patient, order(patient, code={"text": "院内特殊项目"})) == []


def test_a_result_that_is_another_thing_gives_no_card(city: City) -> None:
    patient = city.patient()
    city.result(patient, specimen={"display": "24小时尿"})
    assert cards(city, patient, order(patient)) == []


def test_a_missing_fact_of_this_patients_result_is_named(city: City) -> None:
    patient = city.patient()
    city.result(patient, specimen={"display": "标本甲"})
    (card,) = cards(city, patient, order(patient))
    assert card["summary"].startswith("无法判断：钾")
    assert "标本" in card["detail"]
    assert "suggestions" not in card


def test_a_document_under_another_name_is_said_where_no_result_is_known(city: City) -> None:
    other = city.patient()
    document = city.running.get(f"/fhir/Patient/{other}", headers=city.sender).json()["identifier"]
    named = [one for one in document if one["system"] == DOCUMENT]
    resource = {"resourceType": "Patient", "name": [{"text": "另名"}], "identifier": named}
    patient = city.create(resource)
    for items in ((POTASSIUM,), (POTASSIUM, SODIUM)):
        (card,) = cards(city, patient, panel(patient, *items))
        assert card["summary"].startswith("无法判断")
        assert "请先核实患者身份" in card["summary"]
        assert "links" not in card
        assert "suggestions" not in card


def test_what_hangs_on_who_the_patient_is_speaks_without_a_result() -> None:
    for reason, heard in (("confirm-identity", True), ("identity-contested", True), ("x", False)):
        assert speaks(ItemOutcome("a", POTASSIUM, "cannot-decide", reason)) == heard
    assert not speaks(ItemOutcome("a", POTASSIUM, "not-recognizable", "none-available-to-you"))


def test_a_view_only_result_is_shown_with_what_stands_in_the_way(city: City) -> None:
    patient = city.patient()
    city.result(patient, ago=30)
    (card,) = cards(city, patient, order(patient))
    assert card["summary"].startswith("可查阅：钾")
    assert "仅供查阅：超出7天的互认时限（湖北省公布）。（依据：" in card["detail"]
    assert card["detail"].count("超出7天") == 1


def test_one_card_for_each_order_line_in_their_order(city: City) -> None:
    patient = city.patient()
    city.result(patient, SODIUM)
    city.result(patient, POTASSIUM)
    found = cards(
        city,
        patient,
        order(patient, POTASSIUM, "a"),
        order(patient, "L088", "b"),
        order(patient, SODIUM, "c"),
    )
    names = [card["summary"].partition("：")[2].partition(" ")[0] for card in found]
    assert names == ["钾", "钠"]
    deleted = [card["suggestions"][0]["actions"][0]["resourceId"] for card in found]
    assert deleted == ["ServiceRequest/a", "ServiceRequest/c"]


def test_a_panel_is_one_card_and_is_replaced_whole_or_not_at_all(city: City) -> None:
    patient = city.patient()
    city.result(patient, POTASSIUM)
    (half,) = cards(city, patient, panel(patient, POTASSIUM, SODIUM))
    assert half["summary"].startswith("可互认：钾")
    assert "没有可提示的结果：钠" in half["detail"]
    assert "suggestions" not in half
    city.result(patient, SODIUM, ago=30)
    (part,) = cards(city, patient, panel(patient, POTASSIUM, SODIUM))
    assert part["summary"] == "部分可互认：电解质两项，2项中1项可互认，请查看并决定"
    assert "suggestions" not in part
    city.result(patient, SODIUM)
    (whole,) = cards(city, patient, panel(patient, POTASSIUM, SODIUM))
    assert whole["summary"] == "可互认：电解质两项，2项有既往结果，请查看并决定"
    assert len(whole["suggestions"]) == 1


def test_a_doctor_reads_names_and_no_codes(city: City) -> None:
    patient = city.patient()
    city.result(patient)
    (card,) = cards(city, patient, order(patient, priority="stat"))
    assert "患者情形（急诊）" in card["detail"]
    assert "范围北京市覆盖接诊机构" in card["detail"]
    assert "时限：7 天（湖北省公布）" in card["detail"]
    assert card["detail"].count("患者情形") == 1
    city.result(patient, COMPILED)
    (card,) = cards(city, patient, order(patient, COMPILED))
    assert "时限：7 天（本目录编制）" in card["detail"]
    assert set(SITUATIONS) == set(CONTEXTS)
    told = [source(one) for one in ("published:BJ", "compiled:NCCL", "rule-set", "other", "")]
    assert told == ["BJ公布", "本目录编制，参照NCCL", "规则集规定", "other", ""]


def test_a_newer_pending_result_is_shown_and_lowers_the_offer(city: City) -> None:
    patient = city.patient()
    city.result(patient, ago=3)
    city.result(patient, ago=1, status="preliminary", report="preliminary", value="7.1")
    (card,) = cards(city, patient, order(patient))
    assert "suggestions" not in card
    assert "更新的结果（尚未出报告）" in card["detail"]
    assert len({link["label"] for link in card["links"]}) == 2


def test_stale_sources_are_named_in_the_detail(city: City) -> None:
    patient = city.patient()
    city.result(patient)
    (card,) = cards(city, patient, order(patient))
    assert "以下来源近期没有送达数据，结果可能不全：接诊医院。" in card["detail"]


def test_only_what_was_just_selected_is_decided(city: City) -> None:
    patient = city.patient()
    city.result(patient, POTASSIUM)
    city.result(patient, SODIUM)
    (card,) = cards(
        city,
        patient,
        order(patient, POTASSIUM, "a"),
        order(patient, SODIUM, "b"),
        service="recognition-order-select",
        context={"selections": ["ServiceRequest/b"]},
    )
    assert card["summary"].startswith("可互认：钠")


# -- who ------------------------------------------------------------------------------------


def _document(city: City, patient: str) -> Json:
    (stored,) = city.search(f"Patient?_id={patient}")
    return next(one for one in stored["identifier"] if one["system"] == DOCUMENT)


def test_a_patient_of_another_server_is_known_by_identifier(city: City) -> None:
    patient = city.patient()
    city.result(patient)
    person = {"resourceType": "Patient", "identifier": [_document(city, patient)]}
    (card,) = cards(
        city,
        "his-4711",
        order("his-4711"),
        fhirServer="https://his.example.org/fhir",
        prefetch={"patient": person},
    )
    assert card["summary"].startswith("可互认：钾")


def test_an_id_of_another_server_is_never_taken_for_one_of_ours(city: City) -> None:
    patient = city.patient()
    city.result(patient)
    stranger = {"resourceType": "Patient", "id": patient, "identifier": []}
    (card,) = cards(
        city,
        patient,
        order(patient),
        fhirServer="https://his.example.org/fhir",
        prefetch={"patient": stranger},
    )
    assert card["summary"].startswith("未能判断有无可互认结果")


@pytest.mark.parametrize("prefetched", [None, {"resourceType": "Patient"}])
def test_somebody_unknown_is_said_and_not_passed_over(city: City, prefetched: Any) -> None:
    (card,) = cards(city, "nobody", order("nobody"), prefetch={"patient": prefetched})
    assert card["summary"] == "未能判断有无可互认结果：本平台没有该患者的记录。"
    assert "不表示该患者没有既往检查检验结果" in card["detail"]
    assert card["indicator"] == "info"


def test_identifiers_of_two_persons_contradict_each_other(city: City) -> None:
    one, other = city.patient(), city.patient()
    city.result(one)
    both = [_document(city, one), _document(city, other)]
    prefetch = {"patient": {"resourceType": "Patient", "identifier": both}}
    (card,) = cards(city, one, order(one), prefetch=prefetch)
    assert card["summary"] == "未能判断有无可互认结果：提供的标识指向不同患者。"
    recorded = city.search(f"GuidanceResponse?patient={one}")
    assert recorded == []


# -- text ---------------------------------------------------------------------------------------

HOSTILE = [
    "<script>alert(1)</script>",
    "[点击](javascript:alert(1))",
    "![x](http://169.254.169.254/latest)",
    "**粗** _斜_ `码` ~~删~~ | 表 |",
    "www.example.org https://example.org a@example.org mailto:a@example.org",
    "&lt;img src=x onerror=alert(1)&gt;",
    "换行\n\n# 标题\r\n- 项",
    "\u202e反向\u200b零宽\ufeff",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_names_from_data_cannot_become_markup(city: City, text: str) -> None:
    patient = city.patient()
    city.result(patient, POTASSIUM)
    hostile = panel(patient, POTASSIUM, "L088")
    hostile["code"]["text"] = text
    hostile["orderDetail"][1] = {"coding": [{"system": LOCAL_PANEL["system"], "code": text}]}
    (card,) = cards(city, patient, hostile)
    assert_harmless(card["detail"])
    assert plain(card["summary"]) == card["summary"]


@pytest.mark.parametrize("text", HOSTILE)
def test_values_from_data_cannot_become_markup(city: City, text: str) -> None:
    patient = city.patient()
    city.result(patient, valueQuantity=..., valueString=text.replace("\r", ""))
    (card,) = cards(city, patient, order(patient))
    assert_harmless(card["detail"])


def assert_harmless(detail: str) -> None:
    """Outside our own two asterisks and list signs nothing in the text is markup."""
    assert not re.search(r"<|>|(?<!\\)`|(?<!\\)\[|(?<!\\)_|(?<!\\)~|(?<!\\)\||(?<!\\)!", detail)
    assert not re.search(r"&(?!lt;|gt;|amp;)|(?<!\\)@|www\.|https?:|mailto:", detail)
    assert not re.search(r"^\s*#", detail, re.MULTILINE)
    assert not re.search("[\u200b\u202e\ufeff\r]", detail)


def test_no_summary_reaches_140_characters(city: City) -> None:
    patient = city.patient()
    city.result(patient, POTASSIUM)
    city.result(patient, SODIUM)
    long = panel(patient, POTASSIUM, SODIUM)
    long["code"]["text"] = "很长的项目名称" * 60
    (card,) = cards(city, patient, long)
    assert len(card["summary"]) == SUMMARY_LIMIT
    assert len(shorten("字" * 500)) == SUMMARY_LIMIT < 140
    assert shorten("短") == "短"


def test_escaping_keeps_ordinary_text_legible() -> None:
    assert escape("3.9 mmol/L，2026-11-18（7天）") == "3.9 mmol/L，2026-11-18（7天）"
    assert escape("10*9/L") == "10\\*9/L"
