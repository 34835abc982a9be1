"""A panel in $recognize; what a report concludes is no input; an order without a context."""

from __future__ import annotations

from typing import Any

from city import POTASSIUM, SODIUM, City, order, outcomes, parts, said

from fhir_gateway.terminology.catalogue import LAB_SYSTEM

Json = dict[str, Any]


def _panel(city: City, patient: str, *items: str) -> Json:
    one = order(patient, items[0])
    one["orderDetail"] = [{"coding": [{"system": LAB_SYSTEM, "code": item}]} for item in items[1:]]
    asked: list[Json] = [
        {"name": "patient", "valueReference": {"reference": f"Patient/{patient}"}},
        {"name": "contextKnown", "valueBoolean": True},
    ]
    answer = city.operate("ServiceRequest/$recognize", [*asked, {"name": "order", "resource": one}])
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def test_a_panel_is_answered_member_by_member_and_as_a_whole(city: City) -> None:
    patient = city.patient()
    city.result(patient)
    answer = _panel(city, patient, POTASSIUM, SODIUM)
    assert outcomes(answer) == [
        ("recognize", "usable"),
        ("not-recognizable", "none-available-to-you"),
    ]
    (panel,) = parts(answer, "panel")
    assert said(panel, "outcome") == "not-recognizable"
    assert said(panel, "members") == 2
    assert parts(panel, "suggest") == []


def test_a_panel_whose_members_are_all_recognised_may_be_left_out(city: City) -> None:
    patient = city.patient()
    city.result(patient)
    city.result(patient, SODIUM, value="140")
    (panel,) = parts(_panel(city, patient, POTASSIUM, SODIUM), "panel")
    assert (said(panel, "outcome"), said(panel, "suggest")) == ("recognize", True)
    assert parts(city.recognize(patient, POTASSIUM, SODIUM), "panel") == []  # two order lines
