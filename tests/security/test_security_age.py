"""Age in full years, by which a guardian is asked for."""

from __future__ import annotations

from datetime import date

import pytest

from fhir_gateway.security.age import ages_on


@pytest.mark.parametrize(
    ("birth", "day", "ages"),
    [
        ("2012-11-22", "2026-11-21", (13, 13)),
        ("2012-11-22", "2026-11-22", (14, 14)),
        ("2012-02-29", "2026-02-28", (13, 13)),
        ("2012-02-29", "2026-03-01", (14, 14)),
        ("2012-02-29", "2028-02-28", (15, 15)),
        ("2012-02-29", "2028-02-29", (16, 16)),
        ("2012-12-31", "2026-12-30", (13, 13)),
        ("2013-01-01", "2026-12-31", (13, 13)),
        ("2012", "2026-11-22", (13, 14)),
        ("2012-11", "2026-11-22", (13, 14)),
        ("2012-02", "2026-02-28", (13, 14)),
        ("2026", "2026-11-22", (0, 0)),
        ("2026-11-22", "2026-11-22", (0, 0)),
    ],
)
def test_age_is_counted_by_the_calendar(birth: str, day: str, ages: tuple[int, int]) -> None:
    assert ages_on(birth, date.fromisoformat(day)) == ages


@pytest.mark.parametrize("birth", ["", "2027-01-01", "2012-02-30", "2012-13", "0000", "about 2012"])
def test_what_is_no_birth_date_or_lies_ahead_tells_no_age(birth: str) -> None:
    assert ages_on(birth, date(2026, 11, 22)) is None


def test_the_age_grows_by_one_on_one_day_of_every_year() -> None:
    for birth in ("2012-02-29", "2012-03-01", "2012-12-31"):
        grown = [
            day
            for ordinal in range(date(2013, 1, 1).toordinal(), date(2033, 1, 1).toordinal())
            if ages_on(birth, day := date.fromordinal(ordinal))
            != ages_on(birth, date.fromordinal(ordinal - 1))
        ]
        assert [day.year for day in grown] == list(range(2013, 2033))
