"""Identifiers are found by every name of their system, and never by another number.

The matcher of this module knows nothing of the table of the program: it has its own.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from databases import need_postgres
from effort import examples
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from search_loader import SECRET, Loader
from search_twin import Twin, twin

from fhir_gateway.search.index import Extractor
from fhir_gateway.search.planner import plan_search
from fhir_gateway.terminology.naming import IdentifierSystem, naming_of

NAMING = naming_of([
    IdentifierSystem("card", "urn:oid:1.2.1", ("urn:oid:1.2.2", "http://card.example"),
                     "id-number"),
    IdentifierSystem("permit", "http://permit.example", ("urn:oid:1.2.3",), "upper"),
    IdentifierSystem("exact", "http://exact.example", ("urn:oid:1.2.4",)),
])  # fmt: skip

PROGRAM = Path(__file__).parents[2] / "fhir_gateway"

PLANNERS = ("plan_search", "plan_compartment", "Extractor")

#: Names of a kind, and how its numbers are compared: written down again, by hand.
GROUPS: dict[str, tuple[tuple[str, ...], str]] = {
    "card": (("urn:oid:1.2.1", "1.2.1", "urn:oid:1.2.2", "1.2.2", "http://card.example"), "id"),
    "permit": (("http://permit.example", "urn:oid:1.2.3", "1.2.3"), "upper"),
    "exact": (("http://exact.example", "urn:oid:1.2.4", "1.2.4"), ""),
    "oid": (("urn:oid:1.2.9", "1.2.9"), ""),
    "own": (("http://own.example",), ""),
    "none": (("",), ""),
}
SYSTEMS = [name for names, _ in GROUPS.values() for name in names]
VALUES = ["12x", "12X", "１２x", "1 2X", "h7", "H7", "Ｈ7"]
TYPES = [("t", "A"), ("t", "B"), ("", "A")]


def kind(system: str) -> str:
    return next(name for name, (names, _) in GROUPS.items() if system in names)


def folded(group: str, value: str) -> str:
    how = GROUPS[group][1]
    if not how:
        return value
    wide = {"１": "1", "２": "2", "Ｈ": "H" if how == "upper" else "Ｈ", " ": ""}
    text = "".join(wide.get(sign, sign) for sign in value)
    return text.replace("x", "X") if how == "id" else text.upper()


def same(identifier: dict[str, Any], asked: str) -> bool:
    """A token of a search, by the words of hl7.org/fhir/R4/search.html#token."""
    group = kind(identifier.get("system", ""))
    number = folded(group, identifier["value"])
    if "|" not in asked:
        return asked == identifier["value"] or folded(group, asked) == number
    system, value = asked.split("|")
    if kind(system) != group:
        return False
    return not value or folded(group, value) == number


def typed(identifier: dict[str, Any], asked: str) -> bool:
    system, code, value = asked.split("|")
    group = kind(identifier.get("system", ""))
    named = {(one.get("system", ""), one["code"]) for one in identifier["type"]["coding"]}
    return (system, code) in named and folded(group, value) == folded(group, identifier["value"])


identifier = st.builds(
    lambda system, value, type: {
        **({"system": system} if system else {}), "value": value,
        "type": {"coding": [{**({"system": type[0]} if type[0] else {}), "code": type[1]}]},
    },
    st.sampled_from(SYSTEMS), st.sampled_from(VALUES), st.sampled_from(TYPES),
)  # fmt: skip
people = st.lists(st.lists(identifier, min_size=1, max_size=3), min_size=1, max_size=6)
token = st.one_of(
    st.sampled_from(VALUES),
    st.builds("{}|{}".format, st.sampled_from(SYSTEMS), st.sampled_from(VALUES)),
    st.builds("{}|".format, st.sampled_from([name for name in SYSTEMS if name])),
)
tokens = st.lists(token, min_size=1, max_size=3, unique=True)
of_type = st.builds(
    lambda type, value: f"{type[0]}|{type[1]}|{value}",
    st.sampled_from(TYPES), st.sampled_from(VALUES),
)  # fmt: skip


@pytest.fixture(scope="module")
def other() -> Iterator[Twin]:
    need_postgres()
    made = twin()
    yield made
    made.close()
    twin.cache_clear()


def filled(people: list[list[dict[str, Any]]]) -> Loader:
    loader = Loader()
    loader.extractor = Extractor(SECRET, naming=NAMING)
    for number, identifiers in enumerate(people):
        loader.put({"resourceType": "Patient", "id": f"p{number}", "identifier": identifiers})
        loader.put({
            "resourceType": "Observation", "id": f"o{number}",
            "subject": {"reference": f"Patient/p{number}", "identifier": identifiers[0]},
        })  # fmt: skip
    return loader


def ids(loader: Loader, type: str, name: str, value: str, other: Twin | None) -> list[str]:
    plan = plan_search(type, [(name, value)], secret=SECRET, naming=NAMING)
    page = loader.run(plan)
    if other is not None:
        assert other.run(loader, plan) == page
    assert plan.applied == ((name, value),)  # as it was asked
    return [match.id for match in page.matches]


def check(people: list[list[dict[str, Any]]], asked: list[str], other: Twin | None) -> None:
    loader, value = filled(people), ",".join(asked)

    def those(letter: str, meets: Any) -> list[str]:
        return [f"{letter}{n}" for n, one in enumerate(people) if meets(one)]

    def carried(one: list[dict[str, Any]]) -> bool:
        return any(same(identifier, text) for identifier in one for text in asked)

    found = those("p", carried)
    assert ids(loader, "Patient", "identifier", value, other) == found
    assert ids(loader, "Patient", "identifier:not", value, other) == those(
        "p", lambda one: not carried(one)
    )
    assert ids(loader, "Observation", "subject:Patient.identifier", value, other) == [
        name.replace("p", "o") for name in found
    ]
    assert ids(loader, "Observation", "subject:identifier", value, other) == those(
        "o", lambda one: any(same(one[0], text) for text in asked)
    )


@settings(max_examples=examples(40), deadline=None)
@given(people, tokens)
def test_a_number_is_found_by_every_name(
    people: list[list[dict[str, Any]]], asked: list[str]
) -> None:
    check(people, asked, None)


@settings(
    max_examples=examples(8), deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip
@given(people, tokens)
def test_both_databases_find_the_same(
    other: Twin, people: list[list[dict[str, Any]]], asked: list[str]
) -> None:
    check(people, asked, other)


@settings(max_examples=examples(40), deadline=None)
@given(people, of_type)
def test_of_type_folds_what_its_system_folds(
    people: list[list[dict[str, Any]]], asked: str
) -> None:
    found = ids(filled(people), "Patient", "identifier:of-type", asked, None)
    assert found == [
        f"p{n}"
        for n, one in enumerate(people)
        if any(typed(identifier, asked) for identifier in one)
    ]


def test_every_call_of_the_planner_names_the_systems() -> None:
    """A search that is planned without them would miss what the index folds, in silence."""
    count = 0
    for path in sorted(PROGRAM.rglob("*.py")):
        source = path.read_bytes()
        if not any(name.encode() in source for name in PLANNERS):
            continue
        for node in ast.walk(ast.parse(source)):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
                continue
            if node.func.id in PLANNERS:
                count += 1
                named = any(keyword.arg == "naming" for keyword in node.keywords)
                assert named or len(node.args) == 3, f"{path}:{node.lineno}"
    assert count >= 10
