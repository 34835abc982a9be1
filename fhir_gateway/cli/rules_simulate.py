"""`fhir-gateway rules simulate`: a draft over past orders, before anyone approves it."""

from __future__ import annotations

import asyncio
import csv
import json
import multiprocessing
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import click
import msgspec

from fhir_gateway.app import open_gateway
from fhir_gateway.cli.rules_common import linted, on_file, refusal
from fhir_gateway.context import Gateway
from fhir_gateway.errors import Conflict, GatewayError, Invalid
from fhir_gateway.fhir.datatypes import date_range
from fhir_gateway.recognition import publish
from fhir_gateway.recognition.rules import load_rule_set
from fhir_gateway.recognition.rules_lifecycle import content_digest
from fhir_gateway.recognition.simulate import (
    Cursor,
    Scope,
    Simulation,
    Tally,
    as_rows,
    summary,
    transitions,
)
from fhir_gateway.settings import Settings, load_settings

#: Rows that the text shows; CSV and JSON have all.
MOST_SHOWN = 40
_COLUMNS = (
    "item", "institution", "before", "before_reason", "after", "after_reason", "count",
)  # fmt: skip


class State(msgspec.Struct):
    """Where a simulation stands, to be taken up again."""

    digest: str
    scope: Scope
    cursor: Cursor
    tally: Tally


class Share(NamedTuple):
    """What one process is given."""

    settings: Settings
    definition: dict[str, Any]
    scope: Scope
    state: str  # path of its state, "" for none
    quiet: bool


@click.command("simulate")
@click.argument("draft", metavar="FILE|VERSION|ID")
@click.option("--since", required=True, help="Decisions from this day or moment on.")
@click.option("--until", default="", help="Decisions before this day or moment; now if left out.")
@click.option("--institution", default="", help="Decisions for this institution alone.")
@click.option("--jobs", type=click.IntRange(1, 64), default=1, help="Processes that share it.")
@click.option("--format", "form", type=click.Choice(["text", "csv", "json"]), default="text")
@click.option("--state", default="", help="A file to go on from after a stop; removed at the end.")
@click.option("--record", default="", metavar="NAME", help="Record that NAME simulated the draft.")
@click.option("--quiet", is_flag=True, help="No progress.")
@click.option("--database", help="Where the data is: sqlite:///PATH or postgresql://…")
def simulate(database: str | None, **options: Any) -> None:
    """Decides past orders by a draft, and says what would change, by item, institution, reason.

    Reads what was recorded, each decision at its own commit, and changes nothing. --record stores
    who simulated the draft, which activation needs; an edit of the draft afterwards voids it.
    """
    try:
        asked = _Asked(load_settings(database=database), **options)
        definition = asyncio.run(_draft(asked))
        tally = _run(asked, definition)
        if asked.record:
            asyncio.run(_record(asked, definition, tally))
    except GatewayError as error:
        raise refusal(error) from None
    _FORMS[asked.form](tally, definition)


class _Asked:
    """The options, read."""

    def __init__(self, settings: Settings, **options: Any) -> None:
        self.settings = settings
        self.draft: str = options["draft"]
        self.institution: str = options["institution"]
        self.jobs: int = options["jobs"]
        self.form: str = options["form"]
        self.state: str = options["state"]
        self.record: str = options["record"]
        self.quiet: bool = options["quiet"]
        self.since = moment(options["since"], "--since", settings.zone)
        now = int(datetime.now(UTC).timestamp() * 1_000_000)
        self.until = moment(options["until"], "--until", settings.zone) if options["until"] else 0
        self.ends = self.until or now
        if self.ends <= self.since:
            raise Invalid("--until is not after --since", rule="period")

    def scope(self, part: int) -> Scope:
        """What a process takes."""
        return Scope(self.since, self.ends, self.institution, part, self.jobs)

    def state_of(self, part: int) -> str:
        """The file of a process's state."""
        if not self.state:
            return ""
        return self.state if self.jobs == 1 else f"{self.state}.{part + 1}-of-{self.jobs}"


