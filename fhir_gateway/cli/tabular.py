"""`fhir-gateway tabular check|load|status`: tables of hospitals, by a column map each.

A map is a file of mappings/tabular, or any other that is named; docs/tabular.md.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from functools import wraps
from pathlib import Path
from typing import Any, BinaryIO

import click

from fhir_gateway.app import open_gateway
from fhir_gateway.cli.institution_common import common, gateway_of, print_table
from fhir_gateway.cli.load_progress import Progress
from fhir_gateway.cli.tabular_report import lines, write_report
from fhir_gateway.errors import Conflict, GatewayError, Invalid
from fhir_gateway.interactions.intake_tabular_load import Loaded, Order, load_table
from fhir_gateway.interactions.intake_tabular_marks import Figures, loads
from fhir_gateway.interactions.intake_tabular_survey import Opener
from fhir_gateway.mapping.tabular_map import TableMap, read_map
from fhir_gateway.settings import Settings, load_settings

#: Loads of a map that `status` shows.
MOST_LOADS = 10


@click.group("tabular")
def command() -> None:
    """Tables of hospitals (CSV, NDJSON): check a column map, load a file, see how far it is."""


class _CannotStart(click.ClickException):
    exit_code = 2


def _options(function: Callable[..., None]) -> Callable[..., None]:
    """The options of the store and the folders, as Settings."""

    @click.option("--database", help="Where the data goes: sqlite:///PATH or postgresql://…")
    @click.option("--mappings", help="Folder of the mapping tables.")
    @click.option("--terminology", help="Folder of the catalogue.")
    @click.option("--profiles", help="Folder of rule sets and profiles.")
    @wraps(function)
    def run(**given: Any) -> None:
        names = ("database", "mappings", "terminology", "profiles")
        try:
            settings = load_settings(**{name: given.pop(name) for name in names})
            function(settings, **given)
        except GatewayError as error:
            raise _CannotStart("\n  ".join(one.diagnostics for one in error.issues)) from None

    return run


@command.command("check")
@click.argument("maps", nargs=-1, metavar="[MAP]...")
@_options
def check(settings: Settings, maps: tuple[str, ...]) -> None:
    """Check column maps, all of mappings/tabular unless some are named; tell every fault.

    Exit code: 0 all can be used; 1 there are faults.
    """
    paths = [_path(settings, name) for name in maps] or sorted(_folder(settings).glob("*.toml"))
    wrong = 0
    for path in paths:
        try:
            table = read_map(path, mappings=settings.mappings)
        except GatewayError as error:
            wrong += 1
            for issue in error.issues:
                click.echo(issue.diagnostics, err=True)
        else:
            click.echo(f"{path.name}: {table.kind} of {table.institution}, {table.format}, "
                       f"{len(table.columns)} columns, key {', '.join(table.key)}")  # fmt: skip
    sys.exit(1 if wrong else 0)


@command.command("load")
@click.argument("map_name", metavar="MAP")
@click.argument("files", nargs=-1, required=True, metavar="FILE...",
                type=click.Path(path_type=Path, exists=True, dir_okay=False))  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Read, map, validate and compare; store nothing.")
@click.option("--again", is_flag=True,
              help="Read anew what was taken in before, and behind the watermark.")  # fmt: skip
@click.option("--report", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
              help="Write figures, refusals, unknown codes: JSON, or CSV by its name.")  # fmt: skip
@click.option("--quiet", is_flag=True, help="No progress and no summary.")
@_options
def load(
    settings: Settings,
    map_name: str,
    files: tuple[Path, ...],
    dry_run: bool,
    again: bool,
    report: Path | None,
    quiet: bool,
) -> None:
    """Load files of rows by a column map: a name of mappings/tabular, or a file.

    Rows with one key are a report (an order, a study, a patient); one that is wrong is refused
    alone, with line, column and rule. A file that was loaded before stores nothing; a load that
    was broken off goes on where it was.

    Exit code: 0 everything is stored; 1 something was refused, and is listed; 2 the load could
    not start or go on.
    """
    table = read_map(_path(settings, map_name), mappings=settings.mappings)
    orders = [(path, Order(path.name, table, dry_run, again)) for path in files]
    found = asyncio.run(_load(settings, orders, quiet=quiet))
    if report is not None:
        write_report(report, found)
    if not quiet:
        for name, loaded in found:
            click.echo("\n".join(lines(name, loaded)))
    sys.exit(1 if any(loaded.figures.refusals for _, loaded in found) else 0)


async def _load(
    settings: Settings, orders: list[tuple[Path, Order]], *, quiet: bool
) -> list[tuple[str, Loaded]]:
    """Loads the files one after the other, in the order in which they are named."""
    gateway = await open_gateway(settings)
    found = []
    try:
        for path, order in orders:
            progress = Progress(1, hidden=quiet)
            told = _Told(progress)
            try:
                found.append(
                    (path.name, await load_table(gateway, opener(path), order, told.piece))
                )
            finally:
                progress.close()
    finally:
        await gateway.store.close()
    return found


class _Told:
    """Tells the progress of a load in groups instead of bytes."""

    def __init__(self, progress: Progress) -> None:
        self._progress, self._resources = progress, 0

    def piece(self, seen: int, total: int, figures: Figures) -> None:
        """So many groups are done."""
        resources = sum(figures.resources.values())
        self._progress.reach(seen, total, resources - self._resources)
        self._resources = resources


def opener(path: Path) -> Opener:
    """Opens a file, time and again. Raises Conflict when it has changed meanwhile."""
    first = _stamp(path.stat())

    def open_file() -> BinaryIO:
        file = path.open("rb")
        if _stamp(os.fstat(file.fileno())) != first:
            file.close()
            raise Conflict("The file was changed while it was read; load it again when it is "
                           "written", rule="table-changed")  # fmt: skip
        return file

    return open_file


def _stamp(found: os.stat_result) -> tuple[int, ...]:
    return found.st_ino, found.st_size, found.st_mtime_ns


@command.command("status")
@click.argument("maps", nargs=-1, metavar="[MAP]...")
@common
async def status(settings: Settings, maps: tuple[str, ...]) -> None:
    """The last loads of each map, the newest first, and where the next one begins."""
    paths = [_path(settings, name) for name in maps] or sorted(_folder(settings).glob("*.toml"))
    tables: list[TableMap] = [read_map(path, mappings=settings.mappings) for path in paths]
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


def _folder(settings: Settings) -> Path:
    return Path(settings.mappings) / "tabular"


def _path(settings: Settings, name: str) -> Path:
    """The file of a map. Raises Invalid where there is none."""
    for path in (Path(name), _folder(settings) / f"{name}.toml"):
        if path.is_file():
            return path
    raise Invalid(f"There is no map {name}: name one of {_folder(settings)}, or a file",
                  rule="table-map")  # fmt: skip
