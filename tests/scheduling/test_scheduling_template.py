"""Templates and their files: which days hold, what is generated, every fault with its line."""

from __future__ import annotations

from collections import Counter
from datetime import date
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from fhir_gateway.scheduling.calendar import load_calendar, moment_at
from fhir_gateway.scheduling.files import Page
from fhir_gateway.scheduling.generate import period_last, plan_supply
from fhir_gateway.scheduling.generate_fhir import schedules_of, services_of, slots_of
from fhir_gateway.scheduling.quota import apportion
from fhir_gateway.scheduling.quota_file import load_quotas
from fhir_gateway.scheduling.quota_plan import (
    mixed_departments,
    period_by,
    plan_buckets,
    rows_at,
    seats_of,
    whole_periods,
)
from fhir_gateway.scheduling.template_file import load_supply, read_supply
from fhir_gateway.terminology.catalogue import IMAGING_SYSTEM

FOLDER = Path(__file__).resolve().parents[2] / "profiles" / "scheduling"
ZONE = ZoneInfo("Asia/Shanghai")
CALENDAR = load_calendar(FOLDER / "holidays.csv")
TABLES = load_quotas(FOLDER / "quotas")
ITEMS = {"I001": (IMAGING_SYSTEM, "颅脑CT平扫", "CT"), "I002": (IMAGING_SYSTEM, "颅脑CT增强", "CT")}
DEMO = load_supply(FOLDER / "templates" / "demo-first.toml", ITEMS.get, CALENDAR)

FILE = """version = "1"
[institution]
id = "h-1"
name = "h"
level = "3A"

[[departments]]
id = "ct"
service = "h-1-ct"
kind = "exam"
name_zh = "CT"
name_en = "CT"

[[departments]]
id = "clinic"
service = "h-1-clinic"
kind = "visit"
name_zh = "c"
name_en = "c"

[[resources]]
id = "ct-1"
name = "CT 1"
references = ["Device/ct-1"]

[[sessions]]
id = "morning"
from = "08:00"
to = "12:00"
"""
TEMPLATE = """
[[templates]]
id = "{id}"
resource = "ct-1"
department = "ct"
session = "morning"
days = "workdays"
duration = 30
items = ["I001"]
valid_from = 2026-01-01
"""


def template(id="one", **said):
    lines = TEMPLATE.format(id=id).splitlines()
    kept = [line for line in lines if line.partition(" ")[0] not in said]
    return "\n".join(kept + [f"{key} = {value}" for key, value in said.items() if value]) + "\n"


def read(tmp_path, *parts):
    file = tmp_path / "h-1.toml"
    file.write_text(FILE + "".join(parts), encoding="utf-8")
    return read_supply(file, ITEMS.get, CALENDAR)


def supply(tmp_path, *parts):
    page, found = read(tmp_path, *parts)
    assert page.faults == []
    return found


def planned(found, first, last):
    return plan_supply(
        found, CALENDAR, lambda template, day: period_by(TABLES, found.site, template, day),
        date.fromisoformat(first), date.fromisoformat(last), ZONE,
    )  # fmt: skip


def buckets_of(found, plan):
    return plan_buckets(TABLES, found, seats_of(plan.slots), ZONE)


def days(plan):
    return sorted({str(slot.day)[5:] for slot in plan.slots})


@pytest.mark.parametrize(("rule", "first", "last", "held"), [
    ('"workdays"', "2026-09-18", "2026-09-28", "09-18 09-20 09-21 09-22 09-23 09-24 09-28"),
    ('"weekends"', "2026-09-18", "2026-09-28", "09-19"),
    ('"holidays"', "2026-09-18", "2026-09-28", "09-25 09-26 09-27"),
    ('"daily"', "2026-09-24", "2026-09-28", "09-24 09-25 09-26 09-27 09-28"),
    ('["fri", "sun"]', "2026-09-18", "2026-10-02", "09-18"),
    ('["sat"]', "2026-10-02", "2026-10-17", "10-17"),
    ('"workdays"', "2026-12-30", "2027-01-04", "12-30 12-31 01-01 01-04"),
])  # fmt: skip
def test_days_of_a_template_with_holidays_and_make_up_days(tmp_path, rule, first, last, held):
    plan = planned(supply(tmp_path, template(days=rule)), first, last)
    assert days(plan) == sorted(held.split())
    assert [one.rule for one in plan.findings if one.rule == "calendar-unknown"] == (
        ["calendar-unknown"] if last > "2027" else []
    )


def test_weekdays_on_holidays_only_when_said(tmp_path):
    plan = planned(supply(tmp_path, template(days='["thu", "fri"]', on_holidays="true")),
                   "2026-10-01", "2026-10-02")  # fmt: skip
    assert days(plan) == ["10-01", "10-02"]


