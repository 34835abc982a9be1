"""_has: from a resource to those that point to it, wherever these live."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
from search_loader import Loader

from fhir_gateway.errors import TooCostly


def result(id: str, patient: str, code: str = "c", **members: Any) -> dict[str, Any]:
    return {
        "resourceType": "Observation",
        "id": id,
        "status": "final",
        "code": {"coding": [{"code": code}]},
        "subject": {"reference": f"Patient/{patient}"},
        **members,
    }


@cache
def town() -> Loader:
    """Forty patients; the seventh has a rare result, signed and in a list; wards and roles."""
    loader = Loader()
    for number in range(40):
        doctor = {"reference": f"Practitioner/d{number}"}
        loader.put({"resourceType": "Practitioner", "id": f"d{number}"})
        loader.put({"resourceType": "PractitionerRole", "id": f"l{number}", "practitioner": doctor,
                    "active": number != 3,
                    "identifier": [{"value": f"role{number}"}]})  # fmt: skip
        loader.put({"resourceType": "Patient", "id": f"p{number}", "gender": "female",
                    "identifier": [{"value": f"{number}"}]})  # fmt: skip
        loader.put(result(f"o{number}", f"p{number}", performer=[doctor],
                          identifier=[{"value": f"r{number}"}]))  # fmt: skip
    loader.put(result("rare", "p7", "rare", identifier=[{"value": "rare"}]))
    loader.put({"resourceType": "Provenance", "id": "v", "recorded": "2024-01-01T00:00:00Z",
                "target": [{"reference": "Observation/rare"}]})  # fmt: skip
    loader.put({"resourceType": "Appointment", "id": "a", "status": "booked", "participant": [
        {"actor": {"reference": f"Patient/p{number}"}, "status": "accepted"} for number in (7, 8)
    ]})  # fmt: skip
    loader.put({"resourceType": "Group", "id": "g", "type": "person", "actual": True,
                "code": {"text": "cohort"}, "identifier": [{"value": "cohort"}],
                "member": [{"entity": {"reference": f"Patient/p{number}"}} for number in (1, 2)],
                })  # fmt: skip
    loader.put({"resourceType": "List", "id": "work", "status": "current", "mode": "working",
                "entry": [{"item": {"reference": f"Observation/{id}"}} for id in ("o4", "o5")],
                })  # fmt: skip
    return loader


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("Patient?_id=p7,p8&_has:Observation:patient:code=rare", ["p7"]),
        ("Patient?identifier=7,8&_has:Observation:patient:code=rare", ["p7"]),
        ("Patient?identifier=7&_has:Observation:patient:code=rare&gender=male", []),
        ("Patient?_has:Observation:patient:identifier=rare", ["p7"]),
        ("Patient?_has:Observation:patient:identifier=r1,r2&_sort=-_id", ["p2", "p1"]),
        ("Patient?_has:Appointment:patient:_id=a", ["p7", "p8"]),
        ("Patient?_has:Group:member:identifier=cohort", ["p1", "p2"]),
        ("Observation?patient=p7&_has:Provenance:target:recorded=2024", ["rare"]),
        ("Observation?_list=work", ["o4", "o5"]),
        ("Practitioner?_has:PractitionerRole:practitioner:identifier=role3,role4", ["d3", "d4"]),
        ("Practitioner?_has:PractitionerRole:practitioner:active=false", ["d3"]),
        ("Practitioner?_has:Observation:performer:identifier=r7", ["d7"]),
        ("Practitioner?_has:Observation:performer:patient.identifier=7", ["d7"]),
        ("Patient?_has:Observation:patient:_has:Provenance:target:_id=v", ["p7"]),
        ("Observation?patient.identifier=7&_has:Provenance:target:_id=v", ["rare"]),
        ("Observation?patient=p7&patient._has:Observation:patient:code=rare", ["o7", "rare"]),
        ("Observation?patient=p8&patient._has:Observation:patient:code=rare", []),
        ("Patient?_has:Observation:patient:identifier=nobody", []),
    ],
)
def test_has_is_within_the_budget(url: str, expected: list[str]) -> None:
    assert town().ids(url, budget=12) == expected


@pytest.mark.parametrize(
    "url",
    [
        "Patient?_has:Observation:patient:code=c",
        "Patient?_has:Observation:patient:code=rare",
        "Practitioner?_has:PractitionerRole:practitioner:active=true",
        "Practitioner?_has:PractitionerRole:practitioner:active:not=true",
        "Practitioner?_has:Observation:performer:code=c",
        "Practitioner?_id=d1&_has:Observation:performer:status=final",
        "Observation?patient=p1&performer:Practitioner._has:Observation:performer:code=c",
    ],
)
def test_has_over_the_budget_is_refused_before_it_runs(url: str) -> None:
    with pytest.raises(TooCostly) as caught:
        town().page(url, budget=12)
    assert caught.value.issues[0].rule == "search-budget"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("Patient?_has:Observation:patient:code=rare", ["p7"]),
        ("Practitioner?_has:PractitionerRole:practitioner:active:not=true", ["d3"]),
        ("Practitioner?_id=d1&_has:Observation:performer:status=final", ["d1"]),
    ],
)
def test_the_same_runs_where_it_fits(url: str, expected: list[str]) -> None:
    assert town().ids(url) == expected


def test_one_resource_that_too_many_point_to_is_refused() -> None:
    """The first step is one row; what would be visited from there counts too."""
    loader = Loader()
    loader.put({"resourceType": "Organization", "id": "big", "identifier": [{"value": "big"}]})
    for number in range(60):
        loader.put({"resourceType": "PractitionerRole", "id": f"l{number}", "active": number > 70,
                    "organization": {"reference": "Organization/big"}})  # fmt: skip
    url = "Organization?identifier=big&_has:PractitionerRole:organization:active=true"
    assert loader.ids(url) == []
    with pytest.raises(TooCostly):
        loader.ids(url, budget=50)


def test_two_has_may_be_met_by_two_resources() -> None:
    loader = Loader()
    for id in "pq":
        loader.put({"resourceType": "Patient", "id": id})
    loader.put(result("a", "p", "x"))
    loader.put(result("b", "p", "y"))
    loader.put(result("c", "q", "x"))
    url = "Patient?_has:Observation:patient:code"
    assert loader.ids(f"{url}=x&_has:Observation:patient:code=y") == ["p"]
    assert loader.ids(f"{url}=x,y") == ["p", "q"]
    assert loader.ids(f"{url}:not=x") == ["p"]


def test_what_points_from_another_persons_home_is_not_looked_for() -> None:
    """From whichever side the search starts: _has looks in the home of what is pointed to."""
    loader = Loader()
    for id in "pq":
        loader.put({"resourceType": "Patient", "id": id})
    loader.put(result("a", "p", "x"))
    loader.put(result("b", "p", "x", identifier=[{"value": "near"}],
                      hasMember=[{"reference": "Observation/a"}]))  # fmt: skip
    loader.put(result("c", "q", "x", identifier=[{"value": "far"}],
                      hasMember=[{"reference": "Observation/a"}]))  # fmt: skip
    for query in ("", "patient=p&", "code=x&", "_id=a,b&"):
        for budget in (2, 10_000):
            url = f"Observation?{query}_has:Observation:has-member:identifier"
            assert loader.ids(f"{url}=near", budget=budget) == ["a"]
            assert loader.ids(f"{url}=far", budget=budget) == []
