"""What a search costs: few statements of few shapes, and no more steps as the data grows.

The numbers are of peers' most frequent complaints: paging that stalls (3), includes that are cut
(4), lists of values (5) and sorts (6) that explode, totals that surprise (7), decay with the data
(13). Steps are those of SQLite's virtual machine: they do not depend on the machine.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
from search_loader import SECRET, Loader

from fhir_gateway.errors import TooCostly
from fhir_gateway.search.page import Holder, encode_cursor, resume
from fhir_gateway.search.plan import SearchPlan
from fhir_gateway.security.actor import Access
from fhir_gateway.store.dialect import SQLITE
from fhir_gateway.store.query import Query
from fhir_gateway.store.search_sql import search
from fhir_gateway.store.store import Page


def asked(loader: Loader, plan: SearchPlan, *, budget: int = 10_000) -> tuple[list[Query], Page]:
    """The statements of a search, and its answer."""
    queries: list[Query] = []
    steps = search(plan, Access(), budget=budget, dialect=SQLITE)
    try:
        query = next(steps)
        while True:
            queries.append(query)
            query = steps.send(loader.connection.execute(query.sql, query.values).fetchall())
    except StopIteration as end:
        return queries, end.value


def steps_of(loader: Loader, url: str, *, plan: SearchPlan | None = None) -> int:
    """Steps of the virtual machine that a search takes, in tens."""
    taken = [0]

    def count() -> bool:
        taken[0] += 1
        return False

    plan = plan or loader.plan(url)
    loader.run(plan)  # so that preparing the statements is not counted
    loader.connection.set_progress_handler(count, 10)
    try:
        loader.run(plan)
    finally:
        loader.connection.set_progress_handler(None)
    return taken[0]


def result(id: str, patient: str, number: int, **members: Any) -> dict[str, Any]:
    return {
        "resourceType": "Observation",
        "id": id,
        "status": "final",
        "category": [{"coding": [{"code": "laboratory"}]}],
        "code": {"coding": [{"system": "http://loinc.org", "code": f"c{number % 20}"}]},
        "subject": {"reference": f"Patient/{patient}"},
        "performer": [{"reference": f"Practitioner/d{number % 7}"}],
        "effectiveDateTime": f"20{10 + number % 14}-0{1 + number % 9}-1{number % 10}",
        "valueQuantity": {"value": number},
        **members,
    }


@cache
def clinic(size: int, each: int = 24) -> Loader:
    """So many patients with results, each signed, and some practitioners with roles."""
    loader = Loader()
    for number in range(7):
        loader.put({"resourceType": "Practitioner", "id": f"d{number}",
                    "name": [{"family": f"D{number}"}]})  # fmt: skip
    for patient in range(size):
        loader.put({"resourceType": "Patient", "id": f"p{patient}",
                    "name": [{"family": f"王{patient}号"}],
                    "identifier": [{"system": "http://s", "value": f"{patient}"}]})  # fmt: skip
        for number in range(each):
            loader.put(result(f"o{patient}-{number}", f"p{patient}", number))
            loader.put({"resourceType": "Provenance", "id": f"v{patient}-{number}",
                        "target": [{"reference": f"Observation/o{patient}-{number}"}]})  # fmt: skip
    return loader


MANY = ",".join(f"http://loinc.org|c{number}" for number in range(113))

#: A search of each kind, and the statements that it takes at most.
KINDS = {
    "Observation?patient=p3&code=http://loinc.org|c3&date=ge2015-01-01": 1,
    "Observation?patient=p3&category=laboratory&date=ge2015&_sort=-date&_count=20": 1,
    "Observation?patient=p3&code=c3&value-quantity=gt2&_sort=date,-_id": 1,
    f"Observation?patient=p3&code={MANY}": 1,
    "Observation?patient=p3&code=c3&_total=accurate": 3,
    "Observation?patient=p3&performer:Practitioner.family=D3": 1,
    "Observation?patient=p3&_has:Provenance:target:recorded:missing=true": 1,
    "Observation?patient=p3&_include=Observation:performer&_revinclude=Provenance:target": 3,
    "Observation?patient=p3&_include=*": 2,
    "Observation?patient.identifier=http://s|3&code=c3": 3,
    "Observation?_id=o3-1,o3-2": 1,
    "Patient?identifier=http://s|3": 2,
    "Patient?family=王3号": 2,
    "Patient?identifier=3&_has:Observation:patient:code=c3": 3,
}


@pytest.mark.parametrize("url", KINDS, ids=lambda url: url[:60])
def test_a_search_takes_few_statements(url: str) -> None:
    loader = clinic(6)
    queries, page = asked(loader, loader.plan(url))
    assert len(queries) == KINDS[url]
    assert page.matches


@pytest.mark.parametrize("url", KINDS, ids=lambda url: url[:60])
def test_13_a_search_costs_the_same_when_the_data_grows(url: str) -> None:
    small, large = (steps_of(clinic(size), url) for size in (6, 96))
    assert large <= small * 1.1 + 5


@pytest.mark.parametrize("url", KINDS, ids=lambda url: url[:60])
def test_6_no_table_is_scanned(url: str) -> None:
    """The plan does not depend on what the planner believes of the data."""
    loader = clinic(6)
    for query in asked(loader, loader.plan(url))[0]:
        steps = loader.connection.execute(f"EXPLAIN QUERY PLAN {query.sql}", query.values)
        scanned = [step[3] for step in steps if step[3].startswith("SCAN")]
        tables = {text.split()[1] for text in scanned}
        assert tables <= {"json_each", "m", "d", "c", "counted", "every", "CONSTANT", "s0", "s1"}


def test_5_lists_of_values_are_one_shape_and_one_seek_each() -> None:
    """113 values hung a peer; here each further one is one seek, and the statement the same."""
    loader = clinic(6)
    plans = [
        loader.plan(
            "Observation?patient=p3&code=" + ",".join(f"http://x|z{n}" for n in range(size))
        )
        for size in (20, 113, 200)
    ]
    texts = {tuple(query.sql for query in asked(loader, plan)[0]) for plan in plans}
    assert len(texts) == 1
    few, more, most = (steps_of(loader, "", plan=plan) for plan in plans)
    assert (most - few) / 180 <= 4  # tens of steps for each value
    assert few < more < most


def test_5_lists_of_identifiers_across_patients() -> None:
    loader = clinic(96)
    wanted = ",".join(f"http://s|{number}" for number in range(60, 173))
    page = loader.page(f"Patient?identifier={wanted}&_count=200")
    assert [match.id for match in page.matches] == [f"p{number}" for number in range(60, 96)]
    bare = ",".join(f"{number}" for number in range(60, 173))
    assert loader.page(f"Patient?identifier={bare}&_count=200") == page


def test_3_the_two_thousand_and_third_row_is_like_the_others() -> None:
    loader = Loader()
    loader.put({"resourceType": "Patient", "id": "p"})
    for number in range(2_300):
        loader.put(result(f"o{number}", "p", number))
    for sort in ("", "&_sort=-date"):
        url = f"Observation?patient=p&category=laboratory&_count=100{sort}"
        plan = loader.plan(url)
        ids: list[str] = []
        costs = []
        while True:
            costs.append(steps_of(loader, url, plan=plan))
            page = loader.run(plan)
            ids += [match.id for match in page.matches]
            if page.next is None:
                break
            cursor = encode_cursor(plan, page.next, Holder(SECRET, "me"))
            plan = resume(loader.plan(f"{url}&_cursor={cursor}"), Holder(SECRET, "me"))
        assert sorted(ids) == sorted(f"o{number}" for number in range(2_300))
        assert max(costs) <= 1.5 * costs[0]
        assert max(costs[2:]) <= 1.1 * costs[1]


def test_4_includes_are_whole_or_refused() -> None:
    """A thousand signatures of one result come all; one more and the search is refused."""
    loader = Loader()
    loader.put({"resourceType": "Patient", "id": "p"})
    loader.put(result("o", "p", 1))
    target = [{"reference": "Observation/o"}]
    for number in range(1_000):
        loader.put({"resourceType": "Provenance", "id": f"v{number}", "target": target})
    page = loader.page("Observation?patient=p&_revinclude=Provenance:target")
    assert [one.id for one in page.included] == [f"v{number}" for number in range(1_000)]
    loader.put({"resourceType": "Provenance", "id": "more", "target": target})
    with pytest.raises(TooCostly):
        loader.page("Observation?patient=p&_revinclude=Provenance:target")


def test_7_a_total_is_exact_or_none() -> None:
    loader = clinic(6)
    for mode in ("accurate", "estimate"):
        assert loader.page(f"Observation?patient=p3&code=c3&_count=1&_total={mode}").total == 2
        assert loader.page(f"Patient?identifier=3&_count=1&_total={mode}").total == 1
    assert loader.page("Observation?code=c3&_count=0").total == 12
    assert loader.page("Observation?_count=2&_total=estimate", budget=50).total is None
    with pytest.raises(TooCostly):
        loader.page("Observation?_count=2&_total=accurate", budget=50)
    with pytest.raises(TooCostly):
        loader.page("Observation?_count=0", budget=50)
