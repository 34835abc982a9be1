"""What rule sets, lint, levels and differences say of what is seldom written."""

from __future__ import annotations

from typing import Any

import pytest
from recognition_cases import (
    CATALOGUE,
    PROFILES,
    RULE_SET,
    candidate,
    code_of,
    parameter,
    plan_definition,
    query,
    rule_set,
)

from fhir_gateway.errors import Unprocessable
from fhir_gateway.recognition.candidates import items_to_read
from fhir_gateway.recognition.decide import decide
from fhir_gateway.recognition.lint import lint
from fhir_gateway.recognition.marks import marks_at
from fhir_gateway.recognition.model import CRITICAL, ItemOutcome
from fhir_gateway.recognition.rules import CRITERION_SYSTEM, load_rule_set
from fhir_gateway.recognition.rules_condition import LANGUAGE
from fhir_gateway.recognition.rules_diff import differences
from fhir_gateway.recognition.rules_parameters import SEVERITY_URL
from fhir_gateway.recognition.rules_resolve import Widened, applicable, resolve
from fhir_gateway.recognition.rules_scope import CONTEXT_TYPE
from fhir_gateway.recognition.rules_texts import TRANSLATION_URL, said
from fhir_gateway.recognition.spell import exam_day, exam_time, window_end
from fhir_gateway.recognition.vocabulary import coding_of
from fhir_gateway.terminology.area import AREA_SYSTEM
from fhir_gateway.terminology.value_set import load_vocabulary

Json = dict[str, Any]
VOCABULARY = load_vocabulary(PROFILES.parent / "terminology")


def _plan(**changes: Any) -> Json:
    return plan_definition() | {"status": "draft"} | changes


def _edited(**rows: list[list[Any]]) -> Json:
    """The shipped rule set with other parameters; `item_listed` stands for item-listed."""
    definition = _plan()
    for action in definition["action"]:
        given = rows.get(code_of(action).replace("-", "_"))
        if given is not None:
            action["extension"] = [parameter(*row) for row in given]
    return definition


def _faults(definition: Json) -> set[tuple[str, str]]:
    with pytest.raises(Unprocessable) as caught:
        load_rule_set(definition)
    return {(one.expression or "", one.rule or "") for one in caught.value.issues}


def _found(definition: Json) -> set[tuple[str, str]]:
    issues = lint(definition, VOCABULARY.catalogue, [], depth=lambda area: 1, contexts=VOCABULARY)
    return {(one.severity, one.rule or "") for one in issues}


def _condition(expression: str, *extensions: Json, id: str = "extra") -> Json:
    return {
        "id": id,
        "title": "条件",
        "extension": list(extensions),
        "code": [{"coding": [{"system": CRITERION_SYSTEM, "version": "1", "code": "condition"}]}],
        "documentation": [{"type": "citation", "label": "本院规定"}],
        "condition": [
            {
                "kind": "applicability",
                "expression": {"language": LANGUAGE, "expression": expression},
            }
        ],
    }


# -- reading ---------------------------------------------------------------------------------------


def test_a_rule_set_without_its_head_says_all_that_is_missing() -> None:
    assert _faults({"resourceType": "PlanDefinition"}) == {
        ("PlanDefinition.url", "required"),
        ("PlanDefinition.version", "required"),
        ("PlanDefinition.status", "required"),
        ("PlanDefinition.action", "required"),
    }
    odd = _faults(_plan(status="unknown", version="1|2"))
    assert odd >= {
        ("PlanDefinition.status", "rule-set-status"),
        ("PlanDefinition.version", "rule-set-version"),
    }


def test_actions_that_name_no_criterion_or_a_wrong_severity_are_faults() -> None:
    definition = _plan()
    definition["action"][0]["code"] = [{"coding": [{"system": "other", "code": "x"}]}]
    definition["action"][1].setdefault("extension", []).append(
        {"url": SEVERITY_URL, "valueCode": "always"}
    )
    definition["action"][2]["extension"] = [
        {"url": SEVERITY_URL, "valueCode": "informs"},
        {"url": SEVERITY_URL, "valueCode": "decides"},
    ]
    definition["action"].append({"title": "no code at all"})
    faults = _faults(definition)
    assert ("PlanDefinition.action[0].code", "unknown-criterion") in faults
    assert ("PlanDefinition.action[2].extension[0]", "rule-severity") in faults
    place = len(definition["action"]) - 1
    assert (f"PlanDefinition.action[{place}].code", "unknown-criterion") in faults
    assert len([one for one in faults if one[1] == "rule-severity"]) == 2


@pytest.mark.parametrize("url", ["http://example.org/other", None])
def test_a_condition_takes_no_parameters(url: str | None) -> None:
    given = {"url": url, "valueCode": "x"} if url else parameter("classes", "x")
    definition = _plan()
    definition["action"].append(_condition("status = 'final'", given))
    place = len(definition["action"]) - 1
    rule = "unknown-extension" if url else "unknown-parameter"
    assert _faults(definition) == {(f"PlanDefinition.action[{place}].extension[0]", rule)}


