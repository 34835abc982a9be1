"""`fhir-gateway messages dead`: what was refused and waits: look at it, try it again, set it aside.

Texts of issues may quote a message: `show` is for who may see it; lists and logs name rules only.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, BinaryIO, NamedTuple, TypeVar
from zoneinfo import ZoneInfo

import click
import msgspec

from fhir_gateway.app import open_gateway
from fhir_gateway.cli.institution_common import common, gateway_of, print_table, tell_unknown
from fhir_gateway.context import Gateway
from fhir_gateway.errors import Invalid
from fhir_gateway.interactions.dead_letters import (
    Attempt,
    bytes_of,
    dead,
    one,
    retry,
    retry_all,
    set_aside,
)
from fhir_gateway.interactions.institutions import institutions
from fhir_gateway.security.actor import GATEWAY
from fhir_gateway.settings import Settings
from fhir_gateway.store.messages import ASIDE, OPEN, OVERTAKEN, RETRIED, Message

R = TypeVar("R")

#: A line of progress after so many.
_STEP = 100


@click.group("dead")
def dead_group() -> None:
    """Messages that were refused and wait: list, show, retry, set aside (docs/messages.md)."""


def _narrowed(function: Callable[..., R]) -> Callable[..., R]:
    """The options that narrow down which letters are meant."""
    for option in reversed((
        click.option("--institution", "chosen", multiple=True, metavar="ID",
                     help="Only of this institution; may be given again."),
        click.option("--rule", help="Only what was refused by this rule (docs/errors.md)."),
        click.option("--door", type=click.Choice(("hl7v2", "table", "cda")),
                     help="Only what came by this door."),
    )):  # fmt: skip
        function = option(function)
    return function


_json = click.option("--json", "as_json", is_flag=True, help="Print one line of JSON each.")


@dead_group.command("list")
@_narrowed
@click.option("--state", type=click.Choice((OPEN, ASIDE, RETRIED, OVERTAKEN)), default=OPEN,
              show_default=True, help="open waits; the others tell what became of it.")  # fmt: skip
@click.option("--limit", type=click.IntRange(1, 100_000), default=1_000, show_default=True,
              help="Most of one institution.")  # fmt: skip
@_json
@common
async def list_(
    settings: Settings,
    *,
    chosen: tuple[str, ...],
    rule: str | None,
    door: str | None,
    state: str,
    limit: int,
    as_json: bool,
) -> None:
    """Lists dead letters, the oldest first. Exit code: 0, also when there are none."""
    found: list[Message] = []
    async with gateway_of(settings) as gateway:
        for id in await _chosen(gateway, chosen):
            found += await dead(gateway, id, rule=rule, door=door, state=state, limit=limit)
    zone = ZoneInfo(settings.zone)
    if as_json:
        for row in found:
            click.echo(json.dumps(_told(row, zone), ensure_ascii=False))
        return
    lines = [
        (row.id, row.institution, row.door, row.kind, row.name, _time(row.received, zone),
         row.attempts, row.rule)
        for row in found
    ]  # fmt: skip
    header = ("id", "institution", "door", "kind", "name", "received", "attempts", "rule")
    print_table(header, lines)


@dead_group.command("show")
@click.argument("id")
@click.option("--bytes", "target", type=click.File("wb"), metavar="FILE",
              help="Write the message there as it came; - for standard output.")  # fmt: skip
@_json
@common
async def show(settings: Settings, *, id: str, target: BinaryIO | None, as_json: bool) -> None:
    """Shows one: what is wrong with it and what was answered. Exit code 1: its bytes are gone."""
    async with gateway_of(settings) as gateway:
        found = await one(gateway, id)
        kept = await bytes_of(gateway, found)
    if target is not None:
        if kept is None:
            click.echo("Its bytes are not kept any more", err=True)
            sys.exit(1)
        target.write(kept[1])
        return
    zone = ZoneInfo(settings.zone)
    told = _told(found, zone) | {
        "size": found.size,
        "bytes": kept is not None,
        "issues": msgspec.json.decode(found.issues) if found.issues else [],
        "answer": found.ack.decode("utf-8", "replace"),
    }
    if as_json:
        click.echo(json.dumps(told, ensure_ascii=False))
        return
    for name, value in told.items():
        if name not in ("issues", "answer") and value != "":
            click.echo(f"{name:<12} {value}")
    for issue in told["issues"]:
        place = f"{issue['expression']}: " if issue.get("expression") else ""
        click.echo(f"  - {place}{issue.get('diagnostics', '')} ({issue.get('rule', '')})")
    if found.ack:
        click.echo(found.ack.decode("utf-8", "replace").replace("\r", "\n").rstrip())


@dead_group.command("retry")
@click.argument("ids", metavar="[ID]...", nargs=-1)
@_narrowed
@click.option("--all", "everything", is_flag=True, help="All of all institutions.")
@click.option("--by", "who", required=True, metavar="NAME", help="Who has them tried again.")
@click.option("--dry-run", is_flag=True, help="Say what would become of each; store nothing.")
@_json
@common
async def retry_(
    settings: Settings, *, everything: bool, dry_run: bool, as_json: bool, **which: Any
) -> None:
    """Tries refused messages again, after a table or an entry was mended.

    Name them by ID, or by --institution, --rule, --door, or --all. They are taken in by the tables
    as they are now, the oldest first; what a later message has said since stands. It may be broken
    off and begun again, and run beside the server.

    Exit code: 0 all were stored (or would be); 1 some are refused still.
    """
    wanted = _Which(**which)
    if not (any(wanted[:4]) or everything):
        raise Invalid("Say which: ids, --institution, --rule, --door, or --all", rule="which")
    tally: Counter[str] = Counter()
    async with _whole(settings) as gateway:
        async for attempt in _attempts(gateway, wanted, dry_run=dry_run):
            tally[attempt.outcome] += 1
            _tell(attempt, as_json=as_json)
            if sum(tally.values()) % _STEP == 0:
                click.echo(f"{sum(tally.values())} tried …", err=True)
    if not as_json:
        words = ("would be stored", "would be flagged") if dry_run else ("stored", "flagged")
        click.echo(f"{tally['stored']} {words[0]}, {tally['flagged']} {words[1]}, "
                   f"{tally['refused']} refused, {tally['skipped']} not open")  # fmt: skip
    if tally["refused"]:
        sys.exit(1)


class _Which(NamedTuple):
    """The letters that are meant, and who has them tried again."""

    ids: tuple[str, ...]
    chosen: tuple[str, ...]
    rule: str | None
    door: str | None
    who: str


async def _attempts(gateway: Gateway, which: _Which, *, dry_run: bool) -> AsyncIterator[Attempt]:
    for id in which.ids:
        yield await retry(gateway, await one(gateway, id), who=which.who, dry_run=dry_run)
    if which.ids:
        return
    homes = await _chosen(gateway, which.chosen)
    narrowed: dict[str, Any] = {"who": which.who, "rule": which.rule, "door": which.door}
    async for attempt in retry_all(gateway, homes, dry_run=dry_run, **narrowed):
        yield attempt


def _tell(attempt: Attempt, *, as_json: bool) -> None:
    found = attempt.message
    rules = list(dict.fromkeys(issue.rule or issue.code for issue in attempt.issues))
    if as_json:
        click.echo(json.dumps({"id": found.id, "institution": found.institution,
                               "outcome": attempt.outcome, "rules": rules}))  # fmt: skip
    else:
        said = f" ({', '.join(rules)})" if rules else ""
        click.echo(f"{found.id} {found.institution} {found.name}: {attempt.outcome}{said}")


@dead_group.command("set-aside")
@click.argument("ids", metavar="ID...", nargs=-1, required=True)
@click.option("--by", "who", required=True, metavar="NAME", help="Who decides it.")
@click.option("--reason", required=True, help="Why it need not be stored; kept and on record.")
@common
async def set_aside_(settings: Settings, *, ids: tuple[str, ...], who: str, reason: str) -> None:
    """Takes letters off the list without storing them. The row stays, with name and reason."""
    async with gateway_of(settings) as gateway:
        for id in ids:
            found = await one(gateway, id)
            await set_aside(gateway, GATEWAY, found, who=who, reason=reason)
            click.echo(f"{found.id} {found.institution} {found.name}: set aside")


# -- helpers -------------------------------------------------------------------------------------


@asynccontextmanager
async def _whole(settings: Settings) -> AsyncIterator[Gateway]:
    """The gateway with all that intake needs: tables, maps, rules."""
    gateway = await open_gateway(settings, begin=False)
    try:
        yield gateway
    finally:
        await gateway.store.close()


async def _chosen(gateway: Gateway, chosen: Sequence[str]) -> list[str]:
    """The institutions that are meant: those that are named, else all."""
    for id in chosen:
        await tell_unknown(gateway, id)
    return list(chosen) or sorted(await institutions(gateway))


def _told(row: Message, zone: ZoneInfo) -> dict[str, Any]:
    return {
        "id": row.id,
        "institution": row.institution,
        "door": row.door,
        "kind": row.kind,
        "name": row.name,
        "received": _time(row.received, zone),
        "last": _time(row.last, zone),
        "attempts": row.attempts,
        "rule": row.rule,
        "state": row.state,
        "settled": _time(row.settled, zone) if row.settled else "",
        "who": row.who,
        "reason": row.reason,
    }


def _time(moment: int, zone: ZoneInfo) -> str:
    return datetime.fromtimestamp(moment / 1_000_000, zone).strftime("%Y-%m-%d %H:%M:%S")
