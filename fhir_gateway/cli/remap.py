"""`fhir-gateway remap`: what is stored follows a map of local codes that has changed."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from contextlib import suppress

import click
import uvloop

from fhir_gateway.app import open_gateway
from fhir_gateway.cli.serve import log_to_stderr, settle
from fhir_gateway.context import Gateway
from fhir_gateway.errors import GatewayError, Invalid
from fhir_gateway.interactions.institutions import institution as registered
from fhir_gateway.interactions.jobs import POLL_SECONDS, work_once
from fhir_gateway.interactions.reindex import is_needed
from fhir_gateway.interactions.remap import KIND, counted, rehearse, work
from fhir_gateway.interactions.remap_plan import Order, order_now, plan
from fhir_gateway.settings import Settings, load_settings
from fhir_gateway.store import jobs
from fhir_gateway.store.jobs import OPEN_STATES, Job
from fhir_gateway.terminology.remapping import read_changed

#: Seconds between two lines, on a terminal and elsewhere.
_TERMINAL, _ELSEWHERE = 0.5, 10.0


@click.command("remap", short_help="Follow a map of local codes that has changed.")
@click.argument("institution")
@click.option("--database", help="Where the data is: sqlite:///PATH or postgresql://…")
@click.option("--mappings", help="Folder of the mapping tables.")
@click.option("--all", "everything", is_flag=True, help="Look at all, not at changed codes alone.")
@click.option("--dry-run", is_flag=True, help="Say what would become of it, and change nothing.")
def command(
    institution: str, database: str | None, mappings: str | None, *, everything: bool, dry_run: bool
) -> None:
    """Give what INSTITUTION has sent the meaning that its map of local codes has today.

    Search rows and recognition facts follow the map; the resources, their versions and their ETags
    stay as they are, and a decision that was made before is replayed from what it had read. A
    gateway that serves does the same by itself when a map changes (fhir-gateway jobs list --kind
    remap). The command may run beside it, and again after it was stopped or killed: it goes on
    where it was.

    Exit code: 0 when all is done; 1 when it is not; 2 when it could not start.
    """
    log_to_stderr()
    try:
        settings = load_settings(database=database, mappings=mappings)
        done = uvloop.run(_run(settings, institution, everything=everything, dry_run=dry_run))
    except GatewayError as error:
        said = "; ".join(issue.diagnostics for issue in error.issues)
        print(f"fhir-gateway: cannot remap: {said}", file=sys.stderr, flush=True)
        sys.exit(2)
    sys.exit(0 if done else 1)


async def _run(settings: Settings, institution: str, *, everything: bool, dry_run: bool) -> bool:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    gateway = await open_gateway(settings, begin=False)
    settle()
    try:
        await _check(gateway, institution)
        order = await order_now(gateway, institution, everything=everything)
        _introduce(order)
        if dry_run:
            click.echo(f"would be: {counted(await rehearse(gateway, order))}")
            return True
        job = await plan(gateway, institution, everything=everything, again=True)
        assert job is not None
        return await _follow(gateway, job.id, stop)
    finally:
        await gateway.store.close()


async def _check(gateway: Gateway, institution: str) -> None:
    """Raises Invalid for nobody's id, and where rows are not of this version yet."""
    if await registered(gateway, institution) is None:
        raise Invalid(
            f"No institution {institution} is registered; see `fhir-gateway institution list`",
            rule="institution",
        )
    if await is_needed(gateway):
        raise Invalid(
            "The index is of an older version: `fhir-gateway reindex` follows all maps too",
            rule="reindex-needed",
        )


def _introduce(order: Order) -> None:
    changed = read_changed(order.changed)
    if changed.everything:
        click.echo(f"{order.institution}: everything is looked at")
    elif changed:
        click.echo(f"{order.institution}: what bears a code of which the map has changed")
    else:
        click.echo(f"{order.institution}: no code means anything else since it was followed last")


async def _follow(gateway: Gateway, id: str, stop: asyncio.Event) -> bool:
    """Does the job, or looks on while a worker does it. True when it was done."""
    began, telling = time.monotonic(), asyncio.create_task(_tell(gateway, id))
    try:
        while not stop.is_set():
            job = await jobs.find(gateway.store, id)
            if job is None or job.state not in OPEN_STATES:
                return _conclude(job, time.monotonic() - began)
            if not await work_once(gateway, {KIND: work}, stop):
                with suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), POLL_SECONDS)
    finally:
        telling.cancel()
    return False


def _conclude(job: Job | None, seconds: float) -> bool:
    if job is not None and job.state == "done":
        click.echo(f"{job.progress} ({seconds:.0f} s)")
        return True
    state = job.state if job is not None else "gone"
    click.echo(f"fhir-gateway: not followed: the job is {state}; see `fhir-gateway jobs`", err=True)
    return False


async def _tell(gateway: Gateway, id: str) -> None:
    """Says how far the job is, until cancelled."""
    terminal = sys.stderr.isatty()
    while True:
        await asyncio.sleep(_TERMINAL if terminal else _ELSEWHERE)
        job = await jobs.find(gateway.store, id)
        if job is not None and job.progress:
            print(job.progress.ljust(78), end="\r" if terminal else "\n", file=sys.stderr,
                  flush=True)  # fmt: skip
