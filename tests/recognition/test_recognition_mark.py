"""The register in pure functions: nested areas, rounds, suspensions, tables, and what never is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from recognition_cases import CATALOGUE, PROFILES, candidate, query

from fhir_gateway.errors import Unprocessable
from fhir_gateway.recognition import criteria
from fhir_gateway.recognition.criteria_mark import mark_of_2, registered, standing_2
from fhir_gateway.recognition.register import (
    Entry,
    derive,
    entries_of,
    verification_result,
)
from fhir_gateway.recognition.register_change import Chosen, expire, resume, suspend
from fhir_gateway.recognition.register_import import Reading, Registered
from fhir_gateway.recognition.register_plan import Held, Plan, plan_import
from fhir_gateway.recognition.situation import Situation, Window, mark_of, standing
from fhir_gateway.security.evaluating_body import EvaluatingBody, body_of, organization_of_body
from fhir_gateway.security.institution import Institution
from fhir_gateway.store.changes import Derived, Evaluation
from fhir_gateway.store.store import Stored
from fhir_gateway.terminology.area import load_areas
from fhir_gateway.terminology.evaluation import Suspension, body_faults, spans, why_not
from fhir_gateway.terminology.sheet import read_sheet

AREAS = load_areas(PROFILES.parent / "terminology")


def _situation(area: str = "110105", **asked: Any) -> Situation:
    within = tuple(sorted(AREAS.within(area)))
    at = query({"item": "K"}, receiver_within=within, receiver_area=area, **asked)
    return Situation(at, at.items[0], CATALOGUE.items["K"], Window(7, "test"), 1, 0)


def _row(**fields: Any) -> dict[str, Any]:
    usual = {"start": "2026-01-01", "end": "2026-12-31"}
    return usual | fields


# --- areas ------------------------------------------------------------------------------------

NESTED = [
    ("CN", "110105", True), ("CN", "440000", True), ("JJJ", "110105", True),
    ("JJJ", "120101", True), ("JJJ", "130100", True), ("JJJ", "370000", False),
    ("JJJL", "370000", True), ("JJJL", "110105", True), ("110000", "110105", True),
    ("110000", "110000", True), ("110000", "120101", False), ("120000", "110105", False),
    ("110102", "110105", False), ("110105", "110000", False), ("130100", "130200", False),
    ("130000", "130100", True), ("130100", "130102", True), ("310000", "110105", False),
    ("CSJ", "310000", True), ("CY", "110105", False),
]  # fmt: skip


@pytest.mark.parametrize(("mark", "receiver", "reached"), NESTED)
def test_a_mark_reaches_what_lies_in_its_area(mark: str, receiver: str, reached: bool) -> None:
    found = candidate("K", evaluations=[_row(area=mark)])
    said = standing_2(_situation(receiver), found)
    assert said == ("evaluated" if reached else "area-not-covered")
    assert standing(_situation(receiver), found) == said


@given(st.sampled_from(sorted(AREAS.areas)), st.sampled_from(sorted(AREAS.areas)))
def test_a_wider_area_covers_all_that_the_narrower_one_covers(area: str, receiver: str) -> None:
    if standing_2(_situation(receiver), candidate("K", evaluations=[_row(area=area)])) != (
        "evaluated"
    ):
        return
    for wider in AREAS.within(area):
        found = candidate("K", evaluations=[_row(area=wider)])
        assert standing_2(_situation(receiver), found) == "evaluated"


def _body(level: str, area: str, kind: str = "general") -> EvaluatingBody:
    return EvaluatingBody(id=f"{level}-body", name="质控中心", level=level, area=area, kind=kind)


@pytest.mark.parametrize(
    ("level", "area", "claimed", "city_wide", "allowed"),
    [
        ("national", "CN", "110105", False, True),
        ("national", "CN", "CN", False, True),
        ("regional", "JJJ", "JJJ", False, True),
        ("regional", "JJJ", "130100", False, True),
        ("regional", "JJJ", "CN", False, False),
        ("regional", "JJJ", "JJJL", False, False),
        ("city", "110000", "110000", False, True),
        ("city", "110000", "110105", False, True),
        ("city", "110000", "JJJ", True, False),
        ("city", "110000", "120000", False, False),
        ("district", "110105", "110105", False, True),
        ("district", "110105", "110000", False, False),
        ("district", "110105", "110000", True, True),
        ("district", "110105", "CN", True, False),
        ("district", "110105", "110102", True, False),
        ("district", "130102", "130100", True, True),
        ("district", "130102", "130000", True, False),
        ("city", "110000", "nowhere", False, False),
    ],
)
def test_a_body_evaluates_for_its_area_and_what_lies_in_it(
    level: str, area: str, claimed: str, city_wide: bool, allowed: bool
) -> None:
    why = why_not(_body(level, area), claimed, AREAS, city_wide=city_wide)
    assert (why == "") == allowed


def test_a_body_is_stored_and_read_back_and_its_faults_are_told() -> None:
    body = _body("city", "110000", "tcm")
    assert body_of(organization_of_body(body)) == body
    assert body_of({"resourceType": "Organization", "id": "x"}) is None
    assert body_faults(body, AREAS) == []
    assert len(body_faults(EvaluatingBody(id="x", name="", level="big", area="?"), AREAS)) == 3
    assert body_faults(_body("district", "110000"), AREAS) != []


# --- rounds beside each other -----------------------------------------------------------------

RANK = {"evaluated": 1}
DAYS = ("2026-01-01", "2026-06-01", "2026-11-18", "2026-11-19", "2026-12-31")
rounds = st.fixed_dictionaries(
    {
        "start": st.sampled_from(("", *DAYS)),
        "end": st.sampled_from(("", *DAYS)),
        "area": st.sampled_from(("CN", "110000", "110105", "120000")),
        "evaluator": st.sampled_from(("general", "tcm")),
        "passed": st.booleans(),
    }
)
times = st.sampled_from(
    ("2026-11-18T08:00:00+08:00", "2026-11-18", "2026-11", "2026-11-17T16:00:00Z")
)


@settings(max_examples=examples(300), deadline=None)
@given(st.lists(rounds, max_size=4), rounds, times)
def test_a_failed_round_never_makes_a_mark(
    rows: list[dict[str, Any]], failed: dict[str, Any], time: str
) -> None:
    before = candidate("K", time=time, issued=None, evaluations=rows)
    more = [*rows, failed | {"passed": False}]
    after = candidate("K", time=time, issued=None, evaluations=more)
    at = _situation()
    assert RANK.get(standing_2(at, after), 0) <= RANK.get(standing_2(at, before), 0)
    assert bool(registered(at, after)) <= bool(registered(at, before))


@settings(max_examples=examples(300), deadline=None)
@given(st.lists(rounds, max_size=4), times, st.randoms(use_true_random=False))
def test_the_order_of_rounds_changes_nothing_and_a_mark_has_its_round(
    rows: list[dict[str, Any]], time: str, random: Any
) -> None:
    shuffled = list(rows)
    random.shuffle(shuffled)
    at = _situation()
    one, two = (
        candidate("K", time=time, issued=None, evaluations=these) for these in (rows, shuffled)
    )
    assert standing_2(at, one) == standing_2(at, two)
    if standing_2(at, one) == "evaluated":
        mark = mark_of_2(at, one)
        assert mark is not None
        assert mark.passed


def test_what_was_decided_by_the_first_version_is_decided_so_again() -> None:
    at = _situation()
    overlapping = [_row(), _row(start="2026-07-01", passed=False, round="2")]
    found = candidate("K", evaluations=overlapping)
    assert (standing(at, found), standing_2(at, found)) == (
        "evaluation-contradictory",
        "evaluation-failed",
    )
    old = criteria.CRITERIA["quality-evaluation@1"].check
    assert old(at, found, None) == ("unknown", "evaluation-contradictory", None)
    for rows, expected in (
        ([_row(), _row(round="2")], "evaluated"),
        ([], "not-evaluated"),
        ([_row(passed=False)], "evaluation-failed"),
        ([_row(end="2026-11-17"), _row(start="2026-11-18")], "evaluated"),
        ([_row(area="120000")], "area-not-covered"),
        ([_row(end="2026-01-31")], "evaluation-not-in-period"),
    ):
        assert standing(at, candidate("K", evaluations=rows)) == expected
    assert mark_of(at, candidate("K", evaluations=[_row(), _row(round="2")])) is not None
    printed = criteria.CRITERIA["printed-mark@1"]
    asked = printed.parameters(printed_mark_required=True)
    assert printed.check(at, candidate("K", mark=""), asked)[1] == "mark-not-printed"
    assert printed.check(at, candidate("K", mark=""), printed.parameters())[0] == "not-applicable"
    assert printed.check(at, candidate("K", mark="HR"), asked)[0] == "pass"
    assert printed.check(at, found_nothing("HR"), asked)[1] == "mark-without-evaluation"


def found_nothing(mark: str) -> Any:
    return candidate("K", mark=mark, evaluations=[])


# --- suspensions ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("suspensions", "left"),
    [
        ([("suspended", "2026-03-01", "")], [("2026-01-01", "2026-02-28")]),
        (
            [("suspended", "2026-03-01", "2026-04-30")],
            [("2026-01-01", "2026-02-28"), ("2026-05-01", "2026-12-31")],
        ),
        ([("suspended", "2025-01-01", "")], []),
        ([("suspended", "2027-01-01", "")], [("2026-01-01", "2026-12-31")]),
        ([("suspended", "2025-01-01", "2025-12-31")], [("2026-01-01", "2026-12-31")]),
        ([("expired", "2026-03-01", "2026-04-30")], [("2026-01-01", "2026-02-28")]),
        (
            [("suspended", "2026-03-01", "2026-03-31"), ("expired", "2026-06-01", "")],
            [("2026-01-01", "2026-02-28"), ("2026-04-01", "2026-05-31")],
        ),
        ([("suspended", "2026-12-31", "")], [("2026-01-01", "2026-12-30")]),
    ],
)
def test_suspended_days_are_cut_out(
    suspensions: list[tuple[str, str, str]], left: list[tuple[str, str]]
) -> None:
    cut = [Suspension(kind, since, until, "test") for kind, since, until in suspensions]
    assert spans("2026-01-01", "2026-12-31", cut) == left


ENTRY = Entry(
    "hospital", "K", "lab", "110000", "2026-01-01", "2026-12-31", True, "质控中心", "city-body", "1"
)


def _held(*entries: Entry, id: str = "evaluation-x-1") -> Held:
    resource = verification_result(id, entries)
    stored = Stored("VerificationResult", id, 1, 0, False, 0, 1, 0, msgspec.json.encode(resource))
    return Held(stored, resource, entries_of(resource))


def _rows(resource: dict[str, Any]) -> list[tuple[str, str, str, bool]]:
    derived = Derived()
    derive(resource, derived)
    return [(row.item, row.start, row.end, row.passed) for row in derived.evaluations]


def _after(change: Any, held: Held, chosen: Chosen, day: str) -> Held:
    (made,) = change([held], chosen, day, "reason")
    return Held(held.stored, made.resource, entries_of(made.resource))


def test_one_item_is_suspended_resumed_and_expired_and_the_rest_stays() -> None:
    held = _held(ENTRY, ENTRY._replace(item="KNEE", kind="imaging"))
    one = Chosen("hospital", frozenset({"K"}))
    held = _after(suspend, held, one, "2026-03-01")
    assert suspend([held], one, "2026-04-01", "again") == []
    held = _after(resume, held, one, "2026-05-01")
    assert resume([held], one, "2026-06-01", "again") == []
    held = _after(expire, held, one, "2026-10-01")
    assert resume([held], one, "2026-11-01", "never") == []
    assert _rows(held.resource) == [
        ("K", "2026-01-01", "2026-02-28", True),
        ("K", "2026-05-01", "2026-09-30", True),
        ("KNEE", "2026-01-01", "2026-12-31", True),
    ]
    assert expire([held], Chosen("hospital"), "2027-01-01", "it is over anyway") == []
    assert suspend([held], Chosen("other"), "2026-01-01", "nobody") == []


def test_a_failed_round_is_not_taken_back_by_a_suspension() -> None:
    held = _held(ENTRY._replace(passed=False))
    assert suspend([held], Chosen("hospital"), "2026-03-01", "no") == []


# --- tables -----------------------------------------------------------------------------------

BODIES = {
    one.id: one
    for one in (
        _body("city", "110000"),
        EvaluatingBody(id="district-body", name="区中心", level="district", area="110105"),
        EvaluatingBody(id="tcm-body", name="中医中心", level="city", area="110000", kind="tcm"),
        EvaluatingBody(id="old-body", name="旧中心", level="city", area="110000", active=False),
    )
}
INSTITUTIONS = {
    one.id: one
    for one in (
        Institution(id="hospital", name="甲医院"),
        Institution(id="twin-1", name="同名医院"),
        Institution(id="twin-2", name="同名医院"),
    )
}
KNOWN = Registered(CATALOGUE, AREAS, INSTITUTIONS, BODIES)
HEADER = "institution,item,area,start,end,passed,evaluator,round"


def _read(*rows: str, header: str = HEADER, encoding: str = "utf-8") -> Reading:
    text = "\n".join((header, *rows)) + "\n"
    reading = Reading(read_sheet(text.encode(encoding), "table.csv"), KNOWN)
    reading.read()
    return reading


def _imported(plan: Plan, version: int = 1) -> list[Held]:
    found = []
    for change in plan.changes:
        if change.resource is not None:
            body = msgspec.json.encode(change.resource)
            stored = Stored("VerificationResult", change.id, version, 0, False, 0, 1, 0, body)
            found.append(Held(stored, change.resource, entries_of(change.resource)))
    return found


def _faults(*rows: str, **more: Any) -> list[str]:
    with pytest.raises(Unprocessable) as caught:
        _read(*rows, **more)
    return [issue.diagnostics.removeprefix("table.csv, ") for issue in caught.value.issues]


def test_a_table_is_read_in_chinese_gb18030_with_all_spellings_of_days() -> None:
    reading = _read(
        "甲医院,临床化学,北京市,2026/1/1,2026年12月31日,合格,质控中心,一",
        "hospital,KNEE,110105,20260101,,不合格,区中心,",
        header="机构,项目,互认范围,起始日期,截止日期,结果,评价机构,轮次",
        encoding="gb18030",
    )
    said = {(e.item, e.area, e.start, e.end, e.passed, e.body) for e in reading.entries}
    assert ("K", "110000", "2026-01-01", "2026-12-31", True, "city-body") in said
    assert ("KNEE", "110105", "2026-01-01", "", False, "district-body") in said
    assert reading.notices != []


def test_every_fault_is_told_with_row_and_column_at_once() -> None:
    told = _faults(
        ",X,nowhere,2026-02-30,,maybe,nobody,1",
        "同名医院,K,110000,2026-12-31,2026-01-01,true,旧中心,1",
        "hospital,K,CN,2026-01-01,,true,district-body,1",
        f"hospital,K,110000,2026-01-01,,true,city-body,{'r' * 101}",
    )
    places = [text.split(":")[0] for text in told]
    assert places == [
        "row 2, column A (institution)",
        "row 2, column G (evaluator)",
        "row 2, column C (area)",
        "row 2, column D (start)",
        "row 2, column F (passed)",
        "row 2, column B (item)",
        "row 3, column A (institution)",
        "row 3, column G (evaluator)",
        "row 3, column E (end)",
        "row 4, column C (area)",
        "row 5, column H (round)",
    ]


@pytest.mark.parametrize(
    ("header", "rule"),
    [("institution,item", "evaluation-columns"), (f"{HEADER},机构", "evaluation-columns")],
)
def test_a_table_with_other_columns_is_refused(header: str, rule: str) -> None:
    with pytest.raises(Unprocessable) as caught:
        _read("a,b", header=header)
    assert caught.value.issues[0].rule == rule


def test_a_table_without_rows_is_refused() -> None:
    assert _faults() == ["table.csv: the table has no rows"]


def test_a_row_twice_is_told_and_rows_that_disagree_are_refused() -> None:
    row = "hospital,K,110000,2026-01-01,2026-12-31,true,city-body,1"
    assert _read(row, row).notices == ["row 3 says the same as row 2"]
    other = row.replace("true", "false")
    assert _faults(row, other)[0].startswith("row 3, column F (passed): row 2 says something else")


def test_the_same_table_twice_changes_nothing_and_a_changed_one_changes_that() -> None:
    rows = [
        "hospital,*,110000,2026-01-01,2026-12-31,true,city-body,1",
        "hospital,K,110105,2026-01-01,2026-12-31,true,district-body,1",
    ]
    first = plan_import(_read(*rows), [])
    register = _imported(first)
    assert (len(first.changes), first.added) == (2, len(CATALOGUE.items) + 1)
    again = plan_import(_read(*rows), register)
    assert (again.changes, again.unchanged) == ((), len(CATALOGUE.items) + 1)
    failed = plan_import(
        _read("hospital,K,110000,2026-01-01,2026-12-31,false,city-body,1"), register
    )
    assert (failed.added, failed.changed, len(failed.changes)) == (0, 1, 2)
    said = sorted(
        row for change in failed.changes if change.resource for row in _rows(change.resource)
    )
    assert ("K", "2026-01-01", "2026-12-31", False) in said
    assert ("K", "2026-01-01", "2026-12-31", True) not in said


def test_a_round_whose_last_item_moves_is_deleted_and_suspensions_move_along() -> None:
    row = "hospital,K,110000,2026-01-01,2026-12-31,true,city-body,1"
    register = _imported(plan_import(_read(row), []))
    (suspended,) = suspend(register, Chosen("hospital"), "2026-03-01", "reason")
    assert suspended.resource is not None
    register = [Held(register[0].stored, suspended.resource, entries_of(suspended.resource))]
    assert plan_import(_read(row), register).changes == ()
    longer = plan_import(_read(row.replace("2026-12-31", "2027-12-31")), register)
    put, gone = longer.changes
    assert gone.resource is None
    assert put.resource is not None
    assert _rows(put.resource) == [("K", "2026-01-01", "2026-02-28", True)]


def test_rounds_that_contradict_each_other_are_refused_or_told() -> None:
    passed = "hospital,K,110000,2026-01-01,2026-12-31,true,city-body,1"
    register = _imported(plan_import(_read(passed), []))
    same_day = _read("hospital,K,110000,2026-01-01,2026-06-30,false,city-body,2")
    with pytest.raises(Unprocessable) as caught:
        plan_import(same_day, register)
    assert caught.value.issues[0].rule == "evaluation-contradicts"
    later = _read("hospital,K,110000,2026-07-01,2026-12-31,false,city-body,2")
    plan_import(later, register)
    assert "the later one counts" in later.notices[0]
    other = _read("hospital,K,110000,2026-01-01,2026-12-31,false,tcm-body,1")
    plan_import(other, register)
    assert "contradict each other" in other.notices[0]


def test_a_district_centre_is_listed_city_wide_only_where_the_row_says_so() -> None:
    row = "hospital,K,110000,2026-01-01,,true,district-body,1"
    assert "city-wide" in _faults(row)[0]
    (entry,) = _read(f"{row},true", header=f"{HEADER},city_wide").entries
    (change,) = plan_import(_read(f"{row},是", header=f"{HEADER},全市"), []).changes
    assert change.resource is not None
    assert entry.city_wide
    assert entries_of(change.resource)[0].city_wide


def test_scores_are_kept_with_their_items(tmp_path: Path) -> None:
    row = "hospital,K,110000,2026-01-01,,true,city-body,1,98.5"
    (change,) = plan_import(_read(row, header=f"{HEADER},score"), []).changes
    assert change.resource is not None
    assert entries_of(change.resource)[0].score == "98.5"


def test_an_evaluation_without_an_outcome_says_nothing() -> None:
    for status in ("attested", "in-process", "req-revalid"):
        resource = verification_result("x", [ENTRY]) | {"status": status}
        assert _rows(resource) == []
    assert list(_nothing({"resourceType": "Patient"})) == []


def _nothing(resource: dict[str, Any]) -> Iterator[Evaluation]:
    derived = Derived()
    derive(resource, derived)
    yield from derived.evaluations
