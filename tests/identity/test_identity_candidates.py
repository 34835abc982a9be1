"""The searches for candidates: they can be planned whatever a record holds, and lead to whom they
should."""

from __future__ import annotations

from typing import Any

from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from identity_pairs import pairs
from identity_people import ID_SYSTEM, with_check

from fhir_gateway.identity.candidates import NUMBERS, blocks, candidates
from fhir_gateway.identity.record import record_of
from fhir_gateway.search.planner import plan_search
from fhir_gateway.security.actor import Access
from fhir_gateway.settings import load_settings
from fhir_gateway.terminology.naming_files import load_naming

NAMING = load_naming(load_settings({}).profiles)
CARD = with_check("99010519800506124")

#: What FHIR lets stand in a string, line breaks too.
_SIGNS = st.characters(exclude_categories=("Cs", "Cc"), include_characters="\n\t")
_TEXTS = st.text(_SIGNS, max_size=30) | st.sampled_from(
    ["王芳", "王芳之女", "a,b", "x|y", "$", "\\", "阿依古丽·买买提", "ZHANG  WEI", "?", CARD]
)
_PATIENTS = st.fixed_dictionaries(
    {"resourceType": st.just("Patient")},
    optional={
        "identifier": st.lists(st.fixed_dictionaries(
            {}, optional={"system": _TEXTS | st.just(ID_SYSTEM), "value": _TEXTS}), max_size=3),
        "name": st.lists(st.fixed_dictionaries(
            {}, optional={"text": _TEXTS, "family": _TEXTS, "given": st.lists(_TEXTS, max_size=2)}),
            max_size=3),
        "birthDate": st.sampled_from(["1980", "1980-05", "1980-05-06", "2020-02-29"]),
    },
)  # fmt: skip


@settings(max_examples=examples(200), deadline=None)
@given(_PATIENTS)
def test_every_search_has_a_meaning(patient: dict[str, Any]) -> None:
    for block in blocks(patient, record_of(patient, NAMING)):
        for way in block.ways:
            plan = plan_search("Patient", way, secret=b"k" * 32, naming=NAMING)
            assert plan.conditions


def test_few_searches_are_made() -> None:
    for pair in pairs(3, 200):
        found = blocks(pair.one, record_of(pair.one, NAMING))
        assert len(found) <= 9
        assert [one.by for one in found].count(NUMBERS) <= 1


def test_what_only_tells_the_sex_leads_nowhere() -> None:
    patient = {"resourceType": "Patient", "gender": "male", "birthDate": "1980-05-06"}
    assert blocks(patient, record_of(patient, NAMING)) == []


def test_most_pairs_of_one_person_are_found(start):
    """The records of one side are stored; those of the other lead to them."""
    gateway = start(open_access=True)
    asked = {}
    for number, pair in enumerate(pairs(1, 40, same=1.0)):
        answer = gateway.put(f"/fhir/Patient/c{number}", {**pair.other, "id": f"c{number}"})
        assert answer.status_code == 201, answer.text
        asked[f"c{number}"] = pair.one
    met = 0
    for id, patient in asked.items():
        wanted = blocks(patient, record_of(patient, NAMING))
        found = gateway.run(candidates(gateway.gateway, Access(), wanted))
        assert found.costly == found.cut == ()
        met += id in {stored.id for stored in found.found}
    assert met / len(asked) > 0.9


def test_records_that_the_caller_may_not_see_are_no_candidates(start):
    gateway = start()
    headers = gateway.institution("keeper")
    patient = {
        "resourceType": "Patient", "id": "kept", "name": [{"text": "王小芳"}],
        "identifier": [{"system": ID_SYSTEM, "value": CARD}],
    }  # fmt: skip
    answer = gateway.put("/fhir/Patient/kept", patient, headers=headers)
    assert answer.status_code == 201, answer.text
    wanted = blocks(patient, record_of(patient, NAMING))
    for access, ids in ((Access(), ["kept"]), (Access(owners=frozenset({1})), [])):
        found = gateway.run(candidates(gateway.gateway, access, wanted))
        assert [stored.id for stored in found.found] == ids
    matched = gateway.post("/fhir/Patient/$match", patient, headers=headers)
    assert matched.json()["total"] == 1
    assert gateway.post("/fhir/Patient/$match", patient).status_code == 401
