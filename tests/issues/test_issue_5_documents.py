"""What is filed with an answer: of an imaging examination, of evidence that is gone, told once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from hashlib import sha256
from typing import Any

import pytest
from city import POTASSIUM, City, Json, day, order, outcomes, parts, said
from databases import Databases
from fhir.resources.R4B.bundle import Bundle
from running import Running

from fhir_gateway.fhir.validate import issues
from fhir_gateway.recognition.register import AREA_URL, ITEM_URL, PERIOD_URL, ROUND_URL
from fhir_gateway.terminology.area import AREA_SYSTEM
from fhir_gateway.terminology.catalogue import IMAGING_SYSTEM

HEAD_CT = "I001"
ACCEPTED = {"name": "outcome", "valueCode": "accepted"}
REPEATED = {"name": "outcome", "valueCode": "repeated"}
BY = {"reference": "Organization/sender"}


@pytest.fixture(scope="module")
def city(shared_database: Databases) -> Iterator[City]:
    """A gateway whose sender passed an evaluation for a CT of the head, too."""
    one = Running(shared_database.url("documents"))
    city = City(one)
    _evaluate_imaging(city)
    yield city
    one.close()


def _evaluate_imaging(city: City) -> None:
    city.put({
        "resourceType": "VerificationResult",
        "id": "round-imaging",
        "status": "validated",
        "extension": [
            {"url": ITEM_URL, "valueCoding": {"system": IMAGING_SYSTEM, "code": HEAD_CT}},
            {"url": AREA_URL, "valueCoding": {"system": AREA_SYSTEM, "code": "110000"}},
            {"url": PERIOD_URL, "valuePeriod": {"start": "2020-01-01", "end": "2099-12-31"}},
            {"url": ROUND_URL, "valueString": "round-1"},
        ],
        "target": [BY],
        "validator": [{"organization": {"display": "市临检中心"}}],
    })  # fmt: skip


def examined(city: City) -> tuple[str, str, str]:
    """A patient with a CT of the head: the Patient, the report and its study."""
    patient = city.patient()
    about = {"subject": {"reference": f"Patient/{patient}"}}
    study = city.create({
        "resourceType": "ImagingStudy", "status": "available", **about, "started": day(2),
        "series": [{"uid": "1.2.3.1", "modality": {"code": "CT"}, "performer": [{"actor": BY}],
                    "bodySite": {"display": "HEAD"}}],
    })  # fmt: skip
    report = city.create({
        "resourceType": "DiagnosticReport", "status": "final", **about,
        "code": {"coding": [{"system": IMAGING_SYSTEM, "code": HEAD_CT}], "text": "头颅CT平扫"},
        "effectiveDateTime": day(2), "issued": day(2, 10), "performer": [BY],
        "imagingStudy": [{"reference": f"ImagingStudy/{study}"}],
    })  # fmt: skip
    return patient, report, study


def imaging_order(city: City, patient: str, text: str) -> Json:
    """What is answered to an order for a CT of the head in these words."""
    one = order(patient)
    one["code"] = {"coding": [{"system": IMAGING_SYSTEM, "code": HEAD_CT}], "text": text}
    given = [{"name": "patient", "valueReference": {"reference": f"Patient/{patient}"}}]
    answer = city.operate("ServiceRequest/$recognize", [*given, {"name": "order", "resource": one}])
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def answered(city: City, asked: Json, *parameters: Json) -> Json:
    decision = said(asked, "decision")["reference"]
    answer = city.operate(f"{decision}/$answer", parameters or [ACCEPTED])
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def task_of(answer: Json) -> str:
    return str(said(answer, "answer")["reference"]).partition("/_history/")[0]


def alerts(city: City, patient: str) -> list[Json]:
    return city.search(f"Task?patient={patient}&code=recognition-alert")


# -- documents -------------------------------------------------------------------------------------


def test_the_document_of_an_examination_has_report_and_study(city: City) -> None:
    patient, report, study = examined(city)
    answer = answered(city, imaging_order(city, patient, "头颅CT"))
    bundle = next(one["resource"] for one in answer["parameter"] if one["name"] == "document")
    assert issues(bundle) == []
    Bundle.model_validate(bundle)
    held = [f"{one['resource']['resourceType']}/{one['resource']['id']}" for one in bundle["entry"]]
    assert held[1:3] == [f"DiagnosticReport/{report}", f"ImagingStudy/{study}"]
    assert len(set(held)) == len(held)
    kind = bundle["entry"][0]["resource"]["type"]["coding"][0]["code"]
    assert kind == "18748-4"
    fetched = city.running.get(f"/fhir/{task_of(answer)}/$document", headers=city.receiver)
    assert sha256(fetched.content).hexdigest() == said(answer, "sha256")


@pytest.mark.parametrize("gone", ["DiagnosticReport", "ImagingStudy"])
def test_a_document_of_which_a_part_was_erased_is_gone(
    city: City, shared_database: Databases, gone: str
) -> None:
    patient, report, study = examined(city)
    answer = answered(city, imaging_order(city, patient, "头颅CT"))
    id = {"DiagnosticReport": report, "ImagingStudy": study}[gone]
    for table in ("resource", "locator"):
        shared_database.execute(f"DELETE FROM {table} WHERE id = '{id}'", "documents")
    fetched = city.running.get(f"/fhir/{task_of(answer)}/$document", headers=city.receiver)
    assert fetched.status_code == 410
    assert fetched.json()["issue"][0]["details"]["text"] == "erased"


# -- what an order says in words -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("头颅CT", ("view-only", "images-not-checked")),
        ("头颅CT平扫", ("view-only", "images-not-checked")),
        ("头颅CT增强", ("not-recognizable", "contrast-differs")),
        ("头颅CT平扫+增强", ("not-recognizable", "contrast-differs")),
    ],
)
def test_a_plain_examination_answers_for_no_order_that_asks_for_an_agent(
    city: City, text: str, expected: tuple[str, str]
) -> None:
    patient, _, _ = examined(city)
    assert outcomes(imaging_order(city, patient, text)) == [expected]


# -- answers and alerts ----------------------------------------------------------------------------


def test_a_result_that_is_corrected_taken_away_and_put_back_is_one_alert(city: City) -> None:
    patient = city.patient()
    observation = city.result(patient)
    answer = answered(city, city.recognize(patient, POTASSIUM))
    path = f"/fhir/{observation}"
    resource = city.running.get(path, headers=city.sender).json()
    versions = []
    for value in (4.5, 5.5):
        quantity = {**resource["valueQuantity"], "value": value}
        body = {**resource, "status": "corrected", "valueQuantity": quantity}
        assert city.running.put(path, body, headers=city.sender).status_code == 200
        (alert,) = alerts(city, patient)
        versions.append(alert["meta"]["versionId"])
    assert len(set(versions)) == 2
    assert city.running.delete(path, headers=city.sender).status_code in (200, 204)
    (alert,) = alerts(city, patient)
    assert alert["businessStatus"]["coding"][0]["code"] == "deleted"
    assert city.running.put(path, resource, headers=city.sender).status_code in (200, 201)
    (alert,) = alerts(city, patient)
    assert alert["status"] == "requested"
    assert alert["partOf"] == [{"reference": task_of(answer)}]


def test_a_result_becomes_nobody_elses_but_by_taking_it_away_and_that_is_told(city: City) -> None:
    first, second = city.patient(), city.patient()
    observation = city.result(first)
    answered(city, city.recognize(first, POTASSIUM))
    path = f"/fhir/{observation}"
    resource = city.running.get(path, headers=city.sender).json()
    moved = {**resource, "subject": {"reference": f"Patient/{second}"}}
    refused = city.running.put(path, moved, headers=city.sender)
    assert (refused.status_code, alerts(city, first)) == (422, [])
    void = {**resource, "status": "entered-in-error"}
    assert city.running.put(path, void, headers=city.sender).status_code == 200
    city.result(second)
    (alert,) = alerts(city, first)
    assert alert["businessStatus"]["coding"][0]["code"] == "voided"
    assert alerts(city, second) == []
    assert outcomes(city.recognize(first, POTASSIUM))[0][0] == "not-recognizable"
    assert outcomes(city.recognize(second, POTASSIUM)) == [("recognize", "usable")]


def test_of_two_doctors_at_once_both_are_kept_and_one_stands(city: City) -> None:
    patient = city.patient()
    city.result(patient)
    asked = city.recognize(patient, POTASSIUM)
    path = f"/fhir/{said(asked, 'decision')['reference']}/$answer"

    async def post(outcome: Json, name: str) -> Any:
        who = {"name": "practitioner", "valueReference": {"display": name}}
        body = {"resourceType": "Parameters", "parameter": [outcome, who]}
        return await city.running.http.post(path, json=body, headers=city.receiver)

    async def both() -> list[Any]:
        return list(
            await asyncio.gather(post(ACCEPTED, "示例甲医师"), post(REPEATED, "示例乙医师"))
        )

    done = city.running.run(both())
    assert [one.status_code for one in done] == [200, 200]
    names = {task_of(one.json()) for one in done}
    assert len(names) == 1
    history = city.running.get(f"/fhir/{names.pop()}/_history", headers=city.receiver).json()
    assert len(history["entry"]) == 2
    assert parts(city.operate(f"{path.removeprefix('/fhir/')}", [REPEATED]).json(), "missing")
