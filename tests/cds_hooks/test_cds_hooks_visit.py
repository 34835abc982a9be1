"""The other hooks, the patient's situation, and that one reminder is enough."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

import pytest
from card_shape import assert_response
from city import (
    COMPILED,
    DOCUMENT,
    ORDINARY,
    POTASSIUM,
    SODIUM,
    UUID,
    City,
    Json,
    id_number,
    order,
    reason_system,
    said,
)

from fhir_gateway.cds_hooks.markdown import SUMMARY_LIMIT
from fhir_gateway.terminology.catalogue import LAB_SYSTEM

VIEW, BOOK = "recognition-patient-view", "recognition-appointment-book"
SIGN, SELECT = "recognition-order-sign", "recognition-order-select"


def view(city: City, patient: str, **changes: Any) -> list[Json]:
    context = {"userId": "Practitioner/example", "patientId": patient}
    body = {"hook": "patient-view", "hookInstance": UUID, "context": context, **changes}
    answer = city.send(VIEW, body)
    assert answer.status_code == 200, answer.text
    assert_response(answer.json())
    found: list[Json] = answer.json()["cards"]
    return found


# -- patient-view -----------------------------------------------------------------------------


def test_nothing_on_file_shows_no_badge(city: City) -> None:
    assert view(city, city.patient()) == []


def test_one_card_says_how_much_there_is(city: City) -> None:
    patient = city.patient()
    city.result(patient, POTASSIUM)
    city.result(patient, SODIUM, ago=60)
    city.result(patient, COMPILED)
    (card,) = view(city, patient)
    assert re.fullmatch(
        r"既往检查检验结果：\d项可互认、\d项可查阅，最近一次 \d{4}-\d\d-\d\d", card["summary"]
    )
    assert len(card["summary"]) <= SUMMARY_LIMIT
    assert card["indicator"] == "info"
    (link,) = card["links"]
    assert link["url"] == f"http://127.0.0.1/fhir/Patient/{patient}/$prior-results"
    assert link["type"] == "absolute"
    assert "suggestions" not in card and "overrideReasons" not in card


def test_the_badge_records_no_decision_and_is_audited(city: City) -> None:
    patient = city.patient()
    city.result(patient)
    before = len(city.search(f"AuditEvent?patient={patient}&_count=100"))
    assert len(view(city, patient)) == 1
    assert city.search(f"GuidanceResponse?patient={patient}") == []
    events = city.search(f"AuditEvent?patient={patient}&_count=100")
    assert len(events) >= before + 1


def test_a_patient_of_another_server_has_a_badge_by_identifier(city: City) -> None:
    patient = city.patient()
    city.result(patient)
    (stored,) = city.search(f"Patient?_id={patient}")
    document = [one for one in stored["identifier"] if one["system"] == DOCUMENT]
    server = "https://his.example.org/fhir"
    person = {"resourceType": "Patient", "identifier": document}
    (card,) = view(city, "his-1", fhirServer=server, prefetch={"patient": person})
    assert card["links"][0]["url"].endswith(f"/Patient/{patient}/$prior-results")
    stranger = {**person, "identifier": [{"system": DOCUMENT, "value": id_number(999)}]}
    assert view(city, "his-1", fhirServer=server, prefetch={"patient": stranger}) == []
    assert view(city, "his-1", fhirServer=server, prefetch={"patient": None}) == []


def test_nobody_known_without_prefetch_is_a_failed_precondition(city: City) -> None:
    context = {"userId": "Practitioner/example", "patientId": "nobody"}
    body = {"hook": "patient-view", "hookInstance": UUID, "context": context}
    assert city.send(VIEW, body).status_code == 412


# -- appointment-book -------------------------------------------------------------------------


def appointment(patient: str, id: str = "a-1", **changes: Any) -> Json:
    service = {"coding": [{"system": LAB_SYSTEM, "code": POTASSIUM}], "text": "血钾"}
    given = {
        "resourceType": "Appointment",
        "id": id,
        "status": "proposed",
        "serviceType": [service],
        "participant": [{"actor": {"reference": f"Patient/{patient}"}, "status": "accepted"}],
        **changes,
    }
    return {name: value for name, value in given.items() if value is not ...}


def book(city: City, patient: str, *appointments: Json, **changes: Any) -> Any:
    entries = [{"resource": one} for one in appointments]
    context = {
        "userId": "Practitioner/example",
        "patientId": patient,
        "appointments": {"resourceType": "Bundle", "entry": entries},
    }
    body = {"hook": "appointment-book", "hookInstance": UUID, "context": context}
    return city.send(BOOK, {**body, "prefetch": ORDINARY, **changes})


def test_an_appointment_is_reminded_of_by_its_service(city: City) -> None:
    patient = city.patient()
    city.result(patient)
    booked = book(city, patient, appointment(patient)).json()
    assert_response(booked)
    (card,) = booked["cards"]
    assert card["summary"].startswith("可互认：钾")
    assert "suggestions" not in card  # a visit has other reasons than one examination
    (decision,) = city.search(f"GuidanceResponse?patient={patient}")
    assert decision["resourceType"] == "GuidanceResponse"


def test_the_order_behind_an_appointment_says_more_than_its_service(city: City) -> None:
    patient = city.patient()
    city.result(patient, SODIUM)
    behind = order(patient, SODIUM, id="sr-1")
    contained = {"contained": [{**behind, "id": "s"}], "basedOn": [{"reference": "#s"}]}
    (card,) = book(city, patient, appointment(patient, **contained)).json()["cards"]
    assert card["summary"].startswith("可互认：钠")
    requests = {"resourceType": "Bundle", "entry": [{"resource": behind}]}
    for reference in ("ServiceRequest/sr-1", "https://his.example/fhir/ServiceRequest/sr-1"):
        based = appointment(patient, basedOn=[{"reference": reference}])
        prefetch = {**ORDINARY, "requests": requests}
        (card,) = book(city, patient, based, prefetch=prefetch).json()["cards"]
        assert card["summary"].startswith("可互认：钠")


@pytest.mark.parametrize(
    "changes",
    [
        {"status": "cancelled"},
        {"status": ["x"]},
        {"serviceType": ...},
        {"serviceType": []},
        {"serviceType": 5},
        {"serviceType": [{"text": "复诊"}]},
        {"basedOn": [{"reference": "ServiceRequest/gone"}], "serviceType": ...},
        {"basedOn": 5, "contained": 5, "serviceType": ...},
    ],
)
def test_an_appointment_that_books_no_known_item_gives_no_card(city: City, changes: Json) -> None:
    patient = city.patient()
    city.result(patient)
    if changes.get("status") == ["x"]:
        changes = {**changes, "serviceType": ...}
    assert book(city, patient, appointment(patient, **changes)).json() == {"cards": []}


def test_an_appointment_for_somebody_else_is_a_fault(city: City) -> None:
    answer = book(city, city.patient(), appointment("other"))
    assert answer.status_code == 400
    (issue,) = answer.json()["issue"]
    assert issue["expression"] == [
        "context.appointments.entry[0].resource.participant[0].actor.reference"
    ]


# -- the patient's situation ------------------------------------------------------------------


def cards(city: City, patient: str, *orders: Json, **changes: Any) -> list[Json]:
    answer = city.hook(patient, *orders, **changes)
    assert answer.status_code == 200, answer.text
    assert_response(answer.json())
    found: list[Json] = answer.json()["cards"]
    return found


def test_without_the_situation_there_is_a_reminder_and_no_offer(city: City) -> None:
    patient = city.patient()
    city.result(patient)
    (card,) = cards(city, patient, order(patient), prefetch=...)
    assert card["summary"].startswith("可互认：钾")
    assert "未取得该患者的就诊信息、诊断、在用医嘱、拟行手术或操作" in card["detail"]
    assert "suggestions" not in card
    assert "selectionBehavior" not in card
    (card,) = cards(city, patient, order(patient))
    assert "未取得" not in card["detail"]
    assert card["selectionBehavior"] == "at-most-one"


@pytest.mark.parametrize(
    "prefetch",
    [
        {"encounter": {"resourceType": "Encounter", "class": {"code": "EMER"}}},
        {
            "requests": {
                "resourceType": "Bundle",
                "entry": [{"resource": order("x", priority="stat")}],
            }
        },
    ],
)
def test_what_the_prefetch_says_reaches_the_decision(city: City, prefetch: Json) -> None:
    patient = city.patient()
    city.result(patient)
    (card,) = cards(city, patient, order(patient), prefetch=prefetch)
    emergency = "encounter" in prefetch  # another order's urgency is not this one's
    assert ("suggestions" not in card) == emergency


def test_an_operation_that_is_being_ordered_beside_it_counts(city: City) -> None:
    patient = city.patient()
    city.result(patient)
    surgical = {"coding": [{"system": "http://snomed.info/sct", "code": "387713003"}]}
    operation = order(patient, id="op", code={"text": "阑尾切除术"}, category=[surgical])
    city.hook(
        patient,
        order(patient),
        operation,
        service=SELECT,
        context={"selections": ["ServiceRequest/draft-1"]},
    )
    (decision,) = city.search(f"GuidanceResponse?patient={patient}")
    assert "pre-operation" in said(decision["contained"][0], "inputs")


# -- one reminder is enough ---------------------------------------------------------------------


def answered(city: City, card: Json, service: str = SELECT, **changes: Any) -> None:
    reason = {"reason": {"code": "N6", "system": reason_system()}}
    entry = {"card": card["uuid"], "outcome": "overridden", "overrideReason": reason}
    entry |= {"outcomeTimestamp": _now(), **changes}
    answer = city.send(f"{service}/feedback", {"feedback": [entry]})
    assert answer.status_code == 200, answer.text


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def select(city: City, patient: str, *orders: Json) -> list[Json]:
    chosen = [f"ServiceRequest/{one['id']}" for one in orders]
    return cards(city, patient, *orders, service=SELECT, context={"selections": chosen})


def test_a_line_answered_when_it_was_chosen_is_silent_when_it_is_signed(city: City) -> None:
    patient = city.patient()
    city.result(patient, POTASSIUM)
    city.result(patient, SODIUM)
    orders = order(patient, POTASSIUM, "a"), order(patient, SODIUM, "b")
    first, _ = select(city, patient, *orders)
    answered(city, first)
    (card,) = cards(city, patient, *orders)
    assert card["summary"].startswith("可互认：钠")
    assert len(city.search(f"GuidanceResponse?patient={patient}")) == 2  # both are on record
    both = select(city, patient, *orders)
    assert len(both) == 2  # choosing it anew asks anew


def test_another_line_doctor_or_institution_is_reminded_all_the_same(city: City) -> None:
    patient = city.patient()
    city.result(patient)
    (first,) = select(city, patient, order(patient, id="a"))
    answered(city, first)
    assert cards(city, patient, order(patient, id="a")) == []
    assert len(cards(city, patient, order(patient, id="b"))) == 1
    other = {"userId": "Practitioner/another"}
    assert len(cards(city, patient, order(patient, id="a"), context=other)) == 1
    assert len(cards(city, patient, order(patient, id="a"), headers=city.sender)) == 1


def test_an_answer_of_yesterday_silences_nothing(city: City) -> None:
    patient = city.patient()
    city.result(patient)
    (first,) = select(city, patient, order(patient, id="a"))
    answered(city, first, outcomeTimestamp="2024-01-01T08:00:00Z")
    assert len(cards(city, patient, order(patient, id="a"))) == 1


# -- what has changed since ----------------------------------------------------------------------


def test_whoever_relied_on_a_result_hears_of_its_correction_at_every_hook(city: City) -> None:
    patient = city.patient()
    observation = city.result(patient)
    (card,) = cards(city, patient, order(patient))
    accepted = [{"id": card["suggestions"][0]["uuid"]}]
    entry = {"card": card["uuid"], "outcome": "accepted", "acceptedSuggestions": accepted}
    body = {"feedback": [{**entry, "outcomeTimestamp": _now()}]}
    assert city.send(f"{SIGN}/feedback", body).status_code == 200
    (stored,) = city.search(f"Observation?_id={observation.partition('/')[2]}")
    corrected = {**stored, "status": "corrected"}
    corrected["valueQuantity"] = {**stored["valueQuantity"], "value": 7.1}
    answer = city.running.put(f"/fhir/{observation}", corrected, headers=city.sender)
    assert answer.status_code == 200, answer.text
    for found in (view(city, patient), cards(city, patient, order(patient, SODIUM))):
        alert = found[0]
        assert alert["summary"] == "曾采用的既往结果有1项发生变更，请核实"
        assert "钾" in alert["detail"] and "已更正" in alert["detail"]
        assert alert["links"][0]["url"].startswith(f"http://127.0.0.1/fhir/{observation}")
        assert alert["indicator"] == "info"
    booked = book(city, patient, appointment(patient)).json()["cards"]
    assert booked[0]["summary"].startswith("曾采用的既往结果")
    others = city.hook(patient, order(patient, SODIUM), headers=city.sender).json()["cards"]
    assert others == []
