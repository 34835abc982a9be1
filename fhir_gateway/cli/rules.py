"""`fhir-gateway rules`: which rule sets there are, which is in force, and who changes that."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from functools import wraps
from pathlib import Path
from typing import Any

import click

from fhir_gateway.app import open_gateway
from fhir_gateway.context import Gateway
from fhir_gateway.errors import GatewayError, Issue
from fhir_gateway.fhir.validate import read_resource
from fhir_gateway.recognition import publish
from fhir_gateway.recognition.rules import RuleSet, load_rule_set
from fhir_gateway.settings import CANONICAL, load_settings


@click.group("rules")
def command() -> None:
    """Rule sets of recognition: list, show, check, activate, retire.

    A rule set is a PlanDefinition in the store. The newest active one whose period has begun is in
    force; without one every question is answered "cannot decide".
    """


def _with_gateway(function: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Opens the store beside a running server or alone, and says errors as sentences."""

    @click.option("--database", help="Where the data is: sqlite:///PATH or postgresql://…")
    @wraps(function)
    def run(database: str | None, **options: Any) -> None:
        async def opened() -> None:
            gateway = await open_gateway(load_settings(database=database), begin=False)
            try:
                await function(gateway, **options)
            finally:
                await gateway.store.close()

        try:
            asyncio.run(opened())
        except GatewayError as error:
            raise click.ClickException("\n  ".join(map(_line, error.issues))) from None

    return run


def _line(issue: Issue) -> str:
    if not issue.expression:
        return issue.diagnostics
    return f"{issue.expression}: {issue.diagnostics}"


@command.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array.")
@_with_gateway
async def list_(gateway: Gateway, *, as_json: bool) -> None:
    """Lists the rule sets: version, status, period, number of rules; * is in force."""
    found = await publish.rule_sets(gateway)
    in_force = await publish.in_force(gateway)
    rows = [
        {
            "version": one.version,
            "status": one.definition.get("status", ""),
            "in_force": in_force is not None and one.rule_set == in_force,
            "period": _period(one.rule_set),
            "rules": len(one.rule_set.rules) if one.rule_set else 0,
            "title": one.definition.get("title", ""),
        }
        for one in found
    ]
    if as_json:
        click.echo(json.dumps(rows, ensure_ascii=False))
        return
    for row in rows:
        sign = "*" if row["in_force"] else " "
        click.echo(
            f"{sign} {row['version']:10} {row['status']:8} {row['period']:24} "
            f"{row['rules']:3} rules  {row['title']}"
        )
    if in_force is None:
        click.echo('None is in force: every question is answered "cannot decide".')


def _period(rule_set: RuleSet | None) -> str:
    if rule_set is None:
        return "cannot be read"
    return f"{rule_set.start or '…'} – {rule_set.end or '…'}"


@command.command("show")
@click.argument("version")
@_with_gateway
async def show(gateway: Gateway, *, version: str) -> None:
    """Shows the rules of a rule set: criterion, effect, and the clause that it rests on."""
    one = publish.named(await publish.rule_sets(gateway), version)
    rule_set = one.rule_set or load_rule_set(one.definition)
    click.echo(f"{rule_set.canonical} {rule_set.status}, rules {rule_set.digest[:16]}")
    for rule in rule_set.rules:
        click.echo(f"  {rule.name:26} {rule.criterion.effect:18} {rule.clause}")


@command.command("check")
@click.argument("what", metavar="VERSION|FILE")
@_with_gateway
async def check(gateway: Gateway, *, what: str) -> None:
    """Checks a rule set of the store, or a PlanDefinition in a file, and says every fault."""
    rule_set = _in_file(Path(what))
    if rule_set is None:
        one = publish.named(await publish.rule_sets(gateway), what)
        rule_set = one.rule_set or load_rule_set(one.definition)
    click.echo(f"{rule_set.canonical}: {len(rule_set.rules)} rules, nothing wrong")


def _in_file(path: Path) -> RuleSet | None:
    """The rule set in a file; None when there is no such file."""
    if not path.is_file():
        return None
    raw = path.read_bytes().replace(b"{CANONICAL}", CANONICAL.encode())
    return load_rule_set(read_resource(raw, type="PlanDefinition"))


@command.command("activate")
@click.argument("version")
@_with_gateway
async def activate(gateway: Gateway, *, version: str) -> None:
    """Puts a rule set in force and retires the one that it replaces."""
    _say(await publish.activate(gateway, version), version)


@command.command("retire")
@click.argument("version")
@_with_gateway
async def retire(gateway: Gateway, *, version: str) -> None:
    """Takes a rule set out of force."""
    _say(await publish.retire(gateway, version), version)
    if await publish.in_force(gateway) is None:
        click.echo('None is in force now: every question is answered "cannot decide".')


def _say(changes: list[str], version: str) -> None:
    for change in changes:
        click.echo(change)
    if not changes:
        click.echo(f"{version} unchanged")
