"""Rows and classes of members that were met before are those that would be made anew."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

from fhir_gateway.fhir.wire import parse, splice, tail, tail_and_members
from fhir_gateway.search.index import Extractor, IndexRows
from fhir_gateway.security.policy import load_policy

SECRET = b"spelled"
SHIPPED = Path(__file__).parents[2] / "profiles" / "access"
LOINC = "http://loinc.org"


def observation(**more: Any) -> dict[str, Any]:
    """A result; `more` takes the place of its members."""
    return {
        "resourceType": "Observation",
        "id": "o1",
        "meta": {"tag": [{"system": "http://example.org/tags", "code": "t"}]},
        "status": "final",
        "code": {"coding": [{"system": LOINC, "code": "1742-6", "display": "ALT"}], "text": "ALT"},
        "subject": {"reference": "Patient/p1"},
        "effectiveDateTime": "2026-11-18T08:12:00+08:00",
        "valueQuantity": {"value": 32, "unit": "U/L", "code": "U/L"},
    } | more


COMPONENT = {"code": {"coding": [{"system": LOINC, "code": "2160-0"}]}, "valueString": "x"}
HIV = {"coding": [{"system": LOINC, "code": "56888-1"}]}
RESOURCES = (
    observation(),
    observation(component=[COMPONENT]),  # combo-code reads two members
    observation(valueQuantity={"value": 33, "unit": "U/L", "code": "U/L"}),
    observation(code=HIV),
    observation(component=[COMPONENT | {"code": HIV}]),
    observation(code={"text": "长" * 500}),  # longer than what is remembered
    {"resourceType": "Patient", "id": "p1", "name": [{"text": "示例"}], "gender": "male"},
    {"resourceType": "Patient", "id": "p2", "deceasedBoolean": False, "gender": "male"},
    {"resourceType": "Patient", "id": "p3"},
    {"resourceType": "CodeSystem", "id": "c", "status": "draft", "content": "not-present",
     "url": "http://example.org/c"},
)  # fmt: skip


def test_what_was_met_before_gives_the_rows_that_it_gave() -> None:
    plain, warm = Extractor(SECRET), Extractor(SECRET)
    for resource in RESOURCES * 3:
        type = resource["resourceType"]
        members = tail_and_members(resource)[1]
        assert sets(warm.rows(type, resource, members)) == sets(plain.rows(type, resource))


def sets(rows: IndexRows) -> list[set[Any]]:
    """The rows, in no order."""
    for some in rows:
        assert len(set(some)) == len(some)
    return [set(some) for some in rows]


def test_what_was_met_before_is_of_the_class_that_it_was_of() -> None:
    classes = load_policy(SHIPPED / "policy.toml").classes
    numbers = []
    for resource in RESOURCES * 2:
        numbers.append(classes.of(resource))
        assert classes.of(resource, tail_and_members(resource)[1]) == numbers[-1]
    assert len(set(numbers)) > 1


def test_the_tail_and_its_members_say_what_the_resource_says() -> None:
    for resource in RESOURCES:
        whole, members = tail_and_members(resource)
        assert whole == tail(resource)
        again = parse(splice(resource["resourceType"], resource["id"], 1, 0, whole))
        for name, said in members.items():
            told = parse(b'{"it":' + said + b"}")["it"]
            expected = deepcopy(again[name])
            if name == "meta":
                expected = {k: v for k, v in expected.items() if k in told}
            assert told == expected
