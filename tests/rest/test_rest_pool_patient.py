"""A patient with an own token on a waiting list, and what the patient sees of missed visits."""

from __future__ import annotations

import pytest
from booking_world import CT, DAY, SHIPPED, World
from provider import Provider

from fhir_gateway.fhir.wire import instant
from fhir_gateway.scheduling.waitlist_offers import offer


@pytest.mark.drivers("sqlite")
def test_a_patient_waits_takes_what_is_offered_and_sees_own_missed_visits(start, tmp_path):
    provider = Provider(tmp_path)
    world = World(start(policy=SHIPPED, **provider.settings()))
    mine, other = world.patient(), world.patient()
    token = provider.token(role="patient", patient=mine, user=f"Patient/{mine}")
    slot = world.slots()[0]
    now = world.gateway.clock.now()
    wish = {
        "service": f"HealthcareService/hospital-ct-{slot[1:].partition('-')[0]}",
        "item": {"valueCode": CT},
        "start": {"valueDateTime": instant(now)},
        "end": {"valueDateTime": instant(now + 30 * DAY)},
    }
    foreign = world.call("Appointment/$waitlist", token, patient_reference=f"Patient/{other}",
                         **wish)  # fmt: skip
    assert foreign.status_code == 404
    answer = world.call("Appointment/$waitlist", token, patient_reference=f"Patient/{mine}",
                        **wish)  # fmt: skip
    assert answer.status_code == 200, answer.text
    entry = answer.json()
    assert entry["status"] == "waitlist"

    async def run():
        return [one.outcome async for one in offer(world.gateway)]

    assert world.running.run(run()) == ["offered"]
    found = world.running.get(f"/fhir/Task?focus=Appointment/{entry['id']}", headers=token).json()
    told = [one["resource"] for one in found["entry"]]
    assert [one["input"][0]["valueReference"]["reference"] for one in told] == [f"Slot/{slot}"]
    assert world.call(f"Appointment/{entry['id']}/$decline", world.other).status_code == 404
    done = world.call(
        "Appointment/$book", token, appointment_reference=f"Appointment/{entry['id']}"
    )
    assert done.status_code == 200, done.text
    assert world.status(slot) == "busy"

    seen = world.call(f"Patient/{mine}/$missed-appointments", token)
    assert [one["valueInteger"] for one in seen.json()["parameter"]] == [0, 3, 12]
    assert world.call(f"Patient/{other}/$missed-appointments", token).status_code == 404
    refused = world.call(f"Appointment/{entry['id']}/$appeal", token, text="示例")
    assert refused.json()["issue"][0]["details"]["text"] == "no-show-unknown"
    listed = world.call("Organization/hospital/$reconcile-pool", token, list="schedule")
    assert listed.status_code == 403
