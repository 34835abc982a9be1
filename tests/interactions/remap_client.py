"""A worker that follows maps and kills itself at a named point of the store.

remap_client.py DATABASE MAPPINGS POINT COUNT: the COUNT-th time that a commit of rows which were
derived again reaches POINT. Without POINT it does its work to the end.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys

from fhir_gateway.app import open_gateway
from fhir_gateway.interactions import deriving, jobs, remap
from fhir_gateway.interactions.remap_plan import Watch
from fhir_gateway.settings import Settings
from fhir_gateway.store import points


def kill_at(point: str, count: int) -> None:
    """From now on the process ends, without a chance to tidy up, at the count-th such point."""
    left = count

    def reached(name: str) -> None:
        nonlocal left
        if name == point:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    points.reached = reached


async def main(database: str, mappings: str, point: str = "", count: str = "0") -> None:
    """Follows all maps as a worker does, in small pieces."""
    remap.VISIT, remap.STEP_SECONDS, deriving.PIECE = 2, 0.0, 1
    jobs.LEASE = 1  # whoever comes next need not wait for half a minute
    gateway = await open_gateway(Settings(database=database, mappings=mappings))
    try:
        await Watch(gateway).look()
        if point:
            kill_at(point, int(count))
        while await jobs.work_once(gateway, {remap.KIND: remap.work}):
            pass
    finally:
        await gateway.store.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
