"""Validation against planted defects, published examples and mutations.

Defects are data (defects.json): one change to a sound sample, the path and the rule it must show.
"""

from __future__ import annotations

import bz2
import copy
import random
import time
from pathlib import Path
from typing import Any

import pytest
from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from fhir_gateway.errors import GatewayError, Structure, Unprocessable
from fhir_gateway.fhir import validate
from fhir_gateway.fhir.definitions import definitions
from fhir_gateway.fhir.primitives import PRIMITIVES, checker
from fhir_gateway.fhir.structs import decoder
from fhir_gateway.fhir.validate import issues, read_bundle, read_resource
from fhir_gateway.fhir.wire import parse, render

HERE = Path(__file__).parent
SAMPLES = {file.stem: parse(file.read_bytes()) for file in sorted(HERE.glob("samples/*.json"))}
DEFECTS: list[dict[str, Any]] = parse((HERE / "defects.json").read_bytes())["defects"]

SHARED = HERE.parents[2] / "shared" / "data" / "samples"

#: HL7's own example names an Encounter as performer, which R4 does not allow.
KNOWN_DEFECTS = {"Observation-clinical-gender.json": ["Observation.performer[0].reference"]}


def _locate(resource: Any, path: str) -> tuple[Any, Any]:
    *steps, last = [int(step) if step.isdigit() else step for step in path.split("/")]
    for step in steps:
        resource = resource[step]
    return resource, last


def _planted(defect: dict[str, Any]) -> dict[str, Any]:
    resource = copy.deepcopy(SAMPLES[defect["of"]])
    for path in defect.get("drop", ()):
        parent, last = _locate(resource, path)
        del parent[last]
    for path, value in defect.get("set", {}).items():
        parent, last = _locate(resource, path)
        parent[last] = value
    return resource


def _fast_says_yes(raw: bytes) -> bool:
    """What read_resource concludes without the walker."""
    walked: list[Any] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(validate, "issues", lambda *a, **k: walked.append(a) or [])
        read_resource(raw)
    return not walked


@pytest.mark.parametrize("name", SAMPLES)
def test_sound_sample_is_read_as_it_is(name: str) -> None:
    raw = render(SAMPLES[name])
    assert render(read_resource(raw, type=name)) == raw
    assert issues(SAMPLES[name]) == []


@pytest.mark.parametrize("name", [name for name in SAMPLES if name != "AllergyIntolerance"])
def test_structs_accept_ordinary_resources_without_the_walker(name: str) -> None:
    assert _fast_says_yes(render(SAMPLES[name]))


@pytest.mark.parametrize("defect", DEFECTS, ids=[defect["name"] for defect in DEFECTS])
def test_planted_defect_is_refused_with_its_path_and_rule(defect: dict[str, Any]) -> None:
    with pytest.raises(Unprocessable) as refusal:
        read_resource(render(_planted(defect)))
    found = [(issue.expression, issue.rule) for issue in refusal.value.issues]
    assert (defect["at"], defect["rule"]) in found
    assert len(found) == 1


def test_all_issues_are_listed_at_once() -> None:
    resource = copy.deepcopy(SAMPLES["Observation"])
    resource |= {"status": "x", "issued": "today", "colour": 1}
    assert sorted(issue.expression or "" for issue in issues(resource)) == [
        "Observation.colour",
        "Observation.issued",
        "Observation.status",
    ]


def test_issues_never_quote_the_value() -> None:
    resource = {"resourceType": "Patient", "gender": "SECRET", "birthDate": "SECRET", "x y": 1}
    assert all("SECRET" not in issue.diagnostics for issue in issues(resource))
    assert "Patient.(name)" in [issue.expression for issue in issues(resource)]


def test_issue_list_ends_at_a_hundred() -> None:
    assert len(issues({"resourceType": "Patient", **{f"x{i}": 1 for i in range(1000)}})) == 100


def test_type_of_the_address_must_be_the_type_of_the_body() -> None:
    with pytest.raises(Unprocessable) as refusal:
        read_resource(b'{"resourceType":"Patient"}', type="Observation")
    assert [issue.rule for issue in refusal.value.issues] == ["resource-type"]


@pytest.mark.parametrize(
    "raw", [b"{}", b'{"resourceType":"Foo"}', b'{"resourceType":1}', b'{"resourceType":"Element"}']
)
def test_unknown_resource_type_is_refused(raw: bytes) -> None:
    with pytest.raises(Unprocessable) as refusal:
        read_resource(raw)
    assert [issue.rule for issue in refusal.value.issues] == ["resource-type"]


