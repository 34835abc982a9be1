"""_include and _revinclude: wildcards, :iterate, versions, cycles, and the caps."""

from __future__ import annotations

from typing import Any

import pytest
from effort import examples
from hypothesis import given, settings
from search_loader import START, Loader
from search_worlds import City, cities

from fhir_gateway.errors import TooCostly
from fhir_gateway.fhir.keys import type_key
from fhir_gateway.fhir.wire import tail
from fhir_gateway.security.actor import Access
from fhir_gateway.store.blobs import pack
from fhir_gateway.store.search_includes import MAX_ROUNDS

MINE = Access(owners=frozenset({1}))


def result(id: str, **members: Any) -> dict[str, Any]:
    return {
        "resourceType": "Observation",
        "id": id,
        "status": "final",
        "code": {"coding": [{"code": "c"}]},
        "subject": {"reference": "Patient/p"},
        **members,
    }


def members(*ids: str) -> list[dict[str, str]]:
    return [{"reference": f"Observation/{id}"} for id in ids]


def included(loader: Loader, url: str, access: Access | None = None) -> list[str]:
    return [f"{one.type}/{one.id}" for one in loader.page(url, access).included]


def ward(*resources: dict[str, Any]) -> Loader:
    loader = Loader()
    loader.put({"resourceType": "Organization", "id": "city"})
    loader.put({"resourceType": "Organization", "id": "hospital",
                "partOf": {"reference": "Organization/city"}})  # fmt: skip
    loader.put({"resourceType": "Practitioner", "id": "d"})
    loader.put({"resourceType": "Patient", "id": "p",
                "managingOrganization": {"reference": "Organization/hospital"}})  # fmt: skip
    for resource in resources:
        loader.put(resource)
    return loader


def test_iterate_goes_on_until_nothing_new_comes() -> None:
    loader = ward(result("a", hasMember=members("b")), result("b", hasMember=members("c")),
                  result("c"))  # fmt: skip
    url = "Observation?_id=a&_include"
    assert included(loader, f"{url}=Observation:has-member") == ["Observation/b"]
    assert included(loader, f"{url}:iterate=Observation:has-member") == [
        "Observation/b", "Observation/c"
    ]  # fmt: skip
    both = f"{url}=Observation:patient&_include:iterate=Patient:organization"
    assert included(loader, both) == ["Patient/p", "Organization/hospital"]
    all_three = f"{both}&_include:iterate=Organization:partof"
    assert included(loader, all_three)[-1] == "Organization/city"


def test_a_cycle_ends_and_a_match_is_not_included() -> None:
    loader = ward(result("a", hasMember=members("b", "a")), result("b", hasMember=members("a")))
    url = "Observation?_id=a&_include:iterate=Observation:has-member"
    assert included(loader, url) == ["Observation/b"]
    back = "Observation?_id=a&_revinclude:iterate=Observation:has-member"
    assert included(loader, back) == ["Observation/b"]
    assert included(loader, "Observation?patient=p&_include:iterate=Observation:has-member") == []


def test_revinclude_iterates_too() -> None:
    loader = ward(result("a"), result("b", hasMember=members("a")),
                  result("c", hasMember=members("b")))  # fmt: skip
    url = "Observation?_id=a&_revinclude"
    assert included(loader, f"{url}=Observation:has-member") == ["Observation/b"]
    found = included(loader, f"{url}:iterate=Observation:has-member")
    assert found == ["Observation/b", "Observation/c"]


def test_a_wildcard_follows_every_reference_of_the_type() -> None:
    loader = ward(
        result("a", hasMember=members("b"), performer=[{"reference": "Practitioner/d"},
               {"reference": "Organization/hospital"}]),
        result("b"),
    )  # fmt: skip
    everything = {"Observation/b", "Practitioner/d", "Organization/hospital", "Patient/p"}
    assert set(included(loader, "Observation?_id=a&_include=*")) == everything
    assert set(included(loader, "Observation?_id=a&_include=Observation:*")) == everything
    assert included(loader, "Observation?_id=a&_include=Observation:*:Patient") == ["Patient/p"]
    back = included(loader, "Observation?_id=b&_revinclude=Observation:*")
    assert back == ["Observation/a"]


