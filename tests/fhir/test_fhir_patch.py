"""JSON Patch and FHIRPath Patch on a resource, without a store: what changes, and nothing else."""

from __future__ import annotations

import json

import pytest
from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from fhir_gateway.errors import GatewayError, Invalid, Structure, TooCostly, Unprocessable
from fhir_gateway.fhir.fhirpath_patch import apply_fhirpath_patch, read_fhirpath_patch
from fhir_gateway.fhir.json_patch import apply_json_patch, read_json_patch
from fhir_gateway.fhir.wire import parse, render

PATIENT = {
    "resourceType": "Patient",
    "id": "p",
    "active": True,
    "name": [{"family": "甲", "given": ["一", "二"], "_given": [None, {"id": "g2"}]}],
    "birthDate": "1970-03-30",
    "_birthDate": {"extension": [{"url": "http://x.example/time", "valueString": "8"}]},
    "identifier": [
        {"system": "urn:a", "value": "1"},
        {"system": "urn:b", "value": "2"},
        {"system": "urn:c", "value": "3"},
    ],
    "contact": [{"name": {"text": "乙"}, "gender": "male"}],
    "deceasedBoolean": False,
    "extension": [{"url": "http://x.example/one", "valueCode": "x"}],
    "contained": [{"resourceType": "Organization", "id": "o", "name": "甲院"}],
}


def _operation(**parts):
    named = []
    for name, value in parts.items():
        if isinstance(value, dict):
            named.append({"name": name, **value})
        elif isinstance(value, int):
            named.append({"name": name, "valueInteger": value})
        else:
            named.append({"name": name, "valueCode" if name == "type" else "valueString": value})
    return {"name": "operation", "part": named}


def _patched(*operations, resource=None):
    body = json.loads(json.dumps(resource or PATIENT))
    parameters = {"resourceType": "Parameters", "parameter": [_operation(**o) for o in operations]}
    apply_fhirpath_patch(body, read_fhirpath_patch(parameters))
    return body


def _changed(*operations):
    """The members that differ, None for those that are gone."""
    after = _patched(*operations)
    names = {**PATIENT, **after}
    return {name: after.get(name) for name in names if after.get(name) != PATIENT.get(name)}


