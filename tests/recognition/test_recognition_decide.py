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
    candidate,
    cases,
    newest,
    query,
    rule_set,
)

from fhir_gateway.recognition.criteria import CRITERIA
from fhir_gateway.recognition.decide import NEWEST_FIRST, decide
from fhir_gateway.recognition.model import Candidate, Decision, OrderedItem, Query

CASES = cases()


def _decided(case: dict[str, Any]) -> tuple[Query, list[Candidate], Decision]:
    ordered = case.get("ordered", {})
    asked = query(ordered, **case.get("query", {}))
    item = ordered.get("item", "K")
    found = [candidate(item, n, **fields) for n, fields in enumerate(case["candidates"])]
    rules = rule_set(case["parameters"]) if "parameters" in case else RULE_SET
    return asked, found, decide(asked, found, rules, CATALOGUE)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["id"])
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
        lines = {line.rule: [line.rule, line.verdict, line.reason] for line in item.lines}
        said["line"] = lines[case["expect"]["line"][0]]
    assert said == case["expect"]


def test_every_criterion_has_a_case_that_it_decides() -> None:
    decided = set()
    for case in CASES:
        (item,) = _decided(case)[2].items
        decided |= {line.rule for line in item.lines if line.reason}
    assert decided == {*newest(CRITERIA), NEWEST_FIRST}


def test_the_chosen_result_has_one_line_for_every_rule_in_their_order() -> None:
    for item in ("K", "CT-HEAD"):
        (answer,) = decide(query({"item": item}), [candidate(item)], RULE_SET, CATALOGUE).items
        names = [rule.name for rule in RULE_SET.rules]
        assert [line.rule for line in answer.lines] == [*names, NEWEST_FIRST]


def test_every_line_of_a_rule_cites_its_clause() -> None:
    (answer,) = decide(query(), [candidate("K")], RULE_SET, CATALOGUE).items
    clauses = [rule.clause for rule in RULE_SET.rules]
    assert [line.clause for line in answer.lines[:-1]] == clauses
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
    rules = rule_set({"within-window@1": [["use_catalogue", True]]})
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


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["id"])
def test_questions_candidates_and_decisions_survive_json(case: dict[str, Any]) -> None:
    for value in _flat(_decided(case)):
        raw = msgspec.json.encode(value)
        back = msgspec.json.decode(raw, type=type(value))
        assert back == value
        assert msgspec.json.encode(back) == raw


def _flat(values: tuple[Query, list[Candidate], Decision]) -> list[Any]:
    asked, found, decision = values
    return [asked, *found, decision]
