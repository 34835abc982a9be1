"""Profiles: what a compiled one says of a resource (profiling.html, elementdefinition.html)."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from profile_cases import BASE, ROOT, broken, compiled, errors, observation, profile, rule

from fhir_gateway.fhir.profile_context import Context
from fhir_gateway.fhir.profile_known import Known

LOINC = {"coding": [{"system": "http://loinc.org", "code": "1-8"}]}

CASES: list[tuple[str, list[dict[str, Any]], dict[str, Any], list[tuple[str, str]]]] = [
    ("min", [{"id": "Observation.subject", "min": 1}], {},
     [("cardinality", "Observation.subject")]),
    ("min, met by an extension alone", [{"id": "Observation.issued", "min": 1}],
     {"_issued": {"extension": [{"url": "http://x.org/e", "valueCode": "x"}]}}, []),
    ("max 0", [{"id": "Observation.note", "max": "0"}], {"note": [{"text": "x"}]},
     [("cardinality", "Observation.note")]),
    ("max 1 of many", [{"id": "Observation.note", "max": "1"}],
     {"note": [{"text": "x"}, {"text": "y"}]}, [("cardinality", "Observation.note")]),
    ("min of a child, told of each parent", [{"id": "Observation.note.time", "min": 1}],
     {"note": [{"text": "x"}, {"text": "y", "time": "2026-01-01"}]},
     [("cardinality", "Observation.note[0].time")]),
    ("min of a child of what is not there", [{"id": "Observation.method.text", "min": 1}], {}, []),
    ("fixed code", [{"id": "Observation.status", "fixedCode": "final"}], {"status": "amended"},
     [("fixed", "Observation.status")]),
    ("fixed is all of it", [{"id": "Observation.method", "fixedCodeableConcept": {"text": "x"}}],
     {"method": {"text": "x", "id": "1"}}, [("fixed", "Observation.method")]),
    ("pattern is a part", [{"id": "Observation.code", "patternCodeableConcept": LOINC}],
     {"code": {"coding": [{"system": "urn:x", "code": "y"},
                          {"system": "http://loinc.org", "code": "1-8", "display": "z"}]}}, []),
    ("pattern over two codings is none", [{"id": "Observation.code",
                                           "patternCodeableConcept": LOINC}],
     {"code": {"coding": [{"system": "http://loinc.org", "code": "2-8"},
                          {"system": "urn:x", "code": "1-8"}]}}, [("pattern", "Observation.code")]),
    ("type of a choice", [{"id": "Observation.value[x]", "type": [{"code": "Quantity"}]}],
     {"valueString": "x"}, [("type", "Observation.value")]),
    ("a choice by its JSON name", [{"id": "Observation.valueQuantity", "min": 1}],
     {"valueString": "x"}, [("cardinality", "Observation.value")]),
    ("children of one type of a choice", [{"id": "Observation.value[x].code", "min": 1}],
     {"valueQuantity": {"value": 1}}, [("cardinality", "Observation.value.code")]),
    ("longest", [{"id": "Observation.note.text", "maxLength": 2}], {"note": [{"text": "xyz"}]},
     [("max-length", "Observation.note[0].text")]),
    ("least", [{"id": "Observation.value[x].value", "minValueDecimal": Decimal("0")}],
     {"valueQuantity": {"value": Decimal("-0.1")}}, [("limit", "Observation.value.value")]),
    ("most, in another precision", [{"id": "Observation.issued",
                                     "maxValueInstant": "2026-01-01T00:00:00Z"}],
     {"issued": "2027-01-01T00:00:00.000Z"}, []),
    ("target's type", [{"id": "Observation.subject", "type": [
        {"code": "Reference", "targetProfile": [f"{BASE}/Patient"]}]}],
     {"subject": {"reference": "Group/1"}},
     [("reference-target", "Observation.subject.reference")]),
    ("a reference without type", [{"id": "Observation.subject", "type": [
        {"code": "Reference", "targetProfile": [f"{BASE}/Patient"]}]}],
     {"subject": {"reference": "urn:uuid:9d8e7f00-0000-4000-8000-000000000001"}}, []),
    ("aggregation", [{"id": "Observation.specimen", "type": [
        {"code": "Reference", "aggregation": ["contained"]}]}],
     {"specimen": {"reference": "Specimen/1"}}, [("aggregation", "Observation.specimen")]),
    ("invariant of the resource", [{"id": "Observation", "constraint": [
        rule("x-1", "value.exists() or component.exists()")]}], {}, [("x-1", "Observation")]),
    ("invariant of an element", [{"id": "Observation.component", "constraint": [
        rule("x-2", "value.exists()")]}],
     {"component": [{"code": {"text": "a"}, "valueString": "x"}, {"code": {"text": "b"}}]},
     [("x-2", "Observation.component[1]")]),
    ("invariant that gives nothing", [{"id": "Observation", "constraint": [
        rule("x-3", "method.text = 'x'")]}], {}, []),
    ("contentReference", [{"id": "Observation.component.referenceRange.text", "min": 1}],
     {"component": [{"code": {"text": "a"}, "referenceRange": [{"low": {"value": 1}}]}]},
     [("cardinality", "Observation.component[0].referenceRange[0].text")]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "elements", "members", "wanted"), CASES, ids=lambda v: str(v)[:40]
)
def test_an_element_is_judged(name, elements, members, wanted) -> None:
    structure = profile("Observation", *elements)
    assert errors(structure, observation(**members)) == wanted


def test_all_issues_at_once_errors_first() -> None:
    structure = profile(
        "Observation",
        {"id": "Observation", "constraint": [rule("a-1", "note.exists()", "warning")]},
        {"id": "Observation.subject", "min": 1},
        {"id": "Observation.method", "min": 1},
    )
    assert broken(structure, observation()) == [
        ("error", "cardinality", "Observation.subject"),
        ("error", "cardinality", "Observation.method"),
        ("warning", "a-1", "Observation"),
    ]


def test_a_sentence_names_the_place_and_what_to_do() -> None:
    structure = profile("Observation", {"id": "Observation.note", "max": "0"})
    (issue,) = compiled(structure).issues(observation(note=[{"text": "secret"}]))
    assert issue.diagnostics == "Observation.note must not be there"
    assert "secret" not in str(issue)


def test_a_profile_is_laid_over_its_base() -> None:
    base = profile("Observation", {"id": "Observation.subject", "min": 1}, id="base")
    structure = profile(
        "Observation", {"id": "Observation.method", "min": 1}, baseDefinition=f"{ROOT}/base"
    )
    assert [place for _, place in errors(structure, observation(), base)] == [
        "Observation.subject", "Observation.method",
    ]  # fmt: skip
    wider = profile(
        "Observation",
        {"id": "Observation.subject", "min": 0},
        baseDefinition=f"{ROOT}/base",
    )
    assert errors(wider, observation(), base) == []


def test_without_its_base_the_snapshot_is_taken() -> None:
    structure = profile("Observation", baseDefinition="http://elsewhere.org/base")
    structure["snapshot"] = {
        "element": [
            {"id": "Observation", "path": "Observation", "min": 0, "max": "*"},
            {"id": "Observation.subject", "path": "Observation.subject", "min": 1, "max": "1"},
        ]
    }
    assert errors(structure, observation()) == [("cardinality", "Observation.subject")]


def test_a_base_that_is_not_known_is_a_warning_with_each_resource() -> None:
    structure = profile(
        "Observation",
        {"id": "Observation.subject", "min": 1},
        baseDefinition="http://elsewhere.org/base",
    )
    made = compiled(structure)
    assert [doubt.rule for doubt in made.doubts] == ["profile-base"]
    found = made.issues(observation())
    assert [(one.severity, one.rule) for one in found] == [
        ("error", "cardinality"), ("warning", "profile-definition"),
    ]  # fmt: skip


def test_another_type_is_not_judged_further() -> None:
    structure = profile("Patient", {"id": "Patient.name", "min": 1})
    assert errors(structure, observation()) == [("profile-type", "Observation")]


def test_paths_without_ids_are_read_with_their_slices() -> None:
    structure = profile("Observation")
    structure["differential"]["element"] = [
        {"path": "Observation.category", "slicing": {
            "discriminator": [{"type": "value", "path": "coding.code"}], "rules": "open"}},
        {"path": "Observation.category", "sliceName": "lab", "min": 1, "max": "1"},
        {"path": "Observation.category.coding.code", "fixedCode": "laboratory"},
    ]  # fmt: skip
    assert errors(structure, observation()) == [("slice-cardinality", "Observation.category")]
    category = [{"coding": [{"code": "laboratory"}]}]
    assert errors(structure, observation(category=category)) == []


def test_the_targets_profile_is_judged_where_the_target_is_at_hand() -> None:
    person = profile("Patient", {"id": "Patient.name", "min": 1}, id="person")
    structure = profile("Observation", {"id": "Observation.subject", "type": [
        {"code": "Reference", "targetProfile": [f"{ROOT}/person"]}]})  # fmt: skip
    told = [("target-profile", "Observation.subject.reference")]
    nameless = {"resourceType": "Patient", "id": "p"}
    named = {**nameless, "name": [{"text": "测试"}]}
    for patient, wanted in ((nameless, told), (named, [])):
        inside = observation(contained=[patient], subject={"reference": "#p"})
        assert errors(structure, inside, person) == wanted
        outside = observation(subject={"reference": "Patient/p"})
        found = errors(structure, outside, person, resolve={"Patient/p": patient}.get)
        assert found == wanted
    assert errors(structure, observation(subject={"reference": "Patient/p"}), person) == []


def test_the_type_of_a_resource_inside_a_bundle() -> None:
    structure = profile(
        "Bundle",
        {"id": "Bundle.entry.resource", "type": [{"code": "Patient"}]},
        {"id": "Bundle.entry.resource.name", "min": 1},
    )
    # names below a resource of no certain type are those of the type that comes
    entry = [{"resource": {"resourceType": "Patient"}}, {"resource": observation()}]
    bundle = {"resourceType": "Bundle", "type": "collection", "entry": entry}
    assert ("type", "Bundle.entry[1].resource") in errors(structure, bundle)
    assert ("cardinality", "Bundle.entry[0].resource.name") in errors(structure, bundle)


BINDING = {"id": "Observation.method", "binding": {"strength": "required", "valueSet": "urn:vs"}}
METHOD = {"method": {"coding": [{"system": "urn:s", "code": "a"}]}}


@pytest.mark.parametrize(
    ("strength", "member", "systems", "wanted"),
    [
        ("required", True, None, []),
        ("required", False, None, [("error", "required-binding")]),
        ("required", None, None, [("warning", "binding-unknown")]),
        ("extensible", True, None, []),
        ("extensible", False, {"urn:s"}, [("warning", "extensible-binding")]),
        ("extensible", False, {"urn:other"}, []),
        ("extensible", False, None, [("warning", "extensible-binding")]),
        ("extensible", None, {"urn:s"}, [("warning", "binding-unknown")]),
        ("preferred", False, {"urn:s"}, []),
        ("example", False, {"urn:s"}, []),
    ],
)
def test_bindings_by_strength(strength, member, systems, wanted) -> None:
    binding = {"strength": strength, "valueSet": "urn:vs"}
    structure = profile("Observation", {"id": "Observation.method", "binding": binding})
    found = broken(
        structure, observation(**METHOD),
        member=lambda vs, system, code: member, systems=lambda vs: systems,
    )  # fmt: skip
    assert [one[:2] for one in found] == wanted


def test_a_text_alone_breaks_a_required_binding_and_no_extensible_one() -> None:
    texts = observation(method={"text": "by hand"})
    assert errors(profile("Observation", BINDING), texts) == [
        ("required-binding", "Observation.method")
    ]
    extensible = {**BINDING, "binding": {"strength": "extensible", "valueSet": "urn:vs"}}
    assert broken(profile("Observation", extensible), texts) == []


def test_hundred_errors_are_listed_and_one_line_says_that_there_are_more() -> None:
    structure = profile("Observation", {"id": "Observation.note.time", "min": 1})
    notes = [{"text": "x"} for _ in range(300)]
    found = compiled(structure).issues(observation(note=notes))
    assert len(found) == 101
    assert (found[-1].rule, found[-1].severity) == ("more-issues", "information")


def test_no_number_of_warnings_hides_an_error() -> None:
    structure = profile(
        "Observation",
        {"id": "Observation.note", "constraint": [rule("w", "time.exists()", "warning")]},
        {"id": "Observation.component", "min": 1},
    )
    notes = [{"text": "x"} for _ in range(300)]
    found = compiled(structure).issues(observation(note=notes))
    assert found[0].rule == "cardinality"
    assert found[-1].rule == "more-issues"


def test_a_profile_is_compiled_once_and_unknown_ones_leave_no_trace() -> None:
    structure = profile("Observation", version="2")
    known = Known([structure])
    assert known.profile(f"{ROOT}/p") is known.profile(f"{ROOT}/p")
    assert known.profile(f"{ROOT}/p|2") is not None
    assert known.profile(f"{ROOT}/p|3") is None
    assert known.profile("http://nowhere.org/x") is None
    assert known.urls()[0] == f"{ROOT}/p"


def test_every_profile_of_r4_compiles() -> None:
    known = Known()
    doubtful = {
        url.rpartition("/")[2]
        for url in known.urls()
        if (made := known.profile(url)) is not None and made.doubts
    }
    # patterns of R4's own workshop: their types are no types of R4
    assert doubtful == {"Definition", "Event", "FiveWs", "MetadataResource", "Request"}


def test_blood_pressure_by_r4s_own_profile() -> None:
    def part(code: str, **value: Any) -> dict[str, Any]:
        return {"code": {"coding": [{"system": "http://loinc.org", "code": code}]}, **value}

    mmhg = {"unit": "mmHg", "system": "http://unitsofmeasure.org", "code": "mm[Hg]"}
    sent = observation(
        meta={"profile": [f"{BASE}/bp"]},
        category=[{"coding": [{"system": "http://terminology.hl7.org/CodeSystem/observation-category",
                               "code": "vital-signs"}]}],
        code={"coding": [{"system": "http://loinc.org", "code": "85354-9"}]},
        subject={"reference": "Patient/1"},
        effectiveDateTime="2026-01-01",
        component=[part("8480-6", valueQuantity={"value": 120, **mmhg}),
                   part("8462-4", valueQuantity={"value": 80, **mmhg, "code": "kPa"})],
    )  # fmt: skip
    made = Known().profile(f"{BASE}/bp")
    assert made is not None
    context = Context(member=lambda *asked: True)
    found = [(one.rule, one.expression) for one in made.issues(sent, context)]
    assert found == [("fixed", "Observation.component[1].value.code")]
    del sent["component"][1]
    found = [(one.rule, one.expression) for one in made.issues(sent, context)]
    assert ("slice-cardinality", "Observation.component") in found
