"""An institution and its Organization say the same thing."""

from __future__ import annotations

from typing import Any

from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from fhir_gateway.fhir.validate import issues
from fhir_gateway.security.institution import (
    LEVELS,
    NUMBER_KINDS,
    Institution,
    institution_of,
    level_of,
    organization_of,
)
from fhir_gateway.settings import CANONICAL

WORDS = st.from_regex(r"[a-zA-Z0-9一-龥]{1,12}", fullmatch=True)
INSTITUTIONS = st.builds(
    Institution,
    id=st.from_regex(r"[A-Za-z0-9\-.]{1,64}", fullmatch=True),
    name=WORDS,
    level=st.sampled_from([level.name_zh for level in LEVELS]),
    area=st.sampled_from(["", "110105", "120101"]),
    zone=st.sampled_from(["Asia/Shanghai", "Asia/Urumqi"]),
    charset=st.sampled_from(["GB18030", "UTF-8"]),
    identifier_systems=st.dictionaries(
        st.sampled_from(NUMBER_KINDS), WORDS.map(lambda word: f"urn:x:{word}")
    ),
    credit_code=st.sampled_from(["", "91350100M000100Y43"]),
    institution_code=st.sampled_from(["", "40068624011010511A1001"]),
    facilities=st.lists(WORDS, max_size=3).map(tuple),
    active=st.booleans(),
)


@settings(max_examples=examples(60), deadline=None)
@given(INSTITUTIONS)
def test_the_organization_is_valid_and_gives_the_institution_back(institution: Institution) -> None:
    organization = organization_of(institution)
    assert issues(organization) == []
    assert institution_of(organization) == institution


def test_an_organization_outside_the_registry_is_no_institution() -> None:
    assert institution_of({"resourceType": "Organization", "id": "a", "name": "科室"}) is None


def test_an_incomplete_entry_falls_back_to_the_usual() -> None:
    organization: dict[str, Any] = organization_of(Institution(id="a", name="示范"))
    del organization["extension"]
    usual = Institution(id="a", name="示范", zone_registered=False)
    assert institution_of(organization) == usual, "nobody said a zone"


def test_numbers_have_a_system_even_when_none_was_named() -> None:
    named = Institution(id="a", name="示范", identifier_systems={"report": "urn:a:report"})
    assert named.system("report") == "urn:a:report"
    assert named.system("patient") == f"{CANONICAL}/NamingSystem/a-patient"


def test_a_level_is_known_by_code_and_by_name() -> None:
    level = level_of("3A")
    assert level is not None
    assert level == level_of("三级甲等")
    assert (level.name_zh, level.rank) == ("三级甲等", 3)
    assert level_of("九级") is None


def test_level_codes_and_names_are_unique() -> None:
    names = [name for level in LEVELS for name in {level.code, level.name_zh}]
    assert len(names) == len(set(names))
