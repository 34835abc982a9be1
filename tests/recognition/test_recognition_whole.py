"""A panel: every member has its outcome, the worst is that of the order line."""

from __future__ import annotations

import itertools

import msgspec
import pytest
from recognition_cases import CATALOGUE, RULE_SET, candidate, query

from fhir_gateway.recognition.decide import decide
from fhir_gateway.recognition.model import Decision, ItemOutcome, OrderedItem
from fhir_gateway.recognition.whole import WORST, wholes

OUTCOMES = tuple(WORST)


def _decision(*members: tuple[str, bool]) -> Decision:
    items = [
        ItemOutcome("panel", f"I{n}", outcome, f"why-{n}", suggest=suggest)  # type: ignore[arg-type]
        for n, (outcome, suggest) in enumerate(members)
    ]
    return Decision(tuple(items), "", 0, 0)


@pytest.mark.parametrize("pair", list(itertools.product(OUTCOMES, repeat=2)))
def test_the_worst_member_is_the_outcome_of_the_whole(pair: tuple[str, str]) -> None:
    (whole,) = wholes(_decision((pair[0], False), (pair[1], False)))
    worst = min(pair, key=OUTCOMES.index)
    assert (whole.outcome, whole.reason) == (worst, f"why-{pair.index(worst)}")
    assert not whole.suggest


def test_it_is_offered_only_when_every_member_may_be() -> None:
    assert wholes(_decision(("recognize", True), ("recognize", True)))[0].suggest
    assert not wholes(_decision(("recognize", True), ("recognize", False)))[0].suggest


def test_a_line_of_one_item_is_no_panel() -> None:
    assert wholes(_decision(("recognize", True))) == []


def test_members_are_answered_each_and_an_unmapped_part_leaves_the_whole_undecided() -> None:
    lines = tuple(OrderedItem("panel", item) for item in ("K", "K-FREE", None))
    asked = msgspec.structs.replace(query(), items=(*lines, OrderedItem("one", "K")))
    decision = decide(asked, [candidate("K"), candidate("K-FREE")], RULE_SET, CATALOGUE)
    assert [item.outcome for item in decision.items[:3]] == [
        "recognize",
        "recognize",
        "cannot-decide",
    ]
    (whole,) = wholes(decision)
    assert (whole.key, whole.outcome, whole.reason) == (
        "panel",
        "cannot-decide",
        "order-not-mapped",
    )
    assert len(whole.members) == 3
