"""What re-mapping costs: resources a second, passed over and derived again, on one worker.

`python bench/remapping.py [COUNT]` fills a SQLite store of its own with results of one hospital
under local codes, changes the hospital's map, and does the jobs as a worker would. Prints one line
of JSON. docs/re-mapping.md has the figures.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from typing import Any

from fhir_gateway.app import open_gateway
from fhir_gateway.context import Gateway
from fhir_gateway.interactions import remap
from fhir_gateway.interactions.institutions import register
from fhir_gateway.interactions.jobs import work_once
from fhir_gateway.interactions.local_codes import catch_up
from fhir_gateway.interactions.prepare import prepare
from fhir_gateway.interactions.remap_plan import Watch, plan
from fhir_gateway.security.institution import Institution
from fhir_gateway.settings import Settings
from fhir_gateway.store.changes import ChangeSet
from fhir_gateway.terminology.catalogue import LAB_SYSTEM
from fhir_gateway.terminology.local_map_resource import contexts

OWN = "urn:bench:lis"
CODES, PIECE, RESULTS = 200, 100, 20  # codes of the hospital; of a change set; of a person


def concept_map(items: list[str], version: int) -> dict[str, Any]:
    """The hospital's map: code n means the n-th of these items."""
    elements = [
        {"code": f"C{n}", "target": [{"code": item, "equivalence": "equivalent"}]}
        for n, item in enumerate(items)
        if item
    ]
    return {
        "resourceType": "ConceptMap", "id": "bench-map", "url": "urn:bench:map",
        "version": str(version), "status": "active", "useContext": contexts("bench", "result"),
        "group": [{"source": OWN, "target": LAB_SYSTEM, "element": elements}],
    }  # fmt: skip


def result(number: int) -> dict[str, Any]:
    """The n-th result: a person has 20, a code every two-hundredth."""
    quantity = {"value": 4.1, "unit": "mmol/L", "code": "mmol/L",
                "system": "http://unitsofmeasure.org"}  # fmt: skip
    return {
        "resourceType": "Observation", "id": f"r{number}", "status": "final",
        "code": {"coding": [{"system": OWN, "code": f"C{number % CODES}", "display": "项目"}]},
        "subject": {"reference": f"Patient/p{number // RESULTS}"},
        "effectiveDateTime": "2026-11-20T08:00:00+08:00", "valueQuantity": quantity,
        "performer": [{"reference": "Organization/bench"}],
    }  # fmt: skip


async def store(gateway: Gateway, resources: list[dict[str, Any]]) -> None:
    """Commits resources of the hospital."""
    puts = [prepare(gateway, one, op="create", institution="bench") for one in resources]
    await gateway.store.commit(ChangeSet(gateway.random(16), puts=puts))


async def fill(gateway: Gateway, count: int) -> None:
    """Stores people and their results."""
    await catch_up(gateway, "bench")
    people = [{"resourceType": "Patient", "id": f"p{n}"} for n in range(count // RESULTS + 1)]
    for start in range(0, len(people), PIECE):
        await store(gateway, people[start : start + PIECE])
    for start in range(0, count, PIECE):
        await store(gateway, [result(n) for n in range(start, start + PIECE)])
    await gateway.store.drain()


async def timed(gateway: Gateway, count: int) -> float:
    """Resources a second of the jobs that there are."""
    began = time.perf_counter()
    while await work_once(gateway, {remap.KIND: remap.work}):
        pass
    return round(count / (time.perf_counter() - began))


async def main(count: int) -> dict[str, Any]:
    """The figures."""
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(database=f"sqlite:///{folder}/bench.sqlite", mappings=folder)
        gateway = await open_gateway(settings)
        try:
            await register(gateway, Institution(id="bench", name="bench", area="110105"))
            codes = gateway.local_codes
            assert codes is not None
            items = [item.code for item in codes.catalogue.of("lab")][:2]
            half = [items[n % 2] for n in range(CODES)]
            await store(gateway, [concept_map(half, 1)])
            await fill(gateway, count)
            watch, figures = Watch(gateway), dict[str, Any](count=count)
            await watch.look()
            figures["derived, nothing differs"] = await timed(gateway, count)
            await store(gateway, [concept_map(["", *half[1:]], 2)])
            await watch.look()
            figures["passed over, 1 of 200 codes"] = await timed(gateway, count)
            await store(gateway, [concept_map(list(reversed(half)), 3)])
            await plan(gateway, "bench", everything=True)
            figures["derived, all differ"] = await timed(gateway, count)
            return figures
        finally:
            await gateway.store.close()


if __name__ == "__main__":
    wanted = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    sys.stdout.write(json.dumps(asyncio.run(main(wanted))) + "\n")
