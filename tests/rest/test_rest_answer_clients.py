"""A doctor's answer through a client from PyPI: fhirpy sends it and finds its Task."""

from __future__ import annotations

import pytest
from fhirpy import SyncFHIRClient
from fhirpy.base.exceptions import ForbiddenError
from rest_samples import patient
from rest_server import Served


@pytest.fixture(scope="module")
def fhir(tmp_path_factory):
    one = Served(tmp_path_factory.mktemp("answers") / "g.sqlite")
    yield SyncFHIRClient(one.fhir)
    assert one.stop() == 0


def _parameters(*parameters):
    return {"resourceType": "Parameters", "parameter": list(parameters)}


def test_fhirpy_answers_a_decision_and_reads_the_task(fhir):
    body = patient()
    person = fhir.resource(body.pop("resourceType"), **body)
    person.save()
    asked = _parameters(
        {"name": "patient", "valueReference": {"reference": f"Patient/{person.id}"}},
        {"name": "item", "valueCode": "L001"},
    )
    told = fhir.execute("ServiceRequest/$recognize", method="post", data=asked)
    decision = told["parameter"][0]["valueReference"]["reference"]
    given = _parameters(
        {"name": "outcome", "valueCode": "repeated"},
        {"name": "reason", "valueCode": "N3"},
        {"name": "practitioner", "valueReference": {"display": "示例医师"}},
    )
    kept = fhir.execute(f"{decision}/$answer", method="post", data=given)
    reference = kept["parameter"][0]["valueReference"]["reference"]
    found = fhir.resources("Task").search(
        patient=person.id, code="recognition-answer", business_status="repeated"
    )
    (task,) = [one for one in found.fetch_all() if one.resource_type == "Task"]
    assert reference == f"Task/{task.id}/_history/1"
    assert task["focus"]["reference"] == decision
    assert task["requester"]["display"] == "示例医师"
    task["status"] = "failed"
    with pytest.raises(ForbiddenError) as caught:
        task.save()
    assert "$answer" in str(caught.value)
