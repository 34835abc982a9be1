"""`fhir-gateway policy`: check the site's policy, and bring what is stored in step with it."""

from __future__ import annotations

from pathlib import Path

import click

from fhir_gateway.cli.rules_common import refusal, with_gateway
from fhir_gateway.context import Gateway
from fhir_gateway.errors import GatewayError
from fhir_gateway.interactions import classify as classes
from fhir_gateway.security import policy as policies
from fhir_gateway.settings import load_settings


@click.group("policy")
def command() -> None:
    """The site's policy: legal basis, treatment relation, break-glass, sensitive classes."""


@command.command("check")
@click.argument("file", required=False, type=click.Path(path_type=Path))
def check(file: Path | None) -> None:
    """Reads a policy and says what holds by it; FILE is the one of the settings when left out.

    Every fault is named, and nothing is changed.
    """
    try:
        policy = policies.policy_of(str(file) if file else load_settings().policy)
    except GatewayError as error:
        raise refusal(error) from None
    basis = policy.rule()
    click.echo(f"policy {policy.version}: {basis.name}")
    click.echo(
        f"  relation {_word(basis.relation)}, permitted without a Consent {_word(basis.permit)}, "
        f"denials heeded {_word(basis.denials)}, permits that count: {basis.permits}"
    )
    for one in policy.overrides:
        whom = one.institution or f"area {one.area}"
        when = f" from {one.since or '…'} until {one.until or '…'}"
        click.echo(f"  {whom}: {one.basis}{when if one.since or one.until else ''}")
    glass = policy.break_glass
    click.echo(
        f"break-glass: {glass.minutes} minutes at most, alarms from {glass.alarm_user_hour} of a "
        f"person and {glass.alarm_institution_hour} of an institution in an hour"
    )
    shown = ", ".join(f"{one.number} {one.code}" for one in policy.classes.rows)
    click.echo(f"sensitive classes: {shown or 'none'}")


def _word(flag: bool) -> str:
    return "yes" if flag else "no"


@command.command("classify")
@click.option("--apply", is_flag=True, help="Store what has another class again, with it.")
@with_gateway
async def classify(gateway: Gateway, *, apply: bool) -> None:
    """Finds what has another sensitive class by the table of today than it was stored with."""
    found = await classes.reclassify(gateway, apply=apply)
    for one in found:
        click.echo(f"{one.type}/{one.id}  class {one.number}")
    done = "stored again" if apply else "would be stored again; --apply does"
    click.echo(f"{len(found)} {done}")
