"""Times of HL7 v2: precision kept, zones of the institution, days never moved."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from fhir_gateway.mapping.v2_time import Moment, read_clock, read_date, read_time

CITY = "Asia/Shanghai"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026", "2026"), ("202611", "2026-11"), ("20261118", "2026-11-18"),
        ("2026111808", "2026-11-18T08:00:00+08:00"),
        ("202611180812", "2026-11-18T08:12:00+08:00"),
        ("20261118081259.5", "2026-11-18T08:12:59.5+08:00"),
        ("2026-11-18 08:12:00", "2026-11-18T08:12:00+08:00"),
        ("2026/1/5", "2026-01-05"), ("2026年1月5日", "2026-01-05"),
        ("19860701083000", "1986-07-01T08:30:00+09:00"),
    ],
)  # fmt: skip
def test_a_time_keeps_its_precision_and_gets_the_zone(text: str, expected: str) -> None:
    moment = read_time(text, CITY)
    assert moment is not None
    assert (moment.text, moment.shifted) == (expected, False)


@pytest.mark.parametrize(
    "text",
    ["", "20261118240000", "20261118083060", "20260230", "00000000", "20261301", "0001", "9999",
     "abc", "2026111", "202611180812+1500"],
)  # fmt: skip
def test_what_is_no_time_is_none(text: str) -> None:
    assert read_time(text, CITY) is None


def test_a_zone_that_is_not_the_institutions_is_noticed() -> None:
    assert read_time("20261118081200+0000", CITY) == Moment("2026-11-18T08:12:00+00:00", True, True)
    assert read_time("20261118081200+0800", CITY) == Moment(
        "2026-11-18T08:12:00+08:00", True, False
    )


@pytest.mark.parametrize("zone", [CITY, "America/New_York", "UTC"])
def test_a_birthday_is_the_same_day_everywhere(zone: str) -> None:
    assert read_date("19860504023000") == "1986-05-04"
    assert read_time("19860504", zone) == Moment("1986-05-04", False, False)


def test_a_clock_time_needs_hours_and_minutes() -> None:
    assert [read_clock(text) for text in ("0830", "083059", "2400", "8")] == [
        "08:30:00", "08:30:59", None, None,
    ]  # fmt: skip


@settings(max_examples=examples(200), deadline=None)
@given(
    st.datetimes(min_value=datetime(1995, 1, 1), max_value=datetime(2099, 12, 31)),
    st.integers(-12, 14),
)
def test_a_full_time_is_the_instant_it_says(moment: datetime, hours: int) -> None:
    moment = moment.replace(microsecond=0)
    zone = timezone(timedelta(hours=hours))
    text = moment.replace(tzinfo=zone).strftime("%Y%m%d%H%M%S%z")
    found = read_time(text, CITY)
    assert found is not None
    assert datetime.fromisoformat(found.text) == moment.replace(tzinfo=zone)
