"""What a new plan means for slots that exist, and that nobody's booking is ever dropped."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from zoneinfo import ZoneInfo

from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from fhir_gateway.scheduling.calendar import load_calendar
from fhir_gateway.scheduling.extensions import BUCKET, value_of
from fhir_gateway.scheduling.generate import plan_supply
from fhir_gateway.scheduling.generate_fhir import slots_of, with_capacity
from fhir_gateway.scheduling.rows import capacity_of
from fhir_gateway.scheduling.supply_change import (
    CLOSED,
    FEWER,
    MOVED,
    OTHER,
    WITHDRAWN,
    Existing,
    changes_to,
)
from fhir_gateway.scheduling.template import Closure
from fhir_gateway.scheduling.template_file import load_supply
from fhir_gateway.terminology.catalogue import IMAGING_SYSTEM
from fhir_gateway.terminology.mapped_by import MAPPED_BY

FOLDER = Path(__file__).resolve().parents[2] / "profiles" / "scheduling"
ZONE = ZoneInfo("Asia/Shanghai")
CALENDAR = load_calendar(FOLDER / "holidays.csv")
ITEMS = {"I001": (IMAGING_SYSTEM, "颅脑CT平扫", "CT"), "I002": (IMAGING_SYSTEM, "颅脑CT增强", "CT")}
WHOLE = load_supply(FOLDER / "templates" / "demo-first.toml", ITEMS.get, CALENDAR)
CT = next(one for one in WHOLE.templates if one.id == "ct-day")
DEMO = WHOLE._replace(templates=(CT,), closures=(), changes=())
DAY = date(2026, 12, 7)
CLOSURE = Closure(1, "", "ct-1", DAY, DAY, 0, 1440, "repair")


def planned(template=CT, *closures, first=DAY, last=DAY):
    supply = DEMO._replace(templates=(template,), closures=closures)
    plan = plan_supply(supply, CALENDAR, lambda *_: "day", first, last, ZONE)
    return slots_of(plan, ZONE), {one.id: one.start for one in plan.slots}


def stored(slots, starts, live=None):
    return [
        Existing(slot, 1, starts[id], tuple((live or {}).get(id, ()))) for id, slot in slots.items()
    ]


SLOTS, STARTS = planned()
FIRST, SECOND = list(SLOTS)[:2]


def actions(change):
    return {one.slot["id"]: one.action for one in change.writes}


def test_a_first_plan_creates_everything_and_the_same_plan_nothing():
    first = changes_to(SLOTS, [], 0, STARTS)
    assert {one.action for one in first.writes} == {"create"} and len(first.writes) == 18
    again = changes_to(SLOTS, stored(SLOTS, STARTS), 0, STARTS)
    assert (again.writes, again.affected, again.same) == ((), (), 18)


def test_the_same_plan_leaves_a_full_slot_busy():
    full = {FIRST: {**SLOTS[FIRST], "status": "busy"}}
    live = {FIRST: [f"a{n}" for n in range(4)]}
    change = changes_to({FIRST: SLOTS[FIRST]}, stored(full, STARTS, live), 0, STARTS)
    assert (change.writes, change.affected) == ((), ())


def test_a_closed_day_withdraws_what_is_free_and_keeps_back_what_is_booked():
    wanted, starts = planned(CT, CLOSURE)
    assert wanted == {}
    change = changes_to(wanted, stored(SLOTS, STARTS, {FIRST: ["a1", "a2"]}), 0, starts)
    told = actions(change)
    assert told.pop(FIRST) == "keep-back" and set(told.values()) == {"withdraw"}
    kept = next(one.slot for one in change.writes if one.slot["id"] == FIRST)
    assert (capacity_of(kept), kept["status"]) == (2, "busy")
    assert change.affected == ((FIRST, WITHDRAWN, ("a1", "a2")),)
    assert list(change.stands) == [FIRST]


def test_once_re_booked_the_next_run_withdraws_and_a_later_one_opens_again():
    held = {FIRST: {**with_capacity(SLOTS[FIRST], 2), "status": "busy"}}
    booked = stored(held, STARTS, {FIRST: ["a1", "a2"]})
    assert changes_to({}, booked, 0, {}).writes == ()  # said once, not stored every night
    gone = changes_to({}, stored(held, STARTS), 0, {})
    assert actions(gone) == {FIRST: "withdraw"}
    closed = {FIRST: {**SLOTS[FIRST], "status": CLOSED}}
    assert changes_to({}, stored(closed, STARTS), 0, {}).writes == ()
    change = changes_to({FIRST: SLOTS[FIRST]}, stored(closed, STARTS), 0, STARTS)
    assert actions(change) == {FIRST: "change"}
    assert change.writes[0].slot["status"] == "free"


def test_another_end_or_service_moves_nobody_who_has_booked():
    longer, starts = planned(CT._replace(duration=60))
    change = changes_to(longer, stored(SLOTS, STARTS, {FIRST: ["a1"]}), 0, starts)
    assert change.affected == ((FIRST, MOVED, ("a1",)),)
    assert actions(change)[FIRST] == "keep-back"
    assert actions(change)[SECOND] == "withdraw"  # 08:30 begins no slot of an hour
    other, starts = planned(CT._replace(services=CT.services[:1]))
    change = changes_to(other, stored(SLOTS, STARTS, {FIRST: ["a1"]}), 0, starts)
    assert change.affected == ((FIRST, OTHER, ("a1",)),)
    assert actions(change)[SECOND] == "change"


def test_fewer_seats_than_booked_tells_those_who_came_last():
    smaller, starts = planned(CT._replace(capacity=2))
    change = changes_to(smaller, stored(SLOTS, STARTS, {FIRST: ["a1", "a2", "a3"]}), 0, starts)
    assert change.affected == ((FIRST, FEWER, ("a3",)),)
    after = change.stands[FIRST]
    assert (capacity_of(after), after["status"]) == (3, "busy")
    assert capacity_of(change.stands[SECOND]) == 2


def test_what_is_only_held_makes_no_slot_busy():
    one = Existing(SLOTS[FIRST], 1, STARTS[FIRST], ("a1", "a2"), held=1)
    kept = changes_to({}, [one], 0, {}).writes[0].slot
    assert (capacity_of(kept), kept["status"]) == (2, "free")


def test_more_seats_open_a_full_slot_again():
    full = {FIRST: {**SLOTS[FIRST], "status": "busy"}}
    larger, starts = planned(CT._replace(capacity=5))
    live = {FIRST: [f"a{n}" for n in range(4)]}
    change = changes_to({FIRST: larger[FIRST]}, stored(full, STARTS, live), 0, starts)
    assert change.writes[0].slot["status"] == "free"


def test_what_has_begun_is_neither_made_nor_changed():
    now = STARTS[SECOND]
    fresh = changes_to(SLOTS, [], now, STARTS)
    assert FIRST not in actions(fresh) and SECOND not in actions(fresh)
    change = changes_to({}, stored(SLOTS, STARTS), now, {})
    assert (change.past, len(change.writes)) == (2, 16)


def test_slots_of_a_hospital_are_not_touched():
    theirs = {**SLOTS[FIRST], "extension": SLOTS[FIRST]["extension"][:2]}
    assert changes_to({}, [Existing(theirs, 1, STARTS[FIRST])], 0, {}).writes == ()


def test_another_edition_of_the_calendar_alone_rewrites_nothing():
    text = json.dumps(SLOTS[FIRST]).replace(CALENDAR.version, "2027-00000000")
    before = stored({FIRST: json.loads(text)}, STARTS)
    assert before[0].slot != SLOTS[FIRST]
    assert changes_to({FIRST: SLOTS[FIRST]}, before, 0, STARTS).writes == ()


def test_a_coding_that_the_gateway_adds_is_no_other_service():
    added = {"system": "s", "code": "c", "extension": [{"url": MAPPED_BY, "valueString": "m"}]}
    concept = SLOTS[FIRST]["serviceType"][0]
    mapped = {**SLOTS[FIRST], "serviceType": [
        {**concept, "coding": [*concept["coding"], added]}, *SLOTS[FIRST]["serviceType"][1:],
    ]}  # fmt: skip
    before = stored({FIRST: SLOTS[FIRST]}, STARTS, {FIRST: ["a1"]})
    change = changes_to({FIRST: mapped}, before, 0, STARTS)
    assert (actions(change), change.affected) == ({FIRST: "change"}, ())


def test_a_slot_with_bookings_stays_in_the_bucket_in_which_they_are_counted():
    supply = DEMO._replace(templates=(CT,))
    plan = plan_supply(supply, CALENDAR, lambda *_: "month", DAY, DAY, ZONE)
    monthly = slots_of(plan, ZONE)
    change = changes_to(monthly, stored(SLOTS, STARTS, {FIRST: ["a1"]}), 0, STARTS)
    assert FIRST not in actions(change) and len(change.writes) == 17
    buckets = {value_of(slot, BUCKET) for slot in change.stands.values()}
    assert buckets == {"demo-first|radiology-ct|2026-12-01", "demo-first|radiology-ct|2026-12-07"}
    assert change.affected == ()


@settings(max_examples=examples(40))
@given(
    st.sampled_from([30, 60, 90]), st.integers(1, 6), st.booleans(), st.integers(1, 3),
    st.dictionaries(st.sampled_from(sorted(SLOTS)), st.integers(1, 4), max_size=6),
)  # fmt: skip
def test_no_live_booking_is_dropped_and_a_second_run_changes_nothing(
    duration, capacity, closed, services, taken
):
    changed = CT._replace(duration=duration, capacity=capacity, services=CT.services[:services])
    wanted, starts = planned(changed, *([CLOSURE] if closed else []))
    live = {id: [f"{id}-{n}" for n in range(seats)] for id, seats in taken.items()}
    before = {
        id: {**slot, "status": "busy" if len(live.get(id, ())) >= 4 else "free"}
        for id, slot in SLOTS.items()
    }
    change = changes_to(wanted, stored(before, STARTS, live), 0, starts)
    after = before | {str(one.slot["id"]): one.slot for one in change.writes}
    for id, seats in live.items():
        slot = after[id]
        assert slot["status"] != CLOSED and capacity_of(slot) >= len(seats)
        if any(before[id][key] != slot[key] for key in ("start", "end", "serviceType")):
            raise AssertionError("moved under its bookings")
        meant = wanted.get(id)
        if meant is None or meant["end"] != before[id]["end"]:
            assert any(one.slot == id and set(seats) <= set(one.appointments)
                       for one in change.affected)  # fmt: skip
    again = changes_to(wanted, stored(after, STARTS | starts, live), 0, starts)
    assert again.writes == ()
    assert again.affected == change.affected
    assert {id: capacity_of(slot) for id, slot in again.stands.items()} == {
        id: capacity_of(slot) for id, slot in change.stands.items()
    }