def test_a_condition_sees_a_critical_value_a_word_and_no_value() -> None:
    definition = _plan(status="active")
    expression = "interpretation.coding.code = 'AA' or value.exists().not() or value = '阳性'"
    definition["action"].append(_condition(expression))
    rules = load_rule_set(definition)
    for fields, verdict in (
        ({"flags": CRITICAL}, "pass"),
        ({"value": ""}, "pass"),
        ({"value": "阳性"}, "pass"),
        ({"value": "5.10", "specimen": "", "method": "ISE"}, "unknown"),
    ):
        (item,) = decide(query(), [candidate("K", **fields)], rules, CATALOGUE).items
        line = next(one for one in item.lines if one.rule.startswith("condition@1"))
        assert line.verdict == verdict, fields


def test_texts_in_markdown_and_in_other_languages() -> None:
    def translated(language: str, name: str) -> Json:
        parts = [{"url": "lang", "valueCode": language}, {"url": "content", name: language}]
        return {"url": TRANSLATION_URL, "extension": parts}

    element = {
        "description": "中文",
        "_description": {
            "extension": [translated("fr", "valueString"), translated("en-GB", "valueMarkdown")]
        },
    }
    assert said(element, "description") == ("中文", "en-GB")
    assert said({"description": 7}, "description") == ("", "")


# -- where it holds --------------------------------------------------------------------------------


def test_a_scope_is_one_area_or_one_institution_and_names_its_base() -> None:
    area = {"coding": [{"system": AREA_SYSTEM, "code": "110000"}]}
    venue = {"code": {"system": CONTEXT_TYPE, "code": "venue"}}
    here = venue | {"valueReference": {"reference": "Organization/receiver"}}
    other = {"code": {"system": CONTEXT_TYPE, "code": "focus"}}
    lists = {"type": "depends-on", "resource": "http://example.org/list"}
    faults = _faults(_plan(jurisdiction=[area], useContext=[here, other], relatedArtifact=[lists]))
    assert faults == {
        ("PlanDefinition.jurisdiction", "rule-set-scope"),
        ("PlanDefinition.relatedArtifact", "rule-set-base"),
    }
    wrong = _plan(
        jurisdiction=[{"coding": [{"system": "x", "code": "y"}]}],
        useContext=[venue | {"valueReference": {"reference": "Location/1"}}],
    )
    assert _faults(wrong) == {
        ("PlanDefinition.jurisdiction[0]", "rule-set-scope"),
        ("PlanDefinition.useContext[0]", "rule-set-scope"),
    }
    china = {"coding": [{"system": "urn:iso:std:iso:3166", "code": "CN"}]}
    assert load_rule_set(_plan(jurisdiction=[china])).scope.said() == "nation"


def _overlay(*actions: Json, **changes: Any) -> Any:
    base = plan_definition()["url"]
    head = {"url": f"{base}-here", "version": "1", "status": "active", "action": list(actions)}
    venue = {
        "code": {"system": CONTEXT_TYPE, "code": "venue"},
        "valueReference": {"reference": "Organization/receiver"},
    }
    derived = {"type": "derived-from", "resource": base}
    return load_rule_set(head | {"useContext": [venue], "relatedArtifact": [derived]} | changes)


def test_an_overlay_whose_period_is_over_leaves_the_base_alone() -> None:
    over = _overlay(_condition("status = 'final'"), effectivePeriod={"end": "2020-01-01"})
    found = applicable([RULE_SET, over], ("110000",), "receiver", query().as_of_us, "Asia/Shanghai")
    assert found == (RULE_SET, [])


def test_a_condition_of_the_same_id_is_not_taken_over() -> None:
    first, second = (_overlay(_condition(text)) for text in ("status = 'final'", "code.exists()"))
    noted: list[Widened] = []
    both = resolve(resolve(RULE_SET, [first], lambda area: 1), [second], lambda area: 1, noted)
    assert [one.rule for one in noted] == ["condition@1#extra"]
    assert len([rule for rule in both.rules if "#" in rule.name]) == 1
    same: list[Widened] = []
    resolve(resolve(RULE_SET, [first], lambda area: 1), [first], lambda area: 1, same)
    assert same == []


def test_an_overlay_names_the_source_of_its_windows() -> None:
    action = next(one for one in _plan()["action"] if code_of(one) == "within-window")
    rows = [parameter("override", 3, "K"), parameter("override_source", "published:HERE")]
    over = _overlay(action | {"extension": rows})
    assert over.scope.said() == "institution receiver"
    rules = resolve(RULE_SET, [over], lambda area: 1)
    (item,) = decide(query(), [candidate("K")], rules, CATALOGUE).items
    assert (item.outcome, item.window_days, item.suggest) == ("recognize", 3, True)
    assert item.window_source == "published:HERE"


def test_wider_examinations_are_read_with_the_ordered_item() -> None:
    rules = rule_set({"wider-examination": [["covers", "CT-HEAD", "CT-TRUNK"]]})
    assert items_to_read(query({"item": "CT-HEAD"}), rules.wider) == ["CT-HEAD", "CT-TRUNK", ""]
    assert items_to_read(query({"item": "CT-TRUNK"}), rules.wider) == ["CT-TRUNK", ""]


