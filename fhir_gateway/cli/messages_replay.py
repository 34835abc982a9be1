"""`fhir-gateway messages replay`: a day's messages once more into a fresh store, and compared."""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import replace
from typing import Any

import click

from fhir_gateway.app import open_gateway
from fhir_gateway.cli.institution_common import gateway_of
from fhir_gateway.errors import Conflict, GatewayError, Invalid
from fhir_gateway.fhir.datatypes import date_range
from fhir_gateway.interactions.replay_day import Outcome, Recorded, replay
from fhir_gateway.settings import Settings, load_settings

_EVER = 1 << 62


class _CannotStart(click.ClickException):
    exit_code = 2


@click.command("replay")
@click.option("--from", "source", required=True, metavar="STORE",
              help="The store that took them in: sqlite:///PATH or postgresql://…")  # fmt: skip
@click.option("--to", "target", required=True, metavar="STORE",
              help="A fresh store, which is made where there is none.")  # fmt: skip
@click.option("--since", default="", help="From this day or moment on; else from the beginning.")
@click.option("--until", default="", help="Up to and with this day; else to the end.")
@click.option("--mappings", help="Folder of the mapping tables.")
@click.option("--terminology", help="Folder of the catalogue.")
@click.option("--profiles", help="Folder of rule sets and profiles.")
@click.option("--quiet", is_flag=True, help="No progress.")
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON at the end.")
def replay_command(
    source: str, target: str, since: str, until: str, quiet: bool, as_json: bool, **folders: Any
) -> None:
    """Take a day's messages in once more, into a fresh store, and compare the two stores.

    The messages come from the register of --from in the order of their commits, each from its bytes
    as they were received, at the time that was recorded, by the tables of today. All versions that
    they made and all facts must come out the same; both are told as one hash each, and what differs
    is named. Nothing is changed in --from; a gateway may be serving it.

    What is not replayed is counted: FHIR requests (their bytes are no whole request), images, and
    messages whose bytes are not kept any more. Resources that were there before --since are left
    out of the comparison; their first versions rest on earlier messages.

    \b
    Example:
      fhir-gateway messages replay --since 2026-11-20 --until 2026-11-20 \\
          --from sqlite:///var/gateway.sqlite --to sqlite:////tmp/again.sqlite

    Exit code: 0 the same; 1 something differs, and is named; 2 it could not start.
    """
    try:
        settings = load_settings(database=source, **folders)
        low, high = _period(settings, since, until)
        if source == target:
            raise Conflict("--from and --to are one store", rule="replay-target")
        outcome = asyncio.run(_run(settings, target, low, high, quiet=quiet or as_json))
    except GatewayError as error:
        raise _CannotStart("\n  ".join(one.diagnostics for one in error.issues)) from None
    click.echo(json.dumps(_as_json(outcome), ensure_ascii=False) if as_json else _text(outcome))
    sys.exit(0 if outcome.is_same else 1)


def _period(settings: Settings, since: str, until: str) -> tuple[int, int]:
    """Raises Invalid for what is no time, and for an end before the beginning."""
    try:
        low = date_range(since, settings.zone)[0] if since else 0
        high = date_range(until, settings.zone)[1] + 1 if until else _EVER
    except Invalid:
        raise Invalid("--since and --until are days, as 2026-11-20, or moments",
                      rule="day") from None  # fmt: skip
    if high <= low:
        raise Invalid("--until lies before --since", rule="day")
    return low, high


async def _run(settings: Settings, target: str, low: int, high: int, *, quiet: bool) -> Outcome:
    def progress(done: int, total: int) -> None:
        if not quiet and (done % 100 == 0 or done == total):
            click.echo(f"{done} of {total} messages", err=True)

    clock = Recorded()
    async with gateway_of(settings) as source:
        made = await open_gateway(replace(settings, database=target), clock=clock)
        try:
            return await replay(source, made, clock, since=low, until=high, progress=progress)
        finally:
            await made.store.close()


def _text(outcome: Outcome) -> str:
    lines = [f"{outcome.messages} messages, {outcome.versions} versions, {outcome.facts} facts"]
    lines += [f"left out: {count}, {why}" for why, count in sorted(outcome.left_out.items())]
    if outcome.resting:
        lines.append(f"not compared: {outcome.resting} resources that rest on earlier messages")
    lines += [f"differs: {one.what}: {one.how}" for one in outcome.differences]
    if outcome.more:
        lines.append(f"… and {outcome.more} more differences")
    lines += [f"recorded {outcome.before}", f"replayed {outcome.after}"]
    lines.append("identical" if outcome.is_same else "NOT identical")
    return "\n".join(lines)


def _as_json(outcome: Outcome) -> dict[str, Any]:
    return {
        "messages": outcome.messages,
        "versions": outcome.versions,
        "facts": outcome.facts,
        "left_out": dict(outcome.left_out),
        "resting": outcome.resting,
        "differences": [one._asdict() for one in outcome.differences],
        "more": outcome.more,
        "recorded": outcome.before,
        "replayed": outcome.after,
        "identical": outcome.is_same,
    }
