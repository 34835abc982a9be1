"""Units and specimens: comparable, not comparable, or not known; nothing is converted."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from fhir_gateway.terminology import unit
from fhir_gateway.terminology.catalogue import load_catalogue
from fhir_gateway.terminology.specimen import (
    canonical_specimen,
    compare_specimens,
    specimen_classes,
    specimen_of,
)
from fhir_gateway.terminology.unit import canonical_unit, compare_units

HERE = Path(__file__).parent
FOLDER = HERE.parents[1] / "terminology"
ANSWERS = {"yes": True, "no": False, "": None}


def cases(name: str) -> list[tuple[str, str, bool | None]]:
    with (HERE / name).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return [(row["found"], row["wanted"], ANSWERS[row["comparable"]]) for row in rows]


@pytest.mark.parametrize(("found", "wanted", "expected"), cases("units.csv"))
def test_units_are_compared_as_the_table_says(
    found: str, wanted: str, expected: bool | None
) -> None:
    assert compare_units(found, wanted) is expected


@pytest.mark.parametrize(("found", "wanted", "expected"), cases("specimens.csv"))
def test_specimens_are_compared_as_the_table_says(
    found: str, wanted: str, expected: bool | None
) -> None:
    assert compare_specimens(found, wanted) is expected


def test_every_unit_and_specimen_of_the_catalogue_is_known() -> None:
    items = load_catalogue(FOLDER).of("lab")
    assert [
        i.code for i in items if i.ucum_unit and canonical_unit(i.ucum_unit) != i.ucum_unit
    ] == []
    assert [i.code for i in items if not specimen_classes(i.specimen)] == []


def test_no_spelling_means_two_units() -> None:
    owners: dict[str, set[str]] = {}
    for ucum, _, _, others in unit._OTHERS:
        for spelling in (ucum, *others.split()):
            owners.setdefault(unit._fold(spelling), set()).add(ucum)
    shared = {spelling: ucums for spelling, ucums in owners.items() if len(ucums) > 1}
    generic = [ucum for spelling, (ucum,) in owners.items() if unit._SPELLINGS[spelling] != ucum]
    assert (shared, generic) == ({}, [])


@settings(max_examples=examples(100), deadline=None)
@given(st.text(max_size=20), st.text(max_size=20))
def test_any_text_can_be_asked(found: str, wanted: str) -> None:
    assert compare_units(found, wanted) in (True, False, None)
    assert compare_specimens(found, wanted) in (True, False, None)


@settings(max_examples=examples(100), deadline=None)
@given(st.sampled_from(sorted(unit._MEANINGS)), st.sampled_from(sorted(unit._MEANINGS)))
def test_known_units_are_comparable_in_both_directions_or_in_none(one: str, other: str) -> None:
    forward, backward = compare_units(one, other), compare_units(other, one)
    assert not (forward is True and backward is False)
    assert compare_units(one, one) is True


def test_a_specimen_is_read_from_the_reference_or_from_the_contained_resource() -> None:
    contained = {"resourceType": "Specimen", "id": "s", "type": {"coding": [{"code": "SER"}]}}
    assert specimen_of({"specimen": {"display": "血清"}}) == "血清"
    assert specimen_of({"specimen": {"reference": "#s"}, "contained": [contained]}) == "SER"
    assert specimen_of({"specimen": [{"reference": "#s"}], "contained": [contained]}) == "SER"
    assert specimen_of({"specimen": {"reference": "Specimen/s"}}) == ""
    assert specimen_of({}) == ""


def test_a_canonical_specimen_names_its_classes_in_order() -> None:
    assert canonical_specimen("血清/血浆") == "plasma/serum"
    assert canonical_specimen("神秘液") == ""
