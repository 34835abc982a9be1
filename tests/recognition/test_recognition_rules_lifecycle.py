"""The life of a rule set as a pure function, what it cites, its conditions, what lint says."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from recognition_cases import (
    CATALOGUE,
    PROFILES,
    candidate,
    code_of,
    parameter,
    plan_definition,
    query,
)

from fhir_gateway.errors import Unprocessable
from fhir_gateway.fhir.datatypes import date_range
from fhir_gateway.recognition.decide import decide
from fhir_gateway.recognition.lint import lint
from fhir_gateway.recognition.rules import load_rule_set
from fhir_gateway.recognition.rules_diff import differences
from fhir_gateway.recognition.rules_lifecycle import (
    Day,
    changed_elements,
    content_digest,
    deletion_faults,
    step_faults,
)
from fhir_gateway.recognition.rules_parameters import SEVERITY_URL
from fhir_gateway.recognition.rules_proofs import Person, person
from fhir_gateway.recognition.rules_texts import VERIFIED_URL, clause
from fhir_gateway.recognition.texts import sentence
from fhir_gateway.settings import CANONICAL
from fhir_gateway.terminology.catalogue import load_catalogue
from fhir_gateway.terminology.value_set import load_vocabulary

DAY = Day(date_range("2026-11-20T10:00:00+08:00")[0], "Asia/Shanghai")
VOCABULARY = load_vocabulary(str(PROFILES.parent / "terminology"))
SHIPPED = load_catalogue(PROFILES.parent / "terminology")

Json = dict[str, Any]


def plan(status: str = "draft", **changes: Any) -> Json:
    return plan_definition() | {"status": status} | changes


def faults(before: Json | None, after: Json) -> list[tuple[str | None, str | None]]:
    return [(one.expression, one.rule) for one in step_faults(before, after, DAY)]


@pytest.mark.parametrize(
    ("was", "becomes", "allowed"),
    [
        (None, "draft", True),
        (None, "active", False),
        (None, "retired", False),
        ("draft", "draft", True),
        ("draft", "active", True),
        ("draft", "retired", False),
        ("active", "draft", False),
        ("active", "active", True),
        ("active", "retired", True),
        ("retired", "draft", False),
        ("retired", "active", False),
        ("retired", "retired", True),
        ("active", "unknown", False),
    ],
)
def test_the_status_goes_one_way(was: str | None, becomes: str, allowed: bool) -> None:
    before = plan(was) if was else None
    expected = [] if allowed else [("PlanDefinition.status", "rule-set-status")]
    assert faults(before, plan(becomes)) == expected


@pytest.mark.parametrize("status", ["active", "retired"])
def test_after_activation_every_other_element_is_frozen_and_named(status: str) -> None:
    before, after = plan(status), plan(status)
    after["title"] = "别的"
    after["action"] = copy.deepcopy(after["action"])
    after["action"][3]["title"] = "别的"
    after["meta"] = {"versionId": "9"}
    assert faults(before, after) == [
        ("PlanDefinition.title", "rule-set-frozen"),
        ("PlanDefinition.action[3].title", "rule-set-frozen"),
    ]


@pytest.mark.parametrize(
    ("end", "moved", "allowed"),
    [
        ("", "2026-12-31", True),
        ("2026-12-31", "2026-11-20", True),
        ("2026-12-31", "", True),
        ("2026-12-31", "2026-11-19", False),
        ("2026-11-19", "2027-01-01", False),
    ],
)
def test_the_end_moves_from_today_on(end: str, moved: str, allowed: bool) -> None:
    before, after = (
        plan("active", effectivePeriod={"start": "2022-03-01"} | ({"end": one} if one else {}))
        for one in (end, moved)
    )
    path = ("PlanDefinition.effectivePeriod.end", "rule-set-period")
    assert faults(before, after) == ([] if allowed else [path])
    start = plan("active", effectivePeriod={"start": "2021-01-01"})
    assert ("PlanDefinition.effectivePeriod.start", "rule-set-frozen") in faults(before, start)


def test_a_draft_may_be_deleted_and_nothing_else() -> None:
    assert deletion_faults(plan("draft")) == []
    assert [one.rule for one in deletion_faults(plan("active"))] == ["rule-set-kept"]
    assert [one.rule for one in deletion_faults(plan("retired"))] == ["rule-set-kept"]


def test_what_was_simulated_is_all_but_status_and_approval() -> None:
    digest = content_digest(plan())
    assert content_digest(plan("active", approvalDate="2026-11-20", meta={})) == digest
    for change in ({"title": "x"}, {"experimental": False}, {"effectivePeriod": {}}):
        assert content_digest(plan(**change)) != digest


JSON = st.recursive(
    st.none() | st.booleans() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", min_size=1), inner),
    max_leaves=8,
)


@given(one=st.dictionaries(st.text("ab", min_size=1, max_size=2), JSON), other=JSON)
def test_nothing_has_changed_exactly_where_all_is_the_same(one: Json, other: Any) -> None:
    assert list(changed_elements(one, copy.deepcopy(one))) == []
    changed = list(changed_elements(one, {**one, "a": other}))
    if one.get("a") == other:
        assert changed == []
    elif not isinstance(other, dict) and not isinstance(one.get("a"), dict):
        assert changed


@pytest.mark.parametrize(
    ("one", "other", "different"),
    [
        ("甲", "乙", True),
        ("甲", "甲 ", False),
        ("Ａnna Bell", "anna bell", False),
        ("甲 (Practitioner/1)", "乙 (Practitioner/1)", False),
        ("甲 (Practitioner/1)", "乙 (Practitioner/2)", True),
    ],
)
def test_two_persons_are_two_names_and_two_references(
    one: str, other: str, different: bool
) -> None:
    first, second = person(one), person(other)
    assert first is not None and second is not None
    assert first.is_other_than(second) is different
    assert person("  ") is None
    assert person("甲 (Practitioner/1)") == Person("甲", "Practitioner/1")


# -- citations -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("label", "shown", "verified"),
    [
        (
            "国卫医发〔2022〕6号 ≈第11条、≈第15条",
            "国卫医发〔2022〕6号",
            "国卫医发〔2022〕6号 第11条、第15条",
        ),
        ("国卫医发〔2022〕6号 第2条", "国卫医发〔2022〕6号", "国卫医发〔2022〕6号 第2条"),
        ("鄂卫通〔2023〕56号", "鄂卫通〔2023〕56号", "鄂卫通〔2023〕56号"),
        ("6号 ≈第18条（二）至（五）", "6号", "6号 第18条（二）至（五）"),
        ("6号 第十八条第二款 Art. 18", "6号", "6号 第十八条第二款 Art. 18"),
    ],
)
def test_article_numbers_are_shown_where_they_were_verified(
    label: str, shown: str, verified: str
) -> None:
    document: Json = {"type": "citation", "label": label}
    assert clause({"documentation": [document]}) == shown
    document["extension"] = [{"url": VERIFIED_URL, "valueDate": "2026-11-20"}]
    assert clause({"documentation": [document]}) == verified


def test_no_rule_of_the_shipped_set_shows_an_article_that_nobody_verified() -> None:
    for rule in load_rule_set(plan()).rules:
        assert not set("条≈（") & set(rule.clause)
        assert rule.title.zh and rule.title.en and rule.explanation.zh and rule.explanation.en


# -- severities and conditions ---------------------------------------------------------------------


def condition(expression: str, *, id: str = "extra", severity: str = "") -> Json:
    rule: Json = {
        "id": id,
        "title": "不在透析",
        "code": [{"coding": [
            {"system": f"{CANONICAL}/CodeSystem/criterion", "version": "1", "code": "condition"}]}],
        "documentation": [{"type": "citation", "label": "本地通知"}],
        "condition": [{"kind": "applicability",
                       "expression": {"language": "text/fhirpath", "expression": expression}}],
    }  # fmt: skip
    if severity:
        rule["extension"] = [{"url": SEVERITY_URL, "valueCode": severity}]
    return rule


def with_rule(rule: Json) -> Json:
    definition = plan("active")
    definition["action"] = [*definition["action"], rule]
    return definition


def outcome(expression: str, severity: str = "", **asked: Any) -> tuple[str, str]:
    rules = load_rule_set(with_rule(condition(expression, severity=severity)))
    (item,) = decide(query(**asked), [candidate("K")], rules, CATALOGUE).items
    assert item.lines[-1].rule == "condition@1#extra"
    return item.outcome, item.reason


@pytest.mark.parametrize(
    ("expression", "severity", "expected"),
    [
        ("status = 'final'", "", ("recognize", "usable")),
        ("value.value > 5", "", ("recognize", "usable")),
        ("value.value > 6", "", ("view-only", "condition-not-met")),
        ("value.value > 6", "decides", ("not-recognizable", "condition-not-met")),
        ("value.value > 6", "informs", ("recognize", "usable")),
        ("bodySite.text = 'R'", "", ("cannot-decide", "condition-unknown")),
        ("(1 | 2)", "", ("cannot-decide", "condition-trouble")),
        ("%resource.performer.reference = 'Organization/hospital'", "", ("recognize", "usable")),
        ("%rootResource.intent = 'order'", "", ("recognize", "usable")),
        ("%rootResource.authoredOn > issued", "", ("recognize", "usable")),
        (
            "%rootResource.reasonCode.coding.where(code = 'pregnancy').empty()",
            "",
            ("view-only", "condition-not-met"),
        ),
    ],
)
def test_a_condition_is_one_more_rule(
    expression: str, severity: str, expected: tuple[str, str]
) -> None:
    assert outcome(expression, severity, context=["pregnancy"]) == expected


def test_a_condition_says_its_title_in_both_languages() -> None:
    rules = load_rule_set(with_rule(condition("false")))
    (item,) = decide(query(), [candidate("K")], rules, CATALOGUE).items
    line = next(one for one in item.lines if one.rule.startswith("condition@1"))
    assert sentence(line) == "不在透析：不符合。"
    assert sentence(line, "en") == "不在透析: not met."


@pytest.mark.parametrize(
    ("expression", "says"),
    [
        ("status =", "Not FHIRPath at character 9"),
        ("status = 'final", "Not FHIRPath at character 9"),
        ("nonsense()", "nonsense"),
        ("now() > issued", "now() at character 1"),
        ("subject.resolve().active", "resolve() at character 9"),
        ("code.memberOf('x')", "memberOf() at character 6"),
        ("a" * 1_001, "at most 1000 characters"),
        ("", "Not FHIRPath at character 1"),
    ],
)
def test_what_is_no_condition_is_a_fault_of_publication(expression: str, says: str) -> None:
    with pytest.raises(Unprocessable) as caught:
        load_rule_set(with_rule(condition(expression)))
    (issue,) = caught.value.issues
    place = len(plan()["action"])
    assert issue.expression == f"PlanDefinition.action[{place}].condition[0].expression.expression"
    assert says in issue.diagnostics


def test_conditions_have_ids_and_a_language_and_stand_alone() -> None:
    nameless = condition("true")
    del nameless["id"]
    english = condition("true")
    english["condition"][0]["expression"]["language"] = "text/cql"
    both = plan("active")
    both["action"][0]["condition"] = condition("true")["condition"]
    for definition in (with_rule(nameless), with_rule(english), both):
        with pytest.raises(Unprocessable) as caught:
            load_rule_set(definition)
        assert {one.rule for one in caught.value.issues} == {"condition"}


@pytest.mark.parametrize("name", ["identity-certain", "times-plausible", "report-final"])
def test_what_says_whose_result_it_is_cannot_be_made_less_severe(name: str) -> None:
    definition = plan("active")
    rule = next(one for one in definition["action"] if code_of(one) == name)
    rule["extension"] = [
        *rule.get("extension", ()), {"url": SEVERITY_URL, "valueCode": "informs"}
    ]  # fmt: skip
    with pytest.raises(Unprocessable) as caught:
        load_rule_set(definition)
    assert [one.rule for one in caught.value.issues] == ["rule-severity"]


# -- lint ------------------------------------------------------------------------------------------


def found(definition: Json, others: list[Json] | None = None) -> list[tuple[str, str, str]]:
    within = VOCABULARY.areas.within
    issues = lint(
        definition,
        SHIPPED,
        others or [],
        depth=lambda area: len(within(area)),
        contexts=VOCABULARY,
    )
    return [(one.severity, one.rule or "", one.expression or "") for one in issues]


def edited(name: str, *rows: list[Any]) -> Json:
    definition = plan()
    rule = next(one for one in definition["action"] if code_of(one) == name)
    rule["extension"] = [parameter(*row) for row in rows]
    return definition


def test_the_shipped_rule_set_has_no_errors_and_says_what_is_compiled() -> None:
    rows = found(plan())
    assert [row for row in rows if row[0] == "error"] == []
    assert {row[1] for row in rows if row[0] == "information"} >= {"lint-compiled"}
    assert "lint-unverified" in {row[1] for row in rows if row[0] == "warning"}


@pytest.mark.parametrize(
    ("name", "row", "severity", "rule"),
    [
        ("item-listed", ["negative", "NOPE"], "error", "lint-item"),
        ("item-listed", ["classes", "no such class"], "error", "lint-item"),
        ("report-final", ["void", "final"], "error", "lint-contradiction"),
        ("report-final", ["final", "printed"], "error", "lint-unreachable"),
        ("within-window", ["override", 36_500, "L001"], "warning", "lint-limit"),
        ("within-window", ["override", 0, "L001"], "warning", "lint-limit"),
        ("within-window", ["override", 7, "NOPE"], "error", "lint-item"),
        ("within-window", ["use_catalogue", False], "error", "lint-window"),
        ("specimen-comparable", ["interchangeable", "serum"], "warning", "lint-unreachable"),
        ("always-repeat", ["repeat", "L001", "on-holiday"], "error", "lint-unreachable"),
        ("always-repeat", ["ground", "N9"], "error", "lint-ground"),
        ("patient-context", ["lower", "N2", "on-holiday"], "error", "lint-unreachable"),
        ("reminded-by-default", ["remind", "NOPE"], "error", "lint-item"),
        ("window-published", ["prefixes", ""], "error", "lint-compiled"),
        ("window-published", ["prefixes", "compiled"], "error", "lint-compiled"),
        ("always-repeat", ["unless_known", "NOPE"], "error", "lint-item"),
        ("always-repeat", ["unless_known", "L001"], "warning", "lint-contradiction"),
        ("newest-first", ["percent", "5", "NOPE"], "error", "lint-item"),
        ("newest-first", ["percent", "5", "L088"], "error", "lint-unreachable"),
        ("newest-first", ["absolute", "0", "L001"], "warning", "lint-limit"),
        ("newest-first", ["percent", "100", "L001"], "warning", "lint-limit"),
        ("newest-first", ["source", "compiled:X"], "information", "lint-compiled"),
        ("wider-examination", ["covers", "NOPE", "I001"], "error", "lint-item"),
        ("wider-examination", ["covers", "L001", "I001"], "error", "lint-unreachable"),
        ("wider-examination", ["covers", "I001", "I001"], "error", "lint-contradiction"),
        ("region-comparable", ["same", "HEAD", "TAIL"], "warning", "lint-unreachable"),
        ("images-retrievable", ["ground", "N9"], "error", "lint-ground"),
    ],
)
def test_lint_finds_what_is_odd_and_its_place(
    name: str, row: list[Any], severity: str, rule: str
) -> None:
    definition = edited(name, row)
    place = [code_of(one) for one in definition["action"]].index(name)
    path = f"PlanDefinition.action[{place}].extension[0]"
    assert (severity, rule, path) in found(definition)


def test_lint_asks_where_change_limits_are_from() -> None:
    rows = found(edited("newest-first", ["percent", "5", "L001"]))
    place = [code_of(one) for one in plan()["action"]].index("newest-first")
    assert ("warning", "lint-limit", f"PlanDefinition.action[{place}]") in rows
    assert "lint-limit" not in {row[1] for row in found(plan())}


def test_lint_looks_at_the_versions_beside_a_rule_set() -> None:
    def version(number: str, start: str, end: str = "") -> Json:
        period = {"start": start} | ({"end": end} if end else {})
        return plan("active", version=number, effectivePeriod=period)

    late = version("2.0.0", "2026-03-01")
    gap = ("warning", "lint-gap", "PlanDefinition.effectivePeriod.start")
    assert gap in found(late, [version("1.0.0", "2022-03-01", "2026-01-31")])
    assert gap not in found(late, [version("1.0.0", "2022-03-01", "2026-02-28")])
    early = version("1.0.0", "2022-03-01", "2026-01-31")
    ends = ("warning", "lint-gap", "PlanDefinition.effectivePeriod.end")
    assert ends in found(early, [late])
    assert ends in found(early)
    assert ends not in found(early, [version("2.0.0", "2026-02-01")])
    wrong = version("1.0.0", "2026-03-01", "2026-02-01")
    assert ("error", "lint-period", "PlanDefinition.effectivePeriod.end") in found(wrong)


def test_a_set_without_the_guard_of_compiled_windows_is_an_error() -> None:
    definition = plan()
    definition["action"] = [a for a in definition["action"] if code_of(a) != "window-published"]
    assert "lint-compiled" in {row[1] for row in found(definition) if row[0] == "error"}


def test_a_constant_condition_and_a_foreign_definition_are_errors() -> None:
    rows = found(with_rule(condition("1 = 1")) | {"status": "draft"})
    assert "lint-constant" in {row[1] for row in rows if row[0] == "error"}
    assert found({"resourceType": "PlanDefinition", "status": "draft"})[0][1] == "rule-set"


def test_a_difference_is_told_in_a_line() -> None:
    before = load_rule_set(plan())
    assert list(differences(before, before)) == []
    other = edited("within-window", ["override", 5, "L001"], ["start", "issued"])
    other["action"] = [a for a in other["action"] if code_of(a) != "printed-mark"]
    lines = list(differences(before, load_rule_set(other)))
    assert "- printed-mark@" in lines[0] and "(informs)" in lines[0]
    assert "~ within-window@2 override[L001]: none → 5" in lines
    assert "~ within-window@2 start: clinical → issued" in lines
