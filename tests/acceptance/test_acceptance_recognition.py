"""What may mean something else than it seems to is never recognised (faults.md 14).

FHIR's modifiers: whoever does not know a modifier extension or the implicit rules of a resource
may not act on it. The gateway knows none of them: it stores them, shows them, and cannot decide.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from city import POTASSIUM, City, day, parts, said
from databases import Databases
from running import Running

MODIFIER = [{"url": "http://hospital.example/not-this-patient", "valueBoolean": True}]


@pytest.fixture(scope="module")
def city(shared_database: Databases) -> Iterator[City]:
    one = Running(shared_database.url("city"))
    yield City(one)
    one.close()


def outcome(city: City, patient: str) -> tuple[str, str]:
    (item,) = parts(city.recognize(patient, POTASSIUM), "item")
    return said(item, "outcome"), said(item, "reason")


@pytest.mark.parametrize(
    "members",
    [
        {"modifierExtension": MODIFIER},
        {"implicitRules": "http://hospital.example/rules"},
        {"component": [{"code": {"text": "x"}, "valueString": "x", "modifierExtension": MODIFIER}]},
        {"contained": [{"resourceType": "Specimen", "id": "s", "modifierExtension": MODIFIER}],
         "extension": [{"url": "http://a.example", "valueReference": {"reference": "#s"}}]},
    ],
    ids=lambda members: next(iter(members)),
)  # fmt: skip
def test_a_result_with_a_modifier_that_nobody_knows_is_not_recognised(city, members) -> None:
    patient = city.patient()
    observation = city.result(patient, **members)
    assert outcome(city, patient) == ("cannot-decide", "status-unknown")
    stored = city.running.get(f"/fhir/{observation}", headers=city.receiver).json()
    assert {name: stored[name] for name in members} == members  # nothing is lost of it


def test_nor_is_the_result_of_a_report_with_one(city) -> None:
    patient = city.patient()
    observation = city.result(patient, report="")
    city.create({
        "resourceType": "DiagnosticReport", "status": "final", "code": {"text": "x"},
        "subject": {"reference": f"Patient/{patient}"}, "issued": day(0),
        "result": [{"reference": observation}], "modifierExtension": MODIFIER,
    })  # fmt: skip
    assert outcome(city, patient) == ("cannot-decide", "status-unknown")


def test_the_same_result_without_one_is(city) -> None:
    patient = city.patient()
    city.result(patient)
    assert outcome(city, patient) == ("recognize", "usable")


@pytest.mark.parametrize("status", ["entered-in-error", "cancelled"])
def test_what_is_void_is_void_with_a_modifier_too(city, status) -> None:
    patient = city.patient()
    city.result(patient, status=status, modifierExtension=MODIFIER)
    assert outcome(city, patient)[0] == "not-recognizable"


@pytest.mark.parametrize("status", ["preliminary", "registered", "unknown"])
def test_what_is_not_final_is_not_recognised(city, status) -> None:
    patient = city.patient()
    city.result(patient, status=status)
    assert outcome(city, patient)[0] != "recognize"


def test_a_status_that_fhir_does_not_have_is_refused(city) -> None:
    answer = city.running.post(
        "/fhir/Observation",
        {"resourceType": "Observation", "status": "finished", "code": {"text": "x"}},
        headers=city.sender,
    )
    assert answer.status_code == 422
    assert answer.json()["issue"][0]["expression"] == ["Observation.status"]
