"""The index agrees with the matcher: the same ids by two ways that share no code."""

from __future__ import annotations

from typing import Any

from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from search_loader import Loader
from search_matcher import matching, period_of

SYSTEMS = ["http://loinc.org", "http://local.example"]
CODES = ["718-7", "HGB", "a"]

day = st.sampled_from(["2023-12-31", "2024-01-01", "2024-02-29", "2024-03-01", "2024-12-31"])
moment = st.builds(
    "{}T{}{}".format,
    day,
    st.sampled_from(["00:00:00", "07:59:59", "15:59:59", "16:00:00", "23:59:59"]),
    st.sampled_from(["Z", "+08:00", "-05:00"]),
)
date = st.one_of(st.sampled_from(["2023", "2024", "2024-02", "2024-03"]), day, moment)
period = (
    st.fixed_dictionaries({}, optional={"start": date, "end": date})
    .filter(bool)
    .filter(lambda one: period_of(one)[0] <= period_of(one)[1])  # invariant per-1 of FHIR
)
prefix = st.sampled_from(["", "eq", "ne", "gt", "lt", "ge", "le", "sa", "eb"])

coding = st.fixed_dictionaries(
    {"code": st.sampled_from(CODES)}, optional={"system": st.sampled_from(SYSTEMS)}
)
concept = st.builds(lambda codings: {"coding": codings}, st.lists(coding, min_size=1, max_size=3))
identifier = st.fixed_dictionaries(
    {"value": st.sampled_from(CODES)}, optional={"system": st.sampled_from(SYSTEMS)}
)
identifiers = st.lists(identifier, min_size=1, max_size=2)
token = st.one_of(
    st.sampled_from(CODES),
    st.builds("{}|{}".format, st.sampled_from([*SYSTEMS, ""]), st.sampled_from(CODES)),
    st.builds("{}|".format, st.sampled_from(SYSTEMS)),
)
quantity = st.builds(lambda n: {"value": n / 4}, st.integers(-8, 8))


def shaped(**optional: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=optional)


observation = st.builds(
    lambda required, optional, when: {**required, **optional, **when},
    st.fixed_dictionaries(
        {
            "resourceType": st.just("Observation"),
            "status": st.sampled_from(["final", "amended"]),
            "code": concept,
            "subject": st.builds(
                lambda id: {"reference": f"Patient/{id}"}, st.sampled_from(["p0", "p1"])
            ),
        }
    ),
    shaped(
        category=st.lists(concept, min_size=1, max_size=2),
        identifier=identifiers,
        valueQuantity=quantity,
        encounter=st.just({"reference": "Encounter/e"}),
    ),
    st.one_of(shaped(effectiveDateTime=date), shaped(effectivePeriod=period)),
)

TEXTS = ["王", "王小明", "欧阳", "娜", "Müller", "MULLER", "Anna", "ann", "é", "李"]
text = st.sampled_from(TEXTS)
name = st.fixed_dictionaries(
    {}, optional={"text": text, "family": text, "given": st.lists(text, min_size=1, max_size=2)}
).filter(bool)
patient = shaped(
    name=st.lists(name, min_size=1, max_size=2),
    birthDate=st.one_of(st.sampled_from(["2023", "2024-02"]), day),
    gender=st.sampled_from(["male", "female"]),
    identifier=identifiers,
)

missing = st.sampled_from(["true", "false"])


def either(values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.lists(values, min_size=1, max_size=3, unique=True).map(",".join)


def asked(parameters: dict[str, st.SearchStrategy[str]]) -> st.SearchStrategy[Any]:
    one = st.one_of(*(st.tuples(st.just(name), values) for name, values in parameters.items()))
    return st.lists(one, min_size=1, max_size=3)


dated = either(st.builds("{}{}".format, prefix, date))
observation_query = asked(
    {
        "code": either(token),
        "code:not": either(token),
        "category": either(token),
        "category:not": either(token),
        "category:missing": missing,
        "status": either(st.sampled_from(["final", "amended", "registered"])),
        "identifier": either(token),
        "identifier:missing": missing,
        "patient": st.sampled_from(["p0", "p1", "p9", "p0,p1"]),
        "encounter": st.just("Encounter/e"),
        "encounter:missing": missing,
        "date": dated,
        "value-quantity": st.sampled_from(["gt0", "le0.5", "gt-1.25", "gt1,le-1"]),
        "value-quantity:missing": missing,
    }
)
patient_query = asked(
    {
        "name": either(text),
        "name:contains": either(text),
        "name:exact": either(text),
        "name:missing": missing,
        "family": either(text),
        "birthdate": dated,
        "birthdate:missing": missing,
        "gender": st.sampled_from(["male", "female", "male,female"]),
        "identifier": either(token),
    }
)


def found(loader: Loader, type: str, query: list[tuple[str, str]]) -> list[str]:
    url = "&".join(f"{name}={value}" for name, value in [*query, ("_total", "accurate")])
    page = loader.page(f"{type}?{url}")
    ids = [match.id for match in page.matches]
    assert page.total == len(ids)
    return ids


@settings(max_examples=examples(80), deadline=None)
@given(st.lists(observation, max_size=8), st.lists(observation_query, min_size=1, max_size=4))
def test_observations(resources: list[dict[str, Any]], queries: list[Any]) -> None:
    loader = Loader()
    for id in ("p0", "p1"):
        loader.put({"resourceType": "Patient", "id": id})
    for number, resource in enumerate(resources):
        loader.put({**resource, "id": f"o{number}"})
    stored = loader.resources.get("Observation", [])
    for query in queries:
        assert found(loader, "Observation", query) == matching(stored, query)


@settings(max_examples=examples(60), deadline=None)
@given(st.lists(patient, max_size=6), st.lists(patient_query, min_size=1, max_size=4))
def test_patients(resources: list[dict[str, Any]], queries: list[Any]) -> None:
    loader = Loader()
    for number, resource in enumerate(resources):
        loader.put({"resourceType": "Patient", "id": f"p{number}", **resource})
    for query in queries:
        expected = matching(loader.resources.get("Patient", []), query)
        assert found(loader, "Patient", query) == expected


@settings(max_examples=examples(60), deadline=None)
@given(st.lists(patient, max_size=6), st.lists(patient_query, min_size=1, max_size=4))
def test_resources_of_home_0(resources: list[dict[str, Any]], queries: list[Any]) -> None:
    """Practitioners share one home with everything else that belongs to nobody."""
    loader = Loader()
    kept = ("name", "gender", "identifier")
    for number, resource in enumerate(resources):
        short = {key: value for key, value in resource.items() if key in kept}
        loader.put({"resourceType": "Practitioner", "id": f"p{number}", **short})
    for query in queries:
        known = [(name, value) for name, value in query if not name.startswith("birth")]
        expected = matching(loader.resources.get("Practitioner", []), known)
        assert found(loader, "Practitioner", known) == expected
