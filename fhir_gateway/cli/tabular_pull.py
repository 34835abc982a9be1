"""`fhir-gateway tabular pull`: a view of a hospital's database, read now and then or for good.

docs/tabular.md, "A view of the database".
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from fhir_gateway.app import open_gateway
from fhir_gateway.cli.load_progress import Progress
from fhir_gateway.cli.tabular_common import Told, map_path, options
from fhir_gateway.cli.tabular_report import lines, write_report
from fhir_gateway.context import Gateway
from fhir_gateway.errors import GatewayError, Invalid, Unavailable
from fhir_gateway.mapping.tabular_map import TableMap, read_map
from fhir_gateway.mapping.tabular_view import View
from fhir_gateway.settings import Settings

if TYPE_CHECKING:  # a fifth of a second, for this command alone
    from fhir_gateway.interactions.intake_view import Part

#: Bytes that no address has.
_MOST = 10_000


class _How(NamedTuple):
    """How views are read."""

    dry_run: bool
    again: bool
    report: Path | None
    quiet: bool


@click.command("pull")
@click.argument("maps", nargs=-1, required=True, metavar="MAP...")
@click.option("--follow", type=click.FloatRange(min=0.1), metavar="SECONDS",
              help="Read again after so many seconds, until a signal.")  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Read, map, validate and compare; store nothing.")
@click.option("--again", is_flag=True,
              help="Read anew what was taken in before, and behind the watermark.")  # fmt: skip
@click.option("--report", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
              help="Write figures, refusals, unknown codes: JSON, or CSV by its name. With "
              "--follow: of the last round that found something.")  # fmt: skip
@click.option("--quiet", is_flag=True, help="No progress and no summary.")
@options
def pull(
    settings: Settings,
    maps: tuple[str, ...],
    follow: float | None,
    dry_run: bool,
    again: bool,
    report: Path | None,
    quiet: bool,
) -> None:
    """Load what is new in the views of hospitals' databases, by column maps that name them.

    The table [database] of a map says which view, and in which variable of the environment or
    which file its address stands, such as postgresql+psycopg://reader:PASSWORD@host/lis. Nothing
    is ever written there. A pull that was broken off goes on where it was.

    With --follow it goes on until SIGTERM or Ctrl-C; a database that cannot be reached is told and
    tried again.

    Exit code: 0 everything is stored, or a signal ended it; 1 something was refused, and is
    listed; 2 the pull could not start or go on.
    """
    if follow is not None and (dry_run or again):
        raise click.UsageError("--follow goes with neither --dry-run nor --again")
    tables = [read_map(map_path(settings, name), mappings=settings.mappings) for name in maps]
    sources = [(table, address_of(table)) for table in tables]
    how = _How(dry_run, again, report, quiet)
    if follow is not None:
        asyncio.run(_follow(settings, sources, how, follow))
        return
    found = asyncio.run(_once(settings, sources, how))
    sys.exit(1 if any(part.loaded.figures.refusals for part in found) else 0)


def address_of(table: TableMap) -> str:
    """The address of a map's database, from where the map says that it stands.

    Raises Invalid where it does not stand there; it is never told.
    """
    view = table.database
    if view is None:
        raise Invalid(f"The map {table.name} names no view: it has no [database]",
                      rule="table-map")  # fmt: skip
    text = os.environ.get(view.url_env, "") if view.url_env else _from_file(view)
    if not text.strip():
        place = f"variable {view.url_env}" if view.url_env else f"file {view.url_file}"
        raise Invalid(f"The {place}, in which the map {table.name} looks for the address of the "
                      "database, is not set or empty", rule="view-address")  # fmt: skip
    return text.strip()


def _from_file(view: View) -> str:
    try:
        return Path(view.url_file).read_text("utf-8")[:_MOST]
    except (OSError, UnicodeDecodeError):
        raise Invalid(f"The file {view.url_file}, which holds the address of the database, cannot "
                      "be read", rule="view-address") from None  # fmt: skip


async def _once(settings: Settings, sources: list[tuple[TableMap, str]], how: _How) -> list[Part]:
    gateway = await open_gateway(settings)
    try:
        found = []
        for table, address in sources:
            found += await _pull(gateway, table, address, how)
    finally:
        await gateway.store.close()
    if how.report is not None:
        write_report(how.report, [(one.name, one.loaded) for one in found])
    if not how.quiet:
        for one in found:
            click.echo("\n".join(lines(one.name, one.loaded)))
        if not found:
            click.echo("nothing there")
    return found


async def _pull(gateway: Gateway, table: TableMap, address: str, how: _How) -> list[Part]:
    from fhir_gateway.interactions.intake_view import Pull, pull_view  # noqa: PLC0415 - see above

    progress = Progress(1, hidden=how.quiet)
    asked = Pull(table, address, how.dry_run, how.again)
    try:
        return await pull_view(gateway, asked, Told(progress).piece, _waiting)
    finally:
        progress.close()


def _waiting(reason: str, seconds: float) -> None:
    _say(f"{reason}; tried again in {seconds:g} s")


def _say(text: str) -> None:
    at = datetime.now(UTC).isoformat(timespec="seconds")
    click.echo(f"{at} {text}", err=True)


# -- for good --------------------------------------------------------------------------------------


async def _follow(
    settings: Settings, sources: list[tuple[TableMap, str]], how: _How, seconds: float
) -> None:
    """Rounds until a signal. One that it comes into is broken off, as a kill would: the next goes
    on from there."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    gateway = await open_gateway(settings)
    try:
        while not stop.is_set():
            await _until(stop, _round(gateway, sources, how))
            await _wait(stop, seconds)
    finally:
        await gateway.store.close()


async def _until(stop: asyncio.Event, work: Coroutine[None, None, None]) -> None:
    """Does the work, or as much of it as a signal leaves. Raises what it raises."""
    working = asyncio.ensure_future(work)
    waiting = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait([working, waiting], return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            working.result()
    finally:
        for one in (working, waiting):
            one.cancel()
        await asyncio.gather(working, waiting, return_exceptions=True)


async def _round(gateway: Gateway, sources: list[tuple[TableMap, str]], how: _How) -> None:
    found = []
    for table, address in sources:
        try:
            parts = await _pull(gateway, table, address, how)
        except Unavailable as error:
            _say(f"{table.name}: {error.issues[0].diagnostics}")
            continue
        found += [one for one in parts if not one.loaded.whole]
    if found and how.report is not None:
        write_report(how.report, [(one.name, one.loaded) for one in found])
    if not how.quiet:
        for one in found:
            _say("\n".join(lines(one.name, one.loaded)))


async def _wait(stop: asyncio.Event, seconds: float) -> None:
    try:
        await asyncio.wait_for(stop.wait(), seconds)
    except TimeoutError:
        return


# -- is it there? ----------------------------------------------------------------------------------


def connect_to(tables: list[TableMap], tell: Callable[[str], None]) -> int:
    """Connects to the view of each map that names one, and compares its columns; how many faults
    there are."""
    from fhir_gateway.interactions.intake_view import check_view  # noqa: PLC0415 - see above

    faults = 0
    for table in tables:
        if table.database is None:
            continue
        try:
            seen = asyncio.run(check_view(table, address_of(table)))
        except GatewayError as error:
            faults += len(error.issues)
            for issue in error.issues:
                click.echo(f"{table.name}: {issue.diagnostics}", err=True)
        else:
            tell(f"{table.name}: {seen.view.name} can be read, {len(seen.names)} columns")
    return faults
