"""Terminology asked by somebody who wants it to hang, to fall, or to say what nobody knows."""

from __future__ import annotations

from typing import Any

import pytest
from issue_cases import rule_of

ROOT = "http://tests.example.org/hostile"
ACTS = "http://terminology.hl7.org/CodeSystem/v3-ActCode"
GENDER = "http://hl7.org/fhir/administrative-gender"
LOINC = "http://loinc.org"

Json = dict[str, Any]


def parameters(*members: tuple[str, str, Any]) -> Json:
    rows = [{"name": name, element: value} for name, element, value in members]
    return {"resourceType": "Parameters", "parameter": rows}


def value_set(*includes: Json, **more: Any) -> Json:
    return {"resourceType": "ValueSet", "status": "active"} | more | {
        "compose": {"include": list(includes)}
    }  # fmt: skip


def chain(length: int, *, loop: bool = False) -> Json:
    """A code system whose hierarchy is one line, or a circle."""
    concepts: list[Json] = [{"code": f"c{n}"} for n in range(length)]
    for n in range(0 if loop else 1, length):
        concepts[n]["property"] = [{"code": "parent", "valueCode": f"c{(n - 1) % length}"}]
    return {
        "resourceType": "CodeSystem", "url": f"{ROOT}/chain", "status": "active",
        "content": "complete", "property": [{"code": "parent", "type": "code"}],
        "concept": concepts,
    }  # fmt: skip


def expand(client: Any, resource: Json, *more: tuple[str, str, Any]) -> Any:
    body = parameters(("valueSet", "resource", resource), *more)
    return client.post("/fhir/ValueSet/$expand", body)


@pytest.mark.parametrize("loop", [False, True])
def test_a_hierarchy_of_any_depth_is_told(client, loop):
    """It was nested as deep as it is: a 500 for an answer that nothing could write."""
    whole = value_set({"system": f"{ROOT}/chain"})
    answer = expand(client, whole, ("tx-resource", "resource", chain(6_000, loop=loop)))
    assert answer.status_code == 200
    assert len(answer.json()["expansion"]["contains"]) == 6_000
    short = expand(client, whole, ("tx-resource", "resource", chain(20)))
    (top,) = short.json()["expansion"]["contains"]
    assert (top["code"], top["contains"][0]["code"]) == ("c0", "c1")


@pytest.mark.parametrize("op", ["is-a", "is-not-a", "descendent-of", "generalizes"])
def test_a_filter_by_a_code_that_the_system_has_not_is_refused(client, op):
    """It was an empty list, and with is-not-a everything."""
    wrong = {"property": "concept", "op": op, "value": "NOPE"}
    answer = expand(client, value_set({"system": ACTS, "filter": [wrong]}))
    assert rule_of(answer) == (422, "vs-invalid")
    assert "NOPE" in answer.json()["issue"][0]["diagnostics"]


def test_a_filter_by_a_code_outside_the_part_that_is_here_cannot_be_told(client):
    """R4's care-team-category asks for LOINC's LA27975-4 and below: it was an empty list."""
    url = "http://hl7.org/fhir/ValueSet/care-team-category"
    answer = client.get("/fhir/ValueSet/$expand", params={"url": url})
    assert rule_of(answer) == (404, "cs-unknown")
    asked = {"url": url, "system": LOINC, "code": "LA27975-4"}
    verdict = client.get("/fhir/ValueSet/$validate-code", params=asked).json()
    said = {one["name"]: one for one in verdict["parameter"]}
    assert said["result"]["valueBoolean"] is False
    assert said["issues"]["resource"]["issue"][0]["code"] == "not-found"


@pytest.mark.parametrize(
    "resource",
    [
        {"resourceType": "ValueSet", "status": "active"},
        {"resourceType": "ValueSet", "status": "active", "expansion": {
            "timestamp": "2026-01-01T00:00:00Z", "total": 5,
            "contains": [{"system": GENDER, "code": "male"}]}},
        {"resourceType": "ValueSet", "status": "active", "expansion": {
            "timestamp": "2026-01-01T00:00:00Z", "offset": 3,
            "contains": [{"system": GENDER, "code": "male"}]}},
    ],
)  # fmt: skip
def test_a_value_set_that_does_not_say_what_it_holds_is_not_empty(client, resource):
    assert rule_of(expand(client, resource)) == (404, "vs-unknown")
    asked = parameters(
        ("valueSet", "resource", resource),
        ("coding", "valueCoding", {"system": GENDER, "code": "female"}),
    )
    verdict = client.post("/fhir/ValueSet/$validate-code", asked).json()["parameter"]
    assert verdict[0] == {"name": "result", "valueBoolean": False}
    assert [one["code"] for one in verdict[-1]["resource"]["issue"]] == ["not-found"]


