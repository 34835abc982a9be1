"""`fhir-gateway profiles`: what it prints, what it writes, and how it fails."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from fhir_gateway.cli import main
from fhir_gateway.cli.profiles_package import package
from fhir_gateway.settings import load_settings

PROFILES = load_settings({}).profiles


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["profiles", *arguments])


def test_list_names_profiles_before_extensions() -> None:
    rows = json.loads(run("list", "--json").output)
    types = [row["type"] == "Extension" for row in rows]
    assert types == sorted(types)
    patient = next(row for row in rows if row["id"] == "patient")
    assert (patient["type"], patient["title"]) == ("Patient", "患者")
    assert patient["good"] > 10
    assert "laboratory-observation" in run("list").output


def test_check_counts_and_finds_nothing_wrong() -> None:
    result = run("check", "--json")
    said = json.loads(result.output)
    assert (result.exit_code, said["faults"]) == (0, [])


def test_show_has_limits_and_rules() -> None:
    output = run("show", "slot").output
    assert "Slot.extension:capacity" in output
    assert "error slot-time: A slot ends after it begins" in output
    unknown = run("show", "nonsense")
    assert unknown.exit_code == 1
    assert "profiles list" in unknown.output


def test_package_writes_what_the_function_makes(tmp_path: Path) -> None:
    out = tmp_path / "profiles.tgz"
    out.write_bytes(b"an older one")
    result = run("package", "--out", str(out))
    assert result.exit_code == 0, result.output
    assert out.read_bytes() == package(load_settings({}))
    assert [one.name for one in tmp_path.iterdir()] == ["profiles.tgz"]


def test_a_package_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    result = run("package", "--out", str(tmp_path / "nowhere" / "p.tgz"))
    assert result.exit_code == 1
    assert "cannot be written" in result.output


def test_a_broken_profile_stops_the_package_with_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(PROFILES, tmp_path / "profiles")
    file = tmp_path / "profiles" / "StructureDefinition" / "patient.json"
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace('"Patient.telecom"', '"Patient.telephone"'), encoding="utf-8")
    monkeypatch.setenv("FHIR_GATEWAY_PROFILES", str(tmp_path / "profiles"))
    result = run("package", "--out", str(tmp_path / "p.tgz"))
    assert result.exit_code == 1
    assert "patient: There is no element Patient.telephone" in result.output
    assert not (tmp_path / "p.tgz").exists()
    checked = run("check")
    assert checked.exit_code == 1
    assert "FAILED  StructureDefinition.differential.element" in checked.output
