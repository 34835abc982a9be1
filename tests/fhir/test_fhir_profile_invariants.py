"""R4's own invariants and bindings on every resource (domainresource.html#invs and others)."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
from profile_cases import observation

from fhir_gateway.fhir.fhirpath import Env, compile_test
from fhir_gateway.fhir.invariant import BY_WALKER
from fhir_gateway.fhir.invariants import Stated, r4_invariants
from fhir_gateway.fhir.invariants_native import NATIVE
from fhir_gateway.fhir.profile_base import judge
from fhir_gateway.fhir.profile_context import Context, Finding, Run
from fhir_gateway.fhir.profile_known import Known
from fhir_gateway.fhir.walk import issues

STATED: dict[str, tuple[str, Stated]] = {
    one.key: (path, one) for path, found in r4_invariants().invariants.items() for one in found
}


def rules(resource: dict[str, Any], **context: Any) -> list[tuple[str, str]]:
    """(rule, expression) of all that is broken, but for the advice to write a narrative."""
    assert issues(resource) == []
    found = judge(resource, Context(**context))
    return [(str(one.rule), str(one.expression)) for one in found if one.rule != "dom-6"]


def test_every_invariant_of_r4_is_compiled_here() -> None:
    assert len(STATED) > 220
    for _, stated in STATED.values():
        compile_test(stated.expression)


def concept(system: str, code: str) -> dict[str, Any]:
    return {"coding": [{"system": system, "code": code}]}


PATIENT: dict[str, Any] = {"resourceType": "Patient"}
ORG: dict[str, Any] = {"resourceType": "Organization", "id": "o", "name": "x"}
LOINC = concept("http://loinc.org", "2951-2")
VERIFIED = "http://terminology.hl7.org/CodeSystem/condition-ver-status"


def bundle(type: str, *entries: dict[str, Any], **members: Any) -> dict[str, Any]:
    return {"resourceType": "Bundle", "type": type, "entry": list(entries), **members}


def holding(**members: Any) -> dict[str, Any]:
    """A patient with a contained organization."""
    return {**PATIENT, "contained": [ORG], "managingOrganization": {"reference": "#o"}, **members}


def timing(**repeat: Any) -> dict[str, Any]:
    return {"resourceType": "ServiceRequest", "status": "draft", "intent": "plan",
            "subject": {"reference": "Patient/1"},
            "occurrenceTiming": {"repeat": repeat}}  # fmt: skip


def questions(*ids: str) -> dict[str, Any]:
    item = [{"linkId": id, "type": "string"} for id in ids]
    return {"resourceType": "Questionnaire", "status": "draft", "item": item}


#: rule, where it is broken, resource; None: nowhere.
CASES: list[tuple[str, str | None, dict[str, Any]]] = [
    ("dom-3", "Patient", {**PATIENT, "contained": [ORG]}),
    ("dom-3", None, holding()),
    ("dom-3", None, {**PATIENT, "contained": [
        {"resourceType": "Observation", "id": "b", "status": "final", "code": {"text": "x"},
         "subject": {"reference": "#"}}]}),
    ("dom-4", "Patient", holding(contained=[{**ORG, "meta": {"versionId": "1"}}])),
    ("dom-5", "Patient", holding(contained=[
        {**ORG, "meta": {"security": [{"system": "urn:x", "code": "y"}]}}])),
    ("obs-6", "Observation", observation(
        valueString="x", dataAbsentReason=concept("urn:x", "unknown"))),
    ("obs-6", None, observation(dataAbsentReason=concept("urn:x", "unknown"))),
    ("obs-7", "Observation", observation(
        valueString="x", component=[{"code": LOINC, "valueString": "y"}])),
    ("obs-7", None, observation(valueString="x", component=[{"code": {"text": "y"}}])),
    ("obs-3", "Observation.referenceRange[0]", observation(
        referenceRange=[{"type": {"text": "x"}}])),
    ("pat-1", "Patient.contact[0]", {**PATIENT, "contact": [{"gender": "male"}]}),
    ("org-1", "Organization", {"resourceType": "Organization", "active": True}),
    ("org-2", "Organization.address[0]", {**ORG, "address": [{"use": "home", "text": "x"}]}),
    ("cpt-2", "Patient.telecom[0]", {**PATIENT, "telecom": [{"value": "1"}]}),
    ("att-1", "Patient.photo[0]", {**PATIENT, "photo": [{"data": "AAAA"}]}),
    ("qty-3", "Observation.value", observation(valueQuantity={"value": 1, "code": "g"})),
    ("rng-2", "Observation.value", observation(
        valueRange={"low": {"value": 2}, "high": {"value": 1}})),
    ("rng-2", None, observation(
        valueRange={"low": {"value": 2, "unit": "g"}, "high": {"value": 1, "unit": "kg"}})),
    ("rat-1", "Observation.value", observation(valueRatio={"numerator": {"value": 1}})),
    ("que-2", "Questionnaire", questions("1", "1")),
    ("que-2", None, questions("1", "2")),
    ("tim-1", "ServiceRequest.occurrence.repeat", timing(duration=1)),
    ("tim-4", "ServiceRequest.occurrence.repeat", timing(duration=-1, durationUnit="d")),
    ("tim-9", "ServiceRequest.occurrence.repeat", timing(offset=5, when=["CM"])),
    ("tim-9", None, timing(offset=5, when=["ACM"])),
    ("bdl-1", "Bundle", {"resourceType": "Bundle", "type": "collection", "total": 1}),
    ("bdl-2", "Bundle", bundle("collection", {"resource": PATIENT, "search": {"mode": "match"}})),
    ("bdl-3", "Bundle", bundle("transaction", {"resource": PATIENT})),
    ("bdl-5", "Bundle.entry[0]", bundle("collection", {"fullUrl": "urn:x:1"})),
    ("bdl-7", "Bundle", bundle("collection", *[{"fullUrl": "urn:x:1", "resource": PATIENT}] * 2)),
    ("bdl-8", "Bundle.entry[0]", bundle(
        "collection", {"fullUrl": "http://x.org/Patient/1/_history/2", "resource": PATIENT})),
    ("bdl-9", "Bundle", bundle("document", {"resource": PATIENT})),
    ("bdl-11", "Bundle", bundle("document", {"resource": PATIENT})),
    ("bdl-12", "Bundle", bundle("message", {"resource": PATIENT})),
    ("obs-6", "Bundle.entry[0].resource", bundle("collection", {"resource": observation(
        valueString="x", dataAbsentReason=concept("urn:x", "unknown"))})),
    ("con-3", "Condition", {
        "resourceType": "Condition", "subject": {"reference": "Patient/1"},
        "category": [{"text": "x"}]}),
    ("con-5", "Condition", {
        "resourceType": "Condition", "subject": {"reference": "Patient/1"},
        "verificationStatus": concept(VERIFIED, "entered-in-error"),
        "clinicalStatus": concept(
            "http://terminology.hl7.org/CodeSystem/condition-clinical", "active")}),
    ("inv-1", "Task", {
        "resourceType": "Task", "status": "draft", "intent": "plan",
        "authoredOn": "2026-02-01", "lastModified": "2026-01-01"}),
    ("app-3", "Appointment", {
        "resourceType": "Appointment", "status": "booked", "participant": [
            {"actor": {"reference": "Patient/1"}, "status": "accepted"}]}),
    ("csd-1", "CodeSystem", {
        "resourceType": "CodeSystem", "status": "draft", "content": "complete",
        "concept": [{"code": "a", "concept": [{"code": "a"}]}]}),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "place", "resource"), CASES, ids=lambda v: str(v)[:30])
def test_an_invariant_is_broken_here_and_not_there(rule, place, resource) -> None:
    found = [expression for broken, expression in rules(resource) if broken == rule]
    assert found == ([] if place is None else [place])


def test_good_practice_is_information() -> None:
    (issue,) = judge(observation(), Context())
    assert (issue.rule, issue.severity) == ("dom-6", "information")
    assert judge(observation(), Context(), hints=False) == []


def variants() -> list[tuple[str, dict[str, Any]]]:
    """(type, value) pairs on which a native invariant could differ from its expression."""
    absent = [{}, {"dataAbsentReason": {"text": "x"}}]
    given = [{}, {"valueString": "x"}, {"_valueString": {"id": "a"}}, {"valueBoolean": False}]
    found = [("Observation", observation(**one, **two)) for one, two in product(absent, given)]
    for parts in product(({}, {"code": "g"}), ({}, {"system": "urn:x"}), ({}, {"value": 1})):
        merged: dict[str, Any] = {}
        for part in parts:
            merged |= part
        found.append(("Quantity", merged))
    for name in ("low", "high", "text", "age", "type"):
        found.append(("Observation.referenceRange", {name: {"text": "x"}}))
    found.append(("Observation.referenceRange", {}))
    for meta in ({}, {"versionId": "1"}, {"security": [{"code": "x"}]}, {"tag": [{"code": "x"}]}):
        found.append(("Patient", holding(contained=[{**ORG, "meta": meta}])))
    for code in (LOINC, {"text": "x"}, concept("http://loinc.org", "1-8")):
        for value in ({}, {"valueString": "x"}):
            part = {"code": code, "valueString": "y"}
            found.append(("Observation", observation(component=[part], **value)))
    found += [("Patient", PATIENT), ("Patient", holding()), ("Patient", {
        **PATIENT, "contained": [ORG]}), ("Patient", {**PATIENT, "text": {"status": "empty"}}),
        ("Patient", {**PATIENT, "text": {"status": "empty", "div": "<div>x</div>"}})]  # fmt: skip
    return found


@pytest.mark.parametrize("key", sorted(NATIVE))
def test_what_is_written_out_holds_where_its_expression_holds(key) -> None:
    path, stated = STATED[key]
    test = compile_test(stated.expression)
    tried = 0
    for type, value in variants():
        fits = type == path or (path == "DomainResource" and type in ("Patient", "Observation"))
        if not fits or (key == "dom-6" and "text" in value and "div" not in value["text"]):
            continue
        item = (type, value, None)
        holds = test(Env(Run(value, Context()), item, Known()), (item,))
        assert NATIVE[key](value) == (holds is not False), value
        tried += 1
    assert tried >= 5


def test_what_the_walker_judges_is_judged_by_it() -> None:
    for key in BY_WALKER - {"ele-1", "ext-1"}:
        assert key in STATED


def test_bindings_of_r4_ask_the_terminology() -> None:
    asked: list[tuple[str, str, str]] = []

    def member(*given: str) -> bool:
        asked.append(given)  # type: ignore[arg-type]
        return False

    sent = observation(interpretation=[concept("urn:x", "odd")],
                       valueAttachment={"contentType": "odd/odd"})  # fmt: skip
    del sent["valueAttachment"]
    found = rules(sent, member=member, systems=lambda url: {"urn:x"})
    assert found == [("extensible-binding", "Observation.interpretation[0]")]
    assert asked == [("http://hl7.org/fhir/ValueSet/observation-interpretation", "urn:x", "odd")]
    photo = {**PATIENT, "photo": [{"contentType": "odd/odd", "url": "http://x.org/y"}]}
    assert rules(photo, member=member) == [("required-binding", "Patient.photo[0].contentType")]


def test_the_context_looks_at_every_code_unit_identifier_and_resource() -> None:
    seen: list[str] = []

    def look(kind: str) -> Any:
        def looked(value: Any) -> list[Finding]:
            seen.append(kind)
            return [Finding(kind, "value", "warning", "is odd", ".code")]

        return looked

    sent = observation(
        identifier=[{"system": "urn:x", "value": "1"}], valueQuantity={"value": 1},
        contained=[{"resourceType": "Patient", "id": "p"}], subject={"reference": "#p"},
    )  # fmt: skip
    found = rules(
        sent, coding=look("coding"), quantity=look("quantity"), identifier=look("identifier"),
        whole=look("whole"),
    )  # fmt: skip
    assert sorted(seen) == ["coding", "identifier", "quantity", "whole", "whole"]
    assert ("coding", "Observation.code.coding[0].code") in found
    assert ("whole", "Observation.contained[0].code") in found
