"""Access in every corner of a search, includes, deletions, hostile values."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
from search_loader import Loader

from fhir_gateway.errors import Invalid, TooCostly
from fhir_gateway.search.plan import SearchPlan
from fhir_gateway.security.actor import Access
from fhir_gateway.store import search_includes
from fhir_gateway.store.dialect import SQLITE
from fhir_gateway.store.search_sql import search

MINE = Access(owners=frozenset({1}))
SECRETS = Access(max_class=1)


def result(id: str, **members: Any) -> dict[str, Any]:
    return {
        "resourceType": "Observation",
        "id": id,
        "status": "final",
        "code": {"coding": [{"code": "c"}]},
        "subject": {"reference": "Patient/p"},
        **members,
    }


def provenance(id: str, *targets: str) -> dict[str, Any]:
    return {
        "resourceType": "Provenance",
        "id": id,
        "recorded": "2024-01-01T00:00:00Z",
        "agent": [{"who": {"display": "x"}}],
        "target": [{"reference": target} for target in targets],
    }


def ward() -> Loader:
    """A person's results: of everybody, of institution 1, of institution 2, and a secret one."""
    loader = Loader()
    loader.put({"resourceType": "Practitioner", "id": "d"})
    loader.put({"resourceType": "Patient", "id": "p"}, owner=2)
    order = {"resourceType": "ServiceRequest", "id": "s", "status": "active", "intent": "order",
             "subject": {"reference": "Patient/p"}}  # fmt: skip
    loader.put(order, owner=2)
    for id, owner, sensitivity in (("all", 0, 0), ("one", 1, 0), ("two", 2, 0), ("secret", 1, 1)):
        resource = result(
            id,
            basedOn=[{"reference": "ServiceRequest/s"}],
            performer=[{"reference": "Practitioner/d"}],
            effectiveDateTime="2024-03-05",
        )
        loader.put(resource, owner=owner, sensitivity=sensitivity)
        loader.put(provenance(f"v-{id}", f"Observation/{id}"), owner=owner, sensitivity=sensitivity)
    return loader


@pytest.mark.parametrize(
    "query",
    [
        "patient=p",
        "patient=p&code=c",
        "patient=p&date=ge2024-01-01&_sort=-date",
        "patient=p&category:missing=true",
        "patient=p&code:not=x",
        "_id=all,one,two,secret",
        "code=c",
        "code=c&_sort=date",
        "",
    ],
)
def test_what_may_not_be_seen_is_not_found_counted_or_hinted(query: str) -> None:
    loader = ward()
    for access, expected in (
        (None, ["all", "one", "two"]),
        (MINE, ["all", "one"]),
        (SECRETS, ["all", "one", "two", "secret"]),
    ):
        url = f"Observation?{query}&_total=accurate" if query else "Observation?_total=accurate"
        page = loader.page(url, access)
        assert ([match.id for match in page.matches], page.total) == (expected, len(expected))
        last = loader.page(f"{url}&_count={len(expected)}", access)
        assert last.next is None


def included(loader: Loader, url: str, access: Access | None = None) -> list[str]:
    return [f"{one.type}/{one.id}" for one in loader.page(url, access).included]


def test_includes_go_through_access_too() -> None:
    loader = ward()
    url = "Observation?patient=p&_include=Observation:based-on&_include=Observation:performer"
    assert included(loader, url) == ["ServiceRequest/s", "Practitioner/d"]
    assert included(loader, url, MINE) == ["Practitioner/d"]
    back = "Observation?patient=p&_revinclude=Provenance:target"
    assert included(loader, back) == ["Provenance/v-all", "Provenance/v-one", "Provenance/v-two"]
    assert included(loader, back, MINE) == ["Provenance/v-all", "Provenance/v-one"]


def test_an_include_is_sent_once_and_never_twice_a_match() -> None:
    loader = ward()
    named = ("Observation/all", "Observation/gone", "#in", "https://o.example/Observation/all")
    loader.put(result("panel", hasMember=[{"reference": text} for text in named]))
    url = "Observation?_include=Observation:has-member&"
    assert included(loader, f"{url}patient=p") == []
    assert included(loader, f"{url}_id=panel") == ["Observation/all"]


def test_an_include_may_name_its_target_type() -> None:
    loader = ward()
    loader.put({"resourceType": "Organization", "id": "o"})
    performers = [{"reference": "Organization/o"}, {"reference": "Practitioner/d"}]
    loader.put(result("mixed", performer=performers))
    url = "Observation?_id=mixed&_include=Observation:performer"
    assert included(loader, url) == ["Organization/o", "Practitioner/d"]
    assert included(loader, f"{url}:Organization") == ["Organization/o"]


