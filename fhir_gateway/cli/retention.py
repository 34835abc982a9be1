"""`fhir-gateway retention`: how long what is kept, and the removal of what was kept long enough."""

from __future__ import annotations

from pathlib import Path

import click

from fhir_gateway.accountability import retention as room
from fhir_gateway.accountability.retention_file import (
    PURGED,
    Kept,
    Retention,
    load_retention,
    shipped,
)
from fhir_gateway.cli.catalogue_frame import table, with_gateway
from fhir_gateway.context import Gateway
from fhir_gateway.fhir.wire import instant

_FILE = click.option(
    "--table", "path", type=click.Path(path_type=Path),
    help="The table of retention; the shipped one when left out.",
)  # fmt: skip


@click.group("retention")
def command() -> None:
    """Retention: show the table, plan what is due, remove it."""


@command.command("show")
@_FILE
@with_gateway
async def show(gateway: Gateway, *, path: Path | None) -> None:
    """Shows how long each class is kept, on what ground, and whether gaps are accounted for."""
    found = _table(path)
    rows: list[tuple[str, ...]] = [("class", "days", "action", "what", "ground")]
    rows += [
        (kept.name, _days(gateway, kept), kept.action, kept.name_zh, kept.basis_zh)
        for kept in found.classes.values()
    ]
    table(rows)
    gaps = await room.unaccounted(gateway)
    click.echo(f"removed without a record in the log: {gaps}")


@command.command("plan")
@_FILE
@with_gateway
async def plan(gateway: Gateway, *, path: Path | None) -> None:
    """Counts what is due, and removes nothing. `apply` takes the number of the plan."""
    found = await room.plan_of(gateway, _table(path))
    rows: list[tuple[str, ...]] = [("class", "older than", "records")]
    rows += [(due.kept.name, instant(due.until), str(due.records)) for due in found.due]
    table(rows)
    click.echo(f"plan {found.number}")


@command.command("apply")
@_FILE
@click.option("--plan", "number", required=True, help="The number that `plan` printed today.")
@click.option("--by", required=True, help="Who answers for it: the name of a person.")
@with_gateway
async def apply(gateway: Gateway, *, path: Path | None, number: str, by: str) -> None:
    """Removes what the plan says; done again it goes on where it was cut short.

    Of audit events the leaf stays, so that every proof holds.
    """
    removed = dict.fromkeys(PURGED, 0)
    async for piece in room.apply(gateway, _table(path), plan=number, by=by):
        removed[piece.name] += piece.records
        click.echo(f"\r{sum(removed.values())} removed", nl=False, err=True)
    click.echo("", err=True)
    for name, records in removed.items():
        click.echo(f"{name}: {records} removed")


def _table(path: Path | None) -> Retention:
    return load_retention(path or shipped())


def _days(gateway: Gateway, kept: Kept) -> str:
    if kept.days is not None:
        return str(kept.days)
    return f"{kept.setting} = {getattr(gateway.settings, kept.setting, '?')}"
