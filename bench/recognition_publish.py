"""Somebody who publishes rule sets all the time, beside a load: nobody may have to wait for it."""

from __future__ import annotations

import asyncio
import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from multiprocessing.synchronize import Event

from fhir_gateway.app import open_gateway
from fhir_gateway.recognition import publish
from fhir_gateway.settings import load_settings

#: Seconds between two versions.
PAUSE = 0.5


@contextmanager
def publishing(database: str) -> Iterator[None]:
    """Another process puts a new version in force twice a second; says how many at the end."""
    context = multiprocessing.get_context("spawn")
    done, ready, count = context.Event(), context.Event(), context.Value("i", 0)
    process = context.Process(target=_publish, args=(database, ready, done, count))
    process.start()
    ready.wait(60)
    try:
        yield
    finally:
        done.set()
        process.join(60)
        print(f"    {count.value} versions were published meanwhile", flush=True)


def _publish(database: str, ready: Event, done: Event, count: object) -> None:
    asyncio.run(_run(database, ready, done, count))


async def _run(database: str, ready: Event, done: Event, count: object) -> None:
    gateway = await open_gateway(load_settings({}, database=database), begin=False)
    try:
        found = await publish.rule_sets(gateway)
        base = next(one for one in found if one.status == "active")
        number = len(found)
        ready.set()
        while not done.is_set():
            number += 1
            definition = deepcopy({**base.definition, "status": "draft"})
            del definition["meta"]
            definition |= {"id": f"bench-{number}", "version": f"9.{number}.0"}
            await publish.add(gateway, definition)
            await publish.activate(gateway, definition["version"], demonstration=True)
            count.value += 1  # type: ignore[attr-defined]  # a number that processes share
            await asyncio.sleep(PAUSE)
    finally:
        await gateway.store.close()
