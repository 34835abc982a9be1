"""JSON and XML say the same: both ways, for published, minimal and generated resources."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from effort import TORTURE, examples
from hypothesis import given, settings
from hypothesis import strategies as st
from minimal import minimal
from xml_cases import HERE, SHARED, generated, loose, official, same

from fhir_gateway.fhir.definitions import definitions
from fhir_gateway.fhir.structures import BASE, structure
from fhir_gateway.fhir.wire import parse, render
from fhir_gateway.fhir.xml_plan import slots
from fhir_gateway.fhir.xml_read import json_of, read_xml
from fhir_gateway.fhir.xml_write import write_xml, xml_of

TYPES = definitions().resource_types

PATIENT = b"""{"resourceType":"Patient","birthDate":"2026","_birthDate":{"id":"b","extension":[
{"url":"http://x.example/e","valueDecimal":1.10}]},"active":true,"id":"p",
"text":{"status":"generated","div":"<div xmlns=\\"http://www.w3.org/1999/xhtml\\">&nbsp;x<br></div>"},
"name":[{"id":"n","given":["A",null,"\\u7532 & \\"B\\""],
"_given":[null,{"extension":[{"url":"u","valueCode":"masked"}]},null]}],
"contained":[{"resourceType":"Basic","id":"c","code":{"text":"a\\tb"}}]}"""

PATIENT_XML = """<?xml version="1.0" encoding="UTF-8"?>
<Patient xmlns="http://hl7.org/fhir">
  <id value="p"/>
  <text>
    <status value="generated"/>
    <div xmlns="http://www.w3.org/1999/xhtml">\u00a0x<br/></div>
  </text>
  <contained>
    <Basic>
      <id value="c"/>
      <code>
        <text value="a&#9;b"/>
      </code>
    </Basic>
  </contained>
  <active value="true"/>
  <name id="n">
    <given value="A"/>
    <given>
      <extension url="u">
        <valueCode value="masked"/>
      </extension>
    </given>
    <given value="甲 &amp; &quot;B&quot;"/>
  </name>
  <birthDate id="b" value="2026">
    <extension url="http://x.example/e">
      <valueDecimal value="1.10"/>
    </extension>
  </birthDate>
</Patient>"""


def test_a_resource_in_xml_is_what_the_standard_shows() -> None:
    assert xml_of(PATIENT, pretty=True).decode() == PATIENT_XML
    assert same(read_xml(PATIENT_XML.encode())) == same(parse(PATIENT))


def test_without_layout_xml_says_the_same_on_two_lines() -> None:
    short = xml_of(PATIENT)
    assert short.count(b"\n") == 1
    assert same(read_xml(short)) == same(parse(PATIENT))


def _both_ways(resource: dict[str, Any]) -> None:
    xml = write_xml(resource)
    back = read_xml(xml)
    assert same(back) == same(resource)
    assert write_xml(back) == xml
    assert same(read_xml(write_xml(resource, pretty=True))) == same(resource)


@pytest.mark.parametrize("file", sorted(HERE.glob("samples/*.json")), ids=lambda file: file.stem)
def test_samples_go_both_ways(file: Path) -> None:
    _both_ways(parse(file.read_bytes()))


@pytest.mark.parametrize("type", TYPES)
def test_the_smallest_resource_of_every_type_goes_both_ways(type: str) -> None:
    _both_ways(minimal(type))


@pytest.mark.skipif(not SHARED.is_dir(), reason="the folder of published examples is not here")
def test_published_examples_go_both_ways() -> None:
    files = [*SHARED.glob("fhir-r4-examples/*.json"), *SHARED.glob("au-core/*.json")]
    for file in sorted(files)[:: 1 if TORTURE else 4]:
        _both_ways(parse(file.read_bytes()))


def test_a_share_of_hl7s_examples_goes_both_ways() -> None:
    small = [file for file in official() if file.stat().st_size < 100_000]
    assert len(small) > 4_000
    for file in small[::50]:
        _both_ways(parse(file.read_bytes()))


@pytest.mark.torture
@pytest.mark.parametrize("part", range(8))
def test_all_of_hl7s_examples_go_both_ways(part: int) -> None:
    for file in official()[part::8]:
        _both_ways(parse(file.read_bytes()))


@given(type=st.sampled_from(TYPES), seed=st.integers(0, 2**32))
@settings(max_examples=examples(40))
def test_generated_resources_go_both_ways(type: str, seed: int) -> None:
    resource = generated(type, random.Random(seed))
    _both_ways(resource)
    assert same(parse(json_of(write_xml(resource)))) == same(parse(render(resource)))
    assert same(read_xml(loose(resource))) == same(resource)


def test_the_generator_makes_what_is_hard() -> None:
    chance = random.Random(1)
    made = [generated(type, chance) for type in TYPES]
    text = render(made).decode()
    for hard in ('"_', "null,", '"contained"', '"resource":{', "1e2", "xhtml", '"valueDecimal"'):
        assert hard in text, hard


@pytest.mark.parametrize("type", ["Patient", "Observation", "Bundle", "Extension", "Timing"])
def test_elements_stand_in_the_order_of_the_standard(type: str) -> None:
    found = structure(f"{BASE}{type}")
    assert found is not None
    names = [
        element["path"].removeprefix(f"{type}.").removesuffix("[x]")
        for element in found["snapshot"]["element"]
        if element["path"].count(".") == 1
    ]
    assert list(dict.fromkeys(slot.shown for slot in slots(type).values())) == names


def test_attributes_are_those_of_the_standard() -> None:
    for type in ("Extension", "Period", "Patient", "Identifier", "Meta", "Narrative"):
        found = structure(f"{BASE}{type}")
        assert found is not None
        named = {
            element["path"].rpartition(".")[2]
            for element in found["snapshot"]["element"]
            if "xmlAttr" in element.get("representation", ()) and element["path"].count(".") == 1
        }
        assert {slot.name for slot in slots(type).values() if slot.attribute} == named
