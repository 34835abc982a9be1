"""Real clients against a served gateway: fhirpy and fhirclient, unchanged from PyPI."""

from __future__ import annotations

import pytest
from fhirpy import SyncFHIRClient
from fhirpy.base.exceptions import OperationOutcome, ResourceNotFound
from rest_samples import SYSTEM, identifier, observation, patient
from rest_server import Served


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    one = Served(tmp_path_factory.mktemp("served") / "g.sqlite")
    yield one
    assert one.stop() == 0


@pytest.fixture(scope="module")
def fhir(served):
    return SyncFHIRClient(served.fhir)


def _of(fhir, body):
    members = dict(body)
    return fhir.resource(members.pop("resourceType"), **members)


def test_fhirpy_creates_reads_updates_and_deletes(fhir):
    person = _of(fhir, patient())
    person.save()
    assert person.id
    person["gender"] = "female"
    person.save()
    read = fhir.reference("Patient", person.id).to_resource()
    assert read["gender"] == "female"
    read.delete()
    with pytest.raises((OperationOutcome, ResourceNotFound)):
        fhir.reference("Patient", person.id).to_resource()


def test_fhirpy_searches_and_follows_pages(fhir):
    person = _of(fhir, patient(identifier=[identifier()]))
    person.save()
    for day in range(1, 6):
        _of(fhir, observation(f"Patient/{person.id}", effectiveDateTime=f"2026-11-0{day}")).save()
    query = fhir.resources("Observation").search(patient=person.id, date__ge="2026-11-02")
    assert len(query.limit(2).fetch_all()) == 4
    found = fhir.resources("Patient").search(
        identifier=f"{SYSTEM}|{person['identifier'][0]['value']}"
    )
    assert found.get().id == person.id


def test_fhirpy_gets_or_creates_once(fhir):
    number = identifier()
    search = fhir.resources("Patient").search(identifier=f"{number['system']}|{number['value']}")
    made = [search.get_or_create(_of(fhir, patient(identifier=[number]))) for _ in range(2)]
    assert [created for _, created in made] == [1, 0]
    assert made[0][0].id == made[1][0].id


def test_fhirpy_sends_a_transaction(fhir):
    bundle = fhir.resource(
        "Bundle",
        type="transaction",
        entry=[
            {
                "fullUrl": "urn:uuid:3fdc72f4-a11d-4a9d-9260-a9f745779e1d",
                "resource": patient(),
                "request": {"method": "POST", "url": "Patient"},
            }
        ],
    )
    bundle.save()
    assert bundle["entry"][0]["response"]["status"] == "201 Created"


def test_fhirpy_is_told_what_is_wrong(fhir):
    with pytest.raises(OperationOutcome) as caught:
        fhir.resource("Patient", gender="x").save()
    assert "Patient.gender" in str(caught.value)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_fhirclient_reads_metadata_creates_and_searches(served):
    from fhirclient import client as smart
    from fhirclient.models.humanname import HumanName
    from fhirclient.models.patient import Patient

    server = smart.FHIRClient(settings={"app_id": "test", "api_base": served.fhir}).server
    assert server.capabilityStatement.fhirVersion == "4.0.1"
    person = Patient()
    person.name = [HumanName({"family": "客户端", "given": ["甲"]})]
    person.gender = "other"
    made = person.create(server)
    read = Patient.read(made["id"], server)
    assert read.name[0].family == "客户端"
    found = Patient.where({"family": "客户端"}).perform_resources(server)
    assert [one.id for one in found] == [made["id"]]


def _person_of_two(fhir):
    """A person with two records, and a result of each."""
    number = {"system": "http://hl7.org/fhir/sid/passport-CHN", "value": "E31415926"}
    records = [_of(fhir, patient(identifier=[number])) for _ in range(2)]
    unit = {"unit": "mmol/L", "system": "http://unitsofmeasure.org", "code": "mmol/L"}
    for record in records:
        record.save()
        quantity = {"value": 140, **unit}
        _of(fhir, observation(f"Patient/{record.id}", valueQuantity=quantity)).save()
    return [record.id for record in records]


def test_fhirpy_finds_the_results_of_all_records_and_nothing_else(served, fhir):
    records = _person_of_two(fhir)
    found = fhir.resources("Observation").search(patient=records[1]).fetch_all()
    assert {one["subject"]["reference"] for one in found} == {f"Patient/{id}" for id in records}
    answer = fhir.reference("Patient", records[0]).execute("$prior-results", method="GET")
    assert [one["valueInteger"] for one in answer["parameter"] if one["name"] == "total"] == [2]


def test_fhirclient_reads_earlier_results(served, fhir):
    from fhirclient.client import FHIRClient
    from fhirclient.models.parameters import Parameters

    records = _person_of_two(fhir)
    server = FHIRClient(settings={"app_id": "test", "api_base": served.fhir}).server
    read = Parameters.read_from(f"Patient/{records[0]}/$prior-results", server)
    results = [
        {part.name: part for part in result.part}
        for item in read.parameter if item.name == "item"
        for result in item.part if result.name == "result"
    ]  # fmt: skip
    assert [one["quantity"].valueQuantity.value for one in results][:2] == [140, 140]
    assert {one["patient"].valueReference.reference for one in results} >= {
        f"Patient/{id}" for id in records
    }
