"""SQLite and PostgreSQL give the same page, refuse the same, and are asked as often."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
from databases import need_postgres
from effort import examples
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from search_loader import Loader
from search_twin import Twin, twin
from search_worlds import City, cities, urls
from test_search_cost import KINDS, clinic
from test_search_has import town
from test_search_sorting import keys, results, stored

from fhir_gateway.errors import TooCostly
from fhir_gateway.security.actor import Access
from fhir_gateway.store.store import Page


@pytest.fixture(scope="module")
def other() -> Iterator[Twin]:
    """The database of PostgreSQL."""
    need_postgres()
    made = twin()
    yield made
    made.close()
    twin.cache_clear()


def both(loader: Loader, other: Twin, url: str, access: Access, budget: int) -> list[Page | str]:
    """What each database answers."""
    plan = loader.plan(url)
    answers: list[Page | str] = []
    for ask in (
        lambda: loader.run(plan, access, budget=budget),
        lambda: other.run(loader, plan, access, budget=budget),
    ):
        try:
            answers.append(ask())
        except TooCostly as refused:
            answers.append(str(refused))
    return answers


@settings(
    max_examples=examples(40), deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip
@given(cities, urls, st.sampled_from([3, 10_000]))
def test_chains_are_the_same(other: Twin, city: City, url: str, budget: int) -> None:
    loader, _ = city.stored()
    first, second = both(loader, other, url, city.access, budget)
    assert first == second


@settings(
    max_examples=examples(20), deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip
@given(results, keys, st.sampled_from(["patient=p", "patient=p,q", "status=final", ""]))
def test_order_is_the_same(
    other: Twin, chosen: list[dict[str, Any]], sort: tuple[str, ...], scope: str
) -> None:
    loader, _ = stored(chosen)
    url = f"Observation?{scope}&_count=3&_sort={','.join(sort)}".replace("?&", "?")
    first, second = both(loader, other, url, Access(), 10_000)
    assert first == second


@pytest.mark.parametrize("url", KINDS, ids=lambda url: url[:60])
def test_searches_of_every_kind_are_the_same(other: Twin, url: str) -> None:
    first, second = both(clinic(6), other, url, Access(owners=frozenset({1, 2})), 10_000)
    assert first == second


LONG = "a" * 127


@cache
def words() -> Loader:
    """Texts around the length that PostgreSQL's indexes hold, urls, and what they start with."""
    loader = Loader()
    for number, text in enumerate(
        (
            "a",
            "ab",
            "b",
            LONG,
            f"{LONG}b",
            f"{LONG}bc",
            f"{LONG}c",
            f"{LONG}b" * 3,
            "甲",
            "甲乙",
            "é",
        )
    ):
        loader.put({"resourceType": "Patient", "id": f"p{number}",
                    "name": [{"family": text}]})  # fmt: skip
        loader.put({"resourceType": "CodeSystem", "id": f"c{number}", "name": text,
                    "url": f"http://x/{text}/{number % 2}"})  # fmt: skip
    for number in range(5):
        loader.put({"resourceType": "AuditEvent", "id": f"e{number}", "action": "RCUDE"[number],
                    "recorded": f"2024-0{number + 1}-01T00:00:00Z",
                    "entity": [{"what": {"reference": f"Patient/p{number % 2}"}}]},
                   journaled=True)  # fmt: skip
    return loader


@pytest.mark.parametrize(
    "url",
    [
        *(
            f"Patient?family={text}"
            for text in ("a", "ab", LONG, f"{LONG}b", f"{LONG}bab", "甲", "e")
        ),
        *(f"Patient?family:contains={text}" for text in ("b", "bc", "乙")),
        *(f"Patient?family:exact={text}" for text in ("a", f"{LONG}b", "é", "a,b,甲")),
        "CodeSystem?url=http://x/a/0,http://x/ab/1",
        f"CodeSystem?url=http://x/{LONG}b/0",
        "CodeSystem?url:below=http://x/a",
        f"CodeSystem?url:below=http://x/{LONG}b",
        "CodeSystem?url:above=http://x/a/0/more",
        "CodeSystem?name:missing=false&_sort=-name&_count=4",
        "CodeSystem?_sort=url&_total=accurate",
        "AuditEvent?patient=p0&_sort=-date",
        "AuditEvent?date=ge2024-03&action=U,D",
        "Patient?_id=p0,p1&_revinclude=AuditEvent:entity&_include=*",
        "Patient?_lastUpdated=ge2024-01-01&_lastUpdated=lt2024-01-01T00:00:09Z",
        "Patient?family=a&__explain=true",
    ],
    ids=lambda url: url[:40],
)
def test_texts_and_journals_are_the_same(other: Twin, url: str) -> None:
    first, second = both(words(), other, url, Access(), 10_000)
    if isinstance(first, Page) and first.explanation is not None:
        assert isinstance(second, Page)
        assert second.explanation is not None
        assert first.explanation.starts == second.explanation.starts
        return
    assert first == second
    assert isinstance(first, Page)
    assert first.matches or url.endswith("bab")


@pytest.mark.parametrize(
    "url",
    [
        "Patient?_has:Observation:patient:identifier=rare",
        "Patient?_has:Group:member:identifier=cohort",
        "Practitioner?_has:PractitionerRole:practitioner:identifier=role3,role4",
        "Practitioner?_has:Observation:performer:patient.identifier=7",
        "Observation?_list=work",
        "Patient?_has:Observation:patient:code=c",
    ],
)
@pytest.mark.parametrize("budget", [12, 10_000])
def test_has_is_the_same(other: Twin, url: str, budget: int) -> None:
    first, second = both(town(), other, url, Access(), budget)
    assert first == second
