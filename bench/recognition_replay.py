"""Replays by several processes, as `fhir-gateway replay --jobs` does, without their start."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Sequence
from multiprocessing.synchronize import Barrier
from typing import Any, NamedTuple

from fhir_gateway.cli.replay import Worker, begun
from fhir_gateway.recognition.replay_run import Piece, Scope
from fhir_gateway.settings import Settings, load_settings


class Told(NamedTuple):
    """What came of it; `cpu` seconds of all processes, `seconds` of the slowest one."""

    decisions: int
    differ: int
    seconds: float
    cpu: float


def replayed(database: str, since: int, jobs: int) -> Told:
    """Decides everything again that was decided since a moment (µs)."""
    settings = load_settings({}, database=database)
    scope = Scope(since, int(time.time() * 1_000_000) + 1)
    pieces = begun(settings, scope, jobs).left
    context = multiprocessing.get_context("spawn")
    ready, answers = context.Barrier(jobs), context.Queue()
    processes = [
        context.Process(target=_share, args=(settings, scope, pieces[number::jobs], ready, answers))
        for number in range(jobs)
    ]
    for process in processes:
        process.start()
    told = [Told(*answers.get(timeout=600)) for _ in processes]
    for process in processes:
        process.join()
    return Told(
        sum(one.decisions for one in told),
        sum(one.differ for one in told),
        max(one.seconds for one in told),
        sum(one.cpu for one in told),
    )


def _share(
    settings: Settings, scope: Scope, pieces: Sequence[Piece], ready: Barrier, answers: Any
) -> None:
    worker = Worker(settings)
    ready.wait(60)
    began, before = time.perf_counter(), time.process_time()
    tallies = [worker.replay(scope, piece) for piece in pieces]
    seconds, cpu = time.perf_counter() - began, time.process_time() - before
    worker.close()
    decisions = sum(tally.decisions for tally in tallies)
    answers.put((decisions, sum(tally.differ for tally in tallies), seconds, cpu))
