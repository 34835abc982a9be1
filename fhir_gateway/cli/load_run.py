"""The run of a load: pieces of files, stored here or in worker processes, several at a time.

Worker processes read nothing and write nothing: they validate, code and index what they are
handed, and send change sets to the writer, which is this process.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from multiprocessing import get_context
from multiprocessing.util import Finalize
from pathlib import Path
from typing import NamedTuple

from fhir_gateway.app import open_gateway
from fhir_gateway.cli import load_files
from fhir_gateway.cli.load_files import File
from fhir_gateway.cli.load_pieces import Piece, Todo, pieces, steps
from fhir_gateway.cli.load_progress import Progress
from fhir_gateway.cli.load_tally import Tally
from fhir_gateway.cli.load_work import Result, Task, load_piece
from fhir_gateway.context import Gateway
from fhir_gateway.errors import GatewayError
from fhir_gateway.settings import Settings

#: Pieces that are under way for each worker: one that it works on, and the next.
_AHEAD = 2


class Options(NamedTuple):
    """How a load is done; what a worker process needs to know."""

    settings: Settings
    institution: str
    dry_run: bool
    resume: bool


def task_of(gateway: Gateway, options: Options) -> Task:
    """The work as one process does it."""
    return Task(gateway, options.institution, options.dry_run, options.resume)


class Here:
    """Loads in this process, one piece at a time."""

    width = 1

    def __init__(self, task: Task) -> None:
        self.task = task

    async def load(self, piece: Piece, *, last: bool) -> Result:
        """Stores a piece."""
        return await load_piece(self.task, piece, last=last)

    async def images(self, paths: Sequence[Path]) -> Tally:
        """Stores DICOM files."""
        return await _images(self.task, paths)

    def close(self) -> None:
        """Nothing is its own."""


async def _images(task: Task, paths: Sequence[Path]) -> Tally:
    from fhir_gateway.cli.load_dicom import load_dicom  # noqa: PLC0415 - takes half a second

    return await load_dicom(task, paths)


class There:
    """Loads in worker processes; the event loop of this one never stops, so it is the writer."""

    def __init__(self, options: Options, workers: int) -> None:
        self.width = workers * _AHEAD
        self.pool = ProcessPoolExecutor(
            workers, get_context("spawn"), initializer=_start_worker, initargs=(options,)
        )

    async def load(self, piece: Piece, *, last: bool) -> Result:
        """Has a piece stored."""
        return await asyncio.wrap_future(self.pool.submit(_load_in_worker, piece, last))

    async def images(self, paths: Sequence[Path]) -> Tally:
        """Has DICOM files stored."""
        return await asyncio.wrap_future(self.pool.submit(_images_in_worker, paths))

    def close(self) -> None:
        """Ends the workers; what is not begun is not done."""
        self.pool.shutdown(cancel_futures=True)


Loader = Here | There


@contextmanager
def settled() -> Iterator[None]:
    """What was built before stays for good: the garbage collector looks at the rest, and seldom."""
    thresholds = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)
        gc.unfreeze()


async def run(
    loader: Loader, files: Sequence[File], tally: Tally, progress: Progress, *, fail_fast: bool
) -> None:
    """All files in their order: those that others refer to, the rest, what waited, DICOM."""
    images = [file for file in files if _is_dicom(file)]
    todo = steps([file for file in files if file not in images])
    waiting: list[Todo] = []
    last, before = False, -1
    while todo:
        how = _How(last=last, again=before >= 0, fail_fast=fail_fast)
        waiting += await _step(loader, todo.pop(0), tally, progress, how)
        if fail_fast and tally.refused:
            return
        if waiting and not todo:  # once more; for the last time when once more was of no use
            count = sum(1 if one.only is None else len(one.only) for one in waiting)
            last, before = count == before, count
            todo, waiting = [waiting], []
    if images:
        tally.add(await loader.images([file.path for file in images]))
        progress.add(sum(file.size for file in images), 0)


class _How(NamedTuple):
    """Whether nothing is tried again after this step, whether this is trying again, and whether a
    refusal ends it."""

    last: bool
    again: bool
    fail_fast: bool


async def _step(
    loader: Loader, todo: Sequence[Todo], tally: Tally, progress: Progress, how: _How
) -> list[Todo]:
    """Files that need not wait for each other. Returns what is to be tried again."""
    again: dict[Path, set[int] | None] = {}

    def stop() -> bool:
        return how.fail_fast and bool(tally.refused)

    given = _pieces(todo, tally, how.again)
    async for piece, result in _results(loader, given, last=how.last, stop=stop):
        tally.add(result.tally)
        waits = bool(result.lines) or result.again
        progress.add(0 if waits else piece.size, sum(result.tally.resources.values()))
        if result.again:
            again[piece.path] = None
        elif result.lines:
            known = again.setdefault(piece.path, set())
            if known is not None:
                known.update(result.lines)
    files = {one.file.path: one.file for one in todo}
    return [Todo(files[path], numbers) for path, numbers in again.items()]


def _pieces(todo: Sequence[Todo], tally: Tally, again: bool) -> Iterator[Piece]:
    """The pieces of all files; one that cannot be read to its end is refused from there on."""
    for one in todo:
        tally.files += not again
        try:
            yield from pieces(one)
        except GatewayError as error:
            tally.refuse(str(one.file.path), "", error)


async def _results(
    loader: Loader, given: Iterator[Piece], *, last: bool, stop: Callable[[], bool]
) -> AsyncIterator[tuple[Piece, Result]]:
    """What came of the pieces, as they are done; as many at once as the loader takes."""
    running: dict[asyncio.Task[Result], Piece] = {}
    while True:
        while len(running) < loader.width and not stop():
            piece = next(given, None)
            if piece is None:
                break
            running[asyncio.create_task(loader.load(piece, last=last))] = piece
        if not running:
            return
        done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            yield running.pop(task), task.result()


def _is_dicom(file: File) -> bool:
    try:
        return load_files.kind_of(file.path) == "dicom"
    except GatewayError:
        return False


# -- in a worker process --------------------------------------------------------------------------


class _Worker:
    """What a worker process keeps between pieces."""

    def __init__(self, options: Options) -> None:
        self.runner = asyncio.Runner()
        self.task = task_of(self.runner.run(open_gateway(options.settings)), options)
        self.stack = ExitStack()
        self.stack.enter_context(settled())

    def close(self) -> None:
        """Closes the store."""
        self.runner.run(self.task.gateway.store.close())
        self.runner.close()


_worker: list[_Worker] = []


def _start_worker(options: Options) -> None:
    worker = _Worker(options)
    _worker.append(worker)
    Finalize(None, worker.close, exitpriority=10)


def _load_in_worker(piece: Piece, last: bool) -> Result:
    worker = _worker[0]
    return worker.runner.run(load_piece(worker.task, piece, last=last))


def _images_in_worker(paths: Sequence[Path]) -> Tally:
    worker = _worker[0]
    return worker.runner.run(_images(worker.task, paths))
