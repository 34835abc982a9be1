"""The load of one file of rows: surveyed, stored in pieces, resumed where it was broken off.

A group that is wrong is refused alone; the others of the file are stored. A piece is marked done
when all its groups are durable or refused, so a load that is killed does at most a piece again,
and a group that is done again changes nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

from fhir_gateway.context import Gateway
from fhir_gateway.errors import GatewayError, Invalid
from fhir_gateway.interactions.institutions import institution
from fhir_gateway.interactions.intake_tabular import Became, Source, receive_group
from fhir_gateway.interactions.intake_tabular_marks import (
    Figures,
    Load,
    Refusal,
    Series,
    done,
    finish,
    is_finished,
    last_load,
    remember,
    series_of,
)
from fhir_gateway.interactions.intake_tabular_survey import Opener, Survey, groups_of, survey
from fhir_gateway.interactions.local_codes import follow
from fhir_gateway.mapping.tabular_map import TableMap
from fhir_gateway.mapping.tabular_rows import Group, mark_before
from fhir_gateway.security.actor import Actor
from fhir_gateway.terminology.coder import DATA_QUALITY

#: Groups of a piece, and persons whose groups are stored at the same time.
PIECE, WIDTH = 200, 8

#: Refusals and doubts of a piece that are kept word for word.
_MOST = 500

Item = tuple[Group, GatewayError | None, str]


class Order(NamedTuple):
    """What is to be done: the file by its name, its map, and how. `most` is a watermark that this
    load must not pass, for what a part before it left undone; None where there is none."""

    file: str
    table: TableMap
    dry_run: bool = False
    again: bool = False
    most: str | None = None


class Loaded(NamedTuple):
    """What came of a load. `pieces` of it were done before, `whole` says that all of it was;
    `load` is None after a dry run."""

    figures: Figures
    survey: Survey
    pieces: int
    whole: bool
    load: Load | None


#: Told after each piece: groups that are done, groups in all, figures so far.
Progress = Callable[[int, int, Figures], None]


async def load_table(
    gateway: Gateway, open_file: Opener, order: Order, progress: Progress
) -> Loaded:
    """Loads a file. Raises Invalid, Structure or Unprocessable for a file or map that cannot be
    used, and what the store raises when it cannot be reached: load again to go on."""
    table = order.table
    sender = await institution(gateway, table.institution)
    if sender is None:
        raise Invalid(
            f"No institution {table.institution} is registered; see `fhir-gateway institution "
            "list`",
            rule="institution",
        )
    await follow(gateway, sender.id)
    last = await last_load(gateway, sender.id, table.name)
    mark = last.watermark if last and not order.again else ""
    since = mark_before(table, mark)
    found = await asyncio.to_thread(survey, open_file, table, zone=sender.zone, since=since)
    number = last.number if last else 0
    series = series_of(table, found.digest, since=since, again=number if order.again else None)
    actor = Actor("institution", "load", institution=sender.id)
    run = _Run(gateway, Source(actor, sender, table, found.head), found, series, order.dry_run)
    figures, pieces = await run.all(groups_of(open_file, table, found), progress)
    if order.dry_run:
        return Loaded(figures, found, 0, False, None)
    if last is not None and await is_finished(gateway, series):
        return Loaded(figures, found, pieces, True, last)
    made = Load(
        number + 1, gateway.clock.now(), order.file, found.digest.hex(), table.digest,
        figures.rows, figures.groups, figures.stored, figures.unchanged,
        figures.refused, _next(order, mark, found, figures),
    )  # fmt: skip
    return Loaded(figures, found, pieces, False, await finish(gateway, series, made))


def _next(order: Order, mark: str, found: Survey, figures: Figures) -> str:
    """Where the next load begins: behind nothing that was refused in this one."""
    if not order.table.watermark:
        return ""
    reached = mark
    if not found.broken:
        reached = min(filter(None, (max(mark, found.high), figures.held)), default="")
    return reached if order.most is None else min(reached, order.most)


class _Run:
    """The pieces of one load."""

    def __init__(
        self, gateway: Gateway, source: Source, found: Survey, series: Series, dry_run: bool
    ) -> None:
        self.gateway, self.source, self.found = gateway, source, found
        self.series, self.dry_run = series, dry_run

    async def all(self, items: Iterator[Item], progress: Progress) -> tuple[Figures, int]:
        """Does all pieces; the figures of all, and how many pieces were done before."""
        before = [] if self.dry_run else await done(self.gateway, self.series)
        figures = Figures(rows=self.found.rows)
        for error in self.found.broken:
            _refuse(figures, error)
        number, seen = 0, 0
        while piece := await asyncio.to_thread(lambda: list(islice(items, PIECE))):
            if number < len(before):
                figures.add(before[number])
            else:
                figures.add(await self._piece(number, piece))
            number, seen = number + 1, seen + len(piece)
            progress(seen, len(self.found.groups), figures)
        return figures, min(number, len(before))

    async def _piece(self, number: int, piece: Sequence[Item]) -> Figures:
        """Stores the groups of a piece, those of one person one after the other."""
        figures = Figures(groups=len(piece))
        persons: dict[tuple[str, ...], list[Item]] = {}
        for item in piece:
            persons.setdefault(self._person(item[0]), []).append(item)
        gate = asyncio.Semaphore(WIDTH)

        async def person(items: Sequence[Item]) -> None:
            async with gate:
                for item in items:
                    await self._group(item, figures)

        try:
            async with asyncio.TaskGroup() as tasks:
                for items in persons.values():
                    tasks.create_task(person(items))
        except ExceptionGroup as errors:  # the store cannot be reached: one reason is enough
            raise errors.exceptions[0] from None
        figures.refusals.sort(key=_by_line)
        figures.warnings.sort(key=_by_line)
        if not self.dry_run:
            await remember(self.gateway, self.series, number, figures)
        return figures

    def _person(self, group: Group) -> tuple[str, ...]:
        columns, cells = self.source.table.columns, group.records[0].cells
        return tuple(
            cells.get(columns[field], "")
            for field in ("patient.number", "patient.document")
            if field in columns
        )

    async def _group(self, item: Item, figures: Figures) -> None:
        group, wrong, mark = item
        try:
            if wrong is not None:
                raise wrong
            became = await receive_group(self.gateway, self.source, group, dry_run=self.dry_run)
        except GatewayError as error:
            if error.status >= 500 or any(one.rule == "overtaken" for one in error.issues):
                raise
            figures.refused += 1
            figures.held = min(filter(None, (figures.held, mark)), default="")
            _refuse(figures, error)
        else:
            _count(figures, became, group.records[0].line)


def _by_line(one: Refusal) -> int:
    digits = "".join(c for c in one.place.partition(",")[0] if c.isdigit())
    return int(digits or 0)


def _refuse(figures: Figures, error: GatewayError) -> None:
    for issue in error.issues[: max(_MOST - len(figures.refusals), 0)]:
        figures.refusals.append(
            Refusal(issue.expression or "", issue.rule or issue.code, issue.diagnostics)
        )


def _count(figures: Figures, became: Became, line: int) -> None:
    if became.changed:
        figures.stored += 1
    else:
        figures.unchanged += 1
    for type, kind, resource in became.resources:
        name = f"{type} {kind}"
        figures.resources[name] = figures.resources.get(name, 0) + 1
        if code := _unmapped(resource):
            figures.unmapped[code] = figures.unmapped.get(code, 0) + 1
    for issue in became.warnings[: max(_MOST - len(figures.warnings), 0)]:
        place = issue.expression or f"line {line}"
        figures.warnings.append(Refusal(place, issue.rule or issue.code, issue.diagnostics))


_FLAGS = frozenset({"unmapped-item", "unmapped-order"})


def _unmapped(resource: dict[str, Any]) -> str:
    """The code and the name of a resource whose code no map knows; "" for any other."""
    tags = resource.get("meta", {}).get("tag", ())
    if not any(tag.get("code") in _FLAGS and tag.get("system") == DATA_QUALITY for tag in tags):
        return ""
    concepts = [resource.get("code"), *resource.get("procedureCode", ())]
    concept: dict[str, Any] = next((one for one in concepts if one), {})
    coding: dict[str, Any] = next((one for one in concept.get("coding", ()) if one.get("code")), {})
    return f"{coding.get('code', '')}\t{concept.get('text') or coding.get('display', '')}"
