"""`fhir-gateway clients`: the systems that may ask for access tokens, and the tokens they have."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

import click
from msgspec.structs import replace

from fhir_gateway.cli.clients_options import described, keys_of, thumbprint_of
from fhir_gateway.cli.institution_common import common, gateway_of, print_table
from fhir_gateway.errors import Invalid, NotFound
from fhir_gateway.interactions.clients import add_client, change_client, clients, read_client
from fhir_gateway.interactions.tokens import Granted, revoke_all, tokens_of
from fhir_gateway.security.clients import CLIENT_ROLES, Client
from fhir_gateway.settings import Settings

R = TypeVar("R")


@click.group("clients", short_help="Systems that may ask for access tokens.")
def command() -> None:
    """Registered clients: systems that prove themselves by their own key and are given access
    tokens for five minutes at a time (SMART Backend Services, docs/auth.md)."""


def _chosen(function: Callable[..., R]) -> Callable[..., R]:
    """The options of `add` and `change`."""
    for option in reversed((
        click.option("--name", help="What it is called, for people."),
        click.option("--institution", help="Id of the Organization that it speaks for."),
        click.option("--role", type=click.Choice(CLIENT_ROLES), help="Role; default institution."),
        click.option("--jwks", metavar="FILE", help="Its public keys: a JWK Set or one JWK; - reads"
                     " standard input."),
        click.option("--jwks-url", help="Where its public keys are fetched; its origin must stand "
                     "in FHIR_GATEWAY_OUTBOUND_ORIGINS."),
        click.option("--scope", "scopes", multiple=True, help="A scope that it may ask for, such as"
                     " system/*.rs; repeatable."),
        click.option("--purpose", help="Purpose of use of its requests, unless it says one itself: "
                     "a code of v3 PurposeOfUse such as TREAT."),
        click.option("--certificate", help="The only client certificate that it may come with: a "
                     "PEM file, or its SHA-256."),
        click.option("--asserts-consent/--no-asserts-consent", default=None, help="Whether its "
                     "institution answers for the patient's consent at each encounter."),
    )):  # fmt: skip
        function = option(function)
    return function


@command.command("add")
@click.argument("id")
@_chosen
@common
async def add(settings: Settings, *, id: str, **options: Any) -> None:
    """Registers a client.

    ID is its client_id: what it puts into iss and sub of its assertions.

    \b
    Examples:
      fhir-gateway clients add his-1 --institution h-1 --jwks his-1.jwks.json \\
        --scope 'system/*.rs' --purpose TREAT
      fhir-gateway clients add board --role regulator \\
        --jwks-url https://board.example/jwks.json --scope 'system/AuditEvent.rs'
    """
    given = _given(options)
    if "jwks" not in given and "jwks_url" not in given:
        raise Invalid("Give the client's public keys: --jwks FILE or --jwks-url URL", rule="client")
    client = Client(id=id, **given)
    async with gateway_of(settings) as gateway:
        await add_client(gateway, client)
    click.echo(f"{id}: added; it may ask for {' '.join(client.scopes)}")


@command.command("change")
@click.argument("id")
@_chosen
@click.option("--enable", is_flag=True, help="Let it ask for tokens again after `disable`.")
@common
async def change(settings: Settings, *, id: str, enable: bool, **options: Any) -> None:
    """Changes a client; what is not given stays as it is.

    Scopes and keys that are given replace those that were there. Tokens that it has keep their
    scopes until they end; `revoke` ends them at once.
    """
    given = _given(options)
    if "jwks" in given:
        given["jwks_url"] = ""
    elif "jwks_url" in given:
        given["jwks"] = ()
    async with gateway_of(settings) as gateway:
        was, at = await read_client(gateway, id)
        client = replace(was, **given, **({"active": True} if enable else {}))
        await change_client(gateway, client, was=was, at=at)
    click.echo(f"{id}: {'unchanged' if client == was else 'changed'}")


@command.command("disable")
@click.argument("id")
@common
async def disable(settings: Settings, *, id: str) -> None:
    """Keeps a client from asking for tokens, and ends those that it has.

    All of that holds in every process within five seconds.
    """
    async with gateway_of(settings) as gateway:
        was, at = await read_client(gateway, id)
        await change_client(gateway, replace(was, active=False), was=was, at=at)
        ended = await revoke_all(gateway, id)
    click.echo(f"{id}: disabled; {ended} tokens ended")


@command.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array.")
@common
async def list_(settings: Settings, *, as_json: bool) -> None:
    """Lists clients: for whom they speak, their keys and their scopes."""
    async with gateway_of(settings) as gateway:
        found = await clients(gateway)
    if as_json:
        shown = [described(client, _when(at, settings)) for client, at in found]
        click.echo(json.dumps(shown, ensure_ascii=False))
        return
    heads = ("id", "name", "role", "institution", "keys", "scopes", "purpose", "active")
    lines = [
        (one.id, one.name, one.role, one.institution, one.jwks_url or f"{len(one.jwks)} in store",
         " ".join(one.scopes), one.purpose, "yes" if one.active else "no")
        for one, _ in found
    ]  # fmt: skip
    print_table(heads, lines)


@command.command("show")
@click.argument("id")
@common
async def show(settings: Settings, *, id: str) -> None:
    """Shows all of a client as JSON."""
    async with gateway_of(settings) as gateway:
        client, at = await read_client(gateway, id)
    click.echo(json.dumps(described(client, _when(at, settings)), ensure_ascii=False, indent=2))


@command.command("tokens")
@click.argument("id")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array.")
@common
async def tokens(settings: Settings, *, id: str, as_json: bool) -> None:
    """Lists the access tokens of a client that hold, by the names the audit log has for them."""
    async with gateway_of(settings) as gateway:
        await read_client(gateway, id)
        found = await tokens_of(gateway, id)
    rows = [_token(one, settings) for one in found]
    if as_json:
        click.echo(json.dumps(rows))
        return
    print_table(("name", "issued", "until", "purpose", "scopes"), [tuple(row.values())
                for row in rows])  # fmt: skip


@command.command("revoke")
@click.argument("id")
@click.option("--token", "name", default="", help="Name of one token (see `tokens`); else all.")
@common
async def revoke(settings: Settings, *, id: str, name: str) -> None:
    """Ends the access tokens of a client. It can ask for new ones; see `disable`."""
    async with gateway_of(settings) as gateway:
        await read_client(gateway, id)
        ended = await revoke_all(gateway, id, name)
    if name and not ended:
        raise NotFound(f"{id} has no token {name} that holds", rule="token")
    click.echo(f"{id}: {ended} tokens ended")


def _given(options: dict[str, Any]) -> dict[str, Any]:
    """What was given on the command line, as a Client has it."""
    given = {name: value for name, value in options.items() if value not in (None, ())}
    if "jwks" in given:
        given["jwks"] = keys_of(given["jwks"])
    if given.get("certificate"):
        given["certificate"] = thumbprint_of(given["certificate"])
    if "scopes" in given:
        given["scopes"] = tuple(one for text in given["scopes"] for one in text.split())
    return given


def _when(us: int, settings: Settings) -> str:
    return datetime.fromtimestamp(us / 1e6, ZoneInfo(settings.zone)).isoformat(timespec="seconds")


def _token(one: Granted, settings: Settings) -> dict[str, str]:
    return {
        "name": one.name,
        "issued": _when(one.issued, settings),
        "until": _when(one.until, settings),
        "purpose": one.purpose,
        "scopes": " ".join(one.scopes),
    }
