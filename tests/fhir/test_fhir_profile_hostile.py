"""Foreign definitions are as hostile as any other input: they cost little and break nothing."""

from __future__ import annotations

import random
from typing import Any

import pytest
from profile_cases import BASE, ROOT, compiled, errors, observation, profile, rule

from fhir_gateway.fhir.profile import compile_profile
from fhir_gateway.fhir.profile_base import judge
from fhir_gateway.fhir.profile_context import Context
from fhir_gateway.fhir.profile_known import Known
from fhir_gateway.fhir.profile_tree import MAX_ELEMENTS


def constrained(expression: str) -> dict[str, Any]:
    return profile("Observation", {"id": "Observation", "constraint": [rule("x", expression)]})


@pytest.mark.parametrize(
    "pattern", ["(a+)+$", "(a|a)*b", "([a-z]+)*x", "(.*)*(.*)*(.*)*y", "(x+x+)+z"]
)
def test_a_regex_that_explodes_elsewhere_takes_linear_time_here(pattern) -> None:
    structure = constrained(f"note.text.matches('{pattern}')")
    sent = observation(note=[{"text": "a" * 200_000 + "!"}])
    assert [rule for rule, _ in errors(structure, sent)] in ([], ["x"])


@pytest.mark.parametrize(
    "pattern", ["(?=a)", "(?<!a)b", "(a)\\\\1", "a{5000}", "(" * 2_000, "[", "a{2,1}"]
)
def test_a_regex_that_is_none_here_is_told_when_it_is_compiled(pattern) -> None:
    (doubt,) = compiled(constrained(f"note.text.matches('{pattern}')")).doubts
    assert doubt.rule == "fhirpath-regex"
    assert doubt.expression == "StructureDefinition.differential.element[0].constraint[0]"


def test_a_regex_out_of_the_resource_is_bounded_too() -> None:
    structure = constrained("note.first().text.matches(note.last().text)")
    sent = observation(note=[{"text": "a" * 50_000}, {"text": "(a+)+$"}])
    assert errors(structure, sent) == []
    broken = observation(note=[{"text": "a"}, {"text": "("}])
    found = compiled(structure).issues(broken)
    assert [(one.severity, one.rule) for one in found] == [("warning", "invariant-unknown")]


def test_bases_in_a_circle() -> None:
    first = profile("Observation", {"id": "Observation.subject", "min": 1}, id="a",
                    baseDefinition=f"{ROOT}/b")  # fmt: skip
    second = profile("Observation", id="b", baseDefinition=f"{ROOT}/a")
    made = compiled(first, second)
    assert [doubt.expression for doubt in made.doubts] == ["StructureDefinition.baseDefinition"]
    assert ("cardinality", "Observation.subject") in [
        (one.rule, one.expression) for one in made.issues(observation())
    ]


def test_a_chain_of_bases_without_end() -> None:
    chain = [
        profile("Observation", id=f"n{number}", baseDefinition=f"{ROOT}/n{number + 1}")
        for number in range(200)
    ]
    assert compiled(*chain).doubts


def test_profiles_that_ask_for_each_other() -> None:
    def member(id: str, other: str) -> dict[str, Any]:
        return profile("Observation", {"id": "Observation.hasMember", "type": [
            {"code": "Reference", "targetProfile": [f"{ROOT}/{other}"]}]}, id=id)  # fmt: skip

    found = {
        "Observation/1": observation(hasMember=[{"reference": "Observation/2"}]),
        "Observation/2": observation(hasMember=[{"reference": "Observation/1"}]),
    }
    sent = observation(hasMember=[{"reference": "Observation/1"}])
    assert errors(member("a", "b"), sent, member("b", "a"), resolve=found.get) == []


def test_an_extension_inside_of_itself() -> None:
    definition = profile("Extension", {"id": "Extension.extension:again", "sliceName": "again",
        "type": [{"code": "Extension", "profile": [f"{ROOT}/ext"]}]}, id="ext")  # fmt: skip
    inner: dict[str, Any] = {"url": f"{ROOT}/ext", "valueCode": "x"}
    for _ in range(25):
        inner = {"url": f"{ROOT}/ext", "extension": [inner]}
    context = Context(known=Known([definition]))
    found = judge(observation(extension=[inner]), context)
    assert {one.severity for one in found} <= {"information"}