def test_a_revinclude_finds_what_lives_elsewhere() -> None:
    loader = ward()
    loader.put({"resourceType": "Group", "id": "g", "type": "person", "actual": True,
                "member": [{"entity": {"reference": "Patient/p"}}]})  # fmt: skip
    loader.put({"resourceType": "Appointment", "id": "a", "status": "booked", "participant": [
        {"actor": {"reference": "Patient/p"}, "status": "accepted"}]})  # fmt: skip
    loader.put(provenance("mixed", "Practitioner/d", "Observation/all"))  # lives in home 0
    assert included(loader, "Patient?_id=p&_revinclude=Group:member") == ["Group/g"]
    assert included(loader, "Patient?_id=p&_revinclude=Appointment:actor") == ["Appointment/a"]
    back = "Observation?_id=all&_revinclude=Provenance:target"
    assert included(loader, back) == ["Provenance/v-all", "Provenance/mixed"]


def test_a_revinclude_across_all_patients_is_refused() -> None:
    with pytest.raises(TooCostly) as caught:
        ward().plan("Practitioner?_id=d&_revinclude=Observation:performer")
    assert caught.value.issues[0].rule == "revinclude-across-patients"


def test_includes_are_refused_rather_than_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    loader = ward()
    monkeypatch.setattr(search_includes, "MAX_INCLUDED", 2)
    with pytest.raises(TooCostly) as caught:
        loader.page("Observation?patient=p&_revinclude=Provenance:target")
    assert caught.value.issues[0].rule == "too-many-included"
    assert (
        len(included(loader, "Observation?patient=p&_count=2&_revinclude=Provenance:target")) == 2
    )


def test_deleted_rows_are_invisible() -> None:
    loader = ward()
    loader.delete("Observation", "one")
    loader.delete("Provenance", "v-all")
    loader.delete("ServiceRequest", "s")
    assert loader.ids("Observation?patient=p&code=c") == ["all", "two"]
    assert loader.page("Observation?_id=one&_total=accurate").total == 0
    assert loader.ids("Observation?code=c") == ["all", "two"]
    assert included(loader, "Observation?patient=p&_revinclude=Provenance:target") == [
        "Provenance/v-two"
    ]
    assert included(loader, "Observation?patient=p&_include=Observation:based-on") == []


@cache
def hostile_ward() -> Loader:
    """One ward for all hostile values: whatever they do must not show in the next."""
    return ward()


HOSTILE = [
    "'",
    "''; DROP TABLE px; --",
    '" OR 1=1 --',
    "1) OR (1=1",
    "%",
    "_",
    "%%%%%%%%",
    "?1",
    ":name",
    "\\",
    "\\'",
    "a\tb\nc",
    "${x}",
    "{0}",
    "\u202e\u200b",
    "\U0010ffff",
    "😀" * 50,
    "x' UNION SELECT id FROM credential --",
]


@pytest.mark.parametrize("value", HOSTILE)
@pytest.mark.parametrize(
    "name",
    [
        "code", "identifier", "value-string", "value-string:exact", "value-string:contains",
        "_profile", "_profile:below", "_profile:above", "subject", "date", "value-quantity", "_id",
        "_sort", "_count", "_include", "_revinclude", "_total", "_summary", "_cursor",
        "code:not", "code:missing", "subject:identifier",
    ],
)  # fmt: skip
def test_hostile_values_are_values_or_refused(name: str, value: str) -> None:
    loader = hostile_ward()
    before = loader.connection.execute("SELECT count(*) FROM px").get
    try:
        plan = loader.plan(f"Observation?{name}={value}")
    except Invalid:
        return
    found = [match.id for match in loader.run(plan).matches]
    everything = ("code:not", "_cursor")
    assert found == (["all", "one", "two"] if name in everything else [])
    assert loader.connection.execute("SELECT count(*) FROM px").get == before


def test_statements_hold_no_value_of_the_query() -> None:
    """Whatever is asked, the text of the statement is made of constants and marks."""
    loader = ward()
    asked: list[set[str]] = []
    for value in ("canary", "другой", "x' OR '1'='1"):
        url = f"Observation?code=http://s|{value}&value-string={value}&_sort=-date"
        asked.append(statements(loader, loader.plan(url)))
    assert asked[0] == asked[1] == asked[2]
    assert not any("canary" in sql or "http" in sql for sql in asked[0])


def statements(loader: Loader, plan: SearchPlan) -> set[str]:
    """The texts of all statements of a search."""
    texts = set()
    steps = search(plan, MINE, budget=100, dialect=SQLITE)
    try:
        query = next(steps)
        while True:
            texts.add(query.sql)
            query = steps.send(loader.connection.execute(query.sql, query.values).fetchall())
    except StopIteration:
        return texts
