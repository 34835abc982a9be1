"""The examples of the profiles: good ones are good, bad ones break what they say and no more."""

from __future__ import annotations

import csv
import json
import re
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import fhirkit
import pytest

from fhir_gateway.app import profile_resources
from fhir_gateway.cli.profiles_check import COLUMNS, check, counts, expected_faults
from fhir_gateway.cli.profiles_package import examples_of
from fhir_gateway.fhir.wire import render
from fhir_gateway.settings import CANONICAL, Settings, load_settings
from fhir_gateway.terminology.identifier import valid_id_number

SETTINGS = load_settings({})
PROFILES = Path(SETTINGS.profiles)


def test_profiles_compile_and_examples_are_judged_as_they_say() -> None:
    found = check(SETTINGS)
    assert found.faults == []
    assert found.profiles > 30
    assert found.examples > 180


def test_every_profile_on_a_resource_has_good_and_bad_examples() -> None:
    found = counts(SETTINGS.profiles)
    few = {
        one["id"]: found.get(one["id"])
        for one in profile_resources(SETTINGS.profiles)
        if one["resourceType"] == "StructureDefinition"
        and one["type"] != "Extension"
        and (found.get(one["id"], (0, 0))[0] < 3 or found.get(one["id"], (0, 0))[1] < 5)
    }
    assert few == {}


def test_the_table_names_each_bad_example_and_no_good_one() -> None:
    with (PROFILES / "examples" / "expected.csv").open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        rows = list(reader)
    assert tuple(reader.fieldnames or ()) == COLUMNS
    assert {row["file"].partition("/")[0] for row in rows} == {row["profile"] for row in rows}
    bad = {file for file, _ in examples_of(SETTINGS.profiles) if "/bad-" in file}
    assert {row["file"] for row in rows} == bad
    assert {row["severity"] for row in rows} == {"error", "warning"}


def test_every_rule_of_a_profile_is_broken_by_an_example() -> None:
    """A rule that no example breaks may say nothing."""
    broken = {
        rule for faults in expected_faults(SETTINGS.profiles).values() for _, rule, _ in faults
    }
    rules = {
        rule["key"]
        for one in profile_resources(SETTINGS.profiles)
        if one["resourceType"] == "StructureDefinition"
        for element in one["differential"]["element"]
        for rule in element.get("constraint", ())
    }
    assert rules - broken == set()


def test_ids_of_examples_are_unique_and_each_claims_its_profile() -> None:
    found = list(examples_of(SETTINGS.profiles))
    ids = Counter(f"{one['resourceType']}/{one['id']}" for _, one in found)
    assert [name for name, times in ids.items() if times > 1] == []
    for file, one in found:
        profile = file.partition("/")[0]
        assert one["meta"]["profile"] == [f"{CANONICAL}/StructureDefinition/{profile}"], file


def test_another_validator_finds_the_good_examples_sound() -> None:
    """fhirkit knows R4 and no profiles; the bad ones that break R4 itself are told apart."""
    broken = [
        f"{file}: {issue}"
        for file, one in examples_of(SETTINGS.profiles)
        for issue in fhirkit.validate(render(one).decode())
        if "/good-" in file
    ]
    assert broken == []


def test_numbers_of_examples_belong_to_nobody() -> None:
    """Regions of the card numbers do not exist, or stand for a whole region (81, 82, 83)."""
    text = "\n".join(
        path.read_text(encoding="utf-8") for path in (PROFILES / "examples").rglob("*.json")
    )
    numbers = [n for n in re.findall(r"\"([0-9]{17}[0-9X])\"", text) if valid_id_number(n)]
    assert numbers
    assert {n[:6] for n in numbers} <= {"119900", "810000", "820000", "830000"}


@pytest.fixture
def copied(tmp_path: Path) -> Settings:
    """The profiles folder as a copy that a test may change."""
    shutil.copytree(PROFILES, tmp_path / "profiles")
    return replace(SETTINGS, profiles=str(tmp_path / "profiles"))


def test_what_is_wrong_with_the_folder_is_said(copied: Settings) -> None:
    folder = Path(copied.profiles)
    example = folder / "examples" / "patient" / "good-id-card.json"
    text = example.read_text(encoding="utf-8")
    example.write_text(text.replace("119900195803120010", "119900195803120011"), encoding="utf-8")
    (folder / "examples" / "patient" / "bad-sex.json").unlink()
    profile = folder / "StructureDefinition" / "slot.json"
    structure = json.loads(profile.read_text(encoding="utf-8"))
    structure["differential"]["element"] += [
        {"id": "Slot.nonsense", "path": "Slot.nonsense"},
        {
            "id": "Slot.status",
            "path": "Slot.status",
            "binding": {"strength": "required", "valueSet": "{CANONICAL}/ValueSet/nowhere"},
        },
    ]
    profile.write_text(json.dumps(structure), encoding="utf-8")
    faults = "\n".join(check(copied).faults)
    assert "patient/good-id-card.json: error gb11643-check at Patient.identifier[0].value" in faults
    assert "expected.csv: there is no patient/bad-sex.json" in faults
    assert "Slot.nonsense" in faults
    assert "nobody defines" in faults
    assert "ValueSet/nowhere" in faults
