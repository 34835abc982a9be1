"""__explain: how a search would run, told without what the caller may not know."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
from search_loader import Loader

from fhir_gateway.security.actor import Access
from fhir_gateway.store.search_explain import Explanation, parameters


@cache
def crowd() -> Loader:
    loader = Loader()
    for number in range(300):
        loader.put({"resourceType": "Practitioner", "id": f"d{number}", "active": True})
        loader.put({"resourceType": "Patient", "id": f"p{number}", "gender": "female",
                    "identifier": [{"value": f"{number}"}], "name": [{"family": "王"}],
                    "generalPractitioner": [{"reference": f"Practitioner/d{number}"}]},
                   owner=2)  # fmt: skip
        loader.put({"resourceType": "Observation", "id": f"o{number}", "status": "final",
                    "code": {"coding": [{"code": "c"}]},
                    "subject": {"reference": f"Patient/p{number}"}})  # fmt: skip
    return loader


def explained(url: str, *, budget: int = 10_000, access: Access | None = None) -> Explanation:
    page = crowd().page(f"{url}&__explain=true", access, budget=budget)
    assert (page.matches, page.included, page.next, page.total) == ([], [], None, None)
    assert page.explanation is not None
    return page.explanation


@pytest.mark.parametrize(
    ("url", "cost", "starts"),
    [
        ("Observation?patient=p7&code=c", "home", [("persons", "", None)]),
        ("Observation?patient.identifier=7&code=c", "home", [("persons", "", None)]),
        ("Patient?identifier=7", "index", [("everywhere", "identifier", 100)]),
        ("Patient?family=王&identifier=7", "index", [("everywhere", "identifier", 100)]),
        ("Patient?family=王", "index", [("everywhere", "family", 1_000)]),
        ("Patient?_id=p1,p2", "index", [("everywhere", "_id", 100)]),
        ("Patient?gender=female", "scan", [("everywhere", "", 1_000)]),
        ("Patient?_has:Observation:patient:identifier=x", "home", []),
        ("Practitioner?active=true", "index", [("shared", "active", 1_000)]),
        ("AuditEvent?patient=p7", "index",
         [("persons", "", None), ("shared", "patient", 100)]),
    ],
)  # fmt: skip
def test_cost_and_where_it_starts(url: str, cost: str, starts: list[Any]) -> None:
    told = explained(url)
    assert (told.cost, list(told.starts), told.reason) == (cost, starts, "")


def test_a_refused_search_is_explained_too() -> None:
    told = explained("Patient?gender=female", budget=50)
    assert (told.cost, told.starts) == ("refused", ())
    assert "more than 50 rows" in told.reason
    assert len(told.statements) == 1


def test_statements_carry_no_value() -> None:
    told = explained("Patient?identifier=http://canary|canary&family=canary")
    assert told.statements
    assert not any("canary" in text for text in told.statements)


def test_the_last_statement_is_the_one_that_would_run() -> None:
    loader = crowd()
    for url in ("Patient?identifier=7", "Observation?patient=p7&_sort=-date"):
        texts: list[str] = []
        loader.connection.set_exec_trace(
            lambda cursor, text, bound, texts=texts: texts.append(text) or True
        )
        loader.page(url)
        loader.connection.set_exec_trace(None)
        assert explained(url).statements == tuple(texts)


@pytest.mark.parametrize(
    ("known", "unknown"),
    [
        ("Observation?patient=p7", "Observation?patient=nobody"),
        ("Patient?identifier=7", "Patient?identifier=nobody"),
        ("Patient?_id=p7", "Patient?_id=nobody"),
        ("Observation?patient.identifier=7", "Observation?patient.identifier=nobody"),
        ("Patient?organization=Organization/o", "Patient?organization=Organization/x"),
    ],
)  # fmt: skip
def test_nobody_learns_who_is_stored(known: str, unknown: str) -> None:
    """The patients belong to institution 2; institution 1 is told the same of each."""
    mine = Access(owners=frozenset({1}))
    assert explained(known, access=mine) == explained(unknown, access=mine)


def test_it_becomes_a_resource() -> None:
    told = Explanation("index", (), ("SELECT 1",), 10, "why")
    assert parameters(told) == {
        "resourceType": "Parameters",
        "parameter": [
            {"name": "cost", "valueCode": "index"},
            {"name": "budget", "valueInteger": 10},
            {"name": "reason", "valueString": "why"},
            {"name": "statement", "valueString": "SELECT 1"},
        ],
    }
    start = parameters(explained("Patient?identifier=7"))["parameter"][2]
    assert start == {
        "name": "start",
        "part": [
            {"name": "scope", "valueCode": "everywhere"},
            {"name": "driver", "valueString": "identifier"},
            {"name": "rows", "valueInteger": 100},
        ],
    }
