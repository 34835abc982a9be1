"""`fhir-gateway pools reconcile`: a hospital's list of slots and bookings against what is here."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from zoneinfo import ZoneInfo

import click

from fhir_gateway.cli.catalogue_frame import table, with_gateway
from fhir_gateway.context import Gateway
from fhir_gateway.errors import Invalid
from fhir_gateway.scheduling.calendar import moment_at
from fhir_gateway.scheduling.reconcile_pool import reconcile
from fhir_gateway.security.actor import GATEWAY

_LARGEST = 100_000_000


@click.command("reconcile")
@click.argument("hospital")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--dry-run", is_flag=True, help="Only compare; store no Tasks.")
@click.option("--most", default=50, show_default=True, help="Differences to list.")
@with_gateway
async def reconcile_command(gateway: Gateway, *, hospital: str, file: Path, dry_run: bool,
                            most: int) -> None:  # fmt: skip
    """Compare the FILE of a HOSPITAL with what is stored, on the days and Schedules it names.

    FILE is CSV or NDJSON with schedule, start, end, status, booking, person. Every difference
    becomes a Task for the hospital, which closes when a later list has it no more. No person is
    named. Exit code: 0 nothing differs, 3 there are differences.
    """
    report = await reconcile(gateway, GATEWAY, hospital, _content(file), dry_run=dry_run)
    zone = ZoneInfo(gateway.settings.zone)
    rows: list[tuple[str, ...]] = [("begin", "kind", "about", "row")]
    rows += [
        (f"{moment_at(one.start, zone):%Y-%m-%d %H:%M}", one.kind, one.about, str(one.line or "-"))
        for one in report.differences[:most]
    ]
    if report.differences:
        table(rows)
    if len(report.differences) > most:
        click.echo(f"… and {len(report.differences) - most} more")
    counts = Counter(one.kind for one in report.differences)
    click.echo(
        f"{hospital}, {report.first} to {report.last}: {report.rows} rows against {report.slots} "
        f"slots and {report.bookings} bookings here; {len(report.differences)} differences"
    )
    for kind, count in counts.most_common():
        click.echo(f"  {count} {kind}")
    if not dry_run:
        told = report.tasks
        click.echo(f"tasks: {told.get('opened', 0)} opened, {told.get('open-still', 0)} open "
                   f"still, {told.get('closed', 0)} closed")  # fmt: skip
    if report.differences:
        sys.exit(3)


def _content(file: Path) -> bytes:
    """The bytes of the list. Raises Invalid."""
    try:
        if file.stat().st_size > _LARGEST:
            raise Invalid(f"{file.name} is larger than {_LARGEST // 1_000_000} MB; send it by day",
                          rule="list-size")  # fmt: skip
        return file.read_bytes()
    except OSError as error:
        raise Invalid(f"{file} cannot be read: {error.strerror}", rule="file") from None
