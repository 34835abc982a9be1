"""`fhir-gateway messages list|show|bytes`: what came in, and what became of one message.

`show` and `bytes` hand out what a message says of a patient: each is on record in the audit log as
a disclosure, under the operator's name.
"""

from __future__ import annotations

import json
import sys
from datetime import datetime
from typing import Any, BinaryIO
from zoneinfo import ZoneInfo

import click
import msgspec

from fhir_gateway.cli.answers_find import period
from fhir_gateway.cli.catalogue_frame import with_gateway
from fhir_gateway.cli.convert_show import print_origins
from fhir_gateway.cli.institution_common import print_table, tell_unknown
from fhir_gateway.context import Gateway
from fhir_gateway.errors import NotFound
from fhir_gateway.fhir.wire import render
from fhir_gateway.interactions.institutions import institutions
from fhir_gateway.interactions.message_operations import (
    answer_of,
    disclose_trace,
    issues_of,
    message_parts,
    segments_of,
    text_of,
    trace_parts,
)
from fhir_gateway.interactions.message_trace import Trace, explained, trace
from fhir_gateway.mapping.tables import table
from fhir_gateway.security.actor import GATEWAY, SYSTEM_ACCESS
from fhir_gateway.store.messages import Asked, Message, find_message, messages

#: Lines of text of a message that `show` prints.
_MOST_LINES = 200


@click.command("list")
@click.option("--institution", default="", metavar="ID", help="Only of this institution.")
@click.option("--name", help="Only with this id of its own, such as MSH-10.")
@click.option("--door", type=click.Choice(("hl7v2", "table", "cda", "fhir", "dicom")),
              help="Only what came by this door.")  # fmt: skip
@click.option("--outcome", type=click.Choice(("stored", "flagged", "refused")),
              help="Only what had this outcome.")  # fmt: skip
@click.option("--rule", help="Only what broke this rule (docs/errors.md).")
@click.option("--since", default="", help="From this day on, as 2026-11-01.")
@click.option("--until", default="", help="Up to this day.")
@click.option("--limit", type=click.IntRange(1, 100_000), default=100, show_default=True,
              help="Most of one institution, the newest.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON each.")
@with_gateway
async def list_command(
    gateway: Gateway, *, institution: str, since: str, until: str, limit: int, as_json: bool,
    **narrowed: Any,
) -> None:  # fmt: skip
    """List messages, the newest first. Exit code: 0, also when there are none."""
    start, end = period(gateway, since, until)
    await tell_unknown(gateway, institution)
    asked = Asked(**narrowed, since=start, until=end)
    found: list[Message] = []
    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        for id in [institution] if institution else sorted(await institutions(gateway)):
            found += await messages(reader, id, asked, newest=True, limit=limit)
    if as_json:
        for one in found:
            click.echo(json.dumps(_flat(one), ensure_ascii=False))
        return
    zone = ZoneInfo(gateway.settings.zone)
    rows = [
        (one.id, one.institution, one.door, one.kind, one.name, _time(one.received, zone),
         one.attempts, one.outcome, one.rule)
        for one in found
    ]  # fmt: skip
    print_table(
        ("id", "institution", "door", "kind", "name", "received", "came", "outcome", "rule"), rows
    )


@click.command("show")
@click.argument("id")
@click.option("--explain", is_flag=True, help="For each value the field that says it, and how.")
@click.option("--bundle", is_flag=True, help="Print the Bundle that it becomes today, as JSON.")
@click.option("--json", "as_json", is_flag=True, help="Print all of it as FHIR Parameters.")
@with_gateway
async def show(gateway: Gateway, *, id: str, explain: bool, bundle: bool, as_json: bool) -> None:
    """Show a message with all that became of it: what came, its fields by the names of the
    standard, what its commit stored, what was told and answered.

    ID is that of `messages list`. Each look is recorded as a disclosure of the patient.
    """
    found = await _found(gateway, id)
    if as_json:
        names = table(f"{gateway.settings.mappings}/v2", "field-names")
        parameters = {"resourceType": "Parameters", "parameter": trace_parts(found, names)}
        click.echo(msgspec.json.format(render(parameters), indent=2).decode())
    elif bundle:
        for part in trace_parts(found, {}):
            if part["name"] == "bundle":
                click.echo(msgspec.json.format(render(part["resource"]), indent=2).decode())
    elif explain:
        for one, _ in found.conversions:
            told = await explained(gateway, one, found.message.institution)
            print_origins(told, told.origins, "text")
    else:
        _show(gateway, found)


