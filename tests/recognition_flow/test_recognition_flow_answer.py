"""The doctor's answer: one Communication, found from the patient and from the decision."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from city import COMPILED, POTASSIUM, City, Json, day, reason_system, said

from fhir_gateway.fhir.validate import issues
from fhir_gateway.recognition.answer import ANSWER_SYSTEM


@pytest.fixture
def asked(city: City) -> Iterator[tuple[str, str, str]]:
    """A patient, a usable result and the decision about it."""
    patient = city.patient()
    observation = city.result(patient)
    decision = said(city.recognize(patient, POTASSIUM), "decision")["reference"]
    yield patient, observation, decision


def answered(city: City, decision: str, *parameters: Json) -> Json:
    """The stored answer."""
    answer = city.operate(f"{decision}/$answer", parameters)
    assert answer.status_code == 200, answer.text
    reference = said(answer.json(), "answer")["reference"]
    stored: Json = city.running.get(f"/fhir/{reference}", headers=city.receiver).json()
    return stored


def value(name: str, **given: Any) -> Json:
    return {"name": name, **given}


def categories(communication: Json) -> list[str]:
    return [
        coding["code"]
        for category in communication["category"]
        for coding in category["coding"]
        if coding["system"] == ANSWER_SYSTEM
    ]


ACCEPTED = value("outcome", valueCode="accepted")
REPEATED = value("outcome", valueCode="repeated")


def test_accepting_stores_the_result_that_is_used(city: City, asked: tuple[str, str, str]) -> None:
    patient, observation, decision = asked
    stored = answered(city, decision, ACCEPTED)
    assert issues(stored) == []
    assert stored["subject"] == {"reference": f"Patient/{patient}"}
    assert stored["basedOn"] == [{"reference": decision}]
    assert stored["about"] == [{"reference": observation}]
    assert stored["topic"]["coding"][0]["code"] == POTASSIUM
    assert categories(stored) == ["accepted"]


def test_an_answer_is_found_from_the_patient_and_from_the_decision(
    city: City, asked: tuple[str, str, str]
) -> None:
    patient, _, decision = asked
    stored = answered(city, decision, REPEATED, value("reason", valueCode="N1"))
    ids = [one["id"] for one in city.search(f"Communication?patient={patient}")]
    assert ids == [stored["id"]]
    found = city.search(f"Communication?patient={patient}&based-on={decision}&category=repeated")
    assert [one["id"] for one in found] == [stored["id"]]


def test_a_repeat_keeps_its_ground_text_and_that_the_patient_was_told(
    city: City, asked: tuple[str, str, str]
) -> None:
    stored = answered(
        city,
        asked[2],
        REPEATED,
        value("reason", valueCoding={"system": reason_system(), "code": "N6"}),
        value("text", valueString="结果与本次表现不符"),
        value("patientInformed", valueBoolean=True),
        value("practitioner", valueReference={"reference": "Practitioner/b"}),
        value("answered", valueDateTime=day(0, 0)),
    )
    assert issues(stored) == []
    assert categories(stored) == ["repeated", "patient-informed"]
    (coding,) = stored["reasonCode"][0]["coding"]
    assert (coding["code"], coding["display"]) == ("N6", "其他情形确需复查的")
    assert stored["payload"] == [{"contentString": "结果与本次表现不符"}]
    assert stored["sent"] == day(0, 0)
    sender = {"reference": "Organization/receiver", "display": "Practitioner/b"}
    assert stored["sender"] == sender


@pytest.mark.parametrize(
    ("parameters", "flags"),
    [
        ([], ["repeated", "reason-missing"]),
        ([value("text", valueString="因为")], ["repeated"]),
        ([value("reason", valueCode="N6")], ["repeated", "text-missing"]),
        ([value("reason", valueCode="N2")], ["repeated"]),
        (
            [value("reason", valueCode="N2"), value("patientInformed", valueBoolean=False)],
            ["repeated", "patient-not-informed"],
        ),
    ],
)
def test_a_missing_ground_or_text_is_flagged_and_never_refused(
    city: City, asked: tuple[str, str, str], parameters: list[Json], flags: list[str]
) -> None:
    assert categories(answered(city, asked[2], REPEATED, *parameters)) == flags


@pytest.mark.parametrize(
    ("parameters", "status"),
    [
        ([], 400),
        ([value("outcome", valueCode="perhaps")], 400),
        ([REPEATED, value("reason", valueCode="N7")], 422),
        ([ACCEPTED, value("result", valueReference={"reference": "Observation/else"})], 422),
        ([ACCEPTED, value("line", valueString="ServiceRequest/else")], 422),
        ([REPEATED, value("answered", valueDateTime="2026-02-31T08:00:00Z")], 422),
    ],
)
def test_an_answer_that_does_not_fit_the_decision_is_refused(
    city: City, asked: tuple[str, str, str], parameters: list[Json], status: int
) -> None:
    assert city.operate(f"{asked[2]}/$answer", parameters).status_code == status


def test_accepting_without_a_usable_result_is_refused(city: City) -> None:
    decision = said(city.recognize(city.patient(), POTASSIUM), "decision")["reference"]
    answer = city.operate(f"{decision}/$answer", [ACCEPTED])
    assert answer.status_code == 422
    assert answer.json()["issue"][0]["details"]["text"] == "result"


def test_the_order_line_must_be_named_when_there_are_several(city: City) -> None:
    patient = city.patient()
    city.result(patient)
    answer = city.recognize(patient, POTASSIUM, COMPILED)
    decision = said(answer, "decision")["reference"]
    assert city.operate(f"{decision}/$answer", [ACCEPTED]).status_code == 422
    line = value("line", valueString=POTASSIUM)
    assert categories(answered(city, decision, ACCEPTED, line)) == ["accepted"]


def test_the_same_answer_sent_twice_is_one_communication_and_another_is_another(
    city: City, asked: tuple[str, str, str]
) -> None:
    patient, _, decision = asked
    at = value("answered", valueDateTime=day(0, 1))
    first = answered(city, decision, REPEATED, at)
    again = answered(city, decision, REPEATED, at)
    other = answered(city, decision, ACCEPTED, at)
    assert (again["id"], again["meta"]["versionId"]) == (first["id"], "1")
    stored = {one["id"] for one in city.search(f"Communication?patient={patient}")}
    assert stored == {first["id"], other["id"]}


def test_another_institution_neither_answers_nor_replays_a_decision(
    city: City, asked: tuple[str, str, str]
) -> None:
    body = {"resourceType": "Parameters", "parameter": [REPEATED]}
    for operation in ("$answer", "$replay"):
        answer = city.running.post(f"/fhir/{asked[2]}/{operation}", body, headers=city.sender)
        assert answer.status_code in (400, 404)
    answer = city.running.post(f"/fhir/{asked[2]}/$answer", body, headers=city.sender)
    assert answer.status_code == 404


def test_each_answer_is_audited_with_its_codes_only(
    city: City, asked: tuple[str, str, str]
) -> None:
    answered(
        city, asked[2], REPEATED, value("reason", valueCode="N3"), value("text", valueString="秘")
    )
    events = city.search(f"AuditEvent?entity={asked[2]}")
    assert [one["outcomeDesc"] for one in events if "repeated" in one.get("outcomeDesc", "")] == [
        "repeated N3"
    ]
