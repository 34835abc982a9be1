"""Slicing and extensions by profiles (profiling.html#slicing, defining-extensions.html)."""

from __future__ import annotations

from typing import Any

import pytest
from profile_cases import BASE, ROOT, broken, compiled, errors, observation, profile

from fhir_gateway.fhir.profile_base import judge
from fhir_gateway.fhir.profile_context import Context
from fhir_gateway.fhir.profile_known import Known

URL = f"{ROOT}/ext"


def sliced(
    element: str, kind: str, path: str, *slices: dict[str, Any], rules: str = "open", **more: Any
) -> dict[str, Any]:
    """A profile that slices an element of Observation by one discriminator."""
    slicing = {"discriminator": [{"type": kind, "path": path}], "rules": rules, **more}
    whole = {"id": f"Observation.{element}", "slicing": slicing}
    return profile("Observation", whole, *slices)


def named(element: str, name: str, **facts: Any) -> dict[str, Any]:
    return {"id": f"Observation.{element}:{name}", "sliceName": name, **facts}


def inside(element: str, name: str, path: str, **facts: Any) -> dict[str, Any]:
    return {"id": f"Observation.{element}:{name}.{path}", **facts}


LAB = {"coding": [{"system": "urn:c", "code": "lab"}]}
BOTH = [LAB, {"coding": [{"system": "urn:c", "code": "other"}]}]
NOTHING: list[tuple[str, str]] = []

BY_VALUE = sliced(
    "category", "value", "coding.code", named("category", "lab", min=1, max="1"),
    inside("category", "lab", "coding.code", fixedCode="lab"),
    inside("category", "lab", "text", min=1),
)  # fmt: skip
BY_PATTERN_ABOVE = sliced(
    "category", "value", "coding.code",
    named("category", "lab", min=1, max="1", patternCodeableConcept=LAB),
)  # fmt: skip
BY_THIS = sliced(
    "category", "pattern", "$this",
    named("category", "lab", min=1, max="1", patternCodeableConcept=LAB),
)  # fmt: skip
BY_BINDING = sliced(
    "category", "value", "$this",
    named("category", "lab", min=1, binding={"strength": "required", "valueSet": "urn:vs"}),
)  # fmt: skip
BY_EXISTS = sliced(
    "component", "exists", "value", named("component", "with", max="1"),
    inside("component", "with", "value[x]", min=1),
    named("component", "without", max="0"),
    inside("component", "without", "value[x]", max="0"),
)  # fmt: skip
BY_TYPE = sliced(
    "value[x]", "type", "$this", named("value[x]", "valueQuantity", type=[{"code": "Quantity"}]),
    inside("value[x]", "valueQuantity", "unit", min=1), rules="closed",
)  # fmt: skip
BY_TARGET = sliced(
    "performer", "type", "resolve()",
    named("performer", "who", max="1",
          type=[{"code": "Reference", "targetProfile": [f"{BASE}/Practitioner"]}]),
)  # fmt: skip

CASES: list[tuple[str, dict[str, Any], dict[str, Any], list[tuple[str, str]]]] = [
    ("value", BY_VALUE, {}, [("slice-cardinality", "Observation.category")]),
    ("value, judged inside", BY_VALUE, {"category": BOTH},
     [("cardinality", "Observation.category[0].text")]),
    ("another type, closed", BY_TYPE, {"valueString": "x"},
     [("slice-closed", "Observation.value")]),
    ("value, twice", BY_VALUE, {"category": [{**LAB, "text": "x"}, {**LAB, "text": "y"}]},
     [("slice-cardinality", "Observation.category")]),
    ("pattern above the path", BY_PATTERN_ABOVE, {"category": BOTH}, NOTHING),
    ("pattern above, missing", BY_PATTERN_ABOVE, {"category": BOTH[1:]},
     [("slice-cardinality", "Observation.category")]),
    ("pattern", BY_THIS, {"category": BOTH}, NOTHING),
    ("binding", BY_BINDING, {"category": BOTH}, NOTHING),
    ("exists", BY_EXISTS, {"component": [{"code": {"text": "a"}, "valueString": "x"}]}, NOTHING),
    ("exists not", BY_EXISTS, {"component": [{"code": {"text": "a"}}]},
     [("slice-cardinality", "Observation.component")]),
    ("type", BY_TYPE, {"valueQuantity": {"value": 1}}, [("cardinality", "Observation.value.unit")]),
    ("type of the target", BY_TARGET,
     {"performer": [{"reference": "#a"}, {"reference": "#b"}],
      "contained": [{"resourceType": "Practitioner", "id": "a"},
                    {"resourceType": "Practitioner", "id": "b"}]},
     [("slice-cardinality", "Observation.performer")]),
    ("type of another target", BY_TARGET,
     {"performer": [{"reference": "#a"}], "contained": [{"resourceType": "Patient", "id": "a"}]},
     NOTHING),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "structure", "members", "wanted"), CASES, ids=lambda v: str(v)[:30]
)
def test_values_are_sorted_into_slices(name, structure, members, wanted) -> None:
    def member(value_set: str, system: str, code: str) -> bool:
        return code == "lab"

    assert errors(structure, observation(**members), member=member) == wanted


