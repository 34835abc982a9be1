"""`fhir-gateway replay`: decide recorded decisions again, and say what differs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import click
from msgspec.structs import replace

from fhir_gateway.app import open_gateway
from fhir_gateway.context import Gateway
from fhir_gateway.errors import GatewayError
from fhir_gateway.recognition.recorded import Recorded, recorded_of
from fhir_gateway.recognition.replay import replay_decision, replay_recorded
from fhir_gateway.search.plan import SearchPlan
from fhir_gateway.security.actor import GATEWAY, SYSTEM_ACCESS
from fhir_gateway.settings import load_settings

#: An operator may look at every decision; the budget protects callers of the doors.
_NO_BUDGET = 2**53


@click.command("replay")
@click.argument("ids", metavar="[ID]...", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Every decision in the store.")
@click.option("--database", help="Where the data is: sqlite:///PATH or postgresql://…")
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON at the end.")
def command(ids: tuple[str, ...], everything: bool, database: str | None, as_json: bool) -> None:
    """Decides again from recorded inputs, at the recorded commit, by the recorded rules.

    ID is the logical id of a GuidanceResponse. Prints every difference; exit code 1 when there is
    one. The outcome must agree to the byte.
    """
    if bool(ids) == everything:
        raise click.UsageError("Name decisions, or say --all")
    try:
        counted = asyncio.run(_run(ids, database, quiet=as_json))
    except GatewayError as error:
        raise click.ClickException("; ".join(one.diagnostics for one in error.issues)) from None
    if as_json:
        click.echo(json.dumps(counted))
    else:
        click.echo(f"{counted['decisions']} decisions, {counted['differ']} differ")
    if counted["differ"]:
        raise SystemExit(1)


async def _run(ids: tuple[str, ...], database: str | None, *, quiet: bool) -> dict[str, int]:
    settings = load_settings(database=database, search_budget=_NO_BUDGET)
    gateway = await open_gateway(settings, begin=False)
    counted = {"decisions": 0, "differ": 0}
    try:
        for id in ids:
            replayed = await replay_decision(gateway, GATEWAY, id)
            _count(counted, id, replayed.differences, quiet=quiet)
        if not ids:
            async for recorded in _decisions(gateway):
                replayed = await replay_recorded(gateway, recorded)
                _count(counted, replayed.id, replayed.differences, quiet=quiet)
    finally:
        await gateway.store.close()
    return counted


def _count(counted: dict[str, int], id: str, differences: tuple[str, ...], *, quiet: bool) -> None:
    counted["decisions"] += 1
    counted["differ"] += bool(differences)
    for text in () if quiet else differences:
        click.echo(f"{id}: {text}")


async def _decisions(gateway: Gateway) -> AsyncIterator[Recorded]:
    """Every decision in the store, a page at a time, each page on a snapshot of its own."""
    plan: SearchPlan = SearchPlan(type="GuidanceResponse", count=200)
    while True:
        async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
            page = await reader.search(plan)
        for stored in page.matches:
            recorded = recorded_of(stored)
            if recorded is not None:
                yield recorded
        if page.next is None:
            return
        plan = replace(plan, after=page.next)