def test_conforms_to_itself() -> None:
    structure = constrained(f"conformsTo('{ROOT}/p') and hasMember.all(true)")
    assert errors(structure, observation()) == []


def test_ten_thousand_elements() -> None:
    elements = [
        {"id": f"Observation.component:s{number}.code.text", "fixedString": f"s{number}"}
        for number in range(5_000)
    ]
    slices = [
        {"id": f"Observation.component:s{number}", "sliceName": f"s{number}", "max": "1"}
        for number in range(5_000)
    ]
    slicing = {"id": "Observation.component", "slicing": {
        "discriminator": [{"type": "value", "path": "code.text"}], "rules": "closed"}}  # fmt: skip
    made = compiled(profile("Observation", slicing, *slices, *elements))
    assert not made.doubts
    sent = observation(component=[{"code": {"text": "s4999"}, "valueString": "x"}] * 2)
    found = made.issues(sent)
    assert [one.rule for one in found] == ["slice-cardinality"]


def test_too_many_elements_are_a_doubt() -> None:
    elements = [{"id": "Observation.note", "max": "1"}] * (MAX_ELEMENTS + 1)
    (doubt,) = compiled(profile("Observation", *elements)).doubts
    assert str(MAX_ELEMENTS) in doubt.diagnostics


def test_huge_arrays_end_with_the_list_of_issues() -> None:
    structure = profile(
        "Observation",
        {"id": "Observation.component.code.text", "min": 1},
        {"id": "Observation.component", "constraint": [rule("x", "value.exists()")]},
    )
    sent = observation(component=[{"code": {"coding": [{"code": "x"}]}}] * 50_000)
    assert len(compiled(structure).issues(sent)) == 101


def test_deep_nesting_of_a_profile_and_of_a_resource() -> None:
    id = "Questionnaire" + ".item" * 60
    structure = profile("Questionnaire", {"id": f"{id}.text", "min": 1})
    assert compiled(structure).doubts
    item: dict[str, Any] = {"linkId": "1", "type": "group"}
    for number in range(55):
        item = {"linkId": f"{number}", "type": "group", "item": [item]}
    sent = {"resourceType": "Questionnaire", "status": "draft", "item": [item]}
    assert "que-2" in {one.rule for one in judge(sent, Context())}  # link ids are unique


ODD: list[Any] = [None, 5, "x", [], {}, [5], {"a": []}, True, [{"id": 5}], "http://x.org/y"]


PARTS = (
    "id", "path", "min", "max", "type", "slicing", "sliceName", "binding", "constraint",
    "fixedString", "patternCoding", "maxLength", "contentReference",
)  # fmt: skip


@pytest.mark.parametrize("seed", range(40))
def test_definitions_of_odd_shape_are_doubts_and_never_faults(seed) -> None:
    chance = random.Random(seed)
    elements: list[Any] = []
    for _ in range(12):
        one: dict[str, Any] = {"id": "Observation.component", "path": "Observation.component"}
        for key in PARTS:
            if chance.random() < 0.4:
                one[key] = chance.choice(ODD)
        elements.append(chance.choice([one, one, one, *ODD]))
    structure = profile("Observation")
    structure["differential"] = {"element": elements}
    for key in ("type", "baseDefinition", "context", "url", "version"):
        if chance.random() < 0.15:
            structure[key] = chance.choice(ODD)
    made = compile_profile(structure, known=Known([structure]))
    sent = observation(component=[{"code": {"text": "x"}, "valueString": "y"}],
                       extension=[{"url": f"{ROOT}/p", "valueCode": "x"}])  # fmt: skip
    made.issues(sent, Context(known=Known([structure])))
    judge(sent, Context(known=Known([structure])))


def test_r4s_own_url_cannot_be_taken_by_a_foreign_definition() -> None:
    own = profile("Observation", {"id": "Observation.subject", "min": 1}, url=f"{BASE}/Observation")
    known = Known([own])
    structure = profile("Observation", {"id": "Observation.method", "min": 1})
    made = compile_profile(structure, known=known)
    assert [one.expression for one in made.issues(observation())] == ["Observation.method"]
