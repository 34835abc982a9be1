"""Chains of any depth: what they find, from which side, and that they tell nothing else."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from search_loader import Loader
from search_worlds import City, cities, queries

from fhir_gateway.errors import TooCostly
from fhir_gateway.security.actor import Access


@settings(max_examples=examples(60), deadline=None)
@given(cities, queries, st.sampled_from([2, 8, 10_000]))
def test_chains_agree_with_the_matcher(
    city: City, query: tuple[str, list[tuple[str, str]]], budget: int
) -> None:
    """Whatever the budget: the right answer, or a refusal."""
    loader, seen = city.stored()
    type, pairs = query
    url = f"{type}?" + "&".join(f"{name}={value}" for name, value in pairs)
    try:
        found = loader.ids(url, city.access, budget=budget)
    except TooCostly:
        assert budget < 10_000
        return
    assert found == seen.matching(type, list(pairs))


MINE = Access(owners=frozenset({1}))


def result(id: str, patient: str, **members: Any) -> dict[str, Any]:
    return {
        "resourceType": "Observation",
        "id": id,
        "status": "final",
        "code": {"coding": [{"code": "c"}]},
        "subject": {"reference": f"Patient/{patient}"},
        **members,
    }


@cache
def town() -> Loader:
    """Patients with a result each, a practitioner for each, and roles in two wards."""
    loader = Loader()
    for id, above in (("top", None), ("w0", "top"), ("w1", "top")):
        part = {"partOf": {"reference": f"Organization/{above}"}} if above else {}
        loader.put({"resourceType": "Organization", "id": id, "name": id, **part})
    for number in range(40):
        doctor = {"reference": f"Practitioner/d{number}"}
        loader.put({"resourceType": "Practitioner", "id": f"d{number}", "active": True,
                    "name": [{"family": f"李{number}"}]})  # fmt: skip
        loader.put({"resourceType": "PractitionerRole", "id": f"l{number}", "practitioner": doctor,
                    "organization": {"reference": f"Organization/w{number % 2}"}})  # fmt: skip
        loader.put({
            "resourceType": "Patient", "id": f"p{number}", "gender": "female",
            "name": [{"family": f"王{number}"}],
            "identifier": [{"system": "http://s", "value": f"{number}"}],
            "generalPractitioner": [doctor],
        })  # fmt: skip
        loader.put(result(f"o{number}", f"p{number}", performer=[doctor]))
    return loader


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("Observation?patient.identifier=http://s|7", ["o7"]),
        ("Observation?subject:Patient.family=王7&code=c", ["o7"]),
        ("Observation?patient.identifier=7,8&status=final", ["o7", "o8"]),
        ("Observation?patient.identifier=7&performer:Practitioner.family=李7", ["o7"]),
        ("Observation?patient.identifier=7&performer:Practitioner.family=李8", []),
        ("Observation?patient.identifier=nobody", []),
        ("Observation?patient=p7&performer.family=李7", ["o7"]),
        ("Observation?patient=p7&patient.gender=female", ["o7"]),
        ("Observation?patient=p7&patient.gender=male", []),
        ("Observation?patient=p7&patient.general-practitioner:Practitioner.family=李7", ["o7"]),
        ("Patient?identifier=7&general-practitioner:Practitioner.family=李7", ["p7"]),
        ("PractitionerRole?practitioner.identifier=x", []),
        ("Patient?_id=p7&general-practitioner:Practitioner.family=李7", ["p7"]),
    ],
)
def test_a_chain_is_within_the_budget(url: str, expected: list[str]) -> None:
    """The chain that binds the patient comes first, the rest is a search of one home."""
    assert town().ids(url, budget=10) == expected


@pytest.mark.parametrize(
    "url",
    [
        "Observation?patient.gender=female",
        "Observation?performer:Practitioner.family=李7",
        "Patient?general-practitioner:Practitioner.family=李7",
        "PractitionerRole?practitioner.active=true",
        "PractitionerRole?organization.partof=Organization/top",
        "PractitionerRole?organization.partof.name=top",
    ],
)
def test_a_chain_over_the_budget_is_refused_before_it_runs(url: str) -> None:
    with pytest.raises(TooCostly) as caught:
        town().page(url, budget=10)
    assert caught.value.issues[0].rule == "search-budget"


def test_the_same_chains_run_where_they_fit() -> None:
    loader = town()
    assert loader.ids("Observation?performer:Practitioner.family=李7") == ["o7"]
    assert loader.ids("Patient?general-practitioner:Practitioner.family=李7,李8") == ["p7", "p8"]
    first = loader.ids("PractitionerRole?organization.partof.name=top&_count=3")
    assert first == ["l0", "l1", "l2"]
    assert loader.page("Observation?patient.gender=female&_total=accurate").total == 40


def test_many_patients_are_searched_resource_by_resource() -> None:
    """More homes than are searched as one place; sorted, paged and counted all the same."""
    loader = town()
    wanted = ",".join(f"{number}" for number in range(3, 20))
    url = f"Observation?patient.identifier={wanted}&_sort=-_id&_total=accurate"
    page = loader.page(url, budget=30)
    assert page.total == 17
    assert [match.id for match in page.matches] == sorted(
        (f"o{number}" for number in range(3, 20)), reverse=True
    )


def test_a_chain_reaches_into_another_persons_home() -> None:
    """A child's result on its mother's specimen."""
    loader = Loader()
    for id in ("mother", "child"):
        loader.put({"resourceType": "Patient", "id": id})
    loader.put({"resourceType": "Specimen", "id": "s", "status": "available",
                "subject": {"reference": "Patient/mother"}})  # fmt: skip
    loader.put(result("o", "child", specimen={"reference": "Specimen/s"}))
    url = "Observation?patient=child&specimen.status"
    assert loader.ids(f"{url}=available") == ["o"]
    assert loader.ids(f"{url}=unavailable") == []
    assert loader.ids("Observation?patient=child&specimen.patient.gender:missing=true") == ["o"]
    assert loader.ids("Observation?patient=mother&specimen.status=available") == []


# -- nothing is told of what the caller does not see ---------------------------------------------


def guarded() -> Loader:
    """A patient of institution 1, treated by a practitioner who stands in institution 2's list,
    and a result of institution 1 on a specimen of institution 2."""
    loader = Loader()
    loader.put({"resourceType": "Practitioner", "id": "d", "name": [{"family": "secret"}]}, owner=2)
    loader.put({"resourceType": "Patient", "id": "p", "gender": "female",
                "identifier": [{"value": "1"}],
                "generalPractitioner": [{"reference": "Practitioner/d"}]}, owner=1)  # fmt: skip
    loader.put({"resourceType": "Patient", "id": "q", "identifier": [{"value": "2"}]}, owner=2)
    loader.put({"resourceType": "Specimen", "id": "s", "status": "available",
                "subject": {"reference": "Patient/p"}}, owner=2)  # fmt: skip
    loader.put(result("o", "p", specimen={"reference": "Specimen/s"}), owner=1)
    loader.put(result("r", "q"), owner=1)
    loader.put(result("hidden", "p", code={"coding": [{"code": "hiv"}]}), owner=1, sensitivity=1)
    return loader


@pytest.mark.parametrize(
    "url",
    [
        "Patient?identifier=1&general-practitioner:Practitioner.family=secret",
        "Patient?_id=p&general-practitioner:Practitioner.family=secret",
        "Patient?gender=female&general-practitioner:Practitioner.family=secret",
        "Observation?patient=p&specimen.status=available",
        "Observation?patient=p&patient.general-practitioner:Practitioner.family=secret",
        "Observation?patient.identifier=2",
        "Observation?specimen.status=available",
        "Patient?_has:Observation:patient:code=hiv",
        "Patient?_id=p&_has:Observation:patient:code=hiv",
        "Patient?_has:Specimen:subject:status=available",
        "Patient?identifier=1&_has:Specimen:subject:status=available",
        "Observation?patient=p&patient._has:Specimen:subject:status=available",
    ],
)
@pytest.mark.parametrize("budget", [3, 10_000])
def test_a_chain_does_not_lead_over_what_is_not_seen(url: str, budget: int) -> None:
    loader = guarded()
    everything = Access(max_class=1)
    assert loader.ids(url, everything)
    try:
        page = loader.page(f"{url}&_total=accurate", MINE, budget=budget)
    except TooCostly:
        assert budget == 3
        return
    assert (page.matches, page.total) == ([], 0)


def test_a_chain_does_not_lead_over_what_is_deleted() -> None:
    loader = guarded()
    everything = Access(max_class=1)
    url = "Observation?patient=p&specimen.status=available"
    assert loader.ids(url, everything) == ["o"]
    loader.delete("Specimen", "s")
    assert loader.ids(url, everything) == []
    assert loader.ids("Observation?patient.identifier=2") == ["r"]
    loader.delete("Patient", "q")
    assert loader.ids("Observation?patient.identifier=2") == []