@pytest.mark.parametrize(
    ("rules", "ordered", "codes", "wanted"),
    [
        ("open", False, "xyab", []),
        ("closed", False, "ab", []),
        ("closed", False, "axb", [("slice-closed", "Observation.category[1]")]),
        ("openAtEnd", False, "abx", []),
        ("openAtEnd", False, "axb", [("slice-order", "Observation.category[2]")]),
        ("open", True, "axb", []),
        ("open", True, "ba", [("slice-order", "Observation.category[1]")]),
    ],
)
def test_rules_of_slicing(rules, ordered, codes, wanted) -> None:
    slices = [
        part
        for code in "ab"
        for part in (
            named("category", code),
            inside("category", code, "coding.code", fixedCode=code),
        )
    ]
    structure = sliced("category", "value", "coding.code", *slices, rules=rules, ordered=ordered)
    category = [{"coding": [{"code": code}]} for code in codes]
    assert errors(structure, observation(category=category)) == wanted


def test_a_slice_of_a_slice() -> None:
    structure = sliced(
        "component", "value", "code.text",
        named("component", "a", max="2"), inside("component", "a", "code.text", fixedString="a"),
        {"id": "Observation.component:a/first", "sliceName": "a/first", "max": "0",
         "path": "Observation.component"},
        {"id": "Observation.component:a/first.valueString", "fixedString": "1",
         "path": "Observation.component.valueString"},
    )  # fmt: skip
    structure["differential"]["element"][1]["slicing"] = {
        "discriminator": [{"type": "value", "path": "value"}], "rules": "open"}  # fmt: skip
    one = {"code": {"text": "a"}, "valueString": "1"}
    assert errors(structure, observation(component=[one])) == [
        ("slice-cardinality", "Observation.component")
    ]
    assert errors(structure, observation(component=[{**one, "valueString": "2"}])) == []


def test_a_derived_profile_speaks_of_a_slice_of_its_base() -> None:
    base = {**BY_VALUE, "url": f"{ROOT}/base"}
    structure = profile(
        "Observation",
        inside("category", "lab", "id", min=1),
        baseDefinition=f"{ROOT}/base",
    )
    category = [{**LAB, "text": "x"}]
    assert errors(structure, observation(category=category), base) == [
        ("cardinality", "Observation.category[0].id")
    ]


def test_slices_by_the_profile_of_a_target() -> None:
    sodium = profile("Observation", {"id": "Observation.code.coding.code", "fixedCode": "2951-2"},
                     id="sodium")  # fmt: skip
    structure = sliced(
        "hasMember", "value", "resolve().code.coding.code",
        named("hasMember", "sodium", min=1,
              type=[{"code": "Reference", "targetProfile": [f"{ROOT}/sodium"]}]),
    )  # fmt: skip
    found = {"Observation/1": observation()}.get
    having = observation(hasMember=[{"reference": "Observation/1"}])
    assert errors(structure, having, sodium, resolve=found) == []
    assert errors(structure, observation(), sodium) == [
        ("slice-cardinality", "Observation.hasMember")
    ]


@pytest.mark.parametrize(
    ("structure", "says"),
    [
        (sliced("category", "value", "coding.where(code='x')", named("category", "a")), "path"),
        (sliced("category", "value", "coding.code", named("category", "a")), "says nothing"),
        (sliced("category", "guess", "coding.code", named("category", "a")), "says nothing"),
        (sliced("category", "value", "coding.code", rules="loose"), "rules"),
    ],
)
def test_slices_that_cannot_be_told_apart_are_doubts(structure, says) -> None:
    (doubt,) = compiled(structure).doubts
    assert says in doubt.diagnostics
    assert str(doubt.expression).startswith("StructureDefinition.differential.element[")


