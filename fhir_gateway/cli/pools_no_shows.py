"""`fhir-gateway pools no-shows`: what was missed at an institution, and what became of appeals."""

from __future__ import annotations

from datetime import date, timedelta
from zoneinfo import ZoneInfo

import click

from fhir_gateway.cli.catalogue_frame import table, with_gateway
from fhir_gateway.context import Gateway
from fhir_gateway.errors import Invalid, NotFound
from fhir_gateway.interactions.institutions import institution
from fhir_gateway.scheduling.calendar import day_at, instant_at, moment_at
from fhir_gateway.scheduling.no_shows import ledger_of
from fhir_gateway.store.claim_rows import EXCUSED


@click.command("no-shows")
@click.argument("hospital")
@click.option("--from", "first", metavar="DAY", help="First day; a year ago when left out.")
@click.option("--to", "last", metavar="DAY", help="Last day; today when left out.")
@with_gateway
async def no_shows(gateway: Gateway, *, hospital: str, first: str | None, last: str | None
                   ) -> None:  # fmt: skip
    """List missed appointments of a HOSPITAL: when, where, through which channel, and appeals.

    No persons are named; Appointment ids lead to them for who may read those. An appeal is decided
    by the hospital with Task/[id]/$decide-appeal.
    """
    if await institution(gateway, hospital) is None:
        raise NotFound(f"No institution {hospital} is registered", rule="institution")
    zone = ZoneInfo(gateway.settings.zone)
    today = day_at(gateway.clock.now(), zone)
    since = _day(first, "--from") or today - timedelta(days=365)
    until = (_day(last, "--to") or today) + timedelta(days=1)
    found = await ledger_of(
        gateway, hospital, instant_at(since, 0, zone), instant_at(until, 0, zone)
    )
    rows: list[tuple[str, ...]] = [
        ("begin", "department", "channel", "appointment", "state", "appeal")
    ]
    for one, said in found:
        rows.append((
            f"{moment_at(one.start, zone):%Y-%m-%d %H:%M}", one.department, one.channel,
            f"Appointment/{one.id}", "missed" if one.state != EXCUSED else "excused", said or "-",
        ))  # fmt: skip
    if found:
        table(rows)
    excused = sum(one.state == EXCUSED for one, _ in found)
    click.echo(f"{len(found)} missed, {excused} of them excused")


def _day(text: str | None, option: str) -> date | None:
    try:
        return date.fromisoformat(text) if text else None
    except ValueError:
        raise Invalid(f"{option} must be a day, as 2026-12-07", rule="horizon") from None
