"""What value sets and hierarchies mean in a search: as the matcher has it, on both databases."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from databases import need_postgres
from effort import examples
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from search_loader import SECRET, Loader
from search_matcher import ABOVE, HOLDS, World
from search_twin import Twin, twin

from fhir_gateway.errors import Invalid, NotSupported, TooCostly
from fhir_gateway.interactions.search_codes import SearchCodes
from fhir_gateway.search.plan import AllOf, AnyOf, Chain, Has, SearchPlan, Token
from fhir_gateway.search.planner import plan_search
from fhir_gateway.search.types.coded import MAX_CODES
from fhir_gateway.terminology.service import of_resources

ZOO, HERBS = "http://zoo.example", "http://herbs.example"
STATUS = "http://hl7.org/fhir/observation-status"
ABOVE[ZOO] = {"a": "", "b": "a", "c": "b", "d": "b", "e": "a", "f": ""}
ABOVE[HERBS] = {"a": "", "c": "a"}
SETS = {
    "http://v.example/some": {(ZOO, "c"), (ZOO, "e"), (HERBS, "a")},
    "http://v.example/one": {(ZOO, "f")},
    "http://v.example/none": set[tuple[str, str]](),
    "http://v.example/all": {(ZOO, code) for code in ABOVE[ZOO]},
}
HOLDS.update(SETS)


def systems() -> list[dict[str, Any]]:
    found = []
    for url, above in ABOVE.items():
        concepts = [
            {"code": code, **({"property": [{"code": "parent", "valueCode": up}]} if up else {})}
            for code, up in above.items()
        ]
        found.append({"resourceType": "CodeSystem", "url": url, "status": "active",
                      "content": "complete", "concept": concepts})  # fmt: skip
    return found


KNOWN = of_resources(systems())
CODES = SearchCodes(KNOWN, {url: frozenset(pairs) for url, pairs in SETS.items()})

coding = st.fixed_dictionaries(
    {"code": st.sampled_from([*ABOVE[ZOO]])}, optional={"system": st.sampled_from([ZOO, HERBS])}
)
concept = st.builds(lambda codings: {"coding": codings}, st.lists(coding, min_size=1, max_size=3))
PEOPLE = ["p0", "p1"]
observation = st.fixed_dictionaries(
    {
        "resourceType": st.just("Observation"),
        "status": st.sampled_from(["final", "amended"]),
        "subject": st.sampled_from([{"reference": f"Patient/{id}"} for id in PEOPLE]),
    },
    optional={"code": concept, "category": st.lists(concept, min_size=1, max_size=2)},
)
cities = st.lists(observation, max_size=8)

url = st.lists(st.sampled_from([*SETS]), min_size=1, max_size=2, unique=True).map(",".join)
token = st.one_of(
    *(st.builds("{}|{}".format, st.just(system), st.sampled_from([*above]))
      for system, above in ABOVE.items() if system in (ZOO, HERBS))
)  # fmt: skip
tokens = st.lists(token, min_size=1, max_size=2, unique=True).map(",".join)
asked = st.one_of(
    st.tuples(st.sampled_from(["code:in", "code:not-in", "category:in", "category:not-in"]), url),
    st.tuples(st.sampled_from(["code:below", "code:above", "category:below"]), tokens),
    st.tuples(st.just("status"), st.just("final")),
)
results = st.tuples(
    st.just("Observation"),
    st.lists(asked, min_size=1, max_size=2),
    st.sampled_from(["", "patient=p0"]),
)
persons = st.tuples(
    st.just("Patient"),
    st.lists(
        asked.map(lambda one: (f"_has:Observation:patient:{one[0]}", one[1])),
        min_size=1, max_size=2,
    ),
    st.just(""),
)  # fmt: skip


def stored(chosen: list[dict[str, Any]]) -> tuple[Loader, World]:
    loader = Loader()
    people = [{"resourceType": "Patient", "id": id} for id in PEOPLE]
    every = [*people, *({**one, "id": f"o{number}"} for number, one in enumerate(chosen))]
    for one in every:
        loader.put(one)
    return loader, World(every)


def planned(type: str, pairs: list[tuple[str, str]]) -> SearchPlan:
    return plan_search(type, pairs, secret=SECRET, codes=CODES)


@settings(max_examples=examples(80), deadline=None)
@given(cities, st.one_of(results, persons))
def test_the_index_agrees_with_the_matcher(chosen: list[dict[str, Any]], query: Any) -> None:
    type, pairs, bound = query
    extra = [("patient", "p0")] if bound else []
    loader, world = stored(chosen)
    page = loader.run(planned(type, [*pairs, *extra]))
    assert [one.id for one in page.matches] == world.matching(type, [*pairs, *extra])


@pytest.fixture(scope="module")
def other() -> Iterator[Twin]:
    """The database of PostgreSQL."""
    need_postgres()
    made = twin()
    yield made
    made.close()
    twin.cache_clear()


@settings(
    max_examples=examples(30), deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip
@given(cities, st.one_of(results, persons), st.integers(1, 3))
def test_pages_are_the_same_on_both_databases(
    other: Twin, chosen: list[dict[str, Any]], query: Any, count: int
) -> None:
    type, pairs, bound = query
    extra = [("patient", "p0")] if bound else []
    loader, _ = stored(chosen)
    plan = planned(type, [*pairs, *extra, ("_count", str(count))])
    assert loader.run(plan) == other.run(loader, plan)


def tokens_of(plan: SearchPlan) -> list[Token]:
    found: list[Token] = []
    stack: list[Any] = list(plan.conditions)
    while stack:
        one = stack.pop()
        if isinstance(one, Token):
            found.append(one)
        elif isinstance(one, AnyOf | AllOf | Has):
            stack += one.conditions
        elif isinstance(one, Chain):
            stack += [inner for branch in one.targets for inner in branch.conditions]
    return found


def test_a_bare_code_is_of_the_systems_of_its_binding() -> None:
    sets = {"in": frozenset({(STATUS, "final"), (ZOO, "amended")}),
            "out": frozenset({(ZOO, "final")})}  # fmt: skip
    codes = SearchCodes(KNOWN, sets)
    loader = Loader()
    loader.put({"resourceType": "Observation", "id": "o", "status": "final"})
    loader.put({"resourceType": "Observation", "id": "m", "status": "amended"})
    for name, value, expected in (
        ("status:in", "in", ["o"]), ("status:not-in", "in", ["m"]),
        ("status:in", "out", []), ("status:not-in", "out", ["o", "m"]),
    ):  # fmt: skip
        plan = plan_search("Observation", [(name, value)], secret=SECRET, codes=codes)
        assert [one.id for one in loader.run(plan).matches] == expected


def test_as_many_codes_as_are_searched_at_once() -> None:
    for count in (MAX_CODES, MAX_CODES + 1):
        codes = SearchCodes(KNOWN, {"v": frozenset((ZOO, str(n)) for n in range(count))})
        pairs = [("code:in", "v")]
        if count > MAX_CODES:
            with pytest.raises(TooCostly, match="1,001 codes"):
                plan_search("Observation", pairs, secret=SECRET, codes=codes)
        else:
            plan = plan_search("Observation", pairs, secret=SECRET, codes=codes)
            assert len(tokens_of(plan)[0].alternatives) == MAX_CODES


def test_nothing_is_remembered_of_what_codes_mean() -> None:
    pairs = [("code:in", "v")]
    plans = []
    for code in ("a", "b"):
        codes = SearchCodes(KNOWN, {"v": frozenset({(ZOO, code)})})
        plans.append(plan_search("Observation", pairs, secret=SECRET, codes=codes))
    assert tokens_of(plans[0]) != tokens_of(plans[1])


@pytest.mark.parametrize("code", ["code", "_tag", "_security", "status", "value-concept"])
@pytest.mark.parametrize("modifier", ["in", "not-in", "above", "below"])
def test_without_terminology_they_are_not_offered(code: str, modifier: str) -> None:
    value = f"{ZOO}|a" if modifier in ("above", "below") else "http://v.example/one"
    with pytest.raises(NotSupported) as refused:
        plan_search("Observation", [(f"{code}:{modifier}", value)], secret=SECRET)
    assert refused.value.issues[0].rule == "not-offered"


@pytest.mark.parametrize(
    ("type", "name"),
    [
        ("Observation", "identifier:in"), ("Patient", "phone:in"), ("Patient", "active:below"),
        ("CodeSystem", "code:in"), ("Observation", "_id:in"), ("Observation", "date:in"),
        ("Patient", "name:in"), ("Observation", "code-value-concept:in"),
    ],
)  # fmt: skip
def test_what_has_no_codes_has_no_value_sets(type: str, name: str) -> None:
    with pytest.raises((Invalid, NotSupported)) as refused:
        plan_search(type, [(name, "http://v.example/one")], secret=SECRET, codes=CODES)
    assert refused.value.issues[0].rule in ("not-offered", "unknown-modifier")