CASES = [
    ("no operation", [], {}),
    (
        "a primitive is replaced, with what stood beside it",
        [{"type": "replace", "path": "Patient.birthDate", "value": {"valueDate": "1971-01-01"}}],
        {"birthDate": "1971-01-01", "_birthDate": None},
    ),
    (
        "a primitive is deleted, with what stood beside it",
        [{"type": "delete", "path": "Patient.birthDate"}],
        {"birthDate": None, "_birthDate": None},
    ),
    ("what is not there is deleted already", [{"type": "delete", "path": "Patient.gender"}], {}),
    (
        "an element is added",
        [{"type": "add", "path": "Patient", "name": "gender", "value": {"valueCode": "male"}}],
        {"gender": "male"},
    ),
    (
        "a complex element is added",
        [{
            "type": "add", "path": "Patient", "name": "maritalStatus",
            "value": {"valueCodeableConcept": {"text": "已婚"}},
        }],
        {"maritalStatus": {"text": "已婚"}},
    ),
    (
        "a value of a type without a name comes in parts",
        [{
            "type": "add", "path": "Patient", "name": "contact",
            "value": {"part": [
                {"name": "name", "valueHumanName": {"text": "丙"}},
                {"name": "relationship", "valueCodeableConcept": {"text": "母"}},
                {"name": "relationship", "valueCodeableConcept": {"text": "友"}},
            ]},
        }],
        {"contact": [*PATIENT["contact"], {
            "name": {"text": "丙"}, "relationship": [{"text": "母"}, {"text": "友"}],
        }]},
    ),
    (
        "an addition to a list goes to its end",
        [{
            "type": "add", "path": "Patient", "name": "identifier",
            "value": {"valueIdentifier": {"value": "4"}},
        }],
        {"identifier": [*PATIENT["identifier"], {"value": "4"}]},
    ),
    (
        "an insertion goes where it says",
        [{
            "type": "insert", "path": "Patient.identifier", "index": 1,
            "value": {"valueIdentifier": {"value": "4"}},
        }],
        {"identifier": [PATIENT["identifier"][0], {"value": "4"}, *PATIENT["identifier"][1:]]},
    ),
    (
        "an insertion into what is not there begins a list",
        [{
            "type": "insert", "path": "Patient.telecom", "index": 0,
            "value": {"valueContactPoint": {"value": "4"}},
        }],
        {"telecom": [{"value": "4"}]},
    ),
    (
        "an insertion keeps what stands beside the others",
        [{
            "type": "insert", "path": "Patient.name[0].given", "index": 0,
            "value": {"valueString": "零"},
        }],
        {"name": [{
            "family": "甲", "given": ["零", "一", "二"], "_given": [None, None, {"id": "g2"}],
        }]},
    ),
    (
        "a move takes what stands beside along",
        [{"type": "move", "path": "Patient.name.given", "source": 1, "destination": 0}],
        {"name": [{"family": "甲", "given": ["二", "一"], "_given": [{"id": "g2"}, None]}]},
    ),
    (
        "a deletion from a list takes what stands beside along",
        [{"type": "delete", "path": "Patient.name.given[1]"}],
        {"name": [{"family": "甲", "given": ["一"]}]},
    ),
    (
        "a move to the end",
        [{"type": "move", "path": "Patient.identifier", "source": 0, "destination": 2}],
        {"identifier": [*PATIENT["identifier"][1:], PATIENT["identifier"][0]]},
    ),
    (
        "one of a list is deleted",
        [{"type": "delete", "path": "Patient.identifier[1]"}],
        {"identifier": [PATIENT["identifier"][0], PATIENT["identifier"][2]]},
    ),
    (
        "one of a list is found by its content",
        [{
            "type": "replace", "path": "Patient.identifier.where(system = 'urn:b').value",
            "value": {"valueString": "9"},
        }],
        {"identifier": [
            PATIENT["identifier"][0], {"system": "urn:b", "value": "9"}, PATIENT["identifier"][2],
        ]},
    ),
    (
        "the last of a list",
        [{"type": "delete", "path": "Patient.identifier.last()"}],
        {"identifier": PATIENT["identifier"][:2]},
    ),
    (
        "what is empty after a deletion goes too",
        [{"type": "delete", "path": "Patient.contact[0].name.text"}],
        {"contact": [{"gender": "male"}]},
    ),
    (
        "up to the top",
        [
            {"type": "delete", "path": "Patient.contact[0].name.text"},
            {"type": "delete", "path": "Patient.contact[0].gender"},
        ],
        {"contact": None},
    ),
    (
        "a choice changes its type",
        [{
            "type": "replace", "path": "Patient.deceased",
            "value": {"valueDateTime": "2026-01-01T00:00:00Z"},
        }],
        {"deceasedBoolean": None, "deceasedDateTime": "2026-01-01T00:00:00Z"},
    ),
    (
        "a choice by its type",
        [{"type": "delete", "path": "Patient.deceased.ofType(boolean)"}],
        {"deceasedBoolean": None},
    ),
    (
        "a choice in brackets",
        [{"type": "delete", "path": "(Patient.deceased as boolean)"}],
        {"deceasedBoolean": None},
    ),
    (
        "an extension is found by its url",
        [{
            "type": "replace", "path": "Patient.extension('http://x.example/one').value",
            "value": {"valueCode": "y"},
        }],
        {"extension": [{"url": "http://x.example/one", "valueCode": "y"}]},
    ),
    (
        "an extension of a primitive is deleted, the primitive stays",
        [{"type": "delete", "path": "Patient.birthDate.extension[0]"}],
        {"_birthDate": None},
    ),
    (
        "something contained is changed",
        [{
            "type": "replace", "path": "Patient.contained.where(id = 'o').name",
            "value": {"valueString": "乙院"},
        }],
        {"contained": [{"resourceType": "Organization", "id": "o", "name": "乙院"}]},
    ),
    (
        "something contained is added",
        [{
            "type": "add", "path": "Patient", "name": "contained",
            "value": {"resource": {"resourceType": "Location", "id": "l"}},
        }],
        {"contained": [*PATIENT["contained"], {"resourceType": "Location", "id": "l"}]},
    ),
    (
        "a narrative comes as a string",
        [{
            "type": "add", "path": "Patient", "name": "text",
            "value": {"part": [
                {"name": "status", "valueCode": "generated"},
                {"name": "div", "valueString": "<div>x</div>"},
            ]},
        }],
        {"text": {"status": "generated", "div": "<div>x</div>"}},
    ),
    (
        "later operations see what earlier ones did",
        [
            {"type": "delete", "path": "Patient.identifier[0]"},
            {"type": "delete", "path": "Patient.identifier[0]"},
        ],
        {"identifier": [PATIENT["identifier"][2]]},
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("operations", "expected"),
    [case[1:] for case in CASES],
    ids=[case[0] for case in CASES],
)
def test_an_operation_changes_one_place(operations, expected):
    assert _changed(*operations) == expected


def test_an_extension_of_a_primitive_stands_beside_it():
    extension = {"url": "http://x.example/e", "valueCode": "x"}
    parameters = {"resourceType": "Parameters", "parameter": [{"name": "operation", "part": [
        {"name": "type", "valueCode": "add"},
        {"name": "path", "valueString": "Patient.active"},
        {"name": "name", "valueString": "extension"},
        {"name": "value", "part": [
            {"name": "url", "valueUri": extension["url"]},
            {"name": "value", "valueCode": "x"},
        ]},
    ]}]}  # fmt: skip
    body = json.loads(json.dumps(PATIENT))
    apply_fhirpath_patch(body, read_fhirpath_patch(parameters))
    assert body["_active"] == {"extension": [extension]}


@pytest.mark.parametrize(
    "operation",
    [
        {"type": "add", "path": "Patient", "name": "active", "value": {"valueBoolean": True}},
        {"type": "add", "path": "Patient", "name": "nonsense", "value": {"valueBoolean": True}},
        {"type": "add", "path": "Patient", "name": "gender", "value": {"valueString": "male"}},
        {"type": "add", "path": "Patient", "name": "gender", "value": {"valueInteger": 1}},
        {"type": "add", "path": "Patient.link", "name": "type", "value": {"valueCode": "x"}},
        {"type": "add", "path": "Patient.identifier", "name": "use", "value": {"valueCode": "x"}},
        {"type": "add", "path": "Patient", "name": "deceased", "value": {"valueString": "x"}},
        {"type": "add", "path": "Patient", "name": "deceased", "value": {"valueDateTime": "2026"}},
        {"type": "add", "path": "Patient", "name": "gender", "value": {}},
        {"type": "insert", "path": "Patient.birthDate", "index": 0, "value": {"valueDate": "1"}},
        {"type": "insert", "path": "Patient", "index": 0, "value": {"valueDate": "1"}},
        {
            "type": "insert",
            "path": "Patient.identifier",
            "index": 4,
            "value": {"valueIdentifier": {}},
        },
        {
            "type": "insert",
            "path": "Patient.identifier",
            "index": -1,
            "value": {"valueIdentifier": {}},
        },
        {"type": "delete", "path": "Patient.identifier"},
        {"type": "delete", "path": "Patient"},
        {"type": "replace", "path": "Patient", "value": {"part": []}},
        {"type": "replace", "path": "Patient.gender", "value": {"valueCode": "male"}},
        {"type": "replace", "path": "Patient.identifier", "value": {"valueIdentifier": {}}},
        {"type": "move", "path": "Patient.identifier", "source": 3, "destination": 0},
        {"type": "move", "path": "Patient.identifier", "source": 0, "destination": 3},
        {"type": "move", "path": "Patient.telecom", "source": 0, "destination": 0},
        {"type": "move", "path": "Patient.active", "source": 0, "destination": 0},
        {"type": "delete", "path": "Observation.code"},
        {"type": "delete", "path": "birthDate"},
        {"type": "delete", "path": "Patient.birthDate.value"},
        {"type": "delete", "path": "Patient.deceasedBoolean"},
        {"type": "delete", "path": "Patient.managingOrganization.resolve()"},
        {"type": "delete", "path": "Patient.name.where(family = '甲'"},
        {"type": "delete", "path": "Patient.name.where(nonsense = '甲')"},
        {"type": "delete", "path": "Patient.name[x]"},
        {"type": "delete", "path": "Patient.name[99999999]"},
        {"type": "delete", "path": "Patient..name"},
        {"type": "delete", "path": "Patient.name.first(1)"},
        {"type": "delete", "path": "Patient | Patient.name"},
        {"type": "delete", "path": "((((" * 200},
        {"type": "delete", "path": "Patient.name" + ".given" * 400},
        {"type": "delete", "path": "Patient.name.where(" + "(" * 400 + ")" * 400 + ")"},
        {"type": "delete", "path": ""},
    ],
)
def test_an_operation_that_cannot_be_is_refused_by_its_number(operation):
    harmless = {"type": "delete", "path": "Patient.gender"}
    with pytest.raises(Unprocessable) as refused:
        _patched(harmless, operation)
    issue = refused.value.issues[0]
    assert issue.expression == "Parameters.parameter[1]"
    assert issue.diagnostics.startswith(f"Operation 1 ({operation['type']}): ")
    assert "甲" not in issue.diagnostics


@pytest.mark.parametrize(
    "operation",
    [
        {"path": "Patient.gender"},
        {"type": "delete"},
        {"type": "nonsense", "path": "Patient.gender"},
        {"type": "add", "path": "Patient", "value": {"valueCode": "male"}},
        {"type": "add", "path": "Patient", "name": "gender"},
        {"type": "insert", "path": "Patient.name", "value": {"valueHumanName": {}}},
        {"type": "move", "path": "Patient.name", "source": 0},
        {"type": "delete", "path": "Patient.gender", "value": {"valueCode": "male"}},
        {"type": "delete", "path": 3},
    ],
)
def test_a_malformed_operation_is_invalid(operation):
    with pytest.raises(Invalid) as refused:
        _patched(operation)
    assert refused.value.issues[0].rule == "patch-operation"


def test_parts_that_stand_twice_are_refused():
    part = {"name": "type", "valueCode": "delete"}
    parameters = {"parameter": [{"name": "operation", "part": [part, part]}]}
    with pytest.raises(Invalid):
        read_fhirpath_patch(parameters)


def test_a_patch_has_a_bounded_number_of_operations():
    one = {"type": "delete", "path": "Patient.gender"}
    with pytest.raises(TooCostly):
        _patched(*[one] * 1_001)


def test_a_patch_visits_a_bounded_part_of_the_resource():
    names = [{"given": ["x"] * 50} for _ in range(100)]
    crowd = {"resourceType": "Patient", "name": names}
    one = {"type": "delete", "path": "Patient.name.given.where($this = 'y')"}
    with pytest.raises(Unprocessable, match="visits too much"):
        _patched(*[one] * 100, resource=crowd)
    assert _patched(one, resource=crowd) == crowd


def test_a_primitive_is_found_by_its_value():
    one = {"type": "delete", "path": "Patient.name.given.where($this = '一')"}
    assert _changed(one)["name"] == [{"family": "甲", "given": ["二"], "_given": [{"id": "g2"}]}]


# -- JSON Patch ----------------------------------------------------------------------------------


def _json(operations, document=PATIENT):
    body = json.dumps(operations).encode()
    return apply_json_patch(parse(render(document)), read_json_patch(body))


def test_json_patch_does_what_rfc_6902_says():
    after = _json([
        {"op": "test", "path": "/active", "value": True},
        {"op": "replace", "path": "/active", "value": False},
        {"op": "add", "path": "/identifier/-", "value": {"value": "4"}},
        {"op": "remove", "path": "/contact/0/gender"},
        {"op": "move", "from": "/birthDate", "path": "/note~1~0"},
        {"op": "copy", "from": "/name/0/family", "path": "/name/0/text"},
    ])  # fmt: skip
    assert (after["active"], after["identifier"][-1]) == (False, {"value": "4"})
    assert after["contact"] == [{"name": {"text": "乙"}}]
    assert (after["note/~"], after["name"][0]["text"]) == ("1970-03-30", "甲")
    assert "birthDate" not in after


@pytest.mark.parametrize(
    ("operation", "rule"),
    [
        ({"op": "test", "path": "/active", "value": False}, "patch-test"),
        ({"op": "test", "path": "/active", "value": 1}, "patch-test"),
        ({"op": "test", "path": "/nowhere", "value": 1}, "patch-test"),
        ({"op": "replace", "path": "/nowhere", "value": 1}, "patch-path"),
        ({"op": "remove", "path": "/nowhere"}, "patch-path"),
        ({"op": "remove", "path": "/identifier/7"}, "patch-path"),
        ({"op": "remove", "path": "/identifier/-"}, "patch-path"),
        ({"op": "remove", "path": "/identifier/01"}, "patch-path"),
        ({"op": "remove", "path": "/identifier/x"}, "patch-path"),
        ({"op": "remove", "path": ""}, "patch-path"),
        ({"op": "add", "path": "/identifier/7", "value": 1}, "patch-path"),
        ({"op": "add", "path": "/nowhere/more", "value": 1}, "patch-path"),
        ({"op": "add", "path": "/active/more", "value": 1}, "patch-path"),
        ({"op": "add", "path": "/birthDate/0", "value": 1}, "patch-path"),
        ({"op": "add", "path": "/bad~2escape", "value": 1}, "patch-path"),
        ({"op": "move", "from": "/nowhere", "path": "/active"}, "patch-path"),
        ({"op": "move", "from": "/name", "path": "/name/0"}, "patch-path"),
        ({"op": "copy", "from": "/nowhere", "path": "/active"}, "patch-path"),
    ],
)
def test_json_patch_refuses_what_leads_nowhere(operation, rule):
    with pytest.raises(Unprocessable) as refused:
        _json([{"op": "test", "path": "/id", "value": "p"}, operation])
    issue = refused.value.issues[0]
    assert issue.rule == rule
    assert issue.diagnostics.startswith(f"Operation 1 ({operation['op']}) ")


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"", Structure),
        (b"{}", Structure),
        (b"[", Structure),
        (b'[],"operations":[]', Structure),
        (b'[],"more":[]', Structure),
        (b"[]}", Structure),
        (b'[{"op":"test","op":"remove","path":""}]', Structure),
        (b"[" * 5_000 + b"]" * 5_000, Structure),
        (b'[{"op":"add","path":"/a","value":NaN}]', Structure),
        (b"[1]", Invalid),
        (b"[{}]", Invalid),
        (b'[{"op":["add"],"path":"/a"}]', Invalid),
        (b'[{"op":"append","path":"/a","value":"x"}]', Invalid),
        (b'[{"op":"add","path":"/a"}]', Invalid),
        (b'[{"op":"add","value":1}]', Invalid),
        (b'[{"op":"add","path":1,"value":1}]', Invalid),
        (b'[{"op":"add","path":"a","value":1}]', Invalid),
        (b'[{"op":"move","path":"/a"}]', Invalid),
        (b'[{"op":"remove","path":"' + b"/a" * 65 + b'"}]', Invalid),
        (b"[" + b",".join([b'{"op":"test","path":"","value":1}'] * 1_001) + b"]", TooCostly),
    ],
)
def test_what_is_no_json_patch_is_refused(body, error):
    with pytest.raises(error):
        read_json_patch(body)