@pytest.mark.parametrize(
    ("insert", "rule"),
    [
        ('"status":"final","status":"preliminary"', "duplicate-key"),
        ('"status":"final","valueQuantity":{"value":NaN}', "json"),
        ('"status":"final","valueQuantity":{"value":-Infinity}', "json"),
        ('"status":"final","valueQuantity":{"value":1e999}', "number-range"),
        (f'"status":"final","valueQuantity":{{"value":{"9" * 5000}}}', "number-length"),
        (f'"status":"final","valueQuantity":{{"value":{"9" * 41}}}', "number-length"),
        (f'"status":"final","valueQuantity":{{"value":0.{"1" * 5000}}}', "number-length"),
        ('"status":"final","note":[{"text":"a\\u0000b"}]', "control-character"),
        ('"status":"final","note":[{"text":"\\ud800"}]', "json"),
        (f'"status":"final","extension":{"[" * 70}{"]" * 70}', "depth"),
        (f'"status":"final","extension":{"[" * 100_000}', "depth"),
        (
            '"status":"final"' + ',"extension":[{"url":"a"' * 40 + "}]" * 40,
            "depth",
        ),
    ],
)
def test_unreadable_body_is_refused_by_rule(insert: str, rule: str) -> None:
    raw = f'{{"resourceType":"Observation","code":{{"text":"a"}},{insert}}}'.encode()
    with pytest.raises(Structure) as refusal:
        read_resource(raw)
    assert [issue.rule for issue in refusal.value.issues] == [rule]


@pytest.mark.parametrize(
    "reference",
    [
        "Patient/1",
        "Patient/1/_history/2",
        "urn:uuid:0b5ad8a5-4a5f-4c5e-9f0a-0d6c1f3b0a11",
        "urn:oid:2.16.156",
        "Patient?identifier=http://h1.example.org|7",
        "https://h1.example.org/fhir/Patient/1",
    ],
)
def test_every_lawful_form_of_a_reference_is_accepted(reference: str) -> None:
    resource = copy.deepcopy(SAMPLES["Observation"])
    resource["subject"] = {"reference": reference}
    assert read_resource(render(resource)) == resource


@pytest.mark.parametrize("spelling", ["7.10", "1e2", "1E-3", "-0", "-0.0", "0.0000001", "100"])
def test_numbers_keep_their_spelling(spelling: str) -> None:
    raw = (
        f'{{"resourceType":"Observation","status":"final","code":{{"text":"a"}},'
        f'"valueQuantity":{{"value":{spelling}}}}}'
    ).encode()
    assert render(read_resource(raw)) == raw


def test_decoder_of_every_resource_type_can_be_built() -> None:
    for type in definitions().resource_types:
        decoder(type)


def test_resource_with_only_its_type_needs_what_is_required() -> None:
    for type in definitions().resource_types:
        raw = f'{{"resourceType":"{type}"}}'.encode()
        required = [e.name for e in definitions().types[type].elements.values() if e.low]
        if not required:
            assert read_resource(raw) == {"resourceType": type}
            continue
        with pytest.raises(Unprocessable) as refusal:
            read_resource(raw)
        assert [i.expression for i in refusal.value.issues] == [f"{type}.{n}" for n in required]


def _published() -> list[Path]:
    files = [*SHARED.glob("fhir-r4-examples/*.json"), *SHARED.glob("au-core/*.json")]
    return sorted(files)


@pytest.mark.skipif(not SHARED.is_dir(), reason="the folder of published examples is not here")
def test_published_examples_validate() -> None:
    refused = {}
    for file in _published():
        try:
            read_resource(file.read_bytes())
        except GatewayError as error:
            refused[file.name] = [issue.expression for issue in error.issues]
    assert refused == KNOWN_DEFECTS


@pytest.mark.skipif(not SHARED.is_dir(), reason="the folder of published examples is not here")
def test_synthea_bundles_validate_entry_by_entry() -> None:
    count = 0
    files = sorted(SHARED.glob("synthea/*.bz2"), key=lambda file: file.stat().st_size)
    for file in files[:6]:
        for entry in read_bundle(bz2.decompress(file.read_bytes())).entries:
            assert entry.resource_raw is not None
            read_resource(entry.resource_raw)
            count += 1
    assert count > 1000


JUNK = [
    None,
    True,
    0,
    -1,
    1.5,
    "",
    " ",
    "a b",
    "2026-02-30",
    [],
    {},
    [None],
    {"a": 1},
    "#x",
    "<p/>",
]


