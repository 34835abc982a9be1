"""What stored resources say: facts, report links, candidates; the register; the sentences."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from recognition_cases import CATALOGUE, RULE_SET, candidate, cases, query, rules_of

from fhir_gateway.fhir import wire
from fhir_gateway.fhir.datatypes import date_range
from fhir_gateway.fhir.keys import key64
from fhir_gateway.recognition import facts, texts
from fhir_gateway.recognition.candidates import (
    Register,
    add_rows,
    candidates,
    evaluations_to_read,
    items_to_read,
)
from fhir_gateway.recognition.decide import NEWEST_FIRST, decide
from fhir_gateway.recognition.model import (
    ABNORMAL,
    CRITICAL,
    DATA_ABSENT,
    IMAGES,
    NO_IMAGES,
    PENDING,
    PRINTED_MARK,
    TEXT_ONLY,
    VALUELESS,
)
from fhir_gateway.recognition.situation import ENDLESS
from fhir_gateway.store.changes import Derived, Evaluation, Fact, ReportLink
from fhir_gateway.store.store import StoredFact
from fhir_gateway.terminology.catalogue import IMAGING_SYSTEM, LAB_SYSTEM

DAY = "2026-11-18"
LOW, HIGH = date_range(DAY)


def observation(**fields: Any) -> dict[str, Any]:
    plain: dict[str, Any] = {
        "resourceType": "Observation",
        "id": "o",
        "status": "final",
        "code": {"coding": [{"system": LAB_SYSTEM, "code": "K"}]},
        "subject": {"reference": "Patient/p"},
        "effectiveDateTime": DAY,
        "issued": "2026-11-18T15:00:00+08:00",
        "performer": [{"reference": "Practitioner/d"}, {"reference": "Organization/hospital"}],
        "valueQuantity": {"value": wire.number("5.10"), "unit": "mmol/L"},
        "specimen": {"display": "血清"},
    }
    return {name: value for name, value in (plain | fields).items() if value is not None}


def report(**fields: Any) -> dict[str, Any]:
    plain: dict[str, Any] = {
        "resourceType": "DiagnosticReport",
        "id": "r",
        "status": "final",
        "code": {"coding": [{"system": IMAGING_SYSTEM, "code": "CT-HEAD"}]},
        "subject": {"reference": "Patient/p"},
        "effectiveDateTime": DAY,
        "issued": "2026-11-18T15:00:00+08:00",
        "performer": [{"reference": "Organization/hospital"}],
        "imagingStudy": [{"reference": "ImagingStudy/s"}],
    }
    return {name: value for name, value in (plain | fields).items() if value is not None}


def study(**fields: Any) -> dict[str, Any]:
    plain: dict[str, Any] = {
        "resourceType": "ImagingStudy",
        "id": "s",
        "status": "available",
        "subject": {"reference": "Patient/p"},
        "started": DAY,
        "endpoint": [{"reference": "Endpoint/pacs"}],
    }
    return {name: value for name, value in (plain | fields).items() if value is not None}


def derived(resource: dict[str, Any]) -> Derived:
    rows = Derived()
    facts.derive(resource, rows)
    return rows


def fact(resource: dict[str, Any]) -> Fact:
    (only,) = derived(resource).facts
    return only


def test_a_coded_result_gives_one_fact() -> None:
    assert fact(observation()) == Fact(
        item="K",
        time=LOW,
        time_high=HIGH,
        issued=date_range("2026-11-18T15:00:00+08:00")[0],
        kind="lab",
        status="final",
        issuer="hospital",
        specimen="serum",
        unit="mmol/L",
        method="",
        value="5.10",
        laterality="",
        flags=0,
        mark="",
        source="Observation/o",
        more="c",
    )


def test_a_result_that_no_map_knows_gives_no_fact() -> None:
    assert derived(observation(code={"text": "钾"})) == Derived()


def test_other_resources_give_nothing() -> None:
    assert derived({"resourceType": "Patient", "id": "p"}) == Derived()


def test_each_coded_component_gives_a_fact_of_its_own() -> None:
    part = {"code": {"coding": [{"system": LAB_SYSTEM, "code": "L088"}]}, "valueString": "A"}
    resource = observation(component=[part, {"code": {"text": "?"}, "valueString": "x"}])
    assert [(one.item, one.value) for one in derived(resource).facts] == [
        ("K", "5.10"),
        ("L088", "A"),
    ]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"effectiveDateTime": "2026-11-18T08:00:00+08:00"}, "2026-11-18T08:00:00+08:00"),
        ({"effectiveDateTime": "2026-11"}, "2026-11"),
        (
            {"effectiveDateTime": None, "effectiveInstant": "2026-11-18T00:00:00Z"},
            "2026-11-18T00:00:00Z",
        ),
        (
            {"effectiveDateTime": None, "effectivePeriod": {"start": "2026-11-17", "end": DAY}},
            "2026-11-17",
        ),
        (
            {"effectiveDateTime": None, "effectiveTiming": {"event": [DAY, "2026-11-17"]}},
            "2026-11-17",
        ),
    ],
)
def test_the_clock_starts_at_collection(fields: dict[str, Any], expected: str) -> None:
    found = fact(observation(**fields))
    assert (found.time, found.time_high) == date_range(expected)


def test_collection_may_stand_in_the_contained_specimen() -> None:
    specimen = {"resourceType": "Specimen", "id": "x", "collection": {"collectedDateTime": DAY}}
    found = fact(observation(effectiveDateTime=None, contained=[specimen]))
    assert (found.time, found.time_high) == (LOW, HIGH)


def test_without_a_collection_time_the_report_bounds_it() -> None:
    found = fact(observation(effectiveDateTime=None))
    assert (found.time, found.time_high) == (0, date_range("2026-11-18T15:00:00+08:00")[1])
    without = fact(observation(effectiveDateTime=None, issued=None))
    assert (without.time, without.time_high, without.issued) == (0, ENDLESS, 0)


def test_a_day_in_no_calendar_is_no_time() -> None:
    assert fact(observation(effectiveDateTime="2026-02-30")).time == 0


def _interpreted(code: str) -> list[dict[str, Any]]:
    return [{"coding": [{"code": code}]}]


@pytest.mark.parametrize(
    ("fields", "flags"),
    [
        ({"interpretation": _interpreted("N")}, 0),
        ({"interpretation": _interpreted("H")}, ABNORMAL),
        ({"interpretation": _interpreted("HH")}, CRITICAL),
        ({"interpretation": _interpreted("LL")}, CRITICAL),
        ({"status": "registered", "valueQuantity": None}, PENDING),
        ({"status": "preliminary"}, PENDING),
        ({"valueQuantity": None, "valueString": "溶血"}, TEXT_ONLY),
        ({"valueQuantity": None}, VALUELESS),
        ({"valueQuantity": {"unit": "mmol/L"}}, VALUELESS),
        ({"valueQuantity": None, "dataAbsentReason": {"text": "?"}}, DATA_ABSENT),
        ({"extension": [{"url": facts.MARK_URL, "valueString": "全国HR"}]}, PRINTED_MARK),
    ],
)
def test_flags(fields: dict[str, Any], flags: int) -> None:
    assert fact(observation(**fields)).flags == flags


@pytest.mark.parametrize(
    ("fields", "value", "unit"),
    [
        (
            {"valueQuantity": {"value": wire.number("1e2"), "comparator": "<", "unit": "U/L"}},
            "<1e2",
            "U/L",
        ),
        (
            {
                "valueQuantity": {
                    "value": 5,
                    "unit": "毫摩",
                    "system": "http://unitsofmeasure.org",
                    "code": "mmol/L",
                }
            },
            "5",
            "mmol/L",
        ),
        ({"valueQuantity": None, "valueCodeableConcept": {"text": "阴性"}}, "阴性", ""),
        ({"valueQuantity": None, "valueCodeableConcept": {"coding": [{"code": "NEG"}]}}, "NEG", ""),
        (
            {
                "valueQuantity": None,
                "valueRatio": {"numerator": {"value": 1}, "denominator": {"value": 80}},
            },
            "1:80",
            "",
        ),
        (
            {"valueQuantity": None, "valueRange": {"low": {"value": 1}, "high": {"value": 5}}},
            "1-5",
            "",
        ),
        ({"valueQuantity": None, "valueInteger": 3}, "3", ""),
    ],
)
def test_values_keep_their_spelling(fields: dict[str, Any], value: str, unit: str) -> None:
    found = fact(observation(**fields))
    assert (found.value, found.unit) == (value, unit)


def test_an_imaging_report_gives_a_fact_and_tells_its_study_its_status() -> None:
    rows = derived(report())
    assert [(one.item, one.kind, one.source) for one in rows.facts] == [
        ("CT-HEAD", "imaging", "DiagnosticReport/r")
    ]
    issued = date_range("2026-11-18T15:00:00+08:00")[0]
    assert rows.links == [ReportLink(key64("ImagingStudy/s"), "final", issued)]


def test_a_laboratory_report_tells_its_results_its_status() -> None:
    code = {"coding": [{"system": LAB_SYSTEM, "code": "K"}]}
    results = [{"reference": "Observation/o"}, {"reference": "https://elsewhere/Observation/x"}]
    rows = derived(report(code=code, imagingStudy=None, result=results, status="amended"))
    issued = date_range("2026-11-18T15:00:00+08:00")[0]
    assert (rows.facts, rows.links) == ([], [ReportLink(key64("Observation/o"), "amended", issued)])


def test_a_laboratory_report_without_results_yet_is_a_pending_fact() -> None:
    code = {"coding": [{"system": LAB_SYSTEM, "code": "K"}]}
    found = fact(report(code=code, imagingStudy=None, status="registered"))
    assert (found.item, found.kind, found.flags) == ("K", "lab", PENDING)


@pytest.mark.parametrize(
    ("fields", "flags"),
    [
        ({}, IMAGES),
        ({"endpoint": None}, 0),
        (
            {"endpoint": None, "series": [{"uid": "1", "endpoint": [{"reference": "Endpoint/e"}]}]},
            IMAGES,
        ),
        ({"endpoint": None, "numberOfInstances": 0}, NO_IMAGES),
        ({"status": "cancelled"}, NO_IMAGES),
        ({"status": "entered-in-error"}, NO_IMAGES),
        ({"status": "registered"}, PENDING | IMAGES),
    ],
)
def test_a_study_says_whether_images_can_be_fetched(fields: dict[str, Any], flags: int) -> None:
    found = fact(study(**fields))
    assert (found.item, found.flags) == ("", flags)


def test_a_coded_study_stands_under_its_item_with_its_side() -> None:
    coding = {"system": IMAGING_SYSTEM, "code": "KNEE"}
    series = [{"uid": "1", "laterality": {"code": "7771000"}}]
    found = fact(study(procedureCode=[{"coding": [coding]}], series=series))
    assert (found.item, found.laterality) == ("KNEE", "L")


@pytest.mark.parametrize(
    ("concepts", "side"),
    [
        ([], ""),
        ([None], ""),
        ([{"code": "R"}], "R"),
        ([{"text": "左侧"}], "L"),
        ([{"coding": [{"code": "24028007"}]}, {"code": "L"}], "B"),
        ([{"code": "24028007", "display": "Right"}], "R"),
        ([{"text": "knee"}], ""),
    ],
)
def test_sides(concepts: list[Any], side: str) -> None:
    assert facts.laterality(concepts) == side


def stored(one: Fact, report_source: str = "", report_status: str = "") -> StoredFact:
    return StoredFact(one, 1, 2, 3, "p", report_status, report_source)


def test_a_report_and_its_study_are_one_candidate_with_the_study_s_images() -> None:
    of_report, of_study = fact(report()), fact(study())
    found = candidates([stored(of_report), stored(of_study, "DiagnosticReport/r", "final")], {})
    assert [(one.source, one.images, one.version, one.t_from) for one in found] == [
        ("DiagnosticReport/r", True, 2, 3)
    ]


def test_a_report_lends_itself_time_and_side_from_its_study() -> None:
    coding = {"system": IMAGING_SYSTEM, "code": "CT-HEAD"}
    series = [{"uid": "1", "laterality": {"code": "L"}}]
    of_study = fact(study(procedureCode=[{"coding": [coding]}], series=series))
    of_report = fact(report(effectiveDateTime=None))
    found = candidates([stored(of_report), stored(of_study, "DiagnosticReport/r", "final")], {})
    assert [(one.source, one.time, one.laterality) for one in found] == [
        ("DiagnosticReport/r", LOW, "L")
    ]


def test_a_study_of_another_item_than_its_report_stands_for_itself() -> None:
    coding = {"system": IMAGING_SYSTEM, "code": "KNEE"}
    of_study = fact(study(procedureCode=[{"coding": [coding]}]))
    found = candidates(
        [stored(fact(report())), stored(of_study, "DiagnosticReport/r", "final")], {}
    )
    assert [(one.source, one.item, one.report_status) for one in found] == [
        ("DiagnosticReport/r", "CT-HEAD", ""),
        ("ImagingStudy/s", "KNEE", "final"),
    ]


@pytest.mark.parametrize(
    ("studies", "images"),
    [
        ([], None),
        ([{"endpoint": None}], None),
        ([{"status": "cancelled"}], False),
        ([{"status": "cancelled"}, {"id": "s2"}], True),
        ([{"status": "cancelled"}, {"id": "s2", "endpoint": None}], None),
    ],
)
def test_images_of_a_report(studies: list[dict[str, Any]], images: bool | None) -> None:
    rows = [stored(fact(report()))]
    rows += [stored(fact(study(**one)), "DiagnosticReport/r", "final") for one in studies]
    assert [one.images for one in candidates(rows, {})] == [images]


def test_candidates_carry_the_issuer_s_rows_for_their_item_in_one_order() -> None:
    register: Register = {}
    add_rows(register, [("hospital", "K"), ("hospital", "Na")], [_row(round="2"), _row(round="1")])
    (found,) = candidates([stored(fact(observation()))], register)
    assert [row.round for row in found.evaluations] == ["1", "2"]
    assert register["hospital", "Na"] == ()
    assert evaluations_to_read([stored(fact(observation())), stored(fact(study()))]) == [
        ("hospital", "K"),
        ("Endpoint/pacs", "endpoint-status"),
        ("Endpoint/pacs", "endpoint-check"),
    ]


def test_what_is_read_for_a_question() -> None:
    assert items_to_read(query()) == ["K", ""]
    assert items_to_read(query({"item": None})) == []


def _row(**fields: Any) -> Evaluation:
    usual: dict[str, Any] = {"institution": "hospital", "item": "K", "area": "110000"}
    usual |= {"start": "2026-01-01", "end": "2026-12-31", "passed": True, "evaluator": "QC"}
    return Evaluation(**(usual | {"round": "1"} | fields))


# --- the sentences ----------------------------------------------------------------------------


def _answers() -> list[Any]:
    found = []
    for case in cases():
        ordered = case.get("ordered", {})
        asked = query(ordered, **case.get("query", {}))
        one = [
            candidate(ordered.get("item", "K"), n, **f) for n, f in enumerate(case["candidates"])
        ]
        found += decide(asked, one, rules_of(case), CATALOGUE).items
    return found


def test_every_line_and_outcome_has_a_sentence_in_both_languages() -> None:
    for item in _answers():
        lines = [*item.lines, *(other.line for other in item.others)]
        for line in lines:
            if line.verdict != "not-applicable":
                assert (line.rule, line.reason) in texts.LINES
            assert "{" not in texts.sentence(line, "zh") + texts.sentence(line, "en")
        assert any("\u4e00" <= c <= "\u9fff" for c in texts.outcome_sentence(item, "zh"))
        assert texts.outcome_sentence(item, "en").startswith(
            texts.OUTCOMES[item.outcome][1].split("{")[0]
        )


def test_no_sentence_is_written_for_a_line_that_cannot_be() -> None:
    said = {
        (line.rule, line.reason)
        for item in _answers()
        for line in (*item.lines, *(other.line for other in item.others))
    }
    asked = {rule.name for rule in RULE_SET.rules} | {NEWEST_FIRST}
    missing = {line for line in texts.LINES if line[0] in asked} - said
    assert missing == set()


def test_a_sentence_tells_the_numbers_of_its_line() -> None:
    (item,) = decide(
        query(), [candidate("K", time="2026-11-01T08:00:00+08:00")], RULE_SET, CATALOGUE
    ).items
    line = next(line for line in item.lines if line.reason == "too-old")
    assert line.values == {"days": 7, "source": "published:TEST", "age": 19}
    assert texts.outcome_sentence(item) == "仅供查阅：超出7天的互认时限（published:TEST）。"
    assert texts.outcome_sentence(item, "en") == (
        "For viewing only: older than the window of 7 days (published:TEST)."
    )


def test_a_rule_that_is_no_longer_known_says_its_codes() -> None:
    (item,) = decide(query(), [candidate("K")], RULE_SET, CATALOGUE).items
    line = msgspec.structs.replace(item.lines[0], rule="old-rule@3", verdict="fail", reason="x")
    assert texts.sentence(line) == "old-rule@3 fail x"
