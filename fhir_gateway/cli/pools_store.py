"""`fhir-gateway pools diff|generate|withdraw`: hold a plan against what is stored, and store it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import click

from fhir_gateway.cli.catalogue_frame import with_gateway
from fhir_gateway.cli.pools_told import compared_told, tell_findings
from fhir_gateway.context import Gateway
from fhir_gateway.errors import Invalid
from fhir_gateway.scheduling import supply
from fhir_gateway.scheduling.calendar import day_at
from fhir_gateway.scheduling.generate import Plan
from fhir_gateway.scheduling.site_files import SiteFiles, load_named, load_site
from fhir_gateway.scheduling.withdrawal import tell_affected
from fhir_gateway.terminology.catalogue import load_catalogue

_LONGEST = 400


def _horizon(function: Callable[..., Any]) -> Callable[..., Any]:
    """TEMPLATE, --from and --to, and the gateway."""
    function = with_gateway(function)
    function = click.option(
        "--to", "last", metavar="DAY", help="Last day; four weeks later when left out."
    )(function)
    function = click.option(
        "--from", "first", metavar="DAY", help="First day, as 2026-12-07; today when left out."
    )(function)
    return click.argument("template")(function)


@click.command("diff")
@_horizon
async def diff(gateway: Gateway, *, template: str, first: str | None, last: str | None) -> None:
    """Show what generating would create, change and withdraw, and whose bookings are affected.

    Nothing is stored.
    """
    site, plan = _planned(gateway, template, first, last)
    compared = await supply.compare(gateway, site, plan)
    compared_told(compared)
    tell_findings(compared.findings)


@click.command("generate")
@_horizon
async def generate(gateway: Gateway, *, template: str, first: str | None, last: str | None
                   ) -> None:  # fmt: skip
    """Store the slots and quotas of a TEMPLATE file, by whole release periods.

    Doing it again stores nothing anew; cut short, it goes on. Slots with live bookings are never
    moved or withdrawn: they take nobody more, and are listed for re-booking.
    """
    site, plan = _planned(gateway, template, first, last)
    await _store(gateway, site, plan)


@click.command("withdraw")
@_horizon
@click.confirmation_option(prompt="Withdraw all planned slots of these days?")
async def withdraw(gateway: Gateway, *, template: str, first: str | None, last: str | None
                   ) -> None:  # fmt: skip
    """Withdraw every slot of these days that was planned for the institution of a TEMPLATE file.

    Slots with live bookings stay for those alone and are listed for re-booking. The next `generate`
    opens what was withdrawn again: to close days for good, write [[closures]] into the file
    (`pools close`) and generate.
    """
    site, plan = _planned(gateway, template, first, last)
    days = _days(gateway, first, last)
    await _store(gateway, site, supply.withdrawn(plan, days))


async def _store(gateway: Gateway, site: SiteFiles, plan: Plan) -> None:
    compared = await supply.compare(gateway, site, plan)
    slots = 0
    async for piece in supply.store_plan(gateway, site, plan, gateway.clock.now()):
        slots += piece.slots
        click.echo(f"\r{piece.done} of {piece.pieces} pieces, {slots} slots", nl=False, err=True)
    click.echo("", err=True)
    compared_told(compared)
    tell_findings(compared.findings)
    # who has booked meanwhile is affected, too: what stands now says who
    await _tell_affected(gateway, await supply.compare(gateway, site, plan))


async def _tell_affected(gateway: Gateway, compared: supply.Compared) -> None:
    """Tells whoever booked a slot that is not offered so any more, with proposals."""
    told: Counter[str] = Counter()
    async for one in tell_affected(gateway, supply.affected_of(compared)):
        told[one.outcome] += 1
    if told:
        counts = ", ".join(f"{count} {name}" for name, count in told.items())
        click.echo(f"tasks for re-booking: {counts}; `pools move` moves them at once")


def _planned(gateway: Gateway, template: str, first: str | None, last: str | None
             ) -> tuple[SiteFiles, Plan]:  # fmt: skip
    settings, zone = gateway.settings, ZoneInfo(gateway.settings.zone)
    since, until = _days(gateway, first, last)
    profiles = Path(settings.profiles)
    site = load_site(profiles)
    found = load_named(profiles, template, load_catalogue(settings.terminology), site)
    return site, supply.planned(site, found, since, until, zone)


def _days(gateway: Gateway, first: str | None, last: str | None) -> tuple[date, date]:
    """The days that are meant. Raises Invalid for what are none."""
    zone = ZoneInfo(gateway.settings.zone)
    since = _day(first, "--from") or day_at(gateway.clock.now(), zone)
    until = _day(last, "--to") or since + timedelta(days=27)
    if not 0 <= (until - since).days < _LONGEST:
        raise Invalid(f"--to must be up to {_LONGEST} days after --from", rule="horizon")
    return since, until


def _day(text: str | None, option: str) -> date | None:
    try:
        return date.fromisoformat(text) if text else None
    except ValueError:
        raise Invalid(f"{option} must be a day, as 2026-12-07", rule="horizon") from None