def test_a_make_up_workday_counts_as_the_weekday_that_the_file_says(tmp_path):
    text = template(days='["fri"]')
    plan = planned(supply(tmp_path, text), "2026-09-20", "2026-09-20")
    assert plan.slots == ()
    assert [one.rule for one in plan.findings] == ["makeup-unsaid"]
    makeup = '\n[[makeup]]\nday = 2026-09-20\ncounts_as = "fri"\n'
    plan = planned(supply(tmp_path, text, makeup), "2026-09-20", "2026-09-20")
    assert len(plan.slots) == 8
    assert plan.findings == ()


def test_single_dates_come_in_and_go_out(tmp_path):
    found = supply(tmp_path, template(dates="[2026-10-03]", without="[2026-10-09]"))
    assert days(planned(found, "2026-10-01", "2026-10-12")) == ["10-03", "10-08", "10-10", "10-12"]


def test_a_template_holds_from_its_first_to_its_last_day(tmp_path):
    found = supply(tmp_path, template(valid_from="2026-11-03", valid_to="2026-11-05"))
    assert days(planned(found, "2026-11-01", "2026-11-10")) == ["11-03", "11-04", "11-05"]


def test_a_night_session_runs_into_the_next_day_and_its_bucket(tmp_path):
    text = template(days='["sun"]', session="", **{"from": '"23:00"', "to": '"01:00"'},
                    overnight="true")  # fmt: skip
    plan = planned(supply(tmp_path, text), "2026-11-29", "2026-11-30")
    told = [(f"{moment_at(one.start, ZONE):%d %H:%M}", one.bucket[-5:]) for one in plan.slots]
    assert told == [
        ("29 23:00", "11-29"), ("29 23:30", "11-29"), ("30 00:00", "11-30"), ("30 00:30", "11-30"),
    ]  # fmt: skip


def test_a_plan_is_widened_to_whole_release_periods():
    first, last = whole_periods(TABLES, DEMO, date(2026, 12, 31), date(2027, 1, 1))
    assert (str(first), str(last)) == ("2026-12-28", "2027-01-03")
    exams = DEMO._replace(templates=tuple(one for one in DEMO.templates if one.modality))
    assert whole_periods(TABLES, exams, first, first) == (first, first)
    assert period_last(date(2026, 12, 31), "month") == date(2026, 12, 31)
    assert period_last(date(2028, 2, 1), "month") == date(2028, 2, 29)


def test_closures_take_out_what_lies_in_them_even_in_part(tmp_path):
    closure = ('\n[[closures]]\nresource = "ct-1"\nfirst = 2026-11-03\nfrom = "08:45"\n'
               'to = "10:00"\nreason = "repair"\n')  # fmt: skip
    plan = planned(supply(tmp_path, template(), closure), "2026-11-03", "2026-11-03")
    assert [f"{moment_at(one.start, ZONE):%H:%M}" for one in plan.slots] == [
        "08:00", "10:00", "10:30", "11:00", "11:30",
    ]  # fmt: skip
    assert {closed.reason for _, closed in plan.closed} == {"repair"}


def test_changes_move_a_session_or_give_it_another_capacity(tmp_path):
    change = ('\n[[changes]]\ntemplate = "one"\nfirst = 2026-11-03\nfrom = "09:00"\nto = "10:00"\n'
              'capacity = 3\nreason = "staff"\n')  # fmt: skip
    plan = planned(supply(tmp_path, template(), change), "2026-11-03", "2026-11-04")
    told = Counter((one.day.day, one.capacity) for one in plan.slots)
    assert told == {(3, 3): 2, (4, 1): 8}


@settings(max_examples=examples(6))
@given(st.dates(date(2026, 1, 1), date(2027, 2, 1)), st.integers(0, 9))
def test_generating_twice_makes_the_same_and_a_longer_horizon_only_more(first, length):
    last = date.fromordinal(first.toordinal() + length)
    one, two = (planned(DEMO, str(first), str(last)) for _ in range(2))
    assert one == two
    longer = planned(DEMO, str(first), str(date.fromordinal(last.toordinal() + 1)))
    assert set(one.slots) <= set(longer.slots)
    assert len({slot.id for slot in longer.slots}) == len(longer.slots)


def test_ids_stay_when_capacity_changes_and_go_when_the_start_does(tmp_path):
    def ids(**said):
        return {one.id for one in planned(supply(tmp_path, template(**said)),
                                          "2026-11-03", "2026-11-03").slots}  # fmt: skip

    assert ids() == ids(capacity="5") == ids(items='["I002"]')
    assert ids() & ids(duration="20") and ids() != ids(duration="20")


