"""What XML says wrongly is refused with line, element and rule; the law is that of JSON."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from xml_cases import HERE, loose

from fhir_gateway.errors import Structure, Unprocessable
from fhir_gateway.fhir.validate import issues, read_resource
from fhir_gateway.fhir.wire import parse
from fhir_gateway.fhir.xml_read import json_of, located, read_xml

NS = 'xmlns="http://hl7.org/fhir"'
SAMPLES = {file.stem: parse(file.read_bytes()) for file in sorted(HERE.glob("samples/*.json"))}
DEFECTS: list[dict[str, Any]] = parse((HERE / "defects.json").read_bytes())["defects"]

#: What XML cannot spell: it has neither types of values nor arrays, nulls or empty objects.
NOT_IN_XML = {
    "array where one value stands", "one value where an array stands", "empty array", "null",
    "null in an array", "null for a primitive", "text for an object", "object for a text",
    "array in an array", "text for a number", "number for a text", "empty sibling",
    "sibling of an element that is no primitive", "sibling array of another length",
    "text for a boolean", "narrative without a div",
}  # fmt: skip


def _refused(inside: str, type: str = "Patient") -> list[tuple[str | None, str | None, str]]:
    body = f"<{type} {NS}>\n{inside}\n</{type}>".encode()
    with pytest.raises(Unprocessable) as refusal:
        read_resource(json_of(body))
    found = located(refusal.value, body).issues
    return [(one.expression, one.rule, one.diagnostics) for one in found]


@pytest.mark.parametrize(
    ("inside", "expression", "rule", "line"),
    [
        ('<gender value="male"/>\n<active value="true"/>', "Patient.active", "order", 3),
        ('<name/>\n<gender value="male"/>\n<name><text value="x"/></name>',
         "Patient.name", "order", 4),
        ('<name>\n<given value="x"/><family value="x"/></name>',
         "Patient.name[0].family", "order", 3),
        ('<active value="true"/>\n<active value="true"/>', "Patient.active", "cardinality", 3),
        ('<maritalStatus><text value="a"/></maritalStatus>\n<maritalStatus/>',
         "Patient.maritalStatus", "cardinality", 3),
        ('<active value="true" x="1"/>', "Patient.active", "attribute", 2),
        ('<active value="true" xml:lang="en"/>', "Patient.active", "attribute", 2),
        ('<name value="x"/>', "Patient.name[0]", "attribute", 2),
        ('<name url="x"><text value="x"/></name>', "Patient.name[0]", "attribute", 2),
        ('<name><id value="x"/></name>', "Patient.name[0].id", "attribute", 2),
        ('<extension url="u"><url value="u"/><valueCode value="x"/></extension>',
         "Patient.extension[0].url", "attribute", 2),
        ('<active value="true"/>text', "Patient", "text", 2),
        ('<active value="true">text</active>', "Patient.active", "text", 2),
        ('<active value="true"/><![CDATA[text]]>', "Patient", "text", 2),
        ('<x:active xmlns:x="urn:x" value="true"/>', "Patient.active", "namespace", 2),
        ('<active xmlns="" value="true"/>', "Patient.active", "namespace", 2),
        ('<text><status value="generated"/><div>x</div></text>',
         "Patient.text.div", "namespace", 2),
        ('<contained/>', "Patient.contained[0]", "resource", 2),
        ('<contained><Basic/><Basic/></contained>', "Patient.contained[0]", "resource", 2),
        ('<contained><a:Basic xmlns:a="u"/></contained>', "Patient.contained[0]", "resource", 2),
        ('<_active value="true"/>', "Patient", "unknown-element", 2),
        ('<resourceType value="Patient"/>', "Patient", "unknown-element", 2),
    ],
)  # fmt: skip
def test_what_only_xml_can_say_wrongly(inside: str, expression: str, rule: str, line: int) -> None:
    found = _refused(inside)
    says = next(text for path, broken, text in found if (path, broken) == (expression, rule))
    assert says.startswith(f"line {line}: ")


@pytest.mark.parametrize(
    ("inside", "expression", "rule", "line"),
    [
        ('<colour value="red"/>', "Patient.colour", "unknown-element", 2),
        ('\n<name><colour><a/></colour></name>', "Patient.name[0].colour", "unknown-element", 3),
        ('<active value="yes"/>', "Patient.active", "boolean", 2),
        ('<active value=""/>', "Patient.active", "boolean", 2),
        ('<active/>', "Patient.active", "empty", 2),
        ('<name/>', "Patient.name[0]", "empty", 2),
        ('<name><given/></name>', "Patient.name[0].given[0]", "string", 2),
        ('<birthDate value="2026-02-30"/>', "Patient.birthDate", "date", 2),
        ('<deceasedBoolean value="true"/>\n<deceasedDateTime value="2026"/>',
         "Patient.deceased", "choice", 3),
        ('<multipleBirthInteger value="+1"/>', "Patient.multipleBirth", "integer", 2),
        ('<multipleBirthInteger value="1.0"/>', "Patient.multipleBirth", "integer", 2),
        ('<contained><Nothing/></contained>', "Patient.contained[0]", "resource-type", 2),
        ('<link>\n</link>', "Patient.link[0].other", "cardinality", 2),
    ],
)  # fmt: skip
def test_what_json_says_wrongly_too_has_the_rule_of_json_and_a_line(
    inside: str, expression: str, rule: str, line: int
) -> None:
    found = _refused(inside)
    says = next(text for path, broken, text in found if (path, broken) == (expression, rule))
    assert says.startswith(f"line {line}: ")


#: What would run in a narrative is left out of what is written as XML (docs/hardening.md).
CLEANED = {"event handler in the narrative", "script in the narrative"}


@pytest.mark.parametrize("defect", DEFECTS, ids=[defect["name"] for defect in DEFECTS])
def test_a_planted_defect_is_the_same_in_both_formats(defect: dict[str, Any]) -> None:
    resource = _planted(defect)
    found = {(one.expression, one.rule) for one in issues(resource)}
    assert found
    try:
        read = read_xml(loose(resource))
    except Unprocessable as refusal:
        told = {(one.expression, one.rule) for one in refusal.issues}
    else:
        told = {(one.expression, one.rule) for one in issues(read)}
    if defect["name"] in CLEANED:
        assert not told
    elif defect["name"] in NOT_IN_XML:
        assert told != found
        assert {rule for _, rule in told} <= {
            "empty", "cardinality", "unknown-element", "namespace", "attribute",
        }  # fmt: skip
    else:
        assert found <= told


def _planted(defect: dict[str, Any]) -> dict[str, Any]:
    resource = copy.deepcopy(SAMPLES[defect["of"]])
    for path in defect.get("drop", ()):
        parent, last = _place(resource, path)
        del parent[last]
    for path, value in defect.get("set", {}).items():
        parent, last = _place(resource, path)
        parent[last] = value
    return resource


def _place(resource: Any, path: str) -> tuple[Any, Any]:
    *steps, last = [int(step) if step.isdigit() else step for step in path.split("/")]
    for step in steps:
        resource = resource[step]
    return resource, last


def test_all_issues_are_listed_at_once() -> None:
    found = _refused('<gender value="x"/>\n<active value="true" x="1"/>\ntext<colour/>')
    assert {rule for _, rule, _ in found} == {
        "order", "attribute", "text", "required-binding", "unknown-element",
    }  # fmt: skip


def test_the_list_ends_at_a_hundred() -> None:
    assert len(_refused('<name x="1"/>' * 300)) == 100


def test_issues_never_quote_what_was_sent() -> None:
    body = (
        '<SECRET SECRET="SECRET"/><gender value="SECRET"/><birthDate value="SECRET"/>SECRET'
        '<x:SECRET xmlns:x="urn:SECRET"/><甲甲甲/>'
    )
    assert all("甲" not in says for *_, says in _refused(body))
    assert not any("urn:SECRET" in says or '"SECRET' in says for *_, says in _refused(body))


@pytest.mark.parametrize(
    "root",
    ["<Patient/>", '<Patient xmlns="urn:x"/>', '<p:Patient xmlns:p="http://hl7.org/FHIR"/>'],
)
def test_the_root_is_a_resource_in_the_namespace_of_fhir(root: str) -> None:
    with pytest.raises(Structure) as refusal:
        read_xml(root.encode())
    assert refusal.value.issues[0].rule == "namespace"


def test_a_root_that_is_no_resource_is_refused_as_in_json() -> None:
    assert read_xml(f"<Nothing {NS}><a/></Nothing>".encode()) == {"resourceType": "Nothing"}
    with pytest.raises(Unprocessable) as refusal:
        read_resource(json_of(f"<Nothing {NS}/>".encode()))
    assert refusal.value.issues[0].rule == "resource-type"


@pytest.mark.parametrize(
    "body",
    [
        f'<Patient {NS}><active value=" true "/></Patient>',
        '<f:Patient xmlns:f="http://hl7.org/fhir"><f:active value="true"/></f:Patient>',
        f'<!-- c --><?pi x?><Patient {NS}><!-- c --><active value="true"/><?pi?> </Patient><?x?>',
        f'<Patient {NS} xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" '
        'xsi:schemaLocation="http://hl7.org/fhir x.xsd"><active value="true"/></Patient>',
        f'\ufeff<?xml version="1.0" encoding="UTF-8"?>\n<Patient {NS}><active value="true"/>'
        "</Patient>",
        f'<Patient {NS}><active value="&#116;rue"/></Patient>',
    ],
)
def test_what_says_the_same_is_read_the_same(body: str) -> None:
    assert read_xml(body.encode()) == {"resourceType": "Patient", "active": True}


def test_numbers_keep_their_spelling_and_their_limits() -> None:
    def value(text: str) -> Any:
        inside = f'<valueQuantity><value value="{text}"/></valueQuantity>'
        read = read_xml(f"<Observation {NS}>{inside}</Observation>".encode())
        return read["valueQuantity"]["value"]

    for text in ("7.10", "-0", "1e2", "1E-7", "0.0000001", "12345678901234567890.10", "5"):
        assert str(value(text)) == text
        assert type(value(text)) is type(parse(b'{"a":%b}' % text.encode())["a"])
    for text in ("+1", "01", ".5", "5.", "NaN", "INF", "0x1", "1 2", ""):
        assert value(text) == text  # a text, which the law of JSON refuses as a number
    for text in ("1" * 41, "1e400", "0." + "1" * 60):
        with pytest.raises(Structure) as refusal:
            value(text)
        assert refusal.value.issues[0].rule in ("number-length", "number-range")


def test_a_line_is_told_where_there_is_one() -> None:
    body = f'<Patient {NS}>\n<name>\n<family value="x"/></name></Patient>'.encode()
    error = located(Unprocessable("x", expression="Patient.name[0].period.start", rule="r"), body)
    assert error.issues[0].diagnostics == "line 2: x"
    for expression in (None, "Bundle.entry[0]", "_pretty"):
        error = located(Unprocessable("x", expression=expression), body)
        assert error.issues[0].diagnostics == "x"
    assert located(Unprocessable("x", expression="a"), b"<").issues[0].diagnostics == "x"
