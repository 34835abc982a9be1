"""`fhir-gateway reindex`: search rows are brought up to date after an upgrade."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time

import click
import uvloop

from fhir_gateway.app import open_gateway
from fhir_gateway.cli.serve import log_to_stderr, settle
from fhir_gateway.context import Gateway
from fhir_gateway.errors import GatewayError
from fhir_gateway.interactions.reindex import Progress, is_needed, plan, progress, run
from fhir_gateway.settings import Settings, environment_of, load_settings

#: Seconds between two lines, on a terminal and elsewhere.
_TERMINAL, _ELSEWHERE = 0.5, 10.0


@click.command("reindex", short_help="Bring search rows up to date after an upgrade.")
@click.option("--database", help="Where the data is: sqlite:///PATH or postgresql://…")
@click.option(
    "--processes",
    type=click.IntRange(1),
    default=max(1, min(4, (os.cpu_count() or 1) - 1)),
    show_default="all processors but one, at most 4",
    help="Processes that derive rows.",
)
@click.option("--helper", is_flag=True, hidden=True, help="Takes part and says nothing.")
def command(database: str | None, processes: int, helper: bool) -> None:  # fmt: skip
    """Bring search rows up to date after an upgrade.

    A version that indexes more than the one before refuses searches (503 reindex-needed) until
    every resource has its rows. Reads by id and writes go on meanwhile. The command may run beside
    a serving gateway, several times at once, and again after it was stopped or killed: it goes on
    where it was. `fhir-gateway serve` does the same by itself in its worker, more slowly.

    Exit code: 0 when the index is up to date; 1 when it is not; 2 when it could not start.
    """
    log_to_stderr()
    try:
        settings = load_settings(database=database)
        helpers = processes if processes > 1 and not helper else 0
        finished = uvloop.run(_run(settings, helpers, quiet=helper))
    except GatewayError as error:
        print(f"fhir-gateway: cannot reindex: {error}", file=sys.stderr, flush=True)
        sys.exit(2)
    sys.exit(0 if finished else 1)


async def _run(settings: Settings, helpers: int, *, quiet: bool) -> bool:
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    gateway = await open_gateway(settings, begin=False)
    settle()
    began = time.monotonic()
    children: list[subprocess.Popen[bytes]] = []
    telling = None
    try:
        if not await is_needed(gateway):
            if not quiet:
                click.echo("The index is up to date")
            return True
        if not quiet:
            telling = asyncio.create_task(_tell(gateway, began))
            await plan(gateway, again=True)
        children = [_start(settings) for _ in range(helpers)]
        finished = await run(gateway, stop, takes_part=lambda: _all_ended(children))
        if not quiet:
            await _conclude(gateway, began, finished)
        return finished
    finally:
        if telling is not None:
            telling.cancel()
        await _end(children)
        await gateway.store.close()


def _start(settings: Settings) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "fhir_gateway", "reindex", "--helper"],
        env={**os.environ, **environment_of(settings)}, stdout=subprocess.DEVNULL,
    )  # fmt: skip


def _all_ended(children: list[subprocess.Popen[bytes]]) -> bool:
    """True when nobody else of ours does anything: a process that only writes is a quick one."""
    return all(child.poll() is not None for child in children)


async def _end(children: list[subprocess.Popen[bytes]]) -> None:
    """Has helpers give back what they have; they may write through the store of this process."""
    for child in children:
        child.terminate()
    for child in children:
        await asyncio.to_thread(child.wait)


async def _tell(gateway: Gateway, began: float) -> None:
    """Says how far all are together, until cancelled."""
    terminal = sys.stderr.isatty()
    first = await progress(gateway)
    while True:
        await asyncio.sleep(_TERMINAL if terminal else _ELSEWHERE)
        now = await progress(gateway)
        print(_line(now, now.done - first.done, time.monotonic() - began),
              end="\r" if terminal else "\n", file=sys.stderr, flush=True)  # fmt: skip


def _line(now: Progress, since: int, seconds: float) -> str:
    rate = since / seconds
    minutes, rest = divmod(int((now.total - now.done) / rate) if rate else 0, 60)
    left = f", {minutes // 60}:{minutes % 60:02}:{rest:02} left" if rate else ""
    part = now.done / max(now.total, 1)
    return f"{part:4.0%}  {now.done} of about {now.total} resources, {rate:.0f}/s{left}".ljust(78)


async def _conclude(gateway: Gateway, began: float, finished: bool) -> None:
    now = await progress(gateway)
    if finished:
        click.echo(f"{now.done} resources indexed in {time.monotonic() - began:.0f} s")
    for failure in now.failures:
        click.echo(f"fhir-gateway: not indexed: {failure}", err=True)
