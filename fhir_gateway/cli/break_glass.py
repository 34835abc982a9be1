"""`fhir-gateway break-glass`: records that were opened in an emergency, and their review."""

from __future__ import annotations

import json
from typing import Any

import click

from fhir_gateway.cli.rules_common import with_gateway
from fhir_gateway.context import Gateway
from fhir_gateway.errors import Invalid
from fhir_gateway.fhir.wire import instant
from fhir_gateway.interactions.access_task import JUSTIFIED, NOT_JUSTIFIED, Opened
from fhir_gateway.interactions.break_glass_review import review as judge
from fhir_gateway.interactions.break_glass_review import waiting
from fhir_gateway.security.actor import GATEWAY


@click.group("break-glass")
def command() -> None:
    """Records that were opened in an emergency: those that wait for a review, and the review."""


@command.command("list")
@click.option("--institution", default="", help="Only of this institution: its id.")
@click.option("--alarms", is_flag=True, help="Only those that reached a limit.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array.")
@with_gateway
async def list_(gateway: Gateway, *, institution: str, alarms: bool, as_json: bool) -> None:
    """Lists the break-glasses that nobody has reviewed, the oldest first."""
    found = [
        one
        for one in await waiting(gateway)
        if institution in ("", one.institution) and (one.alarms or not alarms)
    ]
    if as_json:
        click.echo(json.dumps([_told(one) for one in found], ensure_ascii=False, indent=2))
        return
    for one in found:
        alarm = "  ALARM" if one.alarms else ""
        click.echo(
            f"{instant(one.since)}  {one.institution}  {one.user}  {one.reason}  "
            f"Patient/{one.patient}  Task/{one.id}{alarm}"
        )
    click.echo(f"{len(found)} wait for a review")


def _told(one: Opened) -> dict[str, Any]:
    told = {name: value for name, value in one._asdict().items() if value not in ("", ())}
    return told | {"since": instant(one.since), "until": instant(one.until)}


@command.command("review")
@click.argument("task")
@click.option(
    "--outcome", required=True, type=click.Choice([JUSTIFIED, NOT_JUSTIFIED]), help="What it was."
)
@click.option("--by", required=True, help="Who reviews: the name of a person.")
@click.option("--note", default="", help="Why; required with not-justified.")
@with_gateway
async def review_one(gateway: Gateway, *, task: str, outcome: str, by: str, note: str) -> None:
    """Says in a person's name whether a break-glass was justified; TASK is its id."""
    if outcome == NOT_JUSTIFIED and not note.strip():
        raise Invalid("--note says why it was not justified", rule="note")
    id = task.rpartition("/")[2]
    await judge(gateway, GATEWAY, id, outcome=outcome, note=note.strip(), by=by.strip())
    click.echo(f"Task/{id} was found {outcome} by {by.strip()}")
