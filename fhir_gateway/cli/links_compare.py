"""`fhir-gateway links compare`: compare records now, or all of them anew."""

from __future__ import annotations

import asyncio

import click

from fhir_gateway.cli.catalogue_frame import with_gateway
from fhir_gateway.context import Gateway
from fhir_gateway.errors import Conflict, Invalid
from fhir_gateway.identity import review_job
from fhir_gateway.interactions.jobs import POLL_SECONDS, work_once
from fhir_gateway.interactions.reindex import is_needed
from fhir_gateway.store import jobs
from fhir_gateway.store.jobs import OPEN_STATES


@click.command("compare")
@click.option("--all", "everything", is_flag=True, help="All records, as after other weights.")
@with_gateway
async def compare(gateway: Gateway, *, everything: bool) -> None:
    """Compares records that are new or have changed, and asks reviewers about likely pairs.

    A gateway that serves does so by itself within a minute or so. The command may run beside it,
    and again after it was stopped: it goes on where it was.
    """
    if await is_needed(gateway):
        raise Invalid(
            "The index is of an older version; run `fhir-gateway reindex` first",
            rule="reindex-needed",
        )
    job = await review_job.plan(gateway, again=everything)
    if job is None:
        found = await jobs.find_all(gateway.store, kind=review_job.KIND, states=OPEN_STATES)
        job = found[0] if found else None
    if job is None:
        click.echo("nothing is new since records were compared last")
        return
    while job is not None and job.state in OPEN_STATES:
        if not await work_once(gateway, {review_job.KIND: review_job.work}):
            await asyncio.sleep(POLL_SECONDS)  # a worker has it
        job = await jobs.find(gateway.store, job.id)
    if job is None or job.state != "done":
        state = job.state if job is not None else "gone"
        raise Conflict(f"not compared: the job is {state}; see `fhir-gateway jobs`", rule="job")
    click.echo(job.progress)
