"""FHIRPath as invariants use it: what expressions give (hl7.org/fhirpath/N1)."""

from __future__ import annotations

from contextlib import suppress
from decimal import Decimal
from typing import Any

import pytest
from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from profile_cases import ROOT, observation, profile, rule

from fhir_gateway.errors import Invalid
from fhir_gateway.fhir.fhirpath import BUDGET, Env, compile_items, compile_test
from fhir_gateway.fhir.fhirpath_foreign import compile_foreign
from fhir_gateway.fhir.fhirpath_values import Trouble
from fhir_gateway.fhir.profile_context import Context, Run
from fhir_gateway.fhir.profile_known import Known

PATIENT: dict[str, Any] = {
    "resourceType": "Patient",
    "id": "p",
    "contained": [{"resourceType": "Organization", "id": "o", "name": "院"}],
    "active": True,
    "name": [{"family": "测", "given": ["试", "甲"]}, {"text": "another"}],
    "telecom": [{"system": "phone", "value": "1"}, {"system": "phone", "value": "1"}],
    "gender": "female",
    "birthDate": "1990-05-17",
    "_birthDate": {
        "extension": [{"url": "http://x.org/time", "valueDateTime": "1990-05-17T08:00:00Z"}]
    },
    "_deceasedDateTime": {"extension": [{"url": "http://x.org/e", "valueCode": "unknown"}]},
    "multipleBirthInteger": 2,
    "managingOrganization": {"reference": "#o"},
    "generalPractitioner": [{"reference": "Practitioner/1"}],
}  # fmt: skip


def env(resource: dict[str, Any], known: Known | None = None, **context: Any) -> Env:
    item = (resource["resourceType"], resource, None)
    return Env(Run(resource, Context(**context)), item, known or Known())


def values(expression: str, resource: dict[str, Any] = PATIENT, **context: Any) -> list[Any]:
    focus = ((resource["resourceType"], resource, None),)
    return [value for _, value, _ in compile_items(expression)(env(resource, **context), focus)]


def holds(expression: str, resource: dict[str, Any] = PATIENT, **context: Any) -> bool | None:
    focus = ((resource["resourceType"], resource, None),)
    return compile_test(expression)(env(resource, **context), focus)


GIVES: list[tuple[str, list[Any]]] = [
    ("Patient.name.given", ["试", "甲"]), ("name[1].text", ["another"]), ("name[7]", []),
    ("name.given | name.given", ["试", "甲"]), ("telecom.value.distinct()", ["1"]),
    ("telecom.count()", [2]), ("name.given.combine(name.given).count()", [4]),
    ("name.where(text.exists()).text", ["another"]), ("name.select(given.first())", ["试"]),
    ("name.given.tail()", ["甲"]), ("name.given.last()", ["甲"]), ("name.given.skip(1)", ["甲"]),
    ("name.given.take(1)", ["试"]), ("multipleBirth", [2]), ("multipleBirth + 1", [3]),
    ("7 div 2", [3]), ("7 mod 2", [1]), ("7 / 2", [Decimal("3.5")]), ("1 / 0", []),
    ("-1", [-1]), ("'a' + 'b'", ["ab"]), ("'a' & {}", ["a"]), ("'a' + {}", []),
    ("'10X'.substring(2, 1)", ["X"]), ("'abc'.substring(5)", []), ("'abc'.indexOf('c')", [2]),
    ("'abc'.replace('b', 'x')", ["axc"]), ("'ABC'.lower()", ["abc"]), ("'abc'.length()", [3]),
    ("'a1b2'.replaceMatches('[0-9]', '-')", ["a-b-"]),
    ("'ab'.replaceMatches('(?P<x>a)b', '$1c')", ["ac"]),
    ("birthDate.extension('http://x.org/time').value", ["1990-05-17T08:00:00Z"]),
    ("managingOrganization.resolve().name", ["院"]), ("generalPractitioner.resolve()", []),
    ("%resource.id", ["p"]), ("%context.id", ["p"]), ("%ucum", ["http://unitsofmeasure.org"]),
    ("iif(active, 'yes', 'no')", ["yes"]), ("contact.iif(empty(), 'none')", ["none"]),
    ("'12'.toInteger()", [12]), ("'x'.toInteger()", []), ("'1.50'.toDecimal()", [Decimal("1.50")]),
    ("true.toString()", ["true"]), ("'\\u4e2d\\n\\''", ["中\n'"]), ("`gender`", ["female"]),
    ("name.repeat(given).count()", [2]), ("contained.ofType(Organization).name", ["院"]),
    ("(-5).abs()", [5]), ("children().count() > 5", [True]), ("gender.toChars().count()", [6]),
]  # fmt: skip