def test_an_overlay_adds_situations_to_those_of_the_base() -> None:
    action = next(one for one in _plan()["action"] if code_of(one) == "always-repeat")
    over = _overlay(action | {"extension": [parameter("repeat", "K", "dialysis")]})
    rules = resolve(RULE_SET, [over], lambda area: 1)
    (item,) = decide(query(context=["dialysis"]), [candidate("K")], rules, CATALOGUE).items
    assert (item.outcome, item.reason) == ("not-recognizable", "always-repeat")


# -- lint ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "finding"),
    [
        (
            {"item_listed": [["negative", "L001"]], "within_window": [["override", 5, "L001"]]},
            ("warning", "lint-contradiction"),
        ),
        (
            {"report_final": [["final", "final"], ["void", "final"]]},
            ("error", "lint-unreachable"),
        ),
        ({"within_window": [["override", 7, "L001"]]}, ("information", "lint-redundant")),
        (
            {"specimen_comparable": [["interchangeable", "serum"], ["interchangeable", "lava"]]},
            ("warning", "lint-unreachable"),
        ),
        (
            {
                "item_listed": [["negative", "L088"]],
                "always_repeat": [["repeat", "L088", "dialysis"]],
            },
            ("warning", "lint-contradiction"),
        ),
        (
            {
                "reminded_by_default": [["remind", "I001"]],
                "always_repeat": [["repeat", "I001", "dialysis"]],
            },
            ("warning", "lint-contradiction"),
        ),
        ({"reminded_by_default": [["remind", "I001"]]}, ("information", "lint-redundant")),
    ],
)
def test_lint_sets_parameters_beside_each_other(
    rows: dict[str, list[list[Any]]], finding: tuple[str, str]
) -> None:
    assert finding in _found(_edited(**rows))


def test_lint_says_when_no_specimen_may_stand_for_another_and_no_rule_gives_windows() -> None:
    assert ("error", "lint-unreachable") not in _found(_edited(specimen_comparable=[]))
    without = _plan()
    without["action"] = [one for one in without["action"] if code_of(one) != "within-window"]
    assert _found(without) >= {("warning", "lint-window"), ("warning", "lint-unreachable")}


# -- differences -----------------------------------------------------------------------------------


def test_every_kind_of_difference_is_told() -> None:
    before = _edited(item_listed=[["negative", "L001"]])
    before["action"].append(_condition("status = 'final'"))
    after = _edited(
        item_listed=[["negative", "L002"]],
        wider_examination=[["covers", "I001", "I003"]],
        window_published=[["prefixes", "rule-set"]],
    )
    after["effectivePeriod"] = {"start": "2027-01-01"}
    after["action"].append(_condition("code.exists()"))
    after["action"].append(_condition("code.exists()", id="new"))
    after["action"][1]["title"] = "另一标题"
    after["action"][2]["documentation"][0]["label"] = "另一依据"
    after["action"][3:5] = reversed(after["action"][3:5])
    told = "\n".join(differences(load_rule_set(before), load_rule_set(after)))
    for text in (
        "period: ", "~ item-listed@1 negative: + L002", "~ item-listed@1 negative: - L001",
        "+ condition@1#new (lowers) 本院规定", "~ condition@1#extra expression: status = 'final' →",
        "order of the rules", "title: ", "clause: ", 'covers[I003]: none → ["I001"]',
        'prefixes: ["published:"] → ["rule-set"]',
    ):  # fmt: skip
        assert text in told, text


# -- times and marks -------------------------------------------------------------------------------


def test_times_are_told_as_exactly_as_they_are_known() -> None:
    zone = "Asia/Shanghai"
    for text, time, day in (
        ("2026-11-18T08:00:00+08:00", "2026-11-18T00:00:00.000Z", "2026-11-18"),
        ("2026-11-18", "2026-11-18", "2026-11-18"),
        ("2026-11", "2026-11", "2026-11"),
        ("2026", "2026", "2026"),
    ):
        one = candidate("K", time=text)
        assert (exam_time(one, zone), exam_day(one, zone)) == (time, day)
    assert exam_day(candidate("K", undated=True), zone) == "日期不明"
    unknown = ItemOutcome("1", "K", "cannot-decide", "x", candidate("K"), window_days=7)
    assert window_end(unknown, zone) == ""


def test_the_marks_of_a_moment_are_those_of_each_area() -> None:
    rows = candidate(
        "K",
        evaluations=[
            {},
            {"round": "2026-2"},
            {"area": "120000", "passed": False},
            {"area": "100000", "start": "2027-01-01", "end": ""},
        ],
    ).evaluations
    at = candidate("K").time
    assert [(row.area, row.round) for row in marks_at(rows, at, "Asia/Shanghai")] == [
        ("110000", "2026-2")
    ]


def test_a_ground_is_a_coding_of_the_list_of_grounds() -> None:
    assert coding_of(VOCABULARY.reasons["N1"])["code"] == "N1"
