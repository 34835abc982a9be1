"""An institution speaks for itself: its results bear its own name, its reports its own results."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import city as CITY
import pytest
from databases import Databases
from issue_cases import bundle, rule_of
from running import Running


@pytest.fixture(scope="module")
def city(shared_database: Databases) -> Iterator[Any]:
    one = Running(shared_database.url("city"))
    yield CITY.City(one)
    one.close()


def report(patient: str, *results: str, **changes: Any) -> dict[str, Any]:
    return {
        "resourceType": "DiagnosticReport",
        "status": "cancelled",
        "code": {"text": "检验报告"},
        "subject": {"reference": f"Patient/{patient}"},
        "issued": CITY.day(0, 0),
        "result": [{"reference": result} for result in results],
        **changes,
    }


def test_a_result_in_another_institutions_name_is_refused(city: Any) -> None:
    resource = {
        "resourceType": "Observation",
        "status": "final",
        "code": {"coding": [{"system": CITY.LAB_SYSTEM, "code": CITY.POTASSIUM}]},
        "subject": {"reference": f"Patient/{city.patient()}"},
        "performer": [{"display": "x"}, {"reference": "Organization/sender"}],
    }
    answer = city.running.post("/fhir/Observation", resource, headers=city.receiver)
    assert rule_of(answer) == (403, "performer")
    batch = city.running.post(
        "/fhir", bundle(("POST", "Observation", resource)), headers=city.receiver
    )
    assert rule_of(batch) == (403, "performer")
    named = city.running.post("/fhir/Observation", resource, headers=city.sender)
    assert named.status_code == 201


def test_an_imaging_series_in_another_institutions_name_is_refused(city: Any) -> None:
    study = {
        "resourceType": "ImagingStudy",
        "status": "available",
        "subject": {"reference": f"Patient/{city.patient()}"},
        "series": [
            {
                "uid": "1.2.3",
                "modality": {"code": "CT"},
                "performer": [{"actor": {"reference": "Organization/sender"}}],
            }
        ],
    }
    answer = city.running.post("/fhir/ImagingStudy", study, headers=city.receiver)
    assert rule_of(answer) == (403, "performer")


def test_a_report_of_anothers_result_is_refused_and_changes_no_answer(city: Any) -> None:
    patient = city.patient()
    result = city.result(patient)
    answer = city.running.post(
        "/fhir/DiagnosticReport", report(patient, result), headers=city.receiver
    )
    assert rule_of(answer) == (403, "owner")
    assert CITY.outcomes(city.recognize(patient, CITY.POTASSIUM))[0][0] == "recognize"


def test_a_report_of_anothers_result_named_by_version_is_refused(city: Any) -> None:
    patient = city.patient()
    result = city.result(patient)
    answer = city.running.post(
        "/fhir/DiagnosticReport", report(patient, f"{result}/_history/1"), headers=city.receiver
    )
    assert rule_of(answer) == (403, "owner")
