"""Every criterion, boundary and outcome, from the tables in cases/; and what decide promises."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import Any

import msgspec
import pytest
from recognition_cases import (
    CATALOGUE,
    RULE_SET,
    WHOLE,
    candidate,
    cases,
    code_of,
    files,
    found_of,
    plan_definition,
    query,
    rule_set,
    rules_of,
)

from fhir_gateway.recognition.criteria import CRITERIA
from fhir_gateway.recognition.decide import NEWEST_FIRST, decide
from fhir_gateway.recognition.model import Candidate, Decision, OrderedItem, Query
from fhir_gateway.recognition.texts import REASONS
from fhir_gateway.recognition.texts_lines import LINES

ALL = cases()


def _decided(case: dict[str, Any]) -> tuple[Query, list[Candidate], Decision]:
    asked = query(case.get("ordered", {}), **case.get("query", {}))
    found = found_of(case)
    return asked, found, decide(asked, found, rules_of(case), CATALOGUE)


@pytest.mark.parametrize("case", ALL, ids=lambda case: case["id"])
def test_case(case: dict[str, Any]) -> None:
    _, found, decision = _decided(case)
    (item,) = decision.items
    said = {name: getattr(item, name) for name in case["expect"] if hasattr(item, name)}
    numbers = {one.source: n for n, one in enumerate(found)}
    if "chosen" in said:
        said["chosen"] = numbers[item.chosen.source] if item.chosen else None
    if "newer" in said:
        said["newer"] = [numbers[one.candidate.source] for one in item.newer]
    if "others" in said:
        said["others"] = {str(numbers[one.source]): one.outcome for one in item.others}
    if "line" in case["expect"]:
        wanted = case["expect"]["line"]
        lines = [[line.rule, line.verdict, line.reason] for line in item.lines]
        said["line"] = wanted if wanted in lines else [one for one in lines if one[0] == wanted[0]]
    assert said == case["expect"]


def test_there_are_enough_cases_and_each_file_has_the_clause_of_its_rule() -> None:
    assert len(ALL) >= 150
    cited = {
        code_of(action): action["documentation"][0]["label"]
        for action in plan_definition()["action"]
    }
    for name, file in files().items():
        assert file["criterion"] == name
        assert file.get("clause", "") == cited.get(name, ""), name
    assert set(files()) == set(cited) | WHOLE


def test_every_criterion_reason_effect_ground_and_outcome_has_its_case() -> None:
    """A table with a row that no case reaches is not tested: this fails for each such row."""
    reached: dict[str, set[str]] = {"rule": set(), "pair": set(), "effect": set()}
    whole: dict[str, set[str]] = {"outcome": set(), "ground": set(), "reason": set()}
    for case in ALL:
        (item,) = _decided(case)[2].items
        for line in (*item.lines, *(other.line for other in item.others)):
            reached["pair"].add(f"{line.rule} {line.reason}")
            reached["rule"].add(line.rule)
            if line.verdict in ("fail", "unknown"):
                reached["effect"].add(line.effect)
        whole["outcome"].add(item.outcome)
        whole["ground"].add(item.ground)
        whole["reason"].add(item.reason)
    assert reached["rule"] == {*CRITERIA, NEWEST_FIRST}
    assert reached["effect"] == {
        "not-recognizable",
        "view-only",
        "no-suggestion",
        "information",
    }
    assert whole["outcome"] == {"recognize", "view-only", "not-recognizable", "cannot-decide"}
    assert whole["ground"] >= {"", "N1", "N2", "N3", "N4", "N5", "N6", "P8"}
    pairs = {f"{rule} {reason}" for rule, reason in LINES if not rule.startswith("condition@")}
    assert sorted(pairs - reached["pair"]) == []
    of_the_question = {"patient-unknown", "identity-contradictory"}
    assert set(REASONS) - whole["reason"] == of_the_question


def test_the_chosen_result_has_one_line_for_every_rule_in_their_order() -> None:
    for item in ("K", "CT-HEAD"):
        (answer,) = decide(query({"item": item}), [candidate(item)], RULE_SET, CATALOGUE).items
        names = [rule.name for rule in RULE_SET.rules]
        assert [line.rule for line in answer.lines] == names


def test_a_rule_set_without_a_rule_on_newer_results_has_the_first_version_of_it() -> None:
    rules = rule_set(versions="first")
    (answer,) = decide(query(), [candidate("K")], rules, CATALOGUE).items
    assert [line.rule for line in answer.lines] == [
        *(one.name for one in rules.rules),
        NEWEST_FIRST,
    ]


def test_every_line_of_a_rule_cites_its_clause() -> None:
    (answer,) = decide(query(), [candidate("K")], RULE_SET, CATALOGUE).items
    clauses = [rule.clause for rule in RULE_SET.rules]
    assert [line.clause for line in answer.lines] == clauses
    assert all(clauses)


def test_other_candidates_carry_the_first_line_that_decided() -> None:
    found = [candidate("K"), candidate("K", 1, specimen="urine", evaluations=[])]
    (answer,) = decide(query(), found, RULE_SET, CATALOGUE).items
    (other,) = answer.others
    assert (other.line.rule, other.line.reason) == ("specimen-comparable@1", "specimen-differs")
    assert other.line.values == {"specimen": "urine", "expected": "血清/血浆"}


def test_results_of_an_item_that_left_the_catalogue_are_for_viewing() -> None:
    items = {code: item for code, item in CATALOGUE.items.items() if code != "K"}
    catalogue = replace(CATALOGUE, items=MappingProxyType(items))
    rules = rule_set({"within-window": [["use_catalogue", True]]})
    (answer,) = decide(query(), [candidate("K")], rules, catalogue).items
    assert (answer.outcome, answer.reason) == ("view-only", "item-not-in-catalogue")


def test_a_newer_result_says_whether_it_is_pending() -> None:
    time = {"time": "2026-11-19T08:00:00+08:00", "issued": None}
    found = [
        candidate("K"),
        candidate("K", 1, report_status="preliminary", **time),
        candidate("K", 2, evaluations=[], **time),
        candidate("K", 3, status="registered", flags=4, **time),
    ]
    (answer,) = decide(query(), found, RULE_SET, CATALOGUE).items
    pending = {one.candidate.source: one.pending for one in answer.newer}
    assert pending == {"Observation/K-1": True, "Observation/K-2": False, "Observation/K-3": True}


def test_a_gap_between_rule_sets_is_cannot_decide_for_every_line() -> None:
    lines = (OrderedItem("a", "K"), OrderedItem("b", "CT-HEAD"), OrderedItem("c", None))
    asked = msgspec.structs.replace(query(), items=lines)
    decision = decide(asked, [candidate("K")], None, CATALOGUE)
    assert [(i.outcome, i.reason) for i in decision.items] == [
        ("cannot-decide", "no-rule-set-in-force"),
        ("cannot-decide", "no-rule-set-in-force"),
        ("cannot-decide", "order-not-mapped"),
    ]
    assert decision.rule_set == ""


def test_a_decision_names_its_rule_set_its_edition_its_moment_and_its_commit() -> None:
    asked = query()
    decision = decide(asked, [], RULE_SET, CATALOGUE)
    assert decision.rule_set == RULE_SET.canonical
    assert (decision.as_of_us, decision.t, decision.catalogue) == (asked.as_of_us, 7, "test")


def test_lines_are_answered_in_their_order_and_apart() -> None:
    lines = tuple(
        OrderedItem(key, item) for key, item in (("x", "CT-HEAD"), ("y", "K"), ("z", "K"))
    )
    asked = msgspec.structs.replace(query(), items=lines)
    decision = decide(asked, [candidate("K"), candidate("KNEE")], RULE_SET, CATALOGUE)
    assert [(item.key, item.outcome) for item in decision.items] == [
        ("x", "not-recognizable"),
        ("y", "recognize"),
        ("z", "recognize"),
    ]


@pytest.mark.parametrize("case", ALL, ids=lambda case: case["id"])
def test_questions_candidates_and_decisions_survive_json(case: dict[str, Any]) -> None:
    for value in _flat(_decided(case)):
        raw = msgspec.json.encode(value, order="deterministic")  # a set has no order of its own
        back = msgspec.json.decode(raw, type=type(value))
        assert back == value
        assert msgspec.json.encode(back, order="deterministic") == raw


def _flat(values: tuple[Query, list[Candidate], Decision]) -> list[Any]:
    asked, found, decision = values
    return [asked, *found, decision]
