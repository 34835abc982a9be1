"""The CapabilityStatement: nothing is declared that does not answer, and the reverse."""

from __future__ import annotations

import pytest

from fhir_gateway.fhir.definitions import definitions
from fhir_gateway.fhir.walk import issues
from fhir_gateway.interactions.operation_definitions import (
    operation_definition,
    resource_types,
)
from fhir_gateway.interactions.table import INTERACTIONS
from fhir_gateway.interactions.types import interactions_of
from fhir_gateway.rest.handlers import HANDLERS
from fhir_gateway.rest.operations import METHODS, OPERATIONS
from fhir_gateway.rest.routes import TABLE


@pytest.fixture(scope="module")
def statement(client):
    return client.get("/fhir/metadata").json()


@pytest.fixture(scope="module")
def resources(statement):
    return {one["type"]: one for one in statement["rest"][0]["resource"]}


def test_it_is_a_sound_resource(statement):
    assert issues(statement) == []
    assert statement["fhirVersion"] == "4.0.1"


def test_every_row_of_the_table_has_a_route_and_every_route_a_row():
    rows = {(row.method, row.path) for row in INTERACTIONS}
    routes = {(method, path) for path, methods in TABLE.items() for method in methods}
    places = [path for path in TABLE if path.endswith("{operation}")]
    operations = {(method, path) for path in places for method in METHODS}
    assert routes == rows | operations
    assert set(HANDLERS) == routes


def test_every_storable_type_is_declared_with_what_it_offers(resources):
    for type in definitions().resource_types:
        offered = set(interactions_of(type))
        if not offered:
            assert type not in resources
            continue
        assert {one["code"] for one in resources[type]["interaction"]} == offered


def test_operations_are_the_operation_definitions(client, resources):
    declared = {}
    for type, resource in resources.items():
        for one in resource.get("operation", []):
            declared.setdefault(f"${one['name']}", set()).add(type)
    assert declared == {
        name: set(resource_types(row.definition)) for name, row in OPERATIONS.items()
    }
    for row in OPERATIONS.values():
        served = client.get(f"/fhir/OperationDefinition/{row.definition.code}").json()
        del served["meta"]
        assert served == operation_definition(row.definition)
        assert issues(served) == []


def test_the_system_offers_what_stands_in_the_table(statement):
    (rest,) = statement["rest"]
    codes = {row.code for row in INTERACTIONS if row.level == "system"} | {"batch"}
    assert {one["code"] for one in rest["interaction"]} == codes
    assert statement["patchFormat"] == [
        "application/fhir+json",
        "application/fhir+xml",
        "application/json-patch+json",
    ]
    assert f"{rest['compartment'][0]}".startswith("http://hl7.org/fhir/CompartmentDefinition/")


def test_claims_of_other_statements_stand_beside_their_operations(statement):
    named = {one["name"] for one in statement["rest"][0].get("operation", ())}
    assert ("instantiates" in statement) == ("export" in named)


def test_modes(client):
    assert client.get("/fhir/metadata?mode=normative").status_code == 200
    terminology = client.get("/fhir/metadata?mode=terminology").json()
    assert (terminology["resourceType"], issues(terminology)) == ("TerminologyCapabilities", [])
    assert client.get("/fhir/metadata?mode=terminologies").status_code == 400
    assert client.get("/fhir/metadata?nonsense=1").status_code == 400
