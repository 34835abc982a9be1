"""Results that are alike are judged once: that must never change what is decided."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal, cast

from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from bench.decide import ROOT, cases, result
from bench.decide import rule_set as shipped
from fhir_gateway.recognition.criteria import CRITERIA
from fhir_gateway.recognition.decide import decide
from fhir_gateway.recognition.model import Candidate, OrderedItem
from fhir_gateway.recognition.record import render_decided
from fhir_gateway.recognition.rule_set import RuleSet, rule_set_of
from fhir_gateway.recognition.situation import Situation
from fhir_gateway.terminology.catalogue import Catalogue, load_catalogue

CATALOGUE: Catalogue = load_catalogue(ROOT / "terminology")
RULE_SET: RuleSet = shipped()
CASES = cases(CATALOGUE)


class Watched:
    """A result that notes which of its fields are looked at."""

    def __init__(self, candidate: Candidate) -> None:
        self.candidate = candidate
        self.seen: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        self.seen.add(name)
        return getattr(self.candidate, name)


def changes() -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(
        {},
        optional={
            "status": st.sampled_from(["final", "registered", "entered-in-error", "available"]),
            "report_status": st.sampled_from(["final", "", "preliminary", "cancelled"]),
            "flags": st.sampled_from([0, 1, 4, 8, 128, 256, 512]),
            "specimen": st.sampled_from(["serum", "urine", ""]),
            "unit": st.sampled_from(["mmol/L", "g/L", ""]),
            "method": st.sampled_from(["", "ELISA"]),
            "laterality": st.sampled_from(["", "L", "R", "B"]),
            "contrast": st.sampled_from(["", "none", "with"]),
            "region": st.sampled_from(["", "HEAD", "CHEST"]),
            "images": st.sampled_from([None, True, False]),
            "retrievable": st.sampled_from([None, True, False]),
            "zone_known": st.booleans(),
            "mark": st.sampled_from(["", "HR"]),
            "issuer": st.sampled_from(["", "h1", "r"]),
            "evaluations": st.just(()),
            "time_of": st.sampled_from(["collected", "issued"]),
            "value": st.sampled_from(["5.10", "9.90", ""]),
        },
    )


def ordered() -> st.SearchStrategy[dict[str, str]]:
    return st.fixed_dictionaries(
        {},
        optional={
            "specimen": st.sampled_from(["serum", "urine"]),
            "laterality": st.sampled_from(["L", "R"]),
            "contrast": st.sampled_from(["none", "with"]),
            "method": st.sampled_from(["ELISA"]),
        },
    )


@given(changes(), ordered(), st.sampled_from(["lab", "imaging"]))
@settings(max_examples=examples(60))
def test_a_criterion_looks_at_no_other_field_than_it_names(
    found: dict[str, Any], asked: dict[str, str], kind: Literal["lab", "imaging"]
) -> None:
    item = CATALOGUE.of(kind)[0]
    query = CASES["nothing on file"][0]
    line = replace(OrderedItem("0", item.code), **asked)
    at = Situation(query, line, item, RULE_SET.window(item), 1, 0, CATALOGUE.items)
    for name, criterion in CRITERIA.items():
        if criterion.fields is not None and kind in criterion.kinds:
            watched = Watched(replace(result(item, 1), **found))
            criterion.check(at, cast(Candidate, watched), criterion.parameters())
            assert watched.seen <= set(criterion.fields), name


@given(
    st.lists(changes(), min_size=2, max_size=6),
    ordered(),
    st.sampled_from(["lab", "imaging"]),
    st.sets(st.sampled_from(["emergency", "dialysis"])),
)
@settings(max_examples=examples(60))
def test_what_was_judged_before_changes_nothing(
    found: list[dict[str, Any]],
    asked: dict[str, str],
    kind: Literal["lab", "imaging"],
    context: set[str],
) -> None:
    items = CATALOGUE.of(kind)[:2]
    lines = tuple(replace(OrderedItem(str(n), one.code), **asked) for n, one in enumerate(items))
    query = replace(CASES["nothing on file"][0], items=lines, context=frozenset(context))
    given_ = [
        result(one, number, **changed) for one in items for number, changed in enumerate(found)
    ]
    new = rule_set_of(RULE_SET.rules, **{n: getattr(RULE_SET, n) for n in _HEAD})
    assert new == RULE_SET  # what was found before is no part of what a rule set is
    again = decide(query, given_, RULE_SET, CATALOGUE)
    assert again == decide(query, given_, new, CATALOGUE)
    for line in lines:  # nor does it matter what is asked beside it
        own = next(one for one in again.items if one.key == line.key)
        alone = decide(replace(query, items=(line,)), given_[::-1], new, CATALOGUE)
        assert alone.items == (own,)
        assert render_decided(alone) == render_decided(replace(again, items=(own,)))


_HEAD = ("url", "version", "status", "start", "end", "digest", "lists", "scope", "experimental")


def test_another_catalogue_is_not_answered_from_what_was_found_by_the_first() -> None:
    query, found = CASES["the newest is recognised"]
    entry = CATALOGUE.items[found[0].item]
    changed = {**CATALOGUE.items, entry.code: dataclasses.replace(entry, ucum_unit="[pH]")}
    other = dataclasses.replace(CATALOGUE, items=changed)
    assert decide(query, found, RULE_SET, CATALOGUE).items[0].outcome == "recognize"
    assert decide(query, found, RULE_SET, other).items[0].reason == "unit-not-comparable"
    assert decide(query, found, RULE_SET, CATALOGUE).items[0].outcome == "recognize"
