"""per-1: a period does not end before it begins, wherever it stands and however it is judged."""

from __future__ import annotations

import json

import pytest

from fhir_gateway.errors import Unprocessable
from fhir_gateway.fhir.validate import read_resource
from fhir_gateway.fhir.walk import is_reversed, issues


@pytest.mark.parametrize(
    ("start", "end", "wrong"),
    [
        ("2026", "2025", True),
        ("2026", "2026", False),
        ("2026-02", "2026", False),
        ("2026-02", "2026-01", True),
        ("2026-02-02", "2026-02", False),
        ("2026-02-02", "2026-02-01", True),
        ("2026-02-02", "2026-02-02", False),
        ("2026-02-02T10:00:00Z", "2026-02-02", False),
        ("2026-02-03T10:00:00Z", "2026-02-02", True),
        ("2026-02-02", "2026-02-01T23:00:00Z", True),
        ("2026-02-02T10:00:00Z", "2026-02-02T09:59:59Z", True),
        ("2026-02-02T10:00:00Z", "2026-02-02T10:00:00Z", False),
        ("2026-02-02T10:00:00+08:00", "2026-02-02T02:30:00Z", False),
        ("2026-02-02T10:00:00Z", "2026-02-02T10:30:00+08:00", True),
        ("2026-02-02T10:00:00.002Z", "2026-02-02T10:00:00.001Z", True),
        ("2026-02-02T10:00:00.5Z", "2026-02-02T10:00:00Z", False),
        ("9999-12-31", "0001", True),
        ("T", "T", False),
        (None, "2026", False),
        ("2026", 3, False),
    ],
)
def test_what_ends_before_it_begins(start, end, wrong):
    assert is_reversed({"start": start, "end": end}) is wrong


REVERSED = {"start": "2026-01-02", "end": "2026-01-01"}
SOUND = {"start": "2026-01-01", "end": "2026-01-02"}


def _patient(period):
    return {
        "resourceType": "Patient",
        "identifier": [{"value": "1", "period": period}],
        "extension": [{"url": "http://x.example/e", "valuePeriod": period}],
    }


def _refusals(resource):
    try:
        read_resource(json.dumps(resource).encode())
    except Unprocessable as error:
        assert list(error.issues) == issues(resource)
        return [(issue.expression, issue.rule) for issue in error.issues]
    return []


def test_a_period_is_judged_wherever_it_stands():
    assert _refusals(_patient(SOUND)) == []
    assert sorted(_refusals(_patient(REVERSED))) == [
        ("Patient.extension[0].value", "per-1"),
        ("Patient.identifier[0].period", "per-1"),
    ]


def test_what_only_looks_like_a_period_is_none():
    slot = {
        "resourceType": "Slot",
        "schedule": {"reference": "Schedule/1"},
        "status": "free",
        "start": "2026-01-02T00:00:00Z",
        "end": "2026-01-01T00:00:00Z",
    }
    assert _refusals(slot) == []
