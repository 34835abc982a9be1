"""Rows of local maps: days, layers, order details, and the mark on an added coding."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from fhir_gateway.errors import Unprocessable
from fhir_gateway.recognition import facts
from fhir_gateway.search.index import Extractor
from fhir_gateway.store.changes import Derived
from fhir_gateway.terminology.catalogue import load_catalogue
from fhir_gateway.terminology.coder import Coder
from fhir_gateway.terminology.concept_map import load_concept_map
from fhir_gateway.terminology.local_map import LocalMap, Row, Stated, day_of, local_map, overlap
from fhir_gateway.terminology.local_map_decide import By, Decision, decided
from fhir_gateway.terminology.local_map_reading import about, read_map
from fhir_gateway.terminology.local_map_resource import concept_maps_of, groups_of, map_id
from fhir_gateway.terminology.mapped_by import drop_ours, mapped_by
from fhir_gateway.terminology.unmapped import unmapped_codes, unmapped_rows

ROOT = Path(__file__).parents[2]
CATALOGUE = load_catalogue(ROOT / "terminology")
HEADER = "kind,local_system,local_code,local_name,item,specimen,unit,method,note"
POTASSIUM, SODIUM = CATALOGUE.items["L001"], CATALOGUE.items["L002"]


def row(code: str = "K", item: str = "L001", **more: Any) -> Row:
    return Row("result", "", code, code, (CATALOGUE.items[item],), **more)


def find(rows: list[Row], **stated: str) -> list[str] | None:
    meaning = local_map("h", rows).find("result", {"coding": [{"code": "K"}]}, Stated(**stated))
    return None if meaning is None else [item.code for item in meaning.items]


def table(tmp_path: Path, *lines: str, header: str = HEADER) -> LocalMap:
    path = tmp_path / "hospital.csv"
    path.write_text("\n".join((header, *lines)) + "\n", "utf-8")
    return load_concept_map(path, CATALOGUE)


# -- days ------------------------------------------------------------------------------------------


def test_a_table_may_say_from_when_until_when_a_row_holds(tmp_path: Path) -> None:
    found = table(
        tmp_path,
        "result,,K,钾,L001,,,,,,2026-06-30",
        "result,,K,钠,L002,,,,,2026-07-01,",
        header=f"{HEADER},from,to",
    )
    assert [(one.start, one.end) for one in found.rows] == [("", "2026-06-30"), ("2026-07-01", "")]
    plain = table(tmp_path, "result,,K,钾,L001,,,,")
    assert (plain.rows[0].start, plain.rows[0].end) == ("", "")


@pytest.mark.parametrize(
    ("lines", "where"),
    [
        (["result,,K,钾,L001,,,,,soon,"], "row 2, column from"),
        (["result,,K,钾,L001,,,,,2026-02-30,"], "row 2, column from"),
        (["result,,K,钾,L001,,,,,2026-02-02,2026-02-01"], "row 2, column to"),
        (
            ["result,,K,钾,L001,,,,,,2026-07-01", "result,,K,钠,L002,,,,,2026-07-01,"],
            "row 3, column local_code",
        ),
    ],
)
def test_days_that_cannot_be_are_told(tmp_path: Path, lines: list[str], where: str) -> None:
    with pytest.raises(Unprocessable) as caught:
        table(tmp_path, *lines, header=f"{HEADER},from,to")
    assert where in caught.value.issues[0].diagnostics


DAYS = st.dates(date(2020, 1, 1), date(2030, 12, 31))


@given(DAYS, DAYS, DAYS)
@settings(max_examples=examples(150))
def test_a_row_holds_on_its_days_and_on_no_other(start: date, end: date, day: date) -> None:
    start, end = sorted((start, end))
    rows = [row(start=start.isoformat(), end=end.isoformat())]
    expected = ["L001"] if start <= day <= end else None
    assert find(rows, day=day.isoformat()) == expected
    assert find(rows, day=f"{day.isoformat()}T23:59:00+08:00") == expected
    month = day.replace(day=1)
    last = (month + timedelta(days=32)).replace(day=1) - timedelta(days=1)
    inside = start <= month and last <= end
    if find(rows, day=day.isoformat()[:7]) == ["L001"]:
        assert inside
    if month < start and last < start:
        assert find(rows, day=day.isoformat()[:7]) is None


@given(st.lists(st.tuples(DAYS, DAYS), min_size=2, max_size=2))
@settings(max_examples=examples(100))
def test_two_rows_overlap_when_a_day_is_in_both(pairs: list[tuple[date, date]]) -> None:
    bounds = [sorted(pair) for pair in pairs]
    one, other = (row(start=a.isoformat(), end=b.isoformat()) for a, b in bounds)
    (a, b), (c, d) = bounds
    assert overlap(one, other) == overlap(other, one) == (max(a, c) <= min(b, d))


def test_what_has_no_date_is_not_decided_by_a_row_with_days() -> None:
    assert find([row(start="2026-01-01")]) is None
    assert find([row(start="2026-01-01"), row(item="L002", end="2025-12-31")]) is None
    assert find([row(start="2026-01-01"), row("other")]) is None


@pytest.mark.parametrize(
    ("resource", "day"),
    [
        ({"effectiveDateTime": "2026-01", "issued": "2026-02-01"}, "2026-01"),
        ({"effectivePeriod": {"start": "2026-03-01"}, "issued": "x"}, "2026-03-01"),
        ({"effectiveTiming": {"event": ["2026-05-01", "2026-04-01"]}}, "2026-04-01"),
        ({"issued": "2026-02-01"}, "2026-02-01"),
        ({"authoredOn": "2026-06-01"}, "2026-06-01"),
        ({"started": "2026-07-01"}, "2026-07-01"),
        ({"effectivePeriod": {"end": "2026-08-01"}}, "2026-08-01"),
        ({}, ""),
    ],
)
def test_a_resource_is_judged_by_its_own_date(resource: dict[str, Any], day: str) -> None:
    assert day_of(resource) == day


# -- layers ----------------------------------------------------------------------------------------


def test_a_stored_row_goes_before_a_row_of_the_table_that_says_no_more() -> None:
    stored = row(item="L002", stored=True, source="s")
    assert find([stored, row()]) == ["L002"]
    assert find([stored, row(specimen="血清")], specimen="血清") == ["L002"]
    narrow = row(item="L002", stored=True, specimen="血浆")
    assert find([narrow, row()], specimen="血浆") == ["L002"]  # it is confirmed
    assert find([narrow, row()]) is None  # the specimen is not said
    assert find([narrow, row()], specimen="血清") == ["L001"]
    later = row(item="L002", stored=True, start="2026-07-01")
    assert find([later, row()], day="2026-06-30") == ["L001"]
    assert find([later, row()], day="2026-07-01") == ["L002"]
    assert find([later, row()]) is None


def test_stored_rows_that_contradict_each_other_decide_nothing() -> None:
    assert find([row(stored=True), row(item="L002", stored=True)]) is None


def test_what_counts_is_told_without_the_rows_that_are_replaced() -> None:
    kept, gone, stored = row("A"), row("B"), row("B", "L002", stored=True)
    rows = local_map("h", [kept, gone, stored]).effective()
    assert rows == [kept, stored]


# -- orders ----------------------------------------------------------------------------------------


def coder(tmp_path: Path) -> Coder:
    found = table(
        tmp_path,
        "order,,P,血脂,L036;L037,,,,",
        "order,,C1,血钾,L001,,,,",
        "order,,N,床位费,,,,,",
    )
    return Coder(CATALOGUE, {"h": found})


def order(*details: str, code: str = "", system: str = "") -> dict[str, Any]:
    def concept(one: str) -> dict[str, Any]:
        return {"coding": [{"code": one} | ({"system": system} if system else {})]}

    request: dict[str, Any] = {"resourceType": "ServiceRequest"}
    request |= {"code": concept(code)} if code else {}
    return request | ({"orderDetail": [concept(one) for one in details]} if details else {})


@pytest.mark.parametrize(
    ("request_", "coded", "unmapped"),
    [
        (order("C1"), ["orderDetail[0]"], []),
        (order("C1", "P"), ["orderDetail[0]", "orderDetail[2]", "orderDetail[3]"], []),
        (order("C1", "?"), ["orderDetail[0]"], ["orderDetail[1]"]),
        (order("C1", "N"), ["orderDetail[0]"], []),
        (order("?"), [], ["orderDetail[0]"]),
        (order("?", code="X"), [], ["code"]),
        (order("C1", code="X"), ["orderDetail[0]"], []),
        (order("?", code="C1"), ["code"], []),
        (order("?", system="http://snomed.info/sct"), [], []),
        (order("C1", "?", code="N"), ["orderDetail[0]"], ["orderDetail[1]"]),
    ],
)
def test_charges_in_the_details_are_mapped_and_none_is_passed_over(
    tmp_path: Path, request_: dict[str, Any], coded: list[str], unmapped: list[str]
) -> None:
    found = coder(tmp_path).add(request_, "h")
    assert found == (
        [f"ServiceRequest.{name}" for name in coded],
        [f"ServiceRequest.{name}" for name in unmapped],
    )


def test_the_codes_that_nobody_knows_are_read_out_of_an_order(tmp_path: Path) -> None:
    request = order("C1", "?", code="X")
    coder(tmp_path).add(request, "h")
    assert [one.code for one in unmapped_codes(request)] == ["?"]
    assert len(unmapped_rows(request, 7)) == 1
    assert unmapped_rows(request, 0) == []
    unknown = order(code="X")
    coder(tmp_path).add(unknown, "h")
    assert [one.code for one in unmapped_codes(unknown)] == ["X"]


# -- the mark on an added coding -------------------------------------------------------------------


def observation() -> dict[str, Any]:
    return {
        "resourceType": "Observation",
        "id": "o",
        "status": "final",
        "code": {"coding": [{"system": "urn:x", "code": "K"}]},
        "subject": {"reference": "Patient/p"},
        "effectiveDateTime": "2026-11-20T08:00:00+08:00",
        "performer": [{"reference": "Organization/h"}],
        "valueQuantity": {"value": 4, "unit": "mmol/L"},
    }


def test_the_mark_changes_neither_search_rows_nor_facts(tmp_path: Path) -> None:
    marked = observation()
    Coder(CATALOGUE, {"h": table(tmp_path, "result,,K,钾,L001,,,,")}).add(marked, "h")
    coding = marked["code"]["coding"][1]
    assert mapped_by(coding).partition("|")[0].endswith("/ConceptMap/hospital-result")
    plain = observation()
    plain["code"]["coding"].append({k: v for k, v in coding.items() if k != "extension"})
    extractor = Extractor(b"secret")
    assert extractor.rows("Observation", marked) == extractor.rows("Observation", plain)
    one, other = Derived(), Derived()
    facts.derive(marked, one, zone="Asia/Shanghai")
    facts.derive(plain, other, zone="Asia/Shanghai")
    assert one.facts == other.facts != []


def test_other_extensions_of_a_coding_stay() -> None:
    other = {"url": "urn:x", "valueString": "y"}
    resource = observation()
    resource["code"]["coding"][0]["extension"] = [other]
    before = observation()["code"]["coding"][0] | {"extension": [other]}
    drop_ours(resource)
    assert resource["code"]["coding"] == [before]


# -- as ConceptMaps --------------------------------------------------------------------------------


def test_a_table_is_read_back_from_its_concept_maps(tmp_path: Path) -> None:
    found = table(
        tmp_path,
        "result,urn:x,K,钾,L001,血清,mmol/L,电极法,备注,2026-01-01,2026-12-31",
        "result,,Z,未知,,,,,,,",
        "result,,,只有名称,L002,,,,,,",
        "order,urn:x,P,组合,L036;I022,,,,,,",
        header=f"{HEADER},from,to",
    )
    back: list[Row] = []
    maps = concept_maps_of(found, "甲", CATALOGUE)
    for resource, use in zip(maps, ("result", "order"), strict=True):
        assert about(resource) is None  # a view of the table, and no map of the store
        read = read_map(
            resource
            | {
                "useContext": decided(
                    None, "h", "order" if use == "order" else "result",
                    [Decision("nothing", row())], by=By("x", "y"), catalogue=CATALOGUE,
                )["useContext"]
            },
            CATALOGUE,
        )  # fmt: skip
        assert read.issues == []
        back += read.rows
    assert [_said(one) for one in back] == [_said(one) for one in found.rows]
    first = back[0]
    assert (first.specimen, first.unit, first.method, first.note, first.start, first.end) == (
        "血清", "mmol/L", "电极法", "备注", "2026-01-01", "2026-12-31",
    )  # fmt: skip


def _said(one: Row) -> tuple[Any, ...]:
    return one.use, one.system, one.code, one.name, {item.code for item in one.items}


def test_another_table_is_another_version(tmp_path: Path) -> None:
    one = concept_maps_of(table(tmp_path, "result,,K,钾,L001,,,,"), "甲", CATALOGUE)
    other = concept_maps_of(table(tmp_path, "result,,K,钾,L002,,,,"), "甲", CATALOGUE)
    assert one[0]["version"] != other[0]["version"]
    assert one[0]["url"] == other[0]["url"]


def test_long_ids_stay_apart() -> None:
    long = "x" * 64
    ids = {map_id(long, "result"), map_id(long, "order"), map_id("x" * 63, "order"),
           map_id(long, "order", "accepted")}  # fmt: skip
    assert len(ids) == 4
    assert all(len(one) <= 64 for one in ids)
    assert map_id("first", "order") == "first-order"


ITEMS = st.sampled_from(["L001", "L002", "L003"])
DECISIONS = st.lists(
    st.tuples(
        st.sampled_from(["accept", "reject", "nothing"]), st.sampled_from("AB"), ITEMS,
        st.sampled_from(["", "血清"]),
    ),
    min_size=1, max_size=8,
)  # fmt: skip


@given(DECISIONS)
@settings(max_examples=examples(100))
def test_after_any_decisions_the_map_is_sound_and_says_the_last(decisions: Any) -> None:
    resource: dict[str, Any] | None = None
    last: dict[tuple[str, str], list[str]] = {}
    for kind, code, item, specimen in decisions:
        items = () if kind == "nothing" else (CATALOGUE.items[item],)
        one = Row("result", "urn:x", code, code, items, specimen=specimen)
        resource = decided(
            resource, "h", "result", [Decision(kind, one)], by=By("某", "2026"), catalogue=CATALOGUE
        )
        if kind == "reject":
            if last.get((code, specimen)) == [item]:
                del last[code, specimen]
        else:
            last[code, specimen] = [one.code for one in items]
    assert resource is not None
    read = read_map(resource, CATALOGUE)
    assert read.issues == []
    assert {(r.code, r.specimen): [i.code for i in r.items] for r in read.rows} == last
    assert resource["version"] == str(len(decisions))


def test_groups_say_nothing_empty() -> None:
    (group,) = groups_of([row(note="")])
    assert group["element"][0]["target"][0].keys() == {"code", "display", "equivalence"}