def _mutated(resource: Any, chance: random.Random) -> Any:
    """One to three changes: junk for a value, a member gone, a value moved elsewhere."""
    resource = copy.deepcopy(resource)
    for _ in range(chance.randint(1, 3)):
        parents = [resource]
        for parent in parents:
            children = parent.values() if isinstance(parent, dict) else parent
            parents.extend(child for child in children if isinstance(child, (dict, list)))
        parent = chance.choice([p for p in parents if p])
        place = chance.choice(list(parent) if isinstance(parent, dict) else range(len(parent)))
        action = chance.randrange(4)
        if action == 0:
            parent[place] = copy.deepcopy(chance.choice(JUNK))
        elif action == 1:
            del parent[place]
        elif action == 2:
            parent[place] = copy.deepcopy(chance.choice(parents))
        elif isinstance(parent, dict):
            parent[chance.choice(["value", "valueCode", "_id", "url", "x", "code"])] = "a"
    return resource


@settings(max_examples=examples(300), deadline=None)
@given(st.sampled_from(sorted(SAMPLES)), st.integers(0, 2**32))
def test_structs_never_accept_what_the_walker_refuses(name: str, seed: int) -> None:
    raw = render(_mutated(SAMPLES[name], random.Random(seed)))
    try:
        accepted = _fast_says_yes(raw)
    except GatewayError:
        accepted = False
    if accepted:
        assert issues(parse(raw)) == []


@settings(max_examples=examples(300), deadline=None)
@given(st.sampled_from(sorted(SAMPLES)), st.data())
def test_damaged_bytes_are_read_or_refused_but_never_crash(name: str, data: st.DataObject) -> None:
    raw = bytearray(render(SAMPLES[name]))
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    for read in (read_resource, read_bundle):
        try:
            read(bytes(raw))
        except GatewayError as error:
            assert 400 <= error.status < 500


#: Values at the edges of each primitive: (lawful, unlawful).
EDGES: dict[str, tuple[list[Any], list[Any]]] = {
    "base64Binary": (["YWJj", "YW Jj\n", "YQ=="], ["", "YQ", "*", "Y=Jj", 1]),
    "boolean": ([True, False], ["true", 1, 0, None]),
    "canonical": (["http://a|1", "#a"], ["", "a b"]),
    "code": (["a", "a b", "阴性"], ["", " a", "a  b", "a\tb", "a\n"]),
    "date": (["2026", "2024-02-29", "2000-02-29"], ["1900-02-29", "2026-04-31", "2026-1-1", "26"]),
    "dateTime": (["2026-05", "2026-05-01T00:00:60Z"], ["2026-05T10:00:00Z", "2026-05-01T10Z"]),
    "decimal": ([0, 1.5, 10**39], ["1", True, 10**400]),
    "id": (["a-B.1"], ["", "a_b", "a" * 65]),
    "instant": (["2026-05-01T00:00:00.123456+14:00"], ["2026-05-01", "2026-05-01T00:00:00+14:01"]),
    "integer": ([0, -(2**31), 2**31 - 1], [2**31, 1.0, "1", True]),
    "markdown": (["# a\n\nb", " "], ["", 1]),
    "oid": (["urn:oid:2.16.156"], ["2.16.156", "urn:oid:3.1", "urn:oid:2.01"]),
    "positiveInt": ([1], [0, -1]),
    "string": (["a\u3000b", " "], ["", None, "a" * 1_048_577]),
    "time": (["08:00:00", "08:00:00.5"], ["08:00", "24:00:00", "08:00:00Z"]),
    "unsignedInt": ([0], [-1]),
    "uri": (["urn:a", "http://例.example"], ["", "a b"]),
    "url": (["http://a"], ["", "a b"]),
    "uuid": (["urn:uuid:0b5ad8a5-4a5f-4c5e-9f0a-0d6c1f3b0a11"], ["urn:uuid:0", "urn:uuid:G"]),
    "xhtml": (
        ["<div>a<br/></div>", "<div a='b'>&nbsp;<!-- c --></div>"],
        ["<div/>", "<div>a", "<div><object/></div>", "<div><a href='javascript:a'>b</a></div>"],
    ),
}  # fmt: skip


def test_every_primitive_of_r4_has_edges_and_a_row() -> None:
    primitives = {name for name, type in definitions().types.items() if type.kind == "primitive"}
    assert set(PRIMITIVES) == primitives == set(EDGES)


@pytest.mark.parametrize("type", EDGES)
def test_primitive_edges(type: str) -> None:
    lawful, unlawful = EDGES[type]
    assert [value for value in lawful if not checker(type)(value)] == []
    assert [value for value in unlawful if checker(type)(value)] == []


@pytest.mark.parametrize(
    "unit", ["a", " ", "a ", "<b>", "<div a='b' ", "</div> ", "<!-- ", "0.", "="]
)
def test_hostile_texts_are_judged_in_linear_time(unit: str) -> None:
    text = "<div>" + unit * (300_000 // len(unit)) + "\x85"
    start = time.process_time()
    for type in EDGES:
        checker(type)(text)
    assert time.process_time() - start < 1
