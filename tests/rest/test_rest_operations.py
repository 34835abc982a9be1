"""Operations as a table: places, methods and parameters (hl7.org/fhir/R4/operations.html)."""

from __future__ import annotations

import pytest

from fhir_gateway.errors import Invalid
from fhir_gateway.interactions.given import local_id, take, take_query
from fhir_gateway.interactions.operation_definitions import (
    MANY,
    Call,
    Definition,
    Parameter,
    canonicals,
    operation_definition,
    resource_types,
    stands_on,
)
from fhir_gateway.interactions.types import interactions_of
from fhir_gateway.rest.operations import OPERATIONS

TRY = Definition(
    code="try-out",
    title="Try",
    says="Tries.",
    types=("Patient",),
    levels=("type", "instance"),
    takes=(
        Parameter("day", "date", "A day", 1),
        Parameter("count", "positiveInt", "A number"),
        Parameter("really", "boolean", "Whether"),
        Parameter("type", "code", "Types", 0, MANY),
        Parameter("who", "Reference Identifier", "A person"),
        Parameter("code", "Coding code", "A code"),
    ),
)


def given(*pairs):
    return take_query(pairs, TRY).parameters


def values(parameters):
    return {name: [one.value for one in taken] for name, taken in parameters.items() if taken}


def body(*members):
    return {"resourceType": "Parameters", "parameter": list(members)}


def test_a_query_gives_typed_values():
    found = given(
        ("day", "2026-11"), ("count", "3"), ("really", "false"), ("type", "a"), ("type", "b"),
        ("code", "x"),
    )  # fmt: skip
    assert values(found) == {
        "day": ["2026-11"], "count": [3], "really": [False], "type": ["a", "b"], "code": ["x"],
    }  # fmt: skip
    assert found["count"][0].element == "valuePositiveInt"


def test_parameters_give_the_same():
    found = take(
        body(
            {"name": "day", "valueDate": "2026-11"},
            {"name": "who", "valueIdentifier": {"value": "1"}},
            {"name": "type", "valueCode": "a"},
        ),
        TRY,
    ).parameters
    assert values(found) == {"day": ["2026-11"], "who": [{"value": "1"}], "type": ["a"]}
    assert found["who"][0].expression == "Parameters.parameter[1].valueIdentifier"
    call = Call("$try-out", parameters=found)
    assert (call.value("day"), call.values("type"), call.value("count")) == ("2026-11", ["a"], None)


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        ([], [("day", "required")]),
        ([("day", "")], [("day", "parameter-type"), ("day", "required")]),
        ([("day", "2026-13")], [("day", "parameter-type"), ("day", "required")]),
        ([("day", "2026"), ("day", "2027")], [("day", "parameter-repeated")]),
        ([("day", "2026"), ("count", "0")], [("count", "parameter-type")]),
        ([("day", "2026"), ("count", "٣")], [("count", "parameter-type")]),
        ([("day", "2026"), ("count", "9" * 20)], [("count", "parameter-type")]),
        ([("day", "2026"), ("really", "yes")], [("really", "parameter-type")]),
        ([("day", "2026"), ("who", "Patient/x")], [("who", "parameter-type")]),
        ([("day", "2026"), ("Day", "2026")], [("Day", "unknown-parameter")]),
        ([("day", "2026"), ("x\u202e" * 99, "1")], [(None, "unknown-parameter")]),
        ([("nonsense", "1"), ("count", "x")],
         [("nonsense", "unknown-parameter"), ("count", "parameter-type"), ("day", "required")]),
    ],
)  # fmt: skip
def test_every_fault_of_a_query_is_told_at_once(pairs, expected):
    with pytest.raises(Invalid) as caught:
        take_query(pairs, TRY)
    assert [(one.expression, one.rule) for one in caught.value.issues] == expected