def test_an_empty_patch_changes_nothing():
    assert _json([]) == PATIENT


def test_copies_of_copies_end_before_they_fill_the_memory():
    doubling = [{"op": "copy", "from": "/name", "path": "/name/-"} for _ in range(60)]
    with pytest.raises(TooCostly):
        _json(doubling)


def test_numbers_keep_their_spelling_in_and_beside_the_patch():
    before = b'{"resourceType":"Observation","a":{"value":7.10},"b":1e2,"c":[0.0000001,-0]}'
    patch = b'[{"op":"add","path":"/d","value":5.100},{"op":"copy","from":"/b","path":"/e"}]'
    after = apply_json_patch(parse(before), read_json_patch(patch))
    assert render(after) == before[:-1] + b',"d":5.100,"e":1e2}'


_leaf = st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=3)
_value = st.recursive(
    _leaf, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner)
)
_pointer = st.lists(
    st.sampled_from(["name", "0", "1", "-", "given", "_given", "id", "x", "", "identifier"]),
    max_size=4,
).map(lambda parts: "".join(f"/{part}" for part in parts))
_operations = st.fixed_dictionaries({
    "op": st.sampled_from(["add", "remove", "replace", "move", "copy", "test"]),
    "path": _pointer, "from": _pointer, "value": _value,
})  # fmt: skip


@given(st.lists(_operations, max_size=6))
@settings(max_examples=examples(60))
def test_no_json_patch_is_a_fault_of_ours(operations):
    try:
        _json(operations)
    except GatewayError as error:
        assert error.status in (400, 422)


_word = st.sampled_from([
    "Patient", ".", "name", "given", "[0]", "[1]", "where", "(", ")", "family = '甲'", "$this",
    "first()", "last()", "ofType", "HumanName", "extension", "'http://x.example/one'", " ", "`",
    "deceased", "as", "resolve()", "%resource", "contained", "value", "birthDate", "|", "and",
])  # fmt: skip


@given(st.lists(_word, max_size=10).map("".join), st.sampled_from(["delete", "replace", "add"]))
@settings(max_examples=examples(120))
def test_no_path_is_a_fault_of_ours(path, kind):
    parts = {"type": kind, "path": path}
    if kind != "delete":
        parts["value"] = {"valueString": "x"}
    if kind == "add":
        parts["name"] = "id"
    try:
        _patched(parts)
    except GatewayError as error:
        assert error.status in (400, 422)