def _show(gateway: Gateway, found: Trace) -> None:
    one, zone = found.message, ZoneInfo(gateway.settings.zone)
    click.echo(f"{one.id}  {one.door} {one.kind} {one.name} of {one.institution}")
    click.echo(f"received {_time(one.received, zone)}, {one.attempts} times, the last time "
               f"{_time(one.last, zone)}; {one.size} bytes, SHA-256 {one.hash.hex()}")  # fmt: skip
    click.echo(f"{one.outcome} {one.rule} {one.state}".rstrip())
    for issue in found.issues:
        click.echo(f"  {_issue(issue)}")
    for written in found.written:
        click.echo(f"  {written.op} {written.reference}")
    if found.raw is None:
        click.echo("its bytes are not kept (any more)")
    _show_content(gateway, found)
    if found.refusal is not None:
        click.echo("by the tables of today it is refused:")
        for issue in issues_of(found.refusal):
            click.echo(f"  {_issue(issue)}")
    if found.answer:
        click.echo(f"answered:\n{answer_of(found)}")


def _show_content(gateway: Gateway, found: Trace) -> None:
    """The fields of a v2 message, or the text of anything else."""
    names = table(f"{gateway.settings.mappings}/v2", "field-names")
    trees = [each.message for each, _ in found.conversions if each.message is not None]
    for tree in trees:
        for segment, fields in segments_of(tree, names):
            click.echo(segment)
            for place, name, content in fields:
                click.echo(f"  {place} {name + ': ' if name else ''}{content}")
    if not trees and (text := text_of(found)):
        click.echo("\n".join(text.splitlines()[:_MOST_LINES]))


def _issue(issue: dict[str, Any]) -> str:
    place = f"{issue['expression']}: " if issue.get("expression") else ""
    text = str(issue.get("diagnostics", "")).removeprefix(place)
    return f"{issue['severity']}: {place}{text} [{issue.get('rule', '')}]"


@click.command("bytes")
@click.argument("id")
@click.argument("target", type=click.File("wb"), default="-", metavar="[FILE]")
@with_gateway
async def bytes_command(gateway: Gateway, *, id: str, target: BinaryIO) -> None:
    """Write a message as it came to FILE, or to the standard output.

    Exit code 1: its bytes are not kept (any more).
    """
    found = await _found(gateway, id)
    if found.raw is None:
        click.echo("Its bytes are not kept (any more)", err=True)
        sys.exit(1)
    target.write(found.raw)


async def _found(gateway: Gateway, id: str) -> Trace:
    """The trace of a message, on record. Raises NotFound."""
    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        row = await reader.steps(lambda _: find_message(id))
    if row is None:
        raise NotFound(f"There is no message {id}; see `fhir-gateway messages list`",
                       rule="unknown-message")  # fmt: skip
    found = await trace(gateway, row.institution, id)
    await disclose_trace(gateway, GATEWAY, found)
    return found


def _flat(one: Message) -> dict[str, Any]:
    return {
        part["name"]: next(value for name, value in part.items() if name != "name")
        for part in message_parts(one)
    }


def _time(us: int, zone: ZoneInfo) -> str:
    return datetime.fromtimestamp(us / 1_000_000, zone).isoformat(" ", "seconds")
