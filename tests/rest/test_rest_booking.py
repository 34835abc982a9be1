"""Booking as others do it: a patient with an own token, fhirpy, and two processes on one store."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from booking_world import CT, SHIPPED, World, body_of, booked, soon, told
from fhirpy import SyncFHIRClient
from provider import Provider
from rest_server import Served

from fhir_gateway.security.actor import SYSTEM_ACCESS
from fhir_gateway.store.seat_audit import audit


@pytest.mark.drivers("sqlite")
def test_a_patient_books_for_himself_alone(start, tmp_path):
    provider = Provider(tmp_path)
    world = World(start(policy=SHIPPED, **provider.settings()))
    mine, other = world.patient(), world.patient()
    token = provider.token(role="patient", patient=mine, user=f"Patient/{mine}")
    first, second = world.slots(2)
    answer = world.call("Appointment/$book", token, slot=f"Slot/{first}")
    whole = booked(answer)
    assert whole["participant"][0]["actor"]["reference"] == f"Patient/{mine}"
    assert world.read(f"Appointment/{whole['id']}", world.hospital).status_code == 200
    foreign = world.book(second, other, by=token)
    assert (foreign.status_code, [*told(foreign)]) == (404, ["patient-unknown"])
    theirs = booked(world.book(second, other))
    path = f"Appointment/{theirs['id']}/$cancel"
    assert world.call(path, token).status_code == 404
    refused = world.call(f"Appointment/{whole['id']}/$arrive", token)
    assert refused.status_code == 403
    # what he answers is the step that it says, and only of his own and within the scopes
    said = {
        "resourceType": "AppointmentResponse", "participantStatus": "declined", "comment": "改期",
        "appointment": {"reference": f"Appointment/{whole['id']}"},
        "actor": {"reference": f"Patient/{mine}"},
    }  # fmt: skip
    scope = "patient/AppointmentResponse.c patient/Appointment.rs"
    narrow = provider.token(role="patient", patient=mine, user=f"Patient/{mine}", scope=scope)
    path = "/fhir/AppointmentResponse"
    refused = world.running.post(path, said, headers=narrow)
    assert (refused.status_code, "patient/Appointment.u" in refused.text) == (403, True)
    about = {**said, "appointment": {"reference": f"Appointment/{theirs['id']}"}}
    assert world.running.post(path, about, headers=token).status_code in (404, 422)
    ended = world.running.post(path, said, headers=token)
    assert ended.status_code == 201, ended.text
    kept = world.read(f"Appointment/{whole['id']}", token).json()
    assert kept["status"] == "cancelled"
    assert kept["cancelationReason"]["coding"][0]["code"] == "pat"
    found = world.running.get(f"{path}?appointment=Appointment/{whole['id']}", headers=token)
    assert [one["resource"]["comment"] for one in found.json()["entry"]] == ["改期"]
    figures = world.running.metrics()
    assert 'fhir_gateway_events_total{event="bookings_made"} 2.0' in figures
    assert 'event="bookings_cancelled"} 1.0' in figures
    assert mine not in figures


@pytest.mark.drivers("sqlite")
def test_a_site_may_insist_on_if_match(start):
    world = World(start(policy=SHIPPED, booking_if_match=True))
    whole = booked(world.book(world.slots()[0], world.patient()))
    path = f"Appointment/{whole['id']}/$cancel"
    answer = world.call(path)
    assert (answer.status_code, [*told(answer)]) == (412, ["if-match-required"])
    assert world.call(path, headers={"if-match": 'W/"1"'}).status_code == 200
    slot = world.slots(hours=300)[0]
    why = world.running.get(f"/fhir/Slot/{slot}/$why-not", headers=world.clinic).json()
    assert why["parameter"][0] == {"name": "bookable", "valueBoolean": True}


@pytest.mark.drivers("sqlite")
def test_two_processes_sell_one_store_and_fhirpy_books(start, database, tmp_path):
    """One process is the test's own, the other one is served."""
    world = World(start(name="two"))
    slots, many = world.slots(6), world.slots(1, capacity=4, hours=480)[0]
    people = [world.patient() for _ in range(24)]
    served = Served(database.url("two"), folder=tmp_path)
    try:
        outcomes = world.running.run(_crowd(world, served, slots, many, people))
        assert sorted(outcomes) == [200] * 10 + [409] * 14
        # beside a loop that runs: one that stands still may hold the lock of the file
        world.running.run(asyncio.to_thread(_books_with_fhirpy, served.fhir, slots))
    finally:
        assert served.stop() == 0
    assert world.running.run(_faults(world.gateway)) == []


async def _crowd(world, served, slots, many, people):
    """Three want each Slot of one seat, six the one of four, of both processes in turn."""
    headers = {**world.clinic, "content-type": "application/fhir+json"}
    async with httpx.AsyncClient(timeout=30) as other:

        async def book(number):
            slot = slots[number % 6] if number < 18 else many
            asked = body_of({
                "slot": f"Slot/{slot}", "patient_reference": f"Patient/{people[number]}",
            })  # fmt: skip
            if number // 6 % 2:
                url, client = f"{served.fhir}/Appointment/$book", other
            else:
                url, client = "/fhir/Appointment/$book", world.running.http
            return (await client.post(url, json=asked, headers=headers)).status_code

        return await asyncio.gather(*(book(number) for number in range(24)))


def _books_with_fhirpy(url, slots):
    """Cancels one booking, finds its seat, holds and books it."""
    fhir = SyncFHIRClient(url)
    taken = fhir.resources("Appointment").search(slot=f"Slot/{slots[5]}").first()
    ended = fhir.execute(f"Appointment/{taken.id}/$cancel", data=body_of({}))
    assert ended["status"] == "cancelled"
    asked = body_of({"start": {"valueDateTime": soon(hours=200)}, "service": CT,
                     "end": {"valueDateTime": soon(hours=300)}})  # fmt: skip
    found = fhir.execute("Appointment/$find", data=asked)
    assert found["total"] == 1
    offer = found["entry"][0]["resource"]["id"]
    person = taken["participant"][0]["actor"]["reference"]
    held = fhir.execute("Appointment/$hold", data=body_of({
        "appointment_reference": f"Appointment/{offer}", "patient_reference": person,
    }))["entry"][0]["resource"]  # fmt: skip
    whole = fhir.execute(
        "Appointment/$book", data=body_of({"appointment_reference": f"Appointment/{held['id']}"})
    )
    assert whole["entry"][0]["resource"]["status"] == "booked"


async def _faults(gateway):
    """What the independent audit of seats, quotas and bookings finds."""
    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        return await reader.steps(lambda _: audit())
