"""`fhir-gateway pools move`: the bookings of a Schedule to free slots of another one."""

from __future__ import annotations

import sys
from collections import Counter
from datetime import date, timedelta
from zoneinfo import ZoneInfo

import click

from fhir_gateway.cli.catalogue_frame import with_gateway
from fhir_gateway.context import Gateway
from fhir_gateway.errors import Invalid
from fhir_gateway.scheduling.calendar import instant_at
from fhir_gateway.scheduling.withdrawal import bookings_on, move


@click.command("move")
@click.argument("hospital")
@click.argument("schedule")
@click.option("--to-schedule", required=True, metavar="ID", help="Schedule with free slots.")
@click.option("--from", "first", required=True, metavar="DAY", help="First day, as 2026-12-07.")
@click.option("--to", "last", metavar="DAY", help="Last day; the first when left out.")
@click.option("--dry-run", is_flag=True, help="Only say what would be moved.")
@with_gateway
async def move_command(gateway: Gateway, *, hospital: str, schedule: str, to_schedule: str,
                       first: str, last: str | None, dry_run: bool) -> None:  # fmt: skip
    """Move the bookings of a SCHEDULE of a HOSPITAL to free slots of another Schedule.

    Each to the earliest free slot for the same items on its day or later, through its own channel
    where that sells; the new seat is taken before the old one is given back. Who cannot be moved
    keeps the seat and is listed with the rule. Afterwards run `pools generate` (or `withdraw`), so
    that the slots that are empty now are withdrawn too.

    Exit code: 0 all were moved, 3 some were left.
    """
    zone = ZoneInfo(gateway.settings.zone)
    since, until = _day(first), _day(last or first) + timedelta(days=1)
    taken = await bookings_on(
        gateway, hospital, schedule, instant_at(since, 0, zone), instant_at(until, 0, zone)
    )
    counts: Counter[str] = Counter()
    async for one in move(gateway, taken, to_schedule, dry_run=dry_run):
        counts[one.outcome] += 1
        where = f"Slot/{one.slot}" if one.slot else f"[{one.rule}]"
        click.echo(f"Appointment/{one.appointment} {one.outcome} {where}")
    told = ", ".join(f"{count} {name}" for name, count in counts.items()) or "none"
    click.echo(f"{len(taken)} bookings of Schedule/{schedule}: {told}")
    if counts["left"]:
        sys.exit(3)


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise Invalid(f"{text} is no day, as 2026-12-07", rule="horizon") from None