def moment(text: str, name: str, zone: str) -> int:
    """A day or a moment of an option, in µs. Raises Invalid."""
    try:
        return date_range(text, zone)[0]
    except (ValueError, GatewayError):
        raise Invalid(
            f"{name} is a day or a moment, such as 2026-10-01 or 2026-10-01T08:00:00+08:00",
            rule="period",
        ) from None


async def _draft(asked: _Asked) -> dict[str, Any]:
    """The definition to run. Raises GatewayError for one that cannot be loaded."""
    definition = on_file(asked.draft)
    if definition is not None and asked.record:
        raise Invalid(
            "A simulation is recorded for a draft of the store: fhir-gateway rules add FILE first",
            rule="rule-set",
        )
    if definition is None:
        gateway = await open_gateway(asked.settings, begin=False)
        try:
            one = publish.named(await publish.rule_sets(gateway), asked.draft)
            definition = one.definition
            if asked.record:
                await _check_record(gateway, one, asked)
        finally:
            await gateway.store.close()
    load_rule_set(definition)
    return definition


async def _check_record(gateway: Gateway, one: publish.Listed, asked: _Asked) -> None:
    """Raises before hours of work what would refuse the record after them."""
    if one.status != "draft":
        raise Conflict(f"{one.version} is {one.status}: drafts are simulated", rule="rule-set")
    errors = [found for found in await linted(gateway, asked.draft) if found.severity == "error"]
    if errors:
        raise Conflict(
            f"{one.version} has {len(errors)} errors; see fhir-gateway rules lint {asked.draft}",
            rule="rule-set",
        )


async def _record(asked: _Asked, definition: dict[str, Any], tally: Tally) -> None:
    gateway = await open_gateway(asked.settings, begin=False)
    try:
        one = publish.named(await publish.rule_sets(gateway), asked.draft)
        if content_digest(one.definition) != content_digest(definition):
            raise Conflict(f"{one.version} was edited meanwhile: simulate again", rule="rule-set")
        days = f"{_day(asked.since, asked)} to {_day(asked.ends, asked)}"
        where = f" of {asked.institution}" if asked.institution else ""
        says = f"{summary(tally)}; {days}{where}"
        await publish.record_simulation(gateway, one, asked.record, says)
    finally:
        await gateway.store.close()


def _day(us: int, asked: _Asked) -> str:
    zone = ZoneInfo(asked.settings.zone)
    return datetime.fromtimestamp(us / 1_000_000, UTC).astimezone(zone).date().isoformat()


# -- the run ---------------------------------------------------------------------------------------


def _run(asked: _Asked, definition: dict[str, Any]) -> Tally:
    """The counts of all processes."""
    shares = [
        Share(asked.settings, definition, asked.scope(part), asked.state_of(part), asked.quiet)
        for part in range(asked.jobs)
    ]
    fixed = bool(asked.until)
    total = asyncio.run(_share(shares[0], fixed)) if asked.jobs == 1 else _shared(shares, fixed)
    for share in shares:
        if share.state:
            Path(share.state).unlink(missing_ok=True)
    return total


def _shared(shares: Sequence[Share], fixed: bool) -> Tally:
    total = Tally()
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(len(shares), mp_context=context) as pool:
        for encoded in pool.map(_in_process, shares, [fixed] * len(shares)):
            total.add(msgspec.json.decode(encoded, type=Tally))
    return total


def _in_process(share: Share, fixed: bool) -> bytes:
    return msgspec.json.encode(asyncio.run(_share(share, fixed)))