@pytest.mark.parametrize(
    ("member", "expression", "rule"),
    [
        ({"name": "day", "valueDateTime": "2026"}, "Parameters.parameter[1]", "parameter-type"),
        ({"name": "day", "valueDate": "2026"}, "Parameters.parameter[1]", "parameter-repeated"),
        ({"name": "who", "resource": {}}, "Parameters.parameter[1]", "parameter-type"),
        ({"name": "no", "valueCode": "x"}, "Parameters.parameter[1].name", "unknown-parameter"),
        ({"valueCode": "x"}, "Parameters.parameter[1].name", "unknown-parameter"),
    ],
)
def test_faults_of_parameters_name_their_place(member, expression, rule):
    with pytest.raises(Invalid) as caught:
        take(body({"name": "day", "valueDate": "2026"}, member), TRY)
    assert [(one.expression, one.rule) for one in caught.value.issues] == [(expression, rule)]


def test_what_may_repeat_has_an_end():
    with pytest.raises(Invalid):
        take_query([("day", "2026"), *[("type", "a")] * 1_001], TRY)


def test_a_reference_of_a_call_is_to_this_server_and_of_the_type():
    def taken(reference):
        member = {"name": "who", "valueReference": {"reference": reference}}
        found = take(body({"name": "day", "valueDate": "2026"}, member), TRY)
        return found.parameters["who"][0]

    assert local_id(taken("Patient/x"), "Patient") == "x"
    for wrong in ("Group/x", "Patient/", "Patient/x/_history/1", "http://x.example/Patient/x"):
        with pytest.raises(Invalid):
            local_id(taken(wrong), "Patient")


def test_what_changes_something_is_no_get_nor_is_what_needs_a_structure():
    assert TRY.methods == ("GET", "POST")
    assert TRY._replace(affects=True).methods == ("POST",)
    needy = TRY._replace(takes=(Parameter("who", "Reference", "A person", 1),))
    assert needy.methods == ("POST",)


def test_places():
    assert [stands_on(TRY, *place) for place in (("",), ("Patient",), ("Patient", "x"))] == [
        False, True, True,
    ]  # fmt: skip
    assert not stands_on(TRY, "Group")
    every = TRY._replace(types=("Resource",), levels=("instance",))
    assert "AuditEvent" in set(resource_types(every))
    assert "AuditEvent" not in set(resource_types(every._replace(affects=True)))
    assert {type for type in resource_types(every) if not interactions_of(type)} == set()
    guided = TRY._replace(guide=(("", "system", "http://g/a"), ("Group", "instance", "http://g/b")))
    assert canonicals(guided) == {"http://g/a": ("",), "http://g/b": ("Group",)}
    assert [stands_on(guided, *place) for place in (("",), ("Group",), ("Group", "x"))] == [
        True, False, True,
    ]  # fmt: skip


def test_the_definition_says_what_the_table_says():
    shown = operation_definition(TRY)
    assert (shown["name"], shown["code"], shown["type"], shown["system"]) == (
        "TryOut", "try-out", True, False,
    )  # fmt: skip
    day, *_, who, _ = shown["parameter"]
    assert (day["type"], day["min"], day["max"]) == ("date", 1, "1")
    assert who["type"] == "Element"
    assert [one["valueUri"] for one in who["extension"]] == ["Reference", "Identifier"]


def test_the_names_of_operations_are_their_codes():
    assert [name for name, row in OPERATIONS.items() if name != f"${row.definition.code}"] == []


def test_an_operation_that_changes_something_is_a_405_by_get(client):
    for path in ("ServiceRequest/$recognize", "GuidanceResponse/x/$answer"):
        answer = client.get(f"/fhir/{path}")
        assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    answer = client.request("PUT", "/fhir/ServiceRequest/$recognize", json={})
    assert answer.status_code == 405
    assert answer.headers["allow"].startswith("GET, POST")


def test_parameters_stand_in_the_body_or_in_the_query(client):
    answer = client.post("/fhir/Patient/x/$everything?start=2026", body())
    assert (answer.status_code, answer.json()["issue"][0]["details"]["text"]) == (400, "parameter")


def test_a_refused_call_is_audited_with_what_it_was_about(client):
    client.get("/fhir/Patient/nobody-here/$everything?nonsense=1")
    found = client.get("/fhir/AuditEvent?outcome=4&_count=500").json()["entry"]
    named = [
        part["what"]["reference"]
        for one in found
        for part in one["resource"]["entity"]
        if "reference" in part.get("what", {})
    ]
    assert "Patient/nobody-here" in named
