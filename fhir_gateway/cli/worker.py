"""`fhir-gateway worker`: a process that does jobs, so that no serving process has to.

`fhir-gateway serve` starts one beside itself unless it is told not to. Several workers on one
store are safe: each job is leased by one of them.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from typing import Any

import click
import uvloop

from fhir_gateway.app import open_gateway
from fhir_gateway.cli.serve import log_to_stderr, settle
from fhir_gateway.context import Gateway
from fhir_gateway.errors import GatewayError
from fhir_gateway.identity import review_job
from fhir_gateway.interactions.endpoints_job import Timer, both
from fhir_gateway.interactions.jobs import work
from fhir_gateway.interactions.reindex import run
from fhir_gateway.interactions.remap_plan import Watch
from fhir_gateway.recognition import booked_job, relied_job
from fhir_gateway.rest.later import WORKS
from fhir_gateway.scheduling import pool_job
from fhir_gateway.settings import Settings, load_settings
from fhir_gateway.transparency.sequencer import Sequencer

#: How often a worker that belongs to a server looks whether it has become the writer.
_LOOK_SECONDS = 0.5

#: The servers' requests come first where processors are few.
_NICENESS = 10


@click.command("worker", short_help="Do long work.")
@click.option("--database", help="Where the data is: sqlite:///PATH or postgresql://…")
@click.option("--exports", help="Folder for the files of asynchronous answers.")
@click.option(
    "--with-server",
    is_flag=True,
    hidden=True,
    help="Ends when its standard input does, and leaves writing to the server.",
)
@click.option("--delay", type=float, default=0.0, hidden=True, help="Seconds to wait before.")
def command(with_server: bool, delay: float, **chosen: Any) -> None:  # fmt: skip
    """Do long work until a signal: number and sign the audit log (fhir-gateway audit), exports and
    other answers that come later, comparing Patients that may be one person's (fhir-gateway links),
    cut-offs, holds that are over and offers of waiting lists (fhir-gateway pools cut-off, tidy),
    and following maps of local codes that have changed (fhir-gateway remap). After an upgrade it
    first brings search rows up to date, where that is needed (fhir-gateway reindex).

    A worker that is killed loses nothing: another one goes on from the last checkpoint, at the
    latest 30 seconds later. On a signal the job under way is given back at once.

    Exit code: 0 after a signal; 2 when it could not start.
    """
    log_to_stderr()
    try:
        settings = load_settings(**chosen)
        uvloop.run(_work(settings, with_server=with_server, delay=delay))
    except GatewayError as error:
        print(f"fhir-gateway: cannot work: {error}", file=sys.stderr, flush=True)
        sys.exit(2)


async def _work(settings: Settings, *, with_server: bool, delay: float) -> None:
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if with_server:
        loop.add_reader(sys.stdin.fileno(), _end_with_server)
    try:
        await asyncio.wait_for(stop.wait(), delay)
        return
    except TimeoutError:
        pass
    gateway = await open_gateway(settings, begin=False)
    os.nice(_NICENESS)
    settle()
    watch = asyncio.create_task(_leave_writing(gateway, stop)) if with_server else None
    signing = asyncio.create_task(Sequencer(gateway).run(stop))
    try:
        await run(gateway, stop)
        looks = (
            Watch(gateway).look,
            Timer(gateway).look,
            review_job.Watch(gateway).look,
            relied_job.Watch(gateway).look,
            booked_job.Watch(gateway).look,
            pool_job.Timer(gateway).look,
        )
        await work(gateway, WORKS, stop, look=both(*looks))
    finally:
        if watch is not None:
            watch.cancel()
        stop.set()
        await signing
        await gateway.store.close()


def _end_with_server() -> None:
    """The server is gone, however it went; whoever comes next goes on from the last checkpoint."""
    if not os.read(sys.stdin.fileno(), 1):
        os._exit(0)


async def _leave_writing(gateway: Gateway, stop: asyncio.Event) -> None:
    """Stops when the writer's seat fell to this process: commits would wait for pages of files.

    The server starts another worker, when one of its own processes has the seat.
    """
    while not getattr(gateway.store, "is_writer", False):  # noqa: ASYNC110 - told by nobody
        await asyncio.sleep(_LOOK_SECONDS)
    logging.getLogger("fhir_gateway.jobs").info('{"event":"worker-leaves-seat"}')
    stop.set()
