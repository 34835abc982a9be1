"""Real clients ask a served gateway about terminology: fhirpy and fhirclient, from PyPI."""

from __future__ import annotations

import pytest
from fhirpy import SyncFHIRClient
from fhirpy.base.exceptions import OperationOutcome, ResourceNotFound
from rest_server import Served

GENDERS = "http://hl7.org/fhir/ValueSet/administrative-gender"
GENDER = "http://hl7.org/fhir/administrative-gender"


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    one = Served(tmp_path_factory.mktemp("served") / "g.sqlite")
    yield one
    assert one.stop() == 0


def test_fhirpy_expands_validates_and_is_told_what_is_wrong(served):
    client = SyncFHIRClient(served.fhir)
    found = client.execute("ValueSet/$expand", method="GET", params={"url": GENDERS})
    assert found["expansion"]["total"] == 4
    asked = client.resource(
        "Parameters",
        parameter=[
            {"name": "url", "valueUri": GENDERS},
            {"name": "coding", "valueCoding": {"system": GENDER, "code": "Female"}},
        ],
    )
    answer = client.execute("ValueSet/$validate-code", method="POST", data=asked.serialize())
    values = {one["name"]: one for one in answer["parameter"]}
    assert values["result"]["valueBoolean"] is False
    assert "female" in values["message"]["valueString"]
    with pytest.raises((OperationOutcome, ResourceNotFound)):
        client.execute("CodeSystem/$lookup", params={"system": GENDER, "code": "x"})


def test_fhirclient_reads_what_is_answered(served):
    from fhirclient import client as smart
    from fhirclient.models.parameters import Parameters
    from fhirclient.models.valueset import ValueSet

    client = smart.FHIRClient(settings={"app_id": "tests", "api_base": served.fhir})
    client.prepare()
    value_set = ValueSet(client.server.request_json(f"ValueSet/$expand?url={GENDERS}"))
    assert [one.code for one in value_set.expansion.contains] == [
        "male", "female", "other", "unknown",
    ]  # fmt: skip
    looked = Parameters(
        client.server.request_json(f"CodeSystem/$lookup?system={GENDER}&code=female")
    )
    named = {one.name: one.valueString for one in looked.parameter if one.valueString}
    assert named["display"] == "Female"
