"""Maps of local codes are their institution's: they answer nobody else's questions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from issue_cases import rule_of
from running import Running

from fhir_gateway.settings import CANONICAL
from fhir_gateway.terminology.catalogue import LAB_SYSTEM
from fhir_gateway.terminology.local_map_decide import PART
from fhir_gateway.terminology.local_map_resource import (
    PERIOD_URL,
    addresses,
    contexts,
    map_id,
)

SEX = "urn:oid:2.16.156.10011.2.3.3.4"
SEX_MAP = f"{CANONICAL}/ConceptMap/sex-to-fhir"

Json = dict[str, Any]
Headers = dict[str, str]


class Town:
    """Two institutions on one gateway."""

    def __init__(self, server: Running) -> None:
        self.server = server
        self.first, self.second = server.institution("first"), server.institution("second")

    def put(self, resource: Json, headers: Headers) -> Any:
        return self.server.put(f"/fhir/ConceptMap/{resource['id']}", resource, headers=headers)

    def translate(self, headers: Headers, **asked: str) -> tuple[bool, list[str]]:
        answer = self.server.get("/fhir/ConceptMap/$translate", params=asked, headers=headers)
        assert answer.status_code == 200, answer.text
        result, *others = answer.json()["parameter"]
        codes = [
            part["valueCoding"]["code"]
            for one in others if one["name"] == "match"
            for part in one["part"] if part["name"] == "concept"
        ]  # fmt: skip
        return result["valueBoolean"], codes


@pytest.fixture
def town(start: Callable[..., Running]) -> Town:
    return Town(start())


def local(institution: str, id: str, url: str, source: str, code: str, **target: Any) -> Json:
    element = {"code": "K1", "target": [{"code": code, "equivalence": "equivalent", **target}]}
    return {
        "resourceType": "ConceptMap", "id": id, "url": url, "status": "active",
        "useContext": contexts(institution, "result"),
        "group": [{"source": source, "target": LAB_SYSTEM, "element": [element]}],
    }  # fmt: skip


def test_no_institution_answers_in_the_place_of_another_map(town: Town) -> None:
    """A map with the address of the project's own, or of another's, was taken for it."""
    asked = {"url": SEX_MAP, "system": SEX, "code": "1"}
    assert town.translate(town.second, **asked) == (True, ["male"])
    shadow = local("first", "first-shadow", SEX_MAP, "urn:first:lab", "L001")
    for version in ({}, {"version": "99"}):
        assert rule_of(town.put({**shadow, **version}, town.first)) == (422, "map-url")
    theirs = local("second", "second-own", "http://second.example.org/map", "urn:s:lab", "L001")
    assert town.put(theirs, town.second).status_code == 201
    same = local("first", "first-same", "http://second.example.org/map", "urn:s:lab", "L002")
    for status in ("active", "draft", "retired"):
        assert rule_of(town.put({**same, "status": status}, town.first)) == (422, "map-url")
    assert town.put({**theirs, "version": "2"}, town.second).status_code == 200
    assert town.translate(town.second, **asked) == (True, ["male"])


def test_an_older_shadow_does_not_count(start: Callable[..., Running]) -> None:
    """What open access could store, or was stored before it was refused."""
    server = start(open_access=True)
    server.institution("first")
    shadow = local(
        "first",
        "first-shadow",
        SEX_MAP,
        "urn:first:lab",
        "L001",
    )
    del shadow["useContext"][1]  # no map that counts, and yet about an institution
    server.put("/fhir/ConceptMap/first-shadow", shadow)
    asked = {"url": SEX_MAP, "system": SEX, "code": "1"}
    answer = server.get("/fhir/ConceptMap/$translate", params=asked).json()
    assert answer["parameter"][0]["valueBoolean"] is True


def test_where_no_map_is_named_anothers_does_not_count(town: Town) -> None:
    """One institution's map of a system that another uses, too, gave it wrong items."""
    shared = "urn:vendor:lab"
    first = local("first", "first-own", "http://first.example.org/map", shared, "L002")
    assert town.put(first, town.first).status_code == 201
    asked = {"targetsystem": LAB_SYSTEM, "system": shared, "code": "K1"}
    assert town.translate(town.first, **asked) == (True, ["L002"])
    assert town.translate(town.second, **asked) == (False, [])
    back = {"targetsystem": shared, "system": LAB_SYSTEM, "code": "L002", "reverse": "true"}
    assert town.translate(town.first, **back) == (True, ["K1"])
    assert town.translate(town.second, **back) == (False, [])
    assert town.put({**first, "status": "draft"}, town.first).status_code == 200
    assert town.translate(town.first, **asked) == (False, [])
    named = {"url": first["url"], "system": shared, "code": "K1"}
    assert town.translate(town.second, **named) == (True, ["L002"])  # who names it, means it


@pytest.mark.parametrize(
    ("period", "holds"),
    [({"end": "2020-01-01"}, False), ({"start": "2999-01-01"}, False),
     ({"start": "2020-01-01", "end": "2999-01-01"}, True)],
)  # fmt: skip
def test_a_mapping_counts_on_its_days_alone(town: Town, period: Json, holds: bool) -> None:
    """$translate told what had ended, and what had not begun."""
    extension = [{"url": PERIOD_URL, "valuePeriod": period}]
    own = local("first", "first-days", "http://first.example.org/days", "urn:f:lab", "L001",
                extension=extension)  # fmt: skip
    assert town.put(own, town.first).status_code == 201
    asked = {"url": own["url"], "system": "urn:f:lab", "code": "K1"}
    assert town.translate(town.first, **asked)[0] is holds


def test_the_addresses_that_the_gateway_gives_are_the_institutions_own() -> None:
    made = {map_id("a", use, part) for use in ("result", "order") for part in ("", PART)}
    assert addresses("a") == {f"{CANONICAL}/ConceptMap/{id}" for id in made}
