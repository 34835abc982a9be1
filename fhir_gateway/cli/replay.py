"""`fhir-gateway replay`: decide recorded decisions again, and say what differs."""

from __future__ import annotations

import asyncio
import atexit
import json
import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import click
import msgspec

from fhir_gateway.app import open_gateway
from fhir_gateway.cli.rules_simulate import moment
from fhir_gateway.errors import Conflict, GatewayError, Invalid
from fhir_gateway.recognition.replay import Replayed, Replayer, replay_decision
from fhir_gateway.recognition.replay_run import (
    Piece,
    Scope,
    Tally,
    extent,
    pieces,
    replay_piece,
)
from fhir_gateway.security.actor import GATEWAY
from fhir_gateway.settings import Settings, load_settings

#: An operator may look at every decision; the budget protects callers of the doors.
_NO_BUDGET = 2**53


class State(msgspec.Struct):
    """Where a replay stands, to be taken up again."""

    scope: Scope
    left: list[Piece]
    tally: Tally


class _Asked(NamedTuple):
    """The options of a run over a time, read. `fixed` says that its end was named."""

    settings: Settings
    scope: Scope
    fixed: bool
    jobs: int
    state: str
    quiet: bool


@click.command("replay")
@click.argument("ids", metavar="[ID]...", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Every decision in the store.")
@click.option("--since", default="", help="Decisions from this day or moment on.")
@click.option("--until", default="", help="Decisions before this day or moment; now if left out.")
@click.option("--institution", default="", help="Decisions for this institution alone.")
@click.option("--jobs", type=click.IntRange(1, 64), default=1, help="Processes that share it.")
@click.option("--state", default="", help="A file to go on from after a stop; removed at the end.")
@click.option("--quiet", is_flag=True, help="No progress.")
@click.option("--database", help="Where the data is: sqlite:///PATH or postgresql://…")
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON at the end.")
def command(ids: tuple[str, ...], database: str | None, as_json: bool, **options: Any) -> None:
    """Decides again from recorded inputs, at the recorded commit, by the recorded rules.

    ID is the logical id of a GuidanceResponse. Every byte of the outcome must agree; the exit code
    is 1 when one differs. Evidence that is no longer in the store is told as erased, and is no
    difference. Nothing is changed.

    \b
    Examples:
      fhir-gateway replay --since 2026-10-01 --jobs 4 --state replay.state
      fhir-gateway replay --since 2026-10-01 --until 2026-11-01 --institution HOSPITAL --json
    """
    chosen = [bool(ids), options["everything"], bool(options["since"])]
    if sum(chosen) != 1:
        raise click.UsageError("Name decisions, or say --since or --all")
    settings = load_settings(database=database, search_budget=_NO_BUDGET)
    try:
        if ids:
            tally = asyncio.run(_named(settings, ids, quiet=as_json))
        else:
            tally = _run(_asked(settings, as_json=as_json, **options))
    except GatewayError as error:
        raise click.ClickException("; ".join(one.diagnostics for one in error.issues)) from None
    click.echo(json.dumps(_as_json(tally), ensure_ascii=False) if as_json else _as_text(tally))
    if tally.differ:
        raise SystemExit(1)


def _asked(settings: Settings, *, as_json: bool, **options: Any) -> _Asked:
    since = moment(options["since"], "--since", settings.zone) if options["since"] else 0
    until = moment(options["until"], "--until", settings.zone) if options["until"] else 0
    ends = until or int(datetime.now(UTC).timestamp() * 1_000_000) + 1
    if ends <= since:
        raise Invalid("--until is not after --since", rule="period")
    return _Asked(
        settings,
        Scope(since, ends, options["institution"]),
        bool(until),
        options["jobs"],
        options["state"],
        options["quiet"] or as_json,
    )


async def _named(settings: Settings, ids: Sequence[str], *, quiet: bool) -> Tally:
    """The decisions that were named, one after the other."""
    gateway = await open_gateway(settings, begin=False)
    tally = Tally()
    try:
        for id in ids:
            replayed = await replay_decision(gateway, GATEWAY, id)
            tally.count(replayed)
            for text in () if quiet else _said(replayed):
                click.echo(f"{id}: {text}")
    finally:
        await gateway.store.close()
    return tally


def _said(replayed: Replayed) -> Iterator[str]:
    yield from replayed.differences
    yield from (f"erased: {source}" for source in replayed.erased)


# -- a run over a time -----------------------------------------------------------------------------


def _run(asked: _Asked) -> Tally:
    """The counts of all pieces, from where a former run stopped."""
    state = _resumed(asked) or begun(asked.settings, asked.scope, asked.jobs)
    total = len(state.left)
    for piece, tally in _pieces(asked, list(state.left)):
        state.left.remove(piece)
        state.tally.add(tally)
        if asked.state:
            _keep(asked.state, state)
        if not asked.quiet and total > 1:
            done, counted = total - len(state.left), state.tally
            click.echo(
                f"{done} of {total} pieces: {counted.decisions} decisions, "
                f"{counted.differ} differ, {counted.erased} erased",
                err=True,
            )
    if asked.state:
        Path(asked.state).unlink(missing_ok=True)
    return state.tally


def begun(settings: Settings, scope: Scope, jobs: int) -> State:
    """The state before the first piece."""
    return State(scope, pieces(asyncio.run(_extent(settings, scope)), jobs), Tally())


async def _extent(settings: Settings, scope: Scope) -> Piece:
    gateway = await open_gateway(settings, begin=False)
    try:
        return await extent(gateway, scope)
    finally:
        await gateway.store.close()


def _pieces(asked: _Asked, left: Sequence[Piece]) -> Iterator[tuple[Piece, Tally]]:
    """Each piece with its counts, as they are done."""
    scope = asked.scope
    if asked.jobs == 1 or len(left) < 2:
        worker = Worker(asked.settings)
        try:
            for piece in left:
                yield piece, worker.replay(scope, piece)
        finally:
            worker.close()
        return
    context = multiprocessing.get_context("spawn")
    number = min(asked.jobs, len(left))
    with ProcessPoolExecutor(number, context, _open_worker, (asked.settings,)) as pool:
        done = {pool.submit(_in_process, scope, piece): piece for piece in left}
        for future in as_completed(done):
            yield done[future], msgspec.json.decode(future.result(), type=Tally)


class Worker:
    """One open store, and what its decisions share, for piece after piece."""

    def __init__(self, settings: Settings) -> None:
        self._runner = asyncio.Runner()
        self._gateway = self._runner.run(open_gateway(settings, begin=False))
        self._replayer = Replayer(self._gateway)

    def replay(self, scope: Scope, piece: Piece) -> Tally:
        """The counts of a piece."""
        return self._runner.run(
            replay_piece(self._gateway, self._replayer, piece, scope.institution)
        )

    def close(self) -> None:
        """Closes the store."""
        self._runner.run(self._gateway.store.close())
        self._runner.close()


#: The worker of this process, where it is one of a pool.
_workers: list[Worker] = []


def _open_worker(settings: Settings) -> None:
    worker = Worker(settings)
    _workers.append(worker)
    atexit.register(worker.close)


def _in_process(scope: Scope, piece: Piece) -> bytes:
    return msgspec.json.encode(_workers[0].replay(scope, piece))


def _resumed(asked: _Asked) -> State | None:
    """Where a former run stopped. Raises Conflict when the file is of another one."""
    path = Path(asked.state) if asked.state else None
    if path is None or not path.is_file():
        return None
    try:
        state = msgspec.json.decode(path.read_bytes(), type=State)
    except msgspec.DecodeError:
        state = None
    scope = asked.scope
    if state is not None and not asked.fixed:  # goes on until when it was first asked
        scope = msgspec.structs.replace(scope, until=state.scope.until)
    if state is None or state.scope != scope:
        raise Conflict(
            f"{path} is of another replay: name another file, or remove it", rule="state"
        )
    return state


def _keep(path: str, state: State) -> None:
    """Written beside and moved, so that a stop leaves the former state or this one."""
    beside = Path(f"{path}.new")
    beside.write_bytes(msgspec.json.encode(state))
    beside.replace(path)


# -- what is printed -------------------------------------------------------------------------------


def _as_text(tally: Tally) -> str:
    rows = []
    for name, row in sorted(tally.rule_sets.items()) if len(tally.rule_sets) > 1 else ():
        erased = f", {row.erased} erased" if row.erased else ""
        shown = name or "no rule set in force"
        rows.append(f"{shown}: {row.decisions} decisions, {row.differ} differ{erased}")
    for kind, found in tally.by_frequency():
        rows.append(f"{found.count:8} {kind} ({', '.join(found.decisions)})")
    if tally.more:
        rows.append(f"{tally.more:8} other differences")
    if tally.gone:
        rows.append(f"{tally.erased:8} with erased evidence ({', '.join(tally.gone)})")
    erased = f", {tally.erased} erased" if tally.erased else ""
    rows.append(f"{tally.decisions} decisions, {tally.differ} differ{erased}")
    return "\n".join(rows)


def _as_json(tally: Tally) -> dict[str, Any]:
    return {
        "decisions": tally.decisions,
        "agree": tally.agree,
        "differ": tally.differ,
        "erased": tally.erased,
        "rule_sets": msgspec.to_builtins(tally.rule_sets),
        "differences": [
            {"difference": kind, "count": found.count, "decisions": found.decisions}
            for kind, found in tally.by_frequency()
        ],
        "more": tally.more,
        "gone": tally.gone,
    }