def extension(*elements: dict[str, Any], **members: Any) -> dict[str, Any]:
    """The definition of an extension with a code as value."""
    given = elements or ({"id": "Extension.value[x]", "min": 1, "type": [{"code": "code"}]},)
    return profile(
        "Extension", {"id": "Extension.url", "fixedUri": URL}, *given, id="ext",
        context=[{"type": "element", "expression": "Observation"}], **members,
    )  # fmt: skip


def extended(structure: dict[str, Any], resource: dict[str, Any]) -> list[tuple[str, str, str]]:
    """(severity, rule, expression) of a resource judged with this extension known."""
    known = Known([structure])
    found = judge(resource, Context(known=known), hints=True)
    return [(one.severity, str(one.rule), str(one.expression)) for one in found
            if one.rule != "dom-6"]  # fmt: skip


def test_an_extension_is_judged_by_its_definition() -> None:
    good = observation(extension=[{"url": URL, "valueCode": "x"}])
    assert extended(extension(), good) == []
    wrong = observation(extension=[{"url": URL, "valueString": "x"}])
    assert extended(extension(), wrong) == [("error", "type", "Observation.extension[0].value")]


def test_an_extension_stands_where_it_may() -> None:
    note = [{"text": "x", "extension": [{"url": URL, "valueCode": "x"}]}]
    told = [("error", "extension-context", "Observation.note[0].extension[0]")]
    assert extended(extension(), observation(note=note)) == told
    for kind, expression, fits in (
        ("element", "Annotation", True), ("element", "Observation.note", True),
        ("element", "Element", True), ("element", "Observation.method", False),
        ("element", f"{BASE}/Observation#Observation.note", True),
        ("extension", URL, False), ("fhirpath", "Observation.note", True),
        ("fhirpath", "Observation.method", False),
    ):  # fmt: skip
        structure = {**extension(), "context": [{"type": kind, "expression": expression}]}
        assert (extended(structure, observation(note=note)) == []) == fits, (kind, expression)


def test_an_extension_beside_a_primitive_is_judged() -> None:
    sent = observation(_status={"extension": [{"url": URL, "valueString": "x"}]})
    structure = {**extension(), "context": [{"type": "element", "expression": "code"}]}
    assert extended(structure, sent) == [("error", "type", "Observation.status.extension[0].value")]


def test_an_unknown_extension_is_information_and_an_unknown_modifier_an_error() -> None:
    unknown = [{"url": "http://nowhere.org/e", "valueCode": "x"}]
    assert extended(extension(), observation(extension=unknown)) == [
        ("information", "extension-unknown", "Observation.extension[0]")
    ]
    assert extended(extension(), observation(modifierExtension=unknown)) == [
        ("error", "modifier-extension-unknown", "Observation.modifierExtension[0]")
    ]


def test_parts_of_a_complex_extension_are_slices() -> None:
    structure = extension(
        {"id": "Extension.extension:lang", "sliceName": "lang", "min": 1, "max": "1"},
        {"id": "Extension.extension:lang.url", "fixedUri": "lang"},
        {"id": "Extension.extension:lang.value[x]", "type": [{"code": "code"}]},
        {"id": "Extension.value[x]", "max": "0"},
    )
    sent = observation(extension=[{"url": URL, "extension": [{"url": "lang", "valueString": "x"}]}])
    assert extended(structure, sent) == [
        ("error", "type", "Observation.extension[0].extension[0].value")
    ]
    empty = observation(extension=[{"url": URL, "extension": [{"url": "other", "valueCode": "x"}]}])
    assert extended(structure, empty) == [
        ("error", "slice-cardinality", "Observation.extension[0].extension")
    ]


def test_a_profile_wants_an_extension_by_the_url_of_its_definition() -> None:
    structure = profile("Observation", {
        "id": "Observation.extension:e", "sliceName": "e", "min": 1,
        "type": [{"code": "Extension", "profile": [URL]}]})  # fmt: skip
    assert errors(structure, observation(), extension()) == [
        ("slice-cardinality", "Observation.extension")
    ]
    sent = observation(extension=[{"url": URL, "valueCode": "x"}])
    assert broken(structure, sent, extension()) == []
