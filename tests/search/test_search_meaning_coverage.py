"""Every search parameter of R4: searchable, or on this short list with its reason."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from search_rows import SECRET, World

from fhir_gateway.errors import GatewayError, Invalid, NotSupported
from fhir_gateway.fhir.definitions import definitions
from fhir_gateway.search.planner import plan_search
from fhir_gateway.search.registry import Searchable, searchables
from fhir_gateway.search.results import RESULTS

EXAMPLES = Path(__file__).parents[3] / "shared" / "data" / "samples" / "fhir-r4-examples"

#: What R4 has and a search refuses by name, and on how many types.
REFUSED = {
    "_content": (146, "there is no full-text index"),
    "_text": (143, "there is no full-text index"),
    "_filter": (146, "filter expressions are not offered"),
    "_query": (146, "there are no named queries"),
    "near": (1, "distances are not computed"),
    "phonetic": (6, "phonetic matching is not offered"),
    "composition": (1, "what stands inside a Bundle is not searched"),
    "message": (1, "what stands inside a Bundle is not searched"),
}

#: A value of each kind of parameter.
VALUES = {
    "token": "a",
    "string": "a",
    "uri": "http://a.example",
    "date": "2024",
    "number": "1",
    "quantity": "1||mg",
    "reference": "https://a.example/b",
}


def value_of(searchable: Searchable) -> str:
    if searchable.kind != "composite":
        return VALUES.get(searchable.kind, "a")
    kinds = [searchables(searchable.type)[one.code].kind for one in searchable.components]
    if searchable.code == "relationship":  # R4 names its components the wrong way round
        kinds.reverse()
    return "$".join(VALUES[kind] for kind in kinds)


def test_every_parameter_of_all_types_is_searchable_or_listed() -> None:
    counted: Counter[str] = Counter()
    refused: Counter[str] = Counter()
    for type in definitions().resource_types:
        for code, searchable in searchables(type).items():
            counted[searchable.kind] += 1
            try:
                plan = plan_search(type, [(code, value_of(searchable))], secret=SECRET)
                assert plan.conditions != (), (type, code)
            except NotSupported as error:
                refused[code] += 1
                assert error.issues[0].diagnostics == (
                    f"Search parameter {code} is not offered: {searchable.refused}"
                )
                assert searchable.refused.startswith(REFUSED[code][1])
    assert refused == Counter({code: count for code, (count, _) in REFUSED.items()})
    assert (counted.total(), len(definitions().resource_types)) == (
        3166,
        146,
    )  # one of a guide (PDQm), five of decisions, six of bookings
    assert counted == {
        "token": 1258, "reference": 519, "string": 490, "uri": 348, "date": 286,
        "special": 147, "composite": 72, "quantity": 40, "number": 6,
    }  # fmt: skip


@pytest.mark.parametrize("type", definitions().resource_types)
def test_every_parameter_name_with_one_wrong_letter_is_refused(type: str) -> None:
    """A filter that is ignored would return everyone."""
    known = {*searchables(type), *RESULTS}
    for place, name in enumerate(sorted(known)):
        letter = place % len(name)
        wrong = f"{name[:letter]}{'q' if name[letter] != 'q' else 'w'}{name[letter + 1 :]}"
        if wrong in known:
            continue
        with pytest.raises(Invalid) as caught:
            plan_search(type, [(wrong, "a")], secret=SECRET)
        rule = caught.value.issues[0].rule
        assert rule in ("unknown-search-parameter", "unknown-modifier"), wrong
        assert caught.value.status == 400


def test_missing_is_taken_by_every_parameter_but_combinations() -> None:
    for type in definitions().resource_types:
        for code, searchable in searchables(type).items():
            if searchable.refused or searchable.kind == "composite":
                continue
            for value in ("true", "false"):
                plan_search(type, [(f"{code}:missing", value)], secret=SECRET)


def spelled(searchable: Searchable, resource: dict[str, Any]) -> list[str]:
    """Values that the resource has at the top-level element that bears the parameter's name."""
    value = resource.get(searchable.expression.partition(".")[2])
    values = value if isinstance(value, list) else [value]
    if searchable.kind == "token" and searchable.datatypes == {"CodeableConcept"}:
        return [
            f"{coding.get('system', '')}|{coding['code']}"
            for one in values
            if isinstance(one, dict)
            for coding in one.get("coding", ())
            if "code" in coding
        ]
    if searchable.kind == "token" and searchable.datatypes == {"Identifier"}:
        return [
            f"{one.get('system', '')}|{one['value']}"
            for one in values
            if isinstance(one, dict) and "value" in one
        ]
    if searchable.kind == "reference" and searchable.datatypes == {"Reference"}:
        return [one["reference"] for one in values if isinstance(one, dict) and "reference" in one]
    if searchable.kind in ("date", "string", "uri", "token"):
        return [one for one in values if isinstance(one, str) and "," not in one]
    return []


def escaped(value: str, kind: str) -> str:
    for sign in "\\$" if kind == "token" else "\\$|":
        value = value.replace(sign, f"\\{sign}")
    return value.replace(",", "\\,")


def examples() -> list[dict[str, Any]]:
    return [
        json.loads(file.read_text(encoding="utf-8"))
        for file in sorted(EXAMPLES.glob("*.json"))
        if not file.name.startswith("Bundle-")
    ]


@pytest.mark.skipif(not EXAMPLES.is_dir(), reason="the shared samples are not there")
def test_the_examples_of_r4_are_found_by_what_they_say() -> None:
    """By every simple parameter of every example: the value as it stands in the JSON finds it."""
    asked = 0
    for resource in examples():
        world, type = World(resource), resource["resourceType"]
        for code, searchable in searchables(type).items():
            if searchable.refused or code in ("_id", "_lastUpdated"):
                continue
            for value in spelled(searchable, resource):
                if value.startswith(("#", "urn:uuid")) or "example.com" in value:
                    continue
                try:
                    plan = plan_search(type, [(code, escaped(value, searchable.kind))],
                                       secret=SECRET)  # fmt: skip
                except GatewayError as error:  # an example that its own definition refuses
                    assert error.issues[0].rule == "search-reference", (type, code, value)
                    continue
                assert world.run(plan) == [resource["id"]], (type, code, value)
                asked += 1
    assert asked > 900
