"""`fhir-gateway pools`: check the files of supply, and plan slots without writing anything.

Files are edited by pools_close.py, what is stored is done by pools_store.py.
"""

from __future__ import annotations

import json
import sys
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import click

from fhir_gateway.cli.catalogue_frame import table
from fhir_gateway.cli.pools_close import close
from fhir_gateway.cli.pools_move import move_command
from fhir_gateway.cli.pools_no_shows import no_shows
from fhir_gateway.cli.pools_notify import notify
from fhir_gateway.cli.pools_reconcile import reconcile_command
from fhir_gateway.cli.pools_store import diff, generate, withdraw
from fhir_gateway.cli.pools_told import buckets_told, plan_json, sessions_told, tell_findings
from fhir_gateway.cli.pools_upkeep import (
    audit_command,
    cut_off_command,
    offer_command,
    tidy_command,
)
from fhir_gateway.errors import GatewayError
from fhir_gateway.scheduling.calendar import day_at
from fhir_gateway.scheduling.generate import plan_supply
from fhir_gateway.scheduling.quota_plan import period_by, plan_buckets, seats_of, whole_periods
from fhir_gateway.scheduling.site_files import check_site, load_named, load_site
from fhir_gateway.settings import Settings, load_settings
from fhir_gateway.terminology.catalogue import load_catalogue

_LONGEST = 400


@click.group("pools")
def command() -> None:
    """Shared pools of slots: calendar, templates, quotas, limits; docs/scheduling.md."""


_PROFILES = click.option("--profiles", help="Folder of the profiles; the setting when left out.")
_TERMINOLOGY = click.option("--terminology", help="Folder of the catalogue.")


@command.command("check")
@_PROFILES
@_TERMINOLOGY
def check(profiles: str | None, terminology: str | None) -> None:
    """Check calendar, templates, quotas, limits and channels; tell every fault with its line.

    Nothing is changed. Exit code: 0 all can be used (notes may be told), 1 there are faults.
    """
    settings = _settings(profiles, terminology)
    try:
        catalogue = load_catalogue(settings.terminology)
        found = check_site(Path(settings.profiles), catalogue, _today(settings))
    except GatewayError as error:
        raise _refusal(error) from None
    for line in found.read:
        click.echo(line)
    tell_findings(found.findings)
    for fault in found.faults:
        click.echo(f"{fault} [{fault.rule}]".removeprefix(": "), err=True)
    click.echo(f"{len(found.faults)} faults, {len(found.findings)} notes")
    sys.exit(1 if found.faults else 0)


@command.command("plan")
@click.argument("template")
@click.option("--from", "first", metavar="DAY", help="First day, as 2026-12-07; tomorrow if none.")
@click.option("--to", "last", metavar="DAY", help="Last day; four weeks later when left out.")
@click.option("--json", "as_json", is_flag=True, help="All of it as one JSON value.")
@_PROFILES
@_TERMINOLOGY
def plan(template: str, first: str | None, last: str | None, as_json: bool,
         profiles: str | None, terminology: str | None) -> None:  # fmt: skip
    """Show what a TEMPLATE file makes: sessions, slots, buckets, and who may book when.

    TEMPLATE is a file, or the name of one in scheduling/templates. Days are widened to whole
    release periods, because quotas are parts of those. Nothing is stored.
    """
    settings = _settings(profiles, terminology)
    zone = ZoneInfo(settings.zone)
    since = _day(first, "--from") or _today(settings) + timedelta(days=1)
    until = _day(last, "--to") or since + timedelta(days=27)
    if not 0 <= (until - since).days < _LONGEST:
        raise click.ClickException(f"--to must be up to {_LONGEST} days after --from")
    try:
        site = load_site(Path(settings.profiles))
        catalogue = load_catalogue(settings.terminology)
        supply = load_named(Path(settings.profiles), template, catalogue, site)
    except GatewayError as error:
        raise _refusal(error) from None
    since, until = whole_periods(site.tables, supply, since, until)
    planned = plan_supply(
        supply, site.calendar, lambda one, day: period_by(site.tables, supply.site, one, day),
        since, until, zone,
    )  # fmt: skip
    buckets = plan_buckets(site.tables, supply, seats_of(planned.slots), zone)
    if as_json:
        told: dict[str, Any] = plan_json(planned, buckets, zone)
        click.echo(json.dumps(told, ensure_ascii=False, indent=2))
        return
    table(sessions_told(planned, zone))
    click.echo("")
    table(buckets_told(buckets, zone))
    click.echo("")
    click.echo(
        f"{supply.file} version {supply.version}, calendar {planned.calendar}, {since} to {until}: "
        f"{len(planned.slots)} slots with {sum(one.capacity for one in planned.slots)} seats in "
        f"{len(buckets)} buckets, {len(planned.closed)} slots closed"
    )
    tell_findings([*planned.findings, *(one for bucket in buckets for one in bucket.findings)])


def _settings(profiles: str | None, terminology: str | None) -> Settings:
    try:
        return load_settings(profiles=profiles, terminology=terminology)
    except GatewayError as error:
        raise _refusal(error) from None


def _refusal(error: GatewayError) -> click.ClickException:
    return click.ClickException("\n  ".join(issue.diagnostics for issue in error.issues))


def _today(settings: Settings) -> date:
    now = int(datetime.now(UTC).timestamp() * 1_000_000)
    return day_at(now, ZoneInfo(settings.zone))


def _day(text: str | None, option: str) -> date | None:
    try:
        return date.fromisoformat(text) if text else None
    except ValueError:
        raise click.ClickException(f"{option} must be a day, as 2026-12-07") from None


for one in (
    audit_command, close, cut_off_command, diff, generate, move_command, no_shows, notify,
    offer_command, reconcile_command, tidy_command, withdraw,
):  # fmt: skip
    command.add_command(one)