async def _share(share: Share, fixed: bool) -> Tally:
    """One process's counts, from where it stopped."""
    draft = load_rule_set(share.definition)
    state = _resumed(share, draft.digest, fixed)
    simulation = Simulation(draft, state.scope, state.tally, state.cursor)
    gateway = await open_gateway(share.settings, begin=False)
    told = 0
    try:
        more = True
        while more:
            more = await simulation.page(gateway)
            if share.state:
                _keep(share.state, draft.digest, simulation)
            if not share.quiet and simulation.decisions >= told + 1_000:
                told = simulation.decisions
                _tell(share, told)
    finally:
        await gateway.store.close()
    return simulation.tally


def _tell(share: Share, decisions: int) -> None:
    scope = share.scope
    part = f" (process {scope.part + 1} of {scope.parts})" if scope.parts > 1 else ""
    click.echo(f"{decisions} decisions{part}", err=True)


def _resumed(share: Share, digest: str, fixed: bool) -> State:
    """Where to begin. Raises Conflict when the file is another simulation's."""
    fresh = State(digest, share.scope, None, Tally())
    path = Path(share.state) if share.state else None
    if path is None or not path.is_file():
        return fresh
    try:
        state = msgspec.json.decode(path.read_bytes(), type=State)
    except msgspec.DecodeError:
        state = None
    if state is not None and not fixed:  # the same question goes on until when it was first asked
        share = share._replace(scope=msgspec.structs.replace(share.scope, until=state.scope.until))
    if state is None or state.digest != digest or state.scope != share.scope:
        raise Conflict(
            f"{path} is of another simulation: name another file, or remove it", rule="state"
        )
    return state


def _keep(path: str, digest: str, simulation: Simulation) -> None:
    """Written beside and moved, so that a stop leaves the former state or this one."""
    state = State(digest, simulation.scope, simulation.cursor, simulation.tally)
    beside = Path(f"{path}.new")
    beside.write_bytes(msgspec.json.encode(state))
    beside.replace(path)


# -- what is printed -------------------------------------------------------------------------------


def _text(tally: Tally, definition: dict[str, Any]) -> None:
    click.echo(f"{definition['version']}: {summary(tally)}")
    for why, number in sorted(tally.skipped.items()):
        click.echo(f"  {number} left out: {why}")
    if tally.other_result:
        click.echo(f"  {tally.other_result} items with the same outcome by another result")
    if tally.offers or tally.no_offers:
        click.echo(
            f"  {tally.offers} items with the same outcome would gain the offer to replace the "
            f"order, {tally.no_offers} would lose it"
        )
    for (before, after), number in transitions(tally).items():
        click.echo(f"  {number:8} {before} → {after}")
    for change, number in tally.rows[:MOST_SHOWN]:
        click.echo(
            f"{number:8} {change.item or '-':10} {change.institution or '-':16} "
            f"{change.before} ({change.before_reason}) → {change.after} ({change.after_reason})"
        )
    hidden = len(tally.rows) - MOST_SHOWN
    if hidden > 0 or tally.more:
        click.echo(f"  and {max(hidden, 0)} more rows; --format csv has them")


def _csv(tally: Tally, definition: dict[str, Any]) -> None:
    writer = csv.DictWriter(sys.stdout, _COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(as_rows(tally))


def _json(tally: Tally, definition: dict[str, Any]) -> None:
    row = {
        "rule_set": f"{definition['url']}|{definition['version']}",
        "digest": content_digest(definition),
        "decisions": tally.decisions,
        "items": tally.items,
        "changed": tally.changed,
        "other_result": tally.other_result,
        "offers": {"gained": tally.offers, "lost": tally.no_offers},
        "skipped": tally.skipped,
        "transitions": [
            {"before": before, "after": after, "count": number}
            for (before, after), number in transitions(tally).items()
        ],
        "rows": list(as_rows(tally)),
        "more": tally.more,
    }
    click.echo(json.dumps(row, ensure_ascii=False))


_FORMS: dict[str, Callable[[Tally, dict[str, Any]], None]] = {
    "text": _text,
    "csv": _csv,
    "json": _json,
}
