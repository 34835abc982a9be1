"""Days: holidays with their neighbours, years that are not known, Shanghai days, months."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from fhir_gateway.errors import Unprocessable
from fhir_gateway.scheduling.calendar import (
    day_at,
    days_between,
    instant_at,
    kind_of,
    load_calendar,
    unknown_years,
)

ROOT = Path(__file__).resolve().parents[2]
CALENDAR = load_calendar(ROOT / "profiles" / "scheduling" / "holidays.csv")
SHANGHAI = ZoneInfo("Asia/Shanghai")

#: The days of each stretch of the notices for 2025 and 2026 with the days before and after.
EDGES = [
    ("2024-12-31", "workday"), ("2025-01-01", "holiday"), ("2025-01-02", "workday"),
    ("2025-01-25", "weekend"), ("2025-01-26", "makeup"), ("2025-01-27", "workday"),
    ("2025-01-28", "holiday"), ("2025-02-04", "holiday"), ("2025-02-05", "workday"),
    ("2025-02-08", "makeup"), ("2025-02-09", "weekend"), ("2025-04-27", "makeup"),
    ("2025-05-05", "holiday"), ("2025-05-06", "workday"), ("2025-10-08", "holiday"),
    ("2025-10-09", "workday"), ("2025-10-11", "makeup"), ("2025-10-12", "weekend"),
    ("2025-12-31", "workday"), ("2026-01-01", "holiday"), ("2026-01-02", "holiday"),
    ("2026-01-03", "holiday"), ("2026-01-04", "makeup"), ("2026-01-05", "workday"),
    ("2026-02-13", "workday"), ("2026-02-14", "makeup"), ("2026-02-15", "holiday"),
    ("2026-02-23", "holiday"), ("2026-02-24", "workday"), ("2026-02-28", "makeup"),
    ("2026-03-01", "weekend"), ("2026-04-03", "workday"), ("2026-04-04", "holiday"),
    ("2026-04-06", "holiday"), ("2026-04-07", "workday"), ("2026-04-30", "workday"),
    ("2026-05-01", "holiday"), ("2026-05-05", "holiday"), ("2026-05-06", "workday"),
    ("2026-05-09", "makeup"), ("2026-06-18", "workday"), ("2026-06-19", "holiday"),
    ("2026-06-21", "holiday"), ("2026-06-22", "workday"), ("2026-09-19", "weekend"),
    ("2026-09-20", "makeup"), ("2026-09-24", "workday"), ("2026-09-25", "holiday"),
    ("2026-09-27", "holiday"), ("2026-09-28", "workday"), ("2026-09-30", "workday"),
    ("2026-10-01", "holiday"), ("2026-10-07", "holiday"), ("2026-10-08", "workday"),
    ("2026-10-10", "makeup"), ("2026-10-11", "weekend"), ("2026-12-31", "workday"),
]  # fmt: skip


@pytest.mark.parametrize(("day", "kind"), EDGES)
def test_holidays_and_make_up_days_with_their_neighbours(day, kind):
    found = kind_of(CALENDAR, date.fromisoformat(day))
    assert (found.kind, found.known) == (kind, True)


@pytest.mark.parametrize(("year", "holidays", "makeup"), [(2024, 28, 8), (2025, 28, 5),
                                                          (2026, 33, 6)])  # fmt: skip
def test_each_notice_is_in_the_file_whole(year, holidays, makeup):
    """Counted in the text of the notice: days off, and Saturdays and Sundays that are worked."""
    kinds = [one.kind for day, one in CALENDAR.days.items() if day.year == year]
    assert (kinds.count("holiday"), kinds.count("makeup")) == (holidays, makeup)


def test_a_year_without_notice_is_not_known_and_judged_by_weekdays():
    assert kind_of(CALENDAR, date(2027, 1, 1)) == (date(2027, 1, 1), "workday", "", False)
    assert kind_of(CALENDAR, date(2027, 1, 2)).kind == "weekend"
    assert unknown_years(CALENDAR, date(2026, 12, 28), date(2027, 1, 3)) == [2027]
    assert unknown_years(CALENDAR, date(2026, 1, 1), date(2026, 12, 31)) == []


def test_the_version_names_year_and_content(tmp_path):
    file = tmp_path / "holidays.csv"
    file.write_text("year,first,last,kind,name,source\n2026,2026-10-01,2026-10-07,holiday,a,b\n")
    one = load_calendar(file).version
    file.write_text("year,first,last,kind,name,source\n2026,2026-10-01,2026-10-08,holiday,a,b\n")
    assert one.startswith("2026-")
    assert load_calendar(file).version != one


@pytest.mark.parametrize(("row", "rule"), [
    ("2026,2026-10-07,2026-10-01,holiday,a,b", "calendar-order"),
    ("2026,2026-10-32,2026-10-01,holiday,a,b", "calendar-day"),
    ("2026,2026-10-12,2026-10-12,workday,a,b", "calendar-makeup"),
    ("2024,2026-10-12,2026-10-12,holiday,a,b", "calendar-year"),
    ("2026,2026-10-12,2026-10-12,feast,a,b", "calendar-kind"),
    ("2026,2026-10-12,2026-10-12,holiday,a,", "calendar-empty"),
    ("2026,2026-10-01,2026-10-02,holiday,a,b\n2026,2026-10-02,2026-10-02,holiday,a,b",
     "calendar-twice"),
])  # fmt: skip
def test_a_fault_of_the_file_is_told_with_its_row(tmp_path, row, rule):
    file = tmp_path / "holidays.csv"
    file.write_text(f"year,first,last,kind,name,source\n{row}\n")
    with pytest.raises(Unprocessable) as caught:
        load_calendar(file)
    assert caught.value.issues[0].rule == rule
    assert "row " in caught.value.issues[0].diagnostics


@settings(max_examples=examples(40))
@given(st.dates(date(1992, 1, 1), date(2100, 1, 1)), st.integers(0, 1439))
def test_case_126_a_shanghai_day_is_half_open_and_16_utc_of_the_day_before(day, minutes):
    start = instant_at(day, 0, SHANGHAI)
    utc = datetime.fromtimestamp(start // 1_000_000, UTC)
    assert (utc.hour, utc.date()) == (16, day - timedelta(days=1))
    assert day_at(instant_at(day, minutes, SHANGHAI), SHANGHAI) == day
    assert day_at(start - 1, SHANGHAI) == day - timedelta(days=1)
    assert instant_at(day, 1440, SHANGHAI) == instant_at(day + timedelta(days=1), 0, SHANGHAI)


def test_days_of_a_year_end_follow_each_other():
    days = list(days_between(date(2026, 12, 30), date(2027, 1, 2)))
    assert [str(day)[5:] for day in days] == ["12-30", "12-31", "01-01", "01-02"]
