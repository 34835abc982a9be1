"""`fhir-gateway load PATH…`: take in files. What is refused is told with its reason; loading again
stores nothing twice."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing import get_context
from multiprocessing.util import Finalize
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import click

from fhir_gateway.app import open_gateway
from fhir_gateway.cli import load_files
from fhir_gateway.cli.load_files import File
from fhir_gateway.cli.load_tally import Tally
from fhir_gateway.cli.load_work import Task, check_institution, load_file
from fhir_gateway.context import Gateway
from fhir_gateway.errors import GatewayError
from fhir_gateway.settings import Settings, load_settings


class Options(NamedTuple):
    """How a load is done; what a worker process needs to know."""

    settings: Settings
    institution: str
    dry_run: bool


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
@click.option("--workers", default=1, show_default=True, type=click.IntRange(1, 64),
              help="Processes that read files at the same time.")  # fmt: skip
@click.option("--report", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
              help="Write everything that was counted and refused as JSON.")  # fmt: skip
@click.option("--fail-fast", is_flag=True, help="Stop at the first file with a refusal.")
@click.option("--quiet", is_flag=True, help="No progress bar and no summary.")
def command(
    paths: tuple[Path, ...],
    institution: str,
    dry_run: bool,
    workers: int,
    report: Path | None,
    fail_fast: bool,
    quiet: bool,
    **chosen: Any,
) -> None:
    """Take in files, and all files of folders.

    \b
    FHIR JSON   .json .ndjson: Bundles of any type, resources by themselves
    HL7 v2      .hl7, or anything that begins with MSH; several messages in a file
    DICOM       .dcm, or anything with DICM at byte 128; the headers only
    .gz and .bz2 of these are unpacked.

    Files that others refer to (hospitals, practitioners) go first, and a file whose references
    are not stored yet is tried again after the others.

    v2 messages are the institution's that MSH-4 names, unless --institution says whose; DICOM
    files need --institution. Loading a file again changes nothing: a resource keeps its id, or
    gets one that is made of institution and content.

    Exit code: 0 everything is stored; 1 something was refused, and is listed; 2 the load could
    not start (an option, the store, the data folders).
    """
    try:
        settings = load_settings(**chosen)
        with _store(settings, dry_run=dry_run) as database:
            options = Options(replace(settings, database=database), institution, dry_run)
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
    path = Path(settings.database.removeprefix("sqlite:///"))
    if not dry_run or path.exists():
        yield settings.database
        return
    with TemporaryDirectory() as folder:
        yield f"sqlite:///{folder}/dry-run.sqlite"


async def _tally(
    options: Options, paths: Sequence[Path], *, workers: int, fail_fast: bool, quiet: bool
) -> Tally:
    """Finds the files and loads them."""
    gateway = await open_gateway(options.settings)
    try:
        await check_institution(gateway, options.institution)
        files, missing = load_files.find(paths)
        tally = Tally()
        for path, error in missing:
            tally.refuse(str(path), "", error)
        loader = _There(options, workers) if workers > 1 else _Here(_task(gateway, options))
        try:
            with _progress(files, hidden=quiet) as advance:
                await _load(loader, files, tally, fail_fast=fail_fast, advance=advance)
        finally:
            loader.close()
        return tally
    finally:
        await gateway.store.close()


def _task(gateway: Gateway, options: Options) -> Task:
    return Task(gateway, options.institution, options.dry_run)


@contextmanager
def _progress(files: Sequence[File], *, hidden: bool) -> Iterator[Callable[[int], None]]:
    """A bar of bytes on a terminal, nothing elsewhere."""
    total = sum(file.size for file in files)
    with click.progressbar(
        length=total, label="Loading", file=sys.stderr, hidden=hidden or not sys.stderr.isatty()
    ) as bar:
        yield bar.update


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


async def _load(
    loader: _Here | _There,
    files: Sequence[File],
    tally: Tally,
    *,
    fail_fast: bool,
    advance: Callable[[int], None],
) -> None:
    """All files in their order: those that others refer to, the rest, those that waited, DICOM."""
    images = [file for file in files if _is_dicom(file)]
    others = [file for file in files if file not in images]
    steps = [[file for file in others if file.rank == rank] for rank in (0, 1)]
    waiting: list[File] = []
    last, before = False, -1
    while steps:
        step = steps.pop(0)
        async for file, result in loader.load(step, last=last):
            if result.waits:
                waiting.append(file)
                continue
            advance(file.size)
            tally.add(result.tally)
            if fail_fast and tally.refused:
                return
        if waiting and not steps:  # once more; for the last time when once more was of no use
            last, before = len(waiting) == before, len(waiting)
            steps, waiting = [waiting], []
    if images:
        tally.add(await loader.images([file.path for file in images]))
        advance(sum(file.size for file in images))


def _is_dicom(file: File) -> bool:
    try:
        return load_files.kind_of(file.path) == "dicom"
    except GatewayError:
        return False


class Result(NamedTuple):
    """What loading a file did, and whether it should be tried again after the others."""

    tally: Tally
    waits: bool


class _Here:
    """Loads in this process."""

    def __init__(self, task: Task) -> None:
        self.task = task

    async def load(
        self, files: Sequence[File], *, last: bool
    ) -> AsyncIterator[tuple[File, Result]]:
        for file in files:
            yield file, Result(*await load_file(self.task, file.path, last=last))

    async def images(self, paths: Sequence[Path]) -> Tally:
        return await _images(self.task, paths)

    def close(self) -> None:
        """Nothing is its own."""


async def _images(task: Task, paths: Sequence[Path]) -> Tally:
    from fhir_gateway.cli.load_dicom import load_dicom  # noqa: PLC0415 - takes half a second

    return await load_dicom(task, paths)


class _There:
    """Loads in worker processes, which send their change sets to this one: its event loop never
    stops, so its store is the writer of all."""

    def __init__(self, options: Options, workers: int) -> None:
        self.pool = ProcessPoolExecutor(
            workers, get_context("spawn"), initializer=_start_worker, initargs=(options,)
        )

    async def load(
        self, files: Sequence[File], *, last: bool
    ) -> AsyncIterator[tuple[File, Result]]:
        futures = [self.pool.submit(_load_in_worker, file, last) for file in files]
        for file, future in zip(files, futures, strict=True):
            yield file, await asyncio.wrap_future(future)

    async def images(self, paths: Sequence[Path]) -> Tally:
        return await asyncio.wrap_future(self.pool.submit(_images_in_worker, paths))

    def close(self) -> None:
        """Ends the workers; what is not begun is not done."""
        self.pool.shutdown(cancel_futures=True)


class _Worker:
    """What a worker process keeps between files."""

    def __init__(self, options: Options) -> None:
        self.runner = asyncio.Runner()
        self.task = _task(self.runner.run(open_gateway(options.settings)), options)

    def close(self) -> None:
        """Closes the store."""
        self.runner.run(self.task.gateway.store.close())
        self.runner.close()


_worker: list[_Worker] = []


def _start_worker(options: Options) -> None:
    worker = _Worker(options)
    _worker.append(worker)
    Finalize(None, worker.close, exitpriority=10)


def _load_in_worker(file: File, last: bool) -> Result:
    worker = _worker[0]
    return Result(*worker.runner.run(load_file(worker.task, file.path, last=last)))


def _images_in_worker(paths: Sequence[Path]) -> Tally:
    worker = _worker[0]
    return worker.runner.run(_images(worker.task, paths))