def test_resources_say_what_the_template_says():
    plan = planned(DEMO, "2026-12-28", "2026-12-28")
    slots, schedules = slots_of(plan, ZONE), schedules_of(plan, ZONE)
    assert set(services_of(DEMO)) == {one.service for one in DEMO.departments.values()}
    slot = slots[next(one.id for one in plan.slots if one.template.id == "ct-day")]
    assert slot["start"] == "2026-12-28T08:00:00+08:00"
    assert slot["status"] == "free"
    assert [one["coding"][0]["code"] for one in slot["serviceType"]] == ["I001", "I002"]
    schedule = schedules[slot["schedule"]["reference"].removeprefix("Schedule/")]
    assert schedule["planningHorizon"]["end"] == "2026-12-28T23:59:59+08:00"
    assert schedule["actor"][0]["reference"] == "HealthcareService/demo-first-radiology-ct"
    assert {one["schedule"]["reference"] for one in slots.values()} == {
        f"Schedule/{id}" for id in schedules
    }


def test_case_135_moved_holidays_move_slots_and_the_edition_is_named(tmp_path):
    text = (FOLDER / "holidays.csv").read_text("utf-8")
    file = tmp_path / "holidays.csv"
    file.write_text(text.replace("2026,2026-10-10,2026-10-10", "2026,2026-10-11,2026-10-11"))
    other = load_calendar(file)
    one, two = (
        plan_supply(DEMO, calendar, lambda *_: "week", date(2026, 10, 9), date(2026, 10, 12), ZONE)
        for calendar in (CALENDAR, other)
    )
    assert one.calendar != two.calendar
    ordinary = [
        {str(slot.day) for slot in plan.slots if slot.template.id == "ct-day"}
        for plan in (one, two)
    ]
    assert ordinary[0] ^ ordinary[1] == {"2026-10-10", "2026-10-11"}
    told = slots_of(one, ZONE)[one.slots[0].id]["extension"][-1]["extension"]
    assert told[1] == {"url": "calendar", "valueString": CALENDAR.version}


def test_buckets_count_all_seats_once_and_open_in_shanghai_time():
    plan = planned(DEMO, "2026-12-07", "2026-12-13")
    buckets = {one.key: one for one in buckets_of(DEMO, plan)}
    assert sum(sum(one.capacity.values()) for one in buckets.values()) == sum(
        slot.capacity for slot in plan.slots
    )
    for one in buckets.values():
        for kind, seats in one.capacity.items():
            assert sum(row.cap for row in one.rows if row.kind == kind) == seats
    visits = buckets["demo-first|cardiology|2026-12-07"]
    rows = {row.channel: row for row in visits.rows if row.kind == "expert"}
    opens = {channel: f"{moment_at(row.opens, ZONE):%m-%d %H:%M}" for channel, row in rows.items()}
    assert opens == {
        "out-of-town": "11-15 07:00", "in-consultation": "11-15 07:00",
        "grassroots-referral": "11-16 07:00", "ordinary": "11-30 07:00",
    }  # fmt: skip
    assert rows["grassroots-referral"].closes == rows["ordinary"].opens


def test_after_a_cut_off_the_seats_stand_with_the_next_channel():
    plan = planned(DEMO, "2026-12-07", "2026-12-13")
    bucket = next(one for one in buckets_of(DEMO, plan)
                  if "cardiology" in one.key)  # fmt: skip
    rows = {(row.kind, row.channel): row for row in bucket.rows}
    cut = rows["expert", "grassroots-referral"].closes
    before, after = rows_at(bucket.rows, cut - 1), rows_at(bucket.rows, cut)
    told = [{row.channel: row.cap for row in some if row.kind == "expert"}
            for some in (bucket.rows, before, after)]  # fmt: skip
    assert told[1]["out-of-town"] == 0  # closed a week earlier, and fell to primary care
    assert told[1]["grassroots-referral"] == (
        told[0]["out-of-town"] + told[0]["grassroots-referral"]
    )
    assert told[2]["ordinary"] == told[1]["grassroots-referral"]
    assert {sum(one.values()) for one in told} == {bucket.capacity["expert"]}


def test_a_department_under_two_tables_is_told(tmp_path):
    one = supply(tmp_path, template(), template("two", items="", services='["x x"]',
                 modality='"ES"', days='"weekends"'))  # fmt: skip
    told = mixed_departments(TABLES, one.site, one.templates, date(2026, 11, 2))
    assert [found.rule for found in told] == ["department-mixed"]
    assert mixed_departments(TABLES, DEMO.site, DEMO.templates, date(2026, 11, 2)) == []


def test_without_a_table_all_seats_are_ordinary_and_it_is_told(tmp_path):
    plan = planned(supply(tmp_path, template()), "2026-11-03", "2026-11-03")
    bucket = plan_buckets((), DEMO, seats_of(plan.slots), ZONE)[0]
    assert [(row.channel, row.cap) for row in bucket.rows if row.cap] == [("ordinary", 8)]
    assert [one.rule for one in bucket.findings] == ["quota-no-table"]
    assert apportion(TABLES[0], 0, 0).findings == ()


