"""What is told of an offer is what reading and writing the whole Slot would tell, byte for byte."""

from __future__ import annotations

from typing import Any
from zoneinfo import ZoneInfo

import pytest

from fhir_gateway.fhir.wire import parse, render, splice, tail
from fhir_gateway.scheduling import extensions as ext
from fhir_gateway.scheduling.appointment import Marks, Offer, appointment_of
from fhir_gateway.scheduling.offered import schedule_members, slot_members, with_left

ZONE = ZoneInfo("Asia/Shanghai")
CAPACITY = {"url": ext.CAPACITY, "extension": [{"url": "total", "valuePositiveInt": 3}]}
ASKED = {
    "url": ext.REQUIREMENT,
    "extension": [
        {"url": "preparation", "valueString": "说\"明\"\n第二行"},
        {"url": "fasting", "valueUnsignedInt": 8},
    ],
}  # fmt: skip
LABEL = {"system": "http://example.org/labels", "code": "PSY"}
SERVICE = [{"coding": [{"system": "http://example.org/items", "code": "I003"}]}]
PLAIN: dict[str, Any] = {
    "resourceType": "Slot", "id": "s-1", "status": "free", "start": "2026-12-07T08:00:00Z",
    "end": "2026-12-07T08:15:00Z", "schedule": {"reference": "Schedule/c-1"},
}  # fmt: skip
SLOTS = [
    PLAIN,
    {**PLAIN, "meta": {"security": [LABEL], "tag": [LABEL]}, "serviceType": SERVICE},
    {**PLAIN, "extension": [ASKED, CAPACITY], "specialty": SERVICE, "comment": "“急”\\\t"},
    {**PLAIN, "extension": [{"url": "http://example.org/x", "valueDecimal": 1}, CAPACITY]},
]
SCHEDULES: list[dict[str, Any]] = [
    {"resourceType": "Schedule", "id": "c-1", "actor": [{"reference": "Practitioner/p"}]},
    {"resourceType": "Schedule", "id": "c-1", "meta": {"security": [LABEL]}, "extension": [ASKED],
     "serviceCategory": SERVICE, "serviceType": SERVICE,
     "actor": [{"reference": "Location/l", "display": "CT室"}]},
]  # fmt: skip


def _whole(resource: dict[str, Any]) -> bytes:
    """As the store gives it; a decimal keeps its spelling there."""
    stored = tail(parse(render(resource).replace(b'"valueDecimal":1', b'"valueDecimal":1.50e2')))
    return splice(resource["resourceType"], resource["id"], 2, 1_780_000_000_000_000, stored)


@pytest.mark.parametrize("slot", SLOTS)
def test_a_slot_is_told_with_the_seats_left_and_is_else_as_stored(slot: dict[str, Any]) -> None:
    read = parse(_whole(slot))
    parts = [{"url": "total", "valuePositiveInt": 3}, {"url": "free", "valueUnsignedInt": 2}]
    others = [one for one in read.get("extension", ()) if one["url"] != ext.CAPACITY]
    read["extension"] = [{"url": ext.CAPACITY, "extension": parts}, *others]
    assert with_left(slot_members(_whole(slot)), 3, 2) == render(read)


@pytest.mark.parametrize("slot", SLOTS)
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("patient", ["", "p-1"])
def test_a_proposal_is_made_of_pieces_as_of_the_whole(
    slot: dict[str, Any], schedule: dict[str, Any], patient: str
) -> None:
    def proposal(slot: Any, schedule: Any) -> bytes:
        offer = Offer(slot, schedule, patient, ("ServiceRequest/r",), {"text": "复查"})
        return render(appointment_of(offer, id="offer-s-1", status="proposed", created=1,
                                     marks=Marks("ordinary"), zone=ZONE))  # fmt: skip

    pieces = slot_members(_whole(slot)), schedule_members(_whole(schedule))
    assert proposal(*pieces) == proposal(parse(_whole(slot)), parse(_whole(schedule)))
