"""What is made before a door listens: all that the first report needs, and nothing stored."""

from __future__ import annotations

from running import Running

from fhir_gateway.fhir.structs import decoder
from fhir_gateway.interactions import warm_up
from fhir_gateway.security.actor import SYSTEM_ACCESS


def test_an_artificial_report_goes_all_the_way_but_for_the_store(client: Running) -> None:
    gateway = client.gateway

    async def standing() -> int:
        async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
            return reader.t

    async def scenario() -> None:
        before = await standing()
        await warm_up.warm_up(gateway)
        await warm_up._report(gateway)  # which nothing in it makes fail
        made = decoder.cache_info().misses
        for type in ("Patient", "DiagnosticReport", "Observation"):
            decoder(type)
        assert decoder.cache_info().misses == made
        assert await standing() == before

    client.run(scenario())
    assert "warm-up" not in client.metrics()
