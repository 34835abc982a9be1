"""Feedback: what the doctor did with a card is an answer on record, however often it comes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from city import POTASSIUM, SODIUM, City, Json, order, reason_system

SERVICE = "recognition-order-sign"
AT = "2024-11-20T08:00:00Z"


def shown(city: City, *items: str) -> tuple[str, list[Json]]:
    """A patient with usable results, and the cards about them."""
    patient = city.patient()
    for item in items:
        city.result(patient, item)
    orders = [order(patient, item, f"draft-{item}") for item in items]
    return patient, city.hook(patient, *orders).json()["cards"]


def feedback(city: City, *entries: Json, service: str = SERVICE, **options: Any) -> Any:
    return city.send(f"{service}/feedback", {"feedback": list(entries)}, **options)


def accepted(card: Json, **changes: Any) -> Json:
    suggestions = [{"id": card["suggestions"][0]["uuid"]}]
    entry = {"card": card["uuid"], "outcome": "accepted", "acceptedSuggestions": suggestions}
    return {**entry, "outcomeTimestamp": AT, **changes}


def overridden(card: Json, **changes: Any) -> Json:
    entry = {"card": card["uuid"], "outcome": "overridden", "outcomeTimestamp": AT}
    return {**entry, **changes}


def answers(city: City, patient: str) -> list[Json]:
    found = city.search(f"Task?patient={patient}&code=recognition-answer")
    return [one for one in found if one["resourceType"] == "Task"]


def codes(task: Json) -> list[str]:
    return [one["code"] for one in task["businessStatus"]["coding"]]


def item(task: Json) -> str:
    """The code of the catalogue that an answer is about."""
    return str(task["code"]["coding"][1]["code"])


def test_an_accepted_suggestion_is_a_recognised_result(city: City) -> None:
    patient, (card,) = shown(city, POTASSIUM)
    answer = feedback(city, accepted(card))
    assert (answer.status_code, answer.json()) == (200, {})
    (stored,) = answers(city, patient)
    assert codes(stored) == ["accepted"]
    assert stored["authoredOn"] == AT
    results = [one["valueReference"]["reference"] for one in stored["input"][1:]]
    assert results[0].startswith("Observation/")
    assert results[0].endswith("/_history/1")
    recorded = city.search(f"GuidanceResponse?patient={patient}")[0]
    assert stored["focus"] == {"reference": f"GuidanceResponse/{recorded['id']}"}
    assert stored["requester"]["display"] == "Practitioner/example"
    assert stored["input"][0]["valueString"].endswith("draft-L001")


def test_an_override_keeps_ground_and_comment(city: City) -> None:
    patient, (card,) = shown(city, POTASSIUM)
    reason = {"code": "N6", "system": reason_system()}
    given = {"reason": reason, "userComment": " 需复查 "}
    assert feedback(city, overridden(card, overrideReason=given)).status_code == 200
    (stored,) = answers(city, patient)
    assert codes(stored) == ["repeated", "N6"]
    assert stored["statusReason"]["coding"][0]["code"] == "N6"
    assert stored["note"] == [{"text": "需复查"}]


def test_an_override_without_a_reason_is_accepted_and_flagged(city: City) -> None:
    patient, (card,) = shown(city, POTASSIUM)
    assert feedback(city, overridden(card)).status_code == 200
    (stored,) = answers(city, patient)
    assert codes(stored) == ["repeated", "reason-missing"]


def test_a_reason_of_the_workstations_own_is_kept_as_it_is(city: City) -> None:
    patient, (card,) = shown(city, POTASSIUM)
    reason = {"code": "x1", "system": "urn:his:reasons", "display": "其他"}
    feedback(city, overridden(card, overrideReason={"reason": reason}))
    (stored,) = answers(city, patient)
    assert stored["statusReason"] == {"coding": [reason]}


def test_the_same_feedback_twice_is_one_answer(city: City) -> None:
    patient, (card,) = shown(city, POTASSIUM)
    assert feedback(city, accepted(card), accepted(card)).status_code == 200
    assert feedback(city, accepted(card)).status_code == 200
    (stored,) = answers(city, patient)
    assert (stored["meta"]["versionId"], codes(stored)) == ("1", ["accepted"])
    later = overridden(card, outcomeTimestamp="2024-11-20T08:05:00Z")
    assert feedback(city, later).status_code == 200
    assert feedback(city, accepted(card)).status_code == 200  # the first, come again late
    (stored,) = answers(city, patient)
    assert (stored["meta"]["versionId"], codes(stored)[0]) == ("2", "repeated")


def test_a_reason_that_was_missing_is_completed_by_the_operation(city: City) -> None:
    patient, (card,) = shown(city, POTASSIUM)
    assert feedback(city, overridden(card)).status_code == 200
    (stored,) = answers(city, patient)
    parameters = [
        {"name": "outcome", "valueCode": "completed"},
        {"name": "reason", "valueCode": "N1"},
    ]
    answer = city.operate(f"{stored['focus']['reference']}/$answer", parameters)
    assert answer.status_code == 200, answer.text
    assert feedback(city, overridden(card)).status_code == 200
    (stored,) = answers(city, patient)
    assert codes(stored) == ["repeated", "N1"]


def test_each_card_answers_for_its_own_order_line(city: City) -> None:
    patient, (first, second) = shown(city, POTASSIUM, SODIUM)
    assert feedback(city, accepted(second), overridden(first)).status_code == 200
    stored = {codes(one)[0]: item(one) for one in answers(city, patient)}
    assert stored == {"accepted": SODIUM, "repeated": POTASSIUM}


def test_feedback_about_another_institutions_card_finds_nothing(city: City) -> None:
    patient, (card,) = shown(city, POTASSIUM)
    assert feedback(city, accepted(card), headers=city.sender).status_code == 404
    made_up = {**card, "uuid": "019a0000-0000-7000-8000-000000000000"}
    assert feedback(city, overridden(made_up)).status_code == 404
    assert answers(city, patient) == []


def test_one_faulty_entry_stores_none_and_every_fault_is_told(city: City) -> None:
    patient, (card,) = shown(city, POTASSIUM)
    answer = feedback(
        city,
        accepted(card),
        {"card": "x", "outcome": "ignored", "outcomeTimestamp": "yesterday"},
        accepted(card, acceptedSuggestions=[]),
        accepted(card, acceptedSuggestions=[{"id": card["uuid"]}]),
        {**overridden(card), "card": card["suggestions"][0]["uuid"]},
        overridden(card, overrideReason={"reason": {"system": "s"}, "userComment": 5}),
        overridden(card, outcomeTimestamp="2026-02-31T00:00:00Z"),
        "x",
    )
    assert answer.status_code == 400
    assert [issue["expression"][0] for issue in answer.json()["issue"]] == [
        "feedback[1].card",
        "feedback[1].outcome",
        "feedback[1].outcomeTimestamp",
        "feedback[2].acceptedSuggestions",
        "feedback[3].acceptedSuggestions[0].id",
        "feedback[4].card",
        "feedback[5].overrideReason.userComment",
        "feedback[5].overrideReason.reason",
        "feedback[6].outcomeTimestamp",
        "feedback[7]",
    ]
    assert answers(city, patient) == []


def _from_now(**ahead: int) -> str:
    return (datetime.now(UTC) + timedelta(**ahead)).isoformat(timespec="milliseconds")


def test_an_answer_of_the_future_is_refused_and_silences_nothing(city: City) -> None:
    patient, (card,) = shown(city, POTASSIUM)
    for ahead in ({"minutes": 6}, {"days": 3650}):
        entry = accepted(card, outcomeTimestamp=_from_now(**ahead))
        answer = feedback(city, accepted(card), entry)
        assert answer.status_code == 400
        (issue,) = answer.json()["issue"]
        assert issue["expression"] == ["feedback[1].outcomeTimestamp"]
        assert issue["details"]["text"] == "time-ahead"
    assert answers(city, patient) == []
    at = _from_now(minutes=4)
    assert feedback(city, accepted(card, outcomeTimestamp=at)).status_code == 200
    assert [one["authoredOn"] for one in answers(city, patient)] == [at]


@pytest.mark.parametrize("body", [{}, {"feedback": []}, {"feedback": {}}, [], b"{"])
def test_a_body_that_is_no_feedback_is_refused(city: City, body: Any) -> None:
    answer = city.send(f"{SERVICE}/feedback", body)
    assert answer.status_code == 400
    assert answer.json()["resourceType"] == "OperationOutcome"


def test_feedback_to_an_unknown_service_is_not_found(city: City) -> None:
    _, (card,) = shown(city, POTASSIUM)
    assert feedback(city, accepted(card), service="no-such-service").status_code == 404
