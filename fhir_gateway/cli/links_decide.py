"""`fhir-gateway links confirm`, `reject`, `unlink`: a named person's answers; `assign`: whose turn
it is."""

from __future__ import annotations

import json
from typing import Any

import click

from fhir_gateway.cli.catalogue_frame import with_gateway
from fhir_gateway.context import Gateway
from fhir_gateway.identity import review
from fhir_gateway.security.actor import GATEWAY


def _answers(function: Any) -> Any:
    for option in (
        click.option("--json", "as_json", is_flag=True, help="Print the resource as JSON."),
        click.option("--comment", default="", help="Why; kept with the answer."),
        click.option(
            "--by", required=True, help="Who decides: `Name` or `Name (Practitioner/id)`."
        ),
        click.argument("id"),
    ):
        function = option(function)
    return function


@click.command("confirm")
@_answers
@with_gateway
async def confirm(gateway: Gateway, *, id: str, by: str, comment: str, as_json: bool) -> None:
    """Says that the two records of question ID are one person's: makes the link."""
    person = review.reviewer(by, comment)
    _say(await review.decide(gateway, GATEWAY, id, "confirm", person), "linked", as_json=as_json)


@click.command("reject")
@_answers
@with_gateway
async def reject(gateway: Gateway, *, id: str, by: str, comment: str, as_json: bool) -> None:
    """Says that the two records of question ID are two persons'."""
    person = review.reviewer(by, comment)
    _say(await review.decide(gateway, GATEWAY, id, "reject", person), "rejected", as_json=as_json)


@click.command("unlink")
@_answers
@with_gateway
async def unlink(gateway: Gateway, *, id: str, by: str, comment: str, as_json: bool) -> None:
    """Takes link ID back: its records are several persons' again."""
    person = review.reviewer(by, comment)
    _say(await review.unlink(gateway, GATEWAY, id, person), "taken back", as_json=as_json)


@click.command("assign")
@click.argument("id")
@click.option("--to", "institution", default="", help="Id of an institution; nobody without it.")
@click.option("--json", "as_json", is_flag=True, help="Print the resource as JSON.")
@with_gateway
async def assign(gateway: Gateway, *, id: str, institution: str, as_json: bool) -> None:
    """Gives open question ID to an institution, whose reviewers may then answer it."""
    became = f"given to {institution}" if institution else "given to nobody"
    _say(await review.assign(gateway, id, institution), became, as_json=as_json)


def _say(resource: dict[str, Any], became: str, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(resource, ensure_ascii=False, default=str))
    else:
        click.echo(f"{resource['id']}: {became}")
