"""Laws of decide that no table of cases can show: total, deterministic, never too generous."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from recognition_cases import (
    CATALOGUE,
    RULE_SET,
    candidate,
    cases,
    found_of,
    newest,
    query,
    rule_set,
    rules_of,
)

from fhir_gateway.fhir import datatypes
from fhir_gateway.recognition import judge, situation
from fhir_gateway.recognition.criteria import CRITERIA, Finding
from fhir_gateway.recognition.decide import decide
from fhir_gateway.recognition.model import CONTEXTS, Candidate, ItemOutcome, Query
from fhir_gateway.recognition.rule_set import RANK as RANKS
from fhir_gateway.recognition.rule_set import Rule
from fhir_gateway.recognition.texts_lines import LINES

#: How much use an earlier result may be, at most.
RANK = {"not-recognizable": 0, "view-only": 1, "cannot-decide": 2, "recognize": 3}

TIMES = (
    "2026-11-01T08:00:00+08:00", "2026-11-12T23:59:59+08:00", "2026-11-13T00:00:00+08:00",
    "2026-11-18T08:00:00+08:00", "2026-11-19T08:00:00+08:00", "2026-11-21T08:00:00+08:00",
    "2026-11-18", "2026-11",
)  # fmt: skip
STATUSES = ("registered", "preliminary", "final", "amended", "entered-in-error", "unknown")
ROWS: tuple[list[dict[str, Any]], ...] = (
    [], [{}], [{"passed": False}], [{}, {"passed": False}], [{"area": "110102"}],
    [{"end": "2026-11-17"}], [{"end": "2026-11-17"}, {"start": "2026-11-18"}],
)  # fmt: skip

lab_fields = st.fixed_dictionaries(
    {
        "time": st.sampled_from(TIMES),
        "issued": st.sampled_from((None, "2026-11-12T23:00:00+08:00", "2026-11-19T20:00:00+08:00")),
        "status": st.sampled_from(STATUSES),
        "report_status": st.sampled_from(("", *STATUSES)),
        "issuer": st.sampled_from(("", "hospital", "receiver")),
        "patient": st.sampled_from(("patient", "other")),
        "specimen": st.sampled_from(("", "serum", "plasma", "blood", "urine", "gas")),
        "unit": st.sampled_from(("", "mmol/L", "mg/dL", "furlong")),
        "method": st.sampled_from(("", "ISE", "flame")),
        "flags": st.integers(0, 511),
        "mark": st.sampled_from(("", "全国HR")),
        "evaluations": st.sampled_from(ROWS),
        "undated": st.booleans(),
        "value": st.sampled_from(("", "5.10", "5.30", "9.9", "<0.5", "阴性", "1e9999")),
        "quantity": st.sampled_from(("", "5.10", "-0", "1e9")),
        "zone_known": st.booleans(),
        "time_of": st.sampled_from(("", "collected", "issued")),
    }
)
imaging_fields = st.fixed_dictionaries(
    {
        "time": st.sampled_from(TIMES),
        "status": st.sampled_from((*STATUSES, "available")),
        "laterality": st.sampled_from(("", "L", "R", "B")),
        "images": st.sampled_from((True, False, None)),
        "retrievable": st.sampled_from((True, False, None)),
        "contrast": st.sampled_from(("", "none", "with")),
        "region": st.sampled_from(("", "HEAD", "SKULL", "CHEST")),
        "flags": st.sampled_from((0, 1, 4, 512)),
        "evaluations": st.sampled_from(ROWS),
    }
)
questions = st.builds(
    lambda context, identity, reaching, method, laterality, known, born: (
        {
            "context": context,
            "identity": identity,
            "receiver_within": reaching,
            "context_known": known,
            "born": born,
        },
        {"method": method, "laterality": laterality},
    ),
    st.lists(st.sampled_from((*CONTEXTS, "local:other")), max_size=2, unique=True),
    st.sampled_from((
        {}, {"documented": True}, {"documented": True, "contested": True},
        {"documented": True, "doubtful": True},
    )),
    st.sampled_from(((), ("100000", "110000", "110105"))),
    st.sampled_from(("", "ISE")),
    st.sampled_from(("", "L", "B")),
    st.booleans(),
    st.sampled_from(("", "1950-03", "2026-11-18", "never")),
)  # fmt: skip


_ITEMS = ("K", "K-COMPILED", "ENDLESS", "CT-DNA", "L088", "KNEE", "CT-HEAD", "US-THYROID")
#: The shipped rules, those of before, and some that refuse more.
SETS = {
    "shipped": RULE_SET,
    "first": rule_set(versions="first"),
    "stricter": rule_set(
        {
            "within-window": [["count", "hours"], ["start", "issued"]],
            "identity-certain": [["conflict", "refused"], ["own_record", False]],
            "contrast-comparable": [["stated", True]],
            "wider-examination": [["covers", "KNEE", "CT-HEAD"]],
        }
    ),
}
NAMES = tuple(SETS)


@st.composite
def situations(draw: Any) -> tuple[Query, list[Candidate]]:
    item = draw(st.sampled_from(_ITEMS))
    asked, ordered = draw(questions)
    fields = imaging_fields if CATALOGUE.items[item].kind == "imaging" else lab_fields
    rows = draw(st.lists(fields, max_size=4))
    found = [candidate(item, number, **dict(row)) for number, row in enumerate(rows)]
    return query({"item": item, **ordered}, **asked), found


def _answer(asked: Query, found: list[Candidate], rules: str = "shipped") -> ItemOutcome:
    (item,) = decide(asked, found, SETS[rules], CATALOGUE).items
    return item


@settings(max_examples=examples(150), deadline=None)
@given(situations())
def test_decide_is_total_and_the_outcome_follows_from_its_lines(
    given: tuple[Query, list[Candidate]],
) -> None:
    asked, found = given
    item = _answer(asked, found)
    assert item.outcome in RANK
    assert item.reason
    told = {other.source for other in item.others}
    if item.chosen is None:
        identity = asked.identity
        why = "identity-contested" if identity.contested else "none-available-to-you"
        why = "confirm-identity" if identity.doubtful else why
        assert item.reason == why
        assert told == {one.source for one in found}  # all of them void
        return
    assert told | {item.chosen.source} == {one.source for one in found}
    failed = {line.effect for line in item.lines if line.verdict == "fail"}
    unknown = {line.effect for line in item.lines if line.verdict == "unknown"}
    lowering = {"not-recognizable", "view-only"}
    assert (item.outcome == "recognize") == (not (failed | unknown) & lowering)
    assert (item.outcome == "not-recognizable") == ("not-recognizable" in failed)
    assert not item.suggest or item.outcome == "recognize"
    assert not item.suggest or asked.context_known
    assert item.reason in {"usable", *(line.reason for line in item.lines)}


odd = st.one_of(st.integers(-(1 << 62), 1 << 62), st.just(0))
words = st.text(max_size=8)
anything = st.builds(
    Candidate,
    source=words, rid=odd, version=odd, patient=words, item=st.sampled_from(("K", "CT-HEAD", "")),
    kind=st.sampled_from(("lab", "imaging")), time=odd, time_high=odd, issued=odd, status=words,
    report_status=words, issuer=words, specimen=words, unit=words, method=words, value=words,
    laterality=words, flags=odd, mark=words, time_of=words, zone_known=st.booleans(),
    quantity=words, region=words, contrast=words, retrievable=st.sampled_from((True, False, None)),
    evaluations=st.sampled_from([candidate("K", evaluations=rows).evaluations for rows in ROWS]),
)  # fmt: skip


@settings(max_examples=examples(150), deadline=None)
@given(st.lists(anything, max_size=4), st.sampled_from(NAMES), words, st.sampled_from(_ITEMS))
def test_decide_is_total_on_whatever_it_is_given(
    found: list[Candidate], rules: str, born: str, item: str
) -> None:
    asked = query({"item": item, "specimen": born, "contrast": born}, born=born)
    answer = _answer(asked, found, rules)
    assert answer.outcome in RANK
    for line in (*answer.lines, *(other.line for other in answer.others)):
        assert line.verdict == "not-applicable" or (line.rule, line.reason) in LINES


@settings(max_examples=examples(100), deadline=None)
@given(situations(), st.sampled_from(NAMES))
def test_an_older_result_changes_nothing_where_one_can_be_recognised(
    given: tuple[Query, list[Candidate]], rules: str
) -> None:
    asked, found = given
    before = _answer(asked, found, rules)
    if before.outcome != "recognize" or before.chosen is None:
        return
    older = candidate(
        before.chosen.item, 98, time="2025-01-01T08:00:00+08:00", value="9.9", flags=1
    )
    after = _answer(asked, [older, *found], rules)
    others = [one for one in after.others if one.source != older.source]
    assert msgspec.structs.replace(after, others=tuple(others)) == before


@settings(max_examples=examples(100), deadline=None)
@given(situations(), st.sampled_from(("status", "report_status")), st.sampled_from(TIMES))
def test_a_void_result_changes_nothing(
    given: tuple[Query, list[Candidate]], name: str, time: str
) -> None:
    asked, found = given
    before = _answer(asked, found)
    fields: dict[str, Any] = {name: "entered-in-error", "time": time, "flags": 1}
    void = candidate(asked.items[0].item or "", 98, **fields)
    after = _answer(asked, [*found, void])
    others = [one for one in after.others if one.source != void.source]
    assert msgspec.structs.replace(after, others=tuple(others)) == before


@settings(max_examples=examples(100), deadline=None)
@given(situations(), st.randoms(use_true_random=False))
def test_decide_does_not_depend_on_the_order_of_the_candidates(
    given: tuple[Query, list[Candidate]], random: Any
) -> None:
    asked, found = given
    shuffled = list(found)
    random.shuffle(shuffled)
    for rules in SETS.values():
        first = msgspec.json.encode(decide(asked, found, rules, CATALOGUE))
        assert msgspec.json.encode(decide(asked, shuffled, rules, CATALOGUE)) == first


@settings(max_examples=examples(100), deadline=None)
@given(situations())
def test_recorded_inputs_decide_again_to_the_same_bytes(
    given: tuple[Query, list[Candidate]],
) -> None:
    asked, found = given
    back = msgspec.json.decode(msgspec.json.encode(asked), type=Query)
    again = msgspec.json.decode(msgspec.json.encode(found), type=list[Candidate])
    for rules in SETS.values():
        first = msgspec.json.encode(decide(asked, found, rules, CATALOGUE))
        assert msgspec.json.encode(decide(back, again, rules, CATALOGUE)) == first


@settings(max_examples=examples(100), deadline=None)
@given(situations())
def test_a_newer_pending_result_never_makes_more_of_an_older_one(
    given: tuple[Query, list[Candidate]],
) -> None:
    asked, found = given
    item = asked.items[0].item or ""
    newer = candidate(
        item, 99, time="2026-11-20T09:59:00+08:00", issued=None, status="registered", flags=4
    )
    before, after = _answer(asked, found), _answer(asked, [*found, newer])
    assert after.outcome != "recognize"
    # alone it is at most for viewing, or undecided where the question itself is
    alone = _answer(asked, [newer])
    assert RANK[after.outcome] <= max(RANK[before.outcome], RANK[alone.outcome])
    assert after.chosen is not None
    if after.chosen.time_high < newer.time:
        assert newer.source in {one.candidate.source for one in after.newer}


FACTS = ("specimen", "unit", "issuer", "laterality", "images", "retrievable", "zone_known",
         "evaluations")  # fmt: skip


@settings(max_examples=examples(100), deadline=None)
@given(situations(), st.sampled_from(FACTS), st.sampled_from(NAMES))
def test_taking_evidence_away_never_makes_a_result_recognisable(
    given: tuple[Query, list[Candidate]], name: str, rules: str
) -> None:
    """Evidence is what speaks for a result. What speaks against it is another matter: to take away
    that a value is critical, or that a round was failed, is to say something else."""
    asked, found = given
    if not found:
        return
    lost = {"images": None, "retrievable": None, "zone_known": False, "issuer": ""}
    if name == "evaluations":
        rows = [row for row in found[0].evaluations if not row.passed]
        lost["evaluations"] = tuple(rows)
    without = [msgspec.structs.replace(found[0], **{name: lost.get(name, "")})]
    before, after = _answer(asked, found[:1], rules), _answer(asked, without, rules)
    assert after.outcome != "recognize" or before.outcome == "recognize"
    assert not after.suggest or before.suggest
    unsaid = msgspec.structs.replace(asked, context_known=False)
    assert not _answer(unsaid, found, rules).suggest or rules == "first"


@settings(max_examples=examples(100), deadline=None)
@given(situations())
def test_an_unknown_either_changes_nothing_or_leaves_it_undecided(
    given: tuple[Query, list[Candidate]],
) -> None:
    asked, found = given
    if not found or found[0].kind != "imaging":
        return
    outcomes = {
        images: _answer(asked, [msgspec.structs.replace(found[0], images=images)], "first").outcome
        for images in (True, False, None)
    }
    if outcomes[True] == outcomes[False]:
        assert outcomes[None] == outcomes[True]
    else:
        assert outcomes[None] == "cannot-decide"


def _rules() -> tuple[Rule, ...]:
    """One real rule for each effect, two for those that decide."""
    effects: dict[str, list[Rule]] = {}
    for rule in RULE_SET.rules:
        effects.setdefault(rule.criterion.effect, []).append(rule)
    return tuple(rule for rules in effects.values() for rule in rules[:2])


def _completions(findings: tuple[str, ...]) -> Iterator[tuple[bool, ...]]:
    choices = {"pass": (True,), "fail": (False,), "unknown": (True, False)}
    return itertools.product(*(choices[verdict] for verdict in findings))


def test_the_decision_table_is_total_and_agrees_with_every_completion() -> None:
    rules = _rules()
    effects = [rule.criterion.effect for rule in rules]
    ranks = [RANKS[effect] for effect in effects]
    for verdicts in itertools.product(("pass", "fail", "unknown"), repeat=len(rules)):
        findings: dict[int, Finding] = {
            n: (verdict, "x", None)  # type: ignore[misc]
            for n, verdict in enumerate(verdicts)
            if verdict != "pass"
        }
        outcome, deciding = judge.weigh(findings, ranks)
        possible = set()
        for completed in _completions(verdicts):
            broken = {effect for effect, met in zip(effects, completed, strict=True) if not met}
            possible.add(
                "not-recognizable"
                if "not-recognizable" in broken
                else "view-only"
                if "view-only" in broken
                else "recognize"
            )
        assert outcome == (possible.pop() if len(possible) == 1 else "cannot-decide")
        assert (deciding == -1) == (outcome == "recognize")


def test_rules_that_look_at_the_order_say_the_same_of_every_result() -> None:
    asked = query({"item": "K"}, context=["emergency"])
    entry = CATALOGUE.items["K"]
    at = situation.Situation(asked, asked.items[0], entry, RULE_SET.window(entry), 1, 0)
    ours = candidate("K")
    others = [candidate("K", 1, specimen="urine", status="unknown", flags=511, evaluations=[])]
    for rule in RULE_SET.rules:
        if rule.criterion.looks_at == "order":
            said = [rule.criterion.check(at, one, rule.parameters) for one in (ours, *others)]
            assert said[0] == said[1], rule.name


@pytest.fixture(params=["UTC", "Asia/Shanghai", "America/New_York"])
def machine_zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    for cached in (datatypes._date_range, situation.midnight, situation.period):
        cached.cache_clear()
    yield request.param
    monkeypatch.undo()
    time.tzset()


def test_the_window_does_not_depend_on_the_zone_of_the_machine(machine_zone: str) -> None:
    for case in cases():
        if case["id"].startswith(("within-window", "times-plausible", "first-versions")):
            asked = query(case.get("ordered", {}), **case.get("query", {}))
            (item,) = decide(asked, found_of(case), rules_of(case), CATALOGUE).items
            assert item.outcome == case["expect"]["outcome"], case["name"]


def test_summer_time_of_1986_to_1991_is_counted_in_calendar_days() -> None:
    asked = query(as_of="1986-05-05T00:30:00+09:00")  # Shanghai was on UTC+9 from 4 May 1986
    rules = rule_set({"within-window": [["override", 1, "K"]]})
    rows = [{"start": "", "end": ""}]
    for text, outcome in (
        ("1986-05-04T00:00:00+08:00", "recognize"),
        ("1986-05-03T23:59:59+08:00", "view-only"),
    ):
        found = [candidate("K", time=text, issued=None, evaluations=rows)]
        (item,) = decide(asked, found, rules, CATALOGUE).items
        assert item.outcome == outcome


def test_all_criteria_are_in_the_rule_set_in_their_newest_version() -> None:
    assert {rule.name for rule in RULE_SET.rules} == newest(CRITERIA)
