"""Rows of AuditEvents, worked out with less: the same rows."""

from __future__ import annotations

from typing import Any

import pytest

from fhir_gateway.audit.events import (
    Call,
    answer_event,
    create_event,
    credential_event,
    decision_event,
    delete_event,
    read_event,
    receive_event,
    refusal_event,
    search_event,
    transaction_event,
    update_event,
)
from fhir_gateway.fhir.wire import parse, splice
from fhir_gateway.search.index import Extractor
from fhir_gateway.search.recurring import Recurring

CALLS = [
    Call(1_790_000_000_000_000, "甲医院", "h1", request_id="r1", address="192.0.2.1"),
    Call(1_790_000_000_000_001, "乙医院", "h2", purpose="TREAT", user="Practitioner/d"),
    Call(1_790_000_500_000_000, "甲医院", "h1", request_id="r2", address="192.0.2.1"),
]
NAMES = [f"Observation/o{number}" for number in range(12)]


def tails(call: Call) -> list[bytes]:
    """One of each kind of event."""
    return [
        read_event(call, type="Observation", id="o1", patient="p1"),
        search_event(call, query="Patient?_id=1", patient="p1", count=3),
        search_event(call, query="Patient?_id=2"),
        create_event(call, type="Patient", id="p1", patient="p1"),
        update_event(call, type="Patient", id="p1", version=2, patient="p1"),
        delete_event(call, type="Slot", id="s1"),
        transaction_event(call, resources=NAMES, patients=["p1", "p2"], summary="12 entries"),
        refusal_event(call, interaction="read", status=404, code="not-found", target="Slot/x"),
        receive_event(call, media="a/b", digest=b"d" * 32, resources=NAMES, patients=["p1"]),
        decision_event(call, id="g1", patient="p1", operation="$recognize", resources=NAMES),
        answer_event(call, id="g1", patient="p1", operation="$answer", summary="recognised"),
        credential_event(call, institution="h1", issued=True),
    ]


EVENTS: list[dict[str, Any]] = [
    parse(splice("AuditEvent", f"e{place}-{number}", 1, call.recorded_us, tail))
    for place, call in enumerate(CALLS)
    for number, tail in enumerate(tails(call))
]


@pytest.mark.parametrize("rounds", [1, 2], ids=["new", "known"])
def test_the_rows_are_those_of_the_extractor(rounds: int) -> None:
    extractor = Extractor(b"k" * 32)
    recurring = Recurring(extractor)
    for _ in range(rounds):
        for event in EVENTS:
            found, expected = (
                recurring.rows("AuditEvent", event),
                extractor.rows("AuditEvent", event),
            )
            assert [sorted(rows) for rows in found] == [sorted(rows) for rows in expected]


def test_other_types_go_straight_through() -> None:
    extractor = Extractor(b"k" * 32)
    resource = {"resourceType": "GuidanceResponse", "id": "g", "status": "success"}
    expected = extractor.rows("GuidanceResponse", resource)
    assert Recurring(extractor).rows("GuidanceResponse", resource) == expected
