"""Booking from one end to the other: found, held, booked, moved, cancelled, over REST."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from booking_world import SHIPPED, World, booked, marks, told
from databases import Databases


@pytest.fixture(scope="module")
def world(shared_database: Databases) -> Iterator[World]:
    running = shared_database.running("booking", policy=SHIPPED)
    yield World(running)
    running.close()


def test_a_seat_is_held_and_then_booked(world: World) -> None:
    (slot,) = world.slots()
    patient = world.patient()
    answer = world.hold(slot, patient)
    assert answer.status_code == 200, answer.text
    held = answer.json()
    assert (held["status"], marks(held)["booking-channel"]) == ("pending", "ordinary")
    assert "hold-until" in marks(held)
    assert world.status(slot) == "free"
    answer = world.call("Appointment/$book", appointment_reference=f"Appointment/{held['id']}")
    whole = booked(answer)
    assert (whole["id"], whole["status"]) == (held["id"], "booked")
    assert "hold-until" not in marks(whole)
    assert marks(whole)["booking-institution"] == {"reference": "Organization/clinic"}
    assert world.status(slot) == "busy"
