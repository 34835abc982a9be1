"""`fhir-gateway trace TYPE/ID`: the message that a resource was made from, field by field."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import click

from fhir_gateway.cli.catalogue_frame import with_gateway
from fhir_gateway.cli.convert_show import as_json_row, print_origins
from fhir_gateway.context import Gateway
from fhir_gateway.errors import Invalid, NotFound
from fhir_gateway.interactions.audit import disclose_read
from fhir_gateway.interactions.message_operations import disclose_trace, origins_of
from fhir_gateway.interactions.message_trace import Found, origin, sender_of
from fhir_gateway.mapping.origins import Explained
from fhir_gateway.security.actor import GATEWAY, SYSTEM_ACCESS
from fhir_gateway.store.store import Stored


@click.command("trace", short_help="The message that a resource was made from, field by field.")
@click.argument("reference", metavar="TYPE/ID")
@click.option("--version", type=click.IntRange(1), help="This version; else the current one.")
@click.option("--element", default="", help="Only this element, such as Observation.value.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@with_gateway
async def command(
    gateway: Gateway, *, reference: str, version: int | None, element: str, as_json: bool
) -> None:
    """Trace a stored resource to what was received: the message by id, hash, door and time, and for
    each value the field that says it, as the tables of today read it.

    \b
    Examples:
      fhir-gateway trace Observation/qez5zpfzpq7gyxu5raxxnfa64
      fhir-gateway trace DiagnosticReport/ID --version 1 --element DiagnosticReport.status

    Each look is recorded in the audit log as a disclosure of the patient.
    """
    stored = await _stored(gateway, reference, version)
    found = await origin(gateway, stored, await sender_of(gateway, stored.owner))
    if found.trace is None:
        await disclose_read(gateway, GATEWAY, stored, interaction="operation")
    else:
        await disclose_trace(gateway, GATEWAY, found.trace)
    rows = await origins_of(gateway, found.trace, stored, element) if found.trace else []
    name = f"{stored.type}/{stored.id}/_history/{stored.version}"
    if as_json:
        told = _head(name, found) | {"origins": [as_json_row(row) for row in rows]}
        click.echo(json.dumps(told, ensure_ascii=False))
        return
    click.echo("\n".join(_lines(name, found, ZoneInfo(gateway.settings.zone))))
    if rows:
        print_origins(Explained([], rows, [], []), rows, "text")


async def _stored(gateway: Gateway, reference: str, version: int | None) -> Stored:
    """Raises Invalid, NotFound."""
    type, _, id = reference.partition("/")
    if not type or not id or "/" in id:
        raise Invalid("Name a resource as TYPE/ID, such as Observation/abc", rule="reference")
    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        if version is None:
            stored = await reader.read(type, id)
        else:
            stored = await reader.vread(type, id, version)
    if stored is None or stored.deleted:
        which = reference if version is None else f"version {version} of {reference}"
        raise NotFound(f"There is no {which} in this store", rule="unknown-id")
    return stored


def _head(name: str, found: Found) -> dict[str, Any]:
    told: dict[str, Any] = {"version": name, "hash": found.hash.hex()}
    if found.trace is not None:
        one = found.trace.message
        told |= {"message": one.id, "door": one.door, "name": one.name, "received": one.received}
    return told


def _lines(name: str, found: Found, zone: ZoneInfo) -> list[str]:
    lines = [name]
    if not found.hash:
        return [*lines, "made from nothing that was received: written by the gateway, or as FHIR"]
    lines.append(f"made from bytes with SHA-256 {found.hash.hex()}")
    if found.trace is None:
        return [*lines, "no message of the register has these bytes"]
    one = found.trace.message
    at = datetime.fromtimestamp(one.received / 1_000_000, zone).isoformat(" ", "seconds")
    lines.append(f"message {one.id}: {one.door} {one.kind} {one.name} of {one.institution}, "
                 f"received {at}")  # fmt: skip
    if not found.trace.conversions:
        lines.append("its fields are not told: no mapping reads these bytes today")
    return lines
