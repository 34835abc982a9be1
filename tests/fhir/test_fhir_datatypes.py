"""Dates as ranges, folded texts, sortable numbers, references."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import pytest
from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from fhir_gateway.errors import Invalid
from fhir_gateway.fhir.datatypes import (
    Reference,
    date_range,
    fold,
    local_day,
    parse_canonical,
    parse_reference,
    sortable,
)
from fhir_gateway.fhir.primitives import checker
from fhir_gateway.fhir.wire import instant


@pytest.mark.parametrize(
    ("text", "zone", "low", "high"),
    [
        ("2026", "UTC", "2026-01-01T00:00:00.000Z", "2026-12-31T23:59:59.999Z"),
        ("2026-02", "UTC", "2026-02-01T00:00:00.000Z", "2026-02-28T23:59:59.999Z"),
        ("2026-12", "UTC", "2026-12-01T00:00:00.000Z", "2026-12-31T23:59:59.999Z"),
        ("2026-05-01", "Asia/Shanghai", "2026-04-30T16:00:00.000Z", "2026-05-01T15:59:59.999Z"),
        ("2026-05-01T08:12Z", "UTC", "2026-05-01T08:12:00.000Z", "2026-05-01T08:12:59.999Z"),
        ("2026-05-01T08:12:30", "Asia/Tokyo", "2026-04-30T23:12:30.000Z", "2026-04-30T23:12:30.999Z"),  # noqa: E501  # a table reads best in lines
        ("2026-05-01T08:12:30-01:30", "", "2026-05-01T09:42:30.000Z", "2026-05-01T09:42:30.999Z"),
        ("2026-05-01T08:12:30.25Z", "UTC", "2026-05-01T08:12:30.250Z", "2026-05-01T08:12:30.259Z"),
        ("1986-07-01", "Asia/Shanghai", "1986-06-30T15:00:00.000Z", "1986-07-01T14:59:59.999Z"),
        ("2026-03-29", "Europe/Berlin", "2026-03-28T23:00:00.000Z", "2026-03-29T21:59:59.999Z"),
    ],
)  # fmt: skip
def test_date_is_the_range_of_its_precision(text: str, zone: str, low: str, high: str) -> None:
    first, last = date_range(text, zone)
    assert (instant(first), instant(last)) == (low, high)


@pytest.mark.parametrize("text", ["9999", "9999-12-31", "0001-01-01", "2026-05-01T23:59:60Z"])
def test_date_at_the_edge_of_the_calendar_has_a_range(text: str) -> None:
    low, high = date_range(text)
    assert low < high


@pytest.mark.parametrize("text", ["", "26", "2026-13", "2026-02-30", "2026-05-01T24:00:00Z", "now"])
def test_text_that_is_no_date_is_refused(text: str) -> None:
    with pytest.raises(Invalid):
        date_range(text)


def test_unknown_zone_is_refused() -> None:
    with pytest.raises(Invalid):
        date_range("2026", "Mars/Phobos")


@settings(max_examples=examples(200), deadline=None)
@given(st.dates(date(1, 1, 1), date(9999, 12, 31)), st.sampled_from(["Asia/Shanghai", "UTC"]))
def test_days_of_a_zone_follow_each_other_and_lie_in_their_month(day: date, zone: str) -> None:
    text = day.isoformat()
    low, high = date_range(text, zone)
    month_low, month_high = date_range(text[:7], zone)
    assert checker("date")(text)
    assert month_low <= low < high <= month_high


def test_local_day_depends_on_the_zone() -> None:
    us = date_range("2026-05-01T16:30:00Z")[0]
    assert local_day(us, "UTC") == date(2026, 5, 1)
    assert local_day(us, "Asia/Shanghai") == date(2026, 5, 2)


@pytest.mark.parametrize(
    ("text", "folded"),
    [
        ("  Müller   ANNA ", "muller anna"),
        ("ＡＢＣ１２３", "abc123"),
        ("张三", "张三"),
        ("Straße", "strasse"),
        ("가나", "가나"),
        ("が", "が"),
    ],
)
def test_fold_drops_case_accent_width_and_surplus_space(text: str, folded: str) -> None:
    assert fold(text) == folded
    assert fold(folded) == folded


@settings(max_examples=examples(300), deadline=None)
@given(st.decimals(allow_nan=False, allow_infinity=False), st.decimals(-1000, 1000))
def test_sortable_keeps_the_order_of_numbers(left: Decimal, right: Decimal) -> None:
    if abs(left) > Decimal("1e300"):
        left = Decimal(1)
    by_value = (float(left) > float(right)) - (float(left) < float(right))
    by_key = (sortable(left) > sortable(right)) - (sortable(left) < sortable(right))
    assert by_value == by_key
    assert -(2**63) <= sortable(left) < 2**63


def test_minus_zero_sorts_as_zero() -> None:
    assert sortable(-0.0) == sortable(0) == 0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Patient/1", Reference("Patient", "1")),
        ("Patient/1/_history/2", Reference("Patient", "1", "2")),
        ("http://gw.example.org/fhir/Patient/1", Reference("Patient", "1")),
        ("http://h1.example.org/fhir/Patient/1", "http://h1.example.org/fhir/Patient/1"),
        ("urn:uuid:0", "urn:uuid:0"),
        ("#p", "#p"),
        ("Patient?identifier=1", "Patient?identifier=1"),
        ("Patient/", "Patient/"),
    ],
)
def test_reference_is_local_or_stays_as_it_is(text: str, expected: Reference | str) -> None:
    assert parse_reference(text, "http://gw.example.org/fhir") == expected


def test_base_url_must_end_where_the_path_begins() -> None:
    text = "http://gw.example.org/fhirPatient/1"
    assert parse_reference(text, "http://gw.example.org/fhir") == text


def test_key_of_a_reference_leaves_the_version_out() -> None:
    assert Reference("Patient", "1", "2").key == "Patient/1"


def test_canonical_is_url_and_version() -> None:
    assert parse_canonical("http://a/b|1.0#c") == ("http://a/b", "1.0")
    assert parse_canonical("http://a/b") == ("http://a/b", None)
