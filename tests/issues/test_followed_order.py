"""What follows another resource shares its home however a request orders the two."""

from __future__ import annotations

from running import Running


def test_a_slot_before_its_schedule_stands_with_the_schedule(client: Running) -> None:
    client.post("/fhir", {"resourceType": "Bundle", "type": "transaction", "entry": [
        {"resource": {"resourceType": "Organization", "id": "followed", "name": "f"},
         "request": {"method": "PUT", "url": "Organization/followed"}},
        {"resource": {"resourceType": "HealthcareService", "id": "followed",
                      "providedBy": {"reference": "Organization/followed"}},
         "request": {"method": "PUT", "url": "HealthcareService/followed"}},
    ]})  # fmt: skip
    slot = {
        "resourceType": "Slot", "id": "early", "status": "free",
        "schedule": {"reference": "Schedule/late"},
        "start": "2026-11-20T08:00:00Z", "end": "2026-11-20T08:30:00Z",
    }  # fmt: skip
    schedule = {
        "resourceType": "Schedule", "id": "late",
        "actor": [{"reference": "HealthcareService/followed"}],
    }  # fmt: skip
    entries = [
        {"resource": one, "request": {"method": "PUT", "url": f"{one['resourceType']}/{one['id']}"}}
        for one in (slot, schedule)
    ]
    answer = client.post(
        "/fhir", {"resourceType": "Bundle", "type": "transaction", "entry": entries}
    )
    assert answer.status_code == 200

    async def homes() -> tuple[int | None, int | None, int | None]:
        from fhir_gateway.security.actor import SYSTEM_ACCESS

        async with client.gateway.store.snapshot(SYSTEM_ACCESS) as reader:
            return (
                await reader.home("HealthcareService", "followed"),
                await reader.home("Schedule", "late"),
                await reader.home("Slot", "early"),
            )

    service, late, early = client.run(homes())
    assert late == early
    assert late == service
    assert late != 0