def test_an_include_of_nothing_is_refused(client):
    assert rule_of(expand(client, value_set({"version": "1"}))) == (422, "vs-invalid")


def test_searches_do_not_rest_on_a_part_of_a_value_set(client):
    """:in left out results, and :not-in found them, whose codes are in the part not here."""
    url = f"{ROOT}/all-of-loinc"
    stored = value_set({"system": LOINC}, url=url, id="all-of-loinc")
    assert client.put("/fhir/ValueSet/all-of-loinc", stored).status_code in (200, 201)
    nothing = {"resourceType": "ValueSet", "id": "says-nothing", "status": "active",
               "url": f"{ROOT}/says-nothing"}  # fmt: skip
    assert client.put("/fhir/ValueSet/says-nothing", nothing).status_code in (200, 201)
    for modifier in ("in", "not-in"):
        for named in (url, "ValueSet/all-of-loinc", f"{ROOT}/says-nothing"):
            answer = client.get("/fhir/Observation", params={f"code:{modifier}": named})
            assert rule_of(answer) == (400, "search-value-set"), named
    shown = client.get("/fhir/ValueSet/$expand", params={"url": url, "count": 1}).json()
    assert shown["expansion"]["extension"][0]["valueBoolean"] is True  # unclosed


def test_what_a_call_brings_along_goes_before_what_is_here(client):
    """Without a version it lost against the built-in one, and the caller was told the wrong."""
    for version in ({}, {"version": "3"}, {"version": "4.0.1"}):
        mine = {"resourceType": "CodeSystem", "url": GENDER, "status": "active",
                "content": "complete", "concept": [{"code": "mine"}], **version}  # fmt: skip
        for code, right in (("mine", True), ("male", False)):
            body = parameters(
                ("url", "valueUri", GENDER), ("code", "valueCode", code),
                ("tx-resource", "resource", mine),
            )  # fmt: skip
            answer = client.post("/fhir/CodeSystem/$validate-code", body).json()
            assert answer["parameter"][0]["valueBoolean"] is right
    body = parameters(("url", "valueUri", GENDER), ("code", "valueCode", "mine"))
    answer = client.post("/fhir/CodeSystem/$validate-code", body).json()
    assert answer["parameter"][0]["valueBoolean"] is False


def test_filters_count_before_they_are_made(client):
    many = [{"property": "display", "op": "regex", "value": f"(x+x+)+y{n}"} for n in range(2_001)]
    answer = expand(client, value_set({"system": ACTS, "filter": many}))
    assert rule_of(answer) == (400, "vs-size")
    below = [
        {"system": f"{ROOT}/chain",
         "filter": [{"property": "concept", "op": "is-a", "value": f"c{n}"}]}
        for n in range(990)
    ]  # fmt: skip
    brought = ("tx-resource", "resource", chain(20_000))
    assert rule_of(expand(client, value_set(*below), brought)) == (400, "vs-size")


def test_a_pattern_is_not_held_against_a_very_long_text(client):
    long = {"resourceType": "CodeSystem", "url": f"{ROOT}/long", "status": "active",
            "content": "complete", "concept": [{"code": "a", "display": "x" * 5_000}]}  # fmt: skip
    filters = [{"property": "display", "op": "regex", "value": "(x+x+)+y"}]
    asked = value_set({"system": f"{ROOT}/long", "filter": filters})
    answer = expand(client, asked, ("tx-resource", "resource", long))
    assert rule_of(answer) == (400, "vs-size")


def test_too_many_of_one_parameter_are_said_once(client):
    rows = [("tx-resource", "resource", {"resourceType": "Basic", "code": {"text": "x"}})] * 1_200
    answer = client.post("/fhir/ValueSet/$expand", parameters(*rows))
    assert rule_of(answer) == (400, "parameter-repeated")
    assert len(answer.json()["issue"]) == 1


def test_a_version_that_is_not_here_is_told_with_those_that_are(client):
    answer = client.get(
        "/fhir/CodeSystem/$lookup", params={"system": LOINC, "version": "9", "code": "1963-8"}
    )
    assert "known: one without a version" in answer.json()["issue"][0]["diagnostics"]
