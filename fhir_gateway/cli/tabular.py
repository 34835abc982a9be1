"""`fhir-gateway tabular check|load|pull|status`: tables of hospitals, by a column map each.

A map is a file of mappings/tabular, or any other that is named; docs/tabular.md.
"""

from __future__ import annotations

import asyncio
import sys
from datetime import UTC, datetime
from pathlib import Path

import click

from fhir_gateway.app import open_gateway
from fhir_gateway.cli.institution_common import common, gateway_of, print_table
from fhir_gateway.cli.load_progress import Progress
from fhir_gateway.cli.tabular_common import Told, map_path, map_paths, options
from fhir_gateway.cli.tabular_files import Table, tables_of
from fhir_gateway.cli.tabular_pull import connect_to, pull
from fhir_gateway.cli.tabular_report import lines, write_report
from fhir_gateway.errors import GatewayError
from fhir_gateway.interactions.intake_tabular_load import Loaded, Order, load_table
from fhir_gateway.interactions.intake_tabular_marks import loads
from fhir_gateway.mapping.tabular_map import TableMap, read_map
from fhir_gateway.settings import Settings

__all__ = ["command", "map_path"]

#: Loads of a map that `status` shows.
MOST_LOADS = 10


@click.group("tabular")
def command() -> None:
    """Tables of hospitals: check a column map, load a file, read a view, see how far it is."""


command.add_command(pull)


@command.command("check")
@click.argument("maps", nargs=-1, metavar="[MAP]...")
@click.option("--connect", is_flag=True, help="Look at the views that maps name, too.")
@options
def check(settings: Settings, maps: tuple[str, ...], connect: bool) -> None:
    """Check column maps, all of mappings/tabular unless some are named; tell every fault.

    Exit code: 0 all can be used; 1 there are faults.
    """
    wrong, tables = 0, list[TableMap]()
    for file in map_paths(settings, maps):
        try:
            table = read_map(file, mappings=settings.mappings)
        except GatewayError as error:
            wrong += 1
            for issue in error.issues:
                click.echo(issue.diagnostics, err=True)
        else:
            tables.append(table)
            click.echo(f"{file.name}: {table.kind} of {table.institution}, {table.format}, "
                       f"{len(table.columns)} columns, key {', '.join(table.key)}")  # fmt: skip
    if connect:
        wrong += connect_to(tables, click.echo)
    sys.exit(1 if wrong else 0)


@command.command("load")
@click.argument("map_name", metavar="MAP")
@click.argument("files", nargs=-1, required=True, metavar="FILE...",
                type=click.Path(path_type=Path, exists=True, dir_okay=False))  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Read, map, validate and compare; store nothing.")
@click.option("--again", is_flag=True,
              help="Read anew what was taken in before, and behind the watermark.")  # fmt: skip
@click.option("--member", "members", multiple=True, metavar="NAME",
              help="A table of a ZIP archive that has several; may be given again.")  # fmt: skip
@click.option("--report", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
              help="Write figures, refusals, unknown codes: JSON, or CSV by its name.")  # fmt: skip
@click.option("--quiet", is_flag=True, help="No progress and no summary.")
@options
def load(
    settings: Settings,
    map_name: str,
    files: tuple[Path, ...],
    dry_run: bool,
    again: bool,
    members: tuple[str, ...],
    report: Path | None,
    quiet: bool,
) -> None:
    """Load files of rows by a column map: a name of mappings/tabular, or a file.

    Files may be packed by gzip or ZIP.

    Rows with one key are a report (an order, a study, a patient); one that is wrong is refused
    alone, with line, column and rule. A file that was loaded before stores nothing; a load that
    was broken off goes on where it was.

    Exit code: 0 everything is stored; 1 something was refused, and is listed; 2 the load could
    not start or go on.
    """
    table = read_map(map_path(settings, map_name), mappings=settings.mappings)
    orders = [
        (one, Order(one.name, table, dry_run, again))
        for file in files
        for one in tables_of(file, members)
    ]
    found = asyncio.run(_load(settings, orders, quiet=quiet))
    if report is not None:
        write_report(report, found)
    if not quiet:
        for name, loaded in found:
            click.echo("\n".join(lines(name, loaded)))
    sys.exit(1 if any(loaded.figures.refusals for _, loaded in found) else 0)


async def _load(
    settings: Settings, orders: list[tuple[Table, Order]], *, quiet: bool
) -> list[tuple[str, Loaded]]:
    """Loads the files one after the other, in the order in which they are named."""
    gateway = await open_gateway(settings)
    found = []
    try:
        for table, order in orders:
            progress = Progress(1, hidden=quiet)
            told = Told(progress)
            try:
                found.append((table.name, await load_table(gateway, table.open, order, told.piece)))
            finally:
                progress.close()
    finally:
        await gateway.store.close()
    return found


@command.command("status")
@click.argument("maps", nargs=-1, metavar="[MAP]...")
@common
async def status(settings: Settings, maps: tuple[str, ...]) -> None:
    """The last loads of each map, the newest first, and where the next one begins."""
    tables = [read_map(file, mappings=settings.mappings) for file in map_paths(settings, maps)]
    rows: list[tuple[object, ...]] = []
    async with gateway_of(settings) as gateway:
        for table in tables:
            found = await loads(gateway, table.institution, table.name, MOST_LOADS)
            for one in found:
                at = datetime.fromtimestamp(one.at // 1_000_000, UTC).isoformat()
                rows.append((table.name, one.number, at, one.file, one.rows, one.groups,
                             one.stored, one.unchanged, one.refused,
                             one.watermark.lstrip("0") or "-"))  # fmt: skip
            if not found:
                rows.append((table.name, "-", "never loaded", *["-"] * 7))
    header = ("map", "load", "at (UTC)", "file", "rows", "groups", "stored", "unchanged", "refused",
              "next from")  # fmt: skip
    print_table(header, rows)
