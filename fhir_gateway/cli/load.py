"""`fhir-gateway load PATH…`: take in files. What is refused is told with its reason; loading again
stores nothing twice."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click

from fhir_gateway.app import open_gateway
from fhir_gateway.cli import load_files
from fhir_gateway.cli.load_progress import Progress
from fhir_gateway.cli.load_run import Here, Options, There, run, settled, task_of
from fhir_gateway.cli.load_tally import Tally
from fhir_gateway.cli.load_work import check_institution
from fhir_gateway.errors import GatewayError
from fhir_gateway.settings import Settings, load_settings
from fhir_gateway.store.opening import SQLITE

#: Bytes of files that are loaded before another process would have started.
_SMALL = 5_000_000

#: Refusals that the terminal shows.
MOST_REFUSALS = 50


class _CannotStart(click.ClickException):
    exit_code = 2


@click.command("load", short_help="Take in files.")
@click.argument(
    "paths", nargs=-1, required=True, metavar="PATH...", type=click.Path(path_type=Path)
)
@click.option("--database", help="Where the data goes, e.g. sqlite:///var/gateway.sqlite.")
@click.option("--mappings", help="Folder of the mapping tables.")
@click.option("--terminology", help="Folder of the catalogue.")
@click.option("--profiles", help="Folder of rule sets and profiles.")
@click.option("--institution", default="", metavar="ID", help="Whose data it is.")
@click.option("--dry-run", is_flag=True, help="Read, map and validate; store nothing.")
@click.option("--workers", type=click.IntRange(1, 64), show_default="one for each processor",
              help="Processes that prepare what one process writes.")  # fmt: skip
@click.option("--resume", is_flag=True, help="Pass over what an earlier load stored whole.")
@click.option("--report", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
              help="Write everything that was counted and refused as JSON.")  # fmt: skip
@click.option("--fail-fast", is_flag=True, help="Stop at the first file with a refusal.")
@click.option("--quiet", is_flag=True, help="No progress bar and no summary.")
def command(
    paths: tuple[Path, ...],
    institution: str,
    dry_run: bool,
    workers: int | None,
    resume: bool,
    report: Path | None,
    fail_fast: bool,
    quiet: bool,
    **chosen: Any,
) -> None:
    """Take in files, and all files of folders.

    \b
    FHIR JSON   .json .ndjson: Bundles of any type, resources by themselves, files of an export
    HL7 v2      .hl7, or anything that begins with MSH; several messages in a file
    CDA         .cda .xml: documents of WS/T 500 and others, one in a file
    DICOM       .dcm, or anything with DICM at byte 128; the headers only
    .gz and .bz2 of these are unpacked.

    Files that others refer to (hospitals, practitioners, patients) go first, and what refers to
    something that is not stored yet is tried again after the others.

    v2 messages are the institution's that MSH-4 names and CDA documents their custodian's, unless
    --institution says whose; DICOM files need --institution. Loading a file again changes nothing:
    a resource keeps its id, or gets one that is made of institution and content. A load that was
    interrupted is done again, faster with --resume.

    Exit code: 0 everything is stored; 1 something was refused, and is listed; 2 the load could
    not start (an option, the store, the data folders).
    """
    try:
        settings = load_settings(**chosen)
        with _store(settings, dry_run=dry_run) as database:
            options = Options(replace(settings, database=database), institution, dry_run, resume)
            tally = asyncio.run(
                _tally(options, paths, workers=workers, fail_fast=fail_fast, quiet=quiet)
            )
    except GatewayError as error:
        raise _CannotStart("\n  ".join(issue.diagnostics for issue in error.issues)) from None
    except BrokenProcessPool:
        raise _CannotStart("a worker process ended by itself; load again to go on") from None
    if report is not None:
        text = json.dumps(tally.report(), ensure_ascii=False, indent=2)
        report.write_text(text + "\n", encoding="utf-8")
    if not quiet:
        _say(tally, dry_run=dry_run)
    sys.exit(1 if tally.refused else 0)


@contextmanager
def _store(settings: Settings, *, dry_run: bool) -> Iterator[str]:
    """The database of the load. A dry run makes none: where there is none it uses a passing one."""
    database = settings.database
    is_file = database.startswith(SQLITE)
    if not (dry_run and is_file) or Path(database.removeprefix(SQLITE)).exists():
        yield database
        return
    with TemporaryDirectory() as folder:
        yield f"{SQLITE}{folder}/dry-run.sqlite"


async def _tally(
    options: Options, paths: Sequence[Path], *, workers: int | None, fail_fast: bool, quiet: bool
) -> Tally:
    """Finds the files and loads them."""
    gateway = await open_gateway(options.settings)
    try:
        await check_institution(gateway, options.institution)
        files, missing = load_files.find(paths)
        tally = Tally()
        for path, error in missing:
            tally.refuse(str(path), "", error)
        size = sum(file.size for file in files)
        count = workers or (1 if size < _SMALL else os.cpu_count() or 1)
        loader = There(options, count) if count > 1 else Here(task_of(gateway, options))
        progress = Progress(size, hidden=quiet)
        try:
            with settled():
                await run(loader, files, tally, progress, fail_fast=fail_fast)
        finally:
            progress.close()
            loader.close()
        tally.rate = progress.rate()
        return tally
    finally:
        await gateway.store.close()


def _say(tally: Tally, *, dry_run: bool) -> None:
    if dry_run:
        click.echo("Nothing was stored; references were not followed.")
    click.echo("\n".join(tally.lines()))
    for line in tally.refused[:MOST_REFUSALS]:
        where = " ".join(part for part in (line["file"], line["place"], line["element"]) if part)
        click.echo(f"refused: {where}: {line['reason']} [{line['rule']}]", err=True)
    if len(tally.refused) > MOST_REFUSALS:
        more = len(tally.refused) - MOST_REFUSALS
        click.echo(f"refused: … and {more} more; --report lists them", err=True)