FAULTS = {
    "template-overlap": [template(), template("two", days='["mon"]')],
    "template-duration": [template(duration="35")],
    "template-capacity": [template(capacity="0")],
    "item-unknown": [template(items='["I999"]')],
    "template-order": [template(valid_to="2025-12-31")],
    "template-twice": [template(), template(days='"weekends"')],
    "resource-unknown": [template(resource='"ct-2"')],
    "department-unknown": [template(department='"mri"')],
    "session-unknown": [template(session='"noon"')],
    "session-order": [template(**{"from": '"12:00"', "to": '"08:00"'})],
    "template-days": [template(days='"mondays"')],
    "template-dates": [template(dates='["soon"]')],
    "template-service": [template(items="")],
    "template-modality": [template(items="", services='["x x"]')],
    "file-key": [template(capcity="3")],
    "file-word": [template(master='"nobody"')],
    "file-day": [template(valid_from='"2026-13-01"')],
    "file-time": [template(**{"from": '"8"', "to": '"12:00"'})],
    "file-number": [template(duration="0")],
    "file-id": [template(id="a b")],
    "requires-age": [template(requires="{ min_age = 60, max_age = 14 }")],
    "closure-order": [template(), '\n[[closures]]\nfirst = 2026-11-03\nfrom = "12:00"\n'
                      'to = "08:00"\nreason = "r"\n'],
    "change-empty": [template(), '\n[[changes]]\ntemplate = "one"\nfirst = 2026-11-03\n'
                     'reason = "r"\n'],
    "template-unknown": [template(), '\n[[changes]]\ntemplate = "two"\ncapacity = 2\n'
                         'first = 2026-11-03\nreason = "r"\n'],
    "file-order": [template(), '\n[[closures]]\nfirst = 2026-11-03\nlast = 2026-11-02\n'
                   'reason = "r"\n'],
    "makeup-day": [template(), '\n[[makeup]]\nday = 2026-09-21\ncounts_as = "fri"\n'],
    "department-twice": ['\n[[departments]]\nid = "ct"\nservice = "x"\nkind = "exam"\n'
                         'name_zh = "x"\nname_en = "x"\n'],
    "resource-reference": ['\n[[resources]]\nid = "x"\nname = "x"\nreferences = ["Patient/x"]\n'],
    "file-syntax": ["= ="],
}  # fmt: skip


@pytest.mark.parametrize("rule", FAULTS)
def test_a_fault_of_a_file_is_told_with_line_and_rule(tmp_path, rule):
    page, _ = read(tmp_path, *FAULTS[rule])
    assert [fault.rule for fault in page.faults] == [rule]
    fault = page.faults[0]
    assert fault.line > 0
    assert str(fault).startswith(f"h-1.toml, line {fault.line}: ")


def test_a_fault_names_the_line_of_its_key_and_what_would_work(tmp_path):
    page, _ = read(tmp_path, template(), template("two", days='"weekends"', duration="35"))
    fault = page.faults[0]
    line = (tmp_path / "h-1.toml").read_text("utf-8").splitlines()[fault.line - 1]
    assert line == "duration = 35"
    assert fault.said == "240 minutes are no whole number of slots of 35; 24, 30, 40 would be"


def test_overlaps_are_found_across_midnight_and_not_where_sessions_touch(tmp_path):
    night = template("night", days='["sun"]', session="", overnight="true",
                     **{"from": '"22:00"', "to": '"09:00"'})  # fmt: skip
    page, _ = read(tmp_path, template(days='["mon"]'), night)
    assert [fault.rule for fault in page.faults] == ["template-overlap"]
    noon = template("noon", session="", **{"from": '"12:00"', "to": '"13:00"'})
    assert read(tmp_path, template(), noon)[0].faults == []


def test_every_fault_of_a_file_is_told_at_once(tmp_path):
    page, _ = read(tmp_path, template(duration="35"), template("b", items='["I9"]'),
                   template("c", valid_from=""))  # fmt: skip
    assert [fault.rule for fault in page.faults] == ["template-duration", "item-unknown",
                                                     "file-day"]  # fmt: skip


def test_lines_of_a_page_are_those_of_the_text():
    page = Page("x.toml", "a = 1\n[[b]]\nc = 1\n[[b]]\nc = 2\n[d]\nc = 3\n[[b.e]]\nf = 1\n")
    told = [page.line(place) for place in ("a", "b.0.c", "b.1", "b.1.c", "d.c", "b.1.e.0.f", "z")]
    assert told == [1, 3, 4, 5, 7, 9, 0]