@pytest.mark.parametrize(("expression", "wanted"), GIVES, ids=lambda v: str(v)[:40])
def test_expressions_give(expression, wanted) -> None:
    assert values(expression) == wanted


HOLDS: list[tuple[str, bool | None]] = [
    ("name.exists()", True), ("name.empty()", False), ("contact.exists()", False),
    ("name.exists(text = 'another')", True), ("active", True), ("active.not()", False),
    ("gender = 'female'", True), ("gender != 'female'", False), ("contact = 'x'", None),
    ("multipleBirth = 2", True), ("multipleBirth = '2'", False), ("true = 1", False),
    ("multipleBirth = 2.0", True), ("contact.empty() and active", True),
    ("(contact = 'x') and false", False), ("(contact = 'x') or true", True),
    ("(contact = 'x') or false", None), ("active xor contact.exists()", True),
    ("contact.exists() implies false", True), ("active implies (contact = 'x')", None),
    ("gender in ('male' | 'female')", True), ("('male' | 'other') contains gender", False),
    ("{} in ('a' | 'b')", None), ("name.all(family.exists())", False), ("contact.all(false)", True),
    ("telecom.isDistinct()", False), ("name.isDistinct()", True),
    ("birthDate < @1991-01-01", True), ("birthDate = @1990", None), ("birthDate > @1990-05", None),
    ("@2020-01-01T10:00:00+08:00 = @2020-01-01T02:00:00Z", True),
    ("multipleBirth is integer", True), ("multipleBirth is Quantity", False),
    ("contained.first() is DomainResource", True), ("gender.is(code)", True),
    ("deceased.exists()", True), ("deceased.hasValue()", False), ("birthDate.hasValue()", True),
    ("name.hasValue()", False), ("'a1'.matches('[0-9]')", True), ("'a'.matches('^b$')", False),
    ("contact.matches('x')", None), ("'Ab' ~ 'aB'", True), ("('a' | 'b') ~ ('b' | 'a')", True),
    ("('a' | 'b') = ('b' | 'a')", False), ("name.given.subsetOf('试' | '甲' | '乙')", True),
    ("conformsTo('http://hl7.org/fhir/StructureDefinition/Patient')", True),
    ("conformsTo('http://hl7.org/fhir/StructureDefinition/Group')", False),
    ("descendants().where($this = '院').exists()", True), ("today() > @2020-01-01", True),
    ("(name | telecom).exists() // a remark", True), ("/* a remark */ true", True),
]  # fmt: skip


@pytest.mark.parametrize(("expression", "wanted"), HOLDS, ids=lambda v: str(v)[:40])
def test_expressions_hold(expression, wanted) -> None:
    assert holds(expression, now=1_790_000_000_000_000) is wanted


def test_member_of_asks_the_terminology() -> None:
    sent = observation()
    for answer in (True, False, None):
        asked: list[tuple[str, ...]] = []

        def member(*given: str, answer: bool | None = answer, asked: Any = asked) -> bool | None:
            asked.append(given)
            return answer

        assert holds("code.memberOf('urn:vs')", sent, member=member) is answer
        assert asked == [("urn:vs", "http://loinc.org", "2951-2")]


def test_conforms_to_a_profile_that_is_known() -> None:
    structure = profile("Patient", {"id": "Patient.contact", "min": 1})
    known = Known([structure])
    focus = (("Patient", PATIENT, None),)
    test = compile_test(f"conformsTo('{ROOT}/p')")
    assert test(env(PATIENT, known), focus) is False
    with pytest.raises(Trouble):
        test(env(PATIENT), focus)


