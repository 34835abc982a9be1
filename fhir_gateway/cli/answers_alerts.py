"""`fhir-gateway answers alerts`: what was relied on and has changed since, and who took note."""

from __future__ import annotations

import json
from typing import Any

import click

from fhir_gateway.cli.rules_common import with_gateway
from fhir_gateway.context import Gateway
from fhir_gateway.errors import Invalid
from fhir_gateway.interactions.institutions import institutions
from fhir_gateway.recognition import relied_job
from fhir_gateway.recognition.alert_task import Alert
from fhir_gateway.recognition.relied import acknowledge_alert, open_alerts
from fhir_gateway.security.actor import GATEWAY, SYSTEM_ACCESS


@click.command("alerts")
@click.option("--institution", default="", help="Id of an institution; all when left out.")
@click.option("--acknowledge", "id", default="", help="Close this alert, a Task; needs --by.")
@click.option("--by", default="", help="Who took note of it: the name of a person.")
@click.option("--text", default="", help="What was done about it.")
@click.option("--check", is_flag=True, help="Have a worker look at all answers again.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array.")
@with_gateway
async def alerts(
    gateway: Gateway, *, institution: str, id: str, by: str, text: str, check: bool, as_json: bool
) -> None:
    """Lists the open alerts, institution by institution, or closes one in a person's name.

    An institution closes its own by Task/[id]/$acknowledge.
    """
    if check:
        job = await relied_job.plan(gateway, everything=True)
        click.echo(f"a worker looks at all answers: job {job.id if job else ''}")
        return
    if id:
        if not by.strip():
            raise Invalid("--by names the person who took note of the alert", rule="person")
        alert = await acknowledge_alert(
            gateway, GATEWAY, id.rpartition("/")[2], by=by.strip(), text=text.strip()
        )
        click.echo(f"Task/{alert.id} was acknowledged by {alert.closed_by} at {alert.closed}")
        return
    found: list[Alert] = []
    names = [institution] if institution else sorted(await institutions(gateway))
    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        for name in names:
            found += await open_alerts(reader, name)
    _print(found, as_json=as_json)


def _print(found: list[Alert], *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps([_told(one) for one in found], ensure_ascii=False, indent=2))
        return
    for one in found:
        items = " ".join(one.items)
        click.echo(f"{one.at}  {one.institution}  {one.change}  {one.now}  {items}  Task/{one.id}")
    click.echo(f"{len(found)} open alerts")


def _told(alert: Alert) -> dict[str, Any]:
    return {name: value for name, value in alert._asdict().items() if value not in ("", ())}
