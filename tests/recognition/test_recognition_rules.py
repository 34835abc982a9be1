"""Rule sets: read from PlanDefinitions, refused with every fault, chosen by the day."""

from __future__ import annotations

import json
from typing import Any

import pytest
from recognition_cases import (
    PROFILES,
    RULE_SET,
    code_of,
    parameter,
    plan_definition,
)

from fhir_gateway.errors import Unprocessable
from fhir_gateway.fhir.datatypes import date_range
from fhir_gateway.fhir.validate import read_resource
from fhir_gateway.recognition.criteria import CRITERIA
from fhir_gateway.recognition.rules import RuleSet, choose, load_rule_set
from fhir_gateway.recognition.rules_condition import NAME as CONDITION
from fhir_gateway.settings import CANONICAL
from fhir_gateway.terminology.catalogue import load_catalogue

DAY = date_range("2026-11-20T10:00:00+08:00")[0]


def _refused(plan: dict[str, Any]) -> list[tuple[str | None, str | None]]:
    with pytest.raises(Unprocessable) as caught:
        load_rule_set(plan)
    return [(issue.expression, issue.rule) for issue in caught.value.issues]


def test_rule_set_1_0_0_is_a_draft_and_experimental() -> None:
    plan = plan_definition()
    assert (plan["version"], plan["status"], plan["experimental"]) == ("1.0.0", "draft", True)
    assert load_rule_set(plan).canonical == f"{CANONICAL}/PlanDefinition/recognition|1.0.0"


def test_rule_set_1_0_0_names_items_of_the_shipped_catalogue() -> None:
    catalogue = load_catalogue(PROFILES.parent / "terminology")
    rule = next(rule for rule in RULE_SET.rules if rule.name == "always-repeat@2")
    for items in rule.parameters.repeat.values():  # type: ignore[attr-defined]
        assert items - set(catalogue.items) == set()


def test_every_rule_says_itself_in_chinese_and_english() -> None:
    for action in plan_definition()["action"]:
        for name in ("title", "description"):
            assert any("\u4e00" <= character <= "\u9fff" for character in action[name])
            translation = action[f"_{name}"]["extension"][0]["extension"]
            assert translation[0]["valueCode"] == "en"
            assert translation[1]["valueString"].isascii()


@pytest.mark.parametrize("path", sorted(PROFILES.glob("*/*.json")), ids=lambda path: path.stem)
def test_shipped_profiles_are_valid_fhir(path: Any) -> None:
    text = path.read_text(encoding="utf-8").replace("{CANONICAL}", CANONICAL)
    read_resource(text.encode())


def test_the_code_system_of_criteria_is_the_table_of_criteria() -> None:
    system = json.loads((PROFILES / "CodeSystem" / "criterion.json").read_text(encoding="utf-8"))
    named = {name.partition("@")[0] for name in (*CRITERIA, CONDITION)}
    assert {concept["code"] for concept in system["concept"]} == named


def test_every_fault_of_a_rule_set_is_told_with_its_element() -> None:
    plan = plan_definition()
    del plan["version"]
    actions = plan["action"]
    actions[0]["code"][0]["coding"][0]["version"] = "9"
    actions[2]["extension"] = [parameter("leniency", True)]
    actions[3]["extension"] = [{"url": "http://example.org/other", "valueString": "x"}]
    del actions[4]["documentation"]
    window = next(action for action in actions if code_of(action) == "within-window")
    window["extension"] = [parameter("override", "seven", "K"), parameter("use_catalogue", "no")]
    place = actions.index(window)
    assert _refused(plan) == [
        ("PlanDefinition.version", "required"),
        ("PlanDefinition.action[0].code", "unknown-criterion"),
        ("PlanDefinition.action[2].extension[0]", "unknown-parameter"),
        ("PlanDefinition.action[3].extension[0]", "unknown-extension"),
        ("PlanDefinition.action[4].documentation", "clause-missing"),
        (f"PlanDefinition.action[{place}].extension", "parameter-type"),
        (f"PlanDefinition.action[{place}].extension", "parameter-type"),
    ]


def test_a_rule_set_without_rules_is_refused() -> None:
    assert _refused(plan_definition() | {"action": []}) == [("PlanDefinition.action", "required")]


def test_a_criterion_stands_once() -> None:
    plan = plan_definition()
    plan["action"].append(plan["action"][0])
    assert _refused(plan) == [("PlanDefinition.action", "criterion-repeated")]


@pytest.mark.parametrize(
    "rows",
    [
        [parameter("override", 1, "K"), parameter("override", 2, "K")],
        [parameter("start", "clinical"), parameter("start", "issued")],
        [parameter("start", "birth")],
        [parameter("override", -1, "K")],
    ],
    ids=["key twice", "value twice", "no such start", "negative days"],
)
def test_contradictory_or_impossible_parameters_are_refused(rows: list[dict[str, Any]]) -> None:
    plan = plan_definition()
    window = next(action for action in plan["action"] if code_of(action) == "within-window")
    window["extension"] = rows
    place = plan["action"].index(window)
    assert _refused(plan) == [(f"PlanDefinition.action[{place}].extension", "parameter-type")]


def test_the_digest_follows_the_rules_and_nothing_else() -> None:
    plan = plan_definition()
    same = load_rule_set(plan | {"status": "active", "date": "2030-01-01"})
    assert same.digest == load_rule_set(plan).digest
    reordered = json.loads(json.dumps(plan, sort_keys=True))
    assert load_rule_set(reordered).digest == same.digest
    plan["action"] = plan["action"][:-1]
    assert load_rule_set(plan).digest != same.digest


def _version(version: str, start: str, end: str = "", status: str = "active") -> RuleSet:
    period = {"start": start} | ({"end": end} if end else {})
    return load_rule_set(
        plan_definition() | {"version": version, "status": status, "effectivePeriod": period}
    )


@pytest.mark.parametrize(
    ("sets", "chosen"),
    [
        ([("1.0.0", "2026-01-01")], "1.0.0"),
        ([("1.0.0", "2026-01-01", "", "draft")], None),
        ([("1.0.0", "2026-01-01", "", "retired")], None),
        ([("1.0.0", "2026-11-21")], None),
        ([("1.0.0", "2026-11-20")], "1.0.0"),
        ([("1.0.0", "2026-01-01", "2026-11-19")], None),
        ([("1.0.0", "2026-01-01", "2026-11-20")], "1.0.0"),
        ([("1.0.0", "2026-01-01"), ("2.0.0", "2026-06-01")], "2.0.0"),
        ([("2.0.0", "2026-01-01"), ("1.9.0", "2026-06-01")], "1.9.0"),
        ([("1.9.0", "2026-01-01"), ("1.10.0", "2026-01-01")], "1.10.0"),
        ([("1.10.0", "2026-01-01"), ("1.9.0", "2026-01-01")], "1.10.0"),
        ([], None),
    ],
)
def test_the_rule_set_in_force_is_chosen_by_the_day(
    sets: list[tuple[str, ...]], chosen: str | None
) -> None:
    found = choose([_version(*row) for row in sets], DAY, "Asia/Shanghai")
    assert (found.version if found else None) == chosen


def test_a_rule_set_without_a_window_rule_has_no_window() -> None:
    plan = plan_definition() | {"status": "active"}
    plan["action"] = [a for a in plan["action"] if code_of(a) != "within-window"]
    assert load_rule_set(plan).window(None) == (None, "")
