"""_elements: only what was named, and what may not be missing (search.html#elements)."""

from __future__ import annotations

import pytest
from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from rest_samples import observation, patient

from fhir_gateway.fhir.definitions import definitions
from fhir_gateway.fhir.wire import parse, render, tail
from fhir_gateway.interactions.shape import shape
from fhir_gateway.store.store import Stored


@pytest.fixture(scope="module")
def result(client):
    person = client.post("/fhir/Patient", patient(gender="female", birthDate="1980-01-01")).json()
    resource = observation(
        f"Patient/{person['id']}", valueQuantity={"value": 5, "unit": "mmol/L"},
        note=[{"text": "a note"}], interpretation=[{"text": "high"}],
        implicitRules="http://x.example/rules",
    )  # fmt: skip
    return client.post("/fhir/Observation", resource).json()


@pytest.mark.parametrize(
    ("elements", "kept"),
    [
        ("note", {"note"}),
        ("note,interpretation", {"note", "interpretation"}),
        ("value", {"valueQuantity"}),
        ("valueQuantity", {"valueQuantity"}),
        ("component", set()),
        ("id,meta", set()),
    ],
)
def test_elements_are_kept_by_name_with_what_may_not_be_missing(client, result, elements, kept):
    body = client.get(f"/fhir/Observation/{result['id']}?_elements={elements}").json()
    always = {"resourceType", "id", "meta", "status", "code", "implicitRules"}
    assert set(body) == always | kept
    assert body["meta"]["tag"][-1]["code"] == "SUBSETTED"


@pytest.mark.parametrize("text", ["note.text", "nonsense", "note,", "", "Observation.note", "*"])
@pytest.mark.parametrize("path", ["Observation/{id}?", "Observation?_id={id}&"])
def test_what_is_no_element_is_refused_by_name(client, result, path, text):
    answer = client.get(f"/fhir/{path.format(id=result['id'])}_elements={text}")
    assert answer.status_code == 400
    assert "_elements" in answer.json()["issue"][0]["diagnostics"]


def test_a_search_shows_the_elements_that_were_named(client, result):
    answer = client.get(
        f"/fhir/Observation?_id={result['id']}&_elements=subject,note&_include=Observation:subject"
    )
    one, other = (entry["resource"] for entry in answer.json()["entry"])
    assert set(one) == {
        "resourceType", "id", "meta", "status", "code", "implicitRules", "subject", "note",
    }  # fmt: skip
    assert other["meta"]["tag"][-1]["code"] == "SUBSETTED"
    assert "birthDate" not in other


def test_an_answer_without_a_shape_is_the_stored_bytes(client, result):
    path = f"/fhir/Observation/{result['id']}"
    search = client.get(f"/fhir/Observation?_id={result['id']}").text
    assert client.get(path).text in search


names = st.sampled_from(sorted(definitions().types["Observation"].elements))
numbers = st.decimals(allow_nan=False, allow_infinity=False, places=3).map(lambda n: n % 10**9)


@given(st.sets(names, max_size=4), numbers, st.booleans())
@settings(max_examples=examples(60))
def test_a_cut_only_ever_takes_members_away(chosen, number, summarised):
    """What is left is as it was, to the byte; cutting again takes nothing more."""
    resource = observation(
        "Patient/1", valueQuantity={"value": number}, note=[{"text": "x"}],
        component=[{"code": {"text": "y"}, "valueQuantity": {"value": number}}],
    )  # fmt: skip
    stored = Stored("Observation", "x", 2, 0, False, 1, 1, 0, tail(resource))
    asked = {"summary": "true"} if summarised else {"elements": tuple(chosen)}
    cut = parse(shape(stored, **asked))
    whole = parse(stored.whole())
    for name, value in cut.items():
        if name == "component" and summarised:
            assert [set(one) for one in value] == [{"code", "valueQuantity"}]
        elif name != "meta":
            assert render(value) == render(whole[name])
    again = stored._replace(tail=tail(cut))
    assert {**parse(shape(again, **asked)), "meta": None} == {**cut, "meta": None}
