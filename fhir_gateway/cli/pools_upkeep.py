"""`fhir-gateway pools cut-off|tidy|offer|audit`: once by hand what the worker does by itself."""

from __future__ import annotations

import sys
from collections import Counter
from zoneinfo import ZoneInfo

import click

from fhir_gateway.cli.catalogue_frame import table, with_gateway
from fhir_gateway.context import Gateway
from fhir_gateway.scheduling.calendar import moment_at
from fhir_gateway.scheduling.cut_off import cut_off
from fhir_gateway.scheduling.tidy import tidy
from fhir_gateway.scheduling.waitlist_offers import offer
from fhir_gateway.security.actor import SYSTEM_ACCESS
from fhir_gateway.store.seat_audit import audit

_DRY = click.option("--dry-run", is_flag=True, help="Only say what would be done.")


@click.command("cut-off")
@_DRY
@with_gateway
async def cut_off_command(gateway: Gateway, *, dry_run: bool) -> None:
    """Let unused reserves fall whose cut-off has passed, and say what moved.

    The worker does it by itself. Run again it does nothing; cut short, it goes on.
    """
    zone = ZoneInfo(gateway.settings.zone)
    rows: list[tuple[str, ...]] = [
        ("bucket", "class", "channel", "cut-off", "seats", "fall to", "")
    ]
    async for one in cut_off(gateway, dry_run=dry_run):
        quota = one.quota
        rows.append((
            quota.bucket, quota.kind, quota.channel,
            f"{moment_at(quota.closes, zone):%Y-%m-%d %H:%M}", str(quota.left), quota.falls_to,
            one.outcome,
        ))  # fmt: skip
        _said(len(rows) - 1)
    if len(rows) > 1:
        table(rows)
    click.echo(f"{len(rows) - 1} quotas: {_counted(Counter(row[-1] for row in rows[1:]))}")


@click.command("tidy")
@_DRY
@with_gateway
async def tidy_command(gateway: Gateway, *, dry_run: bool) -> None:
    """Cancel holds that are over and bookings that no hospital confirmed; take offers back.

    The worker does it by itself. Whoever books in that moment wins (overtaken).
    """
    counts: Counter[str] = Counter()
    async for one in tidy(gateway, dry_run=dry_run):
        counts[one.outcome] += 1
        if one.outcome == "unconfirmed":
            click.echo(f"Appointment/{one.appointment} was not confirmed in time")
        _said(counts.total())
    click.echo(f"{counts.total()} appointments: {_counted(counts)}")


@click.command("offer")
@_DRY
@with_gateway
async def offer_command(gateway: Gateway, *, dry_run: bool) -> None:
    """Offer free seats to who waits, by urgency and then by age of the entry.

    The worker does it by itself.
    """
    counts: Counter[str] = Counter()
    async for one in offer(gateway, dry_run=dry_run):
        counts[one.outcome] += 1
        if one.slot:
            click.echo(f"Appointment/{one.appointment}: Slot/{one.slot}")
        elif one.rule:
            click.echo(f"Appointment/{one.appointment} cannot be booked now [{one.rule}]")
        _said(counts.total())
    click.echo(f"{counts.total()} entries: {_counted(counts)}")


@click.command("audit")
@with_gateway
async def audit_command(gateway: Gateway) -> None:
    """Check by SQL alone that seats, quotas and bookings agree; it reads whole tables.

    Tells each invariant that does not hold with a few of its rows (keys, no persons). Exit code:
    0 everything agrees, 1 something does not.
    """
    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        faults = await reader.steps(lambda _: audit())
    for fault in faults:
        click.echo(f"{fault.name}: {fault.rows} rows: {fault.what}", err=True)
        for row in fault.examples:
            click.echo(f"  {', '.join(map(str, row))}", err=True)
    click.echo(f"{len(faults)} invariants do not hold" if faults else "everything agrees")
    if faults:
        sys.exit(1)


def _counted(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items()) or "nothing due"


def _said(count: int) -> None:
    if count % 100 == 0:
        click.echo(f"\r{count}", nl=False, err=True)
