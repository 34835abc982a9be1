"""The FHIR package: what stands in it, that others can read it, and that it is reproducible."""

from __future__ import annotations

import importlib
import io
import json
import re
import tarfile
from pathlib import Path
from typing import Any

import fhirkit
import pytest

from fhir_gateway.cli.profiles_package import PACKAGE, package
from fhir_gateway.rest.operations import OPERATIONS
from fhir_gateway.settings import CANONICAL, load_settings

#: Identity documents are told by the name of the national table, whatever root stands before it.
NAMED_BY_SENDERS = "/CodeSystem/CV02.01.101"
#: Urls of properties of maps, not of an extension.
NO_EXTENSION = "/StructureDefinition/mapping-condition"
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def packed() -> bytes:
    return package(load_settings({}))


@pytest.fixture(scope="module")
def files(packed: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
        members = [member for member in tar if member.isfile()]
        return {one.name: content.read() for one in members if (content := tar.extractfile(one))}


@pytest.fixture(scope="module")
def resources(files: dict[str, bytes]) -> dict[str, dict[str, Any]]:
    return {
        name: json.loads(body)
        for name, body in files.items()
        if re.fullmatch(r"package/(?:example/)?[A-Z][A-Za-z]+-.+\.json", name)
    }


def test_the_same_folders_give_the_same_bytes(packed: bytes) -> None:
    assert package(load_settings({})) == packed


def test_it_says_what_it_is_and_what_it_needs(files: dict[str, bytes]) -> None:
    about = json.loads(files["package/package.json"])
    assert about["name"] == PACKAGE
    assert about["canonical"] == CANONICAL
    assert about["dependencies"] == {"hl7.fhir.r4.core": "4.0.1"}
    assert about["fhirVersions"] == ["4.0.1"]
    assert b"LOINC" in files["package/other/NOTICE.txt"]


def test_all_kinds_of_definitions_and_the_good_examples_are_there(
    resources: dict[str, dict[str, Any]],
) -> None:
    main = {
        name.split("/")[1].partition("-")[0]
        for name in resources
        if not name.startswith("package/example/")
    }
    assert main >= {
        "CapabilityStatement", "CodeSystem", "ImplementationGuide", "NamingSystem",
        "OperationDefinition", "PlanDefinition", "StructureDefinition", "ValueSet",
    }  # fmt: skip
    examples = [name for name in resources if name.startswith("package/example/")]
    assert len(examples) > 60
    assert not any("-bad-" in name for name in examples)
    published = {one.get("code") for one in resources.values() if "affectsState" in one}
    assert {row.definition.code for row in OPERATIONS.values()} <= published


def test_every_structure_has_a_snapshot_and_a_differential(
    resources: dict[str, dict[str, Any]],
) -> None:
    structures = [r for r in resources.values() if r["resourceType"] == "StructureDefinition"]
    assert len(structures) > 30
    for one in structures:
        elements = one["snapshot"]["element"]
        assert len(elements) >= len(one["differential"]["element"]), one["id"]
        assert one["status"] == "draft"
        assert one["experimental"] is True


def test_other_readers_of_fhir_find_every_resource_sound(
    resources: dict[str, dict[str, Any]], files: dict[str, bytes]
) -> None:
    told = []
    for name, resource in resources.items():
        told += [f"{name}: {issue}" for issue in fhirkit.validate(files[name].decode())]
        type = resource["resourceType"]
        model = getattr(importlib.import_module(f"fhir.resources.R4B.{type.lower()}"), type)
        model.model_validate(resource)
    assert told == []


def test_what_our_definitions_name_under_our_root_is_in_the_package(
    resources: dict[str, dict[str, Any]], files: dict[str, bytes]
) -> None:
    known = {str(one.get("url", "")) for one in resources.values()}
    known |= {unique["value"] for one in resources.values() for unique in one.get("uniqueId", ())}
    kinds = "StructureDefinition|ValueSet|CodeSystem|OperationDefinition|CapabilityStatement"
    pattern = re.compile(rf'"({re.escape(CANONICAL)}/(?:{kinds})/[^"|#]+)')
    missing = {
        f"{name}: {url}"
        for name, body in files.items()
        if name.startswith("package/")
        for url in pattern.findall(body.decode())
        if url not in known
    }
    assert {one for one in missing if not one.endswith(NAMED_BY_SENDERS)} == set()
    assert not any(b"{CANONICAL}" in body for body in files.values())


def test_extensions_and_code_systems_that_the_code_names_are_defined(
    resources: dict[str, dict[str, Any]],
) -> None:
    known = {str(one.get("url", "")) for one in resources.values()}
    pattern = re.compile(r'f"\{CANONICAL\}/((?:StructureDefinition|CodeSystem)/[a-z][a-z-]+)"')
    named = {
        f"{CANONICAL}/{found}"
        for path in sorted((ROOT / "fhir_gateway").rglob("*.py"))
        for found in pattern.findall(path.read_text(encoding="utf-8"))
    }
    assert len(named) > 15
    assert {one for one in named - known if not one.endswith(NO_EXTENSION)} == set()


def test_the_guide_lists_every_resource_once(resources: dict[str, dict[str, Any]]) -> None:
    guide = next(r for r in resources.values() if r["resourceType"] == "ImplementationGuide")
    listed = [one["reference"]["reference"] for one in guide["definition"]["resource"]]
    assert len(listed) == len(set(listed))
    names = {f"{r['resourceType']}/{r['id']}" for r in resources.values() if r is not guide}
    assert set(listed) == names


def test_the_capability_statement_asks_for_our_profiles_and_tells_of_no_instance(
    resources: dict[str, dict[str, Any]],
) -> None:
    stated = next(r for r in resources.values() if r["resourceType"] == "CapabilityStatement")
    assert stated["kind"] == "requirements"
    assert "implementation" not in stated
    by_type = {one["type"]: one for one in stated["rest"][0]["resource"]}
    supported = by_type["Observation"]["supportedProfile"]
    assert f"{CANONICAL}/StructureDefinition/laboratory-observation" in supported
    assert "supportedProfile" not in by_type["Account"]
