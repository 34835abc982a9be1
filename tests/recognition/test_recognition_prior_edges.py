"""Which earlier results are wanted: every kind of filter must be met, any value of each."""

from __future__ import annotations

from typing import Any

import pytest
from recognition_cases import CATALOGUE

from fhir_gateway.recognition.prior_filter import ANY, Filter
from fhir_gateway.store.results_sql import ResultRow

ROW = ResultRow(
    item="K", time=100, time_high=199, issued=0, kind="lab", status="final", issuer="sender",
    specimen="", unit="", method="", value="", laterality="", flags=0, mark="",
    source="Observation/x", more="", rid=1, version=1, t_from=1, patient="p", ordinal=0,
    report_status="", report_source="", report_more="", report_issued=None, report_rid=None,
)  # fmt: skip


@pytest.mark.parametrize(
    ("wanted", "unwanted"),
    [
        ({"items": {"K", "NA"}}, {"items": {"NA"}}),
        ({"items": {"K"}}, {"items": set()}),  # no item is named, so none is wanted
        ({"institutions": {"sender"}}, {"institutions": {"other"}}),
        ({"statuses": {"final"}}, {"statuses": {"amended"}}),
        ({"classes": {"lab", "CT"}}, {"classes": {"imaging"}}),
        ({"dates": [("ge", 150, 160)]}, {"dates": [("ge", 150, 160), ("sa", 150, 160)]}),
    ],
)
def test_a_result_is_wanted_that_meets_every_filter(
    wanted: dict[str, Any], unwanted: dict[str, Any]
) -> None:
    meets, misses = ({k: _given(v) for k, v in one.items()} for one in (wanted, unwanted))
    assert ANY.has(ROW, CATALOGUE)
    assert Filter(**meets).has(ROW, CATALOGUE)
    assert not Filter(**misses).has(ROW, CATALOGUE)
    assert not Filter(**{"classes": frozenset({"lab"}), **misses}).has(ROW, CATALOGUE)


def _given(values: Any) -> Any:
    return frozenset(values) if isinstance(values, set) else values
