"""Compiled search parameter expressions, with fhirpathpy as the oracle."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fhirpathpy import compile as oracle_compile
from fhirpathpy.models import models

from fhir_gateway.errors import Invalid
from fhir_gateway.fhir.definitions import definitions
from fhir_gateway.fhir.path import NOT_COMPILED, compile_path, reference_type, result_types

HERE = Path(__file__).parent
SHARED = HERE.parents[2] / "shared" / "data" / "samples" / "fhir-r4-examples"
R4 = definitions()
SUBJECT = {"reference": "Patient/1"}


def _run(expression: str, resource: dict[str, Any]) -> list[tuple[str, Any]]:
    return compile_path(expression, resource["resourceType"])(resource)


def test_every_search_parameter_of_r4_compiles_or_is_excused() -> None:
    failed = set()
    for base, parameters in R4.parameters.items():
        for code, parameter in parameters.items():
            try:
                for type in result_types(parameter.expression, base):
                    for _, component in parameter.components:
                        compile_path(component, type)
            except Invalid:
                failed.add(f"{base}.{code}")
    assert failed == set(NOT_COMPILED)


def test_parameters_of_all_resources_compile_for_a_type() -> None:
    resource = {"resourceType": "Slot", "id": "s", "meta": {"tag": [{"code": "t"}]}}
    assert _run("Resource.id", resource) == [("id", "s")]
    assert _run("Resource.meta.tag", resource) == [("Coding", {"code": "t"})]


@pytest.mark.parametrize(
    ("expression", "found"),
    [
        ("Observation.value", [("Quantity", {"value": 1})]),
        ("(Observation.value as Quantity)", [("Quantity", {"value": 1})]),
        ("Observation.value.as(CodeableConcept)", []),
        ("Observation.value.ofType(Quantity).value", [("decimal", 1)]),
        ("Observation.component.value", [("string", "a"), ("integer", 2)]),
        ("Observation.component[1].value", [("integer", 2)]),
        ("Observation.component[7].value", []),
        ("Observation.subject.where(resolve() is Patient)", [("Reference", SUBJECT)]),
        ("Observation.subject.where(resolve() is Group)", []),
        ("Observation.identifier.where(use='old').value", [("string", "2")]),
        ("Observation.status.exists()", [("boolean", True)]),
        ("Observation.method.exists()", [("boolean", False)]),
        ("Observation.status.exists() and Observation.status != 'final'", [("boolean", False)]),
        ("Observation.method.exists() and Observation.status = 'x'", [("boolean", False)]),
        ("Observation.contained.id", [("id", "c")]),
        ("Observation.contained.ofType(Patient).id", [("id", "c")]),
        ("Observation.contained.ofType(Group).id", []),
        ("Observation.note.text | Observation.status", [("code", "final")]),
    ],
)  # fmt: skip
def test_language_of_search_parameters(expression: str, found: list[tuple[str, Any]]) -> None:
    resource = {
        "resourceType": "Observation",
        "contained": [{"resourceType": "Patient", "id": "c"}],
        "identifier": [{"use": "usual", "value": "1"}, {"use": "old", "value": "2"}],
        "status": "final",
        "subject": SUBJECT,
        "valueQuantity": {"value": 1},
        "component": [{"valueString": "a"}, {"valueInteger": 2}, {"code": {"text": "b"}}],
    }
    assert _run(expression, resource) == found


def test_path_goes_into_the_resources_of_a_bundle() -> None:
    inner = {"resourceType": "Composition", "id": "c"}
    bundle = {"resourceType": "Bundle", "entry": [{"resource": inner}]}
    assert _run("Bundle.entry[0].resource", bundle) == [("Composition", inner)]


@pytest.mark.parametrize(
    ("deceased", "found"),
    [({}, False), ({"deceasedBoolean": False}, False), ({"deceasedBoolean": True}, True),
     ({"deceasedDateTime": "2026"}, True)],
)  # fmt: skip
def test_deceased_is_a_date_or_true(deceased: dict[str, Any], found: bool) -> None:
    expression = R4.search_parameters["Patient"]["deceased"].expression
    assert _run(expression, {"resourceType": "Patient", **deceased}) == [("boolean", found)]


def test_component_of_a_composite_starts_at_its_backbone() -> None:
    run = compile_path("value.as(Quantity)", "Observation.component")
    assert run({"valueQuantity": {"value": 3}}) == [("Quantity", {"value": 3})]


@pytest.mark.parametrize(
    "expression",
    [
        "Observation.valueQuantity",
        "Observation.colour",
        "Observation.status.matches('a')",
        "Observation.value as Foo",
        "Observation.status as Quantity",
        "Observation.",
        "(Observation.status",
        "Observation.status Observation.code",
        "",
    ],
)
def test_path_that_r4_does_not_have_fails_when_it_is_compiled(expression: str) -> None:
    with pytest.raises(Invalid):
        compile_path(expression, "Observation")


@pytest.mark.parametrize(
    ("reference", "type"),
    [
        ({"reference": "Patient/1"}, "Patient"),
        ({"reference": "http://h1.example.org/fhir/Patient/1/_history/2"}, "Patient"),
        ({"type": "Patient", "identifier": {"value": "1"}}, "Patient"),
        ({"reference": "#a"}, None),
        ({"display": "a"}, None),
        ("http://h1.example.org/fhir/Library/a|1.0", "Library"),
    ],
)
def test_type_of_a_reference(reference: dict[str, Any] | str, type: str | None) -> None:
    assert reference_type(reference) == type


def _samples() -> Iterator[Path]:
    yield from sorted(HERE.glob("samples/*.json"))
    by_type: dict[str, Path] = {}
    for file in sorted(SHARED.glob("*.json")):
        by_type.setdefault(file.name.partition("-")[0], file)
    yield from by_type.values()


#: The oracle's `as` refuses several items, as later FHIRPath says; in R4's search parameters it
#: means a filter, which is ofType.
_AS = re.compile(r"\(?([A-Za-z.]+?)(?: as |\.as\()([A-Za-z]+)\)")


def _distinct(values: list[Any]) -> list[str]:
    """Values without repeats, in order; the oracle returns a union as a set."""
    return list(dict.fromkeys(json.dumps(value, sort_keys=True, default=float) for value in values))


@pytest.mark.parametrize("file", list(_samples()), ids=lambda file: file.stem)
def test_compiled_path_finds_what_the_oracle_finds(file: Path) -> None:
    resource = json.loads(file.read_bytes())
    type = resource["resourceType"]
    compared = 0
    for parameter in R4.search_parameters[type].values():
        expression = parameter.expression.replace("Resource.", f"{type}.")
        if not expression or "resolve()" in expression:
            continue
        expected = oracle_compile(_AS.sub(r"\1.ofType(\2)", expression), models["r4"])(resource)
        found = [value for _, value in compile_path(expression, type)(resource)]
        assert (expression, _distinct(found)) == (expression, _distinct(expected))
        compared += 1
    assert compared > 5
