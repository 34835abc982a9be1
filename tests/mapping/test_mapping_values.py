"""Values of a database as cells: nothing lost, nothing added, and what is no cell."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from uuid import UUID

import pytest
from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from fhir_gateway.mapping.tabular_values import cell_of, line_of
from fhir_gateway.mapping.v2_time import read_time

ZONE = "Asia/Shanghai"


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        ("阴性（-） ", "阴性（-） "),
        (None, None),
        (True, "true"),
        (5, "5"),
        (Decimal("5.10"), "5.10"),
        (Decimal("1E+3"), "1000"),
        (Decimal("0.00000001"), "0.00000001"),
        (Decimal("NaN"), "NaN"),
        (5.1, "5.1"),
        (32.0, "32"),
        (1e22, "10000000000000000000000"),
        (1e-7, "0.0000001"),
        (float("inf"), "inf"),
        (date(2026, 11, 18), "2026-11-18"),
        (datetime(2026, 11, 18, 8, 12), "2026-11-18 08:12:00"),
        (datetime(2026, 11, 18, 0, 12, tzinfo=UTC), "2026-11-18 08:12:00+08:00"),
        (datetime(2026, 11, 18, 8, 12, 0, 5, tzinfo=timezone(timedelta(hours=8))),
         "2026-11-18 08:12:00.000005+08:00"),
        (time(8, 12), "08:12:00"),
        (timedelta(hours=8), "8:00:00"),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
    ],
)  # fmt: skip
def test_a_value_is_spelled_as_a_careful_export_would(value: object, cell: str | None) -> None:
    assert cell_of(value, ZONE) == cell


@pytest.mark.parametrize("value", [b"x", memoryview(b"x"), [1], {"a": 1}, object()])
def test_what_is_no_single_value_refuses_its_row(value: object) -> None:
    with pytest.raises(ValueError, match="no cell"):
        cell_of(value, ZONE)
    assert json.loads(line_of(("a", "b"), ("x", value), ZONE)) == {"a": "x", "b": []}


@settings(max_examples=examples(100))
@given(st.decimals(allow_nan=False, allow_infinity=False), st.floats(allow_nan=False))
def test_numbers_lose_nothing(exact: Decimal, float_: float) -> None:
    assert Decimal(cell_of(exact, ZONE) or "") == exact
    assert float(cell_of(float_, ZONE) or "") == float_


@settings(max_examples=examples(100))
@given(st.datetimes(datetime(1950, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)))
def test_a_moment_stays_the_moment_that_it_is(moment: datetime) -> None:
    read = read_time(cell_of(moment, ZONE) or "", ZONE)
    assert read is not None and datetime.fromisoformat(read.text) == moment


@settings(max_examples=examples(100))
@given(st.lists(st.text(st.characters()), min_size=1, max_size=4))
def test_a_line_is_one_line_and_says_the_texts(texts: list[str]) -> None:
    """Half a character too: the reader of lines refuses its row."""
    names = [f"c{n}" for n in range(len(texts))]
    line = line_of(names, texts, ZONE)
    assert line.count(b"\n") == 1 and line.endswith(b"\n")
    assert json.loads(line) == dict(zip(names, texts, strict=True))