def test_each_comes_once_however_it_is_included() -> None:
    loader = ward(result("a", performer=[{"reference": "Practitioner/d"}]),
                  result("b", performer=[{"reference": "Practitioner/d"}]))  # fmt: skip
    url = "Observation?patient=p&_include=*&_include=Observation:performer"
    assert sorted(included(loader, url)) == ["Patient/p", "Practitioner/d"]


def test_iterating_goes_through_access_and_stops_there() -> None:
    """What lies behind a resource that is not seen is not reached by it."""
    loader = ward(result("a", hasMember=members("b")))
    loader.put(result("b", hasMember=members("c")), owner=2)
    loader.put(result("c"), owner=1)
    url = "Observation?_id=a&_include:iterate=Observation:has-member"
    assert included(loader, url) == ["Observation/b", "Observation/c"]
    assert included(loader, url, MINE) == []


def supersede(loader: Loader, resource: dict[str, Any], *, owner: int = 0) -> None:
    """Makes what is stored version 2, and the given resource its first version."""
    type, id = resource["resourceType"], resource["id"]
    home, rid = loader.places[type, id]
    enc, body = pack(tail(resource))
    loader.connection.execute(
        "UPDATE resource SET version = 2 WHERE home = ? AND type = ? AND rid = ?",
        (home, type_key(type), rid),
    )
    loader.connection.execute(
        "INSERT INTO version VALUES (?, ?, 1, 1, 0, ?, 0, ?, 0, NULL, ?, ?)",
        (home, rid, START, owner, enc, body),
    )


def test_a_reference_to_a_version_includes_that_version() -> None:
    loader = ward(
        result("old", status="preliminary"), result("new"),
        result("a", hasMember=members("old/_history/1", "new/_history/1", "new/_history/7",
                                      "new/_history/x", "gone/_history/1")),
    )  # fmt: skip
    supersede(loader, result("old", status="registered"))
    page = loader.page("Observation?_id=a&_include=Observation:has-member")
    assert [(one.id, one.version) for one in page.included] == [("old", 1), ("new", 1)]
    assert b'"status":"registered"' in page.included[0].whole()
    loader.put(result("b", hasMember=members("old", "old/_history/1", "old/_history/2")))
    page = loader.page("Observation?_id=b&_include=Observation:has-member")
    assert [(one.id, one.version) for one in page.included] == [("old", 2), ("old", 1)]


def test_a_version_is_seen_under_its_own_access() -> None:
    loader = ward(result("mine"), result("a", hasMember=members("mine/_history/1")))
    supersede(loader, result("mine"), owner=2)
    url = "Observation?_id=a&_include=Observation:has-member"
    assert included(loader, url) == ["Observation/mine"]
    assert included(loader, url, MINE) == []


def test_journal_entries_are_included_with_their_bodies() -> None:
    loader = ward(result("a"))
    event = {"resourceType": "AuditEvent", "recorded": "2024-03-05T00:00:00Z", "action": "R",
             "entity": [{"what": {"reference": "Patient/p"}}]}  # fmt: skip
    for id in ("e1", "e2"):
        loader.put({**event, "id": id}, journaled=True)
    page = loader.page("Patient?_id=p&_revinclude=AuditEvent:entity")
    assert [one.id for one in page.included] == ["e1", "e2"]
    assert all(b'"recorded":"2024-03-05T00:00:00Z"' in one.whole() for one in page.included)


def test_a_chain_of_includes_without_end_is_refused() -> None:
    loader = ward()
    for number in range(MAX_ROUNDS + 1):
        loader.put(result(f"o{number}", hasMember=members(f"o{number + 1}")))
    url = "Observation?_id=o{}&_include:iterate=Observation:has-member"
    assert len(included(loader, url.format(2))) == MAX_ROUNDS - 2
    with pytest.raises(TooCostly) as caught:
        included(loader, url.format(0))
    assert caught.value.issues[0].rule == "includes-too-deep"


@settings(max_examples=examples(25), deadline=None)
@given(cities)
def test_included_is_what_can_be_reached(city: City) -> None:
    """A fixpoint, once by statements and once by a walk over the resources that are seen."""
    loader, seen = city.stored()
    url = "Observation?_id=o0,o1&_include=*&_include:iterate=Observation:has-member"
    url += "&_include:iterate=Patient:general-practitioner&_include:iterate=Organization:partof"
    found = included(loader, url, city.access)
    matches = [name for name in ("Observation/o0", "Observation/o1") if name in seen.by_name]
    reached = set(seen.included(matches))
    assert sorted(found) == sorted(reached - set(matches))
