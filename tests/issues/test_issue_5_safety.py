"""What must not be recognised, and what must not be offered in place of an order."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from city import (
    COMPILED,
    DOCUMENT,
    POTASSIUM,
    SODIUM,
    City,
    Json,
    day,
    order,
    outcomes,
    parts,
    said,
)
from databases import Databases
from running import Running

from fhir_gateway.errors import TooCostly
from fhir_gateway.fhir.wire import instant
from fhir_gateway.recognition import ask
from fhir_gateway.recognition.facts import derive
from fhir_gateway.recognition.model import CRITICAL
from fhir_gateway.store import postgres_person
from fhir_gateway.store.changes import Derived, Fact
from fhir_gateway.terminology.catalogue import LAB_SYSTEM

CRITICAL_CODES = "http://terminology.hl7.org/CodeSystem/v3-ObservationInterpretation"


@pytest.fixture(scope="module")
def city(shared_database: Databases) -> Iterator[City]:
    """A gateway with two institutions and the rules in force."""
    one = Running(shared_database.url("safety"))
    yield City(one)
    one.close()


def facts(**members: Any) -> list[Fact]:
    derived = Derived()
    resource = {
        "resourceType": "Observation",
        "id": "o1",
        "status": "final",
        "code": {"coding": [{"system": LAB_SYSTEM, "code": POTASSIUM}]},
        "subject": {"reference": "Patient/p1"},
        "effectiveDateTime": "2026-11-20T08:00:00+08:00",
        "valueQuantity": {"value": 3.9, "unit": "mmol/L"},
        **members,
    }
    derive(resource, derived)
    return derived.facts


def suggested(answer: Json) -> list[Any]:
    return [said(item, "suggest") for item in parts(answer, "item")]


# -- the situation ---------------------------------------------------------------------------------


def test_without_a_context_nothing_is_offered(city: City) -> None:
    patient = city.patient()
    city.result(patient)
    answers = {
        "nothing said": city.recognize(patient, POTASSIUM, known=False),
        "said to be unknown": _told(city, patient, ("contextKnown", False), ("context", "newborn")),
        "a context": _told(city, patient, ("context", "inpatient-new")),
        "nothing particular": city.recognize(patient, POTASSIUM),
    }
    assert {name: suggested(one) for name, one in answers.items()} == {
        "nothing said": [None],
        "said to be unknown": [None],
        "a context": [True],
        "nothing particular": [True],
    }
    assert outcomes(answers["nothing said"]) == [("recognize", "usable")]
    (line,) = [
        one
        for one in parts(parts(answers["nothing said"], "item")[0], "line")
        if said(one, "rule") == "context-known@1"
    ]
    assert (said(line, "verdict"), said(line, "reason")) == ("unknown", "context-not-known")


def _told(city: City, patient: str, *given: tuple[str, Any]) -> Json:
    parameters = [
        {"name": name, "valueBoolean" if isinstance(value, bool) else "valueCode": value}
        for name, value in given
    ]
    return city.recognize(patient, POTASSIUM, known=False, parameters=parameters)


def test_a_blood_group_is_done_anew_where_nobody_says_what_is_planned(city: City) -> None:
    city.evaluate("sender", ["L088", POTASSIUM, SODIUM, COMPILED])
    patient = city.patient()
    words = {"valueQuantity": ..., "valueCodeableConcept": {"text": "A型"}}
    city.result(patient, "L088", specimen={"display": "EDTA全血"}, **words)
    unknown = city.recognize(patient, "L088", known=False)
    assert outcomes(unknown) == [("not-recognizable", "repeat-unless-known")]
    assert outcomes(city.recognize(patient, "L088")) == [("recognize", "usable")]


# -- whose result it is, and of what -----------------------------------------------------------


def test_a_result_about_a_foetus_or_a_donor_is_not_the_patients(city: City) -> None:
    patient, donor = city.patient(), city.patient()
    city.result(patient, focus=[{"reference": f"Patient/{donor}"}])
    assert outcomes(city.recognize(patient, POTASSIUM)) == [("cannot-decide", "status-unknown")]
    (own,) = facts(focus=[{"reference": "Patient/p1"}])
    assert own.status == "final"


def test_one_value_is_not_of_two_items(city: City) -> None:
    patient = city.patient()
    both = [{"system": LAB_SYSTEM, "code": code} for code in (POTASSIUM, SODIUM)]
    city.result(patient, code={"coding": both})
    answer = city.recognize(patient, POTASSIUM, SODIUM)
    assert outcomes(answer) == [("cannot-decide", "status-unknown")] * 2
    assert {one.status for one in facts(code={"coding": both}, status="cancelled")} == {"cancelled"}


def test_what_was_collected_before_the_birth_is_somebody_elses(city: City) -> None:
    patient = city.create({
        "resourceType": "Patient",
        "name": [{"text": "测试之子"}],
        "birthDate": day(1)[:10],
        "identifier": [{"system": DOCUMENT, "value": "P1234567"}],
    })  # fmt: skip
    city.result(patient, ago=2)
    answer = city.recognize(patient, POTASSIUM)
    (item,) = parts(answer, "item")
    told = {said(one, "rule"): said(one, "reason") for one in parts(item, "line")}
    assert told["times-plausible@2"] == "before-birth"
    assert said(item, "outcome") == "cannot-decide"


def test_the_birth_of_a_past_question_is_that_of_then(city: City) -> None:
    patient = city.patient()
    city.result(patient, ago=2)
    moment = city.running.get(f"/fhir/Patient/{patient}", headers=city.sender).json()
    time.sleep(0.01)
    then = {"name": "asOf", "valueDateTime": instant(city.gateway.clock.now())}
    time.sleep(0.01)
    changed = {**moment, "birthDate": day(1)[:10]}
    assert city.running.put(f"/fhir/Patient/{patient}", changed, headers=city.sender).is_success
    for given, known in (([then], False), ([], True)):
        (item,) = parts(city.recognize(patient, POTASSIUM, parameters=given), "item")
        assert ("before-birth" in str(item)) is known


@pytest.mark.parametrize(
    "said",
    [
        {"text": "危急值↑"},
        {"text": "Critical high"},
        {"coding": [{"system": "urn:lab:flag", "code": "P", "display": "panic value"}]},
        {"coding": [{"system": CRITICAL_CODES, "code": "LL"}]},
    ],
)
def test_a_critical_value_is_one_in_words_too(said: Json) -> None:
    (fact,) = facts(interpretation=[said])
    assert fact.flags & CRITICAL


def test_a_high_value_is_not_called_critical() -> None:
    (fact,) = facts(interpretation=[{"text": "偏高", "coding": [{"code": "H", "display": "High"}]}])
    assert not fact.flags & CRITICAL


# -- newer ones ------------------------------------------------------------------------------------


def test_a_newer_critical_value_whose_stamps_are_wrong_lowers(city: City) -> None:
    patient = city.patient()
    city.result(patient, ago=3)
    critical = [{"coding": [{"system": CRITICAL_CODES, "code": "HH"}]}]
    city.result(patient, ago=1, value="6.9", interpretation=critical, issued=day(2, 1))
    answer = city.recognize(patient, POTASSIUM)
    assert outcomes(answer) == [("view-only", "newer-critical")]
    assert suggested(answer) == [None]


def test_of_two_values_of_one_moment_none_is_offered(city: City) -> None:
    patient = city.patient()
    city.result(patient, value="3.9")
    city.result(patient, value="6.9")
    (item,) = parts(city.recognize(patient, POTASSIUM), "item")
    assert (said(item, "outcome"), said(item, "suggest")) == ("view-only", None)
    assert len(parts(item, "newer")) == 1


# -- a database that is too slow -------------------------------------------------------------------


def test_a_slow_database_is_no_fault_of_the_caller_and_no_answer(
    city: City, monkeypatch: pytest.MonkeyPatch
) -> None:
    patient = city.patient()
    city.result(patient)

    async def slow(*_: Any) -> Any:
        raise TooCostly("The search takes too long", rule="deadline")

    monkeypatch.setattr(ask, "known", slow)
    given = [
        {"name": "patient", "valueReference": {"reference": f"Patient/{patient}"}},
        {"name": "item", "valueCode": POTASSIUM},
    ]
    refused = city.operate("ServiceRequest/$recognize", given)
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
    assert refused.json()["issue"][0]["code"] == "transient"
    told = city.hook(patient, order(patient))
    assert told.status_code == 200
    (card,) = told.json()["cards"]
    assert "uuid" not in card
    assert "suggestions" not in card


@pytest.mark.drivers("postgresql")
def test_a_statement_that_the_server_cuts_off_is_a_refusal_and_no_answer(
    city: City, monkeypatch: pytest.MonkeyPatch
) -> None:
    patient = city.patient()
    city.result(patient)

    async def cut_off(fetch: Any, statement: str, *rest: Any) -> Any:
        await fetch("SELECT pg_cancel_backend(pg_backend_pid()), pg_sleep(60)")
        return await postgres_person.facts(fetch, statement, *rest)

    monkeypatch.setattr("fhir_gateway.store.postgres_reader.facts", cut_off)
    given = [
        {"name": "patient", "valueReference": {"reference": f"Patient/{patient}"}},
        {"name": "item", "valueCode": POTASSIUM},
    ]
    refused = city.operate("ServiceRequest/$recognize", given)
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
    assert refused.json()["issue"][0]["details"]["text"] == "database-slow"
    (card,) = city.hook(patient, order(patient)).json()["cards"]
    assert "uuid" not in card
    monkeypatch.undo()
    assert outcomes(city.recognize(patient, POTASSIUM)) == [("recognize", "usable")]
