"""What lets one request pass through quickly asks the same as what looks at everything."""

from __future__ import annotations

import asyncio
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from fhir_gateway.fhir.definitions import definitions
from fhir_gateway.fhir.wire import parse, render
from fhir_gateway.interactions.own_name import named_by, names_itself
from fhir_gateway.interactions.pace import breath, in_turn, prepared
from fhir_gateway.interactions.references import slots

SAMPLES = sorted((Path(__file__).parents[1] / "fhir" / "samples").glob("*.json"))
OWN = "Organization/h"


def resources() -> list[dict[str, Any]]:
    found = [json.loads(path.read_text(encoding="utf-8")) for path in SAMPLES]
    return [parse(json.dumps(one).encode()) for one in found if "resourceType" in one]


@pytest.mark.parametrize(
    "more",
    [
        {}, {"identifier": [{"value": "1", "assigner": {"reference": "Organization/1"}}]},
        {"note": [{"authorReference": {"reference": "Practitioner/1"}, "text": "a"}]},
        {"contained": [{"resourceType": "Specimen", "subject": {"reference": "#p"}}]},
        {"extension": [{"url": "u", "valueReference": {"reference": "Device/3"}}]},
        {"code": {"extension": [{"url": "u", "valueReference": {"reference": "X/1"}}]}},
        {"_status": {"extension": [{"url": "u", "valueReference": {"reference": "Device/4"}}]}},
        {"component": [{"code": {"text": "reference"}}]},
    ],
)  # fmt: skip
def test_references_are_found_in_the_same_order_by_the_bytes(more: dict[str, Any]) -> None:
    for one in [*resources(), {"resourceType": "Observation", "subject": {"reference": "Patient/1"},
                               "performer": [{"reference": OWN}, {"display": "a"}]}]:  # fmt: skip
        known = definitions().types[one["resourceType"]].members
        resource = {**one, **{k: v for k, v in more.items() if k.lstrip("_") in known}}
        told = slots(resource, render(resource))
        assert [(id(slot.holder), slot.text) for slot in told] == [
            (id(slot.holder), slot.text) for slot in slots(resource)
        ]


@pytest.mark.parametrize(
    ("resource", "itself"),
    [
        ({"resourceType": "Observation", "performer": [{"reference": OWN, "display": "h"}]}, True),
        ({"resourceType": "Observation", "performer": [{"display": "somebody"}]}, True),
        ({"resourceType": "Observation"}, True),
        ({"resourceType": "Observation", "performer": [{"reference": "Organization/o"}]}, False),
        ({"resourceType": "Observation", "performer": [
            {"reference": OWN, "identifier": {"system": "s", "value": "v"}}]}, False),
        ({"resourceType": "Observation", "performer": [{"type": "Organization"}]}, False),
        ({"resourceType": "Observation", "performer": [{"reference": OWN}],
          "contained": [{"resourceType": "Organization"}]}, False),
        ({"resourceType": "ImagingStudy", "series": [{"uid": "1"}]}, False),
        ({"resourceType": "Organization", "identifier": []}, False),
        ({"resourceType": "Provenance", "agent": [{"who": {"reference": OWN}}]}, False),
    ],
)  # fmt: skip
def test_who_names_itself_needs_no_look(resource: dict[str, Any], itself: bool) -> None:
    assert names_itself(resource, OWN) is itself
    if itself:
        assert all(
            one.reference.get("reference") == OWN and "identifier" not in one.reference
            for one in named_by(resource)
        )


def test_turns_are_taken_in_order_and_end_where_the_store_is_waited_for() -> None:
    told: list[str] = []

    async def one(turns: asyncio.Semaphore, stored: asyncio.Event, name: str) -> None:
        async with in_turn(turns):
            told.append(f"begin {name}")
            await asyncio.sleep(0)
            told.append(f"prepared {name}")
            prepared()
            prepared()  # a second time it ends nothing
            await stored.wait()
        told.append(f"end {name}")

    async def scenario() -> None:
        turns, stored = asyncio.Semaphore(1), asyncio.Event()
        tasks = [asyncio.create_task(one(turns, stored, name)) for name in "abc"]
        for _ in range(20):
            await asyncio.sleep(0)
        assert told == [f"{what} {name}" for name in "abc" for what in ("begin", "prepared")]
        stored.set()
        await asyncio.gather(*tasks)
        assert not turns.locked()
        assert turns._value == 1  # each gave back its own turn and no more

    asyncio.run(scenario())


def test_a_turn_ends_with_a_fault_and_with_whoever_goes_away() -> None:
    async def fails(turns: asyncio.Semaphore) -> None:
        async with in_turn(turns):
            raise ValueError("a fault")

    async def waits(turns: asyncio.Semaphore) -> None:
        async with in_turn(turns):
            await asyncio.sleep(60)

    async def scenario() -> None:
        turns = asyncio.Semaphore(1)
        with pytest.raises(ValueError, match="a fault"):
            await fails(turns)
        task = asyncio.create_task(waits(turns))
        await asyncio.sleep(0)
        assert turns.locked()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert not turns.locked()
        prepared()  # nobody's turn

    asyncio.run(scenario())


def test_work_in_turn_lets_the_loop_go_on_between_its_steps_and_other_work_does_not() -> None:
    told: list[str] = []

    async def one(turns: asyncio.Semaphore, name: str) -> None:
        async with in_turn(turns):
            told.append(f"one {name}")
            await breath()
            told.append(f"two {name}")
            prepared()

    async def writer() -> None:
        while len(told) < 20:
            told.append("writer")
            await asyncio.sleep(0)

    async def scenario() -> None:
        turns = asyncio.Semaphore(1)
        tasks = [one(turns, "a"), one(turns, "b"), writer()]
        await asyncio.gather(*map(asyncio.ensure_future, tasks))
        steps = [number for number, what in enumerate(told) if what != "writer"]
        assert [told[number] for number in steps] == ["one a", "two a", "one b", "two b"]
        assert all(later > earlier + 1 for earlier, later in pairwise(steps))
        alone = asyncio.ensure_future(asyncio.sleep(0))
        await breath()  # not in turn: nothing else goes on meanwhile
        assert not alone.done()
        await alone

    asyncio.run(scenario())
