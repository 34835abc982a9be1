"""`fhir-gateway jobs`: what long work there is, how far it is, and how to end it."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import wraps
from typing import Any

import click

from fhir_gateway.context import SystemClock
from fhir_gateway.errors import GatewayError
from fhir_gateway.interactions.export_files import remove
from fhir_gateway.settings import Settings, load_settings
from fhir_gateway.store import jobs
from fhir_gateway.store.jobs import Job
from fhir_gateway.store.opening import open_store
from fhir_gateway.store.store import Store

_STATES = ("waiting", "running", "done", "failed", "cancelled", "expired")


@click.group("jobs")
def command() -> None:
    """Long work (exports, answers that come later): list, show, cancel."""


def _common(function: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Gives a subcommand its settings, runs it, and says errors as sentences."""

    @click.option("--database", help="Where the data is: sqlite:///PATH or postgresql://…")
    @click.option("--exports", help="Folder for the files of asynchronous answers.")
    @wraps(function)
    def run(database: str | None, exports: str | None, **options: Any) -> None:
        async def whole() -> None:
            await function(load_settings(database=database, exports=exports), **options)

        try:
            asyncio.run(whole())
        except GatewayError as error:
            lines = "\n  ".join(issue.diagnostics for issue in error.issues)
            raise click.ClickException(lines) from error

    return run


@asynccontextmanager
async def _store(settings: Settings) -> AsyncIterator[Store]:
    """The store, without what a server needs beside it."""
    store = await open_store(
        settings.database, clock=SystemClock(), random=os.urandom, index=0, begin=False
    )
    try:
        yield store
    finally:
        await store.close()


@command.command("list")
@click.option("--state", type=click.Choice(_STATES), help="Only in this state.")
@click.option("--kind", default="", help="Only of this kind, e.g. export.")
@click.option("--institution", metavar="ID", help="Only this institution's.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@_common
async def list_jobs(
    settings: Settings, state: str | None, kind: str, institution: str | None, as_json: bool
) -> None:
    """List jobs, newest first."""
    async with _store(settings) as store:
        states = [state] if state else ()
        found = await jobs.find_all(store, states=states, kind=kind, owner=institution)
    for job in found:
        if as_json:
            click.echo(json.dumps(_told(job)))
        else:
            about = f"{job.owner or '-':16} {job.progress}"
            click.echo(f"{job.id} {job.kind:8} {job.state:9} {_time(job.created)} {about}".rstrip())


@command.command("show")
@click.argument("id")
@_common
async def show(settings: Settings, id: str) -> None:
    """Show one job as JSON. What was asked for is not shown: it may name persons."""
    async with _store(settings) as store:
        job = await jobs.find(store, id)
    if job is None:
        raise click.ClickException(f"there is no job {id}")
    click.echo(json.dumps(_told(job), indent=2))


@command.command("cancel")
@click.argument("id")
@_common
async def cancel(settings: Settings, id: str) -> None:
    """Cancel a job and remove its files. A worker that is at it stops at its next page."""
    async with _store(settings) as store:
        job = await jobs.cancel(store, id)
    if job is None:
        raise click.ClickException(f"there is no job {id} that could be cancelled")
    remove(settings, id)
    click.echo(f"{id} is cancelled")


def _told(job: Job) -> dict[str, Any]:
    return {
        "id": job.id,
        "kind": job.kind,
        "state": job.state,
        "institution": job.owner or None,
        "progress": job.progress,
        "attempts": job.attempts,
        "created": _time(job.created),
        "updated": _time(job.updated),
        "lease_until": _time(job.lease_until) if job.lease_until else None,
        "expires": _time(job.expires) if job.expires else None,
    }


def _time(us: int) -> str:
    return datetime.fromtimestamp(us // 1_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
