"""`fhir-gateway endpoints`: which Endpoints serve images, ask them now, record other checks."""

from __future__ import annotations

import json

import click

from fhir_gateway.cli.catalogue_frame import table, with_gateway
from fhir_gateway.context import Gateway
from fhir_gateway.errors import Invalid
from fhir_gateway.interactions.endpoints import Checked, Endpoint, check, endpoints, record
from fhir_gateway.interactions.endpoints_job import told

_SAID = {True: "passed", False: "failed", None: "not asked"}
_RETRIEVABLE = {True: "yes", False: "no", None: "unknown"}
#: What a code of a check means, and what to do.
_WHY = {
    "answered": "it answered",
    "connection-type": "this connection is not asked over HTTP; record a check made otherwise",
    "no-study": "no stored study names it, so there is nothing to ask for",
    "not-active": "its status is not active",
    "period-over": "its period has ended",
    "outbound-origin": "its server is not listed; add it to FHIR_GATEWAY_OUTBOUND_ORIGINS",
    "outbound-address": (
        "its address is not public; list its network in FHIR_GATEWAY_OUTBOUND_NETWORKS"
    ),
    "outbound-url": "its address is none that can be called",
    "outbound-scheme": "plain HTTP is for this machine only",
    "outbound-time": "it did not answer in time",
    "outbound-unreachable": "it cannot be reached, or its certificate is not trusted",
    "outbound-redirect": "it answers with an address elsewhere",
    "outbound-size": "its answer is too long",
    "outbound-encoding": "its answer is packed although that was not asked for",
    "status-401": "it asks for a login",
    "status-403": "it refuses",
    "status-404": "it does not have what was asked for",
}


@click.group("endpoints", short_help="Check which Endpoints serve images.")
def command() -> None:
    """Endpoints and their checks: an image can be fetched when an active Endpoint of it passed its
    last check (docs/facts.md)."""


@command.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array.")
@with_gateway
async def list_(gateway: Gateway, *, as_json: bool) -> None:
    """Lists every Endpoint with its last check."""
    found = await endpoints(gateway)
    if as_json:
        click.echo(json.dumps([_row(one) for one in found], ensure_ascii=False))
        return
    heads = ("id", "status", "connection", "retrievable", "checked", "by", "address")
    table([heads, *(tuple(_text(_row(one)[name]) for name in heads) for one in found)])


def _row(one: Endpoint) -> dict[str, str | bool | None]:
    return {
        "id": one.id,
        "status": one.status,
        "connection": one.connection,
        "address": one.address,
        "manager": one.manager,
        "retrievable": one.retrievable,
        "checked": one.checked,
        "by": one.by,
        "process": one.process,
    }


def _text(value: str | bool | None) -> str:
    return value if isinstance(value, str) else _RETRIEVABLE[value]


@command.command("check")
@click.argument("ids", metavar="[ID]...", nargs=-1)
@with_gateway
async def check_(gateway: Gateway, *, ids: tuple[str, ...]) -> None:
    """Asks Endpoints now, all or those named, and keeps what comes of it.

    Only servers on FHIR_GATEWAY_OUTBOUND_ORIGINS are asked. DICOM's own association (C-ECHO) is not
    spoken: use `endpoints record`. Ends with exit code 1 when one failed.
    """
    found = await check(gateway, ids)
    for one in found:
        click.echo(f"{one.endpoint.id}: {_SAID[one.result.passed]}: {_reason(one)}")
    click.echo(told(found))
    if any(one.result.passed is False for one in found):
        raise click.exceptions.Exit(1)


def _reason(one: Checked) -> str:
    why = one.result.why
    return _WHY.get(why) or f"it answered with {why.removeprefix('status-')}"


@command.command("record")
@click.argument("id")
@click.option("--passed/--failed", "passed", default=None, help="What came of it.")
@click.option("--by", required=True, help="Who checked: name of a person or body.")
@click.option("--how", required=True, help="What was done, such as: C-ECHO and C-MOVE of a study.")
@with_gateway
async def record_(gateway: Gateway, *, id: str, passed: bool | None, by: str, how: str) -> None:
    """Records a check of Endpoint ID that was made otherwise, as with C-ECHO.

    The next check by the gateway, where it can ask, takes its place.
    """
    if passed is None:
        raise Invalid("Say --passed or --failed", rule="endpoint-check")
    if not by.strip() or not how.strip():
        raise Invalid("--by and --how want words", rule="endpoint-check")
    one = next((one for one in await endpoints(gateway) if one.id == id), None)
    if one is None:
        raise Invalid(f"There is no Endpoint {id}; see `endpoints list`", rule="endpoint")
    await record(gateway, one, passed=passed, process=how.strip(), by=by.strip())
    click.echo(f"{id}: {_SAID[passed]}, by {by.strip()}")