@pytest.mark.parametrize(
    "expression",
    ["", "name.", "name..given", "(name", "name)", "name[", "'open", "a b", "name.where(", "name =",
     "@@", "$total", "%nothing", "foo()", "name.where()", "name.exists(a, b)", "name is Nothing",
     "'x'.matches('(?=a)')", "'x'.matches('(a')", "name.where($index = 1)", "1 +", "\x00", "é"],
)  # fmt: skip
def test_what_is_not_understood_is_refused_when_it_is_compiled(expression) -> None:
    with pytest.raises(Invalid):
        compile_test(expression)


@pytest.mark.parametrize(
    "expression",
    ["(" * 5_000 + "a" + ")" * 5_000, ".".join("a" * 9_000), "a" * 9_000, "not(" * 400,
     " or ".join(["a"] * 3_000), "-" * 5_000 + "1", "a[" * 1_000, "/*" * 4_000, "'" + "\\'" * 4_000,
     "iif(" * 200 + "a", "name.where(" * 100 + "a" + ")" * 100],
)  # fmt: skip
def test_hostile_expressions_are_refused_at_once(expression) -> None:
    with pytest.raises(Invalid):
        compile_test(expression)


@settings(max_examples=examples(200))
@given(st.text("ab.()[]'`%$ 01=|<>+-*/&,{}@\\\nandorimpliesexists", max_size=60))
def test_no_text_breaks_the_compiler(text) -> None:
    try:
        test = compile_test(text)
    except Invalid:
        return
    with suppress(Trouble):
        test(env(PATIENT), (("Patient", PATIENT, None),))


def test_an_expression_that_looks_at_too_much_is_given_up() -> None:
    bundle = {
        "resourceType": "Bundle",
        "type": "collection",
        "entry": [{"fullUrl": f"urn:x:{number}"} for number in range(2_000)],
    }
    expression = "entry.all(%resource.entry.where(fullUrl = 'x').empty())"
    with pytest.raises(Trouble, match="too much"):
        holds(expression, bundle)
    assert BUDGET < 2_000 * 2_000


def test_several_values_where_one_is_wanted_is_trouble() -> None:
    with pytest.raises(Trouble):
        holds("name.given.startsWith('a')")
    with pytest.raises(Trouble):
        holds("name.given and true")


def test_replacing_grows_no_text_without_end() -> None:
    text = "a" * 1_000
    with pytest.raises(Trouble):
        values(f"'{text}'.replace('a', '{text}').replace('a', '{text}')")


@pytest.mark.parametrize(
    ("expression", "wanted"),
    [("valueQuantity.exists() or (1.7).round(0) = 2", True), ("status.convertsToBoolean()", False),
     ("(2.5).floor() = 2 and status.exists()", True)],
)  # fmt: skip
def test_functions_of_the_library(expression, wanted) -> None:
    sent = observation()
    test = compile_foreign(expression, "Observation")
    assert test(env(sent), (("Observation", sent, None),)) is wanted


@pytest.mark.parametrize(
    "expression",
    ["status.matches('(a+)+$').round()", "status.power(2)", "repeat($this).floor()",
     "status.memberOf('urn:x').floor()", "status.nothing()", "resolve().round()"],
)  # fmt: skip
def test_the_library_is_handed_nothing_that_could_hurt(expression) -> None:
    with pytest.raises(Invalid):
        compile_foreign(expression, "Observation")


def test_the_library_changes_nothing_and_is_shown_nothing_large() -> None:
    sent = observation(note=[{"text": "x"}])
    before = str(sent)
    compile_foreign("note.text.count().floor() = 1", "Observation")(
        env(sent), (("Observation", sent, None),)
    )
    assert str(sent) == before
    large = observation(note=[{"text": "x"}] * 9_000)
    with pytest.raises(Trouble):
        compile_foreign("(1.5).floor() = 1", "Observation")(
            env(large), (("Observation", large, None),)
        )


def test_a_profile_may_use_the_library() -> None:
    structure = profile("Observation", {
        "id": "Observation", "constraint": [rule("f", "value.value.floor() = 3")]})  # fmt: skip
    known = Known([structure])
    made = known.profile(f"{ROOT}/p")
    assert made is not None and not made.doubts
    assert made.issues(observation(valueQuantity={"value": Decimal("3.7")})) == []
    found = made.issues(observation(valueQuantity={"value": Decimal("4.7")}))
    assert [one.rule for one in found] == ["f"]
